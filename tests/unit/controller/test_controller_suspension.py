"""Suspension: nothing is sent while it lasts, statuses go on, and everything that is still stated goes once it ends."""

import asyncio

import pytest

from awsbatch_operator.api.batchjob import HoldCause, Phase
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.interfaces import TerminatePermit
from awsbatch_operator.policy.resolution import Mode
from fakes.batch import EXPIRED
from unit.controller.world import World
from unit.policy.policies import a_policy, an_invalid_policy

pytestmark = pytest.mark.looptime(start=1_000)

SUSPEND = "awsbatch.dev/suspend-terminations"
STOP = {"terminate": {"reason": "stop"}}
HELD = ("TerminationHeld",) * 3
A, B = {"team": "a"}, {"team": "b"}


def annotate(world: World, text: str | None) -> None:
    world.controller.holds.on_lease("ops/op", {} if text is None else {SUSPEND: text})


def reasons(world: World, uid: str) -> tuple[str, ...]:
    status = world.objects.status(uid)
    found = (status.condition(type_) for type_ in ("Ready", "Reconciling", "Terminated"))
    return tuple(one.reason for one in found if one is not None)


def message(world: World, uid: str) -> str:
    reconciling = world.objects.status(uid).condition("Reconciling")
    assert reconciling is not None
    return reconciling.message


async def test_the_annotation_holds_a_termination_and_its_removal_sends_it_at_once() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        annotate(world, "INC-4711")
        world.objects.edit(uid, STOP)
        await asyncio.sleep(1)
        assert reasons(world, uid) == HELD
        assert "INC-4711" in message(world, uid)
        await asyncio.sleep(3600)
        assert world.batch.terminations == []
        assert world.objects.reasons(uid) == ["TerminationHeld"]
        annotate(world, None)
        await asyncio.sleep(0.1)
        assert [call[1:] for call in world.batch.terminations] == [("j", "stop")]
        assert world.objects.reasons(uid) == ["TerminationHeld", "TerminationAccepted"]


async def test_statuses_follow_the_job_and_a_withdrawn_or_finished_one_is_never_sent() -> None:
    async with World().running() as world:
        withdrawn, ended = world.an_object(world.a_job("w")), world.an_object(world.a_job("e", "RUNNABLE"))
        annotate(world, "")
        world.objects.edit(withdrawn, STOP)
        world.objects.edit(ended, STOP)
        await asyncio.sleep(5)
        assert reasons(world, ended) == HELD
        world.batch.end("e", "RUNNING")
        await asyncio.sleep(70)
        assert world.objects.status(ended).phase is Phase.RUNNING
        world.batch.end("e", "SUCCEEDED", stopped_at=1_075_000)
        await asyncio.sleep(40)
        assert world.objects.status(ended).phase is Phase.SUCCEEDED
        world.objects.edit(withdrawn, {"terminate": None})
        await asyncio.sleep(1)
        assert reasons(world, withdrawn) == ("Observed",)
        annotate(world, None)
        await asyncio.sleep(3600)
        assert world.batch.terminations == []


async def test_no_request_leaves_whose_last_byte_comes_after_the_suspension() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)

        def suspended_first(permit: TerminatePermit) -> CallError | None:
            annotate(world, "while the request is sent")
            return None if permit.valid() else EXPIRED

        world.batch.with_last_byte = suspended_first
        world.objects.edit(uid, STOP)
        await asyncio.sleep(60)
        assert world.batch.terminations == []
        assert reasons(world, uid) == HELD
        world.batch.with_last_byte = lambda permit: None if permit.valid() else EXPIRED
        annotate(world, None)
        await asyncio.sleep(0.1)
        assert len(world.batch.terminations) == 1, "a permit that was held costs no wait"


