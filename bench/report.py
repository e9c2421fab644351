"""The table of results in Markdown, for bench/README.md."""

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.measures import BRISK, CALM, Mass, Single, Sync
from bench.rounds import JOBS_PER_DESCRIBE, Steady
from bench.scenarios import AMPLE_RATE, SHORT_ROUND, Findings, Result
from bench.with_policies import UnderPolicies

_HEAD: Final = ("figure", "naive", "ours", "under policies", "target", "met?")
_SHORT: Final = f"polls every {SHORT_ROUND:.0f} s"
_DEFAULT: Final = "default polls"
_REPORTED_WITHIN: Final = 2.0
"""Seconds from an edit of a policy, or of a namespace's labels, until its objects are reconciled."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `limit`: the greatest value that meets the target; None when the design sets none.

    `with_policies` is ours under policies; `with_policies_limit` where its target is another.
    """

    figure: str
    naive: float | None
    ours: float | None
    with_policies: float | None
    unit: str
    limit: float | None
    digits: int
    with_policies_limit: float | None = None

    def cells(self) -> tuple[str, ...]:
        limits = [f"<= {limit:g}{self.unit}" for limit in self._limits() if limit is not None]
        values = (self.naive, self.ours, self.with_policies)
        return (self.figure, *map(self._text, values), ", ".join(dict.fromkeys(limits)), self._outcome())

    def _limits(self) -> tuple[float | None, float | None]:
        """Without policies, and under some."""
        return self.limit, self.limit if self.with_policies_limit is None else self.with_policies_limit

    def _outcome(self) -> str:
        """Return the outcome, or both where they differ."""
        judged = zip((self.ours, self.with_policies), self._limits(), strict=True)
        outcomes = [
            "yes" if round(value, self.digits) <= limit else "NO"
            for value, limit in judged
            if value is not None and limit is not None
        ]
        return ", ".join(dict.fromkeys(outcomes))

    def _text(self, value: float | None) -> str:
        return "-" if value is None else f"{value:,.{self.digits}f}{self.unit}"


class _Rows:
    """Collects the rows of one result: each a value from the findings of all subjects."""

    def __init__(self, result: Result, with_policies: UnderPolicies | None) -> None:
        self._naive, self.ours = result.naive, result.ours
        self.with_policies = None if with_policies is None else with_policies.ours
        self.rows: list[Row] = []

    def add(
        self,
        figure: str,
        value: Callable[[Findings], float | None],
        unit: str = "",
        limit: float | None = None,
        digits: int = 1,
        *,
        with_policies_limit: float | None = None,
    ) -> None:
        naive, ours, with_policies = (
            None if one is None else value(one) for one in (self._naive, self.ours, self.with_policies)
        )
        self.rows.append(Row(figure, naive, ours, with_policies, unit, limit, digits, with_policies_limit))

    def add_with_policies(
        self, figure: str, value: float, unit: str = "", limit: float | None = None, digits: int = 2
    ) -> None:
        """A row that exists under policies only."""
        self.rows.append(Row(figure, None, None, value, unit, limit, digits))


def table(results: Sequence[tuple[Result, UnderPolicies | None]]) -> str:
    """All figures of all sizes."""
    return "\n\n".join(f"{_title(*both)}\n\n{_rendered(*both)}" for both in results)


def _rendered(result: Result, with_policies: UnderPolicies | None) -> str:
    return markdown([_HEAD, *(row.cells() for row in rows_of(result, with_policies))], numbers=(1, 2, 3, 4))


def rows_of(result: Result, with_policies: UnderPolicies | None = None) -> list[Row]:
    found = _Rows(result, with_policies)
    _add_syncs(found, result, with_policies)
    _add_rounds(found, result.objects)
    _add_terminations(found, result.objects)
    if with_policies is not None:
        _add_policies(found, with_policies)
    return found.rows


def _title(result: Result, with_policies: UnderPolicies | None) -> str:
    rate = f"`--describe-rate={result.describe_rate:g}`"
    title = (
        f"**{result.objects:,} live jobs**, Kubernetes {result.control_plane}; {_SHORT} with {rate}; "
        f"ample budget: `--terminate-rate={AMPLE_RATE:g}`; "
        f"load of the machine before: {result.load:.2f}; took {result.took:.0f} s"
    )
    if with_policies is None:
        return title
    poll_targets = len(with_policies.ours.short_rounds.shares)
    return (
        f"{title}; {with_policies.policies} policies, {with_policies.namespaces} namespaces and {poll_targets} "
        f"poll targets in {with_policies.took:.0f} s more, after a load of {with_policies.load:.2f}"
    )


def _add_syncs(found: _Rows, result: Result, with_policies: UnderPolicies | None) -> None:
    bare = _written_in(result.bare)
    with_policies_bare = None if with_policies is None else _written_in(with_policies.bare)
    found.add("first sync, from the start of the process", lambda one: _last(one.syncs), " s", None, 2)
    found.add("... of it until the first status", lambda one: median(s.first for s in one.syncs), " s", None, 2)
    title = "... the same statuses by a bare client, from the first status on"
    found.rows.append(Row(title, None, bare, with_policies_bare, " s", None, 2))
    ratios = (
        None if result.naive is None else _written_in(result.naive.syncs) / bare,
        _written_in(result.ours.syncs) / bare,
        None if with_policies is None else _written_in(with_policies.ours.syncs) / _written_in(with_policies.bare),
    )
    found.rows.append(Row("first sync : bare client, from the first status on", *ratios, "x", 1.3, 2))


