"""What was refused is tried once more when the same kind of call succeeds, and not again before its own time."""

import asyncio

import pytest

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.controller.recovery import Recovery
from awsbatch_operator.policy.resolution import Mode
from builders import DENIED
from unit.controller.world import World
from unit.policy.policies import QUEUE, a_policy


def test_a_success_wakes_everything_that_was_refused_in_its_scope() -> None:
    recovery: Recovery[str, str] = Recovery()
    for key in ("a", "b"):
        recovery.refused("scope", key)
    recovery.refused("another", "c")
    assert recovery.succeeded("scope", "x") == ["a", "b"]
    assert recovery.succeeded("scope", "x") == []


def test_what_is_refused_again_after_it_was_woken_waits_its_own_time() -> None:
    recovery: Recovery[str, str] = Recovery()
    recovery.refused("scope", "a")
    assert recovery.succeeded("scope", "x") == ["a"]
    recovery.refused("scope", "a")
    assert recovery.succeeded("scope", "x") == [], "lasting refusals beside successes cost no storm"
    recovery.refused("scope", "a")
    assert recovery.succeeded("scope", "x") == ["a"], "refused in its own time, it may be woken again"


def test_the_key_that_succeeded_is_not_woken() -> None:
    recovery: Recovery[str, str] = Recovery()
    recovery.refused("scope", "a")
    assert recovery.succeeded("scope", "a") == []


def test_a_key_that_succeeded_after_it_was_woken_starts_anew() -> None:
    recovery: Recovery[str, str] = Recovery()
    recovery.refused("scope", "a")
    assert recovery.succeeded("scope", "x") == ["a"]
    assert recovery.succeeded("scope", "a") == []
    recovery.refused("scope", "a")
    assert recovery.succeeded("scope", "x") == ["a"]


def test_nothing_is_woken_after_the_lead_was_lost() -> None:
    recovery: Recovery[str, str] = Recovery()
    recovery.refused("scope", "a")
    recovery.clear()
    assert recovery.succeeded("scope", "x") == []


@pytest.mark.looptime(start=1_000)
@pytest.mark.parametrize("mode", Mode)
async def test_a_changed_policy_lets_a_denied_poll_be_tried_at_once(mode: Mode) -> None:
    async with under_policy(mode).running() as world:
        uid = world.an_object(world.a_job("j", queue=QUEUE), "why")
        await asyncio.sleep(60)
        assert len(world.batch.describes) == 1
        del world.batch.id_errors["j"]
        world.policies.on_policy("team-a", a_policy(jobs={"queues": ["*"]}))
        await asyncio.sleep(2)
        assert [reason for _, _, reason in world.batch.terminations] == ["why"]
        assert world.objects.status(uid).phase is Phase.TERMINATING


@pytest.mark.looptime(start=1_000)
async def test_another_policy_lets_no_denied_poll_be_tried() -> None:
    async with under_policy(Mode.REQUIRED).running() as world:
        world.an_object(world.a_job("j", queue=QUEUE), "why")
        await asyncio.sleep(5)
        world.policies.on_policy("team-b", a_policy("team-b", namespaceSelector={"matchLabels": {"team": "b"}}))
        await asyncio.sleep(60)
        assert len(world.batch.describes) == 1


def under_policy(mode: Mode) -> World:
    """A world in which polls of the job j are denied."""
    world = World(mode=mode)
    world.rules(a_policy(), ns={"team": "a"})
    world.batch.id_errors["j"] = DENIED
    return world
