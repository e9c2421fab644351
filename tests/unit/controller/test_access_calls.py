"""Objects under a policy while calls fail: few polls, few calls, and the stated termination is sent."""

import asyncio
from collections.abc import Callable

import pytest

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.policy.resolution import Mode
from builders import THROTTLED
from fakes.batch import EXPIRED
from unit.controller.world import World
from unit.policy.policies import QUEUE, a_policy

pytestmark = pytest.mark.looptime(start=1_000)

TAGGED = a_policy(jobs={"tags": {"team": "a"}})
TEAM_A = {"team": "a"}


def a_world(mode: Mode = Mode.OPTIONAL) -> World:
    world = World(mode=mode)
    world.set_policies(TAGGED, ns=TEAM_A)
    return world


def an_array_child(world: World, *, parent_tags: dict[str, str] | None = TEAM_A) -> None:
    """Create a child of an array job, and the array job with these tags unless they are None."""
    if parent_tags is not None:
        world.batch.tags[world.a_job("array", queue=QUEUE)] = parent_tags
    world.a_job("array:3", queue=QUEUE)


async def polls_a_minute(world: World, job_id: str, minutes: int = 3) -> float:
    before = len(world.batch.describes)
    await asyncio.sleep(60 * minutes)
    return sum(job_id in ids for _, ids in world.batch.describes[before:]) / minutes


def parent_is_throttled(world: World) -> None:
    world.batch.id_errors["array"] = THROTTLED


def parent_vanishes(world: World) -> None:
    del world.batch.jobs["array"]


def child_is_throttled(world: World) -> None:
    world.batch.id_errors["array:3"] = THROTTLED


def both_are_throttled(world: World) -> None:
    parent_is_throttled(world)
    child_is_throttled(world)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("stated", [False, True])
@pytest.mark.parametrize("failure", [parent_is_throttled, parent_vanishes, child_is_throttled, both_are_throttled])
async def test_an_array_child_in_failure_from_the_start_is_not_polled_all_the_time(
    mode: Mode, stated: bool, failure: Callable[[World], None]
) -> None:
    async with a_world(mode).running() as world:
        an_array_child(world)
        failure(world)
        world.an_object("array:3", "why" if stated else None)
        await asyncio.sleep(180)
        assert await polls_a_minute(world, "array:3") <= 4
        assert await polls_a_minute(world, "array") <= 4
        assert not world.batch.terminations


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("failure", [parent_is_throttled, parent_vanishes, child_is_throttled, both_are_throttled])
async def test_an_array_child_in_failure_when_its_termination_is_stated_is_not_polled_all_the_time(
    mode: Mode, failure: Callable[[World], None]
) -> None:
    async with a_world(mode).running() as world:
        an_array_child(world)
        uid = world.an_object("array:3")
        await asyncio.sleep(100)
        failure(world)
        await asyncio.sleep(70)
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(60)
        assert await polls_a_minute(world, "array:3") <= 4
        assert await polls_a_minute(world, "array") <= 4
        assert not world.batch.terminations


async def test_a_permit_that_expires_again_and_again_is_tried_every_15_s() -> None:
    async with a_world().running() as world:
        world.batch.tags[world.a_job("j", queue=QUEUE)] = TEAM_A
        uid = world.an_object("j")
        await asyncio.sleep(5)
        asked: list[object] = []

        def expires(permit: object) -> object:
            asked.append(permit)
            return EXPIRED

        world.batch.with_last_byte = expires  # type: ignore[assignment]
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(60)
        before = len(asked)
        polls = await polls_a_minute(world, "j")
        assert polls <= 8
        assert (len(asked) - before) / 3 <= 5
        world.batch.with_last_byte = lambda _: None
        await asyncio.sleep(20)
        assert [reason for _, _, reason in world.batch.terminations] == ["why"]
        assert world.objects.status(uid).phase is Phase.TERMINATING


@pytest.mark.parametrize("mode", Mode)
async def test_a_termination_that_needs_a_fresh_poll_does_not_poll_all_the_time_while_polls_fail(mode: Mode) -> None:
    async with a_world(mode).running() as world:
        world.batch.tags[world.a_job("j", "RUNNABLE", queue=QUEUE)] = TEAM_A
        uid = world.an_object("j")
        await asyncio.sleep(50)
        world.batch.id_errors["j"] = THROTTLED
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(60)
        assert not world.batch.terminations
        assert await polls_a_minute(world, "j") <= 2
        del world.batch.id_errors["j"]
        await asyncio.sleep(70)
        assert len(world.batch.terminations) == 1
