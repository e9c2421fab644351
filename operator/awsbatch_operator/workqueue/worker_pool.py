"""A bounded number of slots for all groups, of which slow groups get only a part."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

G = TypeVar("G", bound=Hashable)


@dataclass(slots=True, eq=False)
class Slot:
    """The right to do one piece of work. `failed` makes the group slow until a later slot of it succeeds quickly."""

    started: float
    has_failed: bool = False

    def failed(self) -> None:
        self.has_failed = True


@dataclass(slots=True, eq=False)
class _Group:
    """State of one group. A slow group that is idle is like one that was never tried; the pool does not keep it.

    `running` has the oldest slot first.
    """

    slow: bool = True
    forgotten: bool = False
    waiters: deque[asyncio.Future[Slot]] = field(default_factory=deque)
    running: dict[Slot, None] = field(default_factory=dict)


class WorkerPool(Generic[G]):
    """At most `size` slots at once, in turn between the groups that wait.

    A group is slow if its last slot took more than `slow_after` seconds or was marked as failed, while one of its slots
    has been running for longer than that, and until its first slot has succeeded quickly. A slow group gets one slot,
    and at most a quarter of `size` slow groups (at least one) have slots. Other groups get up to `per_group`.
    """

    def __init__(self, size: int, *, per_group: int, slow_after: float = 2.0, clock: Callable[[], float]) -> None:
        self._size = size
        self._per_group = per_group
        self._slow_after = slow_after
        self._slow_groups = max(size // 4, 1)
        self._clock = clock
        self._groups: dict[G, _Group] = {}
        # Groups with waiters, the next one first; groups with slots.
        self._ring: OrderedDict[G, _Group] = OrderedDict()
        self._busy: dict[G, _Group] = {}
        self._running = 0

    def forget(self, group: G) -> None:
        """Drop what is known about a group: it counts as never tried."""
        if state := self._groups.get(group):
            state.slow = state.forgotten = True
            self._drop_if_idle(group, state)

    def mark_slow(self, group: G) -> None:
        """Make a group with a slot slow until a later slot of it succeeds quickly."""
        for slot in self._groups[group].running if group in self._groups else ():
            slot.failed()

    @asynccontextmanager
    async def slot(self, group: G) -> AsyncIterator[Slot]:
        """Wait in turn for a slot and hold it for the length of the context.

        An exception in the context does not mark the group as failed; only its duration counts.
        """
        slot = await self._acquire(group)
        slow: bool | None = None
        try:
            yield slot
            slow = slot.has_failed
        finally:
            if slot.has_failed or self._clock() - slot.started > self._slow_after:
                slow = True
            self._release(group, slot, slow=slow)

    async def _acquire(self, group: G) -> Slot:
        state = self._groups.setdefault(group, _Group())
        state.forgotten = False
        if not self._ring and self._running < self._size and self._may_start(state):
            return self._start(group, state)
        waiter: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        state.waiters.append(waiter)
        self._ring.setdefault(group, state)
        self._dispatch()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._release(group, waiter.result(), slow=None)
            elif waiter in state.waiters:
                state.waiters.remove(waiter)
                self._leave_ring_if_empty(group, state)
                self._drop_if_idle(group, state)
            raise

    def _release(self, group: G, slot: Slot, *, slow: bool | None) -> None:
        state = self._groups[group]
        del state.running[slot]
        self._running -= 1
        if not state.running:
            del self._busy[group]
        if slow is not None:
            state.slow = slow
        self._drop_if_idle(group, state)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._running < self._size and (found := self._next()):
            group, state = found
            waiter = state.waiters.popleft()
            if not waiter.cancelled():
                waiter.set_result(self._start(group, state))
                self._ring.move_to_end(group)
            self._leave_ring_if_empty(group, state)
            self._drop_if_idle(group, state)

    def _start(self, group: G, state: _Group) -> Slot:
        slot = Slot(self._clock())
        state.running[slot] = None
        self._busy[group] = state
        self._running += 1
        return slot

    def _next(self) -> tuple[G, _Group] | None:
        """Return the first group in turn that may have one more slot."""
        return next(((group, state) for group, state in self._ring.items() if self._may_start(state)), None)

    def _may_start(self, state: _Group) -> bool:
        if state.running:
            return len(state.running) < self._per_group and not self._is_slow(state)
        return not state.slow or sum(map(self._is_slow, self._busy.values())) < self._slow_groups

    def _is_slow(self, state: _Group) -> bool:
        oldest = next(iter(state.running), None)
        return state.slow or (oldest is not None and self._clock() - oldest.started > self._slow_after)

    def _leave_ring_if_empty(self, group: G, state: _Group) -> None:
        if not state.waiters:
            self._ring.pop(group, None)

    def _drop_if_idle(self, group: G, state: _Group) -> None:
        if not state.waiters and not state.running and (state.slow or state.forgotten):
            del self._groups[group]
