"""Run as a program: the operator with a wall clock that is half a minute ahead from SIGUSR1 on.

What it knows gets old at once, and nothing else does: timers and signatures go by other clocks.
"""

import runpy
import signal
import time

AHEAD = 31
"""Seconds: longer than polled tags are fresh."""
_wall, _wall_ns = time.time, time.time_ns


def _jump(_number: int, _frame: object) -> None:
    time.time = lambda: _wall() + AHEAD
    time.time_ns = lambda: _wall_ns() + AHEAD * 1_000_000_000


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _jump)
    runpy.run_module("awsbatch_operator", run_name="__main__", alter_sys=True)
