"""Interfaces that the packages `aws`, `kube` and `observability` implement for the controller; in tests, fakes do."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, TypeVar

from awsbatch_operator.api.access_policy import InvalidPolicy, Policy
from awsbatch_operator.api.batchjob import ObjectRef, Status
from awsbatch_operator.api.conditions import ConditionValue
from awsbatch_operator.api.decoding import Snapshot
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.events import Event
from awsbatch_operator.api.events_queue import EventsQueue
from awsbatch_operator.api.job import Job, JobSummary, NotFound, Target
from awsbatch_operator.api.label_selector import Labels
from awsbatch_operator.api.timestamps import Millis

JOBS_PER_DESCRIBE: Final = 100
"""Most ids in one DescribeJobs."""


@dataclass(frozen=True, slots=True)
class DescribedJob:
    """A job as one DescribeJobs returned it. `tags` decide about access and are never shown; None: unreadable.

    The rest decides about deadlines. `first_started_at`: the earliest start of an attempt. `asked_at`: when it was
    requested by AWS's own clock, not later; None: the answer had no Date.
    """

    job: Job
    tags: Mapping[str, str] | None = field(default=None, repr=False)
    first_started_at: Millis | None = None
    has_dependencies: bool = False
    asked_at: Millis | None = None


DescribeResult = DescribedJob | NotFound | CallError

Location = tuple[str, str]
"""An account and a region: what shares budgets, and what events come from."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of ListJobs. `next_token` asks for the next one; None: this is the last."""

    jobs: tuple[JobSummary, ...]
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """Batch accepted the termination. `request_id`: AWS's id of the request, to find it in CloudTrail."""

    request_id: str | None = None


class TerminatePermit(Protocol):
    """The permission to terminate one job for one object and reason."""

    @property
    def target(self) -> Target: ...
    @property
    def namespace(self) -> str: ...
    @property
    def job_id(self) -> str: ...
    def valid(self) -> bool:
        """Return whether the request may still be sent: the policy admits it and the object states it.

        It is called from any thread, right before the last byte of the request.
        """
        ...


P = TypeVar("P", bound=TerminatePermit)


class BatchProvider(Protocol):
    """AWS Batch. No method raises for an answer of AWS: errors are values."""

    def knows_region(self, region: str) -> bool:
        """Return whether AWS has such a region, or it is configured."""
        ...

    def describe_slot(
        self, target: Target, *, bulk: bool = False, urgent: bool = False
    ) -> AbstractAsyncContextManager[object]:
        """Wait until one more DescribeJobs or ListJobs fits the budget of the target's account and region.

        Then wait for a thread. `bulk`: for a BatchTermination or for list polls, whose calls may take long: only each
        other's threads depend on how long. `urgent`: the BatchTermination is approved. Then the call gives way to no
        other; the other bulk calls come after it.
        """
        ...

    def terminate_slot(self, target: Target, *, bulk: bool = False) -> AbstractAsyncContextManager[object]:
        """Wait until one more TerminateJob or TerminateJobs fits the budget, then for a thread.

        `bulk`: for a BatchTermination, whose calls may take long: only each other's threads depend on how long.
        """
        ...

    def terminate_limit(self, target: Target) -> int:
        """Return the most jobs of one termination call."""
        ...

    async def describe(self, target: Target, job_ids: Sequence[str]) -> Mapping[str, DescribeResult] | CallError:
        """One DescribeJobs for at most 100 distinct ids, in a slot. A CallError is that of the whole call.

        REJECTED for several ids: one of them is malformed, and AWS rejected the call for all.
        """
        ...

    async def list_jobs(self, target: Target, queue: str, status: str, token: str | None) -> JobPage | CallError:
        """One page of ListJobs of one queue (name or ARN) and status, in a slot of describes.

        `token`: that of the page before; None: the first page. REJECTED: the queue does not exist or, only with a
        token, AWS Batch does not accept the token any more.
        """
        ...

    async def terminate(
        self, target: Target, permits: Sequence[P], reason: str
    ) -> Mapping[P, Accepted | CallError] | CallError:
        """Send one request that terminates the jobs of all permits with exactly this reason, in a slot.

        If a permit is not valid with the last byte, nothing is sent and the answers are NOT_SENT.
        """
        ...

    def account(self, target: Target) -> str | None:
        """Return the account that calls of the target reach; None: not known yet."""
        ...

    def location(self, target: Target) -> Location:
        """Return the account (empty while it is not known) and the region that calls of the target reach."""
        ...

    def assume_error(self, target: Target) -> CallError | None:
        """Return why the target's role could not be assumed the last time; None: it could, or was not tried."""
        ...

    def stop(self) -> None:
        """Send no more terminations. Calls in flight continue."""

    def forget(self, target: Target) -> None:
        """Drop what is kept for a target that no object names any more."""


@dataclass(frozen=True, slots=True)
class EventMessage:
    """A message of an events queue. Nothing of it is trusted: the job that it names may be anybody's, or none.

    `receipt` deletes it. `job_id` None: it names no job. `sent_at`: when SQS got it; None: not readable.
    """

    receipt: str
    job_id: str | None
    sent_at: Millis | None = None


