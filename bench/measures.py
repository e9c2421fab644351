"""The measurements: from outside, by a watch, by the record of Batch, by /proc.

Times are seconds unless they are named otherwise. Each function restores the state of the subject: running, or not.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from awsbatch_operator.controller.status_writer import WRITERS
from bench.harness import Harness
from bench.kube import Sightings, in_parallel, until
from bench.rounds import settle
from bench.subjects import Subject, launched

USERS: Final = 8
"""Patches in flight at once when many objects get a termination."""
BRISK: Final = 0.05
CALM: Final = 0.125
"""Seconds between single patches: 20 a second, which is more than the default budget of 10 TerminateJob a second lets
through, and 8 a second, which is less."""
_TERMINATIONS: Final = ("TerminateJob", "TerminateJobs")


@dataclass(frozen=True, slots=True)
class Sync:
    """Times from the start of the process or of the bare client to the first and the last status in a watch."""

    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Single:
    """Times from sending a patch to the arrival of its TerminateJob, and to the response of the API server."""

    count: int
    arrival: Latency
    answer: Latency


@dataclass(frozen=True, slots=True)
class Mass:
    """Times from the first patch to the response to the last, and to the arrival of the last termination."""

    count: int
    patches: float
    arrival: float
    calls: int

    @property
    def ratio(self) -> float:
        return self.arrival / self.patches


async def first_sync(harness: Harness, subject: Subject) -> Sync:
    await harness.fleet.clear_statuses()
    async with harness.kube.watch() as sightings:
        began = time.time()
        with launched(subject):
            await sightings.statuses(harness.size, timeout=harness.patience)
    return sync_since(began, sightings)


async def bare_sync(harness: Harness) -> Sync:
    """The existing statuses, removed and written again by the bare client, under the same watch."""
    statuses = await harness.kube.statuses()
    await harness.fleet.clear_statuses()
    async with harness.kube.watch() as sightings:
        began = time.time()
        patches = (partial(harness.kube.patch_status, name, status) for name, status in statuses.items())
        await in_parallel(WRITERS, patches)
        await sightings.statuses(harness.size, timeout=harness.patience)
    return sync_since(began, sightings)


def sync_since(began: float, sightings: Sightings) -> Sync:
    """`began`: seconds since the epoch."""
    return Sync(min(sightings.status_at.values()) - began, max(sightings.status_at.values()) - began)


async def single(harness: Harness, *, count: int, spacing: float) -> Single:
    """Patch objects to terminate one by one, without waiting for answers, each with a reason of its own."""
    arrived, answered = await one_by_one(harness, count=count, spacing=spacing)
    return Single(count, latency(arrived), latency(answered))


async def one_by_one(harness: Harness, *, count: int, spacing: float) -> tuple[list[float], list[float]]:
    """Measure the times from each patch to its TerminateJob, and to the response of the API server."""
    chosen = harness.fleet.take(count)
    sent: dict[str, float] = {}
    answered: dict[str, float] = {}
    harness.world.batch.clear_calls()

    async def terminate(key: str, job_id: str) -> None:
        sent[job_id] = time.time()
        await harness.kube.patch(key, stated(f"runaway cost of {key}"))
        answered[job_id] = time.time()

    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with asyncio.TaskGroup() as patches:
        for number, (key, job_id) in enumerate(chosen.items()):
            await asyncio.sleep(begin + number * spacing - loop.time())
            patches.create_task(terminate(key, job_id))
    arrived = await arrivals(harness, chosen)
    return [arrived[job_id] - at for job_id, at in sent.items()], [answered[job_id] - at for job_id, at in sent.items()]


async def mass(harness: Harness, *, count: int, same_reason: bool, namespace: str = "") -> Mass:
    """`namespace`: all in that one, else in any."""
    chosen = harness.fleet.take(count, namespace)
    harness.world.batch.clear_calls()
    began = time.time()
    reasons = {name: "budget is spent" if same_reason else f"budget of {name} is spent" for name in chosen}
    await in_parallel(USERS, (partial(harness.kube.patch, name, stated(reason)) for name, reason in reasons.items()))
    patched = time.time()
    arrived = await arrivals(harness, chosen)
    counts = harness.world.batch.counts()
    calls = sum(counts.get(operation, 0) for operation in _TERMINATIONS)
    return Mass(count, patched - began, max(arrived.values()) - began, calls)


async def recovery(harness: Harness, subject: Subject, *, each: bool = False) -> float:
    """Measure the time from the start after a kill -9 to the TerminateJob of an object that was patched before."""
    subject.kill9()
    chosen = harness.fleet.take(1)
    for name in chosen:
        await harness.kube.patch(name, stated("stated while no operator ran"))
    harness.world.batch.clear_calls()
    began = time.time()
    subject.launch()
    arrived = await arrivals(harness, chosen)
    await settle(harness, each=each, seconds=1)
    return max(arrived.values()) - began


def stated(reason: str) -> dict[str, Any]:
    return {"spec": {"terminate": {"reason": reason}}}


async def arrivals(harness: Harness, chosen: dict[str, str]) -> dict[str, float]:
    """Return the time of the first request for each job, by job id."""
    arrived: dict[str, float] = {}

    def complete() -> bool:
        arrived.clear()
        for one in harness.world.batch.terminate_requests():
            arrived.setdefault(one["job_id"], one["at"])
        return arrived.keys() >= set(chosen.values())

    await until(complete, harness.patience, lambda: f"{len(arrived)} of {len(chosen)} terminations", every=0.25)
    return arrived


def latency(seconds: Sequence[float]) -> Latency:
    """Percentiles by nearest rank."""
    ordered = sorted(1000 * one for one in seconds)

    def rank(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Latency(rank(0.5), rank(0.99), ordered[-1])
