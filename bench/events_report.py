"""The panels and the table of bench/events.svg, and the same table for the terminal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, get_args

from bench.measures import Latency
from bench.plot import Line, Panel, Sheet
from bench.report import markdown
from bench.rounds import JOBS_PER_DESCRIBE
from bench.scenarios import DEFAULT_DESCRIBE_RATE

Way = Literal["polls", "lists", "events", "both"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)
CALCULATED_FOR: Final = 100_000
TARGETS: Final = {"p50": 0.5, "p99": 2.0, "describes": 25.0}
"""Targets with events: seconds, and DescribeJobs a minute for AT jobs."""
AT: Final = 10_000
_OF_POLLS: Final = ("DescribeJobs", "ListJobs")
_POLL_EVERY, _POLL_WITH_EVENTS = 30.0, 300.0
_JOBS_PER_LIST: Final = 1000
_LISTS_A_DESCRIBE: Final = {"lists": 10, "both": 3}
"""Number of the list after which a job is also described."""
_BOTH: Final = ("calls", "latency")
_HEAD: Final = (
    "live jobs",
    "mode",
    "DescribeJobs",
    "ListJobs",
    "SQS, EventBridge",
    "shown after, p50",
    "p99",
    "max",
)
_LEGEND: Final = (
    ("polls", "polls"),
    ("lists", "lists"),
    ("events", "events"),
    ("both", "both: events and lists"),
    ("target", "target with events"),
)


@dataclass(frozen=True, slots=True)
class Point:
    """One number of live jobs in one way. None: not measured.

    `latency`: of so many `ends`, from the end of a job to its status; `load`: of the machine before. `calls`: a minute
    by operation, in a `window` of so many seconds.
    """

    objects: int
    way: Way
    control_plane: str
    load: float | None = None
    ends: int | None = None
    latency: Latency | None = None
    window: float | None = None
    calls: Mapping[str, float] | None = None
    calculated: Sequence[str] = ()
    """Names the figures that were calculated instead of measured."""

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Self:
        """The inverse of `asdict`."""
        return cls(**{**found, "latency": found["latency"] and Latency(**found["latency"])})

    @property
    def describes(self) -> float:
        return (self.calls or {}).get("DescribeJobs", 0.0)

    @property
    def lists(self) -> float:
        return (self.calls or {}).get("ListJobs", 0.0)

    @property
    def others(self) -> float:
        """Calls of SQS and EventBridge. Without a queue there are none; canary events of that region do not count."""
        if self.way in ("polls", "lists"):
            return 0.0
        return sum(count for name, count in (self.calls or {}).items() if name not in _OF_POLLS)

    def seconds(self, which: str) -> float:
        return 0.0 if self.latency is None else float(getattr(self.latency, which)) / 1000


def missed(points: Sequence[Point]) -> list[str]:
    """Return the figures that miss their target."""
    late = []
    for point in points:
        if point.way in ("polls", "lists"):
            continue
        found = {"p50": point.seconds("p50"), "p99": point.seconds("p99")}
        found |= {"describes": point.describes} if point.objects == AT else {}
        where = f"{point.way}, {point.objects:,} jobs"
        late += [
            f"{where}: {name} {found[name]:.2f} > {TARGETS[name]:g}" for name in found if found[name] > TARGETS[name]
        ]
    return late


def completed(points: Sequence[Point]) -> list[Point]:
    """The points, and for 100,000 jobs what was not measured, as it follows from intervals and budget."""
    found = list(points)
    by_events = [point for point in points if point.way in ("events", "both") and point.latency is not None]
    late = max(by_events, key=lambda point: point.objects).latency if by_events else None
    for way in WAYS:
        mine = [point for point in points if point.way == way and point.latency is not None]
        if not mine:
            continue
        most, others = max(mine, key=lambda point: point.objects), max(point.others for point in mine)
        if most.objects < CALCULATED_FOR:
            found.append(_calculated(most, others, late))
        elif most.calls is None:
            found[found.index(most)] = replace(most, calls=_calculated(most, others, late).calls, calculated=["calls"])
    return found


def _calculated(like: Point, others: float, late: Latency | None) -> Point:
    """An end is shown as late as the poll comes; with events as late as with the most jobs that were measured: `late`.

    `others`: calls of SQS and EventBridge a minute, which are the same for any number of jobs.
    """
    listed = CALCULATED_FOR / _JOBS_PER_LIST if like.way in _LISTS_A_DESCRIBE else 0.0
    described = CALCULATED_FOR / JOBS_PER_DESCRIBE / _LISTS_A_DESCRIBE.get(like.way, 1)
    by_events = like.way in ("events", "both")
    a_round = max(_POLL_WITH_EVENTS if by_events else _POLL_EVERY, (listed + described) / DEFAULT_DESCRIBE_RATE)
    calls = {"DescribeJobs": 60 * described / a_round, "ListJobs": 60 * listed / a_round, "ReceiveMessage": others}
    late = late if by_events else Latency(1000 * a_round / 2, 1000 * a_round, 1000 * a_round)
    return Point(CALCULATED_FOR, like.way, like.control_plane, latency=late, calls=calls, calculated=_BOTH)


def sheet(measured: Sequence[Point], machine: Mapping[str, str], day: str) -> Sheet:
    points = completed(measured)

    def panel(title: str, of: str, value: Callable[[Point], float], target: float | None = None) -> Panel:
        lines = []
        for way in WAYS:
            mine = sorted((point for point in points if point.way == way), key=lambda point: point.objects)
            pale = [point.objects for point in mine if of in point.calculated]
            lines.append(Line(way, [(point.objects, value(point)) for point in mine], pale))
        return Panel(title, "live jobs", lines, [] if target is None else [(AT, target)])

    return Sheet(
        "Calls that events and lists save, and time until the end of a job is shown",
        f"{day}; {machine['cores']} cores, {machine['processor']}; Kubernetes {points[0].control_plane}; "
        "default intervals, axes logarithmic; pale: calculated",
        _LEGEND,
        (
            panel("DescribeJobs per minute, steady", "calls", lambda point: point.describes, TARGETS["describes"]),
            panel(
                "All AWS calls per minute, steady", "calls", lambda point: point.describes + point.lists + point.others
            ),
            panel("End of job to status, p50, seconds", "latency", lambda point: point.seconds("p50"), TARGETS["p50"]),
            panel("End of job to status, p99, seconds", "latency", lambda point: point.seconds("p99"), TARGETS["p99"]),
        ),
        "Calls per minute while no job changes (steady); time from end of job to status (*: calculated)",
        [_HEAD, *rows(points)],
    )


def table(measured: Sequence[Point]) -> str:
    return markdown([_HEAD, *rows(completed(measured))], numbers=(0, *range(2, len(_HEAD))))


def rows(points: Sequence[Point]) -> list[tuple[str, ...]]:
    return [_row(point) for point in sorted(points, key=lambda point: (point.objects, WAYS.index(point.way)))]


def _row(point: Point) -> tuple[str, ...]:
    called, timed = ("*" if group in point.calculated else "" for group in _BOTH)
    counts = (point.describes, point.lists, point.others)
    calls = ("-",) * 3 if point.calls is None else (f"{one:.1f}{called}" for one in counts)
    times = ("p50", "p99", "most")
    late = ("-",) * 3 if point.latency is None else (f"{point.seconds(one):,.2f} s{timed}" for one in times)
    return f"{point.objects:,}", point.way, *calls, *late
