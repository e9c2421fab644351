"""In whatever odd state an object under a policy is: few looks, few calls, and the end that was stated comes."""

import asyncio
from collections.abc import Callable

import pytest

from awsbatch_operator.domain.access import Mode
from awsbatch_operator.domain.record import Phase
from builders import THROTTLED
from fakes.batch import LAPSED
from unit.domain.policies import QUEUE, a_policy
from unit.engine.world import World

pytestmark = pytest.mark.looptime(start=1_000)

TAGGED = a_policy(jobs={"tags": {"team": "a"}})
TEAM_A = {"team": "a"}


def a_world(mode: Mode = Mode.OPTIONAL) -> World:
    world = World(mode=mode)
    world.rules(TAGGED, ns=TEAM_A)
    return world


def a_part(world: World, *, of: dict[str, str] | None = TEAM_A) -> None:
    """An array job, with these tags unless there is none, and a child of it."""
    if of is not None:
        world.batch.tags[world.a_job("array", queue=QUEUE)] = of
    world.a_job("array:3", queue=QUEUE)


async def looks_a_minute(world: World, job_id: str, minutes: int = 3) -> float:
    before = len(world.batch.looks)
    await asyncio.sleep(60 * minutes)
    return sum(job_id in ids for _, ids in world.batch.looks[before:]) / minutes


def parent_is_throttled(world: World) -> None:
    world.batch.id_faults["array"] = THROTTLED


def parent_vanishes(world: World) -> None:
    del world.batch.jobs["array"]


def child_is_throttled(world: World) -> None:
    world.batch.id_faults["array:3"] = THROTTLED


def both_are_throttled(world: World) -> None:
    parent_is_throttled(world)
    child_is_throttled(world)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("trouble", [parent_is_throttled, parent_vanishes, child_is_throttled, both_are_throttled])
async def test_a_part_in_trouble_from_the_start_is_not_looked_at_all_the_time(
    mode: Mode, asked: bool, trouble: Callable[[World], None]
) -> None:
    async with a_world(mode).running() as world:
        a_part(world)
        trouble(world)
        world.an_object("array:3", "why" if asked else None)
        await asyncio.sleep(180)
        assert await looks_a_minute(world, "array:3") <= 4
        assert await looks_a_minute(world, "array") <= 4
        assert not world.batch.terminations


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("trouble", [parent_is_throttled, parent_vanishes, child_is_throttled, both_are_throttled])
async def test_a_part_in_trouble_when_its_end_is_stated_is_not_looked_at_all_the_time(
    mode: Mode, trouble: Callable[[World], None]
) -> None:
    async with a_world(mode).running() as world:
        a_part(world)
        uid = world.an_object("array:3")
        await asyncio.sleep(100)
        trouble(world)
        await asyncio.sleep(70)
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(60)
        assert await looks_a_minute(world, "array:3") <= 4
        assert await looks_a_minute(world, "array") <= 4
        assert not world.batch.terminations


async def test_a_leave_that_lapses_again_and_again_is_asked_for_every_15_s() -> None:
    async with a_world().running() as world:
        world.batch.tags[world.a_job("j", queue=QUEUE)] = TEAM_A
        uid = world.an_object("j")
        await asyncio.sleep(5)
        asked: list[object] = []

        def lapses(leave: object) -> object:
            asked.append(leave)
            return LAPSED

        world.batch.at_the_door = lapses  # type: ignore[assignment]
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(60)
        before = len(asked)
        looks = await looks_a_minute(world, "j")
        assert looks <= 8
        assert (len(asked) - before) / 3 <= 5
        world.batch.at_the_door = lambda _: None
        await asyncio.sleep(20)
        assert [reason for _, _, reason in world.batch.terminations] == ["why"]
        assert world.objects.status(uid).phase is Phase.TERMINATING


@pytest.mark.parametrize("mode", Mode)
async def test_an_end_that_needs_a_fresh_look_waits_for_looks_that_fail_without_asking_all_the_time(mode: Mode) -> None:
    async with a_world(mode).running() as world:
        world.batch.tags[world.a_job("j", "RUNNABLE", queue=QUEUE)] = TEAM_A
        uid = world.an_object("j")
        await asyncio.sleep(50)
        world.batch.id_faults["j"] = THROTTLED
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(60)
        assert not world.batch.terminations
        assert await looks_a_minute(world, "j") <= 2
        del world.batch.id_faults["j"]
        await asyncio.sleep(70)
        assert len(world.batch.terminations) == 1
