"""`python -m bench.cost`, or `make bench-cost`: what N live jobs cost, for several N, as bench/cost.svg."""

import asyncio
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from awsbatch_operator.domain.ports import LOOKS_PER_CALL
from bench import measures
from bench.command import control_plane_option, measured, sizes_of, teller
from bench.contenders import Contender, UsualWay, launched
from bench.cost_report import Cost, Point, sheet, table
from bench.course import DEFAULT_DESCRIBE_RATE, Course, Tell, lab_of
from bench.lab import Lab
from bench.plot import draw
from bench.process import load, machine, memory
from bench.rounds import settle, steady

LOOK_EVERY: Final = 30.0
"""Seconds; our default, and what the usual way is set to here."""
_HERE: Final = Path(__file__).parent


@click.command()
@click.option("--objects", "sizes", default="100,1000,3000,10000,30000", show_default=True, callback=sizes_of)
@control_plane_option
@click.option("--usual-up-to", default=3000, show_default=True, help="Largest number for the usual way; 0: never.")
@click.option("--quick", is_flag=True, help="Short windows: a smoke test, not a figure.")
@click.option("--redraw", is_flag=True, help="Measure nothing: draw the figures of the last run.")
@click.option(
    "--into",
    default=_HERE,
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder for cost.json and cost.svg. [default: bench]",
)
def main(sizes: list[int], control_plane: str, usual_up_to: int, *, quick: bool, redraw: bool, into: Path) -> None:
    """Measure CPU, memory, AWS calls and the first sync for each number of jobs; draw them."""
    if not redraw:
        measured(_measure(sorted(sizes), control_plane, usual_up_to, into / "cost.json", quick=quick))
    found = json.loads((into / "cost.json").read_text("utf-8"))
    points = [Point.read(one) for one in found["points"]]
    (into / "cost.svg").write_text(draw(sheet(points, found["machine"], found["day"])), encoding="utf-8")
    click.echo(table(points))


async def _measure(sizes: list[int], control_plane: str, usual_up_to: int, file: Path, *, quick: bool) -> None:
    points: list[dict[str, Any]] = []
    for size in sizes:
        course = Course(size, control_plane)
        point = await _point(course, usual=size <= usual_up_to, tell=teller(size), quick=quick)
        points.append(asdict(point))
        _save(points, file)


def _save(points: list[dict[str, Any]], file: Path) -> None:
    found = {"day": datetime.now(UTC).date().isoformat(), "machine": machine(), "points": points}
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


async def _point(course: Course, *, usual: bool, tell: Tell, quick: bool) -> Point:
    before, began = load(), time.monotonic()
    compared: Cost | None = None
    async with asyncio.timeout(600 + course.objects / 10):
        async with lab_of(course, tell) as (lab, version):
            found = await _cost(lab, lab.operator(), quick=quick)
            tell(f"ours: {_words(found)}")
            bare = await measures.bare_sync(lab)
            tell(f"bare client: first sync {bare.last:.2f} s")
        if usual:
            async with lab_of(course, tell) as (lab, _):
                compared = await _cost(lab, UsualWay(lab.world, look_every=LOOK_EVERY), each=True, quick=quick)
                tell(f"usual way: {_words(compared)}")
    return Point(course.objects, version, before, time.monotonic() - began, bare, found, compared)


async def _cost(lab: Lab, contender: Contender, *, each: bool = False, quick: bool) -> Cost:
    """One life: the first sync of fresh objects, a while to settle, a round that is measured."""
    # So many looks are more than the default budget lets through in 30 s: then it is the budget that makes the round.
    a_round = 5.0 if quick else max(LOOK_EVERY, lab.size / LOOKS_PER_CALL / DEFAULT_DESCRIBE_RATE)
    lab.world.batch.clear_calls()
    async with lab.kube.watch() as sightings:
        began = time.time()
        with launched(contender):
            await sightings.statuses(lab.size, timeout=lab.patience)
            sync = measures.sync_since(began, sightings)
            # Timers are spread by themselves; looks that share calls find their places within a round.
            await settle(lab, each=each, seconds=a_round / 3 if each else a_round)
            rounds = await steady(lab, contender, seconds=a_round)
            return Cost(sync, rounds, memory(contender.pid))


def _words(cost: Cost) -> str:
    rounds = cost.rounds
    return (
        f"first sync {cost.sync.last:.2f} s, {rounds.cpu_percent:.2f} % of a core, "
        f"{rounds.calls_a_minute:.0f} calls a minute, {cost.memory.resident:.0f} MiB"
    )


if __name__ == "__main__":
    main()
