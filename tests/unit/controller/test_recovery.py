"""A denied call is retried once when a call of the same kind succeeds, and then only after its own delay."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.job import Target
from awsbatch_operator.controller.recovery import Recovery
from awsbatch_operator.policy.resolution import Mode
from builders import DENIED, REJECTED
from unit.controller.world import REGION, World
from unit.policy.policies import QUEUE, a_policy


def test_a_success_wakes_everything_that_was_refused_in_its_scope() -> None:
    recovery: Recovery[str, str] = Recovery()
    for key in ("a", "b"):
        recovery.refused("scope", key)
    recovery.refused("another", "c")
    assert recovery.succeeded("scope", "x") == ["a", "b"]
    assert recovery.succeeded("scope", "x") == []


def test_a_retry_that_is_denied_again_waits_its_own_time() -> None:
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


def test_a_deleted_object_is_not_woken() -> None:
    recovery: Recovery[str, str] = Recovery()
    recovery.refused("scope", "a")
    recovery.forget("a")
    assert recovery.succeeded("scope", "x") == []


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


@pytest.mark.looptime(start=1_000)
async def test_nothing_is_kept_of_objects_that_were_deleted_while_their_calls_and_writes_were_refused() -> None:
    async with World().running() as world:
        for n in range(7):
            world.an_object(world.a_job(f"gone{n}"))
        # Another object keeps the job that the deleted one names.
        world.an_object("gone2", name="other")
        await asyncio.sleep(5)
        world.batch.terminate_errors[Target(REGION)] = REJECTED
        world.batch.turns.clear()
        state_termination(world, "rejected", "uid-for-gone0", "uid-for-gone1")
        await asyncio.sleep(1)
        world.batch.turns.set()
        await asyncio.sleep(0.0001)
        world.batch.turns.clear()
        await asyncio.sleep(1)
        assert [ids for *_, ids in world.batch.terminate_calls] == [("gone0", "gone1")], "each alone from now on"
        delete(world, "uid-for-gone0", "uid-for-gone1")
        world.batch.turns.set()
        world.batch.terminate_errors[Target(REGION)] = DENIED
        world.batch.id_errors["gone4"] = DENIED
        world.objects.forbidden = {"for-gone5", "for-gone6"}
        world.batch.end("gone5", "SUCCEEDED")
        world.batch.end("gone6", "SUCCEEDED")
        state_termination(world, "denied in time", "uid-for-gone3")
        await asyncio.sleep(100)
        world.objects.latency = 2.0
        state_termination(world, "written late", "uid-for-gone6")
        await asyncio.sleep(0.1)
        world.batch.latency = 2.0
        state_termination(world, "denied late", "uid-for-gone2")
        await asyncio.sleep(1)
        deleted = [f"uid-for-gone{n}" for n in range(7)]
        delete(world, *deleted)
        await asyncio.sleep(100)
        assert len(world.batch.terminate_calls) == 3
        assert [held for held in collections() if not set(deleted).isdisjoint(held)] == []


def collections() -> Iterator[dict[object, object] | set[object]]:
    """Return all dicts and sets. The collector does not list those of plain texts: search their owners."""
    for one in gc.get_objects():
        yield from (held for held in (one, *gc.get_referents(one)) if type(held) in (dict, set))


def state_termination(world: World, reason: str, *uids: str) -> None:
    for uid in uids:
        world.objects.edit(uid, {"terminate": {"reason": reason}})


def delete(world: World, *uids: str) -> None:
    for uid in uids:
        world.objects.bodies.pop(uid, None)
        world.controller.objects.on_delete(uid)


def under_policy(mode: Mode) -> World:
    """A world in which polls of the job j are denied."""
    world = World(mode=mode)
    world.set_policies(a_policy(), ns={"team": "a"})
    world.batch.id_errors["j"] = DENIED
    return world
