"""Only what is stated now is sent, and whatever was sent is recorded."""

import asyncio

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api.access_policy import parse_policy
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.policy.resolution import Mode
from unit.controller.world import World

pytestmark = pytest.mark.looptime(start=1_000)

CREDENTIALS = CallError(ErrorClass.CREDENTIALS, "RequestTimeTooSkewed", "RequestTimeTooSkewed")


async def test_a_changed_or_withdrawn_request_is_not_sent_in_its_old_form() -> None:
    async with World().running() as world:
        uids = {name: world.an_object(world.a_job(name), name=name) for name in ("withdrawn", "reworded", "deleted")}
        await asyncio.sleep(2)
        world.batch.turns.clear()
        for name, uid in uids.items():
            world.objects.edit(uid, {"terminate": {"reason": f"first words for {name}"}})
        await asyncio.sleep(5)
        world.objects.edit(uids["withdrawn"], {"terminate": None})
        world.objects.edit(uids["reworded"], {"terminate": {"reason": "second words"}})
        world.controller.objects.on_delete(uids["deleted"])
        await asyncio.sleep(1)
        world.batch.turns.set()
        await asyncio.sleep(30)
        assert [call[1:] for call in world.batch.terminations] == [("reworded", "second words")]
        assert world.objects.reasons(uids["withdrawn"]) == ["TerminationWithdrawn"]
        assert world.objects.reasons(uids["deleted"]) == ["TerminationWithdrawn"]
        status = world.objects.status(uids["withdrawn"])
        assert (status.phase, status.termination, status.condition("Terminated")) == ("Running", None, None)


async def test_each_object_that_records_a_termination_has_its_log_line_and_aws_s_request_id() -> None:
    async with World().running() as world:
        world.batch.shows_flag = False
        job_id = world.a_job("j", "RUNNABLE", status_reason="CAPACITY:X - no instance")
        first, second, onlooker = (world.an_object(job_id, name=name) for name in ("first", "second", "onlooker"))
        await asyncio.sleep(2)
        with capture_logs() as logs:
            for uid in (first, second):
                world.objects.edit(uid, {"terminate": {"reason": "why"}})
            # Nothing shows an effect of the first call, so a second follows.
            await asyncio.sleep(70)
        lines = [line for line in logs if line["event"] == "termination accepted"]
        for uid in (first, second):
            named = [line for line in lines if line["object"].uid == uid]
            assert [(one["generation"], one["cause"], one["jobId"], one["requestId"]) for one in named] == [
                (2, "Terminate", "j", "request-id")
            ] * len(world.batch.terminate_calls)
            termination = world.objects.status(uid).termination
            assert termination is not None
            assert (termination.cause, termination.request_id, termination.requests) == ("Terminate", "request-id", 2)
            assert termination.status_reason_before == "CAPACITY:X - no instance"
        assert len(world.batch.terminate_calls) == 2
        assert len(lines) == 4
        assert world.objects.status(onlooker).termination is None


async def test_words_that_change_with_the_last_byte_are_not_sent() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(2)
        valid = world.batch.with_last_byte

        def reworded(permit: object) -> CallError | None:
            world.batch.with_last_byte = valid
            world.objects.edit(uid, {"terminate": {"reason": "newest words"}})
            return valid(permit)  # type: ignore[arg-type]

        world.batch.with_last_byte = reworded
        world.objects.edit(uid, {"terminate": {"reason": "old words"}})
        await asyncio.sleep(5)
        assert [call[1:] for call in world.batch.terminations] == [("j", "newest words")]


@pytest.mark.parametrize("terminate", [None, {"reason": "other words"}], ids=["withdrawn", "reworded"])
async def test_a_request_in_flight_is_recorded_although_the_object_changed(
    terminate: dict[str, str] | None,
) -> None:
    world = World()
    world.batch.latency = 1.0
    async with world.running():
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.edit(uid, {"terminate": {"reason": "runaway"}})
        await asyncio.sleep(0.5)
        world.objects.edit(uid, {"terminate": terminate})
        await asyncio.sleep(20)
        status = world.objects.status(uid)
        assert status.termination is not None
        assert (status.termination.reason, status.termination.requests) == ("runaway", 1)
        withdrawn = ["TerminationWithdrawn"] if terminate is None else []
        assert world.objects.reasons(uid) == [*withdrawn, "TerminationChangeIgnored", "TerminationAccepted"]
        shown = [condition.message for condition in status.conditions] + [
            event.note for _, event in world.objects.events
        ]
        assert not any("other words" in text or "states" in text for text in shown)
        world.batch.end("j", "FAILED", "runaway", stopped_at=1_026_000)
        await asyncio.sleep(60)
        assert world.objects.status(uid).phase == "Terminated"
        assert len(world.batch.terminations) == 1


async def test_words_that_are_stated_again_before_the_answer_did_not_change() -> None:
    world = World()
    world.batch.latency = 1.0
    async with world.running():
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        for reason in ("runaway", "other words", "runaway"):
            world.objects.edit(uid, {"terminate": {"reason": reason}})
            await asyncio.sleep(0.1)
        await asyncio.sleep(20)
        assert world.objects.reasons(uid) == ["TerminationAccepted"]


