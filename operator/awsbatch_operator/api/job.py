"""A Batch job as DescribeJobs shows it, reduced to what may be shown to others.

Environment, command, parameters, secrets and volumes have no place in these types, so nothing that is built
from them can leak those.
"""

import re
from dataclasses import dataclass
from sys import intern
from typing import Final, NamedTuple

from msgspec import field

from awsbatch_operator.api.codec import Count, DateTime, Int64, Object, Value
from awsbatch_operator.api.timestamps import Millis

FINISHED: Final = frozenset({"SUCCEEDED", "FAILED"})
"""`status` values from which a Batch job never returns. Every other value, known or not, counts as alive."""

ACTIVE_CHILDREN: Final = ("RUNNABLE", "STARTING", "RUNNING")
STARTED_CHILDREN: Final = ("STARTING", "RUNNING", "SUCCEEDED", "FAILED")


class Target(NamedTuple):
    """The target of calls: this region, with this role (its ARN) and the ExternalId of this policy.

    Without both, the operator's own credentials are used. Either way a target belongs to one account.
    """

    region: str
    role: str | None = None
    policy: str | None = None


class JobKey(NamedTuple):
    """One Batch job: its target and its id (array child `<id>:<index>`, node `<id>#<node>`)."""

    target: Target
    job_id: str


_BLOCKED: Final = re.compile(r"(?:MISCONFIGURATION|CAPACITY):\w*")

_ARN: Final = re.compile(r"arn:[a-z-]+:[a-z0-9-]+:[a-z0-9-]*:([0-9]{12}):")


def account_of(arn: str | None) -> str | None:
    """Return the account that an ARN names."""
    found = _ARN.match(arn or "")
    # All jobs are in a few accounts.
    return intern(found[1]) if found else None


class Array(Object, frozen=True):
    """`arrayProperties`: a parent has size and a summary (children by status), a child its index."""

    size: Int64 | None = None
    index: Int64 | None = None
    status_summary: dict[str, Int64] = field(default_factory=dict)

    def count(self, status: str) -> int:
        return self.status_summary.get(status, 0)


class Node(Object, frozen=True):
    """`nodeProperties` of a multi-node job (num_nodes) or `nodeDetails` of one of its nodes (index, main)."""

    num_nodes: Int64 | None = None
    index: Int64 | None = None
    main: bool | None = None


class Job(Object, frozen=True):
    """One JobDetail. Times in epoch milliseconds; exit code, container reason and log of the last attempt."""

    status: str = field(name="jobStatus")
    status_reason: str | None = None
    is_terminated: bool = False
    is_cancelled: bool = False
    name: str | None = field(name="jobName", default=None)
    arn: str | None = field(name="jobArn", default=None)
    queue: str | None = field(name="jobQueue", default=None)
    definition: str | None = field(name="jobDefinition", default=None)
    created_at: DateTime | None = None
    started_at: DateTime | None = None
    stopped_at: DateTime | None = None
    exit_code: Int64 | None = None
    container_reason: str | None = None
    log_stream_name: str | None = None
    log_group_name: str | None = None
    attempts: Count | None = None
    array: Array | None = None
    node: Node | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def flagged(self) -> bool:
        """Whether Batch shows that a termination or cancellation was accepted, by any caller."""
        return self.is_terminated or self.is_cancelled

    @property
    def running(self) -> bool:
        """RUNNING, or an array parent with a running child: Batch keeps the parent itself PENDING."""
        return self.status == "RUNNING" or (self.array is not None and self.array.count("RUNNING") > 0)

    @property
    def is_array(self) -> bool:
        """Whether it is the parent of an array, which AWS Batch never runs itself."""
        return self.array is not None and self.array.index is None

    @property
    def has_started(self) -> bool:
        """Whether an attempt has started, or for the parent of an array, a child is or was STARTING."""
        children = self.array is not None and any(self.array.count(status) for status in STARTED_CHILDREN)
        return self.started_at is not None or bool(self.attempts) or self.status == "RUNNING" or children

    @property
    def blocked(self) -> str | None:
        """Why AWS Batch cannot start a RUNNABLE job: its code, such as CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY."""
        found = _BLOCKED.match(self.status_reason or "") if self.status == "RUNNABLE" else None
        return found[0] if found else None

    @property
    def waits_on_dependencies(self) -> bool:
        """PENDING on other jobs, rather than an array parent that is PENDING because its children are at work."""
        return self.status == "PENDING" and not (
            self.array is not None and any(self.array.count(status) for status in ACTIVE_CHILDREN)
        )


class JobSummary(Value, frozen=True):
    """One entry of ListJobs: a job, the parent of an array, or the main job of several nodes; never a child.

    Unlike DescribeJobs, ListJobs shows neither tags nor the queue. `created_at`: time of the submission, epoch
    milliseconds; None: not readable. `flagged`: Batch shows that a termination or cancellation was accepted
    (isTerminated or isCancelled). `size`: children of an array (arrayProperties.size), at least 1; 1 for any other job.
    `status_reason` and `started_at` as in `Job`.
    """

    job_id: str
    name: str
    status: str
    created_at: Millis | None = None
    flagged: bool = False
    size: int = 1
    arn: str | None = None
    status_reason: str | None = None
    started_at: Millis | None = None


def unchanged(job: Job, summary: JobSummary) -> bool:
    """Return whether ListJobs shows the job as DescribeJobs showed it, in everything that both of them show.

    An old endpoint may show less in a list. What is missing there counts as changed, so that the job is described. The
    children of an array change without a change of these fields: a list says nothing about their parent.
    """
    return (
        not job.is_array
        and (summary.status, summary.flagged) == (job.status, job.flagged)
        and (summary.started_at, summary.status_reason) == (job.started_at, job.status_reason)
    )


@dataclass(frozen=True, slots=True)
class NotFound:
    """A complete answer of DescribeJobs did not contain the job."""


NOT_FOUND: Final = NotFound()