async def test_terminations_that_wait_for_the_budget_are_held_too_and_go_in_turn_afterwards() -> None:
    world = World()
    world.batch.terminate_interval = 1.0
    async with world.running():
        uids = [world.an_object(world.a_job(f"j{n}"), namespace=f"ns{n % 2}") for n in range(10)]
        await asyncio.sleep(5)
        for n, uid in enumerate(uids):
            world.objects.edit(uid, {"terminate": {"reason": f"stop {n}"}})
        await asyncio.sleep(2.5)
        sent = len(world.batch.terminations)
        assert 0 < sent < len(uids)
        annotate(world, "why")
        await asyncio.sleep(60)
        assert len(world.batch.terminations) == sent
        counts = world.controller.holds.count_by_cause()
        assert counts == dict.fromkeys(HoldCause, 0) | {HoldCause.SUSPENDED_OPERATOR: len(uids) - sent}
        annotate(world, None)
        await asyncio.sleep(0.1)
        assert len(world.batch.terminations) <= sent + 1, "the budget applies"
        await asyncio.sleep(20)
        rest = [int(job[1:]) % 2 for _, job, _ in world.batch.terminations[sent:]]
        assert len(rest) == len(uids) - sent
        assert all(rest[at] != rest[at + 1] for at in range(0, len(rest) - 1, 2)), "namespaces in turn"


async def test_a_policy_holds_the_terminations_of_its_namespaces_only() -> None:
    world = World(mode=Mode.OPTIONAL)
    suspended = a_policy(jobs={"queues": ["*"]}, suspend=True)
    world.set_policies(suspended, a=A, b=B)
    async with world.running():
        uids = {
            namespace: world.an_object(world.a_job(namespace, queue="q"), "stop", namespace=namespace)
            for namespace in ("a", "b")
        }
        await asyncio.sleep(10)
        assert [job for _, job, _ in world.batch.terminations] == ["b"]
        assert reasons(world, uids["a"]) == HELD
        assert "spec.suspend of the BatchAccessPolicy team-a" in message(world, uids["a"])
        assert world.controller.holds.suspended_by() == {"team-a"}
        world.policies.on_policy("team-a", a_policy(jobs={"queues": ["*"]}))
        await asyncio.sleep(0.5)
        assert [job for _, job, _ in world.batch.terminations] == ["b", "a"]


@pytest.mark.parametrize(
    ("what", "sent"), [("label", True), ("deleted", True), ("ambiguous", False), ("unreadable", False)]
)
async def test_the_policy_that_replaces_the_suspended_one_decides(what: str, *, sent: bool) -> None:
    world = World(mode=Mode.OPTIONAL)
    world.set_policies(a_policy(jobs={"queues": ["*"]}, suspend=True), a=A)
    async with world.running():
        world.an_object(world.a_job("j", queue="q"), "stop", namespace="a")
        await asyncio.sleep(10)
        assert world.batch.terminations == []
        match what:
            case "label":
                world.policies.on_namespace("a", B)
            case "deleted":
                world.policies.on_policy("team-a", None)
            case "ambiguous":
                world.policies.on_policy("another", a_policy("another"))
            case "unreadable":
                world.policies.on_policy("team-a", an_invalid_policy("team-a", suspend="yes"))
        await asyncio.sleep(10)
        assert bool(world.batch.terminations) is sent


async def test_the_next_leader_holds_what_the_former_held_without_another_event() -> None:
    world = World()
    async with world.running():
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        annotate(world, "why")
        world.objects.edit(uid, STOP)
        await asyncio.sleep(5)
    following = await world.restarted()
    following.objects.notify = following.controller.objects.on_upsert
    annotate(following, "why")
    async with following.running():
        await asyncio.sleep(60)
        assert world.batch.terminations == []
        assert world.objects.reasons(uid) == ["TerminationHeld"]
        annotate(following, None)
        await asyncio.sleep(0.1)
        assert len(world.batch.terminations) == 1


async def test_an_answer_about_the_lease_that_is_too_old_holds_terminations_and_says_so() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j"))
        world.controller.holds.on_lease("ops/op", {}, known_for=10.0)
        await asyncio.sleep(5)
        world.objects.edit(uid, {"jobId": "j"})
        await asyncio.sleep(10)
        world.objects.edit(uid, STOP)
        await asyncio.sleep(5)
        assert world.batch.terminations == []
        assert "cannot read the Lease ops/op" in message(world, uid)
        world.controller.holds.on_lease("ops/op", {}, known_for=10.0)
        await asyncio.sleep(0.1)
        assert len(world.batch.terminations) == 1
