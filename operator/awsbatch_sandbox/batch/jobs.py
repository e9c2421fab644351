"""The state of a job."""

import uuid
from dataclasses import dataclass, field

from awsbatch_sandbox.batch.job_spec import (
    FAILED,
    FINISHED,
    ON_COMPUTE,
    PENDING,
    RUNNING,
    SUBMITTED,
    SUCCEEDED,
    AccountRegion,
    JobSpec,
)

ENDED_BY_ITSELF = "Essential container in task exited"
CHILD_FAILED = "Array Child Job failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of the job that is over. Times are epoch milliseconds."""

    started_at: int | None
    stopped_at: int
    exit_code: int | None
    container_reason: str | None
    status_reason: str
    task_id: str


@dataclass(slots=True, eq=False)
class Job:
    """Mutable, unlike everything else here: ten thousand of them change state one field at a time."""

    seed: JobSpec
    job_id: str
    status: str
    created_at: int
    index: int | None = None
    parent: "Job | None" = None
    children: list["Job"] = field(default_factory=list)
    summary: dict[str, int] = field(default_factory=dict)
    summary_at: int = 0
    status_reason: str | None = None
    started_at: int | None = None
    stopped_at: int | None = None
    exit_code: int | None = None
    container_reason: str | None = None
    task_id: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    is_terminated: bool = False
    is_cancelled: bool = False
    end_reason: str | None = None
    kill_at: int | None = None
    ignore_terminates: int = 0
    hidden_polls: int = 0
    hidden_lists: int = 0
    order: int = 0
    epoch: int = 0
    rendered: bytes | None = None
    summarized: bytes | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def flagged(self) -> bool:
        """A termination or cancellation was accepted."""
        return self.is_terminated or self.is_cancelled

    @property
    def is_array(self) -> bool:
        return self.seed.kind == "array" and self.parent is None

    @property
    def is_multinode(self) -> bool:
        return self.seed.kind == "multinode" and self.parent is None

    @property
    def account_region(self) -> AccountRegion:
        return AccountRegion(self.seed.account, self.seed.region)

    @property
    def arn(self) -> str:
        return f"arn:aws:batch:{self.seed.region}:{self.seed.account}:job/{self.job_id}"

    def live_children(self) -> list["Job"]:
        return [child for child in self.children if not child.finished]

    def touch(self) -> None:
        """Drop the cached JSON: the next DescribeJobs or ListJobs renders the job again."""
        self.rendered = self.summarized = None
        if self.parent is not None and self.parent.is_array:
            self.parent.rendered = self.parent.summarized = None


def array_status(parent: Job) -> str:
    """A parent is SUBMITTED, PENDING while a child is alive, then FAILED if any child failed."""
    live = sum(parent.summary.values()) - parent.summary[SUCCEEDED] - parent.summary[FAILED]
    if live:
        return SUBMITTED if parent.summary[SUBMITTED] == len(parent.children) else PENDING
    return FAILED if parent.summary[FAILED] else SUCCEEDED


def close_attempt(job: Job, at: int) -> None:
    """Put the run that is over on the list of attempts."""
    reason = ENDED_BY_ITSELF if job.end_reason is not None else job.status_reason or ENDED_BY_ITSELF
    job.attempts.append(Attempt(job.started_at, at, job.exit_code, job.container_reason, reason, job.task_id))


def open_attempt(job: Job, was: str, at: int) -> None:
    """A new run begins when a job comes onto compute; its clock with RUNNING."""
    if was not in ON_COMPUTE:
        job.task_id = uuid.uuid4().hex
        job.exit_code = None
        job.container_reason = None
    if job.status == RUNNING and was != RUNNING:
        job.started_at = at
