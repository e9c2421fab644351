"""Rows of the decision table: AWS Batch does not know the job, or no poll has succeeded yet."""

from awsbatch_operator.api import conditions
from awsbatch_operator.api.batchjob import FINAL_PHASES, Phase
from awsbatch_operator.api.conditions import ConditionValue, Reason
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.job import Job
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.not_allowed import not_allowed
from awsbatch_operator.reconcile.outcome import Outcome, Record, effective_termination
from awsbatch_operator.reconcile.poll_intervals import (
    MISSING_INTERVAL,
    POLLS_UNTIL_MISSING,
    PollIntervals,
    poll_backoff,
)


def missing(record: Record, state: JobState, now: Millis, intervals: PollIntervals) -> Outcome:
    """Complete answers do not contain the job."""
    before, polled_at = record.status, state.polled_at or now
    last = state.job or before.job
    age = polled_at - (state.missing_since if state.missing_since is not None else polled_at)
    confirmed = state.misses >= POLLS_UNTIL_MISSING and age >= intervals.missing_grace
    confirmed = confirmed or before.phase is (Phase.MISSING if record.missing_as is None else Phase.DENIED)
    next_poll_at = polled_at + (MISSING_INTERVAL if confirmed else intervals.missing(age))
    if polled_at < record.changed_at <= now:
        # No poll has followed this edit yet, and its author waits for the answer.
        next_poll_at = now
    if confirmed and record.missing_as is not None:
        return not_allowed(record, record.missing_as, next_poll_at)
    if confirmed:
        stalled = conditions.not_found(record.job_name, seen=last is not None)
        return _missing(record, state, stalled, last, next_poll_at)
    if last is None:
        return _unknown(record, state, next_poll_at, conditions.AWAITING)
    return _unchanged(record, state, last, next_poll_at)


def first_poll_failed(record: Record, state: JobState, error: CallError) -> Outcome:
    """The poll that must precede everything else failed: show the cause and keep the rest."""
    next_poll_at, job = state.failed_at + poll_backoff(error.error_class, state.failures), record.status.job
    if job is None and error.error_class is ErrorClass.REJECTED:
        return _missing(record, state, conditions.malformed(record.job_name, error), None, next_poll_at)
    if record.missing_as is not None and record.status.phase is Phase.DENIED:
        return not_allowed(record, record.missing_as, next_poll_at)
    if record.status.phase is Phase.MISSING:
        stalled = conditions.not_found(record.job_name, seen=job is not None)
        return _missing(record, state, stalled, job, next_poll_at)
    if job is None:
        return _unknown(record, state, next_poll_at)
    return _unchanged(record, state, job, next_poll_at)


def _missing(
    record: Record, state: JobState, stalled: ConditionValue, last: Job | None, next_poll_at: Millis
) -> Outcome:
    return Outcome(
        phase=Phase.MISSING,
        job=last,
        termination=effective_termination(record, state),
        ready=ConditionValue(conditions.FALSE, stalled.reason, stalled.message),
        stalled=stalled,
        terminated=conditions.not_terminated(seen=last is not None) if _wanted(record, state) else None,
        next_poll_at=next_poll_at,
    )


def _unknown(
    record: Record, state: JobState, next_poll_at: Millis, reconciling: ConditionValue | None = None
) -> Outcome:
    return Outcome(
        phase=Phase.UNKNOWN,
        job=None,
        termination=effective_termination(record, state),
        ready=conditions.NOT_OBSERVED,
        reconciling=reconciling,
        terminated=_terminated_so_far(record, state, pending=effective_termination(record, state) is None),
        next_poll_at=next_poll_at,
    )


def _unchanged(record: Record, state: JobState, job: Job, next_poll_at: Millis) -> Outcome:
    """Keep the earlier status until a poll shows more."""
    before, wanted = record.status, _wanted(record, state)
    foreign_phase = before.phase in FINAL_PHASES and not before.finished
    accepted = effective_termination(record, state)
    # Nothing was accepted for this job yet, from anybody.
    pending = accepted is None and not job.flagged
    ready = conditions.observed(job)
    if job.finished:
        ready = _shown(record, conditions.READY) or conditions.OBSERVED
    elif wanted:
        ready = conditions.READY_PENDING if pending else conditions.READY_IN_PROGRESS
    termination = accepted or before.termination
    shown = _shown(record, conditions.TERMINATED) if termination is not None else None
    reconciling = None
    if wanted and not job.finished:
        following = _shown(record, conditions.RECONCILING)
        if following is None or following.reason != Reason.TERMINATION_IN_PROGRESS:
            following = conditions.FOLLOWING
        reconciling = conditions.NOT_DESCRIBED if pending else following
    return Outcome(
        phase=Phase.UNKNOWN if foreign_phase else before.phase or Phase.UNKNOWN,
        job=job,
        termination=termination,
        ready=ready,
        reconciling=reconciling,
        stalled=_shown(record, conditions.STALLED),
        terminated=_terminated_so_far(record, state, pending=pending) or shown,
        succeeded=_shown(record, conditions.SUCCEEDED),
        next_poll_at=next_poll_at,
        deadline=before.deadline,
        delayed=before.delayed,
    )


def _wanted(record: Record, state: JobState) -> bool:
    return record.termination_wanted or effective_termination(record, state) is not None


def _terminated_so_far(record: Record, state: JobState, *, pending: bool) -> ConditionValue | None:
    """The condition Terminated when nothing new is known of the job. `pending`: nothing was accepted for it yet."""
    if not _wanted(record, state):
        return None
    shown = _shown(record, conditions.TERMINATED)
    if shown is not None and shown.reason != Reason.TERMINATION_PENDING:
        return shown
    return conditions.PENDING if pending else conditions.IN_PROGRESS


_TEMPORARY = conditions.ERROR_REASONS | {Reason.TERMINATION_HELD}


def _shown(record: Record, type_: str) -> ConditionValue | None:
    """Return this condition, unless it reports an error or a hold, which are added again while they exist."""
    shown = record.status.condition(type_)
    if shown is None or shown.reason in _TEMPORARY:
        return None
    return ConditionValue(shown.status, shown.reason, shown.message)
