"""`python -m bench.broken_role`, or `make bench-broken-role`: whether healthy jobs feel it when roles of others break.

Three policies come and go: one whose role refuses, one whose STS hangs, one whose Batch throttles each call. Meanwhile
jobs under other policies are looked at and ended; how fast, is compared with the same while the three are away.
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
from bench.command import control_plane_option, measured, teller
from bench.contenders import launched
from bench.course import Course, Tell, lab_of
from bench.fleet import Fleet
from bench.kube import until
from bench.lab import Lab
from bench.measures import CALM, latency, one_by_one, stated
from bench.process import load, machine
from bench.report import markdown
from bench.rounds import settle, steady
from bench.tenants import ACCOUNTS, LABEL, Tenants, Where, home, policy

HEALTHY: Final = Tenants(policies=8, namespaces=40)
MOST: Final = 1.1
"""How many times as long anything healthy may take."""
LOOK_EVERY: Final = 10.0
_BROKEN: Final = {
    # The first two in an account where others are healthy; to throttle is up to an account, so that one stands alone.
    "refused": Where(ACCOUNTS[0], f"arn:aws:iam::{ACCOUNTS[0]}:role/batch-refused"),
    "hanging": Where(ACCOUNTS[0], f"arn:aws:iam::{ACCOUNTS[0]}:role/batch-hanging"),
    "throttled": Where("444444444444", "arn:aws:iam::444444444444:role/batch-throttled"),
}
_BROKEN_JOBS: Final = 300
_SINGLES: Final = 100
"""Terminations of healthy jobs, one by one, a span."""
_BROKEN_SPACING: Final = 0.5
"""Seconds between two terminations that are stated for jobs of the three, with and without their policies."""
_TOLD_IN: Final = 5.0
"""Seconds for the statuses of all their objects, when policies come and when they go: that is no matter of roles."""
_HANGS_FOR: Final = 30.0
"""Seconds; the operator waits for STS no longer than three."""


@dataclass(slots=True)
class Side:
    """Of the spans with the broken ones, or without: an entry each, of the first two a list. Seconds."""

    arrivals: list[list[float]] = field(default_factory=list)
    answers: list[list[float]] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    calls_a_round: list[float] = field(default_factory=list)
    cpu_percent: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure on both sides. `judged`: it may be MOST times as much at the most; what few samples decide is not."""

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
        verdict = ("yes" if self.met else "NO") if self.judged else ""
        return (self.figure, *values, f"{self.ratio:.2f}x", f"<= {MOST:g}x" if self.judged else "", verdict)


@click.command()
@click.option("--objects", default=1000, show_default=True, type=click.IntRange(min=200), help="Healthy live jobs.")
@click.option("--turns", default=4, show_default=True, type=click.IntRange(1, 5), help="Spans with and without, each.")
@click.option(
    "--window", default=30.0, show_default=True, type=click.FloatRange(min=5), help="Seconds of looks a span."
)
@control_plane_option
@click.option("--json", "file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write figures.")
def main(objects: int, turns: int, window: float, control_plane: str, file: Path | None) -> None:
    """Compare how fast healthy jobs are with and without broken roles beside them; end with 1 if that differs."""
    before = load()
    sides = measured(_measure(Course(objects, control_plane), turns, window, teller(objects)))
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
    # Of each figure the median of the spans: somebody else's minute on this machine is no verdict.
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
        middle("length of a round of looks", "rounds", " s", judged=True),
        middle("calls a round", "calls_a_round", "", judged=True),
        middle("CPU, of a core", "cpu_percent", " %", judged=False),
    ]


