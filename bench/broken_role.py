"""`python -m bench.broken_role`, or `make bench-broken-role`: the effect of broken roles on jobs of others.

Three policies are added and removed: one with a role that refuses, one with a hanging STS, one with a Batch that
throttles each call. Jobs under other policies are polled and terminated with and without the three, and the times
compared.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import click

from awsbatch_sandbox.operator_process import OperatorProcess
from bench.command import control_plane_option, measured, progress_writer
from bench.fleet import Fleet
from bench.harness import Harness
from bench.kube import until
from bench.measures import CALM, latency, one_by_one, stated
from bench.process import load, machine
from bench.report import markdown
from bench.rounds import settle, steady
from bench.scenarios import Progress, Scenario, harness_of
from bench.subjects import launched
from bench.tenants import ACCOUNTS, LABEL, Tenants, Where, home, policy

HEALTHY: Final = Tenants(policies=8, namespaces=40)
MOST: Final = 1.1
"""The largest factor by which anything healthy may be slower."""
POLL_EVERY: Final = 10.0
_BROKEN: Final = {
    # The first two are in an account with healthy roles; throttling concerns a whole account: the third has its own.
    "refused": Where(ACCOUNTS[0], f"arn:aws:iam::{ACCOUNTS[0]}:role/batch-refused"),
    "hanging": Where(ACCOUNTS[0], f"arn:aws:iam::{ACCOUNTS[0]}:role/batch-hanging"),
    "throttled": Where("444444444444", "arn:aws:iam::444444444444:role/batch-throttled"),
}
_BROKEN_JOBS: Final = 300
_SINGLES: Final = 100
"""Terminations of healthy jobs, one by one, a span."""
_BROKEN_SPACING: Final = 0.5
"""Seconds between two terminations that are stated for jobs of the three, with and without their policies."""
_REPORTED_WITHIN: Final = 5.0
"""Seconds for the statuses of all their objects after policies are added or removed: independent of roles."""
_HANGS_FOR: Final = 30.0
"""Seconds; the operator waits for STS no longer than three."""


@dataclass(slots=True)
class Side:
    """The spans with or without the broken roles: one entry for each span, a list for the first two. Seconds."""

    arrivals: list[list[float]] = field(default_factory=list)
    answers: list[list[float]] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    calls_a_round: list[float] = field(default_factory=list)
    cpu_percent: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure on both sides. `judged`: it must be at most MOST times as much; figures with few samples are not."""

    figure: str
    without: float
    beside: float
    unit: str
    judged: bool

    @property
    def ratio(self) -> float:
        return self.beside / self.without

    @property
    def met(self) -> bool:
        return not self.judged or round(self.ratio, 2) <= MOST

    def cells(self) -> tuple[str, ...]:
        values = (f"{value:.1f}{self.unit}" for value in (self.without, self.beside))
        outcome = ("yes" if self.met else "NO") if self.judged else ""
        return (self.figure, *values, f"{self.ratio:.2f}x", f"<= {MOST:g}x" if self.judged else "", outcome)


@click.command()
@click.option("--objects", default=1000, show_default=True, type=click.IntRange(min=200), help="Healthy live jobs.")
@click.option("--turns", default=4, show_default=True, type=click.IntRange(1, 5), help="Spans with and without, each.")
@click.option(
    "--window", default=30.0, show_default=True, type=click.FloatRange(min=5), help="Seconds of polls a span."
)
@control_plane_option
@click.option("--json", "file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write figures.")
def main(objects: int, turns: int, window: float, control_plane: str, file: Path | None) -> None:
    """Compare the times of healthy jobs with and without broken roles of others; exit with 1 if they differ."""
    before = load()
    sides = measured(_measure(Scenario(objects, control_plane), turns, window, progress_writer(objects)))
    if file is not None:
        found = {"machine": machine(), "load": before, "without": asdict(sides[0]), "beside": asdict(sides[1])}
        file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    lines = compared(*sides)
    head = ("figure", "without", "beside broken roles", "ratio", "target", "met?")
    click.echo(f"{objects:,} healthy jobs, {turns} turns, load of the machine before: {before:.2f}\n")
    click.echo(markdown([head, *(line.cells() for line in lines)], numbers=(1, 2, 3, 4)))
    if not all(line.met for line in lines):
        raise SystemExit(1)


