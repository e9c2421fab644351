"""The course that every contender goes through, for one number of objects."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from awsbatch_operator.domain.ports import LOOKS_PER_CALL
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.world import World
from bench import measures
from bench.contenders import UsualWay, launched
from bench.fleet import Fleet
from bench.kube import connected
from bench.lab import Lab
from bench.measures import Mass, Single, Sync
from bench.process import Memory, load, memory
from bench.rounds import Steady, settle, steady
from bench.tenants import ALONE, Tenants

GRACE: Final = 3.0
"""Seconds from TerminateJob to the end of a job."""
AT_ONCE: Final = 500
"""How many terminations the design's target speaks of, and what the default budget lets through in under a minute."""
AMPLE_RATE: Final = 1000.0
"""TerminateJob a second: more than anybody patches, so that the budget is no part of what is measured."""
SHORT_ROUND: Final = 10.0
DEFAULT_DESCRIBE_RATE: Final = 5.0

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Course:
    """`windows`: seconds of steady looks, with the default cadence and with looks every 10 s."""

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
        """The default where it suffices for looks every 10 s, else twice what they need."""
        needed = self.objects / LOOKS_PER_CALL / SHORT_ROUND
        return DEFAULT_DESCRIBE_RATE if needed <= DEFAULT_DESCRIBE_RATE / 2 else 2 * needed


@dataclass(frozen=True, slots=True)
class Findings:
    """What one contender cost. None: not measured, for it would be the same as what stands beside it.

    `same_reason` and `different_reasons` end 500 jobs at most, `half_*` half of all; `half_different` with AMPLE_RATE.
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
    usual: Findings | None


async def run(course: Course, *, usual: bool, tell: Tell) -> Result:
    before, began = load(), time.monotonic()
    compared: Findings | None = None
    async with asyncio.timeout(900 + course.objects / 10):
        async with lab_of(course, tell) as (lab, version):
            bare, found = await _our_way(lab, course, tell)
        if usual:
            async with lab_of(course, tell) as (lab, _):
                compared = await _usual_way(lab, course, tell)
    took = time.monotonic() - began
    return Result(course.objects, version, before, took, course.describe_rate, bare, found, compared)


@asynccontextmanager
async def lab_of(course: Course, tell: Tell, tenants: Tenants | None = None) -> AsyncIterator[tuple[Lab, str]]:
    """A fresh world with the objects in it, those of `tenants` or of nobody, and the version of its control plane."""
    with World(course.control_plane, grace=GRACE, roles=tenants is not None) as world:
        async with connected(world.control_plane.kubeconfig) as kube:
            fleet = Fleet(kube, world.batch, ALONE if tenants is None else tenants.homes)
            began = time.monotonic()
            if tenants is not None:
                await tenants.settle(kube)
            await fleet.grow(course.objects)
            tell(f"{course.objects} objects made in {time.monotonic() - began:.1f} s")
            yield Lab(world, kube, fleet, tenants), await kube.version()


async def _our_way(lab: Lab, course: Course, tell: Tell) -> tuple[list[Sync], Findings]:
    syncs, bare = await syncs_of(lab, course, tell, "ours")
    short = await short_rounds(lab, course, tell, "ours")
    operator = lab.operator()
    lab.world.batch.clear_calls()
    with launched(operator):
        default, used = await default_rounds(lab, operator, course, tell, "ours")
        brisk, calm = await singles(lab, course, tell, "ours")
        half_same, same, different = await _masses(lab, course, tell)
        recoveries = [await measures.recovery(lab, operator) for _ in range(course.recoveries)]
        tell(f"ours: recovery {', '.join(f'{one:.2f}' for one in recoveries)} s")
    half_different = await _half_different(lab, course, tell)
    found = Findings(syncs, short, used, brisk, calm, same, recoveries, default, different)
    return bare, replace(found, half_same=half_same, half_different=half_different)


async def syncs_of(lab: Lab, course: Course, tell: Tell, who: str) -> tuple[list[Sync], list[Sync]]:
    """Ours and the bare client's, in turn."""
    syncs, bare = [], []
    for _ in range(course.syncs):
        syncs.append(await measures.first_sync(lab, lab.operator()))
        bare.append(await measures.bare_sync(lab))
        tell(f"{who}: first sync {syncs[-1].last:.2f} s, bare client {bare[-1].last:.2f} s")
    return syncs, bare


