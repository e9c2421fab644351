"""What looks cost while nothing else happens: CPU, and calls by the record of Batch."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from awsbatch_operator.domain.ports import LOOKS_PER_CALL
from awsbatch_sandbox.operator_process import OperatorProcess
from bench.contenders import Contender, status_writes
from bench.lab import Lab
from bench.process import cpu_seconds
from bench.tenants import Where


@dataclass(frozen=True, slots=True)
class Share:
    """The looks at the jobs of one account and role, which share calls with no others."""

    where: Where
    jobs: int
    calls: int
    looks: int

    @property
    def calls_a_round(self) -> float:
        return self.calls * self.jobs / self.looks if self.looks else math.nan


@dataclass(frozen=True, slots=True)
class Steady:
    """`seconds` in which nothing happens but looks, `looks` of single jobs in `calls`; `writes` to the API server.

    `shares`: of each account and role apart, where there are several.
    """

    seconds: float
    cpu_percent: float
    calls: int
    looks: int
    writes: float
    objects: int
    shares: list[Share] = field(default_factory=list)

    @property
    def calls_a_round(self) -> float:
        """A round is as many looks as there are jobs, and that of each share for itself: their calls share no ids."""
        if self.shares:
            return sum(share.calls_a_round for share in self.shares)
        return self.calls_a_look * self.objects

    @property
    def fewest_calls(self) -> int:
        """Of a round in which every call is full."""
        return sum(math.ceil(jobs / LOOKS_PER_CALL) for jobs in [share.jobs for share in self.shares] or [self.objects])

    @property
    def round_seconds(self) -> float:
        return self.seconds * self.objects / self.looks if self.looks else math.nan

    @property
    def cpu_a_look(self) -> float:
        """Seconds of CPU time for one look at one job."""
        return self.cpu_percent / 100 * self.seconds / self.looks if self.looks else math.nan

    @property
    def calls_a_look(self) -> float:
        return self.calls / self.looks if self.looks else math.nan

    @property
    def calls_a_minute(self) -> float:
        return 60 * self.calls / self.seconds


async def all_looked_at(lab: Lab, *, calls: int) -> None:
    """Returns once Batch has heard of every live job, in at least so many calls since the record was cleared."""
    batch = lab.world.batch
    deadline = time.monotonic() + lab.patience
    while batch.counts().get("DescribeJobs", 0) < calls or _unseen(lab):
        if time.monotonic() > deadline:
            raise TimeoutError(f"within {lab.patience:.0f} s not every job was looked at")
        await asyncio.sleep(0.25)


def _unseen(lab: Lab) -> bool:
    looked_at = {job_id for call in lab.world.batch.calls("DescribeJobs") for job_id in call["job_ids"]}
    return not looked_at.issuperset(lab.fleet.live.values())


async def settle(lab: Lab, *, each: bool = False, seconds: float) -> None:
    """After a start: every job looked at (`each` by a call of its own), and then so long."""
    await all_looked_at(lab, calls=lab.size if each else math.ceil(lab.size / LOOKS_PER_CALL))
    await asyncio.sleep(seconds)


async def steady(lab: Lab, contender: Contender, *, seconds: float) -> Steady:
    own_count = partial(status_writes, contender) if isinstance(contender, OperatorProcess) else float
    written = own_count()
    lab.world.batch.clear_calls()
    async with lab.kube.watch() as sightings:
        began, cpu = time.monotonic(), cpu_seconds(contender.pid)
        await asyncio.sleep(seconds)
        cpu, passed = cpu_seconds(contender.pid) - cpu, time.monotonic() - began
    calls = lab.world.batch.calls("DescribeJobs")
    # A write that changes nothing is seen by no watch, one by another hand in no count: the greater tells.
    writes = max(own_count() - written, sightings.versions)
    looks = sum(len(call["job_ids"]) for call in calls)
    shares = [] if lab.tenants is None else _shares(lab, calls)
    return Steady(passed, 100 * cpu / passed, len(calls), looks, writes, lab.size, shares)


def _shares(lab: Lab, calls: Sequence[Mapping[str, Any]]) -> list[Share]:
    made, looks = Counter[Where](), Counter[Where]()
    for call in calls:
        where = Where(call["account"], call["role"])
        made[where] += 1
        looks[where] += len(call["job_ids"])
    return [Share(where, jobs, made[where], looks[where]) for where, jobs in sorted(lab.fleet.spread.items(), key=str)]
