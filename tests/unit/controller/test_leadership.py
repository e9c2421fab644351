"""The controller does not act once the elector's clock forbids it, even before it learns of the loss."""

import asyncio

import pytest

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.errors import CallError, ErrorClass
from unit.controller.world import World

pytestmark = pytest.mark.looptime(start=1_000)


class Elector:
    """What the elector's clock says; the controller learns of it later."""

    def __init__(self) -> None:
        self.is_leader = True

    def __call__(self) -> bool:
        return self.is_leader


async def test_no_call_and_no_write_starts_once_the_lease_is_over() -> None:
    elector = Elector()
    world = World(is_leader=elector)
    async with world.running():
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        polls, writes = len(world.batch.describes), len(world.objects.writes)
        elector.is_leader = False
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        world.an_object(world.a_job("j2"))
        world.objects.write_foreign_status(uid, {"phase": "Succeeded"})
        await asyncio.sleep(60)
        assert world.batch.terminations == []
        assert (len(world.batch.describes), len(world.objects.writes)) == (polls, writes)


async def test_withheld_work_is_done_in_the_next_term() -> None:
    elector = Elector()
    world = World(is_leader=elector)
    async with world.running():
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        elector.is_leader = False
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(1)
        world.controller.on_stopped_leading()
        elector.is_leader = True
        await world.controller.on_started_leading()
        await asyncio.sleep(1)
        assert [reason for _, _, reason in world.batch.terminations] == ["why"]
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_status_that_was_decided_and_not_written_is_written_in_the_next_term() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1", "RUNNABLE"))
        await asyncio.sleep(5)
        world.batch.end("j1", "RUNNING")
        world.objects.away = True
        await asyncio.sleep(70)
        world.controller.on_stopped_leading()
        world.objects.away = False
        await asyncio.sleep(10)
        assert world.objects.status(uid).phase is Phase.PENDING, "a follower writes nothing"
        await world.controller.on_started_leading()
        await asyncio.sleep(1)
        assert world.objects.status(uid).phase is Phase.RUNNING


async def test_a_refusal_of_the_former_term_does_not_delay_the_next_one() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        world.batch.latency = 2
        world.batch.call_errors = [CallError(ErrorClass.DENIED, "no", "AccessDenied")]
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(1)
        world.controller.on_stopped_leading()
        await asyncio.sleep(5)
        world.batch.latency = 0.01
        await world.controller.on_started_leading()
        await asyncio.sleep(1)
        assert len(world.batch.terminations) == 2
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_follower_does_not_wait_for_an_answer_of_batch() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        world.batch.describe_errors = [CallError(ErrorClass.UNAVAILABLE, "away", "500")] * 100
        await asyncio.sleep(100)
        assert world.controller.silent_for() > 60
        world.controller.on_stopped_leading()
        await asyncio.sleep(100)
        assert world.controller.silent_for() == 0
