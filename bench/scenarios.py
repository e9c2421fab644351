"""The scenario that every subject goes through, for one number of objects."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.world import World
from bench import measures
from bench.fleet import Fleet
from bench.harness import Harness
from bench.kube import connected
from bench.measures import Mass, Single, Sync
from bench.process import Memory, load, memory
from bench.rounds import JOBS_PER_DESCRIBE, Steady, settle, steady
from bench.subjects import NaiveOperator, launched
from bench.tenants import ALONE, Tenants

GRACE: Final = 3.0
"""Seconds from TerminateJob to the end of a job."""
AT_ONCE: Final = 500
"""The number of terminations in the design's target; the default budget allows them in under a minute."""
AMPLE_RATE: Final = 1000.0
"""TerminateJob a second: more than the patches, so that the budget does not limit the measured rate."""
SHORT_ROUND: Final = 10.0
DEFAULT_DESCRIBE_RATE: Final = 5.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`windows`: seconds of steady polls, with default polls and with polls every 10 s."""

    objects: int
    control_plane: str
    windows: tuple[float, float] = (60.0, 30.0)
    syncs: int = 3
    singles: int = 200
    recoveries: int = 3

    @property
    def half(self) -> int:
        return self.objects // 2

    @property
    def at_once(self) -> int:
        return min(AT_ONCE, self.half)

    @property
    def describe_rate(self) -> float:
        """The default where it suffices for polls every 10 s, else twice what they need."""
        needed = self.objects / JOBS_PER_DESCRIBE / SHORT_ROUND
        return DEFAULT_DESCRIBE_RATE if needed <= DEFAULT_DESCRIBE_RATE / 2 else 2 * needed


@dataclass(frozen=True, slots=True)
class Findings:
    """The figures of one subject. None: not measured, because it would equal another figure.

    `same_reason` and `different_reasons` terminate 500 jobs at most, `half_*` half of all; `half_different` with
    AMPLE_RATE.
    """

    syncs: list[Sync]
    short_rounds: Steady
    memory: Memory
    brisk: Single
    calm: Single
    same_reason: Mass
    recoveries: list[float]
    default_rounds: Steady | None = None
    different_reasons: Mass | None = None
    half_same: Mass | None = None
    half_different: Mass | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """`load`: of the machine before the first measure; `took`: seconds in all."""

    objects: int
    control_plane: str
    load: float
    took: float
    describe_rate: float
    bare: list[Sync]
    ours: Findings
    naive: Findings | None


async def run(scenario: Scenario, *, naive: bool, progress: Progress) -> Result:
    before, began = load(), time.monotonic()
    compared: Findings | None = None
    async with asyncio.timeout(900 + scenario.objects / 10):
        async with harness_of(scenario, progress) as (harness, version):
            bare, found = await _measure_ours(harness, scenario, progress)
        if naive:
            async with harness_of(scenario, progress) as (harness, _):
                compared = await _measure_naive(harness, scenario, progress)
    took = time.monotonic() - began
    return Result(scenario.objects, version, before, took, scenario.describe_rate, bare, found, compared)


@asynccontextmanager
async def harness_of(
    scenario: Scenario, progress: Progress, tenants: Tenants | None = None
) -> AsyncIterator[tuple[Harness, str]]:
    """A new sandbox with the objects, those of `tenants` if given, and the version of its control plane."""
    with World(scenario.control_plane, grace=GRACE, roles=tenants is not None) as world:
        async with connected(world.control_plane.kubeconfig) as kube:
            fleet = Fleet(kube, world.batch, ALONE if tenants is None else tenants.homes)
            began = time.monotonic()
            if tenants is not None:
                await tenants.settle(kube)
            await fleet.grow(scenario.objects)
            progress(f"{scenario.objects} objects made in {time.monotonic() - began:.1f} s")
            yield Harness(world, kube, fleet, tenants), await kube.version()


async def _measure_ours(harness: Harness, scenario: Scenario, progress: Progress) -> tuple[list[Sync], Findings]:
    syncs, bare = await syncs_of(harness, scenario, progress, "ours")
    short = await short_rounds(harness, scenario, progress, "ours")
    operator = harness.operator()
    harness.world.batch.clear_calls()
    with launched(operator):
        default, used = await default_rounds(harness, operator, scenario, progress, "ours")
        brisk, calm = await singles(harness, scenario, progress, "ours")
        half_same, same, different = await _masses(harness, scenario, progress)
        recoveries = [await measures.recovery(harness, operator) for _ in range(scenario.recoveries)]
        progress(f"ours: recovery {', '.join(f'{one:.2f}' for one in recoveries)} s")
    half_different = await _half_different(harness, scenario, progress)
    found = Findings(syncs, short, used, brisk, calm, same, recoveries, default, different)
    return bare, replace(found, half_same=half_same, half_different=half_different)


async def syncs_of(harness: Harness, scenario: Scenario, progress: Progress, who: str) -> tuple[list[Sync], list[Sync]]:
    """First syncs of the operator and of the bare client, in turn."""
    syncs, bare = [], []
    for _ in range(scenario.syncs):
        syncs.append(await measures.first_sync(harness, harness.operator()))
        bare.append(await measures.bare_sync(harness))
        progress(f"{who}: first sync {syncs[-1].last:.2f} s, bare client {bare[-1].last:.2f} s")
    return syncs, bare


async def short_rounds(harness: Harness, scenario: Scenario, progress: Progress, who: str) -> Steady:
    operator = harness.operator(f"--poll-running={SHORT_ROUND:.0f}s", f"--describe-rate={scenario.describe_rate:g}")
    harness.world.batch.clear_calls()
    with launched(operator):
        await settle(harness, seconds=SHORT_ROUND / 2)
        rounds = await steady(harness, operator, seconds=scenario.windows[1])
    progress(f"{who}: polls every 10 s use {rounds.cpu_percent:.2f} % of a core")
    return rounds


async def default_rounds(
    harness: Harness, operator: OperatorProcess, scenario: Scenario, progress: Progress, who: str
) -> tuple[Steady, Memory]:
    """Rounds of an operator that was just started."""
    window = scenario.windows[0]
    await settle(harness, seconds=window / 4)
    rounds = await steady(harness, operator, seconds=window)
    used = memory(operator.pid)
    progress(f"{who}: default polls use {rounds.cpu_percent:.2f} % of a core, {used.resident:.0f} MiB")
    return rounds, used


async def _masses(harness: Harness, scenario: Scenario, progress: Progress) -> tuple[Mass | None, Mass, Mass]:
    """Measure with the default rate limit: half with one reason, unless that is 500; 500 with one; 500 with many."""
    half: Mass | None = None
    if scenario.half > scenario.at_once:
        half = await mass_of(harness, scenario.half, progress, same_reason=True)
        await harness.fleet.renew()
    same = await mass_of(harness, scenario.at_once, progress, same_reason=True)
    await harness.fleet.renew()
    return half, same, await mass_of(harness, scenario.at_once, progress, same_reason=False)


async def _half_different(harness: Harness, scenario: Scenario, progress: Progress) -> Mass:
    operator = harness.operator(f"--terminate-rate={AMPLE_RATE:g}")
    harness.world.batch.clear_calls()
    with launched(operator):
        await harness.fleet.renew()
        await settle(harness, seconds=1)
        return await mass_of(harness, scenario.half, progress, same_reason=False)


async def mass_of(
    harness: Harness, count: int, progress: Progress, *, same_reason: bool, who: str = "ours", namespace: str = ""
) -> Mass:
    found = await measures.mass(harness, count=count, same_reason=same_reason, namespace=namespace)
    reasons = "one reason" if same_reason else "different reasons"
    progress(f"{who}: {found.count} with {reasons} {found.arrival:.2f} s, {found.calls} calls")
    return found


async def _measure_naive(harness: Harness, scenario: Scenario, progress: Progress) -> Findings:
    operator = NaiveOperator(harness.world)
    syncs = [await measures.first_sync(harness, operator)]
    progress(f"naive operator: first sync {syncs[-1].last:.2f} s")
    harness.world.batch.clear_calls()
    with launched(operator):
        await settle(harness, each=True, seconds=SHORT_ROUND / 2)
        rounds = await steady(harness, operator, seconds=scenario.windows[1])
        used = memory(operator.pid)
        progress(f"naive operator: polls every 10 s use {rounds.cpu_percent:.1f} % of a core, {used.resident:.0f} MiB")
        brisk, calm = await singles(harness, scenario, progress, "naive operator")
        same = await mass_of(harness, scenario.at_once, progress, same_reason=True, who="naive operator")
        recoveries = [await measures.recovery(harness, operator, each=True)]
        progress(f"naive operator: recovery {recoveries[0]:.2f} s")
    return Findings(syncs, rounds, used, brisk, calm, same, recoveries)


async def singles(harness: Harness, scenario: Scenario, progress: Progress, who: str) -> tuple[Single, Single]:
    """Faster and slower than the default budget of terminations; all jobs are replaced after each."""
    found = []
    for spacing in (measures.BRISK, measures.CALM):
        one = await measures.single(harness, count=min(scenario.singles, scenario.objects // 2), spacing=spacing)
        times = f"p50 {one.arrival.p50:.1f} ms, p99 {one.arrival.p99:.1f} ms"
        progress(f"{who}: {1 / spacing:.0f} patches/s to TerminateJob {times}")
        await harness.fleet.renew()
        found.append(one)
    return found[0], found[1]
