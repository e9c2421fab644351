"""spec.onDelete: the finalizer, what a deletion sends, what releases the object, and what must send nothing."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import NotWritten, TerminatePermit
from awsbatch_operator.api.names import FINALIZER
from awsbatch_operator.policy.resolution import Mode
from fakes.batch import EXPIRED
from unit.controller.world import World
from unit.policy.policies import a_policy

pytestmark = pytest.mark.looptime(start=100_000)

HOUR = 3_600_000
GONE = "its workflow was deleted"
ON_DELETE: dict[str, Any] = {"onDelete": {"terminate": {"reason": GONE}}}
DENIED = CallError(ErrorClass.DENIED, "not authorized", "AccessDeniedException")


def enabled(**more: Any) -> World:
    return World(on_delete_timeout=HOUR, **more)


def tied(world: World, job_id: str, namespace: str = "ns", **more: Any) -> str:
    """An object that states spec.onDelete."""
    return world.objects.create(f"for-{job_id}", {"jobId": job_id, **ON_DELETE}, namespace=namespace, **more)


def sent(world: World) -> list[tuple[str, str]]:
    return [(job, reason) for _, job, reason in world.batch.terminations]


# -- the finalizer ----------------------------------------------------------------------------------------------------


async def test_the_finalizer_is_set_once_before_the_first_status_and_nothing_else_is_patched() -> None:
    async with enabled().running() as world:
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(300)
        ((at, _, added),) = world.objects.finalizer_writes
        assert added
        assert at < world.objects.writes[0][0]
        assert world.objects.finalizers(uid) == [FINALIZER]


async def test_an_edit_that_adds_on_delete_gets_the_finalizer_before_its_generation_is_answered() -> None:
    async with enabled().running() as world:
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.edit(uid, ON_DELETE)
        await asyncio.sleep(5)
        ((at, _, _),) = world.objects.finalizer_writes
        answered = [written for written, _, change in world.objects.writes if change.get("observedGeneration") == 2]
        assert at < answered[0]


async def test_finalizers_of_others_keep_their_places() -> None:
    async with enabled().running() as world:
        uid = tied(world, world.a_job("j"), finalizers=("example.com/first",))
        await asyncio.sleep(5)
        assert world.objects.finalizers(uid) == ["example.com/first", FINALIZER]
        world.objects.edit(uid, {"onDelete": None})
        await asyncio.sleep(5)
        assert world.objects.finalizers(uid) == ["example.com/first"]


@pytest.mark.parametrize("held_for", [None, HOUR])
async def test_a_finalizer_of_the_manifest_goes_where_on_delete_is_disabled_or_not_stated(held_for: int | None) -> None:
    async with World(on_delete_timeout=held_for).running() as world:
        spec = ON_DELETE if held_for is None else {}
        uid = world.objects.create("o", {"jobId": world.a_job("j"), **spec}, finalizers=(FINALIZER,))
        await asyncio.sleep(5)
        assert world.objects.finalizers(uid) == []
        world.objects.delete(uid)
        await asyncio.sleep(60)
        assert sent(world) == []


async def test_disabled_the_object_says_that_it_has_no_effect() -> None:
    async with World().running() as world:
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        stalled = world.objects.status(uid).condition("Stalled")
        assert stalled is not None
        assert stalled.reason == "OnDeleteDisabled"
        assert world.objects.reasons(uid) == ["OnDeleteDisabled"]
        assert world.objects.finalizer_writes == []


async def test_a_follower_writes_no_finalizer() -> None:
    async with enabled().running(is_leader=False) as world:
        tied(world, world.a_job("j"))
        await asyncio.sleep(60)
        assert world.objects.finalizer_writes == []


async def test_a_conflict_is_read_and_tried_again() -> None:
    async with enabled().running() as world:
        uid = tied(world, world.a_job("j"))
        world.objects.write_foreign_status(uid, {}, silent=True)
        await asyncio.sleep(5)
        assert world.objects.finalizers(uid) == [FINALIZER]


# -- a deletion -------------------------------------------------------------------------------------------------------


async def test_a_deletion_sends_the_stated_reason_and_lets_the_object_go_with_the_flag() -> None:
    async with enabled().running() as world:
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.writes.clear()
        world.objects.delete(uid)
        await asyncio.sleep(3)
        assert sent(world) == [("j", GONE)]
        assert uid not in world.objects.bodies
        # The check of the CRD is not worth a write.
        assert [change.get("termination", {}).get("cause") for *_, change in world.objects.writes] == ["OnDelete", None]
        assert world.objects.reasons(uid) == ["TerminationAccepted"]
        assert (world.telemetry.orphans, len(world.objects.crd_reads)) == (0, 1)


async def test_without_the_flag_the_object_goes_a_minute_after_the_acceptance() -> None:
    async with enabled().running() as world:
        world.batch.shows_flag = False
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.delete(uid)
        await asyncio.sleep(58)
        assert uid in world.objects.bodies
        await asyncio.sleep(10)
        assert uid not in world.objects.bodies
        assert sent(world) == [("j", GONE)]


async def test_the_deletion_of_the_crd_ends_nothing() -> None:
    with capture_logs() as logs:
        async with enabled().running() as world:
            uids = [tied(world, world.a_job(f"j{number}")) for number in range(100)]
            await asyncio.sleep(5)
            world.objects.crd = True
            for uid in uids:
                world.objects.delete(uid)
            await asyncio.sleep(60)
            assert world.batch.terminate_calls == []
            assert world.objects.bodies == {}
            assert len(world.objects.crd_reads) <= 2
    (line,) = (line for line in logs if "CRD" in line["event"])
    assert line["log_level"] == "warning"


async def test_an_answer_about_the_crd_from_before_the_deletion_does_not_count() -> None:
    async with enabled().running() as world:
        first, second = (tied(world, world.a_job(job_id)) for job_id in "jk")
        await asyncio.sleep(5)
        world.objects.delete(first)
        await asyncio.sleep(5)
        world.objects.crd = True
        world.objects.delete(second)
        await asyncio.sleep(5)
        assert sent(world) == [("j", GONE)]
        assert world.objects.bodies == {}


async def test_an_unreadable_crd_holds_and_the_job_is_given_up_after_the_timeout() -> None:
    async with enabled().running() as world:
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.crd = NotWritten("cannot get customresourcedefinitions")
        world.objects.delete(uid)
        await asyncio.sleep(3_590)
        reconciling = world.objects.status(uid).condition("Reconciling")
        assert reconciling is not None
        assert reconciling.reason == "TerminationHeld"
        assert "cannot get customresourcedefinitions" in reconciling.message
        await asyncio.sleep(20)
        assert uid not in world.objects.bodies
        assert sent(world) == []
        assert world.objects.reasons(uid) == ["TerminationHeld", "TerminationGivenUp"]
        assert world.telemetry.orphans == 1


async def test_a_crd_that_becomes_readable_lets_the_termination_go() -> None:
    async with enabled().running() as world:
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.crd = NotWritten("away")
        world.objects.delete(uid)
        await asyncio.sleep(600)
        assert sent(world) == []
        world.objects.crd = False
        await asyncio.sleep(40)
        assert sent(world) == [("j", GONE)]
        assert uid not in world.objects.bodies


async def test_on_delete_that_is_removed_while_the_request_waits_is_not_sent() -> None:
    async with enabled().running() as world:
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        world.batch.turns.clear()
        world.objects.delete(uid)
        await asyncio.sleep(1)
        world.objects.edit(uid, {"onDelete": None})
        await asyncio.sleep(1)
        world.batch.turns.set()
        await asyncio.sleep(60)
        assert sent(world) == []
        assert uid not in world.objects.bodies


async def test_the_permit_asks_about_the_crd_with_the_last_byte() -> None:
    """What it is asked there is what forbids the request: without an answer for this deletion nothing may leave."""
    asked: list[bool] = []

    def last_byte(permit: TerminatePermit) -> CallError | None:
        check = world.controller.holds.crd
        answer, check._answer = check._answer, None
        asked.append(permit.valid())
        check._answer = answer
        return None if permit.valid() else EXPIRED

    async with enabled().running() as world:
        world.batch.with_last_byte = last_byte
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.delete(uid)
        await asyncio.sleep(5)
        assert asked == [False]
        assert sent(world) == [("j", GONE)]


async def test_aws_that_denies_holds_the_object_until_the_timeout() -> None:
    async with enabled().running() as world:
        world.batch.id_errors["j"] = DENIED
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.delete(uid)
        await asyncio.sleep(3_590)
        assert uid in world.objects.bodies
        await asyncio.sleep(20)
        assert uid not in world.objects.bodies
        assert world.objects.reasons(uid)[-1] == "TerminationGivenUp"


async def test_a_suspension_does_not_count_towards_the_timeout() -> None:
    async with enabled().running() as world:
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        annotation = {"awsbatch.dev/suspend-terminations": "INC-1"}
        world.controller.holds.on_lease("ops/op", annotation)
        world.objects.delete(uid)
        await asyncio.sleep(4 * 3_600)
        assert uid in world.objects.bodies
        world.controller.holds.on_lease("ops/op", {})
        await asyncio.sleep(5)
        assert sent(world) == [("j", GONE)]
        assert uid not in world.objects.bodies


async def test_a_job_that_no_policy_admits_is_released_and_nothing_tells_of_it() -> None:
    async with enabled(mode=Mode.REQUIRED).running() as world:
        world.set_policies(a_policy(), ns={"team": "a"})
        real, made_up = (
            tied(world, world.a_job("j", queue="arn:aws:batch:eu-west-1:111122223333:job-queue/another")),
            tied(world, "none"),
        )
        await asyncio.sleep(300)
        for uid in (real, made_up):
            world.objects.delete(uid)
        await asyncio.sleep(10)
        assert world.objects.bodies == {}
        assert sent(world) == []
        notes = [
            [event.note.replace("none", "j") for about, event in world.objects.events if about == uid]
            for uid in (real, made_up)
        ]
        assert notes[0] == notes[1]
        assert "TerminationGivenUp" in world.objects.reasons(real)


async def test_spec_terminate_comes_first_also_during_the_deletion() -> None:
    async with enabled().running() as world:
        world.batch.turns.clear()
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.delete(uid)
        await asyncio.sleep(1)
        world.objects.edit(uid, {"terminate": {"reason": "now"}})
        await asyncio.sleep(1)
        world.batch.turns.set()
        await asyncio.sleep(5)
        assert sent(world) == [("j", "now")]
        assert uid not in world.objects.bodies


async def test_two_objects_on_one_job_are_one_request() -> None:
    async with enabled().running() as world:
        job_id = world.a_job("j")
        both = [
            world.objects.create(name, {"jobId": job_id, "onDelete": {"terminate": {"reason": name}}}) for name in "ab"
        ]
        await asyncio.sleep(5)
        for uid in both:
            world.objects.delete(uid)
        await asyncio.sleep(5)
        assert sent(world) == [("j", "a")]
        assert world.objects.bodies == {}


async def test_a_finished_job_costs_no_call() -> None:
    async with enabled().running() as world:
        uid = tied(world, world.a_job("j", "SUCCEEDED", stopped_at=1))
        await asyncio.sleep(5)
        described = len(world.batch.describes)
        world.objects.delete(uid)
        await asyncio.sleep(1)
        assert uid not in world.objects.bodies
        assert (sent(world), len(world.batch.describes)) == ([], described)


async def test_an_object_held_by_another_finalizer_is_not_terminated_again_after_its_release() -> None:
    async with enabled().running() as world:
        world.batch.shows_flag = False
        uid = tied(world, world.a_job("j"), finalizers=("example.com/slow",))
        await asyncio.sleep(5)
        world.objects.delete(uid)
        await asyncio.sleep(3_600)
        assert world.objects.finalizers(uid) == ["example.com/slow"]
        assert sent(world) == [("j", GONE)]


async def test_an_object_that_is_deleted_without_the_finalizer_ends_nothing() -> None:
    async with enabled().running() as world:
        world.objects.forbidden.add("for-j")
        uid = tied(world, world.a_job("j"), finalizers=("example.com/slow",))
        await asyncio.sleep(5)
        world.objects.delete(uid)
        world.objects.forbidden.clear()
        await asyncio.sleep(600)
        assert sent(world) == []
        assert world.objects.finalizers(uid) == ["example.com/slow"]


# -- restarts ---------------------------------------------------------------------------------------------------------


async def test_jobs_of_objects_deleted_before_the_start_are_terminated() -> None:
    async with enabled().running() as world:
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        world.killed = True
    world.objects.delete(uid)
    await asyncio.sleep(7_200)
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(5)
        assert sent(again) == [("j", GONE)]
        assert again.objects.bodies == {}


async def test_a_crash_between_acceptance_and_release_neither_repeats_nor_forgets() -> None:
    async with enabled().running() as world:
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.away = True
        world.objects.delete(uid)
        await asyncio.sleep(5)
        assert sent(world) == [("j", GONE)]
        world.killed = True
    world.objects.away = False
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(5)
        assert sent(again) == [("j", GONE)]
        assert again.objects.bodies == {}


async def test_each_leader_has_the_whole_time_to_terminate_the_job() -> None:
    async with enabled().running() as world:
        world.batch.id_errors["j"] = DENIED
        uid = tied(world, world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.delete(uid)
        await asyncio.sleep(3_000)
        world.controller.on_stopped_leading()
        await asyncio.sleep(3_000)
        await world.controller.on_started_leading()
        await asyncio.sleep(3_000)
        assert uid in world.objects.bodies
        await asyncio.sleep(700)
        assert world.telemetry.orphans == 1


async def test_an_edit_of_on_delete_of_an_object_that_is_not_deleted_concerns_no_termination() -> None:
    async with enabled().running() as world:
        uid = world.objects.create("o", {"jobId": world.a_job("j"), "terminate": {"reason": "now"}, **ON_DELETE})
        await asyncio.sleep(5)
        world.objects.edit(uid, {"onDelete": {"terminate": {"reason": "in other words"}}})
        await asyncio.sleep(5)
        assert world.objects.reasons(uid) == ["TerminationAccepted"]
