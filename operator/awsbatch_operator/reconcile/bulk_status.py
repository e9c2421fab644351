"""The status and the Events of a BatchTermination."""

from collections.abc import Iterator
from dataclasses import dataclass

from awsbatch_operator.api.batchjob import Condition, condition, with_conditions
from awsbatch_operator.api.batchtermination import MOST_JOBS, BulkPhase, BulkSpec, BulkStatus
from awsbatch_operator.api.conditions import (
    FALSE,
    FINISHED,
    READY,
    RECONCILING,
    STALLED,
    STALLED_REASONS,
    TRUE,
    UNKNOWN,
    Reason,
    refused,
    retrying,
)
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.events import Event, EventReason
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.policy.resolution import Deny
from awsbatch_operator.reconcile.sweep import Tally


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a BatchTermination in this process.

    `swept`: what the last full sweep counted; None: there was none. `requested`: jobs whose termination AWS accepted.
    `refusal`: a reason of Stalled and its message. `delay`: a reason of Reconciling other than the phase's own, and its
    message.
    """

    spec: BulkSpec
    swept: Tally | None = None
    swept_at: Millis | None = None
    requested: int = 0
    refusal: tuple[str, str] | None = None
    delay: tuple[str, str] | None = None
    finished: bool = False

    @property
    def phase(self) -> BulkPhase:
        if self.refusal is not None:
            return BulkPhase.REFUSED
        if self.swept is None:
            return BulkPhase.PLANNING
        if not self.spec.approved:
            return BulkPhase.AWAITING_APPROVAL
        return BulkPhase.FINISHED if self.finished else BulkPhase.TERMINATING


def bulk_status(progress: Progress, before: BulkStatus, generation: int, now: Millis) -> BulkStatus:
    """Return the status that shows the progress. `before`: the one until now; its conditions keep their times."""
    swept = progress.swept
    return BulkStatus(
        observed_generation=generation,
        phase=progress.phase,
        swept_at=progress.swept_at,
        matched=min(swept.matched, MOST_JOBS) if swept is not None else None,
        requested=progress.requested,
        ending=min(swept.ending, MOST_JOBS) if swept is not None else None,
        failed=min(swept.failed, MOST_JOBS) if swept is not None else None,
        examples=swept.examples if swept is not None else (),
        conditions=with_conditions(before.conditions, _conditions(progress, generation, now)),
    )


def _conditions(progress: Progress, generation: int, now: Millis) -> Iterator[Condition]:
    ready, finished, reason, message = _verdict(progress)
    yield condition(READY, ready, reason, now, message, generation)
    if progress.refusal is not None:
        yield condition(STALLED, TRUE, reason, now, message, generation)
    elif ready == FALSE:
        yield condition(RECONCILING, TRUE, reason, now, message, generation)
    yield condition(FINISHED, finished, reason, now, message, generation)


def _verdict(progress: Progress) -> tuple[str, str, str, str]:
    """Return the status of Ready and of Finished, and the reason and message of all conditions."""
    match progress.phase:
        case BulkPhase.REFUSED:
            assert progress.refusal is not None
            return FALSE, UNKNOWN, *progress.refusal
        case BulkPhase.PLANNING:
            delay = progress.delay or (Reason.COUNTING, "The operator counts the matching active jobs")
            return FALSE, FALSE, *delay
        case BulkPhase.AWAITING_APPROVAL:
            message = _count(progress.swept.matched if progress.swept is not None else 0)
            return TRUE, FALSE, Reason.AWAITING_APPROVAL, message
        case BulkPhase.TERMINATING:
            delay = progress.delay or (
                Reason.TERMINATION_IN_PROGRESS,
                "The operator terminates the matching active jobs",
            )
            return FALSE, FALSE, *delay
        case BulkPhase.FINISHED:
            message = (
                "AWS Batch accepted the termination of every matching job. Some jobs can still be active: "
                "status.ending counts them"
            )
            return TRUE, TRUE, Reason.ALL_REQUESTED, message


def _count(matched: int) -> str:
    if not matched:
        return "No active job matches"
    return f"{matched} active job{' matches' if matched == 1 else 's match'}. To terminate, set spec.approved to true"


def refusal_of(error: CallError, region: str) -> Deny:
    """Return the refusal of a call that waiting does not correct."""
    value = refused(error, f"in {region}")
    return Deny(value.reason, value.message)


def delay_of(error: CallError, region: str) -> tuple[str, str]:
    """Return `Progress.delay` after an error that may pass by itself."""
    value = retrying(error, region)
    return value.reason, value.message


def too_many(total: int, most: int, *, requested: int) -> Deny:
    outcome = "the operator terminates no more" if requested else "the operator terminates none"
    return Deny(
        Reason.TOO_MANY_JOBS,
        f"{total} jobs match, and spec.maxJobs is {most}: {outcome}. Create another BatchTermination that "
        "selects fewer jobs or has a larger maxJobs",
    )


def cutoff_in_future() -> Deny:
    return Deny(
        Reason.CUTOFF_IN_FUTURE,
        "spec.createdBefore is more than 5 minutes after the creation of this object: it would terminate jobs that "
        "nobody has counted. Create another BatchTermination with the current time",
    )


def queue_not_found(queue: str, region: str, error: CallError) -> Deny:
    message = error.message.rstrip(".")
    return Deny(
        Reason.QUEUE_NOT_FOUND,
        f"AWS Batch does not list the jobs of the queue {queue} in {region}: {message}. Create another "
        "BatchTermination with the name of a queue that exists there",
    )


def events_between(before: BulkStatus, after: BulkStatus) -> Iterator[Event]:
    """Yield the Events of the step from one status to the next."""
    stalled = next((one for one in after.conditions if one.type == STALLED), None)
    if stalled is not None and stalled.reason in STALLED_REASONS and stalled.reason != before.reason(STALLED):
        yield Event(Reason(stalled.reason), stalled.message, warning=True)
    reconciling = next((one for one in after.conditions if one.type == RECONCILING), None)
    held = reconciling is not None and reconciling.reason == Reason.TERMINATION_HELD
    if reconciling is not None and held and before.reason(RECONCILING) != reconciling.reason:
        yield Event(EventReason.TERMINATION_HELD, reconciling.message, warning=True)


def accepted_event(jobs: int, reason: str) -> Event:
    """Return the Event of a sweep in which AWS Batch accepted the termination of so many jobs."""
    return Event(EventReason.TERMINATION_ACCEPTED, f"AWS Batch accepted {jobs} terminations with the reason: {reason}")


def withdrawn_event(*, deleted: bool) -> Event:
    what = "The BatchTermination was deleted" if deleted else "spec.approved was set to false"
    return Event(EventReason.TERMINATION_WITHDRAWN, f"{what}: the operator sends no further terminations")
