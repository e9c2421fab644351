"""Follows objects: lists and watches again, whatever is cut or restarted meanwhile."""

from __future__ import annotations

import time

from kubectl_awsbatch import output
from kubectl_awsbatch.kubectl import KubectlError, error_of
from kubectl_awsbatch.states import key

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence
    from typing import Any

    from kubectl_awsbatch.kubectl import Kubectl

    Object = dict[str, Any]
    Key = tuple[str, str]

_LONGEST_WATCH = 300.0
"""Seconds after which the objects are listed anew: a watch may be unanswered because its connection is dead."""
_GAP = 2.0
"""Seconds after the start of a watch until the objects are listed again: it does not show earlier deletions."""
_RETRY_LASTING = 60.0
"""Seconds for which errors that usually last are taken for those of an API server that restarts."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0


class Timer:
    """A time limit; None is none."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self, most: float) -> float:
        return most if self._end is None else min(most, max(self._end - time.monotonic(), 0.0))

    @property
    def over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end


class ObjectFollower:
    """The current versions of some objects of one kind in one namespace, or in all with `kubectl.everywhere`."""

    def __init__(self, kubectl: Kubectl, kind: str, keys: Sequence[Key], timer: Timer, *, known: bool = True) -> None:
        """`known`: the cluster has answered already, so an error may be that of an API server that restarts."""
        self._kubectl, self._kind, self._keys, self._timer = kubectl, kind, list(keys), timer
        self._names = sorted({name for _, name in keys})
        self.objects: dict[Key, Object] = {}
        self._known, self._failing_since = known, 0.0

    def __iter__(self) -> Iterator[dict[Key, Object]]:
        """Yield the objects whenever they may have changed, at least each second; end when the time is over.

        They are listed once even if there is no time at all, as for `kubectl wait --timeout=0`.

        An object that is missing in the first answer, or later, does not exist.
        """
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                self._list()
                yield self.objects
                yield from self._watch()
            except KubectlError as error:
                self._retry_or_raise(error)
            lasted = time.monotonic() - began
            pause = _FIRST_PAUSE if lasted > _LONGEST_PAUSE else min(pause * 2, _LONGEST_PAUSE)
            yield from self._rest(pause - lasted)
            if self._timer.over:
                return

    def _retry_or_raise(self, error: KubectlError) -> None:
        """Raise the error if waiting will not help."""
        self._failing_since = self._failing_since or time.monotonic()
        lasting = error.kind != "unreachable" and time.monotonic() - self._failing_since > _RETRY_LASTING
        if lasting or not self._known or error.kind in ("no kubectl", "too old"):
            raise error
        output.note(f"{error.message}; trying again")

    def _list(self) -> None:
        one_namespace = len(self._names) <= 200 and not self._kubectl.everywhere
        found = self._kubectl.get(self._kind, self._names if one_namespace else ())
        self._known, self._failing_since = True, 0.0
        self.objects = {key(body): body for body in found if key(body)[1] in self._names}

    def _rest(self, seconds: float) -> Iterator[dict[Key, Object]]:
        end = time.monotonic() + self._timer.left(max(seconds, 0.0))
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            if self._known:
                yield self.objects

    def _watch(self) -> Iterator[dict[Key, Object]]:
        arguments = ["get", self._kind, "--watch", "--output-watch-events", "-o", "json", *self._kubectl.scope()]
        if len(self._names) == 1:
            arguments.append(f"--field-selector=metadata.name={self._names[0]}")
        with self._kubectl.start(*arguments) as process:
            try:
                yield from self._events(process)
            finally:
                process.kill()

    def _events(self, process: subprocess.Popen[bytes]) -> Iterator[dict[Key, Object]]:
        import os
        import select

        assert process.stdout
        assert process.stderr
        stream, decoder, began, listed_again = process.stdout.fileno(), EventDecoder(), time.monotonic(), False
        while time.monotonic() < began + _LONGEST_WATCH and not self._timer.over:
            if not listed_again and time.monotonic() > began + _GAP:
                self._list()
                listed_again = True
            if select.select([stream], [], [], self._timer.left(1.0))[0]:
                data = os.read(stream, 1 << 16)
                if not data:
                    message = process.stderr.read().decode(errors="replace")
                    if message.strip() and error_of(message).kind == "too old":
                        raise error_of(message)
                    return
                for event in decoder.feed(data):
                    self._apply(event)
            yield self.objects

    def _apply(self, event: Object) -> None:
        body = event.get("object") or {}
        if "metadata" not in body or key(body)[1] not in self._names:
            return
        body["metadata"].pop("managedFields", None)  # as `kubectl get`, which leaves them in watch events
        if event.get("type") == "DELETED":
            self.objects.pop(key(body), None)
        elif event.get("type") in ("ADDED", "MODIFIED"):
            self.objects[key(body)] = body


class EventDecoder:
    """Splits what `kubectl get --watch -o json` prints into values, on one line each or indented."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Object]:
        import json

        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._lines.append(line)
            if line.endswith(b"}") and not line.startswith(b" "):
                text, self._lines = b"\n".join(self._lines), []
                try:
                    value = json.loads(text)
                except ValueError:
                    continue  # the next list replaces what could not be read
                if isinstance(value, dict):
                    yield value
