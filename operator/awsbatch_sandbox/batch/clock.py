"""Time of the simulator: the real clock plus an offset that tests move forward."""

import heapq
import itertools
import time
from collections.abc import Callable


class Clock:
    """Epoch time. `source` gives epoch seconds; by default the wall clock."""

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._offset_ms = 0

    def wall(self) -> float:
        """Epoch seconds without the offset: what a client's own clock shows."""
        return self._source()

    def now_ms(self) -> int:
        """Epoch milliseconds, the unit of every time in the Batch API."""
        return int(self._source() * 1000) + self._offset_ms

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"seconds must not be negative, got {seconds}: the clock only moves forward")
        self._offset_ms += int(seconds * 1000)


class Timers:
    """Due transitions, earliest first. Nothing runs by itself: readers of jobs settle them first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = itertools.count()

    def at(self, due_ms: int, action: Callable[[int], None]) -> None:
        """Run `action(due_ms)` once the clock has reached `due_ms`; the action checks that it still applies."""
        heapq.heappush(self._heap, (due_ms, next(self._order), action))

    def settle(self, now_ms: int) -> None:
        while self._heap and self._heap[0][0] <= now_ms:
            due_ms, _, action = heapq.heappop(self._heap)
            action(due_ms)
