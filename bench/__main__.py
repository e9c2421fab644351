"""`python -m bench`, or `make bench`: measure, print one table, write JSON."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import click

from bench import ruled
from bench.command import control_plane_option, measured, sizes_of, teller
from bench.course import Course, Result, run
from bench.process import machine
from bench.report import table
from bench.ruled import Ruled
from bench.tenants import FEWEST_POLICIES, Tenants


@click.command()
@click.option("--objects", "sizes", default="1000,10000", show_default=True, callback=sizes_of, help="Numbers of jobs.")
@control_plane_option
@click.option("--json", "file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write figures.")
@click.option("--usual-up-to", default=1000, show_default=True, help="Largest number for the usual way; 0: never.")
@click.option(
    "--policies", default=20, show_default=True, type=click.IntRange(min=0), help="BatchAccessPolicies; 0: no."
)
@click.option("--namespaces", default=200, show_default=True, type=click.IntRange(min=2), help="Under the policies.")
@click.option("--quick", is_flag=True, help="Short windows, each measure once: a smoke test, not a figure.")
def main(
    sizes: list[int],
    control_plane: str,
    file: Path | None,
    usual_up_to: int,
    *,
    policies: int,
    namespaces: int,
    quick: bool,
) -> None:
    """Measure the operator against a bare client and the usual way, with so many live jobs; and under policies."""
    if policies and not FEWEST_POLICIES <= policies <= namespaces:
        raise click.BadParameter(f"give {FEWEST_POLICIES} policies at least, and a namespace for each")
    courses = [_course(size, control_plane, quick=quick) for size in sizes]
    tenants = Tenants(policies, namespaces) if policies else None
    results = measured(_measure(courses, usual_up_to, tenants, file))
    click.echo(f"{', '.join(f'{what} {value}' for what, value in machine().items())}\n\n{table(results)}")


def _course(size: int, control_plane: str, *, quick: bool) -> Course:
    course = Course(size, control_plane, syncs=3 if size <= 1000 else 2)
    return replace(course, windows=(40.0, 15.0), syncs=1, singles=50, recoveries=1) if quick else course


async def _measure(
    courses: list[Course], usual_up_to: int, tenants: Tenants | None, file: Path | None
) -> list[tuple[Result, Ruled | None]]:
    results: list[tuple[Result, Ruled | None]] = []
    for course in courses:
        tell = teller(course.objects)
        found = await run(course, usual=course.objects <= usual_up_to, tell=tell)
        results.append((found, None if tenants is None else await ruled.run(course, tenants, tell)))
        if file is not None:
            _save(results, file)
    return results


def _save(results: list[tuple[Result, Ruled | None]], file: Path) -> None:
    """After each size anew: what was measured is not lost to what comes later."""
    pairs = [asdict(result) | {"ruled": under and asdict(under)} for result, under in results]
    found = {"machine": machine(), "results": pairs}
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