class EventSource(Protocol):
    """SQS and EventBridge. Errors are logged and counted with each call."""

    async def receive(self, queue: EventsQueue, wait: int) -> Sequence[EventMessage] | CallError:
        """Return up to ten messages, after at most so many seconds (0..20) if there are none."""
        ...

    async def delete(self, queue: EventsQueue, receipts: Sequence[str]) -> None:
        """Delete messages. Those of which the deletion fails are received again."""
        ...

    async def send_canary(self, target: Target, job_id: str) -> CallError | None:
        """Send an event that looks like one of AWS Batch and names this job to the target's account and region."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """The write succeeded; `shown` is the raw `.status` as the API server now has it, `finalizers` its finalizers."""

    resource_version: str
    shown: dict[str, object]
    finalizers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another writer was first: read, reconcile and write again."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The object does not exist any more."""


@dataclass(frozen=True, slots=True)
class NotWritten:
    """`refused`: the API server answered 4xx for this object. Else it gave no answer, 429 or 5xx."""

    message: str
    refused: bool = False


class BatchJobClient(Protocol):
    """BatchJob objects in the Kubernetes API. `write_status` and `post_event` serve BatchTerminations, too."""

    def change(self, wanted: Status, shown: Status | Mapping[str, object]) -> Mapping[str, object]:
        """Return the merge patch from the shown `.status` (raw, or as a Status) to the wanted one; {}: none."""
        ...

    async def write_status(
        self, ref: ObjectRef, change: Mapping[str, object], resource_version: str
    ) -> Written | Conflict | Gone | NotWritten:
        """Apply the result of `change`, provided that the object still has this version."""
        ...

    async def write_finalizer(
        self, ref: ObjectRef, finalizers: Sequence[str], resource_version: str, *, add: bool
    ) -> Written | Conflict | Gone | NotWritten:
        """Add the operator's finalizer to these, or remove it, provided that the object still has this version."""
        ...

    async def crd_deleted(self) -> bool | NotWritten:
        """Return whether the CRD of BatchJobs is being deleted, or is gone; NotWritten: it can't be read."""
        ...

    async def read(self, ref: ObjectRef) -> Snapshot | Gone | NotWritten:
        """Return the current object; Gone also if another object has its name now."""
        ...

    def versions(self) -> AsyncIterator[tuple[ObjectRef, str]]:
        """List every watched BatchJob and its resourceVersion, by pages of metadata. Raises ListError."""
        ...

    def post_event(self, ref: ObjectRef, event: Event) -> None:
        """Post a Kubernetes Event. A lost Event is logged, not retried for long: the status contains the same."""


class EventResult(StrEnum):
    """Content of a message in an events queue. An unreadable one is not deleted: SQS moves it to the DLQ."""

    TRACKED = "tracked"
    UNKNOWN = "unknown"
    CANARY = "canary"
    UNREADABLE = "unreadable"


class PolicyEventHandler(Protocol):
    """Receives BatchAccessPolicies and the labels of namespaces."""

    def on_policies(self, policies: Mapping[str, Policy | InvalidPolicy]) -> None:
        """Handle the complete list by name: others do not exist."""

    def on_policy(self, name: str, policy: Policy | InvalidPolicy | None) -> None:
        """Handle a change of one of them; None: it was deleted."""

    def on_namespaces(self, labels: Mapping[str, Labels]) -> None:
        """Handle the labels of all namespaces by name: others do not exist."""

    def on_namespace(self, name: str, labels: Labels | None) -> None:
        """Handle a change of one of them; None: it was deleted."""

    def on_stale_since(self, since: float | None, watch: str) -> None:
        """Handle the failure of a watch: since when (loop time), and which; None: both work."""


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """The wanted status of a BatchAccessPolicy. `ready`: its condition Ready.

    `jobs`: objects that it governs; None where this operator does not watch all of them.
    """

    ready: ConditionValue
    namespaces: int
    jobs: int | None
    account_id: str | None


class ListError(Exception):
    """The list of objects is incomplete: an object that is not in it may still exist."""


class CallLabels(NamedTuple):
    """Labels of metrics about calls: account (empty while unknown), region, and the role's name (empty: none)."""

    account: str
    region: str
    role: str

    def log_fields(self) -> dict[str, str]:
        """Return the known labels for a log line."""
        return {name: value for name, value in self._asdict().items() if value}


class Telemetry(Protocol):
    """Receives the values of the metrics. `code` is AWS's error code or OK."""

    def aws_request(self, operation: str, code: str, seconds: float, labels: CallLabels) -> None: ...
    def describe_batch(self, size: int) -> None: ...
    def terminate_batch(self, size: int) -> None: ...
    def polled(self, at: float, labels: CallLabels) -> None: ...
    def forget(self, labels: CallLabels) -> None:
        """Drop all series with these labels: no object needs these calls any more."""

    def forget_polls(self, labels: CallLabels) -> None:
        """Drop the time of the last poll: no object needs polls with these labels any more."""

    def termination_accepted(self, seconds: float) -> None: ...
    def termination_completed(self, seconds: float) -> None: ...
    def status_write(self, result: str) -> None: ...
    def orphaned(self) -> None:
        """Count an object whose deletion left a job alive although spec.onDelete states its termination."""
        ...

    def event_received(self, result: EventResult) -> None: ...
    def event_delay(self, seconds: float) -> None:
        """Record the time from the arrival of a message in its queue until it was received."""
        ...

    def leading(self, *, yes: bool) -> None: ...
