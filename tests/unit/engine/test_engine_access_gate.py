"""What an object under a policy shows of its job, and what stays hidden, through the engine."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from awsbatch_operator.domain.access import Mode
from awsbatch_operator.domain.record import Phase, Status
from builders import THROTTLED
from unit.domain.policies import QUEUE, a_policy
from unit.engine.world import World

pytestmark = pytest.mark.looptime(start=1_000)

TAGGED = a_policy(jobs={"tags": {"k8s-namespace": "${namespace}"}}, namespaceSelector={})
QUEUED = a_policy()
TEAM_A = {"team": "a"}


def under(mode: Mode, *policies: object) -> World:
    world = World(mode=mode)
    world.rules(*policies, ns=TEAM_A, other=TEAM_A)  # type: ignore[arg-type]
    return world


def a_job_of(world: World, namespace: str, job_id: str = "j", **more: Any) -> str:
    world.batch.tags[job_id] = {"k8s-namespace": namespace}
    return world.a_job(job_id, queue=QUEUE, **more)


@pytest.mark.parametrize("jitter", ["low", "high"])
async def test_a_job_that_must_not_be_seen_is_denied_when_one_that_does_not_exist_is(jitter: str) -> None:
    denied_at: list[float] = []
    for exists in (True, False):
        world = World(mode=Mode.REQUIRED, jitter=lambda low, high: low if jitter == "low" else high)
        world.rules(TAGGED, ns=TEAM_A)
        async with world.running():
            began = asyncio.get_running_loop().time()
            if exists:
                a_job_of(world, "other")
            uid = world.an_object("j")
            while world.objects.status(uid).phase is not Phase.DENIED:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.1)
            denied_at.append(asyncio.get_running_loop().time() - began)
    assert denied_at[0] == pytest.approx(denied_at[1], abs=0.2)


async def test_another_s_looks_bring_the_denial_no_sooner() -> None:
    async with under(Mode.REQUIRED, TAGGED).running() as world:
        a_job_of(world, "other")
        hidden, shown = world.an_object("j"), world.an_object("j", "why", namespace="other")
        await asyncio.sleep(110)
        assert world.objects.status(shown).phase is Phase.TERMINATING
        assert len([1 for _, ids in world.batch.looks if "j" in ids]) > 8
        assert world.objects.status(hidden).phase is Phase.UNKNOWN
        veil = world.engine.store.objects[hidden].veil
        assert veil is not None
        assert veil.absences <= 4, "only looks that it would have had alone"
        await asyncio.sleep(25)
        status = world.objects.status(hidden)
        assert (status.phase, status.job, status.termination) == (Phase.DENIED, None, None)
        assert world.objects.reasons(hidden) == ["JobNotAllowed"]


@pytest.mark.parametrize("mode", Mode)
async def test_a_tightened_policy_takes_the_details_at_once_and_gives_them_back(mode: Mode) -> None:
    async with under(mode, QUEUED).running() as world:
        uid = world.an_object(world.a_job("j", queue=QUEUE))
        await asyncio.sleep(5)
        shown, looks = world.objects.status(uid), len(world.batch.looks)
        world.book.policy_is("team-a", a_policy(jobs={"queues": ["b"]}))
        await asyncio.sleep(2)
        denied = world.objects.status(uid)
        assert (denied.phase, denied.job, denied.access) == (Phase.DENIED, None, None)
        world.book.policy_is("team-a", QUEUED)
        await asyncio.sleep(2)
        assert replace(world.objects.status(uid), conditions=()) == replace(shown, conditions=())
        assert len(world.batch.looks) <= looks + 1, "all was known"
        assert world.objects.reasons(uid) == ["JobNotAllowed"]


async def test_what_happened_to_a_job_is_told_once_however_often_its_details_go_and_come() -> None:
    async with under(Mode.OPTIONAL, QUEUED).running() as world:
        uid = world.an_object(world.a_job("j", queue=QUEUE, arn="arn:aws:batch:eu-west-1:111122223333:job/j"))
        await asyncio.sleep(5)
        world.batch.end("j", "FAILED", "exit 1", stopped_at=1_005_000)
        await asyncio.sleep(40)
        world.book.policy_is("team-a", a_policy(jobs={"queues": ["b"]}))
        await asyncio.sleep(3)
        assert world.objects.status(uid).phase is Phase.DENIED
        world.book.policy_is("team-a", QUEUED)
        await asyncio.sleep(3)
        assert world.objects.status(uid).phase is Phase.FAILED
        assert world.objects.reasons(uid) == ["JobFailed", "JobNotAllowed"]


@pytest.mark.parametrize("how", ["denied", "no place any more", "nobody knows the namespace"])
@pytest.mark.parametrize("mode", Mode)
async def test_a_request_that_is_accepted_after_its_policy_was_tightened_is_recorded(mode: Mode, how: str) -> None:
    async with under(mode, QUEUED).running() as world:
        uid = world.an_object(world.a_job("j", queue=QUEUE))
        await asyncio.sleep(5)
        world.batch.latency = 1.0
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(0.5)
        if how == "nobody knows the namespace":
            world.book.namespace_is("ns", None)
        else:
            tighter = a_policy(jobs={"queues": ["b"]}) if how == "denied" else a_policy(regions=["us-east-1"])
            world.book.policy_is("team-a", tighter)
        await asyncio.sleep(4)
        status = world.objects.status(uid)
        assert (status.phase is Phase.DENIED) == (how != "nobody knows the namespace")
        assert status.termination is not None
        assert (status.termination.reason, status.termination.requests) == ("why", 1)
        assert len(world.batch.terminations) == 1


async def test_a_request_that_is_accepted_after_the_account_changed_is_recorded() -> None:
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
        sent = world.objects.status(uid).termination
        assert sent is not None
        assert (sent.reason, sent.requests) == ("why", 1)


async def test_an_object_that_goes_and_comes_while_policies_change_stands_for_its_job_itself() -> None:
    async with under(Mode.REQUIRED, QUEUED).running() as world:
        first, second = (world.an_object(world.a_job(job_id, queue=QUEUE)) for job_id in "ab")
        await asyncio.sleep(5)
        before, objects = world.engine.store.objects[first].grant, world.engine.store.objects
        world.book.policy_is("team-a", a_policy(jobs={"queues": ["team-a-*", "b"]}))
        while objects[first].grant == before:  # noqa: ASYNC110 - the turn in between is what this is about
            await asyncio.sleep(0)
        assert objects[second].grant == before
        world.engine.gone(second)
        world.engine.seen(world.objects.snapshot(second))
        await asyncio.sleep(5)
        job = world.engine.store.job_of(objects[second])
        assert job is not None
        assert job.objects[second] is objects[second]


async def test_the_request_of_another_namespace_is_not_shown_before_a_look_admits() -> None:
    async with under(Mode.OPTIONAL, TAGGED).running() as world:
        a_job_of(world, "other")
        world.an_object("j", "the secret of another", namespace="other")
        await asyncio.sleep(2)
    again = World(world.batch, world.objects, mode=Mode.OPTIONAL)
    again.rules(TAGGED, ns=TEAM_A, other=TEAM_A)
    for uid in world.objects.bodies:
        again.engine.seen(world.objects.snapshot(uid))
    again.batch.id_faults["j"] = THROTTLED
    async with again.running():
        spy = again.an_object("j", "mine")
        await asyncio.sleep(3)
        assert again.objects.status(spy).termination is None
        again.batch.id_faults.clear()
        await asyncio.sleep(20)
        assert again.objects.status(spy).phase is Phase.DENIED
        assert again.objects.status(spy).termination is None


async def test_an_account_that_was_scribbled_tells_nothing_of_a_job_that_must_not_be_seen() -> None:
    told: list[Status] = []
    for exists in (True, False):
        world = under(Mode.REQUIRED, TAGGED)
        if exists:
            a_job_of(world, "other", arn="arn:aws:batch:eu-west-1:111122223333:job/j")
        world.objects.create("for-j", {"jobId": "j"}, {"accountId": "444455556666"})
        async with world.running():
            await asyncio.sleep(150)
            status = world.objects.status("uid-for-j")
            told.append(replace(status, conditions=tuple(replace(one, since=0) for one in status.conditions)))
    assert told[0] == told[1]


async def test_another_account_than_the_pinned_one_stalls_and_ends_nothing() -> None:
    async with under(Mode.OPTIONAL, QUEUED).running() as world:
        uid = world.an_object(world.a_job("j", queue=QUEUE, arn="arn:aws:batch:eu-west-1:111122223333:job/j"))
        await asyncio.sleep(2)
        world.batch.jobs["j"] = replace(world.batch.jobs["j"], arn="arn:aws:batch:eu-west-1:444455556666:job/j")
        await asyncio.sleep(40)
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(40)
        stalled = world.objects.status(uid).condition("Stalled")
        assert stalled is not None
        assert (stalled.reason, world.batch.terminations) == ("AccountChanged", [])


async def test_nothing_is_left_of_parts_and_parents_whose_objects_are_gone() -> None:
    async with under(Mode.OPTIONAL, TAGGED).running() as world:
        a_job_of(world, "ns", "array")
        world.a_job("array:1", queue=QUEUE)
        world.a_job("array:2", queue=QUEUE)
        uids = [world.an_object(job_id) for job_id in ("array:1", "array:2", "array", "array:1x")]
        await asyncio.sleep(3)
        assert {world.objects.status(uid).phase for uid in uids[:3]} == {Phase.RUNNING}
        assert len(world.batch.looks) <= 2, "a part and its parent are looked at together"
        world.book.policy_is("team-a", QUEUED)
        world.book.policy_is("team-a", TAGGED)
        for uid in uids:
            await asyncio.sleep(3)
            world.engine.gone(uid)
        assert (world.engine.store.jobs, world.engine.store.namespaces) == ({}, {})
