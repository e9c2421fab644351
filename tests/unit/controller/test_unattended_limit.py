"""The limit on terminations by deadlines and deletions: at most so many in ten minutes, namespaces in turn."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from awsbatch_operator.api.batchjob import HoldCause
from awsbatch_operator.api.job import Target
from awsbatch_operator.controller.unattended_limit import WINDOW, UnattendedLimit
from unit.controller.world import World

pytestmark = pytest.mark.looptime(start=100_000)

HOUR = 3_600_000
HERE, THERE = Target("eu-west-1"), Target("us-east-1")
ON_DELETE: dict[str, Any] = {"onDelete": {"terminate": {"reason": "gone"}}}


class Places:
    """A limit of 10, which is 2 for a namespace, and the objects that it called upon since."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.limit = UnattendedLimit(10, on_place=lambda uid, _namespace: self.called.append(uid))

    def ask(self, *uids: str, target: Target = HERE) -> list[str]:
        """The first letter of a uid is its namespace. Return those that have a place."""
        return [uid for uid in uids if self.limit.admits(uid, target, uid[0])]


async def test_a_namespace_has_a_fifth_and_others_are_not_concerned() -> None:
    places = Places()
    assert places.ask("a1", "a2", "a3", "b1", "a1") == ["a1", "a2", "b1", "a1"]
    assert places.ask("a4", target=THERE) == ["a4"]
    assert places.limit.waiting() == 1


async def test_a_place_that_is_not_used_goes_to_the_next_that_waits() -> None:
    places = Places()
    places.ask("a1", "a2", "a3", "a4")
    places.limit.withdraw("a1")
    assert (places.called, places.ask("a3", "a4")) == (["a3"], ["a3"])
    places.limit.withdraw("a4")
    places.limit.withdraw("a2")
    assert (places.called, places.limit.waiting()) == (["a3"], 0)


async def test_accepted_terminations_count_for_ten_minutes() -> None:
    places = Places()
    places.ask("a1", "a2", "a3")
    places.limit.sent("a1", HERE, "a")
    await asyncio.sleep(300)
    places.limit.sent("a2", HERE, "a")
    await asyncio.sleep(WINDOW - 300 - 1)
    places.limit.grant()
    assert places.called == []
    await asyncio.sleep(1)
    places.limit.grant()
    assert places.called == ["a3"]
    assert places.ask("a3", "a5") == ["a3"]


async def test_the_namespace_that_used_the_fewest_places_of_the_target_comes_first() -> None:
    places = Places()
    namespaces = "abcdefg"
    asked = [f"{namespace}{number}" for namespace in namespaces for number in (1, 2, 3)]
    assert len(places.ask(*asked)) == 10
    for uid in ("a1", "a2", "b1"):
        places.limit.sent(uid, HERE, uid[0])
    await asyncio.sleep(WINDOW)
    places.limit.grant()
    assert places.called == ["a3", "f1", "g1"]


async def test_a_namespace_always_has_one_place() -> None:
    assert UnattendedLimit(3, on_place=lambda *_: None).namespace_limit == 1


async def test_another_leader_begins_without_places_but_not_without_memory() -> None:
    places = Places()
    places.ask("a1", "a2", "a3")
    places.limit.sent("a1", HERE, "a")
    places.limit.clear()
    assert places.ask("a2", "a3") == ["a2"]


def limited(limit: int) -> World:
    return World(on_delete_timeout=HOUR, unattended_limit=limit)


def held(world: World) -> int:
    return world.controller.holds.count_by_cause()[HoldCause.UNATTENDED_LIMIT]


