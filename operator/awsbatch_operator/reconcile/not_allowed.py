"""Rows of the decision table: the policy in force does not let the object show or terminate its job."""

from awsbatch_operator.api import conditions
from awsbatch_operator.api.batchjob import Phase, Status, Termination, condition, with_conditions
from awsbatch_operator.api.conditions import ConditionValue, Reason
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.policy.resolution import Deny
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Outcome, Record, finished_value
from awsbatch_operator.reconcile.poll_intervals import MISSING_INTERVAL, poll_backoff


def denied(record: Record, deny: Deny, state: JobState, now: Millis) -> Outcome:
    """The object may not show its job. The job is polled from time to time, because a policy may admit it later."""
    if deny.reason == Reason.INVALID_REGION:
        # No endpoint exists to poll.
        return _frozen(record, deny, None)
    polled_at = state.polled_at if state.polled_at is not None else now
    next_poll_at = polled_at + MISSING_INTERVAL
    if polled_at < record.changed_at <= now:
        # No poll has followed this edit yet, and its author waits for the answer.
        next_poll_at = now
    if state.last_error is not None:
        next_poll_at = state.failed_at + poll_backoff(state.last_error.error_class, state.failures)
    return not_allowed(record, deny, next_poll_at) if deny.hidden else _frozen(record, deny, next_poll_at)


def not_allowed(record: Record, deny: Deny, next_poll_at: Millis) -> Outcome:
    """Show nothing of the job, and of its termination only that it was accepted."""
    value = _value(record, deny)
    termination = accepted_of(record.status)
    terminated = conditions.RESULT_HIDDEN if termination is not None else value
    return Outcome(
        phase=Phase.DENIED,
        job=None,
        termination=termination,
        ready=value,
        stalled=value.replace(status=conditions.TRUE),
        terminated=(
            terminated.replace(reason=value.reason) if record.termination_wanted or termination is not None else None
        ),
        next_poll_at=next_poll_at,
    )


def observed_only(outcome: Outcome, deny: Deny) -> Outcome:
    """An active job that may be shown, but its stated termination may not be sent."""
    value = ConditionValue(conditions.FALSE, deny.reason, deny.message)
    return outcome.replace(
        ready=value,
        reconciling=None,
        stalled=value.replace(status=conditions.TRUE),
        terminated=value,
        terminate=None,
    )


def unconfirmed(record: Record, now: Millis) -> Status:
    """The status of an object whose job was admitted by a policy that has changed, until a poll shows more."""
    since = now - now % SECOND
    termination = accepted_of(record.status)
    values = [(conditions.READY, conditions.NOT_OBSERVED), (conditions.RECONCILING, conditions.AWAITING_CONFIRMATION)]
    if record.termination_wanted or termination is not None:
        pending = conditions.PENDING if termination is None else conditions.RESULT_UNCONFIRMED
        values.append((conditions.TERMINATED, pending))
    values.append((conditions.FINISHED, finished_value(record, Phase.UNKNOWN, None, None)))
    wanted = (condition(type_, one.status, one.reason, since, one.message, record.generation) for type_, one in values)
    return Status(
        observed_generation=record.status.observed_generation,
        phase=Phase.UNKNOWN,
        region=record.region,
        termination=termination,
        conditions=with_conditions(record.status.conditions, wanted),
        account_id=record.status.account_id,
    )


def accepted_of(status: Status) -> Termination | None:
    """The request that the status records, if AWS Batch accepted it, without what it shows of the job."""
    own = status.termination
    return None if own is None or own.accepted_at is None else own.replace(completed_at=None, status_reason_before=None)


def _frozen(record: Record, deny: Deny, next_poll_at: Millis | None) -> Outcome:
    """Keep the shown details without updating them."""
    value, before = _value(record, deny), record.status
    shown = {type_: before.condition(type_) for type_ in (conditions.TERMINATED, conditions.SUCCEEDED)}
    kept = {
        type_: ConditionValue(one.status, one.reason, one.message) for type_, one in shown.items() if one is not None
    }
    phase = before.phase or Phase.UNKNOWN
    if next_poll_at is None and not before.finished:
        phase = Phase.UNKNOWN
    return Outcome(
        phase=phase,
        job=before.job,
        termination=before.termination,
        ready=value,
        stalled=value.replace(status=conditions.TRUE),
        terminated=kept.get(conditions.TERMINATED)
        if before.termination
        else value
        if record.termination_wanted
        else None,
        succeeded=kept.get(conditions.SUCCEEDED),
        next_poll_at=next_poll_at,
    )


def _value(record: Record, deny: Deny) -> ConditionValue:
    message = deny.message
    if deny.reason == Reason.JOB_NOT_ALLOWED:
        # What was asked for, in the same words whether such a job exists or not.
        message = f"{record.job_name.as_subject}: {message}"
    return ConditionValue(conditions.FALSE, deny.reason, message)