def compared(without: Side, beside: Side) -> list[Line]:
    # The median of the spans: other load on this machine for a minute must not change the result.
    def times(what: str, of: str, rank: str, *, judged: bool) -> Line:
        spans = ([getattr(latency(span), rank) for span in getattr(side, of)] for side in (without, beside))
        first, second = (median(found) for found in spans)
        return Line(f"{what}, {rank}", first, second, " ms", judged)

    def middle(what: str, of: str, unit: str, *, judged: bool) -> Line:
        return Line(what, median(getattr(without, of)), median(getattr(beside, of)), unit, judged)

    return [
        times("patch to TerminateJob", "arrivals", "p50", judged=True),
        times("patch to TerminateJob", "arrivals", "p99", judged=False),
        times("... the API server's answer alone", "answers", "p50", judged=False),
        times("... the API server's answer alone", "answers", "p99", judged=False),
        middle("length of a round of polls", "rounds", " s", judged=True),
        middle("calls a round", "calls_a_round", "", judged=True),
        middle("CPU, of a core", "cpu_percent", " %", judged=False),
    ]


async def _measure(scenario: Scenario, turns: int, window: float, progress: Progress) -> tuple[Side, Side]:
    without, beside = Side(), Side()
    async with (
        asyncio.timeout(600 + 4 * turns * (window + 90)),
        harness_of(scenario, progress, HEALTHY) as (harness, _),
    ):
        broken = await _break(harness)
        operator = harness.operator(f"--poll-running={POLL_EVERY:.0f}s")
        harness.world.batch.clear_calls()
        with launched(operator):
            await settle(harness, seconds=POLL_EVERY)
            # Polls of jobs that came together share more calls than those of jobs that come and go: not judged.
            await _span(harness, broken, operator, window, Side())
            for turn in range(2 * turns):
                # With, without, without, with: a drift with time is on both sides.
                if turn % 4 in (0, 3):
                    async with _governed(harness):
                        await _span(harness, broken, operator, window, beside)
                    progress(f"beside broken roles: {_words(beside)}")
                else:
                    await _span(harness, broken, operator, window, without)
                    progress(f"without: {_words(without)}")
    return without, beside


async def _break(harness: Harness) -> Fleet:
    """The objects of the three policies, in namespaces that no policy selects yet."""
    harness.world.sts.trust(str(_BROKEN["refused"].role), refuses="AccessDenied")
    harness.world.sts.trust(str(_BROKEN["hanging"].role), latency=_HANGS_FOR)
    harness.world.batch.fault(kind="throttle_429", times=None, role=_BROKEN["throttled"].role)
    homes = [home(team, 0, where) for team, where in _BROKEN.items()]
    for one in homes:
        await harness.kube.create_namespace(one.namespace, {LABEL: one.team or ""})
    broken = Fleet(harness.kube, harness.world.batch, homes, first=900_000)
    await broken.grow(_BROKEN_JOBS)
    return broken


@asynccontextmanager
async def _governed(harness: Harness) -> AsyncIterator[None]:
    """The three policies exist inside the block; at its end they are verified to be broken."""
    for team, where in _BROKEN.items():
        await harness.kube.create_policy(policy(team, where.role))
    await asyncio.sleep(_REPORTED_WITHIN)
    yield
    for team, reason in (("refused", "AccessDenied"), ("hanging", "AWSUnavailable")):
        found = (await harness.kube.policy(team)).get("status", {}).get("conditions", [])
        if reason not in {one["reason"] for one in found if one["type"] == "Ready"}:
            raise TimeoutError(f"policy {team} should be not Ready with reason {reason}, but has {found}")
    await until(lambda: bool(_throttled(harness)), 30.0, lambda: "no call was throttled")
    for team in _BROKEN:
        await harness.kube.delete_policy(team)
    await asyncio.sleep(_REPORTED_WITHIN)


def _throttled(harness: Harness) -> list[str]:
    calls = harness.world.batch.calls()
    return [call["operation"] for call in calls if call["role"] == _BROKEN["throttled"].role]


async def _span(harness: Harness, broken: Fleet, operator: OperatorProcess, window: float, side: Side) -> None:
    async def state(count: int) -> None:
        for key in broken.take(count):
            await harness.kube.patch(key, stated("never sent"))
            await asyncio.sleep(_BROKEN_SPACING)

    stating = asyncio.create_task(state(round(_SINGLES * CALM / _BROKEN_SPACING)))
    arrived, answered = await one_by_one(harness, count=_SINGLES, spacing=CALM)
    await stating
    side.arrivals.append(arrived)
    side.answers.append(answered)
    await harness.fleet.renew()
    # The polls of the new jobs spread over the round.
    await asyncio.sleep(POLL_EVERY)
    polls = await steady(harness, operator, seconds=window)
    healthy = sum(share.polls for share in polls.shares)
    side.rounds.append(polls.seconds * polls.objects / healthy)
    side.calls_a_round.append(polls.calls_a_round)
    side.cpu_percent.append(polls.cpu_percent)


def _words(side: Side) -> str:
    found = latency(side.arrivals[-1])
    return (
        f"patch to TerminateJob p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms; a round of "
        f"{side.rounds[-1]:.1f} s, {side.calls_a_round[-1]:.1f} calls"
    )


if __name__ == "__main__":
    main()
