"""The six conditions, their reasons and their messages.

Messages contain nothing that changes from poll to poll (ages, counts, request ids): a status is written when it
differs, so such a message would turn every poll into a write. Messages that thousands of healthy objects share are
constants; those that ask the user to act name the job, its region and its account.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from awsbatch_operator.api.codec import Value
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.job import Job

READY, RECONCILING, STALLED = "Ready", "Reconciling", "Stalled"
TERMINATED, SUCCEEDED, FINISHED = "Terminated", "Succeeded", "Finished"

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


class Reason(StrEnum):
    """Every reason of every condition of a BatchJob or a BatchTermination."""

    OBSERVED = "Observed"
    TERMINATED = "Terminated"
    ALREADY_FINISHED = "AlreadyFinished"
    NOT_OBSERVED_YET = "NotObservedYet"

    AWAITING_FIRST_OBSERVATION = "AwaitingFirstObservation"
    TERMINATION_PENDING = "TerminationPending"
    TERMINATION_IN_PROGRESS = "TerminationInProgress"
    TERMINATION_HELD = "TerminationHeld"
    THROTTLED = "Throttled"
    AWS_UNAVAILABLE = "AWSUnavailable"

    JOB_NOT_FOUND = "JobNotFound"
    JOB_VANISHED = "JobVanished"
    JOB_NOT_ALLOWED = "JobNotAllowed"
    NO_ACCESS_POLICY = "NoAccessPolicy"
    AMBIGUOUS_POLICY = "AmbiguousPolicy"
    POLICY_UNREADABLE = "PolicyUnreadable"
    ACCESS_DENIED = "AccessDenied"
    CREDENTIALS_UNAVAILABLE = "CredentialsUnavailable"
    INVALID_REGION = "InvalidRegion"
    TERMINATION_NOT_ALLOWED = "TerminationNotAllowed"
    TERMINATION_REJECTED = "TerminationRejected"
    TERMINATION_STUCK = "TerminationStuck"
    ACCOUNT_CHANGED = "AccountChanged"
    DEADLINE_NOT_APPLICABLE = "DeadlineNotApplicable"
    ON_DELETE_DISABLED = "OnDeleteDisabled"

    TERMINATED_BY_REQUEST = "TerminatedByRequest"
    SUCCEEDED_BEFORE_TERMINATION = "SucceededBeforeTermination"
    FAILED_BEFORE_TERMINATION = "FailedBeforeTermination"
    WAITING_ON_DEPENDENCIES = "WaitingOnDependencies"

    JOB_SUCCEEDED = "JobSucceeded"
    JOB_FAILED = "JobFailed"
    JOB_TERMINATED = "JobTerminated"
    JOB_CANCELLED = "JobCancelled"
    JOB_ACTIVE = "JobActive"

    COUNTING = "Counting"
    AWAITING_APPROVAL = "AwaitingApproval"
    ALL_REQUESTED = "AllRequested"
    LIST_NOT_ALLOWED = "ListNotAllowed"
    QUEUE_NOT_FOUND = "QueueNotFound"
    TOO_MANY_JOBS = "TooManyJobs"
    CUTOFF_IN_FUTURE = "CutoffInFuture"


STALLED_REASONS: Final = frozenset(
    {
        *(Reason.JOB_NOT_FOUND, Reason.JOB_VANISHED, Reason.JOB_NOT_ALLOWED),
        *(Reason.NO_ACCESS_POLICY, Reason.AMBIGUOUS_POLICY, Reason.POLICY_UNREADABLE),
        *(Reason.ACCESS_DENIED, Reason.CREDENTIALS_UNAVAILABLE, Reason.INVALID_REGION, Reason.ACCOUNT_CHANGED),
        *(Reason.TERMINATION_NOT_ALLOWED, Reason.TERMINATION_REJECTED, Reason.TERMINATION_STUCK),
        *(Reason.DEADLINE_NOT_APPLICABLE, Reason.ON_DELETE_DISABLED),
        *(Reason.LIST_NOT_ALLOWED, Reason.QUEUE_NOT_FOUND, Reason.TOO_MANY_JOBS, Reason.CUTOFF_IN_FUTURE),
    }
)
"""Every reason for which a user must act, for alerts and Events. It does not contain reasons of other writers."""

ENDS: Final = frozenset(
    {Reason.JOB_SUCCEEDED, Reason.JOB_FAILED, Reason.JOB_TERMINATED, Reason.JOB_CANCELLED, Reason.JOB_VANISHED}
)
"""Reasons of Finished=True."""

REASON_OF_ERROR: Final = {
    ErrorClass.THROTTLED: Reason.THROTTLED,
    ErrorClass.UNAVAILABLE: Reason.AWS_UNAVAILABLE,
    ErrorClass.NOT_SENT: Reason.TERMINATION_PENDING,
    ErrorClass.DENIED: Reason.ACCESS_DENIED,
    ErrorClass.CREDENTIALS: Reason.CREDENTIALS_UNAVAILABLE,
    ErrorClass.REJECTED: Reason.TERMINATION_REJECTED,
}

ERROR_REASONS: Final = frozenset(REASON_OF_ERROR.values()) - {Reason.TERMINATION_PENDING}
"""Reasons that report a failed call. They are shown only while that error exists."""


class ConditionValue(Value, frozen=True):
    """The content of a condition without its time and generation. `reason` is a Reason, or one that was read back."""

    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class JobName:
    """The name of a job in messages. `account`: the account that was polled, if it is known."""

    job_id: str
    region: str
    account: str | None = None

    @property
    def where(self) -> str:
        return f"{self.region} (account {self.account})" if self.account else self.region

    def __str__(self) -> str:
        return f"job {self.job_id} in {self.where}"

    @property
    def as_subject(self) -> str:
        """The name at the beginning of a sentence."""
        return f"Job {self.job_id} in {self.where}"


NOT_OBSERVED: Final = ConditionValue(UNKNOWN, Reason.NOT_OBSERVED_YET, "AWS Batch has not described this job")
OBSERVED: Final = ConditionValue(TRUE, Reason.OBSERVED, "The status shows the job as AWS Batch describes it")
AWAITING: Final = ConditionValue(
    TRUE,
    Reason.AWAITING_FIRST_OBSERVATION,
    "AWS Batch has not described this job; a new job can take a moment to appear",
)
AWAITING_CONFIRMATION: Final = ConditionValue(
    TRUE,
    Reason.AWAITING_FIRST_OBSERVATION,
    "The access policy has changed; the next poll decides whether the job is shown again",
)

_PENDING: Final = "AWS Batch has not accepted the requested termination yet"
_ACCEPTED: Final = "AWS Batch accepted a termination of the job; the job is still active"

READY_PENDING: Final = ConditionValue(FALSE, Reason.TERMINATION_PENDING, _PENDING)
READY_IN_PROGRESS: Final = ConditionValue(FALSE, Reason.TERMINATION_IN_PROGRESS, _ACCEPTED)

PENDING: Final = ConditionValue(UNKNOWN, Reason.TERMINATION_PENDING, _PENDING)
IN_PROGRESS: Final = ConditionValue(UNKNOWN, Reason.TERMINATION_IN_PROGRESS, _ACCEPTED)
WAITING: Final = ConditionValue(
    UNKNOWN,
    Reason.WAITING_ON_DEPENDENCIES,
    "AWS Batch accepted the termination, and terminates this PENDING job when the jobs that it depends "
    "on have finished",
)
TERMINATED_BY_REQUEST: Final = ConditionValue(
    TRUE, Reason.TERMINATED_BY_REQUEST, "AWS Batch terminated the job as requested"
)
ALREADY_FINISHED: Final = ConditionValue(
    FALSE,
    Reason.ALREADY_FINISHED,
    "The job had finished before the operator recorded a request; the operator sends nothing",
)
ENDED_BY_UNKNOWN: Final = ConditionValue(
    FALSE,
    Reason.ALREADY_FINISHED,
    "The job was terminated or cancelled, and this object has no record of a request. Another client "
    "sent the request, or the operator sent it and restarted before it could record it. The operator "
    "sends nothing more",
)
SUCCEEDED_BEFORE: Final = ConditionValue(
    FALSE, Reason.SUCCEEDED_BEFORE_TERMINATION, "AWS Batch accepted the termination, but the job succeeded first"
)
FAILED_BEFORE: Final = ConditionValue(
    FALSE, Reason.FAILED_BEFORE_TERMINATION, "AWS Batch accepted the termination, but the job failed first"
)
RESULT_UNCONFIRMED: Final = ConditionValue(
    UNKNOWN,
    Reason.TERMINATION_IN_PROGRESS,
    "AWS Batch accepted a termination; the outcome is hidden until a poll confirms that the policy admits the job",
)
RESULT_HIDDEN: Final = ConditionValue(
    UNKNOWN,
    Reason.JOB_NOT_ALLOWED,
    "AWS Batch accepted a termination; the outcome is hidden because no access policy admits the job",
)

SENDING: Final = ConditionValue(TRUE, Reason.TERMINATION_PENDING, "The operator sends TerminateJob")
NOT_DESCRIBED: Final = ConditionValue(
    TRUE,
    Reason.TERMINATION_PENDING,
    "The last DescribeJobs response did not contain the job; the operator sends TerminateJob when a "
    "poll shows that the job is active",
)
FOLLOWING: Final = ConditionValue(
    TRUE,
    Reason.TERMINATION_IN_PROGRESS,
    "AWS Batch accepted a termination of the job; the operator waits until the job has finished",
)
DELAYED: Final = ConditionValue(
    TRUE,
    Reason.TERMINATION_IN_PROGRESS,
    "The job is still active more than 10 minutes after its termination was requested; the operator keeps polling it",
)
ACTIVE: Final = ConditionValue(UNKNOWN, Reason.JOB_ACTIVE, "The job has not finished")
NOT_FINISHED: Final = ACTIVE.replace(status=FALSE)
VANISHED: Final = ConditionValue(
    TRUE, Reason.JOB_VANISHED, "The job was active, and AWS Batch no longer knows it; its result is unknown"
)
HAD_ENDED: Final = "The job had finished when its details were last shown here"


_REMEDY_OF_BLOCKED: Final = {
    "MISCONFIGURATION": "change the requirements of the job, or the compute environments of its queue",
    "CAPACITY": "AWS Batch keeps trying; add instance types or zones to the compute environment",
}


def observed(job: Job) -> ConditionValue:
    """Ready, for an active job that no termination concerns."""
    if job.blocked is None:
        return OBSERVED
    remedy = _REMEDY_OF_BLOCKED[job.blocked.partition(":")[0]]
    return OBSERVED.replace(message=f"AWS Batch cannot start the job: {job.status_reason} ({remedy})")


def held(cause: str, status: str) -> ConditionValue:
    """A termination that the operator does not send for now. `cause` is one sentence."""
    return ConditionValue(status, Reason.TERMINATION_HELD, f"The operator holds the termination: {cause}")


def in_other_words(value: ConditionValue) -> ConditionValue:
    """Terminated, of a request with another reason than the spec states now: reworded, or another object's."""
    return value.replace(
        message=f"{value.message}; the request had the reason in status.termination, not the reason in spec"
    )


