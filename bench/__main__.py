"""`python -m bench`, or `make bench`: measure, print one table, write JSON."""

import asyncio
import json
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import click

from awsbatch_sandbox.controlplane import CHOICES, ControlPlaneError
from awsbatch_sandbox.processes import ProcessError
from bench.course import Course, Result, Tell, run
from bench.process import machine
from bench.report import table


def _sizes(_context: click.Context, _option: click.Parameter, value: str) -> list[int]:
    try:
        sizes = [int(one) for one in value.split(",")]
    except ValueError:
        raise click.BadParameter("give whole numbers, such as 1000,10000") from None
    if min(sizes) < 10:
        raise click.BadParameter("give numbers from 10 on")
    return sizes


@click.command()
@click.option("--objects", "sizes", default="1000,10000", show_default=True, callback=_sizes, help="Numbers of jobs.")
@click.option(
    "--control-plane",
    type=click.Choice(CHOICES),
    default="auto",
    show_default=True,
    help="auto: envtest when KUBEBUILDER_ASSETS is set, else embedded.",
)
@click.option("--json", "file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write figures.")
@click.option("--usual-up-to", default=1000, show_default=True, help="Largest number for the usual way; 0: never.")
@click.option("--quick", is_flag=True, help="Short windows, each measure once: a smoke test, not a figure.")
def main(sizes: list[int], control_plane: str, file: Path | None, usual_up_to: int, quick: bool) -> None:
    """Measure the operator against a bare client and the usual way, with so many live jobs."""
    if sys.platform != "linux":
        raise click.ClickException("the figures come from /proc: run it on Linux")
    courses = [_course(size, control_plane, quick=quick) for size in sizes]
    try:
        results = asyncio.run(_measure(courses, usual_up_to, file))
    except (ControlPlaneError, ProcessError, TimeoutError) as error:
        raise click.ClickException(str(error)) from error
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise click.Abort from None
    click.echo(f"{', '.join(f'{what} {value}' for what, value in machine().items())}\n\n{table(results)}")


def _course(size: int, control_plane: str, *, quick: bool) -> Course:
    course = Course(size, control_plane, syncs=3 if size <= 1000 else 2)
    return replace(course, windows=(30.0, 10.0), syncs=1, singles=50, recoveries=1) if quick else course


async def _measure(courses: list[Course], usual_up_to: int, file: Path | None) -> list[Result]:
    task = asyncio.current_task()
    assert task is not None
    # Its processes and files go with it, however it ends.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    results: list[Result] = []
    for course in courses:
        results.append(await run(course, usual=course.objects <= usual_up_to, tell=_teller(course.objects)))
        if file is not None:
            _save(results, file)
    return results


def _save(results: list[Result], file: Path) -> None:
    """After each size anew: what was measured is not lost to what comes later."""
    found = {"machine": machine(), "results": [asdict(result) for result in results]}
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _teller(objects: int) -> Tell:
    began = time.monotonic()
    return lambda text: click.echo(f"{time.monotonic() - began:6.1f} s  N={objects:,}  {text}", err=True)


if __name__ == "__main__":
    main()
