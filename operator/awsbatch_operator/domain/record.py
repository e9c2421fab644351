"""One BatchJob object: what it states, what its status says, and where the two stand."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from awsbatch_operator.domain.access import Mark
from awsbatch_operator.domain.job import Job, Millis


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


FINAL_PHASES: Final = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.TERMINATED})
LIVE_PHASES: Final = frozenset(Phase) - FINAL_PHASES - {Phase.MISSING, Phase.DENIED}


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Where an object lives; enough to write its status and to point an Event or a log line at it."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Spec:
    """`terminate` is the stated reason, 1..1024 characters, exactly as written; None: no termination is stated."""

    job_id: str
    region: str | None = None
    terminate: str | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A Kubernetes condition. `status` is True, False or Unknown; `since` is lastTransitionTime."""

    type: str
    status: str
    reason: str
    message: str
    since: Millis
    generation: int


condition = lru_cache(maxsize=4096)(Condition)
"""A Condition, the same one for the same words and second: of ten thousand objects most say the same."""


@dataclass(frozen=True, slots=True)
class Termination:
    """What was sent to AWS and when: first request, last acceptance, end of the job, accepted TerminateJob calls."""

    reason: str
    requested_at: Millis | None = None
    accepted_at: Millis | None = None
    completed_at: Millis | None = None
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """`.status`. `job` holds the mirrored DescribeJobs fields; None: never seen, or not to be shown.

    `account_id`: the account that the job was first seen in. `access`: by what the shown job was admitted.
    """

    observed_generation: int | None = None
    phase: Phase | None = None
    region: str | None = None
    job: Job | None = None
    termination: Termination | None = None
    conditions: tuple[Condition, ...] = ()
    account_id: str | None = None
    access: Mark | None = None

    def condition(self, type_: str) -> Condition | None:
        return next((c for c in self.conditions if c.type == type_), None)

    @property
    def finished(self) -> bool:
        """Whether it says that the job ended, and every part of it says so: a scribbled phase alone proves nothing."""
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
    """The wanted conditions, each keeping its lastTransitionTime for as long as its status stays the same."""
    before = {c.type: c for c in previous}
    return tuple(_continued(c, before.get(c.type)) for c in wanted)


def _continued(wanted: Condition, before: Condition | None) -> Condition:
    if before is None or before.status != wanted.status:
        return wanted
    return condition(wanted.type, wanted.status, wanted.reason, wanted.message, before.since, wanted.generation)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of an object, as the API server shows it.

    `spec` is None when this version of the operator can't read it (a future schema); `resource_version` orders the
    versions of one object; `shown` is the raw `.status`, to see what others wrote there.
    """

    ref: ObjectRef
    generation: int
    resource_version: str
    created_at: Millis
    spec: Spec | None
    status: Status
    shown: dict[str, object]


class Standing(NamedTuple):
    """What objects are counted by. `stalled`: why a person must act, empty when nobody must. `role`: its ARN."""

    namespace: str
    region: str
    phase: Phase
    stalled: str = ""
    role: str | None = None
