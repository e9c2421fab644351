"""One sweep of a BatchTermination: lists the live jobs, describes those whose tags decide, and terminates them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Final

from awsbatch_operator.api.batchtermination import BulkSpec
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import JOBS_PER_DESCRIBE, DescribedJob, DescribeResult
from awsbatch_operator.api.job import JobKey
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.controller.bulk_cache import BulkPermit, TrackedTermination
from awsbatch_operator.controller.bulk_calls import IN_FLIGHT, BulkCalls, RefusedError, SupersededError, gather
from awsbatch_operator.controller.bulk_sender import BulkSender
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.policy.authorizer import may_admit_jobs_of
from awsbatch_operator.policy.resolution import Scope
from awsbatch_operator.reconcile.bulk_status import queue_not_found
from awsbatch_operator.reconcile.sweep import (
    LIVE_STATUSES,
    LiveJob,
    Tally,
    admit,
    described_job,
    listed_job,
    may_match,
    needs_tags,
)

_REPEATED: Final = CallError(
    ErrorClass.UNAVAILABLE, "ListJobs repeats a page; the jobs after it are not known", "RepeatedPage"
)
_FULL: Final = IN_FLIGHT * JOBS_PER_DESCRIBE


class Sweep:
    """`may_send` returns whether the object still states this spec, approved, and nothing holds its terminations.

    `sending`: whether the sweep terminates what matches, or only counts it.
    """

    def __init__(
        self,
        calls: BulkCalls,
        tracked: TrackedTermination,
        scope: Scope,
        policies: PolicyCache,
        may_send: Callable[[TrackedTermination, BulkSpec], bool],
        *,
        sending: bool,
    ) -> None:
        self._calls, self._tracked, self._scope, self._policies = calls, tracked, scope, policies
        self._spec, self._may_send, self._sending = tracked.spec, may_send, sending
        self._clock = asyncio.get_running_loop().time
        self.tally = Tally()
        self.sender = BulkSender(calls, tracked, scope, self.tally)

    async def run(self) -> None:
        """Complete the tally. Raises RefusedError and SupersededError."""
        seen: set[str] = set()
        waiting: list[LiveJob] = []
        # The answer for another queue would tell a namespace which queues others have.
        queues = [queue for queue in self._spec.queues if may_admit_jobs_of(self._scope, queue)]
        for queue in queues:
            for status in LIVE_STATUSES:
                async for jobs in self._list(queue, status):
                    # A job that moves on meanwhile is listed again.
                    new = {job.job_id: job for job in jobs if job.job_id not in seen}
                    seen.update(new)
                    waiting += new.values()
                    waiting = await self._handle(waiting, at_least=_FULL)
                    await self.sender.send(full_calls=IN_FLIGHT)
        await self._handle(waiting, at_least=1)
        await self.sender.send(full_calls=0)

    async def _list(self, queue: str, status: str) -> AsyncIterator[list[LiveJob]]:
        """Yield the jobs of each page that may match."""
        token: str | None = None
        tokens: set[str | None] = set()
        while token not in tokens:
            tokens.add(token)
            request = partial(self._calls.shared.provider.list_jobs, self._scope.target, queue, status, token)
            page, at = await self._calls.read(self._tracked, self._scope, request, is_current=self._is_current)
            if isinstance(page, CallError):
                if token is not None:
                    # The token has expired, or means nothing to AWS any more.
                    raise SupersededError(replace(page, error_class=ErrorClass.UNAVAILABLE))
                raise RefusedError(queue_not_found(queue, self._scope.target.region, page))
            listed = (listed_job(summary, queue, at) for summary in page.jobs)
            yield [job for job in listed if job is not None and may_match(job, self._spec)]
            token = page.next_token
            if token is None:
                return
        raise SupersededError(_REPEATED)

    async def _handle(self, jobs: list[LiveJob], *, at_least: int) -> list[LiveJob]:
        """Decide about the jobs. Return those that are not described yet: fewer than `at_least`."""
        if not needs_tags(self._spec, self._scope):
            self._judge(jobs)
            return []
        jobs = [job for job in jobs if not self._ends(job)]
        while len(jobs) >= at_least:
            chunks = (jobs[start : start + JOBS_PER_DESCRIBE] for start in range(0, len(jobs), JOBS_PER_DESCRIBE))
            await gather(map(self._describe, islice(chunks, IN_FLIGHT)))
            jobs = jobs[_FULL:]
            await self.sender.send(full_calls=IN_FLIGHT)
        return jobs

    def _ends(self, job: LiveJob) -> bool:
        """Return whether this object has terminated the job: no tag decides about it any more. It is counted then."""
        if not job.flagged or job.job_id not in self._tracked.accepted:
            return False
        self.tally.jobs[job.job_id] = job.size
        self.tally.add(job, ending=True)
        return True

    async def _describe(self, jobs: Sequence[LiveJob]) -> None:
        ids = [job.job_id for job in jobs]
        request = partial(self._calls.shared.provider.describe, self._scope.target, ids)
        answer, at = await self._calls.read(self._tracked, self._scope, request, is_current=self._is_current)
        if not isinstance(answer, CallError):
            self._judge(_described(answer, at))
            for result in answer.values():
                if isinstance(result, CallError):
                    self.tally.unknown += 1
                    self.tally.delay = result
        elif len(jobs) > 1:
            # One of the ids is malformed.
            middle = len(jobs) // 2
            await self._describe(jobs[:middle])
            await self._describe(jobs[middle:])

    def _is_current(self) -> bool:
        resolved = self._policies.resolve(self._tracked.ref.namespace, self._spec.region)
        return self._tracked.spec is self._spec and resolved == self._scope

    def _judge(self, jobs: Iterable[LiveJob]) -> None:
        """Count the jobs that match and that the policy admits, and collect those to terminate."""
        now = self._calls.shared.now()
        for job in jobs:
            allow = admit(job, self._spec, self._scope, now)
            if allow is None or job.job_id in self.tally.jobs:
                continue
            self.tally.jobs[job.job_id] = job.size
            ending = job.flagged or JobKey(self._scope.target, job.job_id) in self._calls.recent
            error, until = self._tracked.refused.get(job.job_id, (None, 0.0))
            if ending or not self._sending or self._clock() < until:
                self.tally.add(job, ending=ending, refusal=error)
            else:
                self.sender.add(
                    BulkPermit(job, allow, self._tracked, self._policies, self._may_send, self._calls.shared.now)
                )


def _described(answer: Mapping[str, DescribeResult], at: Millis) -> Iterator[LiveJob]:
    for job_id, result in answer.items():
        job = described_job(job_id, result, at) if isinstance(result, DescribedJob) else None
        if job is not None:
            yield job
