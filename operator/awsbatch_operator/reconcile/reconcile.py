"""Computes the status, the termination and the next poll from an object and the state of its job.

`reconcile` is pure and level-triggered: it runs after every answer, edit and timer, and the same input gives the same
result. The rows of the decision table are in active.py, finished.py, missing.py, not_allowed.py,
deadline.py and on_delete.py.
"""

from awsbatch_operator.api import conditions
from awsbatch_operator.api.batchjob import Cause, Intent, Status, condition, with_conditions
from awsbatch_operator.api.codec import Value
from awsbatch_operator.api.conditions import ConditionValue, Reason
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.job import FINISHED, account_of
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.policy.resolution import Deny
from awsbatch_operator.reconcile import on_delete
from awsbatch_operator.reconcile.active import active
from awsbatch_operator.reconcile.deadline import awaits_answer, past_limit
from awsbatch_operator.reconcile.finished import finished
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.missing import first_poll_failed, missing
from awsbatch_operator.reconcile.not_allowed import denied
from awsbatch_operator.reconcile.outcome import Outcome, Record, finished_value, retry_at
from awsbatch_operator.reconcile.poll_intervals import PollIntervals, poll_backoff

__all__ = ["ReconcileResult", "Record", "reconcile"]


class ReconcileResult(Value, frozen=True):
    """The status to show, the termination to send (None: no call), when to poll next (None: never).

    `wanted`: the termination that the object wants, whether or not it may be sent now. `requeue_at`: when to reconcile
    again without any news.

    `steady_interval`: while polls show the very same job and nothing else changes, the result stays the same and each
    poll follows the last after so many milliseconds. None: every poll has to be reconciled.

    `finalizer`: whether the object should have the operator's finalizer. `given_up`: where a deletion no longer holds
    the object, why its job may be left alive.
    """

    status: Status
    wanted: Intent | None = None
    terminate: Intent | None = None
    next_poll_at: Millis | None = None
    requeue_at: Millis | None = None
    steady_interval: Millis | None = None
    finalizer: bool = False
    given_up: str | None = None


def reconcile(record: Record, job: JobState, now: Millis, intervals: PollIntervals) -> ReconcileResult:
    """Return what to do for this object now.

    Args:
        record: the object: its spec, its status, its access.
        job: the state of the job that the object names, as this process knows it.
        now: epoch milliseconds. Nothing else is read from outside.
        intervals: the configured intervals.
    """
    timeout = intervals.on_delete_timeout
    record = record.replace(wanted=_wanted(record, job, on_delete_enabled=timeout is not None))
    result = _decide(record, job, now, intervals)
    if record.deletion is None:
        holds = record.spec.on_delete is not None and timeout is not None
        return result.replace(finalizer=True) if holds else result
    released = on_delete.release(record, job, result.status, now, timeout)
    if isinstance(released, on_delete.Release):
        # A job that has ended need not be polled once more for the generation that the deletion made.
        next_poll_at = None if result.status.finished else result.next_poll_at
        return result.replace(wanted=None, terminate=None, next_poll_at=next_poll_at, given_up=released.given_up)
    at = on_delete.decide_at(record, job, now, timeout or 0)
    requeue_at = at if result.requeue_at is None else min(at, result.requeue_at)
    return result.replace(requeue_at=requeue_at, finalizer=True)