def deadline_not_applicable(job: JobName, *, array: bool) -> ConditionValue:
    """Stalled, for a deadline of which no limit can ever apply to the job."""
    why = (
        "AWS Batch runs the children of an array job, not the parent. Set deadline.running in a BatchJob for each child"
        if array
        else "deadline.waiting does not apply to a job with dependencies. Set deadline.running"
    )
    return ConditionValue(TRUE, Reason.DEADLINE_NOT_APPLICABLE, f"No limit of spec.deadline can apply to {job}: {why}")


def on_delete_disabled(job: JobName) -> ConditionValue:
    """Stalled, for spec.onDelete where the operator does not support it."""
    return ConditionValue(
        TRUE,
        Reason.ON_DELETE_DISABLED,
        f"spec.onDelete has no effect: {job} continues when this BatchJob is deleted. Run the operator with "
        "--on-delete=enabled (chart value onDelete.enabled), or remove spec.onDelete",
    )


def stuck(job: JobName) -> ConditionValue:
    return ConditionValue(
        TRUE,
        Reason.TERMINATION_STUCK,
        f"{job.as_subject} is still active more than 30 minutes after its termination was requested. Check "
        "its container and its host",
    )


def not_found(job: JobName, *, seen: bool) -> ConditionValue:
    """Stalled, for a job that AWS Batch does not know. `seen`: it was described before."""
    if seen:
        return ConditionValue(
            TRUE,
            Reason.JOB_VANISHED,
            f"{job.as_subject} was active, and AWS Batch no longer knows it; its result is unknown. Check the "
            "logs of the job, then delete this BatchJob",
        )
    return ConditionValue(
        TRUE,
        Reason.JOB_NOT_FOUND,
        f"AWS Batch does not know {job}. Check that spec.jobId is the id that SubmitJob returned, not a job "
        "name or the id of a service job, and that spec.region is right. AWS Batch deletes a finished job "
        "after some days",
    )


