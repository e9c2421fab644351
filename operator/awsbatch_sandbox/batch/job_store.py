"""All jobs of all accounts and regions."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import count

from awsbatch_sandbox.batch.job_spec import AccountRegion
from awsbatch_sandbox.batch.jobs import Job
from awsbatch_sandbox.batch.wire import queue_arn

Listed = tuple[int, int, Job]
"""A job in a list: newest first, then in the order in which they were added."""


def listed(job: Job) -> Listed:
    return -job.created_at, job.order, job


class JobStore:
    """AWS keeps each account and region apart: an id names one job there and is unrelated to others."""

    def __init__(self) -> None:
        self._by_region: dict[AccountRegion, dict[str, Job]] = {}
        self._queues: set[str] = set()
        self._lists: dict[tuple[AccountRegion, str, str | None], list[Listed]] = {}
        """Jobs by account and region, queue, and status (None: all), so that a page does not read the whole queue."""
        self._order = count()

    def __iter__(self) -> Iterator[Job]:
        for jobs in self._by_region.values():
            yield from jobs.values()

    def __contains__(self, job: Job) -> bool:
        return self.find(job.account_region, job.job_id) is job

    def add(self, job: Job) -> None:
        self._queues.add(queue_arn(job.seed))
        self._by_region.setdefault(job.account_region, {})[job.job_id] = job
        job.order = next(self._order)
        self._enlist(job, None)
        self._enlist(job, job.status)

    def remove(self, job: Job) -> None:
        if job in self:
            del self._by_region[job.account_region][job.job_id]
            self._delist(job, None)
            self._delist(job, job.status)

    def moved(self, job: Job, was: str) -> None:
        """Must be called once a job's status has changed."""
        if job in self:
            self._delist(job, was)
            self._enlist(job, job.status)

    def queued(self, account_region: AccountRegion, queue: str, status: str | None) -> Sequence[Listed]:
        """The jobs of a queue (its ARN) with that status, without children; None for any status. Not to be kept."""
        return self._lists.get((account_region, queue, status), ())

    def _enlist(self, job: Job, status: str | None) -> None:
        # Children are listed by their parent only.
        if job.parent is None:
            key = job.account_region, queue_arn(job.seed), status
            insort(self._lists.setdefault(key, []), listed(job))

    def _delist(self, job: Job, status: str | None) -> None:
        if job.parent is None:
            entries = self._lists[job.account_region, queue_arn(job.seed), status]
            del entries[bisect_left(entries, listed(job))]

    def has_queue(self, arn: str) -> bool:
        """Whether a job was ever in that queue."""
        return arn in self._queues

    def find(self, account_region: AccountRegion, job_id: str) -> Job | None:
        jobs = self._by_region.get(account_region)
        return None if jobs is None else jobs.get(job_id)

    def named(self, job_id: str, account: str | None = None, region: str | None = None) -> Job:
        """The one job of that id, in any account and region or in the given ones. LookupError for none or several."""
        regions = [one for one in self._by_region if account in (None, one.account) and region in (None, one.region)]
        found = [job for one in regions if (job := self.find(one, job_id)) is not None]
        if not found:
            raise LookupError(f"job_id {job_id} is not known: seed it first")
        if len(found) > 1:
            raise LookupError(f"there are {len(found)} jobs with job_id {job_id}: name an account and a region")
        return found[0]
