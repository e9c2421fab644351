"""What /readyz reports of the controller."""

import asyncio

import pytest

from awsbatch_operator.manager import checks
from unit.controller.world import World

pytestmark = pytest.mark.looptime(start=1_000)


async def test_it_is_ready_once_the_objects_are_known_and_not_when_lists_fail_for_a_minute() -> None:
    world = World()
    _, ready = checks(world.controller, lambda: 0.0)
    assert ready["synced"]() == "not all BatchJobs are read yet"
    async with world.running():
        await asyncio.sleep(1)
        assert ready["synced"]() is None
        world.objects.away = True
        world.controller.resync.soon()
        await asyncio.sleep(60)
        assert ready["list"]() is None
        await asyncio.sleep(5)
        assert ready["list"]() == "listing BatchJobs has failed for 63 s"
        world.objects.away = False
        await asyncio.sleep(6)
        assert ready["list"]() is None


async def test_it_is_not_ready_while_a_list_shows_what_the_watch_does_not_deliver() -> None:
    async with World().running() as world:
        _, ready = checks(world.controller, lambda: 0.0)
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.notify = lambda _: None
        world.objects.edit(uid, {"terminate": {"reason": "no watch event"}})
        await asyncio.sleep(90)
        assert (ready["watch"]() or "").startswith("the watch of BatchJobs has lagged for")
        world.controller.objects.on_upsert(world.objects.snapshot(uid))
        assert ready["watch"]() is None


async def test_it_is_not_ready_when_no_login_succeeds_for_a_minute() -> None:
    seconds = 60.0
    _, ready = checks(World().controller, lambda: seconds)
    assert ready["login"]() is None
    seconds = 61.0
    assert ready["login"]() == "no login to Kubernetes for 61 s"
