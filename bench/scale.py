"""`python -m bench.scale`, or `make bench-scale`: 100,000 live jobs in one operator process, then shared by three.

Each part has a sandbox of its own. The objects are filled in as bench/prefill.py says; that the operator then writes no
status shows that they are as it would have written them.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from awsbatch_sandbox.controlplane import ASSETS, ControlPlane, choose
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.world import World
from bench.command import control_plane_option, measured, progress_writer
from bench.fleet import JOB, Fleet
from bench.harness import Harness
from bench.kube import connected
from bench.measures import CALM, Latency, Sync, arrivals, bare_sync, latency, one_by_one, stated, sync_since
from bench.prefill import EtcdPlane, Store, described, like, store_of
from bench.process import children, cpu_seconds, load, machine, memory
from bench.report import markdown
from bench.rounds import JOBS_PER_DESCRIBE, steady
from bench.scenarios import DEFAULT_DESCRIBE_RATE, GRACE, Progress
from bench.subjects import launched, ours, status_writes

PARTS: Final = ("steady", "takeover", "sync", "shards")
SINGLES: Final = 200
SHARDS: Final = 3
TARGETS: Final = {"resident": 700.0, "peak": 1024.0, "cpu": 17.0, "p99": 50.0}
"""Targets for 100,000 jobs: MiB, per cent of a core, and milliseconds from a patch to TerminateJob."""
POLL_EVERY: Final = 30.0
_A_FILL: Final = 2_000
_LAG: Final = "awsbatch_operator_event_loop_lag_seconds_bucket"
_POLLS: Final = "awsbatch_operator_describe_batch_size_sum"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure. `most`: the target; None: there is none."""

    figure: str
    value: float
    unit: str = ""
    digits: int = 0
    most: float | None = None

    def cells(self) -> tuple[str, ...]:
        target = "" if self.most is None else f"<= {self.most:g}{self.unit}"
        met = "" if self.most is None else "yes" if round(self.value, self.digits) <= self.most else "NO"
        return self.figure, f"{self.value:,.{self.digits}f}{self.unit}", target, met


@dataclass(frozen=True, slots=True)
class Asked:
    """The options. `window`: seconds of steady polls; 0: as long as a round."""

    objects: int
    sync_objects: int
    parts: Sequence[str]
    window: float
    flags: Sequence[str]
    control_plane: str


@click.command()
@click.option("--objects", default=100_000, show_default=True, type=click.IntRange(min=1000), help="Live jobs.")
@click.option("--sync-objects", default=20_000, show_default=True, help="Objects without a status in the part sync.")
@click.option("--parts", default=",".join(PARTS), show_default=True, callback=lambda *given: given[2].split(","))
@click.option("--window", default=0.0, help="Seconds of steady polls. [default: one round, 60 at least]")
@click.option("--flag", "flags", multiple=True, help="A further flag of the operators, such as --flag=--no-list-polls.")
@control_plane_option
def main(**given: Any) -> None:
    """Measure so many live jobs; exit with 1 if a target is missed."""
    before, asked = load(), Asked(**given)
    lines: list[Line] = []
    for part in asked.parts:
        size = asked.sync_objects if part == "sync" else asked.objects
        lines += measured(_PARTS[part](asked, progress_writer(size)))
    click.echo(", ".join(f"{what} {value}" for what, value in machine().items()) + f", load before {before:.2f}\n")
    click.echo(markdown([("figure", "value", "target", "met?"), *(line.cells() for line in lines)], numbers=(1, 2)))
    if any(line.cells()[-1] == "NO" for line in lines):
        raise SystemExit(1)


