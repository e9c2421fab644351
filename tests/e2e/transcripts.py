"""Runs the console blocks of a page in a shell, and compares what the commands print with the page."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import partial

from awsbatch_sandbox.processes import wait_for
from integration.scenario import SOON

_STEP = re.compile(r"^\$ (.+?(?:<<EOF\n.*?^EOF)?)$\n(.*?)(?=^\$ |\Z)", flags=re.DOTALL | re.MULTILINE)
_CHANGING = re.compile(
    r"\b\d+s\b|\d{4}-\d\d-\d\dT[\d:.]+Z|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
)


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Yield each command of the console blocks, and what it prints; "" if the page does not show it."""
    for block in re.findall(r"^```console\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE):
        yield from _STEP.findall(block)


def comparable(text: str) -> set[str]:
    """Return the lines without ages, times, ids and the width of columns."""
    return {" ".join(line.split()) for line in _CHANGING.sub("*", text).splitlines()}


def run_step(command: str, printed: str, environment: Mapping[str, str]) -> None:
    """Run a command until it prints what the page shows: once, unless it only reads. AssertionError if it does not."""

    def run() -> set[str]:
        arguments = ["/bin/sh", "-euc", command]
        completed = subprocess.run(
            arguments,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=90,
            stdin=subprocess.DEVNULL,
        )
        assert completed.returncode == 0, f"{command}: {completed.stderr}"
        return comparable(completed.stdout)

    def prints(lines: set[str]) -> bool:
        return lines <= run()

    if command.startswith(("kubectl get", "kubectl describe")):
        try:
            wait_for(partial(prints, comparable(printed)), timeout=SOON, what=printed)
        except TimeoutError as late:
            raise AssertionError(sorted(run())) from late
    else:
        found, wanted = run(), comparable(printed)
        assert not wanted or found == wanted, f"{command}: {sorted(found)}"
