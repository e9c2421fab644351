"""A requested termination is sent once with its reason, and repeated only if necessary."""

import asyncio

import pytest

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.errors import CallError, ErrorClass
from builders import THROTTLED
from unit.controller.world import World

pytestmark = pytest.mark.looptime(start=1_000)


async def test_a_stated_termination_is_sent_once_with_its_reason_and_followed_to_the_end() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        world.objects.edit(uid, {"terminate": {"reason": "  why not? "}})
        await asyncio.sleep(0.1)
        assert world.objects.status(uid).phase is Phase.TERMINATING
        await asyncio.sleep(90)
        world.batch.end("j1", "FAILED", "  why not? ", stopped_at=1_090_000)
        await asyncio.sleep(20)
        assert [call[1:] for call in world.batch.terminations] == [("j1", "  why not? ")]
        status = world.objects.status(uid)
        assert status.phase is Phase.TERMINATED
        assert status.termination is not None
        assert (status.termination.requests, status.termination.completed_at) == (1, 1_090_000)
        assert world.objects.reasons(uid) == ["TerminationAccepted", "Terminated"]
        assert len(world.objects.writes) == 4, "seen, accepted, flagged, ended"
        assert len(world.telemetry.accepted) == len(world.telemetry.completed) == 1


async def test_two_objects_on_one_job_share_polls_and_the_request() -> None:
    async with World().running() as world:
        world.a_job("j1")
        first, second = world.an_object("j1", name="a"), world.an_object("j1", name="b")
        await asyncio.sleep(1)
        polls = len(world.batch.describes)
        world.objects.edit(first, {"terminate": {"reason": "one"}})
        world.objects.edit(second, {"terminate": {"reason": "two"}})
        await asyncio.sleep(0.5)
        assert [call[2] for call in world.batch.terminations] == ["one"]
        world.batch.end("j1", "FAILED", "one", stopped_at=1_002_000)
        await asyncio.sleep(20)
        for uid in (first, second):
            status = world.objects.status(uid)
            assert status.phase is Phase.TERMINATED
            assert status.termination is not None
            assert status.termination.reason == "one"
        assert len(world.batch.terminations) == 1
        assert polls <= 2


async def test_a_crash_between_the_call_and_its_write_sends_no_second_call() -> None:
    world = World()
    world.objects.latency = 0.2
    async with world.running():
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.objects.away = True
        world.objects.edit(uid, {"terminate": {"reason": "crash"}})
        await asyncio.sleep(0.1)
        assert len(world.batch.terminations) == 1
        world.killed = True
    world.objects.away = False
    assert world.objects.status(uid).termination is None
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(30)
        world.batch.end("j1", "FAILED", "crash", stopped_at=1_032_000)
        await asyncio.sleep(30)
    assert len(world.batch.terminations) == 1
    status = world.objects.status(uid)
    terminated = status.condition("Terminated")
    assert terminated is not None
    assert (status.phase, terminated.reason) == (Phase.TERMINATED, "TerminatedByRequest")


async def test_a_request_that_an_earlier_process_recorded_is_not_sent_again() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"), "why")
        world.batch.shows_flag = False
        await asyncio.sleep(1)
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(50)
        assert len(world.batch.terminations) == 1
        await asyncio.sleep(15)
        assert len(world.batch.terminations) == 2, "a minute without a sign"
        termination = world.objects.status(uid).termination
        assert termination is not None
        assert termination.requests == 2


async def test_a_termination_refused_for_a_while_is_sent_as_soon_as_it_is_accepted() -> None:
    async with World().running() as world:
        world.batch.call_errors = [THROTTLED] * 4
        uid = world.an_object(world.a_job("j1"), "why")
        await asyncio.sleep(60)
        assert len(world.batch.terminations) == 5
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_throttled_termination_is_sent_again_although_no_poll_is_granted() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.describes_granted.clear()
        world.batch.call_errors = [THROTTLED] * 2
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(3.5)
        first, *later = (at for at, *_ in world.batch.terminations)
        assert [at - first for at in later] == pytest.approx([1, 3], abs=0.1)
        assert world.objects.status(uid).phase is Phase.TERMINATING


@pytest.mark.parametrize("end", ["deleted", "stopped"])
async def test_a_throttled_termination_that_nobody_may_send_any_more_is_not_sent_again(end: str) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.call_errors = [THROTTLED]
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(0.5)
        {"deleted": lambda: world.controller.objects.on_delete(uid), "stopped": world.controller.stop}[end]()
        await asyncio.sleep(3)
        assert (len(world.batch.terminations), errors) == (1, [])


async def test_a_termination_does_not_wait_for_polls_that_fail() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.describe_errors = [THROTTLED] * 100
        await asyncio.sleep(60)
        world.objects.edit(uid, {"terminate": {"reason": "now"}})
        await asyncio.sleep(0.1)
        assert len(world.batch.terminations) == 1


async def test_a_slow_call_is_announced_before_its_answer() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.latency = 5.0
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(2)
        terminated = world.objects.status(uid).condition("Terminated")
        assert terminated is not None
        assert terminated.reason == "TerminationPending"
        assert world.objects.status(uid).termination is None, "nothing was accepted yet"
        await asyncio.sleep(10)
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_refusal_that_a_person_must_fix_is_shown_and_retried_slowly() -> None:
    denied = CallError(ErrorClass.DENIED, "not authorized to perform: batch:TerminateJob", "AccessDeniedException")
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.call_errors = [denied] * 2
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(240)
        stalled = world.objects.status(uid).condition("Stalled")
        assert stalled is not None
        assert stalled.reason == "AccessDenied"
        assert "batch:TerminateJob" in stalled.message
        assert len(world.batch.terminations) == 1
        await asyncio.sleep(500)
        assert len(world.batch.terminations) == 3
        assert world.objects.status(uid).condition("Stalled") is None
        assert world.objects.reasons(uid) == ["AccessDenied", "TerminationAccepted"]


async def test_an_object_deleted_while_its_call_is_in_flight_leaves_nothing_behind() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.latency = 2.0
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(0.5)
        del world.objects.bodies[uid]
        world.controller.objects.on_delete(uid)
        await asyncio.sleep(10)
        assert len(world.batch.terminations) == 1
        assert not world.controller.cache.jobs
