"""`python -m bench.profiled_operator FILE run ...`: the operator's command line with a profile hook in every thread.

SIGUSR1 restarts the recording, SIGUSR2 writes it to FILE as JSON: a list of [time, thread, file, line, name], one
entry for each call of a function of the package `awsbatch_operator` (a coroutine that is resumed counts as called).
Times are seconds since the epoch, files are relative to the package.
"""

import json
import signal
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import awsbatch_operator
from awsbatch_operator.cli import main

_PACKAGE: Final = f"{Path(awsbatch_operator.__file__).parent}/"


class Recorder:
    """The profile hook. It is installed from the start: before Python 3.12 it can't be added to a running thread."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._recording = False
        self._entries: list[tuple[float, int, CodeType]] = []

    def install(self) -> None:
        signal.signal(signal.SIGUSR1, self._start)
        signal.signal(signal.SIGUSR2, self._write)
        threading.setprofile(self._hook)
        sys.setprofile(self._hook)

    def _hook(self, frame: FrameType, event: str, _argument: Any) -> None:
        if self._recording and event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            self._entries.append((time.time(), threading.get_ident(), frame.f_code))

    def _start(self, _number: int, _frame: FrameType | None) -> None:
        self._entries = []
        self._recording = True

    def _write(self, _number: int, _frame: FrameType | None) -> None:
        self._recording = False
        entries = [
            (at, thread, code.co_filename.removeprefix(_PACKAGE), code.co_firstlineno, code.co_name)
            for at, thread, code in self._entries
        ]
        unfinished = self._output.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(entries), "utf-8")
        unfinished.rename(self._output)


if __name__ == "__main__":
    Recorder(Path(sys.argv.pop(1))).install()
    main()