# -- the sandbox ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def filled(
    asked: Asked, progress: Progress, namespaces: Sequence[str] = ("default",), *, status: bool = True
) -> AsyncIterator[Harness]:
    """A new sandbox with the objects, spread evenly over these namespaces, with their statuses or without."""
    objects = asked.objects if status else asked.sync_objects
    async with AsyncExitStack() as ends:
        directory = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="awsbatch-bench-")))
        plane = _plane(asked.control_plane, directory)
        ends.callback(plane.stop)
        plane.launch()
        plane.ready()
        world = ends.enter_context(World(plane, grace=GRACE))
        kube = await ends.enter_async_context(connected(plane.kubeconfig))
        store = await ends.enter_async_context(store_of(plane, kube))
        fleet = Fleet(kube, world.batch)
        for namespace in namespaces:
            if namespace != "default":
                await kube.create_namespace(namespace, {})
        began = time.monotonic()
        await fleet.grow(1)
        if status:
            async with kube.watch() as sightings:
                with launched(ours(world)):
                    await sightings.statuses(1, timeout=30)
        await _fill(fleet, world, store, objects - 1, namespaces)
        await kube.settled(objects)
        progress(f"{objects} objects made in {time.monotonic() - began:.0f} s; {_sizes()}")
        world.batch.clear_calls()
        yield Harness(world, kube, fleet)


def _plane(name: str, directory: Path) -> ControlPlane:
    assets = os.environ.get(ASSETS)
    if name == "envtest" or (name == "auto" and assets):
        return EtcdPlane(directory, assets)
    return choose(name, directory)


async def _fill(fleet: Fleet, world: World, store: Store, count: int, namespaces: Sequence[str]) -> None:
    example = await store.read("default", "bench-000000")
    job_ids = world.batch.seed_many(count, **{"name": "train", **JOB})
    some: list[dict[str, Any]] = []
    for number, job in enumerate(described(world.batch.url, job_ids), 1):
        namespace, name = namespaces[number % len(namespaces)], f"bench-{number:06}"
        some.append(like(example, namespace, name, job))
        fleet.live[f"{namespace}/{name}"] = job["jobId"]
        if len(some) == _A_FILL or number == count:
            await store.put(some)
            some = []


def _sizes() -> str:
    return ", ".join(f"{name} {memory(pid).resident:.0f} MiB" for name, pid in children().items())


# -- the parts --------------------------------------------------------------------------------------------------------


async def _steady(asked: Asked, progress: Progress) -> list[Line]:
    """One process with its defaults: its start, terminations while all jobs are due, a round, and terminations."""
    async with filled(asked, progress) as harness:
        operator = harness.operator(*asked.flags)
        stated_before = await _state_one(harness)
        began = time.time()
        with launched(operator):
            known, first = await asyncio.gather(_known(operator, began), _arrival(harness, stated_before, began))
            synced, written = cpu_seconds(operator.pid), status_writes(operator)
            progress(f"first termination {first:.1f} s, all known {known:.1f} s, {synced:.0f} s of CPU")
            due = await _singles(harness)
            progress(f"while all are due: p50 {due[0].p50:.1f} ms, p99 {due[0].p99:.1f} ms{_troubles(operator)}")
            polled = await _round(harness, [operator], began)
            progress(f"all polled {polled:.1f} s after the start")
            lag = _lags(operator)
            rounds = await steady(harness, operator, seconds=asked.window or max(60.0, _a_round(asked.objects)))
            late = _late(lag, _lags(operator))
            lists = 60 * harness.world.batch.counts().get("ListJobs", 0) / rounds.seconds
            progress(
                f"{rounds.cpu_percent:.2f} % of a core, {rounds.calls_a_minute:.0f} calls a minute, {lists:.0f} lists"
            )
            singles = await _singles(harness)
            used, scrape = memory(operator.pid), await _scrape(operator)
            return [
                Line("objects", asked.objects),
                Line("start: until a termination that was stated meanwhile is sent", first, " s", 1),
                Line("start: until all objects are known", known, " s", 1),
                Line("start: CPU until then", synced, " s", 1),
                Line("start: status writes until then (of the terminated job only)", written),
                Line("start: until all jobs were polled", polled, " s", 1),
                *_patched("all jobs due: ", due),
                Line("CPU, steady, of a core", rounds.cpu_percent, " %", 2, TARGETS["cpu"]),
                Line(
                    "DescribeJobs and ListJobs a minute",
                    rounds.calls_a_minute + lists,
                    "",
                    0,
                    60 * DEFAULT_DESCRIBE_RATE,
                ),
                Line("... ListJobs", lists),
                Line("length of a round of DescribeJobs", rounds.round_seconds, " s", 0),
                Line("Kubernetes writes a minute", 60 * rounds.writes / rounds.seconds, "", 1),
                *_patched("", singles),
                Line("event loop late by more than 10 ms, of its samples", late, " %", 1),
                Line("a scrape of /metrics", scrape, " ms", 0),
                Line("memory, resident", used.resident, " MiB", 0, TARGETS["resident"]),
                Line("memory, peak", used.peak, " MiB", 0, TARGETS["peak"]),
            ]


