"""Types of one BatchJob object: its spec, its status and its versions."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final, Literal, NamedTuple

from msgspec import Meta, field

from awsbatch_operator.api.codec import INLINE, NOT_IN_JSON, SHARED, Count, DateTime, MetaTime, Object
from awsbatch_operator.api.job import Job
from awsbatch_operator.api.names import KIND
from awsbatch_operator.api.timestamps import Millis


class Phase(StrEnum):
    UNKNOWN = "Unknown"
    PENDING = "Pending"
    RUNNING = "Running"
    TERMINATING = "Terminating"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    TERMINATED = "Terminated"
    MISSING = "Missing"
    DENIED = "Denied"


class Cause(StrEnum):
    """The field of an object that asks for a termination, in order of precedence."""

    TERMINATE = "Terminate"
    DEADLINE = "Deadline"
    ON_DELETE = "OnDelete"


UNATTENDED: Final = frozenset({Cause.DEADLINE, Cause.ON_DELETE})
"""Causes of terminations that no person asks for at that moment: a limit applies to them."""


class Limit(StrEnum):
    RUNNING = "Running"
    WAITING = "Waiting"


class HoldCause(StrEnum):
    """Why a termination is held; a label of the metric `terminations_held`."""

    SUSPENDED_OPERATOR = "suspended_operator"
    SUSPENDED_POLICY = "suspended_policy"
    STALE_LEASE = "stale_lease"
    STALE_POLICIES = "stale_policies"
    STALE_OBJECTS = "stale_objects"
    UNATTENDED_LIMIT = "unattended_limit"
    CRD_UNREADABLE = "crd_unreadable"


FINAL_PHASES: Final = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.TERMINATED})
LIVE_PHASES: Final = frozenset(Phase) - FINAL_PHASES - {Phase.MISSING, Phase.DENIED}


class AdmittedBy(Object, frozen=True):
    """The policy that admitted the job of a status, with a digest of every rule that the admission used."""

    policy: Annotated[str, SHARED]
    rules: str


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Identity of an object: enough to write its status and to address an Event or a log line."""

    namespace: str
    name: str
    uid: str
    kind: str = KIND


@dataclass(frozen=True, slots=True)
class Deadline:
    """spec.deadline: at least one limit in milliseconds, and the reason to send, exactly as written."""

    reason: str
    running: Millis | None = None
    waiting: Millis | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """`terminate`: the reason of spec.terminate, 1..1024 characters, exactly as written; None: it is not set.

    `on_delete`: the same of spec.onDelete.terminate.
    """

    job_id: str
    region: str | None = None
    terminate: str | None = None
    deadline: Deadline | None = None
    on_delete: str | None = None

    def stated(self, cause: Cause) -> str | Deadline | None:
        """Return what the field of this cause states; None: nothing."""
        match cause:
            case Cause.TERMINATE:
                return self.terminate
            case Cause.DEADLINE:
                return self.deadline
            case Cause.ON_DELETE:
                return self.on_delete

    def reason(self, cause: Cause) -> str | None:
        """Return the reason that the field of this cause states; None: it states nothing."""
        stated = self.stated(cause)
        return stated.reason if isinstance(stated, Deadline) else stated


@dataclass(frozen=True, slots=True)
class Intent:
    """A termination that an object wants now. `stated`: the field's value, which must be the same when it is sent.

    `due_at`: when a limit fell due by AWS's clock, or when the object was deleted, in epoch milliseconds. `max_age`:
    milliseconds for which the answer of DescribeJobs that it rests on counts; None: for ever.
    """

    cause: Cause
    reason: str
    stated: str | Deadline
    due_at: Millis = 0
    max_age: Millis | None = None


Word = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,315}\Z")]
"""A type or reason of the operator's conditions; the API server accepts a little more."""


class Condition(Object, frozen=True):
    """A Kubernetes condition. `since` is lastTransitionTime."""

    type: Word
    status: Literal["True", "False", "Unknown"]
    reason: Word
    since: MetaTime = field(name="lastTransitionTime")
    message: str = ""
    generation: Count = field(name="observedGeneration", default=0)


condition = lru_cache(maxsize=4096)(Condition)
"""A cached Condition: most of ten thousand objects share the same text and second."""

Conditions = tuple[Annotated[Condition, SHARED], ...]
AccountId = Annotated[str, Meta(pattern=r"^[0-9]{12}\Z"), SHARED]


class Termination(Object, frozen=True):
    """The termination that was sent to AWS.

    `requested_at`: the first call; `accepted_at`: the last acceptance; `completed_at`: the end of the job; `requests`:
    how many TerminateJob calls AWS Batch accepted; `request_id`: AWS's id of the last of them; `status_reason_before`:
    the statusReason that the termination overwrote. A lost reason does not undo the request: its times prevent that it
    is sent again at once.
    """

    reason: str = ""
    requested_at: DateTime | None = None
    accepted_at: DateTime | None = None
    completed_at: DateTime | None = None
    requests: Count = 0
    cause: Cause | None = None
    request_id: str | None = None
    status_reason_before: str | None = None


class NextLimit(Object, frozen=True):
    """`status.deadline`: the limit that falls due next, and when by AWS's clock.

    `overdue`: it was past when the operator first saw the deadline, and `time` is the end of the notice.
    """

    time: DateTime
    limit: Limit
    overdue: Annotated[bool, NOT_IN_JSON] = False


class Status(Object, frozen=True):
    """`.status`. `job` holds the mirrored DescribeJobs fields; None: never observed, or hidden.

    `account_id`: the account in which the job was first observed. `access`: what admitted the shown job. `delayed`:
    the termination was requested more than 10 minutes ago and the job is alive; not part of `.status`.
    """

    observed_generation: Count | None = None
    phase: Phase | None = None
    region: str | None = None
    job: Annotated[Job | None, INLINE] = None
    deadline: NextLimit | None = None
    termination: Termination | None = None
    conditions: Conditions = ()
    account_id: AccountId | None = None
    access: AdmittedBy | None = None
    delayed: Annotated[bool, NOT_IN_JSON] = False

    def condition(self, type_: str) -> Condition | None:
        return next((c for c in self.conditions if c.type == type_), None)

    @property
    def finished(self) -> bool:
        """Whether every part of the status shows that the job ended: a phase that another writer set proves nothing."""
        succeeded, ready = self.condition("Succeeded"), self.condition("Ready")
        return (
            self.phase in FINAL_PHASES
            and self.job is not None
            and self.job.finished
            and (self.job.status == "SUCCEEDED") == (self.phase is Phase.SUCCEEDED)
            and succeeded is not None
            and succeeded.status == ("True" if self.phase is Phase.SUCCEEDED else "False")
            and ready is not None
        )


def with_conditions(previous: Iterable[Condition], wanted: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return the wanted conditions. Each keeps its lastTransitionTime while its status stays the same."""
    before = {c.type: c for c in previous}
    found = []
    for one in wanted:
        known = before.get(one.type)
        since = known.since if known is not None and known.status == one.status else one.since
        found.append(condition(one.type, one.status, one.reason, since, one.message, one.generation))
    return tuple(found)


class ObjectMetricKey(NamedTuple):
    """Labels of the `jobs` and `stalled` metrics. `stalled`: a reason of Stalled, or empty. `role`: an ARN."""

    namespace: str
    region: str
    phase: Phase
    stalled: str = ""
    role: str | None = None
