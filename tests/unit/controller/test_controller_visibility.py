"""What an object under a policy shows of its job, and what stays hidden, through the controller."""

import asyncio
from typing import Any

import pytest

from awsbatch_operator.api.batchjob import Phase, Status
from awsbatch_operator.policy.resolution import Mode
from builders import THROTTLED
from unit.controller.world import World
from unit.policy.policies import QUEUE, a_policy

pytestmark = pytest.mark.looptime(start=1_000)

TAGGED = a_policy(jobs={"tags": {"k8s-namespace": "${namespace}"}}, namespaceSelector={})
QUEUED = a_policy()
TEAM_A = {"team": "a"}


def under(mode: Mode, *policies: object) -> World:
    world = World(mode=mode)
    world.set_policies(*policies, ns=TEAM_A, other=TEAM_A)  # type: ignore[arg-type]
    return world


def a_job_of(world: World, namespace: str, job_id: str = "j", **more: Any) -> str:
    world.batch.tags[job_id] = {"k8s-namespace": namespace}
    return world.a_job(job_id, queue=QUEUE, **more)


@pytest.mark.parametrize("jitter", ["low", "high"])
async def test_a_hidden_job_is_denied_at_the_moment_at_which_a_missing_one_is(jitter: str) -> None:
    denied_at: list[float] = []
    for exists in (True, False):
        world = World(mode=Mode.REQUIRED, jitter=lambda low, high: low if jitter == "low" else high)
        world.set_policies(TAGGED, ns=TEAM_A)
        async with world.running():
            began = asyncio.get_running_loop().time()
            if exists:
                a_job_of(world, "other")
            uid = world.an_object("j")
            while world.objects.status(uid).phase is not Phase.DENIED:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.1)
            denied_at.append(asyncio.get_running_loop().time() - began)
    assert denied_at[0] == pytest.approx(denied_at[1], abs=0.2)


@pytest.mark.parametrize("latency", [0.01, 0.9])
async def test_polls_for_another_object_do_not_speed_up_the_denial(latency: float) -> None:
    async with under(Mode.REQUIRED, TAGGED).running() as world:
        world.batch.latency = latency
        a_job_of(world, "other")
        uid_hidden, shown = world.an_object("j"), world.an_object("j", "why", namespace="other")
        await asyncio.sleep(110)
        assert world.objects.status(shown).phase is Phase.TERMINATING
        assert len([1 for _, ids in world.batch.describes if "j" in ids]) > 8
        assert world.objects.status(uid_hidden).phase is Phase.UNKNOWN
        hidden = world.controller.cache.objects[uid_hidden].hidden
        assert hidden is not None
        assert hidden.job_state.misses <= 4, "only polls that it would have had alone"
        await asyncio.sleep(25)
        status = world.objects.status(uid_hidden)
        assert (status.phase, status.job, status.termination) == (Phase.DENIED, None, None)
        assert world.objects.reasons(uid_hidden) == ["JobNotAllowed"]


@pytest.mark.parametrize("exists", [True, False])
async def test_edits_while_polls_fail_do_not_make_polls_more_frequent(exists: bool) -> None:
    world = World(mode=Mode.REQUIRED, jitter=lambda _low, high: high)
    world.set_policies(TAGGED, ns=TEAM_A)
    async with world.running():
        if exists:
            a_job_of(world, "other")
        world.batch.describe_errors = [THROTTLED] * 1_000
        uid = world.an_object("j", "why")
        for number in range(120):
            await asyncio.sleep(0.5)
            world.objects.edit(uid, {"terminate": {"reason": f"why {number}"}})
        assert len(world.batch.describes) <= 30


@pytest.mark.parametrize("mode", Mode)
async def test_a_tightened_policy_hides_the_details_at_once_and_a_relaxed_one_shows_them_again(mode: Mode) -> None:
    async with under(mode, QUEUED).running() as world:
        uid = world.an_object(world.a_job("j", queue=QUEUE))
        await asyncio.sleep(5)
        shown, polls = world.objects.status(uid), len(world.batch.describes)
        world.policies.on_policy("team-a", a_policy(jobs={"queues": ["b"]}))
        await asyncio.sleep(2)
        denied = world.objects.status(uid)
        assert (denied.phase, denied.job, denied.access) == (Phase.DENIED, None, None)
        world.policies.on_policy("team-a", QUEUED)
        await asyncio.sleep(2)
        assert world.objects.status(uid).replace(conditions=()) == shown.replace(conditions=())
        assert len(world.batch.describes) <= polls + 1, "everything was known"
        assert world.objects.reasons(uid) == ["JobNotAllowed"]


async def test_the_end_of_a_job_is_one_event_however_often_its_details_are_withheld() -> None:
    async with under(Mode.OPTIONAL, QUEUED).running() as world:
        uid = world.an_object(world.a_job("j", queue=QUEUE, arn="arn:aws:batch:eu-west-1:111122223333:job/j"))
        await asyncio.sleep(5)
        world.batch.end("j", "FAILED", "exit 1", stopped_at=1_005_000)
        await asyncio.sleep(40)
        world.policies.on_policy("team-a", a_policy(jobs={"queues": ["b"]}))
        await asyncio.sleep(3)
        assert world.objects.status(uid).phase is Phase.DENIED
        world.policies.on_policy("team-a", QUEUED)
        await asyncio.sleep(3)
        assert world.objects.status(uid).phase is Phase.FAILED
        assert world.objects.reasons(uid) == ["JobFailed", "JobNotAllowed"]


