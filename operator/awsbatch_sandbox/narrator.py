"""Output of the demos: one line for each step, with the time at which it happened."""

import os
import queue
import shlex
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import click

from awsbatch_sandbox.cluster import Body, Cluster

MARGIN: Final = 9
"""Width of the time at the start of a line."""


class Narrator:
    """Writes to stdout: colours on a terminal that supports them (unless NO_COLOR is set), plain text elsewhere."""

    def __init__(self) -> None:
        self._began_at = time.monotonic()
        self._color = False if os.environ.get("NO_COLOR") else None

    @property
    def elapsed(self) -> float:
        """Seconds since the narrator was created."""
        return time.monotonic() - self._began_at

    def title(self, text: str) -> None:
        self._line(click.style(text, bold=True))

    def gap(self) -> None:
        self._line("")

    def progress(self, text: str) -> None:
        """Write a step that happens now."""
        self.at(self.elapsed, text)

    def at(self, seconds: float, text: str, *, good: bool = False) -> None:
        """Write a step that happened so many seconds after the start."""
        when = f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
        self._line(f"{click.style(when.rjust(MARGIN), fg='cyan')}  {click.style(text, fg='green' if good else None)}")

    def run(self, cluster: Cluster, *arguments: str) -> None:
        """Run a kubectl command and write the command and its output."""
        self.command("kubectl", *arguments)
        self.text(cluster.kubectl(*arguments))

    def feed(self, cluster: Cluster, document: str, *arguments: str) -> None:
        """Like `kubectl`, for a command that reads a document from stdin."""
        self.command("kubectl", *arguments, more=" <<EOF")
        self.text(f"{document.rstrip()}\nEOF")
        self.text(cluster.kubectl(*arguments, stdin=document))

    def command(self, *words: str, more: str = "") -> None:
        self._line(f"{click.style('$', dim=True)} {click.style(shlex.join(words) + more, bold=True)}")

    def text(self, text: str) -> None:
        self._line(text.rstrip("\n"))

    def _line(self, text: str) -> None:
        click.echo(text, color=self._color)


class Witness:
    """Sees each version of one object at the moment when the API server shows it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._name = name
        self._versions: queue.SimpleQueue[tuple[float, Body]] = queue.SimpleQueue()
        self._watch = cluster.watch(name)
        threading.Thread(target=self._see, name=f"watch {name}", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._watch.stop()

    def until(self, holds: Callable[[Body], Any], *, timeout: float, what: str) -> tuple[float, Body]:
        """The first version from here on of which `holds` is true, and when it was seen (epoch seconds).

        TimeoutError names the event that did not happen.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                seen_at, body = self._versions.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise TimeoutError(f"BatchJob {self._name}, not within {timeout:g} s: {what}") from None
            if holds(body):
                return seen_at, body

    def _see(self) -> None:
        for body in self._watch:
            self._versions.put((time.time(), body))
