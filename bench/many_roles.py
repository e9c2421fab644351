"""`python -m bench.many_roles`, or `make bench-roles`: what the number of roles costs, each in a policy of its own.

Half of the policies name a role, each role is of one policy, and each policy selects two namespaces. Memory is the peak
of the first sync, and what is resident after a restart, once jobs were polled and terminated.
"""

import asyncio
from typing import Final

import click

from awsbatch_sandbox.operator_process import OperatorProcess
from bench import process
from bench.command import control_plane_option, measured, progress_writer, sizes_of
from bench.measures import latency, one_by_one
from bench.rounds import settle, steady
from bench.scenarios import Progress, Scenario, harness_of
from bench.subjects import launched, status_writes
from bench.tenants import Tenants

TARGETS: Final = {"MiB": 160, "threads": 64}
"""Targets for 10,000 jobs and 300 roles: MiB resident, and threads."""
SINGLES: Final = 100
HEAD: Final = (
    *("roles", "namespaces", "MiB resident", "first sync", "threads", "CPU of a core", "calls a round"),
    *("patch to TerminateJob p50", "p99", "series", "without the label role"),
)


@click.command()
@click.option("--roles", "counts", default="10,100,300", show_default=True, callback=sizes_of, help="Numbers of roles.")
@click.option("--objects", default=10_000, show_default=True, type=click.IntRange(min=100), help="Live jobs.")
@click.option(
    "--window", default=60.0, show_default=True, type=click.FloatRange(min=5), help="Seconds of steady polls."
)
@control_plane_option
def main(counts: list[int], objects: int, window: float, control_plane: str) -> None:
    """Measure memory, threads, CPU and latency of the operator, and count its series; exit with 1 above the targets."""
    rows = measured(_measure(counts, Scenario(objects, control_plane), window))
    click.echo(f"{', '.join(f'{what} {value}' for what, value in process.machine().items())}; {objects:,} jobs\n")
    for row in (HEAD, ["---"] * len(HEAD), *rows):
        click.echo(f"| {' | '.join(row)} |")
    over = [row for row in rows if float(row[2]) > TARGETS["MiB"] or int(row[4]) > TARGETS["threads"]]
    if over:
        raise SystemExit(1)


async def _measure(counts: list[int], scenario: Scenario, window: float) -> list[list[str]]:
    return [await _row(roles, scenario, window, progress_writer(scenario.objects)) for roles in counts]


async def _row(roles: int, scenario: Scenario, window: float, progress: Progress) -> list[str]:
    tenants = Tenants(2 * roles, 4 * roles)
    async with harness_of(scenario, progress, tenants) as (harness, _):
        operator = harness.operator()
        with launched(operator):
            await settle(harness, seconds=1)
            await _written(operator)
            peak = process.memory(operator.pid).peak
        progress(f"{roles} roles: first sync, {peak:.0f} MiB")
        harness.world.batch.clear_calls()
        with launched(operator):
            await settle(harness, seconds=15)
            rounds = await steady(harness, operator, seconds=window)
            arrived, _ = await one_by_one(harness, count=SINGLES, spacing=0.125)
            used, threads = process.memory(operator.pid), process.threads(operator.pid)
            series, merged = _series(operator)
        found = latency(arrived)
    return [
        *(f"{roles}", f"{4 * roles}", f"{used.resident:.0f}", f"{peak:.0f}", f"{threads}"),
        *(f"{rounds.cpu_percent:.1f} %", f"{rounds.calls_a_round:.0f}"),
        *(f"{found.p50:.0f} ms", f"{found.p99:.0f} ms", f"{series:,}", f"{merged:,}"),
    ]


async def _written(operator: OperatorProcess) -> None:
    """Wait until no status was written for a while."""
    before = -1.0
    while (now := status_writes(operator)) != before:
        before = now
        await asyncio.sleep(5)


def _series(operator: OperatorProcess) -> tuple[int, int]:
    """The number of series, and of those that are left without the label `role`."""
    series = [(name, labels) for name, samples in operator.metrics().items() for labels, _ in samples]
    return len(series), len({(name, frozenset((labels | {"role": ""}).items())) for name, labels in series})


if __name__ == "__main__":
    main()
