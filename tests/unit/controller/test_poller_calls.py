"""Which polls share a call, and what becomes of a call that a malformed id spoiled."""

import asyncio
import itertools

import pytest

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.policy.resolution import Mode
from builders import DENIED, THROTTLED
from unit.controller.world import World
from unit.policy.policies import QUEUE, a_policy

pytestmark = pytest.mark.looptime(start=1_000)


def polls_of(world: World, job_id: str, since: float = 0.0) -> list[float]:
    return [at for at, ids in world.batch.describes if job_id in ids and at >= since]


def a_world_of_tags() -> World:
    """A world in which tags decide, so that the parent of a child must be described."""
    world = World(mode=Mode.OPTIONAL)
    world.set_policies(a_policy(jobs={"tags": {"team": "a"}}), ns={"team": "a"})
    return world


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def test_jobs_of_a_small_target_that_came_at_different_times_soon_share_one_call_a_round() -> None:
    async with World().running() as world:
        for n in range(30):
            world.an_object(world.a_job(f"j{n}"))
            await asyncio.sleep(1.7)
        await asyncio.sleep(60)
        began = len(world.batch.describes)
        await asyncio.sleep(300)
        calls = world.batch.describes[began:]
        assert len(calls) <= 11
        assert {len(ids) for _, ids in calls} == {30}


async def test_a_poll_comes_early_by_half_its_interval_at_most() -> None:
    async with World().running() as world:
        for n in range(20):
            world.an_object(world.a_job(f"j{n}", "RUNNABLE" if n % 2 else "RUNNING"))
            await asyncio.sleep(3.1)
        began = loop_time()
        await asyncio.sleep(600)
        for n in range(20):
            polls, interval = polls_of(world, f"j{n}", began), 60 if n % 2 else 30
            waits = [later - at for at, later in itertools.pairwise(polls)]
            assert min(waits) >= interval / 2 - 0.1
            assert max(waits) <= interval + 1


async def test_objects_of_one_job_are_one_id_in_one_call() -> None:
    async with World().running() as world:
        world.a_job("j")
        uids = [world.an_object("j", name=f"o{n}", namespace=f"ns-{n % 3}") for n in range(300)]
        await asyncio.sleep(300)
        assert all(ids == ("j",) for _, ids in world.batch.describes)
        assert len(world.batch.describes) <= 12
        assert {world.objects.status(uid).phase for uid in uids} == {Phase.RUNNING}


async def test_an_object_that_comes_while_its_job_is_polled_is_decided_by_that_answer() -> None:
    world = World()
    world.batch.latency = 2.0
    async with world.running():
        world.a_job("j")
        world.an_object("j", name="first")
        await asyncio.sleep(1)
        second = world.an_object("j", name="second")
        await asyncio.sleep(1.5)
        assert len(world.batch.describes) == 1
        assert world.objects.status(second).phase is Phase.RUNNING


async def test_a_malformed_id_is_isolated_and_then_asked_alone_and_rarely() -> None:
    async with World().running() as world:
        world.batch.malformed = {"bad"}
        world.an_object("bad")
        uids = [world.an_object(world.a_job(f"j{n}")) for n in range(63)]
        await asyncio.sleep(5)
        assert {world.objects.status(uid).phase for uid in uids} == {Phase.RUNNING}
        assert len(world.batch.describes) <= 2 * 7 + 2, "bisected"
        stalled = world.objects.status("uid-for-bad").condition("Stalled")
        assert stalled is not None
        began = loop_time()
        await asyncio.sleep(3_000)
        with_bad = [ids for at, ids in world.batch.describes if "bad" in ids and at >= began]
        assert set(with_bad) == {("bad",)}
        assert len(with_bad) <= 11


async def test_a_malformed_id_that_many_objects_name_is_asked_for_once_in_its_time() -> None:
    async with World().running() as world:
        world.batch.malformed = {"bad"}
        for n in range(100):
            world.an_object("bad", name=f"bad{n}", namespace=f"ns-{n % 3}")
        await asyncio.sleep(3_000)
        assert len(world.batch.describes) <= 12
        assert world.objects.status("uid-ns-1-bad1").condition("Stalled") is not None


async def test_an_array_parent_is_polled_in_the_call_of_its_child() -> None:
    async with a_world_of_tags().running() as world:
        world.batch.tags[world.a_job("array", queue=QUEUE)] = {"team": "a"}
        uid = world.an_object(world.a_job("array:3", queue=QUEUE))
        await asyncio.sleep(100)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert {frozenset(ids) for _, ids in world.batch.describes} == {frozenset({"array", "array:3"})}