async def short_rounds(lab: Lab, course: Course, tell: Tell, who: str) -> Steady:
    operator = lab.operator(f"--look-running={SHORT_ROUND:.0f}s", f"--describe-rate={course.describe_rate:g}")
    lab.world.batch.clear_calls()
    with launched(operator):
        await settle(lab, seconds=SHORT_ROUND / 2)
        rounds = await steady(lab, operator, seconds=course.windows[1])
    tell(f"{who}: looks every 10 s take {rounds.cpu_percent:.2f} % of a core")
    return rounds


async def default_rounds(
    lab: Lab, operator: OperatorProcess, course: Course, tell: Tell, who: str
) -> tuple[Steady, Memory]:
    """Of an operator that was started just now."""
    window = course.windows[0]
    await settle(lab, seconds=window / 4)
    rounds = await steady(lab, operator, seconds=window)
    used = memory(operator.pid)
    tell(f"{who}: default looks take {rounds.cpu_percent:.2f} % of a core, {used.resident:.0f} MiB")
    return rounds, used


async def _masses(lab: Lab, course: Course, tell: Tell) -> tuple[Mass | None, Mass, Mass]:
    """With the default budget: half with one reason, unless the next is as many; 500 with one; 500 with many."""
    half: Mass | None = None
    if course.half > course.at_once:
        half = await mass_of(lab, course.half, tell, same_reason=True)
        await lab.fleet.renew()
    same = await mass_of(lab, course.at_once, tell, same_reason=True)
    await lab.fleet.renew()
    return half, same, await mass_of(lab, course.at_once, tell, same_reason=False)


async def _half_different(lab: Lab, course: Course, tell: Tell) -> Mass:
    operator = lab.operator(f"--terminate-rate={AMPLE_RATE:g}")
    lab.world.batch.clear_calls()
    with launched(operator):
        await lab.fleet.renew()
        await settle(lab, seconds=1)
        return await mass_of(lab, course.half, tell, same_reason=False)


async def mass_of(
    lab: Lab, count: int, tell: Tell, *, same_reason: bool, who: str = "ours", namespace: str = ""
) -> Mass:
    found = await measures.mass(lab, count=count, same_reason=same_reason, namespace=namespace)
    reasons = "one reason" if same_reason else "different reasons"
    tell(f"{who}: {found.count} with {reasons} {found.arrival:.2f} s, {found.calls} calls")
    return found


async def _usual_way(lab: Lab, course: Course, tell: Tell) -> Findings:
    operator = UsualWay(lab.world)
    syncs = [await measures.first_sync(lab, operator)]
    tell(f"usual way: first sync {syncs[-1].last:.2f} s")
    lab.world.batch.clear_calls()
    with launched(operator):
        await settle(lab, each=True, seconds=SHORT_ROUND / 2)
        rounds = await steady(lab, operator, seconds=course.windows[1])
        used = memory(operator.pid)
        tell(f"usual way: looks every 10 s take {rounds.cpu_percent:.1f} % of a core, {used.resident:.0f} MiB")
        brisk, calm = await singles(lab, course, tell, "usual way")
        same = await mass_of(lab, course.at_once, tell, same_reason=True, who="usual way")
        recoveries = [await measures.recovery(lab, operator, each=True)]
        tell(f"usual way: recovery {recoveries[0]:.2f} s")
    return Findings(syncs, rounds, used, brisk, calm, same, recoveries)


async def singles(lab: Lab, course: Course, tell: Tell, who: str) -> tuple[Single, Single]:
    """Faster and slower than the default budget of terminations; all jobs live again after each."""
    found = []
    for spacing in (measures.BRISK, measures.CALM):
        one = await measures.single(lab, count=min(course.singles, course.objects // 2), spacing=spacing)
        times = f"p50 {one.arrival.p50:.1f} ms, p99 {one.arrival.p99:.1f} ms"
        tell(f"{who}: {1 / spacing:.0f} patches/s to TerminateJob {times}")
        await lab.fleet.renew()
        found.append(one)
    return found[0], found[1]
