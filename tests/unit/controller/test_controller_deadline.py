"""spec.deadline from the edit to TerminateJob: polls, clocks, precedence, and what is stated with the last byte."""

import asyncio
from typing import Any

import pytest

from awsbatch_operator.api.job import Array
from unit.controller.world import World

pytestmark = pytest.mark.looptime(start=100_000)

BUDGET = "over its budget"


def limit(**limits: str) -> dict[str, Any]:
    return {"deadline": {"reason": BUDGET, **limits}}


def sent(world: World) -> list[tuple[str, str]]:
    return [(job, reason) for _, job, reason in world.batch.terminations]


def running_since(world: World, job_id: str, seconds: float) -> str:
    """A job that has been running for so many seconds, by AWS's clock."""
    started = int((asyncio.get_running_loop().time() + world.batch.clock_offset - seconds) * 1000)
    return world.a_job(job_id, started_at=started, created_at=started - 1)


@pytest.mark.parametrize("offset", [0.0, 7_200.0, -7_200.0])
async def test_the_job_is_terminated_within_seconds_after_the_limit_and_never_before(offset: float) -> None:
    async with World().running() as world:
        world.batch.clock_offset = offset
        uid = world.an_object(running_since(world, "j", 0))
        world.objects.edit(uid, limit(running="10m"))
        await asyncio.sleep(599)
        assert sent(world) == []
        shown = world.objects.status(uid).deadline
        assert shown is not None
        assert shown.time == pytest.approx((100_000 + offset + 600) * 1000, abs=10)
        await asyncio.sleep(6)
        assert sent(world) == [("j", BUDGET)]
        await asyncio.sleep(1)
        status = world.objects.status(uid)
        assert status.termination is not None
        assert (status.termination.cause, status.deadline) == ("Deadline", None)


async def test_a_job_that_is_overdue_at_first_sight_gets_a_minute_of_notice() -> None:
    async with World().running() as world:
        uid = world.an_object(running_since(world, "j", 3_600))
        world.objects.edit(uid, limit(running="10m"))
        await asyncio.sleep(58)
        assert sent(world) == []
        assert world.objects.reasons(uid) == ["DeadlineSoon"]
        await asyncio.sleep(8)
        assert sent(world) == [("j", BUDGET)]


async def test_a_restart_within_the_notice_neither_shortens_nor_repeats_it() -> None:
    async with World().running() as world:
        uid = world.an_object(running_since(world, "j", 3_600))
        world.objects.edit(uid, limit(running="10m"))
        await asyncio.sleep(40)
        world.killed = True
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(15)
        assert sent(again) == []
        await asyncio.sleep(12)
        assert sent(again) == [("j", BUDGET)]
    assert world.objects.reasons(uid).count("DeadlineSoon") == 1


async def test_an_edit_of_the_deadline_within_the_notice_counts() -> None:
    async with World().running() as world:
        kept, raised = (world.an_object(running_since(world, job_id, 3_600)) for job_id in "jk")
        for uid in (kept, raised):
            world.objects.edit(uid, limit(running="10m"))
        await asyncio.sleep(30)
        world.objects.edit(raised, limit(running="8h"))
        await asyncio.sleep(60)
        assert sent(world) == [("j", BUDGET)]
        # Lowered below the elapsed time: another deadline, with another notice.
        world.objects.edit(raised, limit(running="20m"))
        await asyncio.sleep(50)
        assert len(sent(world)) == 1
        await asyncio.sleep(16)
        assert sent(world)[1:] == [("k", BUDGET)]


@pytest.mark.parametrize("vanished", [False, True], ids=["finished", "vanished"])
async def test_edits_of_the_deadline_of_a_job_that_is_over_are_answered(vanished: bool) -> None:
    async with World().running() as world:
        uid = world.an_object(running_since(world, "j", 0))
        await asyncio.sleep(5)
        if vanished:
            del world.batch.jobs["j"]
        else:
            world.batch.end("j", "SUCCEEDED", stopped_at=int(asyncio.get_running_loop().time() * 1000))
        await asyncio.sleep(600)
        # Within one second, which AWS's clock can't tell apart.
        world.objects.edit(uid, limit(running="10m"))
        await asyncio.sleep(0.2)
        world.objects.edit(uid, limit(running="20m"))
        await asyncio.sleep(5)
        assert world.objects.status(uid).observed_generation == 3
        assert sent(world) == []


@pytest.mark.parametrize("change", ["removed", "raised", "terminate stated", "deleted"])
async def test_the_request_contains_what_the_spec_says_at_the_last_byte(change: str) -> None:
    async with World().running() as world:
        uid = world.an_object(running_since(world, "j", 0))
        world.objects.edit(uid, limit(running="1m"))
        world.batch.turns.clear()
        await asyncio.sleep(70)
        assert world.controller.depths["terminate"]() == 1
        match change:
            case "removed":
                world.objects.edit(uid, {"deadline": None})
            case "raised":
                world.objects.edit(uid, limit(running="1h"))
            case "terminate stated":
                world.objects.edit(uid, {"terminate": {"reason": "by hand"}})
            case "deleted":
                world.controller.objects.on_delete(uid)
        world.batch.turns.set()
        await asyncio.sleep(20)
        assert sent(world) == ([("j", "by hand")] if change == "terminate stated" else [])
        withdrawn = world.objects.reasons(uid).count("TerminationWithdrawn")
        assert withdrawn == (1 if change in ("removed", "deleted") else 0)