def _last(syncs: Sequence[Sync]) -> float:
    return median(sync.last for sync in syncs)


def _written_in(syncs: Sequence[Sync]) -> float:
    return median(sync.last - sync.first for sync in syncs)


def _add_rounds(found: _Rows, objects: int) -> None:
    small, large = objects <= 1000, objects <= 10_000
    _add_round(found, _SHORT, objects, lambda one: one.short_rounds, None)
    limit = 1.0 if small else 1.7 if large else None
    _add_round(found, _DEFAULT, objects, lambda one: one.default_rounds, limit)
    found.add(
        "memory, resident",
        lambda one: one.memory.resident,
        " MiB",
        140.0 if large else None,
        0,
        with_policies_limit=145.0 if large else None,
    )
    found.add("memory, proportional", lambda one: one.memory.proportional, " MiB", None, 0)
    found.add("memory, peak", lambda one: one.memory.peak, " MiB", None, 0)


def _add_round(
    found: _Rows, polls: str, objects: int, steady: Callable[[Findings], Steady | None], cpu_limit: float | None
) -> None:
    def of(value: Callable[[Steady], float]) -> Callable[[Findings], float | None]:
        return lambda one: None if (rounds := steady(one)) is None else value(rounds)

    found.add(f"CPU, steady, {polls}, of a core", of(lambda rounds: rounds.cpu_percent), " %", cpu_limit, 2)
    calls = float(math.ceil(objects / JOBS_PER_DESCRIBE))
    # Under policies jobs that are polled by different roles can't share a call: the minimum is larger.
    rounds_with_policies = None if found.with_policies is None else steady(found.with_policies)
    fewest = None if rounds_with_policies is None else float(rounds_with_policies.fewest_calls)
    found.add(
        f"AWS calls a round, {polls}", of(lambda rounds: rounds.calls_a_round), "", calls, with_policies_limit=fewest
    )
    found.add(f"length of a round, {polls}", of(lambda rounds: rounds.round_seconds), " s")
    found.add(f"AWS calls a minute, {polls}", of(lambda rounds: rounds.calls_a_minute))
    writes = f"Kubernetes writes a minute, {polls}"
    found.add(writes, of(lambda rounds: 60 * rounds.writes / rounds.seconds), "", 0.0)


def _add_terminations(found: _Rows, objects: int) -> None:
    calm_limits = (None, 25.0 if objects <= 10_000 else 50.0)
    _add_single(found, f"{1 / CALM:.0f} patches/s to TerminateJob", lambda one: one.calm, calm_limits)
    _add_single(found, f"{1 / BRISK:.0f} patches/s to TerminateJob", lambda one: one.brisk, (20.0, 200.0))
    _add_mass(found, "one reason", lambda one: one.same_reason, 1.1, 20.0)
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
    """No rows for figures that were not measured for the operator."""
    ours = mass(found.ours)
    if ours is None:
        return

    def of(value: Callable[[Mass], float]) -> Callable[[Findings], float | None]:
        return lambda one: None if (measured := mass(one)) is None else value(measured)

    found.add(f"terminate {ours.count:,}, {how}: until the last call", of(lambda one: one.arrival), " s", None, 2)
    found.add("... the patches alone", of(lambda one: one.patches), " s", None, 2)
    found.add("... last call : patches", of(lambda one: one.ratio), "x", ratio, 2)
    found.add("... calls", of(lambda one: one.calls), "", calls, 0)


def _add_policies(found: _Rows, with_policies: UnderPolicies) -> None:
    """Rows under policies only. A call of a role terminates jobs of one namespace, whose name is its session tag."""
    spread = with_policies.spread
    over = f"terminate {spread.count:,}, one reason, over {with_policies.namespaces} namespaces"
    found.add_with_policies(f"{over}: until the last call", spread.arrival, " s")
    found.add_with_policies("... the patches alone", spread.patches, " s")
    found.add_with_policies("... last call : patches", spread.ratio, "x")
    found.add_with_policies("... calls", spread.calls, digits=0)
    found.add_with_policies("... times that a role is assumed for it", with_policies.assumed, digits=0)
    edits = with_policies.edits
    for what, edit, shown in (
        ("policy tightened", edits.tightened, "Denied"),
        ("policy loosened", edits.loosened, "shown"),
        ("namespace relabelled", edits.relabelled, "Denied"),
    ):
        found.add_with_policies(f"{what}: until the first object is {shown}", edit.first, " s")
        found.add_with_policies(f"... the last of {edit.objects:,}", edit.last, " s", _REPORTED_WITHIN)


def markdown(lines: Sequence[Sequence[str]], *, numbers: Container[int]) -> str:
    """A table, its heading first; columns of numbers are aligned right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]

    def with_policies(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (width - 1) + ":" if column in numbers else "-" * width for column, width in enumerate(widths)]
    return "\n".join((with_policies(lines[0]), with_policies(rule), *(with_policies(cells) for cells in lines[1:])))
