"""`python -m bench`, or `make bench`: measure, print one table, write JSON."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import click

from bench.command import control_plane_option, measured, sizes_of, teller
from bench.course import Course, Result, run
from bench.process import machine
from bench.report import table


@click.command()
@click.option("--objects", "sizes", default="1000,10000", show_default=True, callback=sizes_of, help="Numbers of jobs.")
@control_plane_option
@click.option("--json", "file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write figures.")
@click.option("--usual-up-to", default=1000, show_default=True, help="Largest number for the usual way; 0: never.")
@click.option("--quick", is_flag=True, help="Short windows, each measure once: a smoke test, not a figure.")
def main(sizes: list[int], control_plane: str, file: Path | None, usual_up_to: int, quick: bool) -> None:
    """Measure the operator against a bare client and the usual way, with so many live jobs."""
    courses = [_course(size, control_plane, quick=quick) for size in sizes]
    results = measured(_measure(courses, usual_up_to, file))
    click.echo(f"{', '.join(f'{what} {value}' for what, value in machine().items())}\n\n{table(results)}")


def _course(size: int, control_plane: str, *, quick: bool) -> Course:
    course = Course(size, control_plane, syncs=3 if size <= 1000 else 2)
    return replace(course, windows=(30.0, 10.0), syncs=1, singles=50, recoveries=1) if quick else course


async def _measure(courses: list[Course], usual_up_to: int, file: Path | None) -> list[Result]:
    results: list[Result] = []
    for course in courses:
        results.append(await run(course, usual=course.objects <= usual_up_to, tell=teller(course.objects)))
        if file is not None:
            _save(results, file)
    return results


def _save(results: list[Result], file: Path) -> None:
    """After each size anew: what was measured is not lost to what comes later."""
    found = {"machine": machine(), "results": [asdict(result) for result in results]}
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