async def test_deletions_beyond_the_limit_are_held_say_so_once_and_go_in_turn() -> None:
    async with limited(10).running() as world:
        uids = {
            namespace: [
                world.objects.create(f"o{number}", {"jobId": world.a_job(f"{namespace}{number}"), **ON_DELETE},
                                     namespace=namespace)
                for number in range(6)
            ]
            for namespace in ("a", "b")
        }  # fmt: skip
        await asyncio.sleep(5)
        for number in range(6):
            for namespace in ("a", "b"):
                world.objects.delete(uids[namespace][number])
        await asyncio.sleep(60)
        assert Counter(job[0] for _, job, _ in world.batch.terminations) == {"a": 2, "b": 2}
        assert held(world) == 8
        last = uids["a"][5]
        reconciling = world.objects.status(last).condition("Reconciling")
        assert reconciling is not None
        assert (reconciling.reason, "--unattended-limit" in reconciling.message) == ("TerminationHeld", True)
        await asyncio.sleep(WINDOW)
        assert Counter(job[0] for _, job, _ in world.batch.terminations) == {"a": 4, "b": 4}
        assert world.objects.reasons(last) == ["TerminationHeld"]
        await asyncio.sleep(WINDOW + 5)
        assert world.objects.bodies == {}
        assert (held(world), world.telemetry.orphans) == (0, 0)


async def test_the_time_in_which_the_limit_holds_does_not_count_towards_the_timeout() -> None:
    async with limited(1).running() as world:
        uids = [world.objects.create(f"o{n}", {"jobId": world.a_job(f"j{n}"), **ON_DELETE}) for n in range(12)]
        await asyncio.sleep(5)
        for uid in uids:
            world.objects.delete(uid)
        await asyncio.sleep(12 * WINDOW)
        assert len(world.batch.terminations) == 12
        assert world.telemetry.orphans == 0


async def test_spec_terminate_is_not_limited() -> None:
    async with limited(1).running() as world:
        for number in range(20):
            world.an_object(world.a_job(f"j{number}"), "stop")
        await asyncio.sleep(5)
        assert len(world.batch.terminations) == 20


async def test_deadlines_and_deletions_share_the_limit() -> None:
    async with limited(5).running() as world:
        for number in range(3):
            started = int(asyncio.get_running_loop().time() * 1000)
            uid = world.an_object(world.a_job(f"d{number}", started_at=started, created_at=started))
            world.objects.edit(uid, {"deadline": {"reason": "late", "running": "1m"}})
        uid = world.objects.create("o", {"jobId": world.a_job("o"), **ON_DELETE})
        await asyncio.sleep(65)
        world.objects.delete(uid)
        await asyncio.sleep(60)
        assert len(world.batch.terminations) == 1
        assert held(world) == 3


async def test_a_job_that_ends_while_it_is_held_frees_its_turn() -> None:
    async with limited(1).running() as world:
        uids = [world.objects.create(f"o{n}", {"jobId": world.a_job(f"j{n}"), **ON_DELETE}) for n in range(3)]
        await asyncio.sleep(5)
        for uid in uids:
            world.objects.delete(uid)
        await asyncio.sleep(5)
        assert held(world) == 2
        world.batch.end("j1", "SUCCEEDED")
        await asyncio.sleep(60)
        assert held(world) == 1
        assert uids[1] not in world.objects.bodies


@pytest.mark.parametrize("lost", ["job ends", "object goes", "no longer stated"])
async def test_a_place_that_can_not_be_used_any_more_goes_to_another(lost: str) -> None:
    async with limited(1).running() as world:
        first, _ = (
            # Another finalizer: the object stays after its release.
            world.objects.create(
                f"o{n}", {"jobId": world.a_job(f"j{n}"), **ON_DELETE}, finalizers=("example.com/slow",)
            )
            for n in range(2)
        )
        await asyncio.sleep(5)
        world.batch.turns.clear()
        for uid in list(world.objects.bodies):
            world.objects.delete(uid)
        await asyncio.sleep(5)
        assert held(world) == 1
        if lost == "job ends":
            world.batch.end("j0", "SUCCEEDED")
        elif lost == "object goes":
            del world.objects.bodies[first]
            world.objects.on_gone(first)
        else:
            world.objects.edit(first, {"onDelete": None})
        await asyncio.sleep(60)
        assert held(world) == 0
        world.batch.turns.set()
        await asyncio.sleep(5)
        assert [job for _, job, _ in world.batch.terminations] == ["j1"]
