"""`python -m bench.events`, or `make bench-events`: what events and lists save, and how soon an end is shown.

Each sandbox has as many jobs in each of two regions. The operator reads a queue that gets the events of one of them,
and of the other none, so polling stands beside events in one process. It runs once with lists and once without.
"""

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from awsbatch_sandbox.cluster import batch_job
from awsbatch_sandbox.operator_process import REGION, OperatorProcess
from awsbatch_sandbox.world import World
from bench.command import control_plane_option, measured, progress_writer, sizes_of
from bench.events_report import WAYS, Point, Way, missed, sheet, table
from bench.fleet import JOB, Fleet
from bench.kube import Kube, connected
from bench.measures import latency
from bench.plot import draw
from bench.prefill import described, like, plane_of, store_of
from bench.process import cpu_seconds, load, machine, memory
from bench.scenarios import GRACE, Progress
from bench.subjects import launched, ours, status_writes

SILENT: Final = "eu-central-1"
"""The region whose events reach no queue; those of REGION do."""
_WAYS: Final[dict[Way, tuple[Sequence[str], str]]] = {
    "both": ((), REGION),
    "lists": ((), SILENT),
    "events": (("--no-list-polls",), REGION),
    "polls": (("--no-list-polls",), SILENT),
}
"""The flags of the operator, but for the queue, and the region."""
_FLAGS: Final = tuple(dict.fromkeys(flags for flags, _ in _WAYS.values()))
_ALONE_FROM: Final = 50_000
"""Jobs from which on the region without events stays empty: polls need the whole budget there, which is calculated."""
_SETTLE: Final = 60.0
_A_FILL: Final = 2_000
_POLLED: Final = "awsbatch_operator_describe_batch_size_sum"
_ALIVE: Final = "awsbatch_operator_events_queue_alive"
_RECEIVED: Final = "awsbatch_operator_events_received_total"
_DELAY: Final = "awsbatch_operator_event_delay_seconds"
_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Asked:
    """`ends` of jobs in each region, over so many `seconds`; `window`: seconds in which calls are counted."""

    control_plane: str
    ways: Sequence[Way]
    ends: int
    seconds: float
    window: float


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`live`: the job ids by `namespace/name`, by region."""

    world: World
    kube: Kube
    queue: str
    fleets: dict[str, Fleet]

    @property
    def size(self) -> int:
        return sum(len(fleet.live) for fleet in self.fleets.values())


def _ways_of(_context: click.Context, _option: click.Parameter, value: str) -> list[Way]:
    found: list[Way] = [way for way in WAYS if way in value.split(",")]
    if len(found) < len(value.split(",")):
        raise click.BadParameter(f"give some of {', '.join(WAYS)}")
    return found


@click.command()
@click.option("--objects", "sizes", default="1000,10000", show_default=True, callback=sizes_of)
@control_plane_option
@click.option("--ways", default=",".join(WAYS), show_default=True, callback=_ways_of)
@click.option("--ends", default=300, show_default=True, help="Jobs that end in each region; 0: keep the last times.")
@click.option("--seconds", default=120.0, show_default=True, help="Time over which they end.")
@click.option("--window", default=900.0, show_default=True, help="Seconds of quiet jobs; 0: keep the last calls.")
@click.option("--redraw", is_flag=True, help="Measure nothing: draw the figures of the last runs.")
@click.option(
    "--into",
    default=_HERE,
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder for events.json and events.svg. [default: bench]",
)
def main(
    *,
    sizes: list[int],
    control_plane: str,
    ways: list[Way],
    ends: int,
    seconds: float,
    window: float,
    redraw: bool,
    into: Path,
) -> None:
    """Measure and draw; exit with 1 if a target is missed."""
    asked, file = Asked(control_plane, ways, ends, seconds, window), into / "events.json"
    for size in () if redraw else sorted(sizes):
        measured(_measure(size, asked, file, progress_writer(size)))
    found = json.loads(file.read_text("utf-8"))
    points = [Point.read(one) for one in found["points"]]
    (into / "events.svg").write_text(draw(sheet(points, found["machine"], found["day"])), encoding="utf-8")
    click.echo(table(points))
    if late := missed(points):
        raise click.ClickException("; ".join(late))


async def _measure(size: int, asked: Asked, file: Path, progress: Progress) -> None:
    async with _filled(size, asked.control_plane, progress) as sandbox:
        for flags in _FLAGS:
            ways = {_WAYS[way][1]: way for way in asked.ways if _WAYS[way][0] == flags}
            points = {
                region: Point(size, way, await sandbox.kube.version())
                for region, way in ways.items()
                if region in sandbox.fleets
            }
            if points:
                _save(await _run(sandbox, asked, points, flags, progress), file)


def _save(points: Sequence[Point], file: Path) -> None:
    """Replace what was measured of these numbers and ways; keep the rest."""
    found = json.loads(file.read_text("utf-8"))["points"] if file.exists() else []
    kept = {(one["objects"], one["way"]): one for one in found}
    for point in points:
        new = {name: value for name, value in asdict(point).items() if value is not None}
        kept[point.objects, point.way] = kept.get((point.objects, point.way), asdict(point)) | new
    ordered = [kept[key] for key in sorted(kept)]
    whole = {"day": datetime.now(UTC).date().isoformat(), "machine": machine(), "points": ordered}
    file.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


# -- the sandbox ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _filled(size: int, control_plane: str, progress: Progress) -> AsyncIterator[Sandbox]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="awsbatch-bench-")))
        plane = plane_of(control_plane, directory)
        stack.callback(plane.stop)
        plane.launch()
        plane.ready()
        world = stack.enter_context(World(plane, grace=GRACE))
        kube = await stack.enter_async_context(connected(plane.kubeconfig))
        regions = (REGION,) if size >= _ALONE_FROM else (REGION, SILENT)
        fleets = {region: Fleet(kube, world.batch) for region in regions}
        queue = world.batch.create_queue(region=REGION)
        sandbox = Sandbox(world, kube, queue, fleets)
        began = time.monotonic()
        for number, region in enumerate(regions):
            await _fill(sandbox, region, first=number * size, count=size)
        await kube.settled(size * len(regions))
        progress(f"{size} objects made in {' and '.join(regions)} in {time.monotonic() - began:.0f} s")
        yield sandbox


async def _fill(sandbox: Sandbox, region: str, *, first: int, count: int) -> None:
    """The first object gets its status from the operator; the others are put beside it with a status like that one.

    Each region has a namespace of its own: ends that polls find come at once, and their writes take turns by namespace.
    """
    world, kube = sandbox.world, sandbox.kube
    job_ids = world.batch.seed_many(count, **{"name": "train", "region": region, **JOB})
    names = [f"bench-{number:06}" for number in range(first, first + count)]
    await kube.create_namespace(region, {})
    async with kube.watch() as sightings:
        await kube.create(region, batch_job(names[0], job_ids[0], region=region))
        with launched(ours(world)):
            await sightings.statuses(1, timeout=60)
    async with store_of(world.control_plane, kube) as store:
        example = await store.read(region, names[0])
        some: list[dict[str, Any]] = []
        for name, job in zip(names[1:], described(world.batch.url, job_ids[1:], region), strict=True):
            some.append(like(example, region, name, job))
            if len(some) == _A_FILL or name == names[-1]:
                await store.put(some)
                some = []
    sandbox.fleets[region].live |= {f"{region}/{name}": job_id for name, job_id in zip(names, job_ids, strict=True)}


# -- one run of the operator ------------------------------------------------------------------------------------------


async def _run(
    sandbox: Sandbox, asked: Asked, points: dict[str, Point], flags: Sequence[str], progress: Progress
) -> list[Point]:
    """`points`: what is to be measured, by region. Jobs end first; then nothing happens but polls."""
    operator = ours(sandbox.world, (f"--events-queue={sandbox.queue}", *flags))
    before = load()
    with launched(operator):
        await _settle(sandbox, operator)
        progress(f"settled; {status_writes(operator):.0f} status writes so far")
        if asked.ends:
            times = await _ends(sandbox, asked)
            for region, point in points.items():
                found = latency(times[region])
                points[region] = replace(point, load=before, ends=len(times[region]), latency=found)
                progress(f"{point.way}: shown after {found.p50:,.0f} ms, p99 {found.p99:,.0f}, most {found.most:,.0f}")
        if asked.window:
            # Jobs that were polled before the first event are polled once more as without events.
            await asyncio.sleep(_SETTLE)
            calls, cpu = await _calls(sandbox, operator, asked.window)
            for region, point in points.items():
                points[region] = replace(points[region], window=asked.window, calls=calls[region])
                progress(f"{point.way}: calls a minute {calls[region]}")
            progress(f"{cpu:.2f} % of a core for all jobs, {memory(operator.pid).resident:.0f} MiB")
        progress(_received(operator))
    return list(points.values())


async def _settle(sandbox: Sandbox, operator: OperatorProcess) -> None:
    """Wait until every job was polled and an event has arrived."""
    deadline = time.monotonic() + 120 + sandbox.size / 100
    while not await asyncio.to_thread(_is_polled, operator, sandbox.size):
        if time.monotonic() > deadline:
            raise TimeoutError("not all jobs were polled, or no event arrived")
        await asyncio.sleep(1)


def _is_polled(operator: OperatorProcess, size: int) -> bool:
    if operator.get("/readyz")[0] != 200:
        return False
    metrics = operator.metrics()
    alive = {labels["region"]: value for labels, value in metrics.get(_ALIVE, [])}
    return bool(alive.get(REGION)) and sum(value for _, value in metrics.get(_POLLED, [])) >= size


async def _ends(sandbox: Sandbox, asked: Asked) -> dict[str, list[float]]:
    """Seconds from the request that ends a job to the object that a watch shows, by region."""
    chosen = {region: fleet.take(asked.ends) for region, fleet in sandbox.fleets.items()}
    jobs = [job for turn in zip(*(jobs.items() for jobs in chosen.values()), strict=True) for job in turn]
    ended: dict[str, float] = {}
    loop = asyncio.get_running_loop()
    async with sandbox.kube.watch() as sightings:
        began = loop.time()
        for number, (key, job_id) in enumerate(jobs):
            await asyncio.sleep(began + number * asked.seconds / len(jobs) - loop.time())
            ended[key] = time.time()
            await asyncio.to_thread(sandbox.world.batch.move, job_id, "SUCCEEDED")
        await sightings.ends(len(jobs), timeout=120 + sandbox.size / 100)
    shown = {key: sightings.ended_at[key.partition("/")[2]] for key in ended}
    return {region: [shown[key] - ended[key] for key in mine] for region, mine in chosen.items()}


async def _calls(
    sandbox: Sandbox, operator: OperatorProcess, seconds: float
) -> tuple[dict[str, dict[str, float]], float]:
    """Calls a minute by operation, by region, and the CPU of the process in per cent of a core."""
    batch = sandbox.world.batch
    batch.clear_calls()
    began, cpu = time.monotonic(), cpu_seconds(operator.pid)
    await asyncio.sleep(seconds)
    passed, cpu = time.monotonic() - began, cpu_seconds(operator.pid) - cpu
    counts = {region: Counter(call["operation"] for call in batch.calls(region=region)) for region in sandbox.fleets}
    return {
        region: {operation: round(60 * count / passed, 2) for operation, count in sorted(made.items())}
        for region, made in counts.items()
    }, 100 * cpu / passed


def _received(operator: OperatorProcess) -> str:
    metrics = operator.metrics()
    counts = {labels["result"]: int(value) for labels, value in metrics.get(_RECEIVED, []) if value}
    delay, number = (metrics[f"{_DELAY}_{part}"][0][1] for part in ("sum", "count"))
    return f"messages {counts}, received after {1000 * delay / max(number, 1):.0f} ms on average"


if __name__ == "__main__":
    main()
