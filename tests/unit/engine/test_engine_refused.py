"""Status writes that Kubernetes forbids, in one namespace say, hurt no others."""

import asyncio

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from awsbatch_operator.domain.record import Phase
from awsbatch_operator.engine.refused import A_ROUND, EVERY
from unit.engine.world import World

pytestmark = pytest.mark.looptime(start=1_000)


def refused(world: World, count: int) -> list[str]:
    """The uids of objects whose status may not be written."""
    uids = [world.an_object(world.a_job(f"r{number}")) for number in range(count)]
    world.objects.forbidden = {f"for-r{number}" for number in range(count)}
    return uids


def tries(world: World) -> int:
    return world.telemetry.writes["failed"]


async def test_a_status_that_may_be_written_waits_for_none_that_may_not() -> None:
    async with World().running() as world:
        refused(world, 500)
        await asyncio.sleep(20)
        uid = world.an_object(world.a_job("free"))
        await asyncio.sleep(0.5)
        assert world.objects.status(uid).phase is Phase.RUNNING


async def test_what_is_refused_is_tried_now_and_then_a_few_at_once_and_told_of_once() -> None:
    async with World().running() as world:
        with capture_logs() as logs:
            refused(world, 100)
            await asyncio.sleep(2)
            first = tries(world)
            assert first == 100
            await asyncio.sleep(10 * EVERY)
        assert tries(world) - first == 10 * A_ROUND
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
            "status writes wait: Kubernetes forbids them"
        ]
        assert world.engine.depths["status"]() == 100


async def test_once_the_right_is_granted_all_are_written() -> None:
    async with World().running() as world:
        uids = refused(world, 100)
        await asyncio.sleep(3 * EVERY)
        world.objects.forbidden.clear()
        await asyncio.sleep(EVERY + 1)
        assert {world.objects.status(uid).phase for uid in uids} == {Phase.RUNNING}
        assert world.engine.depths["status"]() == 0


async def test_a_termination_is_sent_though_its_status_may_not_be_written() -> None:
    async with World().running() as world:
        [uid] = refused(world, 1)
        await asyncio.sleep(1)
        world.objects.edit(uid, {"terminate": {"reason": "enough"}})
        await asyncio.sleep(1)
        assert [reason for _, _, reason in world.batch.terminations] == ["enough"]
        world.objects.forbidden.clear()
        await asyncio.sleep(EVERY + 1)
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_an_object_that_is_gone_leaves_the_others_waiting_for_nothing() -> None:
    async with World().running() as world:
        first, second = refused(world, 2)
        await asyncio.sleep(1)
        world.engine.gone(first)
        del world.objects.bodies[first]
        world.objects.forbidden.clear()
        await asyncio.sleep(EVERY + 1)
        assert world.objects.status(second).phase is Phase.RUNNING


def told(logs: list[EventDict]) -> int:
    """How often it was said that writes wait."""
    return [line["event"] for line in logs].count("status writes wait: Kubernetes forbids them")


async def test_what_is_refused_after_all_that_was_refused_is_gone_is_told_of_too() -> None:
    async with World().running() as world:
        with capture_logs() as logs:
            [uid] = refused(world, 1)
            await asyncio.sleep(1)
            world.engine.gone(uid)
            del world.objects.bodies[uid]
            await asyncio.sleep(EVERY + 1)
            assert told(logs) == 1
            refused(world, 2)
            await asyncio.sleep(1)
            assert told(logs) == 2


async def test_who_leads_no_more_has_nothing_to_write_and_who_leads_anew_tells_it_anew() -> None:
    async with World().running() as world:
        with capture_logs() as logs:
            refused(world, 20)
            await asyncio.sleep(1)
            world.engine.follow()
            assert world.engine.depths["status"]() == 0
            await asyncio.sleep(3 * EVERY)
            assert tries(world) == 20
            await world.engine.lead()
            await asyncio.sleep(1)
            assert (told(logs), world.engine.depths["status"]()) == (2, 20)
