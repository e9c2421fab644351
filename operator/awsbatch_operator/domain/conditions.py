"""The five conditions, their reasons, and the words that people read in them.

Texts hold nothing that changes from look to look (ages, counts, request ids): a status is written when it says
something new, and a text that ticks would make every poll a write.
"""

from dataclasses import dataclass
from typing import Final

from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Job

READY, RECONCILING, STALLED, TERMINATED, SUCCEEDED = "Ready", "Reconciling", "Stalled", "Terminated", "Succeeded"

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"

REASONS_OF_STALLED: Final = frozenset(
    {
        *("JobNotFound", "JobVanished", "TerminationStuck"),
        *("NoAccessPolicy", "AmbiguousPolicy", "PolicyUnreadable"),
        *("JobNotAllowed", "TerminationNotAllowed", "AccountChanged"),
        *(Fate.DENIED.value, Fate.CREDENTIALS.value, Fate.REJECTED.value),
    }
)
"""Every reason for which a person must act. Alerts are made of them: a status may hold others, written by others."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a condition says, before it is stamped with time and generation."""

    status: str
    reason: str
    message: str


NOT_OBSERVED: Final = Claim(UNKNOWN, "NotObservedYet", "AWS Batch has not shown this job yet")
OBSERVED: Final = Claim(TRUE, "Observed", "The status shows the job as Batch describes it")
AWAITING: Final = Claim(
    TRUE, "AwaitingFirstObservation", "Batch does not know the job yet; a new one may take a moment to appear"
)
WITHHELD: Final = Claim(
    TRUE,
    "AwaitingFirstObservation",
    "The access policy has changed: the job is shown again once a look confirms it",
)
NOT_READY_TERMINATING: Final = Claim(FALSE, "Terminating", "A termination is stated and the job has not ended yet")

REQUESTED: Final = Claim(UNKNOWN, "TerminationRequested", "The termination is stated; Batch has not accepted it yet")
IN_PROGRESS: Final = Claim(UNKNOWN, "TerminationInProgress", "Batch accepted a termination; the job has not ended yet")
WAITING: Final = Claim(
    UNKNOWN,
    "WaitingOnDependencies",
    "Batch accepted the termination and ends this PENDING job once the jobs that it depends on have ended",
)
BY_REQUEST: Final = Claim(TRUE, "TerminatedByRequest", "The job ended by the stated termination")
ALREADY_FINISHED: Final = Claim(
    FALSE, "AlreadyFinished", "The job had ended before this termination could be sent; nothing was sent"
)
SUCCEEDED_BEFORE: Final = Claim(
    FALSE, "SucceededBeforeTermination", "Batch accepted the termination, but the job succeeded first"
)
FAILED_BEFORE: Final = Claim(
    FALSE, "FailedBeforeTermination", "Batch accepted the termination, but the job failed by itself first"
)

FATE_WITHHELD: Final = Claim(
    UNKNOWN,
    "TerminationInProgress",
    "Batch accepted a termination; what became of the job is shown once a look confirms that it may be",
)
FATE_NOT_SHOWN: Final = Claim(
    UNKNOWN, "JobNotAllowed", "Batch accepted a termination; what became of the job may not be shown here any more"
)

SENDING: Final = Claim(TRUE, "TerminationInProgress", "TerminateJob is being sent")
OUT_OF_SIGHT: Final = Claim(
    TRUE, "TerminationInProgress", "The latest look did not show the job; TerminateJob waits for one that does"
)
FOLLOWING: Final = Claim(TRUE, "TerminationInProgress", "Batch accepted the termination; waiting for the job to end")
DELAYED: Final = Claim(
    TRUE,
    "TerminationInProgress",
    "The job still runs more than 10 minutes after its termination was requested; the operator keeps watching",
)
STUCK: Final = Claim(
    TRUE,
    "TerminationStuck",
    "The job still runs more than 30 minutes after its termination was requested; look at its container or host",
)
ACTIVE: Final = Claim(UNKNOWN, "JobActive", "The job has not ended")


def not_found(*, seen: bool) -> Claim:
    if seen:
        return Claim(TRUE, "JobVanished", "Batch showed this job alive and no longer knows it; how it ended is unknown")
    return Claim(TRUE, "JobNotFound", "Batch does not know this job in this region: check spec.jobId and spec.region")


def unterminated(*, seen: bool) -> Claim:
    if seen:
        return Claim(FALSE, "JobNotFound", "Batch no longer knows the job, so nobody can tell how it ended")
    return Claim(FALSE, "JobNotFound", "Batch does not know the job, so there is nothing to terminate")


def success(job: Job, *, by_request: bool) -> Claim:
    """The fate of a finished job. `by_request`: ended by a termination, even if Batch shows no flag of it."""
    if job.status == "SUCCEEDED":
        return Claim(TRUE, "JobSucceeded", "The job succeeded")
    if job.is_terminated:
        return Claim(FALSE, "JobTerminated", _because("The job was terminated", job.status_reason))
    if job.is_cancelled:
        return Claim(FALSE, "JobCancelled", _because("The job was cancelled", job.status_reason))
    if by_request:
        return Claim(FALSE, "JobTerminated", _because("The job was terminated", job.status_reason))
    failed = "The job failed" if job.exit_code is None else f"The job failed with exit code {job.exit_code}"
    return Claim(FALSE, "JobFailed", _because(failed, job.container_reason or job.status_reason))


_TROUBLE: Final = {
    Fate.THROTTLED: "AWS throttles the calls of this account",
    Fate.UNAVAILABLE: "AWS Batch gives no usable answer",
}


def waiting(fault: Fault) -> Claim:
    """Reconciling, for a fault that time may cure."""
    return Claim(TRUE, fault.fate.value, f"{_TROUBLE[fault.fate]} ({fault.message}); the operator keeps trying")


_REMEDY: Final = {
    Fate.DENIED: "grant the operator's role this action; it is tried again every 5 minutes",
    Fate.CREDENTIALS: "check the operator's AWS credentials, region and endpoint; it keeps trying",
    Fate.REJECTED: "AWS refuses this request; it is tried again every 5 minutes",
}


def stalled(fault: Fault) -> Claim:
    """Stalled, for a fault that a person must cure."""
    return Claim(TRUE, fault.fate.value, f"{fault.message} ({fault.remedy or _REMEDY[fault.fate]})")


def _because(what: str, reason: str | None) -> str:
    return f"{what}: {reason}" if reason else what
