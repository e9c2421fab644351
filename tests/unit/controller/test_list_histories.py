"""Random histories of lists that lie, lag, repeat and hide jobs.

Only DescribeJobs decides what a status shows, and lists keep nothing from it for longer than nine of them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import looptime
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.interfaces import DescribedJob, DescribeResult, JobPage
from awsbatch_operator.api.job import Job, JobSummary, NotFound, Target
from awsbatch_operator.controller.list_poller import MOST_LISTS
from builders import DENIED, REJECTED, THROTTLED, UNAVAILABLE
from fakes.batch import FakeProvider
from unit.controller.world import World

QUEUE = "arn:aws:batch:eu-west-1:111122223333:job-queue/night"
QUIET = 200
"""Jobs in each of two statuses that never change, so that lists pay."""
INTERVAL = 60
LATEST = (MOST_LISTS + 3) * INTERVAL
"""Seconds after which each job has been described, whatever lists show."""
MISSING_GRACE = 200
"""Seconds from the answer that lacks a job until a status shows it: 120, and a poll."""
ACTORS = tuple(f"actor-{number}" for number in range(5))
ACTOR = st.sampled_from(ACTORS)
STATUSES = ("SUBMITTED", "RUNNABLE", "RUNNABLE", "RUNNING", "RUNNING", "SUCCEEDED", "FAILED")
HOW = (
    "honest",
    "honest",
    "frozen",
    "frozen",
    "all there",
    "hides",
    "empty",
    "repeats",
    "wrong status",
    "no end",
    "bare",
)
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.005, 0.5, 7.0, 31.0, 61.0, 200.0])),
    st.tuples(st.just("wait"), st.sampled_from([31.0, 61.0])),
    st.tuples(st.just("move"), ACTOR, st.sampled_from(STATUSES)),
    st.tuples(st.just("lists"), st.sampled_from(HOW)),
    st.tuples(st.just("flag"), ACTOR),
    st.tuples(st.just("forget"), ACTOR),
    st.tuples(st.just("state"), ACTOR, st.booleans()),
    st.tuples(st.just("second"), ACTOR),
    st.tuples(st.just("error"), st.just("list"), st.sampled_from([DENIED, REJECTED, THROTTLED])),
    st.tuples(st.just("error"), st.just("describe"), st.sampled_from([DENIED, UNAVAILABLE, THROTTLED])),
    st.tuples(st.just("describes"), st.booleans()),
    st.tuples(st.just("latency"), st.sampled_from([0.01, 2.0, 20.0])),
    st.tuples(st.just("leader"), st.booleans()),
)


class LyingProvider(FakeProvider):
    """`how`: what it does to lists. `shown`: what DescribeJobs has shown of each job; `missed`: that it lacked it."""

    def __init__(self) -> None:
        super().__init__()
        self.how = "honest"
        self.frozen: dict[str, Job] = {}
        self.shown: defaultdict[str, list[Job]] = defaultdict(list)
        self.missed: set[str] = set()
        self.on_describe = self._note

    def _note(self, _target: Target, answer: Mapping[str, DescribeResult], _at: float) -> None:
        for job_id, result in answer.items():
            if isinstance(result, DescribedJob):
                self.shown[job_id].append(result.job)
            elif isinstance(result, NotFound):
                self.missed.add(job_id)

    async def list_jobs(self, target: Target, queue: str, status: str, token: str | None) -> JobPage | CallError:
        page = await super().list_jobs(target, queue, status, token)
        return page if isinstance(page, CallError) else self._changed(page, f"{target} {queue} {status} ", token)

    def _listed(self, queue: str, status: str) -> list[JobSummary]:
        now = self.jobs
        self.jobs = self.frozen if self.how == "frozen" else now
        listed = super()._listed(queue, status)
        self.jobs = now
        if self.how == "all there":
            # What a job was when lists were frozen, in the list of each status.
            old = (job.replace(status=status) for job in self.frozen.values())
            listed += [JobSummary(one.name or "", "", status, started_at=one.started_at) for one in old]
        return listed

    def _changed(self, page: JobPage, token_prefix: str, token: str | None) -> JobPage:
        match self.how:
            case "hides":
                return JobPage(page.jobs[::2], page.next_token)
            case "empty":
                return JobPage((), None)
            case "repeats":
                return JobPage(page.jobs + page.jobs, token)
            case "wrong status":
                return JobPage(tuple(one.replace(status="STARTING") for one in page.jobs), page.next_token)
            case "no end":
                return JobPage(page.jobs, token_prefix + "0" * (len(self.lists) % 100 + 1))
            case "bare":
                return JobPage(tuple(JobSummary(one.job_id, "", one.status) for one in page.jobs), page.next_token)
        return page


@dataclass
class History:
    batch: LyingProvider
    world: World
    uids: dict[str, str] = field(default_factory=dict)
    """Job ids by uid of the object."""

    def begin(self) -> None:
        for number in range(QUIET):
            self.world.an_object(self.world.a_job(f"quiet-{number}", queue=QUEUE, started_at=5))
            self.world.an_object(self.world.a_job(f"waiting-{number}", "RUNNABLE", queue=QUEUE))
        for job_id in ACTORS:
            self.uids[self.world.an_object(self.world.a_job(job_id, queue=QUEUE, started_at=5))] = job_id

    # -- what happens -------------------------------------------------------------------------------------------------

    def move(self, job_id: str, status: str) -> None:
        """Forward, to the end, or back by a retry."""
        job = self.batch.jobs.get(job_id)
        if job is not None and not job.finished:
            started_at = len(self.batch.shown[job_id]) if status == "RUNNING" else None
            self.batch.jobs[job_id] = job.replace(status=status, started_at=started_at)

    def flag(self, job_id: str) -> None:
        job = self.batch.jobs.get(job_id)
        if job is not None:
            self.batch.jobs[job_id] = job.replace(is_cancelled=True)

    def forget(self, job_id: str) -> None:
        self.batch.jobs.pop(job_id, None)

    def lists(self, how: str) -> None:
        if how != self.batch.how:
            self.batch.how, self.batch.frozen = how, dict(self.batch.jobs)

    def state(self, job_id: str, wanted: bool) -> None:
        self.world.objects.edit(f"uid-for-{job_id}", {"terminate": {"reason": "why"} if wanted else None})

    def second(self, job_id: str) -> None:
        self.uids[self.world.an_object(job_id, namespace="other")] = job_id

    async def step(self, what: str, *more: Any) -> None:
        match what:
            case "wait":
                await asyncio.sleep(*more)
            case "error":
                getattr(self.batch, f"{more[0]}_errors").append(more[1])
            case "describes":
                (self.batch.describes_granted.set if more[0] else self.batch.describes_granted.clear)()
            case "latency":
                (self.batch.latency,) = more
            case "leader" if more[0]:
                await self.world.controller.on_started_leading()
            case "leader":
                self.world.controller.on_stopped_leading()
            case _:
                getattr(self, what)(*more)

    async def calm(self) -> None:
        """All calls are answered, and lists go on to lie."""
        for errors in (self.batch.list_errors, self.batch.describe_errors):
            errors.clear()
        await self.step("describes", True)
        await self.step("latency", 0.01)
        await self.step("leader", True)
        await asyncio.sleep(LATEST + MISSING_GRACE)

    # -- oracle -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """What is known and shown of each job is what DescribeJobs has shown."""
        for key, job in self.world.controller.cache.jobs.items():
            assert job.state.job is None or job.state.job in self.batch.shown[key.job_id]
        for uid, job_id in self.uids.items():
            status = self.world.objects.status(uid)
            assert status.job is None or status.job in self.batch.shown[job_id]
            assert status.phase is not Phase.MISSING or job_id in self.batch.missed

    def check_end(self) -> None:
        """Each status shows the truth."""
        for uid, job_id in self.uids.items():
            status, job = self.world.objects.status(uid), self.batch.jobs.get(job_id)
            if job is None:
                assert status.phase is Phase.MISSING or (status.job is not None and status.job.finished)
            else:
                assert status.job == job or (status.job is not None and status.job.finished)


async def play(steps: list[tuple[Any, ...]]) -> None:
    batch = LyingProvider()
    history = History(batch, World(batch))
    async with history.world.running():
        history.begin()
        await asyncio.sleep(90)
        for step in steps:
            await history.step(*step)
            history.check()
        await history.calm()
        history.check()
        history.check_end()
        assert batch.lists, "the test shows nothing without lists"


@given(st.lists(STEPS, max_size=25))
def test_no_list_ever_decides_or_hides_anything_for_long(steps: list[tuple[Any, ...]]) -> None:
    loop = looptime.new_event_loop(start=1_000, noop_cycles=0)
    try:
        loop.run_until_complete(play(steps))
    finally:
        loop.close()
