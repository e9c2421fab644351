"""Shared by the rows of the decision table: their input, their outcome, and the request that was sent."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from awsbatch_operator.api import conditions
from awsbatch_operator.api.batchjob import (
    AdmittedBy,
    Cause,
    Intent,
    NextLimit,
    Phase,
    Spec,
    Status,
    Termination,
)
from awsbatch_operator.api.codec import Value
from awsbatch_operator.api.conditions import ConditionValue, JobName
from awsbatch_operator.api.job import FINISHED, Job
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.policy.resolution import Deny
from awsbatch_operator.reconcile import poll_intervals as intervals_
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.poll_intervals import PollIntervals


@dataclass(frozen=True, slots=True)
class Visible:
    """The object may show its job.

    `admitted_by`: what admitted the job. `terminate_denied`: why it may not be terminated. `missing_as`: replaces
    JobNotFound in the status while no poll shows the job.
    """

    admitted_by: AdmittedBy | None = None
    terminate_denied: Deny | None = None
    missing_as: Deny | None = None


UNRESTRICTED: Final = Visible()


class Crd(Enum):
    """Whether the CRD of BatchJobs is being deleted, read after a deletion of an object: that deletes all objects."""

    UNKNOWN = auto()
    UNREADABLE = auto()
    SERVED = auto()
    DELETED = auto()


@dataclass(frozen=True, slots=True)
class Deletion:
    """The deletion of an object that has the operator's finalizer.

    `at`: when it was requested, by the clock of the API server; `waited`: milliseconds that this process has tried to
    terminate the job, without those in which terminations were suspended or over the limit.
    """

    at: Millis
    crd: Crd
    waited: Millis = 0


class Record(Value, frozen=True):
    """One object: its spec, its status, and when this process learned of them.

    `changed_at`: when this process first saw this generation. `known_since`: when this process began to act for this
    object. `access`: what the policy in force lets it show and do. `held`: why terminations are held now, one sentence.
    `withdrawn_at`: when this process last saw a wanted termination removed. `account`: which its calls reach.
    `wanted`: the termination that it wants now, as of the latest reconcile. `deadline_after`: when the last answer
    before this spec.deadline was requested, by AWS's clock (0: none was); None: the deadline was not reconciled yet.
    `deletion`: None also without the finalizer.
    """

    spec: Spec
    region: str
    generation: int
    created_at: Millis
    changed_at: Millis
    known_since: Millis
    status: Status
    access: Visible | Deny = UNRESTRICTED
    held: str | None = None
    withdrawn_at: Millis | None = None
    account: str | None = None
    wanted: Intent | None = None
    deadline_after: Millis | None = None
    deletion: Deletion | None = None

    @property
    def missing_as(self) -> Deny | None:
        """Replaces JobNotFound in the status while no poll shows the job."""
        return None if isinstance(self.access, Deny) else self.access.missing_as

    @property
    def terminate_denied(self) -> Deny | None:
        return None if isinstance(self.access, Deny) else self.access.terminate_denied

    @property
    def termination_wanted(self) -> bool:
        return self.spec.terminate is not None or self.wanted is not None

    @property
    def job_name(self) -> JobName:
        return JobName(self.spec.job_id, self.region, self.account or self.status.account_id)

    @property
    def recorded(self) -> Termination | None:
        """The accepted request that its own status records."""
        own = self.status.termination
        return own if own is not None and own.accepted_at is not None and own.reason else None


class Outcome(Value, frozen=True):
    """A decision before errors are added and conditions get their times. `steady_interval` as in ReconcileResult."""

    phase: Phase
    job: Job | None
    ready: ConditionValue
    next_poll_at: Millis | None
    steady_interval: Millis | None = None
    termination: Termination | None = None
    reconciling: ConditionValue | None = None
    stalled: ConditionValue | None = None
    terminated: ConditionValue | None = None
    succeeded: ConditionValue | None = None
    terminate: Intent | None = None
    deadline: NextLimit | None = None
    requeue_at: Millis | None = None
    delayed: bool = False


def of_request(record: Record, termination: Termination | None, value: ConditionValue) -> ConditionValue:
    """The condition Terminated of an accepted request. It tells when the request had other words than stated now."""
    stated = record.spec.reason(termination.cause or Cause.TERMINATE) if termination is not None else None
    if termination is None or stated is None or termination.reason == stated:
        return value
    return conditions.in_other_words(value)


def finished_value(record: Record, phase: Phase, job: Job | None, stalled: ConditionValue | None) -> ConditionValue:
    """Return the condition Finished: True stays True until AWS Batch shows the job alive again.

    Args:
        phase: the phase to show.
        job: the job to show; None: it is hidden, or was never observed.
        stalled: the condition Stalled to show.
    """
    if job is not None and job.status in FINISHED:
        return conditions.success(job, by_request=phase is Phase.TERMINATED).replace(status=conditions.TRUE)
    if job is not None:
        return conditions.VANISHED if phase is Phase.MISSING else conditions.NOT_FINISHED
    before = record.status.condition(conditions.FINISHED)
    if before is not None and before.status == conditions.TRUE and before.reason in conditions.ENDS:
        return ConditionValue(conditions.TRUE, before.reason, conditions.HAD_ENDED)
    return conditions.NOT_OBSERVED if stalled is None else stalled.replace(status=conditions.UNKNOWN)


def effective_termination(record: Record, state: JobState) -> Termination | None:
    """Return the accepted request for this job, if it is this object's.

    A request of this process counts for an object that states a termination, or stated one when the request was sent.
    Otherwise only the request in the object's own status counts. An accepted request stays, whatever spec.terminate
    states.
    """
    own, request = record.recorded, state.request
    if request is None or not _takes_part(record, state):
        return own
    sent = Termination(
        request.reason,
        request.requested_at,
        request.accepted_at,
        own.completed_at if own else None,
        request.requests,
        cause=request.cause,
        request_id=request.request_id,
        status_reason_before=request.status_reason_before,
    )
    if own is None or own.reason != sent.reason:
        return sent
    # An earlier process sent the same before: its calls count, too.
    later = request.accepted_at > (own.accepted_at or 0)
    return sent.replace(
        requested_at=min(own.requested_at or request.requested_at, request.requested_at),
        requests=max(request.requests, own.requests + later),
        status_reason_before=own.status_reason_before or request.status_reason_before,
    )


def _takes_part(record: Record, state: JobState) -> bool:
    if record.recorded is None and ended_before(record, state.job):
        return False
    withdrawn_later = (
        state.request is not None
        and record.withdrawn_at is not None
        and record.withdrawn_at >= state.request.requested_at
    )
    return record.termination_wanted or withdrawn_later


def resend_at(record: Record, state: JobState, termination: Termination, intervals: PollIntervals) -> Millis:
    """Return when the next TerminateJob is due if the job is active and does not show the accepted request.

    What this process sent counts as it is. What only the object's own status records delays by no more than the
    regular wait from `known_since` on; a request with other words than stated now counts as one request.
    """
    accepted_at, requests = termination.accepted_at or 0, termination.requests
    if state.request is None:
        accepted_at = min(accepted_at, record.known_since)
        requests = requests if termination.reason == record.spec.reason(termination.cause or Cause.TERMINATE) else 1
    return accepted_at + intervals.resend(requests)


def ended_before(record: Record, job: Job | None) -> bool:
    """Whether the job had ended before this object could have had a part in it."""
    if record.status.finished:
        return True
    return job is not None and job.finished and job.stopped_at is not None and job.stopped_at < record.created_at


def retry_at(record: Record, state: JobState, now: Millis) -> Millis | None:
    """Until when the latest failure delays the next TerminateJob; None: it does not, or not any more."""
    error = state.terminate_error
    if error is None:
        return None
    if record.changed_at > state.terminate_failed_at and not error.error_class.transient:
        # The edit that came after the refusal may have fixed its cause.
        return None
    at = state.terminate_failed_at + intervals_.terminate_backoff(error.error_class, state.terminate_failures)
    # A failure that lies in the future means that the clock was set back.
    return at if state.terminate_failed_at <= now < at else None
