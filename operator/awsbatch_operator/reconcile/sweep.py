"""The selection of a BatchTermination: which jobs that a sweep shows it may terminate, and what the sweep counted.

A sweep lists the live jobs of each queue. The list shows no tags, so where the selector or the policy needs them the
jobs are described as well. Nothing is remembered from one sweep to the next that could make it terminate a job.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from awsbatch_operator.api.batchtermination import LONGEST_NAME, MOST_EXAMPLES, BulkSpec, Example
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.interfaces import DescribedJob
from awsbatch_operator.api.job import FINISHED, Job, JobSummary
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.policy.authorizer import Allow, JobAttributes, authorize_terminate, parent_of
from awsbatch_operator.policy.resolution import Scope

LIVE_STATUSES: Final = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
"""The order in which a sweep lists them, so that it does not miss a job whose status changes meanwhile."""

EMPTY_SWEEPS: Final = 2
"""Sweeps in a row without a job to terminate after which none is left: a retry moves a job back, past one of them."""

MARGIN: Final = 5 * 60 * 1000
"""Milliseconds after the creation of the object that spec.createdBefore may be."""


@dataclass(frozen=True, slots=True)
class LiveJob:
    """A job that was alive at `observed_at`, when the answer was requested.

    `queue`: its ARN, or its name where the ARN is not known. `tags` None: the answer shows none. `size`: how many jobs
    it counts for.
    """

    job_id: str
    name: str
    queue: str
    tags: Mapping[str, str] | None = field(repr=False)
    created_at: Millis | None
    flagged: bool
    size: int
    observed_at: Millis


def listed_job(summary: JobSummary, queue: str, observed_at: Millis) -> LiveJob | None:
    """Return the job that ListJobs of this queue (its name) shows; None: it has ended, or is part of another job."""
    if summary.status in FINISHED or parent_of(summary.job_id) is not None:
        return None
    return LiveJob(
        summary.job_id,
        summary.name,
        _queue_arn(summary.arn, queue),
        None,
        summary.created_at,
        summary.flagged,
        summary.size,
        observed_at,
    )


def described_job(job_id: str, described: DescribedJob, observed_at: Millis) -> LiveJob | None:
    """Return the job that DescribeJobs shows; None: it has ended."""
    job = described.job
    if job.finished:
        return None
    return LiveJob(
        job_id,
        job.name or "",
        job.queue or "",
        described.tags,
        job.created_at,
        job.flagged,
        _size(job),
        observed_at,
    )


def may_match(job: LiveJob, spec: BulkSpec) -> bool:
    """Return whether the job matches in everything but its tags."""
    return (
        job.created_at is not None
        and job.created_at < spec.created_before
        and job.queue.rpartition("/")[2] in spec.queues
        and (not spec.job_names or any(_name_matches(pattern, job.name) for pattern in spec.job_names))
    )


def needs_tags(spec: BulkSpec, scope: Scope) -> bool:
    """Return whether the tags of a job decide, which only DescribeJobs shows."""
    return bool(spec.tags) or (scope.rules is not None and bool(scope.rules.tags))


def admit(job: LiveJob, spec: BulkSpec, scope: Scope, now: Millis) -> Allow | None:
    """Return the permission to terminate the job; None: it does not match, or the policy does not admit it."""
    tags = job.tags or {}
    if not may_match(job, spec) or any(tags.get(key) != value for key, value in spec.tags):
        return None
    attributes = JobAttributes(job.job_id, job.queue, job.tags, job.observed_at)
    allowed = authorize_terminate(scope, attributes, None, now)
    return allowed if isinstance(allowed, Allow) else None


def _name_matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _queue_arn(job_arn: str | None, queue: str) -> str:
    """A policy may name queues by ARN. A list is of one queue, in the account and region of its jobs."""
    prefix, found, _ = (job_arn or "").partition(":job/")
    return f"{prefix}:job-queue/{queue}" if found else queue


def _size(job: Job) -> int:
    return max(job.array.size or 1, 1) if job.array is not None and job.is_array else 1


@dataclass(slots=True)
class Tally:
    """The counts of one sweep so far, including the children of arrays.

    `jobs`: the size of each job that was admitted, by id. `matched`: active, without an accepted termination;
    `ending`: active, with one; `failed`: AWS refused their termination at the last try, part of `matched`, and
    `refusal` is the error of one of them. `unknown`: jobs that DescribeJobs did not show as expected.
    `delay`: an error about one job that waiting may correct.
    """

    jobs: dict[str, int] = field(default_factory=dict)
    matched: int = 0
    ending: int = 0
    failed: int = 0
    unknown: int = 0
    refusal: CallError | None = None
    delay: CallError | None = None
    _examples: list[Example] = field(default_factory=list)
    _refused: list[Example] = field(default_factory=list)

    def add(self, job: LiveJob, *, ending: bool, refusal: CallError | None = None) -> None:
        """Count a job. `ending`: AWS Batch accepted its termination. `refusal`: why it refused it at the last try."""
        if ending:
            self.ending += job.size
            return
        self.matched += job.size
        named, message = self._examples, None
        if refusal is not None:
            self.failed += job.size
            self.refusal, named, message = refusal, self._refused, refusal.message
        if len(named) < MOST_EXAMPLES:
            named.append(Example(job.job_id[:LONGEST_NAME], job.name[:LONGEST_NAME], message))

    @property
    def examples(self) -> tuple[Example, ...]:
        """Some of the matching jobs, those whose termination was refused first."""
        return tuple([*self._refused, *self._examples][:MOST_EXAMPLES])

    def total(self, accepted: Mapping[str, int]) -> int:
        """Return how many jobs it would be in the end, with the `accepted` ones (size by id) that were not seen."""
        return sum(self.jobs.values()) + sum(size for job_id, size in accepted.items() if job_id not in self.jobs)

    def complete(self, accepted: Mapping[str, int]) -> int:
        """Return the total after the last job, and drop the ids: ten thousand of them are a megabyte."""
        total, self.jobs = self.total(accepted), {}
        return total
