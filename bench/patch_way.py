"""`python -m bench.patch_way`: how much of the package runs between a patch and TerminateJob's arrival at Batch.

One observed job, no policies, no poll in between. API server, Batch and operator are processes of their own.
"""

import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from awsbatch_sandbox.controlplane import ControlPlaneError
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import ProcessError, wait_for
from awsbatch_sandbox.world import World

Entry = tuple[float, int, str, int, str]
"""Time (seconds since the epoch), thread, file, line and name of a function that was called."""
_QUIET = 3.0
"""Seconds for the first poll's follow-ups to pass before the patch."""


@dataclass(frozen=True, slots=True)
class Way:
    """The call path: `functions` in the order of the first call (`file:line name`); `returns` to files left before."""

    files: tuple[str, ...]
    functions: tuple[str, ...]
    returns: int


def way_of(entries: Sequence[Entry]) -> Way:
    """Comprehensions, generator expressions and lambdas belong to the enclosing function."""
    files: dict[str, None] = {}
    functions: dict[str, None] = {}
    current, returns = "", 0
    for _, _, file, line, name in entries:
        if name.startswith("<"):
            continue
        functions.setdefault(f"{file}:{line} {name}")
        returns += file != current and file in files
        files.setdefault(file)
        current = file
    return Way(tuple(files), tuple(functions), returns)


@click.command()
@click.option("--list", "listed", is_flag=True, help="Print the functions in the order of their first call.")
def main(*, listed: bool) -> None:
    """Print how many files and functions a patch passes on its way to TerminateJob."""
    try:
        with World("embedded", grace=1.0) as world:
            way = _measure(world)
    except (ControlPlaneError, ProcessError, TimeoutError) as error:
        raise click.ClickException(str(error)) from error
    for function in way.functions if listed else ():
        click.echo(function)
    click.echo(f"files      {len(way.files):4}")
    click.echo(f"functions  {len(way.functions):4}")
    click.echo(f"returns    {way.returns:4}")


def _measure(world: World) -> Way:
    output = world.directory / "way.json"
    program = (sys.executable, "-m", "bench.profiled_operator", output)
    quiet = ("--poll-running=10m", "--poll-pending=10m")
    operator = OperatorProcess(world.environment, world.directory, quiet, program)
    job_id = world.seed("job")
    operator.start()
    try:
        world.cluster.wait_for("job", lambda status: status.get("phase") == "Running", timeout=30)
        time.sleep(_QUIET)
        operator.signal(signal.SIGUSR1)
        # One HTTP PATCH on a connection that is open: no time passes before it reaches the API server.
        began = time.time()
        world.cluster.terminate("job", "the way of one patch")
        arrived = float(wait_for(lambda: _arrival(world, job_id), timeout=30, what="TerminateJob arrives")["at"])
        operator.signal(signal.SIGUSR2)
        wait_for(output.exists, timeout=30, what="the recording is written")
    finally:
        operator.stop()
    entries: list[Entry] = json.loads(output.read_text("utf-8"))
    return way_of([entry for entry in entries if began <= entry[0] <= arrived])


def _arrival(world: World, job_id: str) -> dict[str, Any]:
    return next((one for one in world.batch.calls("TerminateJob") if job_id in one["job_ids"]), {})


if __name__ == "__main__":
    main()
