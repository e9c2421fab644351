"""Status writes that Kubernetes forbids, in one namespace say, hurt no others."""

import asyncio

import pytest
from structlog.testing import capture_logs

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
