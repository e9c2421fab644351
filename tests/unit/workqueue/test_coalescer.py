"""Requests that come while a call is under way share the next one; a single request never waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from awsbatch_operator.workqueue.coalescer import FIRST_PAUSE, LONGEST_PAUSE, Coalescer, Dispatchers, Pacer
from awsbatch_operator.workqueue.fair_queue import FairQueue

pytestmark = pytest.mark.looptime(start=100)


class Sender:
    """Sends at most three keys at once, each call in half a second."""

    def __init__(self, *, in_flight: int = 2, most: int = 3) -> None:
        self.queue: FairQueue[str] = FairQueue(asyncio.get_running_loop().time)
        self.calls: list[tuple[float, tuple[str, ...]]] = []
        self.slots = 0
        self.granted = asyncio.Event()
        self.granted.set()
        self.failing = False
        self._most = most
        self.coalescer = Coalescer(
            wait=self.queue.wait, slot=self.slot, take=self.take, send=self.send, in_flight=in_flight
        )

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        await self.granted.wait()
        self.slots += 1
        try:
            yield
        finally:
            self.slots -= 1

    def take(self) -> tuple[str, ...] | None:
        keys = [key for _ in range(self._most) if (key := self.queue.pop()) is not None]
        return tuple(keys) or None

    async def send(self, keys: tuple[str, ...]) -> None:
        self.calls.append((asyncio.get_running_loop().time(), keys))
        await asyncio.sleep(0.5)
        if self.failing:
            raise RuntimeError("broken")


async def test_a_single_request_is_sent_at_once_and_a_crowd_in_full_calls() -> None:
    async with asyncio.TaskGroup() as tasks:
        sender = Sender()
        run = tasks.create_task(sender.coalescer.run(tasks))
        sender.queue.add("a", "ns")
        await asyncio.sleep(0.1)
        for key in "bcdefgh":
            sender.queue.add(key, "ns")
        await asyncio.sleep(3)
        assert [(round(at - 100, 1), keys) for at, keys in sender.calls] == [
            (0.0, ("a",)),
            (0.1, ("b", "c", "d")),
            (0.5, ("e", "f", "g")),
            (0.6, ("h",)),
        ]
        assert sender.slots == 0
        run.cancel()


async def test_keys_that_arrive_while_waiting_for_a_slot_join_the_call() -> None:
    async with asyncio.TaskGroup() as tasks:
        sender = Sender()
        run = tasks.create_task(sender.coalescer.run(tasks))
        sender.granted.clear()
        sender.queue.add("a", "ns")
        await asyncio.sleep(1)
        sender.queue.add("b", "ns")
        sender.queue.discard("a")
        sender.granted.set()
        await asyncio.sleep(1)
        assert [keys for _, keys in sender.calls] == [("b",)]
        run.cancel()


async def test_a_slot_is_given_back_when_nothing_is_left_to_send() -> None:
    async with asyncio.TaskGroup() as tasks:
        sender = Sender(in_flight=1)
        run = tasks.create_task(sender.coalescer.run(tasks))
        sender.granted.clear()
        sender.queue.add("a", "ns")
        await asyncio.sleep(1)
        sender.queue.discard("a")
        sender.granted.set()
        await asyncio.sleep(1)
        assert (sender.calls, sender.slots) == ([], 0)
        sender.queue.add("b", "ns")
        await asyncio.sleep(1)
        assert len(sender.calls) == 1
        run.cancel()


async def test_an_error_in_a_call_ends_the_whole() -> None:
    async def fail() -> None:
        async with asyncio.TaskGroup() as tasks:
            sender = Sender()
            sender.failing = True
            tasks.create_task(sender.coalescer.run(tasks))
            sender.queue.add("a", "ns")

    with pytest.raises(ExceptionGroup) as caught:
        await fail()
    assert caught.group_contains(RuntimeError)


async def test_calls_under_way_go_on_when_the_dispatch_is_cancelled() -> None:
    async with asyncio.TaskGroup() as tasks:
        sender = Sender()
        run = tasks.create_task(sender.coalescer.run(tasks))
        sender.queue.add("a", "ns")
        await asyncio.sleep(0.1)
        run.cancel()
        assert not sender.coalescer.idle
        await sender.coalescer.drained()
        assert asyncio.get_running_loop().time() == pytest.approx(100.5)
        assert (sender.coalescer.idle, sender.slots) == (True, 0)


def _dispatchers() -> Dispatchers[str, Sender]:
    return Dispatchers(lambda _: Sender())


async def test_a_dispatcher_runs_whether_it_is_new_before_or_after_the_start_and_until_the_stop() -> None:
    dispatchers = _dispatchers()
    dispatchers.ensure("before").queue.add("a", "ns")
    async with asyncio.TaskGroup() as tasks:
        dispatchers.start(tasks)
        dispatchers.ensure("after").queue.add("b", "ns")
        await asyncio.sleep(0.1)
        dispatchers.stop()
        for sender in (*dispatchers.values(), dispatchers.ensure("stopped")):
            sender.queue.add("c", "ns")
    # The loops have ended, or the task group would not: nothing but the calls in flight was awaited.
    assert asyncio.get_running_loop().time() == pytest.approx(100.5)
    assert {target: [keys for _, keys in sender.calls] for target, sender in dispatchers.items()} == {
        "before": [("a",)],
        "after": [("b",)],
        "stopped": [],
    }


async def test_an_unused_target_is_dropped_unless_a_call_is_in_flight() -> None:
    dispatchers = _dispatchers()
    async with asyncio.TaskGroup() as tasks:
        dispatchers.start(tasks)
        idle, _ = dispatchers.ensure("idle"), dispatchers.ensure("used")
        dispatchers.ensure("busy").queue.add("a", "ns")
        await asyncio.sleep(0.1)
        dispatchers.prune({"used"})
        assert list(dispatchers) == ["used", "busy"]
        idle.queue.add("b", "ns")
        await dispatchers.drained()
        dispatchers.prune(())
        assert (list(dispatchers), idle.calls) == ([], [])
        # No loop is left that the group would wait for.


async def test_a_target_may_become_known_while_the_calls_in_flight_end() -> None:
    dispatchers = _dispatchers()
    async with asyncio.TaskGroup() as tasks:
        dispatchers.start(tasks)
        dispatchers.ensure("one").queue.add("a", "ns")
        await asyncio.sleep(0.1)
        dispatchers.stop()
        drained = tasks.create_task(dispatchers.drained())
        await asyncio.sleep(0.1)
        dispatchers.ensure("two")
        await drained
    assert asyncio.get_running_loop().time() == pytest.approx(100.5)


def test_a_busy_key_waits_longer_and_longer_and_an_idle_one_not_at_all() -> None:
    now = 10.0
    pacer: Pacer[str] = Pacer(lambda: now)
    assert pacer.next_start("a") < now
    pauses = []
    for _ in range(7):
        pacer.started("a")
        pauses.append(pacer.next_start("a") - now)
        now = pacer.next_start("a")
    assert pauses == pytest.approx([FIRST_PAUSE * 2**n for n in range(5)] + [LONGEST_PAUSE] * 2)
    assert pacer.next_start("b") < now
    now += 2 * LONGEST_PAUSE + 0.01
    pacer.started("a")
    assert pacer.next_start("a") - now == pytest.approx(FIRST_PAUSE)


def test_keys_that_rest_are_forgotten() -> None:
    now = 0.0
    pacer: Pacer[int] = Pacer(lambda: now)
    for key in range(5_000):
        now += 0.01
        pacer.started(key)
    assert len(pacer._busy) <= 1_001
