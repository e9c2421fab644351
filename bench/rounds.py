"""The cost of polls while nothing else happens: CPU, and calls by the record of Batch."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from awsbatch_sandbox.operator_process import OperatorProcess
from bench.harness import Harness
from bench.process import cpu_seconds
from bench.subjects import Subject, status_writes
from bench.tenants import Where

JOBS_PER_DESCRIBE: Final = 100
"""Most ids in one DescribeJobs."""


@dataclass(frozen=True, slots=True)
class Share:
    """The polls of the jobs of one account and role: others can't share their calls."""

    where: Where
    jobs: int
    calls: int
    polls: int

    @property
    def calls_a_round(self) -> float:
        return self.calls * self.jobs / self.polls if self.polls else math.nan


@dataclass(frozen=True, slots=True)
class Steady:
    """`seconds` in which nothing happens but polls, `polls` of single jobs in `calls`; `writes` to the API server.

    `shares`: of each account and role apart, where there are several.
    """

    seconds: float
    cpu_percent: float
    calls: int
    polls: int
    writes: float
    objects: int
    shares: list[Share] = field(default_factory=list)

    @property
    def calls_a_round(self) -> float:
        """A round is as many polls as there are jobs, and that of each share for itself: their calls share no ids."""
        if self.shares:
            return sum(share.calls_a_round for share in self.shares)
        return self.calls_a_poll * self.objects

    @property
    def fewest_calls(self) -> int:
        """Calls of a round in which every call is full."""
        return sum(
            math.ceil(jobs / JOBS_PER_DESCRIBE) for jobs in [share.jobs for share in self.shares] or [self.objects]
        )

    @property
    def round_seconds(self) -> float:
        return self.seconds * self.objects / self.polls if self.polls else math.nan

    @property
    def cpu_a_poll(self) -> float:
        """Seconds of CPU time for one poll of one job."""
        return self.cpu_percent / 100 * self.seconds / self.polls if self.polls else math.nan

    @property
    def calls_a_poll(self) -> float:
        return self.calls / self.polls if self.polls else math.nan

    @property
    def calls_a_minute(self) -> float:
        return 60 * self.calls / self.seconds


async def all_polled(harness: Harness, *, calls: int) -> None:
    """Wait until every live job was polled, in at least so many calls since the record was cleared."""
    batch = harness.world.batch
    deadline = time.monotonic() + harness.patience
    while batch.counts().get("DescribeJobs", 0) < calls or _unseen(harness):
        if time.monotonic() > deadline:
            raise TimeoutError(f"within {harness.patience:.0f} s not every job was polled")
        await asyncio.sleep(0.25)


def _unseen(harness: Harness) -> bool:
    polled_at = {job_id for call in harness.world.batch.calls("DescribeJobs") for job_id in call["job_ids"]}
    return not polled_at.issuperset(harness.fleet.live.values())


async def settle(harness: Harness, *, each: bool = False, seconds: float) -> None:
    """After a start: every job polled (`each` by a call of its own), and then so long."""
    await all_polled(harness, calls=harness.size if each else math.ceil(harness.size / JOBS_PER_DESCRIBE))
    await asyncio.sleep(seconds)


async def steady(harness: Harness, subject: Subject, *, seconds: float) -> Steady:
    own_count = partial(status_writes, subject) if isinstance(subject, OperatorProcess) else float
    written = own_count()
    harness.world.batch.clear_calls()
    async with harness.kube.watch() as sightings:
        began, cpu = time.monotonic(), cpu_seconds(subject.pid)
        await asyncio.sleep(seconds)
        cpu, passed = cpu_seconds(subject.pid) - cpu, time.monotonic() - began
    calls = harness.world.batch.calls("DescribeJobs")
    # A watch does not show a write without changes; a counter does not include other writers: use the larger number.
    writes = max(own_count() - written, sightings.versions)
    polls = sum(len(call["job_ids"]) for call in calls)
    shares = [] if harness.tenants is None else _shares(harness, calls)
    return Steady(passed, 100 * cpu / passed, len(calls), polls, writes, harness.size, shares)


def _shares(harness: Harness, calls: Sequence[Mapping[str, Any]]) -> list[Share]:
    made, polls = Counter[Where](), Counter[Where]()
    for call in calls:
        where = Where(call["account"], call["role"])
        made[where] += 1
        polls[where] += len(call["job_ids"])
    return [
        Share(where, jobs, made[where], polls[where]) for where, jobs in sorted(harness.fleet.spread.items(), key=str)
    ]