@pytest.mark.parametrize("how", ["denied", "no target any more", "the namespace is unknown"])
@pytest.mark.parametrize("mode", Mode)
async def test_a_request_that_is_accepted_after_its_policy_was_tightened_is_recorded(mode: Mode, how: str) -> None:
    async with under(mode, QUEUED).running() as world:
        uid = world.an_object(world.a_job("j", queue=QUEUE))
        await asyncio.sleep(5)
        world.batch.latency = 1.0
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(0.5)
        if how == "the namespace is unknown":
            world.policies.on_namespace("ns", None)
        else:
            tighter = a_policy(jobs={"queues": ["b"]}) if how == "denied" else a_policy(regions=["us-east-1"])
            world.policies.on_policy("team-a", tighter)
        await asyncio.sleep(4)
        status = world.objects.status(uid)
        assert (status.phase is Phase.DENIED) == (how != "the namespace is unknown")
        assert status.termination is not None
        assert (status.termination.reason, status.termination.requests) == ("why", 1)
        assert len(world.batch.terminations) == 1


async def test_a_termination_that_waits_when_the_account_changes_is_not_sent() -> None:
    async with World().running() as world:
        arn = "arn:aws:batch:eu-west-1:{}:job/j"
        uid = world.an_object(world.a_job("j", arn=arn.format("111122223333")))
        await asyncio.sleep(5)
        world.batch.turns.clear()
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(1)
        world.a_job("j", arn=arn.format("444455556666"))
        await asyncio.sleep(40)
        stalled = world.objects.status(uid).condition("Stalled")
        assert stalled is not None
        assert stalled.reason == "AccountChanged"
        world.batch.turns.set()
        await asyncio.sleep(5)
        assert (world.objects.status(uid).termination, world.batch.terminations) == (None, [])


async def test_an_object_that_is_recreated_during_a_policy_change_is_bound_to_its_job() -> None:
    async with under(Mode.REQUIRED, QUEUED).running() as world:
        uid = world.an_object(world.a_job("j", queue=QUEUE))
        await asyncio.sleep(5)
        objects = world.controller.cache.objects
        world.policies.on_policy("team-a", a_policy(jobs={"queues": ["team-a-*", "b"]}))
        world.controller.objects.on_delete(uid)
        world.controller.objects.on_upsert(world.objects.snapshot(uid))
        await asyncio.sleep(5)
        job = world.controller.cache.job_of(objects[uid])
        assert job is not None
        assert job.objects[uid] is objects[uid]


async def test_the_request_of_another_namespace_is_not_shown_before_a_poll_admits_the_job() -> None:
    async with under(Mode.OPTIONAL, TAGGED).running() as world:
        a_job_of(world, "other")
        world.an_object("j", "the secret of another", namespace="other")
        await asyncio.sleep(2)
    again = World(world.batch, world.objects, mode=Mode.OPTIONAL)
    again.set_policies(TAGGED, ns=TEAM_A, other=TEAM_A)
    for uid in world.objects.bodies:
        again.controller.objects.on_upsert(world.objects.snapshot(uid))
    again.batch.id_errors["j"] = THROTTLED
    async with again.running():
        spy = again.an_object("j", "mine")
        await asyncio.sleep(3)
        assert again.objects.status(spy).termination is None
        again.batch.id_errors.clear()
        await asyncio.sleep(20)
        assert again.objects.status(spy).phase is Phase.DENIED
        assert again.objects.status(spy).termination is None


async def test_an_account_that_somebody_wrote_into_a_status_reveals_no_hidden_job() -> None:
    statuses: list[Status] = []
    for exists in (True, False):
        world = under(Mode.REQUIRED, TAGGED)
        if exists:
            a_job_of(world, "other", arn="arn:aws:batch:eu-west-1:111122223333:job/j")
        world.objects.create("for-j", {"jobId": "j"}, {"accountId": "444455556666"})
        async with world.running():
            await asyncio.sleep(150)
            status = world.objects.status("uid-for-j")
            statuses.append(status.replace(conditions=tuple(one.replace(since=0) for one in status.conditions)))
    assert statuses[0] == statuses[1]


async def test_another_account_than_the_pinned_one_stalls_and_terminates_nothing() -> None:
    async with under(Mode.OPTIONAL, QUEUED).running() as world:
        uid = world.an_object(world.a_job("j", queue=QUEUE, arn="arn:aws:batch:eu-west-1:111122223333:job/j"))
        await asyncio.sleep(2)
        world.batch.jobs["j"] = world.batch.jobs["j"].replace(arn="arn:aws:batch:eu-west-1:444455556666:job/j")
        await asyncio.sleep(40)
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(40)
        stalled = world.objects.status(uid).condition("Stalled")
        assert stalled is not None
        assert (stalled.reason, world.batch.terminations) == ("AccountChanged", [])


async def test_children_and_parents_without_objects_leave_the_cache() -> None:
    async with under(Mode.OPTIONAL, TAGGED).running() as world:
        a_job_of(world, "ns", "array")
        world.a_job("array:1", queue=QUEUE)
        world.a_job("array:2", queue=QUEUE)
        uids = [world.an_object(job_id) for job_id in ("array:1", "array:2", "array", "array:1x")]
        await asyncio.sleep(3)
        assert {world.objects.status(uid).phase for uid in uids[:3]} == {Phase.RUNNING}
        assert len(world.batch.describes) <= 2, "a child and its parent are described together"
        world.policies.on_policy("team-a", QUEUED)
        world.policies.on_policy("team-a", TAGGED)
        for uid in uids:
            await asyncio.sleep(3)
            world.controller.objects.on_delete(uid)
        assert (world.controller.cache.jobs, world.controller.cache.namespaces) == ({}, {})
