"""The engine between fakes: what comes and goes, who leads, and how it stops."""

import asyncio

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.domain.record import Phase
from unit.engine.world import World, now

pytestmark = pytest.mark.looptime(start=1_000)


async def test_a_new_object_shows_its_job_within_one_look_and_one_write() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(0.1)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert len(world.batch.looks) == 1
        assert len(world.objects.writes) == 1


async def test_an_object_that_is_gone_is_forgotten_by_word_by_write_and_by_sweep() -> None:
    async with World().running() as world:
        told, written, swept = (world.an_object(world.a_job(f"j{n}")) for n in range(3))
        await asyncio.sleep(1)
        for uid in (told, written, swept):
            del world.objects.bodies[uid]
        world.engine.gone(told)
        world.batch.end("j1", "FAILED")
        await asyncio.sleep(40)
        assert set(world.engine.store.objects) == {swept}
        await asyncio.sleep(300)
        assert not world.engine.store.objects
        assert not world.engine.store.jobs


async def test_what_was_deleted_while_the_watch_was_cut_is_forgotten_soon_after_it_lists_anew() -> None:
    async with World().running() as world:
        uids = [world.an_object(world.a_job(f"j{n}")) for n in range(3)]
        await asyncio.sleep(30)
        del world.objects.bodies[uids[0]]
        for uid in uids[1:]:
            world.engine.listed(uid)
        await asyncio.sleep(3)
        assert set(world.engine.store.objects) == set(uids[1:])


async def test_lists_that_fail_are_told_once_and_counted_from_the_first() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(1)
        world.objects.away = True
        began = asyncio.get_running_loop().time()
        world.engine.sweep.soon()
        with capture_logs() as logs:
            await asyncio.sleep(60)
            assert world.engine.sweep.blind_since == pytest.approx(began + 2, abs=0.1)
            world.objects.away = False
            await asyncio.sleep(6)
        assert [line["event"] for line in logs] == ["objects can't be listed", "objects can be listed again"]
        assert world.engine.sweep.blind_since is None


async def test_the_sweep_finds_what_the_watch_did_not_tell() -> None:
    world = World()
    world.objects.tell = lambda _: None
    uid = world.an_object(world.a_job("j1"))
    async with world.running():
        await asyncio.sleep(15)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert world.engine.sweep.synced.is_set()


async def test_a_follower_watches_and_does_nothing_until_it_leads() -> None:
    async with World().running(lead=False) as world:
        uid = world.an_object(world.a_job("j1"), "why")
        await asyncio.sleep(120)
        assert not world.batch.looks
        assert not world.batch.terminations
        await world.engine.lead()
        await asyncio.sleep(0.2)
        assert world.objects.status(uid).phase is Phase.TERMINATING
        world.engine.follow()
        calls = len(world.batch.looks)
        await asyncio.sleep(600)
        assert len(world.batch.looks) == calls


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


async def test_stopping_writes_what_was_accepted_and_mends_nothing_any_more() -> None:
    world = World()
    async with world.running():
        uid, scribbled = (world.an_object(world.a_job(f"j{n}")) for n in range(2))
        await asyncio.sleep(1)
        world.objects.latency = 3.0
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(0.5)
        world.objects.scribble(scribbled, {"phase": "Succeeded"})
    termination = world.objects.status(uid).termination
    assert termination is not None
    assert termination.accepted_at is not None
    assert world.objects.bodies[scribbled]["status"] == {"phase": "Succeeded"}


async def test_stopping_does_not_wait_for_a_look_that_hangs() -> None:
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
        world.batch.crowded = True
        before = world.objects.status(uid)
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(0.5)
        began = now()
    assert now() - began < 100
    assert world.objects.status(uid) == before
    world.batch.crowded = False
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


async def test_an_engine_error_is_not_swallowed() -> None:
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
        world.engine.seen(old)
        await asyncio.sleep(1)
        assert world.engine.store.objects[uid].record.generation == 2
