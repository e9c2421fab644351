"""Child processes that don't outlive their parent, and waiting for things with a deadline."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

_TETHER: Final = (
    "import ctypes, os, signal, sys;"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL);"
    "os.getppid() == int(sys.argv[1]) or os._exit(0);"
    "os.execv(sys.argv[2], sys.argv[2:])"
)
"""Requests that the kernel kill this process with its parent (PR_SET_PDEATHSIG, which execve keeps), then executes the
program unless the parent is already gone. Not a preexec_fn: those may deadlock in a parent with threads."""


class ProcessError(Exception):
    """A process did not start, did not answer in time or ended by itself; the message contains its last output."""


def popen(argv: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program whose output is appended to `log`."""
    tether = [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid())] if sys.platform == "linux" else []
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603  a program that this package chose
            [*tether, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


class Child:
    """A program with its output in a file; it can be started again after its end.

    It gets a session of its own, so that Ctrl-C reaches only the parent, which ends its children in order.
    """

    starter = staticmethod(popen)
    """Starts the process; the tests have another one, which takes less time."""

    def __init__(
        self, name: str, argv: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        program = shutil.which(str(argv[0]))
        if program is None:
            raise ProcessError(f"{name}: {argv[0]} is not an executable file")
        self.name, self.log = name, log
        self._argv = [program, *map(str, argv[1:])]
        self._environment = dict(os.environ if environment is None else environment)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.running:
            raise ProcessError(f"{self.name} runs already, as process {self.pid}")
        self._process = self.starter(self._argv, self.log, self._environment)

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._started.poll()

    def signal(self, number: signal.Signals) -> None:
        self._started.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; returns once it is gone."""
        self._started.kill()
        self._started.wait()

    def stop(self, timeout: float = 10.0) -> int:
        """Send SIGTERM, and SIGKILL after `timeout` seconds; return the exit code. A second call is harmless."""
        process = self._started
        process.terminate()
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def output(self) -> str:
        return self.log.read_text("utf-8", errors="replace") if self.log.exists() else ""

    def ready(self, answers: Callable[[], T | None], *, timeout: float) -> T:
        """Wait until `answers` returns a true value; return it. ProcessError if the program ends, or at the timeout."""

        def probe() -> T | None:
            if self.exit_code is not None:
                raise ProcessError(f"{self.name} ended with exit code {self.exit_code}:\n{self.last_words()}")
            return answers()

        try:
            return wait_for(probe, timeout=timeout, what=f"{self.name} answers")
        except TimeoutError as late:
            raise ProcessError(f"{late}:\n{self.last_words()}") from late

    def last_words(self, lines: int = 15) -> str:
        return "\n".join(self.output().splitlines()[-lines:]) or "(no output)"

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProcessError(f"{self.name} was never started")
        return self._process


_LONGEST_PAUSE: Final = 0.25


def wait_for(probe: Callable[[], T | None], *, timeout: float, what: str, every: float = 0.02) -> T:
    """Call `probe` until it returns a true value; return that. TimeoutError names `what`.

    `every`: seconds between the first calls. The pauses grow with the time that has passed, up to 0.25 s: what is
    waited for needs the processor more.
    """
    began = time.monotonic()
    while True:
        answer = probe()
        if answer:
            return answer
        waited = time.monotonic() - began
        if waited > timeout:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        time.sleep(max(every, min(waited / 8, _LONGEST_PAUSE)))


_PORTS: Final = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections: nobody takes one of these by chance before it is used."""


def free_port() -> int:
    """Return a loopback port that is free at this moment."""
    for port in random.sample(_PORTS, 50):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    with socket.create_server(("127.0.0.1", 0)) as listener:
        chosen: int = listener.getsockname()[1]
        return chosen