async def test_a_parent_is_in_flight_until_the_last_call_that_asks_for_it_is_answered() -> None:
    async with a_world_of_tags().running() as world:
        world.a_job("array:1", queue=QUEUE)
        world.a_job("array:2", queue=QUEUE)
        world.batch.tags[world.a_job("array", "SUCCEEDED", queue=QUEUE)] = {"team": "a"}
        world.batch.latency = 1.0
        parent = world.an_object("array")
        world.an_object("array:1")
        await asyncio.sleep(0.5)
        world.batch.latency = 9.0
        world.an_object("array:2")
        await asyncio.sleep(1.5)
        # The edit of an object whose job has ended is answered by the next poll.
        world.objects.edit(parent, {"terminate": {"reason": "too late"}})
        await asyncio.sleep(8)
        assert [ids for _, ids in world.batch.describes] == [("array", "array:1"), ("array:2", "array")]
        assert world.objects.status(parent).observed_generation == 2


async def test_a_policy_change_during_a_split_call_leaves_no_job_unpolled() -> None:
    async with a_world_of_tags().running() as world:
        world.set_policies(a_policy(), a={"team": "a"}, b={"team": "a"})
        world.batch.latency = 2.0
        world.batch.malformed = {"bad"}
        uids = []
        for n in range(99):
            world.batch.tags[world.a_job(f"array{n}", queue=QUEUE)] = {"team": "a"}
            uids.append(world.an_object(world.a_job(f"array{n}:1", queue=QUEUE), namespace="a"))
        world.an_object("bad", namespace="b")
        await asyncio.sleep(1)
        assert [len(ids) for _, ids in world.batch.describes] == [100]
        # From now on, the parent of each child is asked for, too.
        world.set_policies(a_policy(jobs={"tags": {"team": "a"}}), a={"team": "a"}, b={"team": "a"})
        await asyncio.sleep(20)
        assert {world.objects.status(uid).phase for uid in uids} == {Phase.RUNNING}


async def test_a_malformed_child_does_not_spoil_the_polls_of_its_parent() -> None:
    async with a_world_of_tags().running() as world:
        world.batch.malformed = {"array:99999999999"}
        world.batch.tags[world.a_job("array", queue=QUEUE)] = {"team": "a"}
        parent = world.an_object("array")
        await asyncio.sleep(5)
        world.an_object("array:99999999999", name="bad")
        await asyncio.sleep(5)
        began, writes = loop_time(), len(world.objects.writes)
        await asyncio.sleep(1_200)
        assert world.objects.status(parent).condition("Stalled") is None
        assert world.objects.status(parent).condition("Reconciling") is None
        waits = [later - at for at, later in itertools.pairwise(polls_of(world, "array", began))]
        assert max(waits) <= 31
        assert len(world.objects.writes) == writes


async def test_a_whole_call_of_jobs_with_parents_never_asks_for_more_than_a_hundred_ids() -> None:
    async with a_world_of_tags().running() as world:
        uids = []
        for n in range(150):
            world.batch.tags[world.a_job(f"array{n}", queue=QUEUE)] = {"team": "a"}
            uids.append(world.an_object(world.a_job(f"array{n}:1", queue=QUEUE)))
        await asyncio.sleep(5)
        assert max(len(ids) for _, ids in world.batch.describes) == 100
        assert {world.objects.status(uid).phase for uid in uids} == {Phase.RUNNING}


@pytest.mark.parametrize("outages", [1, 2, 3])
async def test_refused_polls_go_at_once_when_those_of_their_credentials_succeed_again_every_time(outages: int) -> None:
    async with World().running() as world:
        uids = [world.an_object(world.a_job(f"j{n}")) for n in range(10)]
        await asyncio.sleep(60)
        for outage in range(outages):
            world.batch.describe_errors = [DENIED] * 100
            await asyncio.sleep(100)
            assert all(world.objects.status(uid).condition("Stalled") for uid in uids)
            world.batch.describe_errors = []
            world.an_object(world.a_job(f"new{outage}"))
            await asyncio.sleep(2)
            assert {world.objects.status(uid).condition("Stalled") for uid in uids} == {None}
            await asyncio.sleep(100)


async def test_a_deleted_object_is_polled_no_more_and_its_successor_is() -> None:
    world = World()
    world.batch.latency = 2.0
    async with world.running():
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(1)
        del world.objects.bodies[uid]
        world.controller.objects.on_delete(uid)
        successor = world.an_object("j", name="successor")
        await asyncio.sleep(10)
        assert world.objects.status(successor).phase is Phase.RUNNING
        del world.objects.bodies[successor]
        world.controller.objects.on_delete(successor)
        calls = len(world.batch.describes)
        await asyncio.sleep(600)
        assert len(world.batch.describes) == calls
        assert not world.controller.cache.jobs


async def test_a_call_that_fails_is_no_loss_for_any_of_its_jobs() -> None:
    async with World().running() as world:
        world.batch.describe_errors = [THROTTLED] * 3
        uids = [world.an_object(world.a_job(f"j{n}")) for n in range(250)]
        await asyncio.sleep(30)
        assert {world.objects.status(uid).phase for uid in uids} == {Phase.RUNNING}
