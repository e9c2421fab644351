"""What is written to objects, and what becomes of it when the API server or another writer is in the way."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.decoding import Snapshot
from awsbatch_operator.controller.status_writer import WRITERS, WRITERS_PER_NAMESPACE
from unit.controller.world import World

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
        assert world.objects.most_at_once == WRITERS_PER_NAMESPACE


async def test_no_namespace_takes_all_writes_at_once_and_all_together_take_no_more_than_there_are() -> None:
    async with World().running() as world:
        for n in range(200):
            world.an_object(world.a_job(f"j{n}"), namespace=f"ns-{n % 4}")
        await asyncio.sleep(10)
        world.objects.most_at_once = 0
        for n in range(200):
            world.batch.end(f"j{n}", "SUCCEEDED")
        await asyncio.sleep(60)
        assert len(world.objects.writes) == 400
        assert world.objects.most_at_once == WRITERS


async def test_a_status_that_the_api_server_refuses_is_retried_after_5_s_and_then_less_and_less_often() -> None:
    async with World().running() as world:
        world.objects.refuses = "status.phase: Unsupported value"
        uid = world.an_object(world.a_job("j1"))
        attempts = [at async for at in _failures(world, seconds=200)]
        waits = [later - at for at, later in itertools.pairwise(attempts)]
        assert waits == pytest.approx([5, 10, 20, 30, 30, 30, 30, 30], abs=1.0)
        world.objects.refuses = ""
        await asyncio.sleep(31)
        assert world.objects.status(uid).phase is Phase.RUNNING


async def test_one_refused_object_of_a_namespace_is_retried_every_30_s_the_others_every_5_min() -> None:
    async with World().running() as world:
        first, *others = forbid(world, 11)
        await asyncio.sleep(1_000)
        before = world.telemetry.writes["failed"]
        await asyncio.sleep(600)
        assert world.telemetry.writes["failed"] - before == pytest.approx(600 / 30 + 10 * 2, abs=2)
        del world.objects.bodies[first]
        world.controller.objects.on_delete(first)
        await asyncio.sleep(301)
        world.objects.forbidden = set()
        await asyncio.sleep(31)
        assert {world.objects.status(uid).phase for uid in others} == {Phase.RUNNING}


async def _failures(world: World, seconds: float) -> AsyncIterator[float]:
    """The time of each write that failed."""
    until, seen = asyncio.get_running_loop().time() + seconds, 0
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(0.5)
        if world.telemetry.writes["failed"] > seen:
            seen = world.telemetry.writes["failed"]
            yield asyncio.get_running_loop().time()


async def test_a_conflict_is_read_and_written_on_top_of() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.objects.write_foreign_status(uid, {"phase": "Succeeded"}, silent=True)
        world.batch.end("j1", "SUCCEEDED")
        await asyncio.sleep(40)
        assert world.telemetry.writes["conflict"] == 1
        assert world.objects.status(uid).finished


async def test_a_foreign_status_is_corrected_but_not_in_a_race() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        for _ in range(10):
            world.objects.write_foreign_status(uid, {"phase": "Succeeded", "jobName": "other"})
            await asyncio.sleep(0.01)
        await asyncio.sleep(2)
        status = world.objects.status(uid)
        assert status.phase is Phase.RUNNING
        assert status.job is not None
        assert status.job.name == "j1"
        assert len(world.objects.writes) <= 3


async def test_a_foreign_status_is_overwritten_even_if_it_equals_the_former_one() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1", "RUNNABLE"))
        await asyncio.sleep(1)
        former = world.objects.bodies[uid]["status"]
        world.a_job("j1")
        await asyncio.sleep(70)
        assert world.objects.status(uid).phase is Phase.RUNNING
        world.objects.write_foreign_status(uid, former)
        await asyncio.sleep(5)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert len(world.objects.writes) == 3


async def test_a_correction_that_one_term_did_not_come_to_write_is_written_in_the_next_term_of_the_same_process() -> (
    None
):
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.objects.away = True
        world.objects.write_foreign_status(uid, {**world.objects.bodies[uid]["status"], "observedGeneration": 99})
        await asyncio.sleep(5)
        world.controller.on_stopped_leading()
        world.objects.away = False
        await asyncio.sleep(20)
        assert world.objects.status(uid).observed_generation == 99
        await world.controller.on_started_leading()
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

        def deliver(snapshot: Snapshot) -> None:
            # The watch does not deliver the write whose answer is still under way, but the version after it.
            if snapshot.status.phase is Phase.RUNNING:
                world.objects.notify = world.controller.objects.on_upsert
                loop.call_later(0.1, world.objects.write_foreign_status, uid, former)

        world.objects.notify = deliver
        await asyncio.sleep(70)
        assert [len(world.objects.writes), world.objects.status(uid).phase] == [3, Phase.RUNNING]


def forbid(world: World, count: int) -> list[str]:
    """Create objects whose status may not be written; their uids."""
    uids = [world.an_object(world.a_job(f"r{number}")) for number in range(count)]
    world.objects.forbidden = {f"for-r{number}" for number in range(count)}
    return uids


async def test_a_status_that_may_be_written_does_not_wait_for_those_that_may_not() -> None:
    async with World().running() as world:
        forbid(world, 500)
        await asyncio.sleep(20)
        uid = world.an_object(world.a_job("free"))
        await asyncio.sleep(0.5)
        assert world.objects.status(uid).phase is Phase.RUNNING


async def test_refused_writes_are_logged_once_and_all_are_written_as_soon_as_one_succeeds() -> None:
    async with World().running() as world:
        with capture_logs() as logs:
            uids = forbid(world, 100)
            await asyncio.sleep(600)
            assert world.telemetry.writes["failed"] <= 100 * 8 + 600 / 30
            world.objects.forbidden = set()
            world.an_object(world.a_job("new"))
            await asyncio.sleep(1)
            assert {world.objects.status(uid).phase for uid in uids} == {Phase.RUNNING}
            await asyncio.sleep(60)
        assert [line["event"] for line in logs] == ["status update failed; retrying", "status updates succeed again"]
        assert world.controller.depths["status"]() == 0


async def test_lasting_refusals_beside_successes_cost_one_more_attempt_each() -> None:
    async with World().running() as world:
        forbid(world, 20)
        await asyncio.sleep(1)
        for number in range(50):
            world.an_object(world.a_job(f"new{number}"))
            await asyncio.sleep(0.05)
        assert world.telemetry.writes["failed"] <= 2 * 20


async def test_a_termination_is_sent_although_its_status_may_not_be_written() -> None:
    async with World().running() as world:
        [uid] = forbid(world, 1)
        await asyncio.sleep(1)
        world.objects.edit(uid, {"terminate": {"reason": "enough"}})
        await asyncio.sleep(1)
        assert [reason for _, _, reason in world.batch.terminations] == ["enough"]
        world.objects.forbidden.clear()
        await asyncio.sleep(30)
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_follower_has_nothing_to_write_and_a_new_leader_tries_everything() -> None:
    async with World().running() as world:
        forbid(world, 20)
        await asyncio.sleep(1)
        world.controller.on_stopped_leading()
        assert world.controller.depths["status"]() == 0
        await asyncio.sleep(600)
        assert world.telemetry.writes["failed"] == 20
        await world.controller.on_started_leading()
        await asyncio.sleep(1)
        assert world.telemetry.writes["failed"] == 40


async def test_a_status_that_changes_while_its_failed_write_pauses_is_not_lost() -> None:
    async with World().running() as world:
        first = world.an_object(world.a_job("j1"))
        others = [world.an_object(world.a_job(f"o{n}")) for n in range(30)]
        await asyncio.sleep(5)
        world.objects.unavailable.add("for-j1")
        world.batch.end("j1", "SUCCEEDED")
        while world.telemetry.writes["failed"] == 0:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.01)
        world.objects.unavailable.clear()
        # Others of the namespace are written by other workers meanwhile.
        for uid in others:
            world.objects.edit(uid, {"terminate": {"reason": "why"}})
        world.objects.edit(first, {"region": "eu-west-1"})
        await asyncio.sleep(10)
        status = world.objects.status(first)
        assert (status.phase, status.observed_generation) == (Phase.SUCCEEDED, 2)


async def test_a_foreign_writer_that_never_rests_keeps_nobody_from_correcting_it() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        for _ in range(40):
            world.objects.write_foreign_status(uid, {"phase": "Pending"})
            await asyncio.sleep(0.5)
        assert 10 <= len(world.objects.writes) <= 22, "about one correction a second"