def malformed(job: JobName, error: CallError) -> ConditionValue:
    """Stalled, for an id that AWS Batch refuses and has never described."""
    return ConditionValue(
        TRUE,
        Reason.JOB_NOT_FOUND,
        f"AWS Batch rejects DescribeJobs for {job}: {error.message}. Check spec.jobId: it must be the id "
        "that SubmitJob returned, not a job name",
    )


def not_terminated(*, seen: bool) -> ConditionValue:
    """Terminated, for a job that AWS Batch does not know."""
    message = (
        "AWS Batch no longer knows the job; its result is unknown"
        if seen
        else "AWS Batch does not know the job; there is nothing to terminate"
    )
    return ConditionValue(FALSE, Reason.JOB_NOT_FOUND, message)


def success(job: Job, *, by_request: bool) -> ConditionValue:
    """Succeeded, for a finished job. `by_request`: a termination ended it, even if AWS Batch shows no flag of it."""
    if job.status == "SUCCEEDED":
        return ConditionValue(TRUE, Reason.JOB_SUCCEEDED, "The job succeeded")
    if job.is_cancelled and not job.is_terminated:
        return ConditionValue(FALSE, Reason.JOB_CANCELLED, _because("The job was cancelled", job.status_reason))
    if job.is_terminated or by_request:
        return ConditionValue(FALSE, Reason.JOB_TERMINATED, _because("The job was terminated", job.status_reason))
    failed = "The job failed" if job.exit_code is None else f"The job failed with exit code {job.exit_code}"
    return ConditionValue(FALSE, Reason.JOB_FAILED, _because(failed, job.container_reason or job.status_reason))