async def _takeover(asked: Asked, progress: Progress) -> list[Line]:
    """Two replicas: the leader is stopped, and another time killed, and a termination is stated meanwhile."""
    async with filled(asked, progress) as harness:
        first, second = (_elected(harness.world, "scale", *asked.flags) for _ in range(2))
        with launched(first), launched(second):
            await asyncio.gather(_known(first, time.time()), _known(second, time.time()))
            progress("both replicas know all objects")
            standby = memory(second.pid)
            first.stop()
            planned = await _arrival(harness, await _state_one(harness), time.time())
            busy = await _singles(harness)
            progress(f"stopped: {planned:.1f} s; then p50 {busy[0].p50:.1f} ms, p99 {busy[0].p99:.1f} ms")
            first.launch()
            await _known(first, time.time())
            second.kill9()
            killed = await _arrival(harness, await _state_one(harness), time.time())
            progress(f"killed: {killed:.1f} s")
            return [
                Line("memory of a replica that waits, resident", standby.resident, " MiB", 0, TARGETS["resident"]),
                Line("leader stopped: until the other sends what was stated meanwhile", planned, " s", 1),
                *_patched("right after: ", busy),
                Line("leader killed: until the other sends what was stated meanwhile", killed, " s", 1),
            ]


async def _sync(asked: Asked, progress: Progress) -> list[Line]:
    """Objects without a status: until the last one has one, and the same statuses by the bare client."""
    async with filled(asked, progress, status=False) as harness:
        operator, objects = harness.operator(*asked.flags), harness.size
        async with harness.kube.watch() as sightings:
            began = time.time()
            with launched(operator):
                await sightings.statuses(harness.size, timeout=60 + harness.size / 10)
                found = sync_since(began, sightings)
                cpu, used = cpu_seconds(operator.pid), memory(operator.pid)
        progress(f"first sync of {objects} objects {found.last:.1f} s")
        bare = await bare_sync(harness)
        return [
            Line(f"first sync of {objects:,} objects", found.last, " s", 1),
            Line("... of it until the first status", found.first, " s", 1),
            Line("... statuses a second", objects / _from_first(found), "", 0),
            Line("... the same by a bare client: statuses a second", objects / _from_first(bare), "", 0),
            Line(
                "... operator : bare client, from the first status on", _from_first(found) / _from_first(bare), "x", 2
            ),
            Line("... CPU", cpu, " s", 1),
            Line("... memory, peak", used.peak, " MiB", 0),
        ]


async def _shards(asked: Asked, progress: Progress) -> list[Line]:
    """Three processes, each with a namespace, a Lease and a budget of its own."""
    namespaces = [f"shard-{number}" for number in range(SHARDS)]
    async with filled(asked, progress, namespaces) as harness, AsyncExitStack() as ends:
        operators = [_elected(harness.world, name, f"--namespace={name}", *asked.flags) for name in namespaces]
        began = time.time()
        for operator in operators:
            ends.enter_context(launched(operator))
        known = max(await asyncio.gather(*(_known(operator, began) for operator in operators)))
        polled = await _round(harness, operators, began)
        progress(f"all known {known:.1f} s, all polled {polled:.1f} s after the start")
        before = [cpu_seconds(operator.pid) for operator in operators]
        rounds = await steady(
            harness, operators[0], seconds=asked.window or max(60.0, _a_round(asked.objects) / SHARDS)
        )
        used = [100 * (cpu_seconds(one.pid) - at) / rounds.seconds for one, at in zip(operators, before, strict=True)]
        singles = await _singles(harness)
        sizes = [memory(operator.pid) for operator in operators]
        return [
            Line(f"{SHARDS} processes: until all objects are known", known, " s", 1),
            Line(f"{SHARDS} processes: until all jobs were polled", polled, " s", 1),
            Line(f"{SHARDS} processes: CPU of all, steady, of a core", sum(used), " %", 2),
            Line(f"{SHARDS} processes: length of a round", rounds.round_seconds, " s", 0),
            Line(f"{SHARDS} processes: AWS calls a minute", rounds.calls_a_minute),
            *_patched(f"{SHARDS} processes: ", singles),
            Line(f"{SHARDS} processes: memory of the largest, resident", max(one.resident for one in sizes), " MiB"),
            Line(f"{SHARDS} processes: memory of all, proportional", sum(one.proportional for one in sizes), " MiB"),
        ]