def _decide(record: Record, job: JobState, now: Millis, intervals: PollIntervals) -> ReconcileResult:
    latest = now + intervals.longest
    if isinstance(record.access, Deny):
        answered = record.generation == record.status.observed_generation
        if record.access.reason == Reason.INVALID_REGION and record.status.finished and answered:
            # No call goes there any more.
            return ReconcileResult(record.status, record.wanted)
        outcome = denied(record, record.access, job, now)
        status = _status(record, outcome, job, now)
        return ReconcileResult(status, record.wanted, next_poll_at=_bounded(outcome, latest))
    ended = record.status.finished if job.job is None else job.job.status in FINISHED
    # The job has ended and no poll has followed the object's new generation yet.
    unanswered_edit = (
        ended
        and record.generation != record.status.observed_generation
        and (job.polled_at is None or job.polled_at < record.changed_at <= now)
    )
    described = job.job or (record.status.job if ended else None)
    alive = described is not None and not ended and not job.misses
    if unanswered_edit or (described is None and not job.misses):
        # Nothing is known yet that a decision could use.
        if job.last_error is None:
            return ReconcileResult(record.status, record.wanted, next_poll_at=now)
        outcome = first_poll_failed(record, job, job.last_error)
    elif described is not None and ended:
        if job.call_in_flight and record.termination_wanted:
            # The answer decides between AlreadyFinished and a request that came first: wait for it.
            return ReconcileResult(record.status, record.wanted)
        outcome = finished(record, job, described, now)
    elif described is None or job.misses:
        outcome = missing(record, job, now, intervals)
    else:
        outcome = active(record, job, described, now, intervals)
    if job.last_error is not None or job.terminate_error is not None:
        outcome = _with_errors(record, outcome, job, now)
    next_poll_at = _bounded(outcome, latest)
    status = _status(record, outcome, job, now)
    if unanswered_edit or (alive and record.spec.deadline is not None and awaits_answer(record, job)):
        # Not answered yet: the next reconcile, in this process or a later one, must still poll.
        status = status.replace(observed_generation=record.status.observed_generation)
    steady_interval = outcome.steady_interval if job.last_error is None else None
    return ReconcileResult(status, record.wanted, outcome.terminate, next_poll_at, outcome.requeue_at, steady_interval)


def _wanted(record: Record, job: JobState, *, on_delete_enabled: bool) -> Intent | None:
    """Return the termination that the object wants now: by spec.terminate, else by a limit, else by its deletion."""
    reason = record.spec.terminate
    if reason is not None:
        return Intent(Cause.TERMINATE, reason, reason)
    if isinstance(record.access, Deny):
        return None
    return past_limit(record, job) or on_delete.wants(record, enabled=on_delete_enabled)


def _bounded(outcome: Outcome, latest: Millis) -> Millis | None:
    """Return when to poll next. A clock that was set back leaves times in the future; these must not stop the polls."""
    return None if outcome.next_poll_at is None else min(outcome.next_poll_at, latest)


def _with_errors(record: Record, outcome: Outcome, job: JobState, now: Millis) -> Outcome:
    """Add the error of the latest call: Stalled or Reconciling, and the time of the retry."""
    outcome = outcome.replace(next_poll_at=_retry_poll_at(record, outcome, job, now))
    terminate_error = job.terminate_error if _owes_terminate(record, outcome) else None
    error = terminate_error or (job.last_error if outcome.next_poll_at is not None else None)
    if error is None or (terminate_error is None and _fixed_soon(record, outcome, job)):
        return outcome
    if terminate_error is None and error.error_class is ErrorClass.REJECTED:
        # An id that AWS Batch accepted before cannot be malformed: treat the refusal as an outage.
        error = CallError(ErrorClass.UNAVAILABLE, error.message, error.code)
    if error.error_class.transient:
        held = outcome.reconciling is not None and outcome.reconciling.reason == Reason.TERMINATION_HELD
        if outcome.stalled is not None or held:
            return outcome
        return outcome.replace(reconciling=conditions.retrying(error, record.job_name.where))
    stalled = conditions.stalled(error, record.job_name)
    return outcome.replace(
        ready=ConditionValue(conditions.FALSE, stalled.reason, stalled.message),
        reconciling=None,
        stalled=stalled,
        terminated=_terminated(outcome, stalled, sending=terminate_error is None and _sending(outcome, job)),
    )


