"""The course that every contender goes through, for one number of objects."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from awsbatch_operator.domain.ports import LOOKS_PER_CALL
from awsbatch_sandbox.world import World
from bench import measures
from bench.contenders import UsualWay, launched, ours
from bench.fleet import Fleet
from bench.kube import connected
from bench.measures import Lab, Mass, Single, Steady, Sync
from bench.process import Memory, load, memory

GRACE: Final = 3.0
"""Seconds from TerminateJob to the end of a job."""
MOST_TERMINATED: Final = 500
SHORT_ROUND: Final = 10.0
_DEFAULT_DESCRIBE_RATE: Final = 5.0

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
    def terminated(self) -> int:
        return min(MOST_TERMINATED, self.objects // 2)

    @property
    def describe_rate(self) -> float:
        """The default where it suffices for looks every 10 s, else twice what they need."""
        needed = self.objects / LOOKS_PER_CALL / SHORT_ROUND
        return _DEFAULT_DESCRIBE_RATE if needed <= _DEFAULT_DESCRIBE_RATE / 2 else 2 * needed


@dataclass(frozen=True, slots=True)
class Findings:
    """What one contender cost. None: not measured, for it would be the same as what stands beside it."""

    syncs: list[Sync]
    short_rounds: Steady
    memory: Memory
    brisk: Single
    calm: Single
    same_reason: Mass
    recoveries: list[float]
    default_rounds: Steady | None = None
    different_reasons: Mass | None = None


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
        async with _lab(course, tell) as (lab, version):
            bare, found = await _our_way(lab, course, tell)
        if usual:
            async with _lab(course, tell) as (lab, _):
                compared = await _usual_way(lab, course, tell)
    took = time.monotonic() - began
    return Result(course.objects, version, before, took, course.describe_rate, bare, found, compared)


@asynccontextmanager
async def _lab(course: Course, tell: Tell) -> AsyncIterator[tuple[Lab, str]]:
    """A fresh world with the objects in it, and the version of its control plane."""
    with World(course.control_plane, grace=GRACE) as world:
        async with connected(world.control_plane.kubeconfig) as kube:
            fleet = Fleet(kube, world.batch)
            began = time.monotonic()
            await fleet.grow(course.objects)
            tell(f"{course.objects} objects made in {time.monotonic() - began:.1f} s")
            yield Lab(world, kube, fleet), await kube.version()


async def _our_way(lab: Lab, course: Course, tell: Tell) -> tuple[list[Sync], Findings]:
    syncs, bare = [], []
    for _ in range(course.syncs):
        syncs.append(await measures.first_sync(lab, ours(lab.world)))
        bare.append(await measures.bare_sync(lab))
        tell(f"ours: first sync {syncs[-1].last:.2f} s, bare client {bare[-1].last:.2f} s")
    default_window, short_window = course.windows
    flags = (f"--look-running={SHORT_ROUND:.0f}s", f"--describe-rate={course.describe_rate:g}")
    hurried = ours(lab.world, flags)
    lab.world.batch.clear_calls()
    with launched(hurried):
        await measures.settle(lab, seconds=SHORT_ROUND / 2)
        short_rounds = await measures.steady(lab, hurried, seconds=short_window)
    tell(f"ours: looks every 10 s take {short_rounds.cpu_percent:.2f} % of a core")
    operator = ours(lab.world)
    lab.world.batch.clear_calls()
    with launched(operator):
        await measures.settle(lab, seconds=default_window / 4)
        default_rounds = await measures.steady(lab, operator, seconds=default_window)
        used = memory(operator.pid)
        tell(f"ours: default looks take {default_rounds.cpu_percent:.2f} % of a core, {used.resident:.0f} MiB")
        brisk, calm = await _singles(lab, course, tell, "ours")
        same = await measures.mass(lab, count=course.terminated, same_reason=True)
        tell(f"ours: {same.count} with one reason {same.arrival:.2f} s, {same.calls} calls")
        await lab.fleet.renew()
        different = await measures.mass(lab, count=course.terminated, same_reason=False)
        tell(f"ours: {different.count} with different reasons {different.arrival:.2f} s, {different.calls} calls")
        recoveries = [await measures.recovery(lab, operator) for _ in range(course.recoveries)]
        tell(f"ours: recovery {', '.join(f'{one:.2f}' for one in recoveries)} s")
    return bare, Findings(syncs, short_rounds, used, brisk, calm, same, recoveries, default_rounds, different)


async def _usual_way(lab: Lab, course: Course, tell: Tell) -> Findings:
    operator = UsualWay(lab.world)
    syncs = [await measures.first_sync(lab, operator)]
    tell(f"usual way: first sync {syncs[-1].last:.2f} s")
    lab.world.batch.clear_calls()
    with launched(operator):
        await measures.settle(lab, each=True, seconds=SHORT_ROUND / 2)
        rounds = await measures.steady(lab, operator, seconds=course.windows[1])
        used = memory(operator.pid)
        tell(f"usual way: looks every 10 s take {rounds.cpu_percent:.1f} % of a core, {used.resident:.0f} MiB")
        brisk, calm = await _singles(lab, course, tell, "usual way")
        same = await measures.mass(lab, count=course.terminated, same_reason=True)
        tell(f"usual way: {same.count} with one reason {same.arrival:.2f} s, {same.calls} calls")
        recoveries = [await measures.recovery(lab, operator, each=True)]
        tell(f"usual way: recovery {recoveries[0]:.2f} s")
    return Findings(syncs, rounds, used, brisk, calm, same, recoveries)


async def _singles(lab: Lab, course: Course, tell: Tell, who: str) -> tuple[Single, Single]:
    """Faster and slower than the default budget of terminations; all jobs live again after each."""
    found = []
    for spacing in (measures.BRISK, measures.CALM):
        one = await measures.single(lab, count=min(course.singles, course.objects // 2), spacing=spacing)
        times = f"p50 {one.arrival.p50:.1f} ms, p99 {one.arrival.p99:.1f} ms"
        tell(f"{who}: {1 / spacing:.0f} patches/s to TerminateJob {times}")
        await lab.fleet.renew()
        found.append(one)
    return found[0], found[1]
