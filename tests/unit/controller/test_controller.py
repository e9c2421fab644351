"""The controller between fakes: objects come and go, the leader acts, and it stops in time."""

import asyncio

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.job import Target
from awsbatch_operator.controller.controller import PRUNE_EVERY
from unit.controller.world import World, now

pytestmark = pytest.mark.looptime(start=1_000)


async def test_a_new_object_shows_its_job_within_one_poll_and_one_write() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(0.1)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert len(world.batch.describes) == 1
        assert len(world.objects.writes) == 1


async def test_a_deleted_object_is_forgotten_by_the_watch_by_a_write_and_by_the_resync() -> None:
    async with World().running() as world:
        watched, written, listed = (world.an_object(world.a_job(f"j{n}")) for n in range(3))
        await asyncio.sleep(1)
        for uid in (watched, written, listed):
            del world.objects.bodies[uid]
        world.controller.objects.on_delete(watched)
        world.batch.end("j1", "FAILED")
        await asyncio.sleep(40)
        assert set(world.controller.cache.objects) == {listed}
        await asyncio.sleep(300)
        assert not world.controller.cache.objects
        assert not world.controller.cache.jobs


async def test_an_object_deleted_during_a_watch_outage_is_dropped_after_the_relist() -> None:
    async with World().running() as world:
        uids = [world.an_object(world.a_job(f"j{n}")) for n in range(3)]
        await asyncio.sleep(30)
        del world.objects.bodies[uids[0]]
        for uid in uids[1:]:
            world.controller.objects.on_relist(uid)
        await asyncio.sleep(3)
        assert set(world.controller.cache.objects) == set(uids[1:])


async def test_lists_that_fail_are_logged_once_and_timed_from_the_first() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(1)
        world.objects.away = True
        began = asyncio.get_running_loop().time()
        world.controller.resync.soon()
        with capture_logs() as logs:
            await asyncio.sleep(60)
            assert world.controller.resync.list_failed_since == pytest.approx(began + 2, abs=0.1)
            world.objects.away = False
            await asyncio.sleep(6)
        assert [line["event"] for line in logs] == [
            "listing BatchJobs failed; retrying",
            "listing BatchJobs succeeds again",
        ]
        assert world.controller.resync.list_failed_since is None


async def test_the_resync_finds_what_the_watch_did_not_deliver() -> None:
    world = World()
    world.objects.notify = lambda _: None
    uid = world.an_object(world.a_job("j1"))
    async with world.running():
        await asyncio.sleep(15)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert world.controller.resync.synced.is_set()


async def test_a_follower_watches_and_does_nothing_until_it_leads() -> None:
    async with World().running(is_leader=False) as world:
        uid = world.an_object(world.a_job("j1"), "why")
        await asyncio.sleep(120)
        assert not world.batch.describes
        assert not world.batch.terminations
        await world.controller.on_started_leading()
        await asyncio.sleep(0.2)
        assert world.objects.status(uid).phase is Phase.TERMINATING
        world.controller.on_stopped_leading()
        calls = len(world.batch.describes)
        await asyncio.sleep(600)
        assert len(world.batch.describes) == calls


async def test_stopping_finishes_the_call_and_its_write() -> None:
    world = World()
    world.batch.latency = 2.0
    async with world.running():
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        world.objects.edit(uid, {"terminate": {"reason": "late"}})
        await asyncio.sleep(0.5)
    termination = world.objects.status(uid).termination
    assert termination is not None
    assert termination.accepted_at is not None


async def test_stopping_writes_what_was_accepted_and_corrects_no_status_any_more() -> None:
    world = World()
    async with world.running():
        uid, overwritten = (world.an_object(world.a_job(f"j{n}")) for n in range(2))
        await asyncio.sleep(1)
        world.objects.latency = 3.0
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(0.5)
        world.objects.write_foreign_status(overwritten, {"phase": "Succeeded"})
    termination = world.objects.status(uid).termination
    assert termination is not None
    assert termination.accepted_at is not None
    assert world.objects.bodies[overwritten]["status"] == {"phase": "Succeeded"}


async def test_stopping_does_not_wait_for_a_poll_that_hangs() -> None:
    world = World()
    async with world.running():
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.latency = 300
        await asyncio.sleep(40)
        stopped_at = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopped_at < 2


async def test_stopping_leaves_terminations_that_wait_for_their_turn_to_the_next_process() -> None:
    world = World()
    async with world.running():
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        world.batch.turns.clear()
        before = world.objects.status(uid)
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(0.5)
        began = now()
    assert now() - began < 100
    assert world.objects.status(uid) == before
    world.batch.turns.set()
    async with (await world.restarted()).running():
        await asyncio.sleep(1)
        assert [reason for _, _, reason in world.batch.terminations] == ["why"]


async def test_an_object_of_a_future_schema_is_left_alone_and_stops_nothing() -> None:
    async with World().running() as world:
        world.objects.create("future", {"jobId": "j0", "terminate": {"reason": "x", "mode": "Gently"}})
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert not world.batch.terminations


async def test_an_error_of_the_controller_is_not_swallowed() -> None:
    world = World()
    world.batch.before_answer = lambda: 1 // 0  # type: ignore[assignment]

    async def terminate_one() -> None:
        async with world.running():
            world.an_object(world.a_job("j1"), "why")
            await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as error:
        await terminate_one()
    assert error.group_contains(ZeroDivisionError)


async def test_an_old_version_that_comes_late_changes_nothing() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        old = world.objects.snapshot(uid)
        await asyncio.sleep(1)
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        world.controller.objects.on_upsert(old)
        await asyncio.sleep(1)
        assert world.controller.cache.objects[uid].record.generation == 2


async def test_an_object_that_cannot_be_read_is_logged_once_and_does_not_put_the_watch_in_doubt() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(20)
        with capture_logs() as logs:
            uid = world.objects.create("future", {"jobId": "j0", "terminate": {"reason": "x", "mode": "Gently"}})
            for _ in range(600):
                await asyncio.sleep(1)
                assert world.controller.resync.watch_lags_since is None
        assert [line["event"] for line in logs] == ["this version of the operator cannot read the spec; object ignored"]
        world.objects.edit(uid, {"terminate": None})
        await asyncio.sleep(1)
        assert world.objects.status(uid).phase is not None, "what can be read again is served"


async def test_a_target_that_nobody_names_any_more_is_forgotten_also_after_a_change_of_leaders() -> None:
    async with World().running() as world:
        uid = world.objects.create("far", {"jobId": world.a_job("j1"), "region": "us-east-1"})
        await asyncio.sleep(5)
        world.controller.on_stopped_leading()
        del world.objects.bodies[uid]
        world.controller.objects.on_delete(uid)
        await asyncio.sleep(2 * PRUNE_EVERY)
        assert world.batch.forgotten == [Target("us-east-1")]
