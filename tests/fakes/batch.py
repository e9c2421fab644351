"""AWS Batch as the controller sees it, in memory: jobs, answers that can be made to fail, and what was called."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import (
    Accepted,
    DescribedJob,
    DescribeResult,
    JobPage,
    Location,
    P,
    TerminatePermit,
)
from awsbatch_operator.api.job import NOT_FOUND, Job, JobSummary, Target, account_of

EXPIRED = CallError(ErrorClass.NOT_SENT, "a permit was not valid any more", "PermitExpired")
REGROUPED = CallError(ErrorClass.NOT_SENT, "another permit of the call was not valid any more", "Regrouped")


def _valid(permit: TerminatePermit) -> CallError | None:
    return None if permit.valid() else EXPIRED


class FakeProvider:
    """Implements `BatchProvider`. `latency` in seconds of the loop; errors are used up in order.

    Jobs are the same for every target. A termination waits for its turn, and `with_last_byte` answers why it may not
    leave.
    """

    def __init__(self, *, latency: float = 0.01) -> None:
        self.jobs: dict[str, Job] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.accounts: dict[Target, str] = {}
        self.assume_errors: dict[Target, CallError] = {}
        self.target_errors: dict[Target, CallError] = {}
        self.terminate_errors: dict[Target, CallError] = {}
        self.id_errors: dict[str, CallError] = {}
        self.on_region: Callable[[str], None] = lambda _: None
        """Sees each region that is asked for: a reconcile asks when the region or the policy of an object changed."""
        self.on_account: Callable[[Target], None] = lambda _: None
        """Sees each target of which the account is asked for: every reconcile of an object with a job asks."""
        self.terminate_id_errors: dict[str, CallError] = {}
        self.malformed: set[str] = set()
        self.unknown_regions: set[str] = set()
        self.turns = asyncio.Event()
        self.turns.set()
        self.with_last_byte: Callable[[TerminatePermit], CallError | None] = _valid
        self.on_describe: Callable[[Target, Mapping[str, DescribeResult], float], None] = lambda *_: None
        self.latency = latency
        self.describes: list[tuple[float, tuple[str, ...]]] = []
        self.slots: set[tuple[str, bool]] = set()
        """Kind of each slot that was asked for, and whether for a BatchTermination."""
        self.terminations: list[tuple[float, str, str]] = []
        self.terminate_calls: list[tuple[float, str, tuple[str, ...]]] = []
        self.lists: list[tuple[float, str, str, str | None]] = []
        """Time, queue, status and token of each ListJobs."""
        self.listed_targets: set[Target] = set()
        self.jobs_per_page = 1000
        self.unknown_queues: set[str] = set()
        self.not_listed: set[str] = set()
        """Ids that ListJobs leaves out although it should not."""
        self.list_errors: list[CallError] = []
        self.on_list: Callable[[JobPage], JobPage | CallError] = lambda page: page
        """Sees and may change each page that was listed without an error."""
        self.describe_errors: list[CallError] = []
        self.call_errors: list[CallError] = []
        self.shows_flag = True
        self.first_starts: dict[str, int] = {}
        """When the first attempt of a job started, if that is not the start that the job shows."""
        self.with_dependencies: set[str] = set()
        self.clock_offset = 0.0
        """Seconds by which AWS's clock is ahead of this one."""
        self.describes_granted = asyncio.Event()
        self.describes_granted.set()
        self.describe_interval = self.terminate_interval = 0.0
        """Seconds from one call to the next, as a budget grants them."""
        self.before_answer: Callable[[], None] = lambda: None
        self._next_describe = self._next_terminate = 0.0
        self.stopped = False
        self.forgotten: list[Target] = []

    def knows_region(self, region: str) -> bool:
        self.on_region(region)
        return region not in self.unknown_regions

    def describe_slot(
        self, target: Target, *, bulk: bool = False, urgent: bool = False
    ) -> AbstractAsyncContextManager[object]:
        self.slots.add(("urgent describe" if urgent else "describe", bulk))
        return self._describe_slot(target)

    def terminate_slot(self, target: Target, *, bulk: bool = False) -> AbstractAsyncContextManager[object]:
        self.slots.add(("terminate", bulk))
        return self._terminate_slot(target)

    @asynccontextmanager
    async def _describe_slot(self, target: Target) -> AsyncIterator[None]:
        assert target.region
        await self.describes_granted.wait()
        at = self._next_describe = max(self._next_describe + self.describe_interval, _now())
        await asyncio.sleep(at - _now())
        yield

    @asynccontextmanager
    async def _terminate_slot(self, target: Target) -> AsyncIterator[None]:
        assert target.region
        await self.turns.wait()
        at = self._next_terminate = max(self._next_terminate + self.terminate_interval, _now())
        await asyncio.sleep(at - _now())
        yield

    def terminate_limit(self, target: Target) -> int:
        assert target.region
        return 50

    async def describe(self, target: Target, job_ids: Sequence[str]) -> Mapping[str, DescribeResult] | CallError:
        assert len(set(job_ids)) == len(job_ids) <= 100
        requested_at = _now()
        self.describes.append((requested_at, tuple(job_ids)))
        shown = {job_id: self._shown(job_id) for job_id in job_ids}
        await asyncio.sleep(self.latency)
        if target in self.target_errors:
            return self.target_errors[target]
        if self.describe_errors:
            return self.describe_errors.pop(0)
        if self.malformed.intersection(job_ids):
            return CallError(ErrorClass.REJECTED, "[jobId] is not supported pattern", "ClientException")
        answer = {**shown, **{job_id: self.id_errors[job_id] for job_id in job_ids if job_id in self.id_errors}}
        self.on_describe(target, answer, requested_at)
        return answer

    async def list_jobs(self, target: Target, queue: str, status: str, token: str | None) -> JobPage | CallError:
        self.lists.append((_now(), queue, status, token))
        self.listed_targets.add(target)
        bound = f"{target} {queue} {status} "
        if queue in self.unknown_queues:
            answer: JobPage | CallError = _rejected(f"JobQueue {queue} not found.")
        elif token is not None and not token.startswith(bound):
            answer = _rejected("Invalid nextToken")
        else:
            first = 0 if token is None else int(token.removeprefix(bound))
            end = first + self.jobs_per_page
            listed = self._listed(queue, status)
            answer = JobPage(tuple(listed[first:end]), f"{bound}{end}" if end < len(listed) else None)
        await asyncio.sleep(self.latency)
        if target in self.target_errors:
            return self.target_errors[target]
        if self.list_errors:
            return self.list_errors.pop(0)
        return answer if isinstance(answer, CallError) else self.on_list(answer)

    def _listed(self, queue: str, status: str) -> list[JobSummary]:
        """The jobs of a queue (name or ARN) with that status, newest first, without children."""
        found = [
            (job_id, job)
            for job_id, job in self.jobs.items()
            if job.status == status
            and job_id not in self.not_listed
            and not {":", "#"}.intersection(job_id)
            and queue in (job.queue, (job.queue or "").rpartition("/")[2])
        ]
        found.sort(key=lambda one: one[1].created_at or 0, reverse=True)
        return [_summary(job_id, job) for job_id, job in found]

    async def terminate(
        self, target: Target, permits: Sequence[P], reason: str
    ) -> Mapping[P, Accepted | CallError] | CallError:
        refused = {permit: error for permit in permits if (error := self.with_last_byte(permit)) is not None}
        if refused:
            return {permit: refused.get(permit, REGROUPED) for permit in permits}
        ids = tuple(permit.job_id for permit in permits)
        assert len(set(ids)) == len(ids) <= 50
        self.terminate_calls.append((_now(), reason, ids))
        self.terminations += [(_now(), job_id, reason) for job_id in ids]
        await asyncio.sleep(self.latency)
        if target in self.terminate_errors:
            return self.terminate_errors[target]
        if self.call_errors:
            return self.call_errors.pop(0)
        answer = {permit: self._terminated(permit.job_id) for permit in permits}
        self.before_answer()
        return answer

    def _terminated(self, job_id: str) -> Accepted | CallError:
        if job_id in self.id_errors:
            return self.id_errors[job_id]
        if job_id in self.terminate_id_errors:
            return self.terminate_id_errors[job_id]
        job = self.jobs.get(job_id)
        if job is not None and not job.finished and self.shows_flag:
            self.jobs[job_id] = job.replace(is_terminated=True)
        return Accepted("request-id")

    def account(self, target: Target) -> str | None:
        self.on_account(target)
        return self.accounts.get(target)

    def location(self, target: Target) -> Location:
        return account_of(target.role) or self.accounts.get(target, ""), target.region

    def assume_error(self, target: Target) -> CallError | None:
        return self.assume_errors.get(target)

    def _shown(self, job_id: str) -> DescribeResult:
        job = self.jobs.get(job_id)
        if job is None:
            return NOT_FOUND
        return DescribedJob(
            job,
            self.tags.get(job_id, {}),
            first_started_at=self.first_starts.get(job_id, job.started_at),
            has_dependencies=job_id in self.with_dependencies,
            # Date has whole seconds.
            asked_at=int(_now() + self.clock_offset) * 1000,
        )

    def stop(self) -> None:
        self.stopped = True

    def forget(self, target: Target) -> None:
        self.forgotten.append(target)

    def end(self, job_id: str, status: str, reason: str | None = None, stopped_at: int | None = None) -> None:
        self.jobs[job_id] = self.jobs[job_id].replace(status=status, status_reason=reason, stopped_at=stopped_at)


def _rejected(message: str) -> CallError:
    return CallError(ErrorClass.REJECTED, message, "ClientException")


def _summary(job_id: str, job: Job) -> JobSummary:
    size = (job.array.size if job.array is not None else None) or 1
    return JobSummary(
        job_id,
        job.name or "",
        job.status,
        job.created_at,
        job.flagged,
        size,
        job.arn,
        job.status_reason,
        job.started_at,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
