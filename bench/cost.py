"""`python -m bench.cost`, or `make bench-cost`: the cost of N live jobs, for several N, as bench/cost.svg."""

import asyncio
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from bench import measures
from bench.command import control_plane_option, measured, progress_writer, sizes_of
from bench.cost_report import Cost, Point, sheet, table
from bench.harness import Harness
from bench.plot import draw
from bench.process import load, machine, memory
from bench.rounds import JOBS_PER_DESCRIBE, settle, steady
from bench.scenarios import DEFAULT_DESCRIBE_RATE, Progress, Scenario, harness_of
from bench.subjects import NaiveOperator, Subject, launched

POLL_EVERY: Final = 30.0
"""Seconds; the operator's default, and the interval of the naive operator here."""
_HERE: Final = Path(__file__).parent


@click.command()
@click.option("--objects", "sizes", default="100,1000,3000,10000,30000", show_default=True, callback=sizes_of)
@control_plane_option
@click.option("--naive-up-to", default=3000, show_default=True, help="Largest number for the naive operator; 0: never.")
@click.option("--quick", is_flag=True, help="Short windows: a smoke test, not a figure.")
@click.option("--redraw", is_flag=True, help="Measure nothing: draw the figures of the last run.")
@click.option(
    "--into",
    default=_HERE,
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder for cost.json and cost.svg. [default: bench]",
)
def main(sizes: list[int], control_plane: str, naive_up_to: int, *, quick: bool, redraw: bool, into: Path) -> None:
    """Measure CPU, memory, AWS calls and the first sync for each number of jobs; draw them."""
    if not redraw:
        measured(_measure(sorted(sizes), control_plane, naive_up_to, into / "cost.json", quick=quick))
    found = json.loads((into / "cost.json").read_text("utf-8"))
    points = [Point.read(one) for one in found["points"]]
    (into / "cost.svg").write_text(draw(sheet(points, found["machine"], found["day"])), encoding="utf-8")
    click.echo(table(points))


async def _measure(sizes: list[int], control_plane: str, naive_up_to: int, file: Path, *, quick: bool) -> None:
    points: list[dict[str, Any]] = []
    for size in sizes:
        scenario = Scenario(size, control_plane)
        point = await _point(scenario, naive=size <= naive_up_to, progress=progress_writer(size), quick=quick)
        points.append(asdict(point))
        _save(points, file)


def _save(points: list[dict[str, Any]], file: Path) -> None:
    found = {"day": datetime.now(UTC).date().isoformat(), "machine": machine(), "points": points}
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


async def _point(scenario: Scenario, *, naive: bool, progress: Progress, quick: bool) -> Point:
    before, began = load(), time.monotonic()
    compared: Cost | None = None
    async with asyncio.timeout(600 + scenario.objects / 10):
        async with harness_of(scenario, progress) as (harness, version):
            found = await _cost(harness, harness.operator(), quick=quick)
            progress(f"ours: {_words(found)}")
            bare = await measures.bare_sync(harness)
            progress(f"bare client: first sync {bare.last:.2f} s")
        if naive:
            async with harness_of(scenario, progress) as (harness, _):
                compared = await _cost(
                    harness, NaiveOperator(harness.world, poll_every=POLL_EVERY), each=True, quick=quick
                )
                progress(f"naive operator: {_words(compared)}")
    return Point(scenario.objects, version, before, time.monotonic() - began, bare, found, compared)


async def _cost(harness: Harness, subject: Subject, *, each: bool = False, quick: bool) -> Cost:
    """One run: the first sync of new objects, time to settle, a measured round."""
    # So many polls exceed the default budget for 30 s: then the budget determines the length of the round.
    a_round = 5.0 if quick else max(POLL_EVERY, harness.size / JOBS_PER_DESCRIBE / DEFAULT_DESCRIBE_RATE)
    harness.world.batch.clear_calls()
    async with harness.kube.watch() as sightings:
        began = time.time()
        with launched(subject):
            await sightings.statuses(harness.size, timeout=harness.patience)
            sync = measures.sync_since(began, sightings)
            # Timers are spread by themselves; polls that share calls need one round to spread.
            await settle(harness, each=each, seconds=a_round / 3 if each else a_round)
            rounds = await steady(harness, subject, seconds=a_round)
            return Cost(sync, rounds, memory(subject.pid))


def _words(cost: Cost) -> str:
    rounds = cost.rounds
    return (
        f"first sync {cost.sync.last:.2f} s, {rounds.cpu_percent:.2f} % of a core, "
        f"{rounds.calls_a_minute:.0f} calls a minute, {cost.memory.resident:.0f} MiB"
    )


if __name__ == "__main__":
    main()
