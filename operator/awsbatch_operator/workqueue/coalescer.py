"""Combines waiting requests into few calls: a dispatch loop for each target, and the pace of calls to share."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, Generic, Protocol, TypeVar

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.35
"""Seconds from the start of a call to the start of the next with the same key, while that key stays busy."""

B = TypeVar("B")
K = TypeVar("K", bound=Hashable)


class Pacer(Generic[K]):
    """Paces the calls of a key. An idle key starts at once; the delay of a busy key grows.

    While it waits, more requests arrive and share the next call, so that many requests need few calls.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._busy: dict[K, tuple[float, float]] = {}

    def next_start(self, key: K) -> float:
        """Clock time; in the past if a call may start now."""
        return self._busy[key][0] if key in self._busy else float("-inf")

    def start(self, key: K) -> float | None:
        """Start a call of the key, which then counts as busy, or return the clock time at which it may start."""
        at, _ = self._busy.get(key, (float("-inf"), 0.0))
        if self._clock() < at:
            return at
        self.started(key)
        return None

    def started(self, key: K) -> None:
        now = self._clock()
        at, pause = self._busy.get(key, (float("-inf"), 0.0))
        # A key without calls for longer than its pause is idle again.
        pause = min(2 * pause, LONGEST_PAUSE) if now < at + pause else FIRST_PAUSE
        self._busy[key] = now + pause, pause
        if len(self._busy) > 1_000:
            self._busy = {busy: times for busy, times in self._busy.items() if now < sum(times)}


class Coalescer(Generic[B]):
    """Waits for work, then for a slot (budget and thread), then forms a batch and sends it in a task of its own.

    The batch is formed only once the slot is free: it contains what arrived during the wait. At most `in_flight`
    calls are in flight.
    """

    def __init__(
        self,
        *,
        wait: Callable[[], Awaitable[None]],
        slot: Callable[[], AbstractAsyncContextManager[object]],
        take: Callable[[], B | None],
        send: Callable[[B], Awaitable[None]],
        in_flight: int,
    ) -> None:
        self._wait, self._slot, self._take, self._send = wait, slot, take, send
        self._free = asyncio.Semaphore(in_flight)
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        return not self._calls

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Dispatch until cancelled. Calls are tasks of the group: an error in one of them ends the whole."""
        while True:
            await self._wait()
            await self._free.acquire()
            async with AsyncExitStack() as stack:
                stack.callback(self._free.release)
                await stack.enter_async_context(self._slot())
                batch = self._take()
                if batch is None:
                    continue
                call = tasks.create_task(self._call(batch, stack.pop_all()))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)

    async def _call(self, batch: B, stack: AsyncExitStack) -> None:
        async with stack:
            await self._send(batch)

    async def drained(self) -> None:
        while self._calls:
            await asyncio.wait(self._calls)


class Dispatcher(Protocol):
    """Fills the calls of one target."""

    @property
    def coalescer(self) -> Coalescer[Any]: ...


D = TypeVar("D", bound=Dispatcher)


class Dispatchers(dict[K, D]):
    """Dispatchers by target. Their loops run from `start` to `stop`."""

    def __init__(self, new: Callable[[K], D]) -> None:
        super().__init__()
        self._new = new
        self._tasks: asyncio.TaskGroup | None = None
        self._loops: dict[K, asyncio.Task[None]] = {}

    def ensure(self, target: K) -> D:
        """Return the target's dispatcher, a new one if it has none."""
        if target not in self:
            self[target] = self._new(target)
            if self._tasks is not None:
                self._loops[target] = self._tasks.create_task(self[target].coalescer.run(self._tasks))
        return self[target]

    def start(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        for target, dispatcher in self.items():
            self._loops[target] = tasks.create_task(dispatcher.coalescer.run(tasks))

    def stop(self) -> None:
        """Start no more calls; those in flight continue."""
        self._tasks = None
        while self._loops:
            self._loops.popitem()[1].cancel()

    def prune(self, used: Container[K]) -> None:
        """Drop the other targets, except for those with a call in flight."""
        for target in [target for target, one in self.items() if target not in used and one.coalescer.idle]:
            del self[target]
            if target in self._loops:
                self._loops.pop(target).cancel()

    async def drained(self) -> None:
        """Wait until no call is in flight."""
        for dispatcher in list(self.values()):
            await dispatcher.coalescer.drained()
