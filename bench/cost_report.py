"""The panels and the table of bench/cost.svg, and the same table for the terminal."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from bench.measures import Sync
from bench.plot import Line, Panel, Sheet
from bench.process import Memory
from bench.report import markdown
from bench.rounds import Steady

_HEAD: Final = (
    "live jobs",
    "CPU per poll",
    "memory per job *",
    "calls per 100 polls",
    "round",
    "sync per job",
    "sync / bare client",
)
_LEGEND: Final = (
    ("ours", "awsbatch-operator"),
    ("naive", "a naive operator: a Kopf timer for each object"),
    ("bare", "a bare client"),
    ("target", "target"),
)
_CPU_TARGETS: Final = ((1000.0, 1.0), (10_000.0, 5.0))
_MEMORY_TARGETS: Final = ((10_000.0, 150.0),)


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one subject with polls every 30 s."""

    sync: Sync
    rounds: Steady
    memory: Memory


@dataclass(frozen=True, slots=True)
class Point:
    """One number of live jobs. `load`: of the machine before it; `took`: seconds in all. `bare`: of the bare client."""

    objects: int
    control_plane: str
    load: float
    took: float
    bare: Sync
    ours: Cost
    naive: Cost | None

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Self:
        """The inverse of `asdict`."""
        naive = found["naive"]
        sides = {"bare": Sync(**found["bare"]), "ours": _cost(found["ours"]), "naive": naive and _cost(naive)}
        return cls(**{**found, **sides})


def _cost(found: Mapping[str, Any]) -> Cost:
    return Cost(Sync(**found["sync"]), Steady(**found["rounds"]), Memory(**found["memory"]))


def sheet(points: Sequence[Point], machine: Mapping[str, str], day: str) -> Sheet:
    def panel(title: str, value: Callable[[Cost], float], targets: Iterable[tuple[float, float]] = ()) -> Panel:
        naive = [(point.objects, value(point.naive)) for point in points if point.naive is not None]
        lines = (Line("naive", naive), Line("ours", [(point.objects, value(point.ours)) for point in points]))
        sizes = {point.objects for point in points}
        return Panel(title, "live jobs", lines, [target for target in targets if target[0] in sizes])

    syncs = panel("First sync, seconds from the start", lambda cost: cost.sync.last)
    bare = Line("bare", [(point.objects, point.bare.last) for point in points])
    return Sheet(
        "Cost against the number of live jobs",
        f"{day}; {machine['cores']} cores, {machine['processor']}; Kubernetes {points[-1].control_plane}; "
        "polls every 30 s, both axes logarithmic",
        _LEGEND,
        (
            panel("CPU, % of a core", lambda cost: cost.rounds.cpu_percent, _CPU_TARGETS),
            panel("Memory, resident, MiB", lambda cost: cost.memory.resident, _MEMORY_TARGETS),
            panel("AWS calls per minute", lambda cost: cost.rounds.calls_a_minute),
            Panel(syncs.title, syncs.across, (bare, *syncs.lines)),
        ),
        "awsbatch-operator: cost per job (* beyond those of the first row; round: each job is polled once)",
        [_HEAD, *rows(points)],
    )


def table(points: Sequence[Point]) -> str:
    return markdown([_HEAD, *rows(points)], numbers=range(len(_HEAD)))


def rows(points: Sequence[Point]) -> list[tuple[str, ...]]:
    """Cost of one job by number of jobs; a flat value does not grow from row to row."""
    return [_row(point, points[0]) for point in points]


def _row(point: Point, least: Point) -> tuple[str, ...]:
    ours, more = point.ours, point.objects - least.objects
    kilobytes = 1024 * (ours.memory.resident - least.ours.memory.resident) / more if more else math.nan
    return (
        f"{point.objects:,}",
        _text(1e6 * ours.rounds.cpu_a_poll, "µs"),
        _text(kilobytes, "KiB", 1),
        _text(100 * ours.rounds.calls_a_poll, "", 2),
        _text(ours.rounds.round_seconds, "s"),
        _text(1000 * (ours.sync.last - ours.sync.first) / point.objects, "ms", 2),
        f"{ours.sync.last / point.bare.last:.2f}x",
    )


def _text(value: float, unit: str, digits: int = 0) -> str:
    return "-" if math.isnan(value) else f"{value:,.{digits}f} {unit}".rstrip()
