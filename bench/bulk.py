"""`python -m bench.bulk`, or `make bench-bulk`: BatchTerminations that count 10,000 jobs and terminate 4,000 of them.

Once under a policy that names queues, and once under one that names tags, which only DescribeJobs shows. Meanwhile
BatchJobs of a namespace without a policy are terminated one by one.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import click

from awsbatch_operator.api import timestamps
from awsbatch_operator.api.names import API_VERSION, POLICY_KIND
from awsbatch_operator.reconcile.sweep import LIVE_STATUSES
from awsbatch_sandbox.operator_process import REGION, OperatorProcess
from awsbatch_sandbox.terminations import Terminations
from bench.command import control_plane_option, measured, progress_writer
from bench.fleet import JOB
from bench.harness import Harness
from bench.measures import CALM, arrivals, latency, one_by_one, stated
from bench.process import cpu_seconds, load, machine, memory
from bench.report import markdown
from bench.rounds import JOBS_PER_DESCRIBE, settle
from bench.scenarios import Progress, Scenario, harness_of
from bench.subjects import launched

KINDS: Final = ("queues", "tags")
"""The rules of the policies."""
JOBS_PER_PAGE: Final = 1000
JOBS_PER_TERMINATE: Final = 50
OTHERS: Final = 1000
"""BatchJobs of the namespace without a policy."""
WITHOUT: Final = 200
"""Single terminations before there is a BatchTermination."""
IDLE: Final = 30.0
TARGETS: Final = {"counted": 30.0, "terminated": 60.0, "single": 2000.0, "memory": 30.0}
"""Targets: seconds to count and to terminate, milliseconds of a single patch, MiB above the idle operator."""
_NAME: Final = "stop"
_PATIENCE: Final = 300.0
_HOUR: Final = 3_600_000
_SAMPLED_EVERY: Final = 0.25

Calls = Mapping[str, int]
"""Numbers of calls by operation."""


@dataclass(frozen=True, slots=True)
class Idle:
    """The operator that polls the other BatchJobs. `singles`: seconds from a patch to TerminateJob."""

    resident: float
    cpu_a_second: float
    singles: Sequence[float]


@dataclass(frozen=True, slots=True)
class Side:
    """One BatchTermination. Times are seconds, `resident` is the largest in MiB, `cpu` that of the sweep that counts.

    `terminated` is from the approval to the last TerminateJobs, `singles` are the patches of that time.
    """

    counted: float
    count_calls: Calls
    cpu: float
    terminated: float
    calls: Calls
    resident: float
    singles: Sequence[float]


@dataclass(frozen=True, slots=True)
class Line:
    """`figures`: by queues, by tags and without. `most`: the target; None: there is none."""

    what: str
    figures: Sequence[str]
    met: bool | None = None
    target: str = ""

    def cells(self) -> tuple[str, ...]:
        return self.what, *self.figures, self.target, "" if self.met is None else "yes" if self.met else "NO"


@click.command()
@click.option("--jobs", default=10_000, show_default=True, type=click.IntRange(min=100), help="Jobs of the queue.")
@click.option("--matching", default=4_000, show_default=True, type=click.IntRange(min=50), help="How many match.")
@control_plane_option
def main(jobs: int, matching: int, control_plane: str) -> None:
    """Measure how BatchTerminations count and terminate jobs; exit with 1 if a target is missed."""
    before = load()
    scenario = Scenario(OTHERS, control_plane)
    idle, sides, version = measured(_measure(scenario, jobs, matching, progress_writer(jobs)))
    lines = compared(idle, sides, jobs, matching)
    described = ", ".join(f"{what} {value}" for what, value in machine().items())
    click.echo(f"{described}; control plane {version}, load of the machine before {before:.2f}")
    click.echo(f"{jobs:,} running jobs of one queue, of which {matching:,} match\n")
    head = ("figure", "policy by queues", "policy by tags", "without", "target", "met?")
    click.echo(markdown([head, *(line.cells() for line in lines)], numbers=(1, 2, 3, 4)))
    if not all(line.met in (None, True) for line in lines):
        raise SystemExit(1)


def compared(idle: Idle, sides: Mapping[str, Side], jobs: int, matching: int) -> list[Line]:
    found = [sides[kind] for kind in KINDS]
    pages = math.ceil(jobs / JOBS_PER_PAGE) + len(LIVE_STATUSES) - 1
    describes = {"queues": 0, "tags": math.ceil(jobs / JOBS_PER_DESCRIBE)}
    requests = math.ceil(matching / JOBS_PER_TERMINATE)

    def seconds(what: str, name: str, target: str) -> Line:
        values = [getattr(side, name) for side in found]
        most = TARGETS[target]
        return Line(what, [*(f"{value:.1f} s" for value in values), ""], max(values) <= most, f"<= {most:g} s")

    def calls(what: str, name: str, operation: str, least: Mapping[str, int]) -> Line:
        made = [getattr(sides[kind], name).get(operation, 0) for kind in KINDS]
        return Line(what, [*(f"{count} of {least[kind]}" for count, kind in zip(made, KINDS, strict=True)), ""])

    def single(rank: str) -> Line:
        values = [getattr(latency(side.singles), rank) for side in found]
        met, most = max(values) <= TARGETS["single"], f"<= {TARGETS['single']:,.0f} ms"
        shown = [f"{value:.0f} ms" for value in (*values, getattr(latency(idle.singles), rank))]
        return Line(f"single patch to TerminateJob, {rank}", shown, met, most)

    more = [side.resident - idle.resident for side in found]
    memory_shown = [*(f"+{value:.0f} MiB" for value in more), f"{idle.resident:.0f} MiB"]
    same = dict.fromkeys(KINDS, pages)
    return [
        seconds("jobs counted", "counted", "counted"),
        calls("... ListJobs, of the least", "count_calls", "ListJobs", same),
        calls("... DescribeJobs, of the least", "count_calls", "DescribeJobs", describes),
        Line("... CPU of the operator", [*(f"{side.cpu:.2f} s" for side in found), ""]),
        seconds("approval to the last TerminateJobs", "terminated", "terminated"),
        calls("... TerminateJobs, of the least", "calls", "TerminateJobs", dict.fromkeys(KINDS, requests)),
        calls("... ListJobs, of one sweep", "calls", "ListJobs", same),
        calls("... DescribeJobs, of one sweep", "calls", "DescribeJobs", describes),
        *map(single, ("p50", "p99", "most")),
        Line("memory, resident", memory_shown, max(more) <= TARGETS["memory"], f"<= +{TARGETS['memory']:g} MiB"),
    ]


# -- measures ----------------------------------------------------------------------------------------------------------


async def _measure(
    scenario: Scenario, jobs: int, matching: int, progress: Progress
) -> tuple[Idle, dict[str, Side], str]:
    async with asyncio.timeout(4 * _PATIENCE), harness_of(scenario, progress) as (harness, version):
        operator = harness.operator()
        with launched(operator):
            await settle(harness, seconds=IDLE)
            idle = await _idle(harness, operator)
            progress(f"idle: {idle.resident:.0f} MiB")
            sides = {}
            for kind in KINDS:
                sides[kind] = await _side(harness, operator, kind, (jobs, matching), idle)
                progress(f"policy by {kind}: {sides[kind].counted:.1f} s and {sides[kind].terminated:.1f} s")
    return idle, sides, version


async def _idle(harness: Harness, operator: OperatorProcess) -> Idle:
    began, cpu = time.monotonic(), cpu_seconds(operator.pid)
    await asyncio.sleep(IDLE)
    rate = (cpu_seconds(operator.pid) - cpu) / (time.monotonic() - began)
    arrived, _ = await one_by_one(harness, count=WITHOUT, spacing=CALM)
    return Idle(memory(operator.pid).resident, rate, arrived)


async def _side(harness: Harness, operator: OperatorProcess, kind: str, jobs: tuple[int, int], idle: Idle) -> Side:
    own = await _prepare(harness, kind, *jobs)
    with Terminations(harness.world.control_plane.kubeconfig, kind) as terminations:
        async with _sampled(operator) as resident:
            harness.world.batch.clear_calls()
            began, cpu = time.time(), cpu_seconds(operator.pid)
            await asyncio.to_thread(terminations.create, _NAME, **_spec(kind, jobs[1]))
            status = await _shown(terminations, "phase", "AwaitingApproval")
            counted, cpu = time.time() - began, cpu_seconds(operator.pid) - cpu
            if status["matched"] != jobs[1]:
                raise TimeoutError(f"{jobs[1]} jobs match, and the status says {status}")
            count_calls = _calls(harness, own)
            terminated, calls, singles = await _approved(harness, terminations, own, jobs[1])
        await asyncio.to_thread(terminations.delete, _NAME)
    sweep = cpu - counted * idle.cpu_a_second
    return Side(counted, count_calls, sweep, terminated, calls, max(resident), singles)


async def _approved(
    harness: Harness, terminations: Terminations, own: frozenset[str], matching: int
) -> tuple[float, Calls, list[float]]:
    """Approve, and patch others one by one until all is requested: how long each took, and the calls."""
    harness.world.batch.clear_calls()
    over = asyncio.Event()
    began = time.time()
    await asyncio.to_thread(terminations.approve, _NAME)
    async with asyncio.TaskGroup() as tasks:
        patching = tasks.create_task(_patch_others(harness, over))
        await _shown(terminations, "requested", matching)
        over.set()
    sent = patching.result()
    arrived = await arrivals(harness, {job_id: job_id for job_id in sent})
    last = max(request["at"] for request in harness.world.batch.terminate_requests() if request["job_id"] in own)
    return last - began, _calls(harness, own, until=last), [arrived[job_id] - at for job_id, at in sent.items()]


async def _patch_others(harness: Harness, over: asyncio.Event) -> dict[str, float]:
    """Time of each patch by job id; each patch has a different reason."""
    sent: dict[str, float] = {}
    while not over.is_set():
        for key, job_id in harness.fleet.take(1).items():
            sent[job_id] = time.time()
            await harness.kube.patch(key, stated(f"runaway cost of {key}"))
        await asyncio.sleep(CALM)
    return sent


async def _prepare(harness: Harness, kind: str, jobs: int, matching: int) -> frozenset[str]:
    """A namespace with a policy, and the ids of the jobs of its queue."""
    admitted: dict[str, Any] = {"queues": [kind]} if kind == "queues" else {"tags": {"bulk": kind}}
    spec = {
        "namespaceSelector": {"matchLabels": {"bulk": kind}},
        "jobs": admitted,
        "allow": ["Observe", "Terminate", "List"],
    }
    body = {"apiVersion": API_VERSION, "kind": POLICY_KIND, "metadata": {"name": kind}, "spec": spec}
    await harness.kube.create_policy(body)
    await harness.kube.create_namespace(kind, {"bulk": kind})
    job = {**JOB, "queue": kind, "created_at": _now() - _HOUR, "grace": _PATIENCE}
    seed = harness.world.batch.seed_many
    # By tags, every name could match: all of them must be described.
    other = {"name": "serve"} if kind == "queues" else {"name": "train"}
    own = seed(matching, **job | {"name": "train", "tags": {**JOB["tags"], "bulk": kind}})
    own += seed(jobs - matching, **job | other)
    return frozenset(own)


def _spec(kind: str, matching: int) -> dict[str, Any]:
    select = {"queues": [kind], "jobNames": ["train-*"]}
    cutoff = timestamps.date_time(_now())
    return {"region": REGION, "select": select, "createdBefore": cutoff, "reason": "wrong image", "maxJobs": matching}


def _now() -> int:
    return int(1000 * time.time())


async def _shown(terminations: Terminations, field: str, value: object) -> dict[str, Any]:
    """The status, once that field has this value."""
    wait, holds = terminations.wait_for, lambda status: status.get(field) == value
    return await asyncio.to_thread(wait, _NAME, holds, timeout=_PATIENCE)


def _calls(harness: Harness, own: frozenset[str], *, until: float = math.inf) -> Calls:
    """Those that list the queue, or are about its jobs."""
    found = [call for call in harness.world.batch.calls() if call["at"] <= until]
    return Counter(call["operation"] for call in found if call["queue"] is not None or own & set(call["job_ids"]))


@asynccontextmanager
async def _sampled(operator: OperatorProcess) -> AsyncIterator[list[float]]:
    """The MiB that are resident at several moments of the block."""
    found = [memory(operator.pid).resident]

    async def sample() -> None:
        while True:
            await asyncio.sleep(_SAMPLED_EVERY)
            found.append(memory(operator.pid).resident)

    sampling = asyncio.create_task(sample())
    try:
        yield found
    finally:
        sampling.cancel()
        with suppress(asyncio.CancelledError):
            await sampling


if __name__ == "__main__":
    main()