@pytest.mark.parametrize("terminate", [None, {"reason": "other words"}], ids=["withdrawn", "reworded"])
async def test_a_change_after_acceptance_is_ignored_and_says_so(terminate: dict[str, str] | None) -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j"), reason="first words")
        await asyncio.sleep(5)
        world.objects.edit(uid, {"terminate": terminate})
        await asyncio.sleep(30)
        assert world.objects.reasons(uid) == ["TerminationAccepted", "TerminationChangeIgnored"]
        assert [call[2] for call in world.batch.terminations] == ["first words"]
        assert all("is stated" not in condition.message for condition in world.objects.status(uid).conditions)


async def test_a_withdrawn_termination_is_never_sent_again_and_a_reworded_one_in_its_new_words() -> None:
    async with World().running() as world:
        world.batch.shows_flag = False
        withdrawn = world.an_object(world.a_job("a"), reason="words of a", name="a")
        reworded = world.an_object(world.a_job("b"), reason="words of b", name="b")
        await asyncio.sleep(5)
        world.objects.edit(withdrawn, {"terminate": None})
        world.objects.edit(reworded, {"terminate": {"reason": "new words of b"}})
        await asyncio.sleep(100)
        sent = sorted(call[1:] for call in world.batch.terminations)
        assert sent == [("a", "words of a"), ("b", "new words of b"), ("b", "words of b")]


async def test_no_status_decides_what_is_sent_or_when() -> None:
    world = World()
    world.a_job("j")
    world.batch.shows_flag = False
    forged = {
        "observedGeneration": 1,
        "phase": "Terminating",
        "jobStatus": "RUNNING",
        "termination": {
            "reason": "FORGED WORDS",
            "requests": 9,
            "requestedAt": "1970-01-01T00:16:40Z",
            "acceptedAt": "2999-01-01T00:16:40Z",
        },
    }
    world.objects.create("forged", {"jobId": "j"}, forged, namespace="team-b")
    async with world.running(is_leader=False):
        world.an_object("j", reason="INC-1", name="a", namespace="team-a")
        own = world.objects.create("own", {"jobId": world.a_job("k"), "terminate": {"reason": "INC-2"}}, forged)
        await world.controller.on_started_leading()
        started = asyncio.get_running_loop().time()
        await asyncio.sleep(120)
        sent = [(at - started, job, reason) for at, job, reason in world.batch.terminations]
        assert all(reason in ("INC-1", "INC-2") for *_, reason in sent)
        assert min(at for at, job, _ in sent if job == "j") <= 2, "another object's status delays nothing"
        assert min(at for at, job, _ in sent if job == "k") <= 62, "its own delays by --resend-after at most"
        assert world.objects.status(own).termination is not None


@pytest.mark.parametrize("minutes", [5, 20, 60])
async def test_a_refused_termination_goes_at_once_when_the_credentials_work_again(minutes: int) -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j"))
        other = world.an_object(world.a_job("k"))
        await asyncio.sleep(60)
        target = world.controller.cache.objects[uid].key
        assert target is not None
        world.batch.target_errors[target.target] = world.batch.terminate_errors[target.target] = CREDENTIALS
        world.objects.edit(uid, {"terminate": {"reason": "stop"}})
        world.objects.edit(other, {"terminate": {"reason": "stop the other"}})
        await asyncio.sleep(minutes * 60)
        world.batch.target_errors.clear()
        world.batch.terminate_errors.clear()
        calls = len(world.batch.terminations)
        # Any call that succeeds shows that the credentials work again.
        world.an_object(world.a_job("l"), reason="stop it", name="l")
        await asyncio.sleep(5)
        assert {job for _, job, _ in world.batch.terminations[calls:]} == {"j", "k", "l"}


async def test_terminations_are_held_and_say_so_while_the_policies_are_stale() -> None:
    world = World(mode=Mode.REQUIRED)
    world.a_job("j", queue="q")
    world.set_policies(parse_policy("p", {"namespaceSelector": {}, "jobs": {"queues": ["*"]}}), ns={})
    async with world.running():
        uid = world.an_object("j")
        await asyncio.sleep(5)
        world.policies.on_stale_since(asyncio.get_running_loop().time(), "namespaces")
        await asyncio.sleep(15)
        world.objects.edit(uid, {"terminate": {"reason": "stop"}})
        await asyncio.sleep(10)
        status = world.objects.status(uid)
        reconciling, terminated = status.condition("Reconciling"), status.condition("Terminated")
        assert reconciling is not None
        assert terminated is not None
        assert (reconciling.reason, terminated.status, terminated.reason) == (
            "TerminationHeld",
            "Unknown",
            "TerminationHeld",
        )
        assert world.objects.reasons(uid) == ["TerminationHeld"]
        assert world.batch.terminations == []
        world.policies.on_stale_since(None, "")
        await asyncio.sleep(2)
        assert len(world.batch.terminations) == 1
