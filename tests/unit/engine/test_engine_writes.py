"""What is written to objects, and what becomes of it when the API server or another writer is in the way."""

import asyncio

import pytest

from awsbatch_operator.domain.record import Phase, Snapshot
from unit.engine.world import World

pytestmark = pytest.mark.looptime(start=1_000)


async def test_writes_wait_for_an_api_server_that_is_away_and_lose_nothing() -> None:
    async with World().running() as world:
        uids = [world.an_object(world.a_job(f"j{n}")) for n in range(50)]
        world.objects.away = True
        await asyncio.sleep(30)
        assert not world.objects.writes
        world.objects.away = False
        await asyncio.sleep(10)
        assert {world.objects.status(uid).phase for uid in uids} == {Phase.RUNNING}
        assert len(world.objects.writes) == 50


async def test_writes_are_bounded_in_number_at_once() -> None:
    async with World().running() as world:
        for n in range(200):
            world.an_object(world.a_job(f"j{n}"))
        await asyncio.sleep(10)
        assert len(world.objects.writes) == 200
        assert world.objects.most_at_once == 16


async def test_a_status_that_the_api_server_refuses_is_not_sent_in_a_loop() -> None:
    async with World().running() as world:
        world.objects.refuses = "status.phase: Unsupported value"
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(600)
        assert world.telemetry.writes["failed"] == 1


async def test_a_conflict_is_read_and_written_on_top_of() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.objects.scribble(uid, {"phase": "Succeeded"}, silent=True)
        world.batch.end("j1", "SUCCEEDED")
        await asyncio.sleep(40)
        assert world.telemetry.writes["conflict"] == 1
        assert world.objects.status(uid).finished


async def test_a_scribbled_status_is_repaired_but_not_in_a_race() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        for _ in range(10):
            world.objects.scribble(uid, {"phase": "Succeeded", "jobName": "other"})
            await asyncio.sleep(0.01)
        await asyncio.sleep(2)
        status = world.objects.status(uid)
        assert status.phase is Phase.RUNNING
        assert status.job is not None
        assert status.job.name == "j1"
        assert len(world.objects.writes) <= 3


async def test_what_another_wrote_into_a_status_is_written_over_also_when_it_wrote_the_former_one() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1", "RUNNABLE"))
        await asyncio.sleep(1)
        former = world.objects.bodies[uid]["status"]
        world.a_job("j1")
        await asyncio.sleep(70)
        assert world.objects.status(uid).phase is Phase.RUNNING
        world.objects.scribble(uid, former)
        await asyncio.sleep(5)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert len(world.objects.writes) == 3


async def test_what_a_lead_did_not_come_to_mend_is_mended_by_the_next_one_of_the_same_process() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.objects.away = True
        world.objects.scribble(uid, {**world.objects.bodies[uid]["status"], "observedGeneration": 99})
        await asyncio.sleep(5)
        world.engine.follow()
        world.objects.away = False
        await asyncio.sleep(20)
        assert world.objects.status(uid).observed_generation == 99
        await world.engine.lead()
        await asyncio.sleep(10)
        assert world.objects.status(uid).observed_generation == 1


async def test_a_former_status_that_comes_in_while_the_newer_is_being_written_is_written_over() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1", "RUNNABLE"))
        await asyncio.sleep(1)
        former = world.objects.bodies[uid]["status"]
        world.a_job("j1")
        world.objects.answer_latency = 0.5
        loop = asyncio.get_running_loop()

        def tell(snapshot: Snapshot) -> None:
            # The watch is silent about the write whose answer is still under way, and tells of the version after it.
            if snapshot.status.phase is Phase.RUNNING:
                world.objects.tell = world.engine.seen
                loop.call_later(0.1, world.objects.scribble, uid, former)

        world.objects.tell = tell
        await asyncio.sleep(70)
        assert [len(world.objects.writes), world.objects.status(uid).phase] == [3, Phase.RUNNING]
