"""A delaying, de-duplicating queue that is fair between groups."""

import asyncio
import contextlib
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SLACK: Final = 64
"""Entries that a heap may have beyond twice the number of delayed keys before it is rebuilt."""

_TURNS: Final = 10
"""Each tenth key of a group is one of its worst rank, so that better ones do not hold it up for ever."""

_NEVER: Final = float("inf")

_SHORTEST_SLEEP: Final = 0.001
"""Seconds. A timer may fire a little early; without a minimum, `wait` would then spin until the key is due."""


class Rank(IntEnum):
    """The order of keys within a group."""

    FIRST = 0
    NORMAL = 1
    LAST = 2


@dataclass(slots=True, eq=False)
class _Delayed:
    """A delayed key. Its entries in the heaps have its serial number, and once it was postponed, earlier times."""

    serial: int
    group: Hashable
    rank: Rank
    at: float
    early: float


class FairQueue(Generic[K]):
    """Contains each key at most once, ready or delayed.

    The queue serves groups with ready keys in turn, so a group waits for at most one key of each other group. Within a
    group keys come by rank, then in the order in which they became ready; each tenth is one of the worst rank. Every
    operation is O(log n). Times are seconds of `clock`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # The first group is the next one. No group in it is empty: each has its keys by rank.
        self._ring: OrderedDict[Hashable, tuple[OrderedDict[K, None], ...]] = OrderedDict()
        self._ready: dict[K, tuple[Hashable, Rank]] = {}
        # Keys that were taken from a group since it last joined the groups that take turns.
        self._taken: dict[Hashable, int] = {}
        # Heaps of (time, serial number, key). An entry counts only while `_delayed` has the same serial number.
        self._due: list[tuple[float, int, K]] = []
        self._early: list[tuple[float, int, K]] = []
        self._delayed: dict[K, _Delayed] = {}
        self._serial = itertools.count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready) + len(self._delayed)

    def __contains__(self, key: object) -> bool:
        return key in self._ready or key in self._delayed

    def add(self, key: K, group: Hashable, *, rank: Rank = Rank.NORMAL) -> None:
        """Make a key ready now.

        A key that is ready already keeps its group and its turn, except for a better rank.
        """
        self._update()
        self._delayed.pop(key, None)
        self._make_ready(key, group, rank)

    def add_at(
        self, key: K, group: Hashable, at: float, *, early: float | None = None, rank: Rank = Rank.NORMAL
    ) -> None:
        """Make a key ready at `at`, instead of when it was delayed to before. A key that is ready stays ready.

        From `early` on, `pop(early=True)` may return the key.
        """
        if at <= self._update():
            self.add(key, group, rank=rank)
            return
        if key in self._ready:
            return
        early = _NEVER if early is None else early
        delayed = self._delayed.get(key)
        if delayed is not None and delayed.at <= at and delayed.early <= early:
            # No new entries: to rebuild heaps that are full of outdated ones takes 0.2 s with 100,000 keys.
            delayed.group, delayed.rank, delayed.at, delayed.early = group, rank, at, early
            return
        serial = next(self._serial)
        self._delayed[key] = _Delayed(serial, group, rank, at, early)
        heapq.heappush(self._due, (at, serial, key))
        if early < _NEVER:
            heapq.heappush(self._early, (early, serial, key))
        if self._due[0][1] == serial:
            self._changed.set()
        if max(len(self._due), len(self._early)) > 2 * len(self._delayed) + _SLACK:
            self._compact()

    def discard(self, key: K) -> None:
        """Remove a key if the queue has it."""
        self._update()
        self._delayed.pop(key, None)
        if key in self._ready:
            group, rank = self._ready.pop(key)
            del self._ring[group][rank][key]
            if not any(self._ring[group]):
                del self._ring[group], self._taken[group]

    def clear(self) -> None:
        """Remove every key."""
        self._ring.clear()
        self._taken.clear()
        self._ready.clear()
        self._delayed.clear()
        self._due.clear()
        self._early.clear()

    def pop(self, *, early: bool = False) -> K | None:
        """Remove and return the next ready key, None if there is none.

        With `early`, then the delayed key whose `early` passed first.
        """
        now = self._update()
        if not self._ring:
            return self._pop_early(now) if early else None
        group, by_rank = next(iter(self._ring.items()))
        self._taken[group] += 1
        key, _ = next(filter(None, by_rank if self._taken[group] % _TURNS else reversed(by_rank))).popitem(last=False)
        del self._ready[key]
        if any(by_rank):
            self._ring.move_to_end(group)
        else:
            del self._ring[group], self._taken[group]
        return key

    def _pop_early(self, now: float) -> K | None:
        self._correct(self._early, early=True)
        if not self._early or self._early[0][0] > now:
            return None
        key = heapq.heappop(self._early)[2]
        del self._delayed[key]
        return key

    def next_due(self) -> float | None:
        """Return when the first delayed key becomes ready; None if no key is delayed."""
        self._update()
        self._correct(self._due, early=False)
        return self._due[0][0] if self._due else None

    def ready(self) -> int:
        """Return the number of ready keys."""
        self._update()
        return len(self._ready)

    async def wait(self) -> None:
        """Wait until a key is ready."""
        while True:
            self._update()
            if self._ready:
                return
            self._changed.clear()
            due = self.next_due()
            timeout = max(due - self._clock(), _SHORTEST_SLEEP) if due is not None else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._changed.wait()

    def _update(self) -> float:
        """Make the delayed keys ready that are due, and return the time."""
        now = self._clock()
        # No key is due before its entry: until the first entry is due, none needs to be corrected.
        if not self._due or self._due[0][0] > now:
            return now
        self._correct(self._due, early=False)
        while self._due and self._due[0][0] <= now:
            key = heapq.heappop(self._due)[2]
            delayed = self._delayed.pop(key)
            self._make_ready(key, delayed.group, delayed.rank)
            self._correct(self._due, early=False)
        self._correct(self._early, early=True)
        return now

    def _make_ready(self, key: K, group: Hashable, rank: Rank) -> None:
        if key in self._ready:
            group, before = self._ready[key]
            if before <= rank:
                return
            del self._ring[group][before][key]
        self._ready[key] = group, rank
        if group not in self._ring:
            self._ring[group], self._taken[group] = tuple(OrderedDict() for _ in Rank), 0
        self._ring[group][rank][key] = None
        self._changed.set()

    def _correct(self, heap: list[tuple[float, int, K]], *, early: bool) -> None:
        """Remove outdated entries from the top of the heap, and give those of postponed keys their times."""
        while heap:
            time, serial, key = heap[0]
            delayed = self._delayed.get(key)
            at = _NEVER if delayed is None or delayed.serial != serial else delayed.early if early else delayed.at
            if at == time:
                return
            if at == _NEVER:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (at, serial, key))

    def _compact(self) -> None:
        # Outdated entries stay in the heaps until they come to the top; rebuilding costs O(1) for each of them.
        self._due = [(one.at, one.serial, key) for key, one in self._delayed.items()]
        heapq.heapify(self._due)
        self._early = [(one.early, one.serial, key) for key, one in self._delayed.items() if one.early < _NEVER]
        heapq.heapify(self._early)
