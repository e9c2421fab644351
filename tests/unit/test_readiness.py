"""What /readyz says of the engine."""

import asyncio

import pytest

from awsbatch_operator.process import checks
from unit.engine.world import World

pytestmark = pytest.mark.looptime(start=1_000)


async def test_it_is_ready_once_the_objects_are_known_and_no_more_when_they_can_not_be_listed_for_a_minute() -> None:
    world = World()
    _, ready = checks(world.engine)
    assert ready["synced"]() == "the objects are not all known yet"
    async with world.running():
        await asyncio.sleep(1)
        assert ready["synced"]() is None
        world.objects.away = True
        world.engine.sweep.soon()
        await asyncio.sleep(60)
        assert ready["synced"]() is None
        await asyncio.sleep(5)
        assert ready["synced"]() == "the objects can't be listed for 63 s"
        world.objects.away = False
        await asyncio.sleep(6)
        assert ready["synced"]() is None