_TRANSIENT: Final = {
    ErrorClass.THROTTLED: "AWS throttles requests in {where}",
    ErrorClass.UNAVAILABLE: "AWS Batch gives no usable response in {where}",
    ErrorClass.NOT_SENT: "The operator did not send TerminateJob in {where}",
}


def retrying(error: CallError, where: str) -> ConditionValue:
    """Reconciling, for an error of a call to that region (and account) that may pass by itself."""
    problem = _TRANSIENT[error.error_class].format(where=where)
    return ConditionValue(
        TRUE, REASON_OF_ERROR[error.error_class], f"{problem} ({error.message}); the operator keeps retrying"
    )


_REMEDY: Final = {
    ErrorClass.DENIED: "grant this action to the operator's role, or to the policy's role if it has one; the operator "
    "retries every 5 minutes",
    ErrorClass.CREDENTIALS: "check the operator's AWS credentials, region and endpoint; the operator keeps retrying",
    ErrorClass.REJECTED: "AWS rejects this request; the operator retries every 5 minutes",
}


def stalled(error: CallError, job: JobName) -> ConditionValue:
    """Stalled, for an error that a user must fix."""
    return refused(error, f"for {job}")


def refused(error: CallError, what: str) -> ConditionValue:
    """Stalled, for an error of such a call that a user must fix."""
    remedy = error.remedy or _REMEDY[error.error_class]
    return ConditionValue(
        TRUE, REASON_OF_ERROR[error.error_class], f"AWS refused a request {what}: {error.message} ({remedy})"
    )


def _because(what: str, reason: str | None) -> str:
    return f"{what}: {reason}" if reason else what
