"""Processes of our own programs, forked from a server that has imported them: imports are most of the cost of a start.

They are processes as others are: with a pid, signals, an environment and an exit code of their own. The demos, the
image's tests and the tests of the command line start them as users do.
"""

import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final, cast

from awsbatch_sandbox.processes import popen

PROGRAMS: Final = ("awsbatch_sandbox.like_the_image", "awsbatch_sandbox.apiserver", "awsbatch_sandbox.batch")
_IMPORTED: Final = (
    "awsbatch_sandbox.like_the_image",
    *("awsbatch_operator.cli", "awsbatch_operator.config", "awsbatch_operator.manager"),
    *("awsbatch_sandbox.apiserver.server", "awsbatch_sandbox.certificates"),
    *("awsbatch_sandbox.batch.server", "awsbatch_sandbox.sts.server"),
)
_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([*_IMPORTED])
_DIE_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG


def start(argv: Sequence[str], log: Path, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Fork `python -m PROGRAM ...`; start all others as usual, and on other systems than Linux and under coverage all.

    coverage measures a process from its start on.
    """
    plain = sys.platform != "linux" or "COVERAGE_PROCESS_CONFIG" in os.environ
    if plain or argv[:2] != [sys.executable, "-m"] or argv[2] not in PROGRAMS:
        return popen(argv, log, environment)
    process = _CONTEXT.Process(target=_run, args=(argv[2:], str(log), dict(environment)))
    process.start()
    return cast("subprocess.Popen[bytes]", _Forked(process))


def _run(argv: Sequence[str], log: str, environment: Mapping[str, str]) -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [*argv]
    sys.modules.pop(argv[0], None)  # runpy warns of a module that is imported already
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


class _Forked:
    """The part of Popen that Child uses."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> Any:
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self.poll()
