"""In which order, how early and how long it waits: looks that are due, statuses that are held back."""

import asyncio

import pytest

from awsbatch_operator.domain.record import Phase
from unit.engine.world import World

pytestmark = pytest.mark.looptime(start=1_000)


async def test_a_first_look_that_a_termination_waits_for_goes_before_all_that_are_due_longer() -> None:
    async with World().running() as world:
        world.batch.looks_granted.clear()
        for n in range(300):
            world.an_object(world.a_job(f"j{n}"))
        await asyncio.sleep(5)
        uid = world.an_object(world.a_job("late"), "why")
        world.batch.looks_granted.set()
        await asyncio.sleep(0.5)
        assert "late" in world.batch.looks[0][1]
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_looks_that_confirm_an_absence_never_come_so_early_that_they_decide_nothing() -> None:
    async with World(jitter=lambda low, _high: low).running() as world:
        uid = world.an_object("nowhere")
        await asyncio.sleep(121)
        assert world.objects.status(uid).phase is Phase.MISSING
        assert len(world.batch.looks) == 4


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