# -- measures ---------------------------------------------------------------------------------------------------------


def _elected(world: World, lease: str, *flags: str) -> OperatorProcess:
    return ours(world, ("--leader-elect", "--lease-namespace=default", f"--lease-name={lease}", *flags))


async def _known(operator: OperatorProcess, began: float) -> float:
    """Wait until it is ready; return the seconds since `began`."""
    while (await asyncio.to_thread(operator.get, "/readyz"))[0] != 200:
        if not operator.running:
            raise TimeoutError("the operator ended by itself")
        await asyncio.sleep(0.25)
    return time.time() - began


def _troubles(operator: OperatorProcess) -> str:
    """The distinct warnings in the operator's log: after a request that failed, terminations are held until a list."""
    lines = (f"\n  {one['message']} {one.get('error', '')}" for one in operator.logs() if one["level"] != "info")
    return "".join(dict.fromkeys(lines))


async def _state_one(harness: Harness) -> dict[str, str]:
    chosen = harness.fleet.take(1)
    for key in chosen:
        await harness.kube.patch(key, stated("stated meanwhile"))
    return chosen


async def _arrival(harness: Harness, chosen: dict[str, str], began: float) -> float:
    return max((await arrivals(harness, chosen)).values()) - began


async def _singles(harness: Harness) -> tuple[Latency, Latency]:
    """Times from sending a patch to the arrival of its TerminateJob, and to the response of the API server."""
    arrived, answered = await one_by_one(harness, count=SINGLES, spacing=CALM)
    return latency(arrived), latency(answered)


def _patched(where: str, found: tuple[Latency, Latency]) -> list[Line]:
    arrived, answered = found
    return [
        Line(f"{where}8 patches/s to TerminateJob, p50", arrived.p50, " ms", 1),
        Line(f"{where}8 patches/s to TerminateJob, p99", arrived.p99, " ms", 1, TARGETS["p99"]),
        Line("... the API server's answer alone, p50", answered.p50, " ms", 1),
        Line("... the API server's answer alone, p99", answered.p99, " ms", 1),
    ]


async def _round(harness: Harness, operators: Sequence[OperatorProcess], began: float) -> float:
    """Wait until so many polls were answered as there are jobs; return the seconds since `began`."""
    patience = time.monotonic() + 2 * _a_round(harness.size) + harness.patience
    while sum(operator.metrics()[_POLLS][0][1] for operator in operators) < harness.size:
        if time.monotonic() > patience:
            raise TimeoutError("not all jobs were polled in time")
        await asyncio.sleep(1)
    return time.time() - began


def _a_round(objects: int) -> float:
    """Seconds of a round of polls within the default budget."""
    return max(POLL_EVERY, objects / JOBS_PER_DESCRIBE / DEFAULT_DESCRIBE_RATE)


def _from_first(sync: Sync) -> float:
    return sync.last - sync.first


def _lags(operator: OperatorProcess) -> dict[str, float]:
    return {labels["le"]: value for labels, value in operator.metrics()[_LAG]}


def _late(before: dict[str, float], after: dict[str, float]) -> float:
    """Per cent of the samples between the two."""
    grown = {bound: after[bound] - before[bound] for bound in after}
    return 100 * (1 - grown["0.01"] / grown["+Inf"])


async def _scrape(operator: OperatorProcess) -> float:
    """Milliseconds; the shortest of five."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        await asyncio.to_thread(operator.get, "/metrics")
        times.append(time.perf_counter() - began)
    return 1000 * min(times)


_PARTS: Final[dict[str, Callable[[Asked, Progress], Coroutine[Any, Any, list[Line]]]]] = {
    "steady": _steady,
    "takeover": _takeover,
    "sync": _sync,
    "shards": _shards,
}


if __name__ == "__main__":
    main()