async def test_an_answer_that_is_too_old_is_asked_again_before_the_call() -> None:
    async with World().running() as world:
        uid = world.an_object(running_since(world, "j", 0))
        world.objects.edit(uid, limit(running="1m"))
        world.batch.turns.clear()
        await asyncio.sleep(70)
        # The job ends while its termination waits, and no poll can tell.
        world.batch.describes_granted.clear()
        world.batch.end("j", "SUCCEEDED", stopped_at=int(asyncio.get_running_loop().time() * 1000))
        await asyncio.sleep(40)
        world.batch.turns.set()
        await asyncio.sleep(20)
        assert sent(world) == []
        world.batch.describes_granted.set()
        await asyncio.sleep(20)
        assert sent(world) == []
        assert world.objects.status(uid).phase == "Succeeded"


async def test_a_waiting_job_that_starts_before_the_call_runs_on() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j", "RUNNABLE", created_at=100_000_000))
        world.objects.edit(uid, limit(waiting="1m"))
        world.batch.turns.clear()
        await asyncio.sleep(70)
        now = int(asyncio.get_running_loop().time() * 1000)
        world.batch.jobs["j"] = world.batch.jobs["j"].replace(status="RUNNING", started_at=now)
        await asyncio.sleep(5)
        world.batch.turns.set()
        await asyncio.sleep(20)
        assert sent(world) == []
        assert world.objects.status(uid).phase == "Running"
        assert world.objects.status(uid).deadline is None


async def test_a_child_that_started_before_this_process_ends_the_wait_of_its_array() -> None:
    async with World().running() as world:
        array = {"created_at": 100_000_000, "array": Array(2, None, {"STARTING": 1, "RUNNABLE": 1})}
        uid = world.an_object(world.a_job("j", "PENDING", **array))
        world.objects.edit(uid, limit(waiting="5m"))
        await asyncio.sleep(30)
        world.killed = True
    world.batch.jobs["j"] = world.batch.jobs["j"].replace(array=Array(2, None, {"RUNNABLE": 2}))
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(900)
        assert sent(again) == []


async def test_terminate_precedes_deadlines_of_other_objects_then_the_earlier_limit() -> None:
    async with World().running() as world:
        running_since(world, "j", 0)
        later, earlier, by_hand = (
            world.an_object("j", name=name, namespace=name) for name in ("a-later", "b-earlier", "c-by-hand")
        )
        world.objects.edit(later, {"deadline": {"reason": "later", "running": "65s"}})
        world.objects.edit(earlier, {"deadline": {"reason": "earlier", "running": "60s"}})
        world.batch.turns.clear()
        await asyncio.sleep(80)
        world.objects.edit(by_hand, {"terminate": {"reason": "by hand"}})
        await asyncio.sleep(1)
        world.batch.turns.set()
        await asyncio.sleep(5)
        assert sent(world) == [("j", "by hand")]
        for uid in (later, earlier, by_hand):
            termination = world.objects.status(uid).termination
            assert termination is not None
            assert (termination.reason, termination.cause) == ("by hand", "Terminate")


async def test_a_deadline_costs_no_poll_until_it_falls_due() -> None:
    async with World().running() as world:
        uid = world.an_object(running_since(world, "j", 0))
        await asyncio.sleep(600)
        before = len(world.batch.describes)
        await asyncio.sleep(600)
        plain = len(world.batch.describes) - before
        world.objects.edit(uid, limit(running="8h"))
        await asyncio.sleep(100)
        before = len(world.batch.describes)
        await asyncio.sleep(600)
        assert len(world.batch.describes) - before <= plain + 1


async def test_many_deadlines_that_fall_due_at_once_go_with_few_calls() -> None:
    async with World().running() as world:
        for number in range(100):
            uid = world.an_object(running_since(world, f"j{number}", 0))
            world.objects.edit(uid, limit(running="1m"))
        await asyncio.sleep(80)
        assert len(sent(world)) == 100
        assert len(world.batch.terminate_calls) <= 6


async def test_equal_objects_on_one_job_always_yield_the_same_reason() -> None:
    async with World().running() as world:
        world.a_job("j")
        first, second = (world.an_object("j", name=name, namespace=name) for name in "ab")
        await asyncio.sleep(5)
        world.batch.turns.clear()
        for uid in (second, first):
            world.objects.edit(uid, {"terminate": {"reason": uid}})
            await asyncio.sleep(1)
        world.batch.turns.set()
        await asyncio.sleep(5)
        assert sent(world) == [("j", first)]
