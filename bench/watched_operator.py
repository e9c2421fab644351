"""`python -m bench.watched_operator FILE run ...`: the operator's command line, and what holds its event loop.

Each line of FILE is one callback that took more than 10 ms, as JSON: `at` (seconds since the epoch), `ms`, `cpu` (ms of
the main thread; the rest of the time it waited for a core, or for another thread that held the GIL), `what` ran, and
the lines `where` it was seen most often. `what` is "gc" for a collection of the oldest generation, in any thread.
"""

import asyncio
import gc
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

import awsbatch_sandbox.like_the_image  # noqa: F401  before the operator is imported
from awsbatch_operator.cli import main

HELD: Final = 0.01
"""Seconds."""
_SAMPLE_EVERY: Final = 0.004
_DEPTH: Final = 6


class Watchdog:
    def __init__(self, output: Path) -> None:
        self._output = output.open("w", encoding="utf-8", buffering=1)
        self._main = threading.get_ident()
        self._began = self._collecting = 0.0
        self._seen: Counter[str] = Counter()

    def install(self) -> None:
        run = asyncio.Handle._run  # noqa: SLF001  asyncio's own debug mode is too slow to measure with

        def timed(handle: asyncio.Handle) -> None:
            if threading.get_ident() != self._main:
                run(handle)
                return
            used, self._began = time.thread_time(), time.perf_counter()
            run(handle)
            seconds, self._began = time.perf_counter() - self._began, 0.0
            if seconds > HELD:
                self._report(_name(handle), seconds, cpu=1000 * (time.thread_time() - used))
            self._seen.clear()

        asyncio.Handle._run = timed  # type: ignore[assignment, method-assign]  # noqa: SLF001
        gc.callbacks.append(self._on_collection)
        threading.Thread(target=self._sample, daemon=True).start()

    def _on_collection(self, phase: str, info: dict[str, Any]) -> None:
        if info["generation"] < 2:
            return
        if phase == "start":
            self._collecting = time.perf_counter()
        else:
            self._report("gc", time.perf_counter() - self._collecting)

    def _sample(self) -> None:
        while True:
            time.sleep(_SAMPLE_EVERY)
            if self._began and time.perf_counter() - self._began > _SAMPLE_EVERY:
                frames = sys._current_frames()  # noqa: SLF001  the documented way
                self._seen[_lines(frames.get(self._main))] += 1

    def _report(self, what: str, seconds: float, **more: float) -> None:
        where = [lines for lines, _ in self._seen.most_common(2)]
        line = {"at": time.time(), "ms": 1000 * seconds, **more, "what": what, "where": where}
        self._output.write(json.dumps(line) + "\n")


def _name(handle: asyncio.Handle) -> str:
    callback: Any = handle._callback  # type: ignore[attr-defined]  # noqa: SLF001
    task = getattr(callback, "__self__", None)
    return str(getattr(task.get_coro() if isinstance(task, asyncio.Task) else callback, "__qualname__", callback))


def _lines(frame: FrameType | None) -> str:
    found: list[str] = []
    while frame is not None and len(found) < _DEPTH:
        found.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(found)


if __name__ == "__main__":
    Watchdog(Path(sys.argv.pop(1))).install()
    main()
