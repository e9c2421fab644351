"""The table that people read. It is Markdown, so that it can stand in bench/README.md as it is."""

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from awsbatch_operator.domain.ports import LOOKS_PER_CALL
from bench.course import AMPLE_RATE, SHORT_ROUND, Findings, Result
from bench.measures import BRISK, CALM, Mass, Single, Steady

_HEAD: Final = ("figure", "usual way", "ours", "target", "met?")
_SHORT: Final = f"looks every {SHORT_ROUND:.0f} s"
_DEFAULT: Final = "default looks"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `limit`: the greatest value that meets the target; None when the design sets none."""

    figure: str
    usual: float | None
    ours: float | None
    unit: str
    limit: float | None
    digits: int

    def cells(self) -> tuple[str, ...]:
        target = "" if self.limit is None else f"<= {self.limit:g}{self.unit}"
        return (self.figure, self._text(self.usual), self._text(self.ours), target, self._verdict())

    def _verdict(self) -> str:
        if self.limit is None or self.ours is None:
            return ""
        return "yes" if round(self.ours, self.digits) <= self.limit else "NO"

    def _text(self, value: float | None) -> str:
        return "-" if value is None else f"{value:,.{self.digits}f}{self.unit}"


class _Rows:
    """Collects the rows of one result: each a value that the findings of both contenders give."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self.ours = result.ours
        self.rows: list[Row] = []

    def add(
        self,
        figure: str,
        value: Callable[[Findings], float | None],
        unit: str = "",
        limit: float | None = None,
        digits: int = 1,
    ) -> None:
        usual = None if self._result.usual is None else value(self._result.usual)
        self.rows.append(Row(figure, usual, value(self._result.ours), unit, limit, digits))


def table(results: Sequence[Result]) -> str:
    """All figures of all sizes."""
    return "\n\n".join(f"{_title(result)}\n\n{_rendered(result)}" for result in results)


def _rendered(result: Result) -> str:
    return markdown([_HEAD, *(row.cells() for row in rows_of(result))], numbers=(1, 2, 3))


def rows_of(result: Result) -> list[Row]:
    found = _Rows(result)
    _add_syncs(found, result)
    _add_rounds(found, result.objects)
    _add_terminations(found, result.objects)
    return found.rows


def _title(result: Result) -> str:
    rate = f"`--describe-rate={result.describe_rate:g}`"
    return (
        f"**{result.objects:,} live jobs**, Kubernetes {result.control_plane}; {_SHORT} with {rate}; "
        f"ample budget: `--terminate-rate={AMPLE_RATE:g}`; "
        f"load of the machine before: {result.load:.2f}; took {result.took:.0f} s"
    )


def _add_syncs(found: _Rows, result: Result) -> None:
    bare = median(sync.last for sync in result.bare)
    found.add("first sync, from the start of the process", lambda one: median(s.last for s in one.syncs), " s", None, 2)
    found.add("... of it until the first status", lambda one: median(s.first for s in one.syncs), " s", None, 2)
    found.rows.append(Row("... the same statuses by a bare client", None, bare, " s", None, 2))
    found.add("first sync : bare client", lambda one: median(s.last for s in one.syncs) / bare, "x", 1.5, 2)


def _add_rounds(found: _Rows, objects: int) -> None:
    small, large = objects <= 1000, objects <= 10_000
    _add_round(found, _SHORT, objects, lambda one: one.short_rounds, 1.0 if small else None)
    limit = 1.0 if small else 5.0 if large else None
    _add_round(found, _DEFAULT, objects, lambda one: one.default_rounds, limit)
    found.add("memory, resident", lambda one: one.memory.resident, " MiB", 150.0 if large else None, 0)
    found.add("memory, proportional", lambda one: one.memory.proportional, " MiB", None, 0)
    found.add("memory, peak", lambda one: one.memory.peak, " MiB", None, 0)


def _add_round(
    found: _Rows, looks: str, objects: int, steady: Callable[[Findings], Steady | None], cpu_limit: float | None
) -> None:
    def of(value: Callable[[Steady], float]) -> Callable[[Findings], float | None]:
        return lambda one: None if (rounds := steady(one)) is None else value(rounds)

    found.add(f"CPU, steady, {looks}, of a core", of(lambda rounds: rounds.cpu_percent), " %", cpu_limit, 2)
    calls = float(math.ceil(objects / LOOKS_PER_CALL))
    found.add(f"AWS calls a round, {looks}", of(lambda rounds: rounds.calls_a_round), "", calls)
    found.add(f"length of a round, {looks}", of(lambda rounds: rounds.round_seconds), " s")
    found.add(f"AWS calls a minute, {looks}", of(lambda rounds: rounds.calls_a_minute))
    writes = f"Kubernetes writes a minute, {looks}"
    found.add(writes, of(lambda rounds: 60 * rounds.writes / rounds.seconds), "", 0.0)


def _add_terminations(found: _Rows, objects: int) -> None:
    small, large = objects <= 1000, objects <= 10_000
    limits = (20.0 if small else None, 100.0 if small else 250.0 if large else None)
    _add_single(found, f"{1 / CALM:.0f} patches/s to TerminateJob", lambda one: one.calm, limits)
    # More than the budget lets through: what waits here waits by design, so no target stands beside it.
    _add_single(found, f"{1 / BRISK:.0f} patches/s to TerminateJob", lambda one: one.brisk, (None, None))
    _add_mass(found, "one reason", lambda one: one.same_reason, 1.3, 20.0)
    _add_mass(found, "one reason", lambda one: one.half_same, None, None)
    _add_mass(found, "all different reasons", lambda one: one.different_reasons, None, None)
    _add_mass(found, "all different reasons, ample budget", lambda one: one.half_different, None, None)
    found.add("kill -9: start to what was stated meanwhile", lambda one: median(one.recoveries), " s", None, 2)


def _add_single(
    found: _Rows, what: str, single: Callable[[Findings], Single], limits: tuple[float | None, float | None]
) -> None:
    found.add(f"{what}, p50", lambda one: single(one).arrival.p50, " ms", limits[0])
    found.add(f"{what}, p99", lambda one: single(one).arrival.p99, " ms", limits[1])
    found.add(f"{what}, greatest", lambda one: single(one).arrival.most, " ms")
    found.add("... the API server's answer alone, p50", lambda one: single(one).answer.p50, " ms")
    found.add("... the API server's answer alone, p99", lambda one: single(one).answer.p99, " ms")


def _add_mass(
    found: _Rows, how: str, mass: Callable[[Findings], Mass | None], ratio: float | None, calls: float | None
) -> None:
    """No rows for what our way was not measured by."""
    ours = mass(found.ours)
    if ours is None:
        return

    def of(value: Callable[[Mass], float]) -> Callable[[Findings], float | None]:
        return lambda one: None if (measured := mass(one)) is None else value(measured)

    found.add(f"terminate {ours.count:,}, {how}: until the last call", of(lambda one: one.arrival), " s", None, 2)
    found.add("... the patches alone", of(lambda one: one.patches), " s", None, 2)
    found.add("... last call : patches", of(lambda one: one.ratio), "x", ratio, 2)
    found.add("... calls", of(lambda one: one.calls), "", calls, 0)


def markdown(lines: Sequence[Sequence[str]], *, numbers: Container[int]) -> str:
    """A table, its heading first; the columns that hold numbers are set to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]

    def ruled(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (width - 1) + ":" if column in numbers else "-" * width for column, width in enumerate(widths)]
    return "\n".join((ruled(lines[0]), ruled(rule), *(ruled(cells) for cells in lines[1:])))
