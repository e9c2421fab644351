"""All jobs of all accounts and regions."""

from collections.abc import Iterator

from awsbatch_sandbox.batch.job_spec import AccountRegion
from awsbatch_sandbox.batch.jobs import Job
from awsbatch_sandbox.batch.wire import queue_arn


class JobStore:
    """AWS keeps each account and region apart: an id names one job there and is unrelated to others."""

    def __init__(self) -> None:
        self._by_region: dict[AccountRegion, dict[str, Job]] = {}
        self._queues: set[str] = set()

    def __iter__(self) -> Iterator[Job]:
        for jobs in self._by_region.values():
            yield from jobs.values()

    def __contains__(self, job: Job) -> bool:
        return self.find(job.account_region, job.job_id) is job

    def add(self, job: Job) -> None:
        self._queues.add(queue_arn(job.seed))
        self._by_region.setdefault(job.account_region, {})[job.job_id] = job

    def remove(self, job: Job) -> None:
        if job in self:
            del self._by_region[job.account_region][job.job_id]

    def has_queue(self, arn: str) -> bool:
        """Whether a job was ever in that queue."""
        return arn in self._queues

    def at(self, account_region: AccountRegion) -> list[Job]:
        return list(self._by_region.get(account_region, {}).values())

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
