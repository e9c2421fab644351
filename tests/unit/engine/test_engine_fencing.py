"""What the elector's clock forbids is not done, even before the engine was told that it leads no more."""

import asyncio
from dataclasses import dataclass

import pytest

from awsbatch_operator.domain.cadence import Cadence
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.record import Phase
from awsbatch_operator.engine.engine import Engine
from awsbatch_operator.engine.outside import Ports
from unit.engine.world import REGION, World, now

pytestmark = pytest.mark.looptime(start=1_000)


@dataclass
class Fenced(World):
    acting: bool = True

    def __post_init__(self) -> None:
        ports = Ports(
            self.batch,
            self.objects,
            self.telemetry,
            now=now,
            jitter=lambda _low, _high: 1.0,
            acting=lambda: self.acting,
        )
        self.engine = Engine(ports, region=REGION, cadence=Cadence())
        self.objects.tell = self.engine.seen

    def lose(self) -> None:
        self.engine.follow()
        self.acting = True


async def test_no_call_and_no_write_starts_once_the_lease_is_over() -> None:
    world = Fenced()
    async with world.running():
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        looks, writes = len(world.batch.looks), len(world.objects.writes)
        world.acting = False
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        world.an_object(world.a_job("j2"))
        world.objects.scribble(uid, {"phase": "Succeeded"})
        await asyncio.sleep(60)
        assert world.batch.terminations == []
        assert (len(world.batch.looks), len(world.objects.writes)) == (looks, writes)


async def test_what_was_withheld_is_done_in_the_next_lead() -> None:
    world = Fenced()
    async with world.running():
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        world.acting = False
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(1)
        world.lose()
        await world.engine.lead()
        await asyncio.sleep(1)
        assert [reason for _, _, reason in world.batch.terminations] == ["why"]
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_status_that_was_decided_and_not_written_is_written_in_the_next_lead() -> None:
    world = Fenced()
    async with world.running():
        uid = world.an_object(world.a_job("j1", "RUNNABLE"))
        await asyncio.sleep(5)
        world.batch.end("j1", "RUNNING")
        world.objects.away = True
        await asyncio.sleep(70)
        world.engine.follow()
        world.objects.away = False
        await asyncio.sleep(10)
        assert world.objects.status(uid).phase is Phase.PENDING, "a follower writes nothing"
        await world.engine.lead()
        await asyncio.sleep(1)
        assert world.objects.status(uid).phase is Phase.RUNNING


async def test_a_refusal_of_the_former_lead_does_not_delay_the_next_one() -> None:
    world = Fenced()
    async with world.running():
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        world.batch.latency = 2
        world.batch.call_faults = [Fault(Fate.DENIED, "no", "AccessDenied")]
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(1)
        world.engine.follow()
        await asyncio.sleep(5)
        world.batch.latency = 0.01
        await world.engine.lead()
        await asyncio.sleep(1)
        assert len(world.batch.terminations) == 2
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_follower_does_not_wait_for_an_answer_of_batch() -> None:
    world = Fenced()
    async with world.running():
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        world.batch.look_faults = [Fault(Fate.UNAVAILABLE, "away", "500")] * 100
        await asyncio.sleep(100)
        assert world.engine.silent_for() > 60
        world.engine.follow()
        await asyncio.sleep(100)
        assert world.engine.silent_for() == 0
