"""`python -m bench`, or `make bench`: measure, print one table, write JSON."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import click

from bench import with_policies
from bench.command import control_plane_option, measured, progress_writer, sizes_of
from bench.process import machine
from bench.report import table
from bench.scenarios import Result, Scenario, run
from bench.tenants import FEWEST_POLICIES, Tenants
from bench.with_policies import UnderPolicies


@click.command()
@click.option("--objects", "sizes", default="1000,10000", show_default=True, callback=sizes_of, help="Numbers of jobs.")
@control_plane_option
@click.option("--json", "file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write figures.")
@click.option("--naive-up-to", default=1000, show_default=True, help="Largest number for the naive operator; 0: never.")
@click.option(
    "--policies", default=20, show_default=True, type=click.IntRange(min=0), help="BatchAccessPolicies; 0: no."
)
@click.option("--namespaces", default=200, show_default=True, type=click.IntRange(min=2), help="Under the policies.")
@click.option("--quick", is_flag=True, help="Short windows, each measure once: a smoke test, not a figure.")
def main(
    sizes: list[int],
    control_plane: str,
    file: Path | None,
    naive_up_to: int,
    *,
    policies: int,
    namespaces: int,
    quick: bool,
) -> None:
    """Measure the operator, a bare client and a naive operator with so many live jobs; and under policies."""
    if policies and not FEWEST_POLICIES <= policies <= namespaces:
        raise click.BadParameter(f"give {FEWEST_POLICIES} policies at least, and a namespace for each")
    scenarios = [_scenario(size, control_plane, quick=quick) for size in sizes]
    tenants = Tenants(policies, namespaces) if policies else None
    results = measured(_measure(scenarios, naive_up_to, tenants, file))
    click.echo(f"{', '.join(f'{what} {value}' for what, value in machine().items())}\n\n{table(results)}")


def _scenario(size: int, control_plane: str, *, quick: bool) -> Scenario:
    scenario = Scenario(size, control_plane, syncs=3 if size <= 1000 else 2)
    return replace(scenario, windows=(40.0, 15.0), syncs=1, singles=50, recoveries=1) if quick else scenario


async def _measure(
    scenarios: list[Scenario], naive_up_to: int, tenants: Tenants | None, file: Path | None
) -> list[tuple[Result, UnderPolicies | None]]:
    results: list[tuple[Result, UnderPolicies | None]] = []
    for scenario in scenarios:
        progress = progress_writer(scenario.objects)
        found = await run(scenario, naive=scenario.objects <= naive_up_to, progress=progress)
        results.append((found, None if tenants is None else await with_policies.run(scenario, tenants, progress)))
        if file is not None:
            _save(results, file)
    return results


def _save(results: list[tuple[Result, UnderPolicies | None]], file: Path) -> None:
    """Write after each size: a later failure loses no figures."""
    pairs = [asdict(result) | {"with_policies": under and asdict(under)} for result, under in results]
    found = {"machine": machine(), "results": pairs}
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