async def _measure(course: Course, turns: int, window: float, tell: Tell) -> tuple[Side, Side]:
    without, beside = Side(), Side()
    async with asyncio.timeout(600 + 4 * turns * (window + 90)), lab_of(course, tell, HEALTHY) as (lab, _):
        broken = await _break(lab)
        operator = lab.operator(f"--look-running={LOOK_EVERY:.0f}s")
        lab.world.batch.clear_calls()
        with launched(operator):
            await settle(lab, seconds=LOOK_EVERY)
            # Looks of jobs that came together share more calls than those of jobs that come and go: not judged.
            await _span(lab, broken, operator, window, Side())
            for turn in range(2 * turns):
                # With, without, without, with: what drifts with time is on both sides.
                if turn % 4 in (0, 3):
                    async with _governed(lab):
                        await _span(lab, broken, operator, window, beside)
                    tell(f"beside broken roles: {_words(beside)}")
                else:
                    await _span(lab, broken, operator, window, without)
                    tell(f"without: {_words(without)}")
    return without, beside


async def _break(lab: Lab) -> Fleet:
    """The objects of the three, in namespaces that no policy selects yet."""
    lab.world.sts.trust(str(_BROKEN["refused"].role), refuses="AccessDenied")
    lab.world.sts.trust(str(_BROKEN["hanging"].role), latency=_HANGS_FOR)
    lab.world.batch.fault(kind="throttle_429", times=None, role=_BROKEN["throttled"].role)
    homes = [home(team, 0, where) for team, where in _BROKEN.items()]
    for one in homes:
        await lab.kube.create_namespace(one.namespace, {LABEL: one.team or ""})
    broken = Fleet(lab.kube, lab.world.batch, homes, first=900_000)
    await broken.grow(_BROKEN_JOBS)
    return broken


@asynccontextmanager
async def _governed(lab: Lab) -> AsyncIterator[None]:
    """The three policies are there inside the block; they were found to be broken by its end."""
    for team, where in _BROKEN.items():
        await lab.kube.create_policy(policy(team, where.role))
    await asyncio.sleep(_TOLD_IN)
    yield
    for team, reason in (("refused", "AccessDenied"), ("hanging", "AWSUnavailable")):
        found = (await lab.kube.policy(team)).get("status", {}).get("conditions", [])
        if reason not in {one["reason"] for one in found if one["type"] == "Ready"}:
            raise TimeoutError(f"policy {team} was to be not Ready by {reason}, and says {found}")
    await until(lambda: bool(_throttled(lab)), 30.0, lambda: "no call was throttled")
    for team in _BROKEN:
        await lab.kube.delete_policy(team)
    await asyncio.sleep(_TOLD_IN)


def _throttled(lab: Lab) -> list[str]:
    calls = lab.world.batch.calls()
    return [call["operation"] for call in calls if call["role"] == _BROKEN["throttled"].role]


async def _span(lab: Lab, broken: Fleet, operator: OperatorProcess, window: float, side: Side) -> None:
    async def state(count: int) -> None:
        for key in broken.take(count):
            await lab.kube.patch(key, stated("nobody hears this"))
            await asyncio.sleep(_BROKEN_SPACING)

    stating = asyncio.create_task(state(round(_SINGLES * CALM / _BROKEN_SPACING)))
    arrived, answered = await one_by_one(lab, count=_SINGLES, spacing=CALM)
    await stating
    side.arrivals.append(arrived)
    side.answers.append(answered)
    await lab.fleet.renew()
    # The new jobs find their places in the round of all.
    await asyncio.sleep(LOOK_EVERY)
    looks = await steady(lab, operator, seconds=window)
    healthy = sum(share.looks for share in looks.shares)
    side.rounds.append(looks.seconds * looks.objects / healthy)
    side.calls_a_round.append(looks.calls_a_round)
    side.cpu_percent.append(looks.cpu_percent)


def _words(side: Side) -> str:
    found = latency(side.arrivals[-1])
    return (
        f"patch to TerminateJob p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms; a round of "
        f"{side.rounds[-1]:.1f} s, {side.calls_a_round[-1]:.1f} calls"
    )


if __name__ == "__main__":
    main()