def _retry_poll_at(record: Record, outcome: Outcome, job: JobState, now: Millis) -> Millis | None:
    if job.last_error is None or outcome.next_poll_at is None:
        return outcome.next_poll_at
    next_poll_at = job.failed_at + poll_backoff(job.last_error.error_class, job.failures)
    retry = retry_at(record, job, now) if _owes_terminate(record, outcome) else None
    return next_poll_at if retry is None else min(next_poll_at, retry)


def _sending(outcome: Outcome, job: JobState) -> bool:
    return outcome.terminate is not None or job.call_in_flight


def _terminated(outcome: Outcome, stalled: ConditionValue, *, sending: bool) -> ConditionValue | None:
    """The condition Terminated while a user must act: it gives the cause for a request that was not accepted."""
    if outcome.terminated is None:
        return None
    if stalled.reason == Reason.TERMINATION_REJECTED:
        return ConditionValue(conditions.FALSE, stalled.reason, stalled.message)
    if sending or outcome.terminated.reason not in (Reason.TERMINATION_PENDING, Reason.TERMINATION_HELD):
        return outcome.terminated
    return ConditionValue(conditions.UNKNOWN, stalled.reason, stalled.message)


def _fixed_soon(record: Record, outcome: Outcome, job: JobState) -> bool:
    """Whether one failed poll leaves the status as true as it was: the next comes within a second.

    One throttled poll concerns a hundred objects; reporting it and its end would be two hundred writes without
    information. It is reported at once to an object that waits for its first observation or for the acceptance of a
    termination, and what a status reports already (that of an earlier process, too) stays until a poll is answered.
    """
    waited_for = outcome.job is None or (record.termination_wanted and outcome.termination is None)
    shown = record.status.condition(conditions.RECONCILING)
    reported = shown is not None and shown.reason in conditions.ERROR_REASONS
    transient = job.last_error is not None and job.last_error.error_class.transient
    return transient and job.failures == 1 and not waited_for and not reported


def _owes_terminate(record: Record, outcome: Outcome) -> bool:
    """Whether this object still owes a TerminateJob to an active job, so that a failed one concerns it."""
    job = outcome.job
    if record.terminate_denied is not None or not record.termination_wanted:
        return False
    return outcome.terminated is not None and job is not None and not job.finished and not job.flagged


def _status(record: Record, outcome: Outcome, job: JobState, now: Millis) -> Status:
    ready = outcome.ready
    if outcome.stalled is not None:
        ready = ConditionValue(conditions.FALSE, outcome.stalled.reason, outcome.stalled.message)
    values = (
        (conditions.READY, ready),
        (conditions.RECONCILING, None if outcome.stalled is not None else outcome.reconciling),
        (conditions.STALLED, outcome.stalled),
        (conditions.TERMINATED, outcome.terminated),
        (conditions.SUCCEEDED, outcome.succeeded),
        (conditions.FINISHED, finished_value(record, outcome.phase, outcome.job, outcome.stalled)),
    )
    # Kubernetes keeps lastTransitionTime in whole seconds; anything finer would differ from what is read back.
    since = now - now % SECOND
    wanted = (
        condition(type_, value.status, value.reason, since, value.message, record.generation)
        for type_, value in values
        if value is not None
    )
    account_id = record.status.account_id
    if account_id is None and outcome.job is not None and job.job is not None:
        # Pinned by the first observation, of this process or an earlier one; a job that only a status shows pins none.
        account_id = account_of(outcome.job.arn)
    access = None
    if outcome.job is not None:
        access = record.status.access if isinstance(record.access, Deny) else record.access.admitted_by
    return Status(
        observed_generation=record.generation,
        phase=outcome.phase,
        region=record.region,
        job=outcome.job,
        deadline=outcome.deadline,
        termination=outcome.termination,
        conditions=with_conditions(record.status.conditions, wanted),
        account_id=account_id,
        access=access,
        delayed=outcome.delayed,
    )
