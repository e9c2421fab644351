"""Group commit: who asks while a call is under way shares the next one. Knows nothing of AWS."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, TypeVar

G = TypeVar("G", bound=Hashable)
K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.35
"""Seconds from the start of one call of a busy group to the start of its next."""


@dataclass(slots=True)
class _Group(Generic[K, R]):
    waiting: dict[K, asyncio.Future[R]] = field(default_factory=dict)
    in_flight: dict[K, asyncio.Future[R]] = field(default_factory=dict)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a whole call's worth waits, or when the lane closes: nothing is gained by pausing."""


class Lane(Generic[G, K, R]):
    """Answers `ask(group, key)` by `send(group, keys)`, which must answer each key; keys of one group share calls.

    A group at rest sends at once. While its call is under way newcomers gather for the next, which starts no sooner
    than a pause after the last; the pause doubles as long as the group stays busy, so that a crowd goes out in few
    calls and a single request never waits. `admit` is awaited before the keys of a call are taken, so that those who
    come while it waits go along. One call of a group at a time, `at_once` calls of a place.
    """

    def __init__(
        self,
        send: Callable[[G, Sequence[K]], Awaitable[Mapping[K, R]]],
        *,
        admit: Callable[[G], Awaitable[None]],
        place: Callable[[G], Hashable],
        closed: R,
        most: int,
        at_once: int = 4,
        depth: Callable[[int], None],
    ) -> None:
        self._send, self._admit, self._place, self._depth = send, admit, place, depth
        self._closed, self._most, self._at_once = closed, most, at_once
        self._groups: dict[G, _Group[K, R]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots: dict[Hashable, asyncio.Semaphore] = {}
        self._waiting = 0
        self._closing = False

    async def ask(self, group: G, key: K) -> R:
        """The answer for `key`. Equal keys of a group share one; a cancelled caller disturbs neither call nor others.

        Raises what `send` raised. After close: the answer `closed`.
        """
        if self._closing:
            return self._closed
        queue = self._groups.get(group) or self._open(group)
        answer = queue.waiting.get(key) or queue.in_flight.get(key)
        if answer is None:
            answer = queue.waiting[key] = asyncio.get_running_loop().create_future()
            self._count(1)
            if len(queue.waiting) >= self._most:
                queue.hurry.set()
        return await asyncio.shield(answer)

    def stop(self) -> None:
        """From now on nothing is sent: who waits is answered `closed`. Calls under way get their answer."""
        self._closing = True
        for queue in self._groups.values():
            for future in queue.waiting.values():
                if not future.done():
                    future.set_result(self._closed)
            self._count(-len(queue.waiting))
            queue.waiting.clear()
            queue.hurry.set()

    async def close(self, within: float) -> None:
        """Send what waits, for at most so many seconds; then everybody left is answered `closed`."""
        self._closing = True
        for queue in self._groups.values():
            queue.hurry.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _open(self, group: G) -> _Group[K, R]:
        queue = self._groups[group] = _Group[K, R]()
        task = asyncio.create_task(self._serve(group, queue))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(group, queue, done))
        return queue

    async def _serve(self, group: G, queue: _Group[K, R]) -> None:
        slot = self._slots.setdefault(self._place(group), asyncio.Semaphore(self._at_once))
        pause = FIRST_PAUSE
        while queue.waiting:
            async with slot:
                await self._admit(group)
                resume_at = asyncio.get_running_loop().time() + pause
                await self._call(group, queue)
            await self._rest(queue, resume_at)
            pause = min(2 * pause, LONGEST_PAUSE)
        # No await since `waiting` was seen empty: whoever asks from here on opens the group anew.
        del self._groups[group]

    async def _call(self, group: G, queue: _Group[K, R]) -> None:
        keys = list(islice(queue.waiting, self._most))
        if not keys:
            return
        queue.in_flight = {key: queue.waiting.pop(key) for key in keys}
        self._count(-len(keys))
        answers = await self._send(group, keys)
        for key, future in queue.in_flight.items():
            if not future.done():
                future.set_result(answers[key])
        queue.in_flight = {}

    async def _rest(self, queue: _Group[K, R], until: float) -> None:
        if self._closing or len(queue.waiting) >= self._most:
            return
        queue.hurry.clear()
        try:
            async with asyncio.timeout_at(until):
                await queue.hurry.wait()
        except TimeoutError:
            return

    def _ended(self, group: G, queue: _Group[K, R], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._groups.get(group) is queue:
            del self._groups[group]
        self._count(-len(queue.waiting))
        error = None if task.cancelled() else task.exception()
        for future in (*queue.in_flight.values(), *queue.waiting.values()):
            if future.done():
                continue
            if error is None:
                future.set_result(self._closed)
            else:
                future.set_exception(error)

    def _count(self, more: int) -> None:
        if more:
            self._waiting += more
            self._depth(self._waiting)
