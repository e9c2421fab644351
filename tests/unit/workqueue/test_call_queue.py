"""Calls that can't share: groups in turn, few at once, and none for a caller that has gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from awsbatch_operator.workqueue.call_queue import CallQueue

pytestmark = pytest.mark.looptime(start=100)


class Calls:
    """Each call takes a second. `slots`: how many were entered."""

    def __init__(self, *, in_flight: int = 2) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.slots = 0
        self.granted = asyncio.Event()
        self.granted.set()
        self.queue = CallQueue(self.slot, in_flight=in_flight)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        await self.granted.wait()
        self.slots += 1
        yield

    async def run(self, group: str, name: str) -> str:
        async def call() -> str:
            self.began.append(name)
            await asyncio.sleep(1)
            self.ended.append(name)
            return name.upper()

        return await self.queue.run(group, call)

    def start(self, *names: str) -> list[asyncio.Task[str]]:
        """The first letter of a name is its group."""
        return [asyncio.ensure_future(self.run(name[0], name)) for name in names]


@asynccontextmanager
async def running(*, in_flight: int = 2) -> AsyncIterator[Calls]:
    async with asyncio.TaskGroup() as tasks:
        calls = Calls(in_flight=in_flight)
        run = tasks.create_task(calls.queue.coalescer.run(tasks))
        yield calls
        run.cancel()


async def test_each_call_has_its_own_answer_and_its_own_slot() -> None:
    async with running() as calls:
        assert await asyncio.gather(*calls.start("a1", "a2", "a3")) == ["A1", "A2", "A3"]
        assert calls.slots == 3


async def test_groups_take_turns() -> None:
    async with running(in_flight=1) as calls:
        tasks = calls.start("a1", "a2", "a3", "a4", "b1", "c1")
        await asyncio.gather(*tasks)
        assert calls.began == ["a1", "b1", "c1", "a2", "a3", "a4"]


async def test_so_many_are_under_way_at_once_and_no_more() -> None:
    async with running(in_flight=2) as calls:
        tasks = calls.start(*(f"a{n}" for n in range(6)))
        await asyncio.sleep(0.5)
        assert (len(calls.began), len(calls.queue)) == (2, 4)
        await asyncio.sleep(1)
        assert len(calls.began) == 4
        await asyncio.gather(*tasks)


async def test_a_call_whose_caller_has_gone_is_dropped_while_it_waits_and_goes_on_while_it_runs() -> None:
    async with running(in_flight=1) as calls:
        tasks = calls.start("a1", "a2", "a3")
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        tasks[1].cancel()
        assert await tasks[2] == "A3"
        assert calls.began == calls.ended == ["a1", "a3"]
        assert len(calls.queue) == 0


async def test_a_call_that_is_dropped_while_it_waits_for_its_slot_costs_nobody_a_turn() -> None:
    async with running(in_flight=1) as calls:
        calls.granted.clear()
        first, second = calls.start("a1", "b1")
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.sleep(0)
        calls.granted.set()
        assert await second == "B1"
        assert calls.slots == 1
