"""Kubernetes Events: one for each transition of a status, none for a poll."""

from collections.abc import Iterator
from typing import Final

from awsbatch_operator.api import conditions
from awsbatch_operator.api.batchjob import Cause, Condition, Phase, Spec, Status
from awsbatch_operator.api.conditions import JobName, Reason
from awsbatch_operator.api.events import Event, EventReason
from awsbatch_operator.api.timestamps import meta_time

_FIELDS: Final = {Cause.TERMINATE: "spec.terminate", Cause.DEADLINE: "spec.deadline", Cause.ON_DELETE: "spec.onDelete"}


def between(before: Status, after: Status, job_id: str) -> tuple[Event, ...]:
    """The Events for the step from one written status to the next."""
    job = JobName(job_id, after.region or "its region", after.account_id)
    return (*_of_request(before, after, job), *_of_job(before, after, job), *_of_problems(before, after, job))


def intent_change(
    before: Spec, after: Spec | None, cause: Cause, *, wanted: bool, accepted: bool, in_flight: bool, job_alive: bool
) -> Event | None:
    """The Event for a changed or removed spec.terminate, or another field that can ask for a termination.

    Args:
        before: the spec until now.
        after: the new spec; None: the object was deleted.
        cause: which field.
        wanted: this field asked for the termination until now.
        accepted: AWS Batch has accepted a request for this object.
        in_flight: a request for the job has no answer yet.
        job_alive: the job is not known to have ended.
    """
    stated, now = before.stated(cause), after.stated(cause) if after is not None else None
    if stated is None or stated == now or not job_alive:
        return None
    if accepted:
        return None if after is None else change_ignored(after, cause, in_flight=False)
    if now is not None or not wanted:
        return None
    job = _name(before)
    what = "The BatchJob was deleted" if after is None else f"{_FIELDS[cause]} was removed"
    if in_flight:
        effect = "the request that is in flight can still terminate the job"
    else:
        effect = "the operator does not terminate the job"
    return Event(
        EventReason.TERMINATION_WITHDRAWN, f"{what} before AWS Batch accepted TerminateJob for {job}: {effect}"
    )


def change_ignored(stated: Spec, cause: Cause, *, in_flight: bool) -> Event:
    """The Event for a request that AWS Batch accepted in other words than `stated`, which nothing can undo.

    Args:
        stated: the spec now.
        cause: the field that changed.
        in_flight: it changed while the request had no answer, not afterwards.
    """
    change, job = "removed" if stated.stated(cause) is None else "changed", _name(stated)
    when = "while TerminateJob was in flight" if in_flight else "later"
    return Event(
        EventReason.TERMINATION_CHANGE_IGNORED,
        f"{_FIELDS[cause]} was {change} {when}, which has no effect: AWS Batch accepted TerminateJob for "
        f"{job}, and this cannot be undone. status.termination shows what was sent",
        warning=True,
    )


def termination_given_up(job: JobName, why: str) -> Event:
    """The Event for a deletion that left a job alive although spec.onDelete states its termination."""
    return Event(
        EventReason.TERMINATION_GIVEN_UP,
        f"{job.as_subject} may still be active: the operator released the deleted BatchJob without the "
        f"termination that spec.onDelete requests: {why}. Terminate the job in AWS Batch",
        warning=True,
    )


def _name(spec: Spec) -> str:
    return f"job {spec.job_id}" + (f" in {spec.region}" if spec.region else "")


def _of_request(before: Status, after: Status, job: JobName) -> Iterator[Event]:
    sent, sent_before = after.termination, before.termination
    if sent and sent.accepted_at and not (sent_before and sent_before.accepted_at):
        yield Event(
            EventReason.TERMINATION_ACCEPTED,
            f"AWS Batch accepted TerminateJob for {job} with the reason: {sent.reason}",
        )
    terminated = None if _end_shown_before(before, after) else _entered(conditions.TERMINATED, before, after)
    if terminated is not None and terminated.reason == Reason.TERMINATED_BY_REQUEST:
        yield Event(EventReason.TERMINATED, _note(job, terminated))
    if terminated is not None and terminated.reason == Reason.ALREADY_FINISHED:
        yield Event(EventReason.TERMINATION_SKIPPED, _note(job, terminated))


def _end_shown_before(before: Status, after: Status) -> bool:
    """Whether the end of the job was shown already, before the policy hid it for a while."""
    hidden, job = before.condition(conditions.READY), after.job
    if before.account_id is None or before.job is not None or hidden is None or job is None:
        return False
    return job.stopped_at is not None and job.stopped_at < hidden.since


def _of_job(before: Status, after: Status, job: JobName) -> Iterator[Event]:
    if after.phase is before.phase or _end_shown_before(before, after):
        return
    succeeded, terminated = after.condition(conditions.SUCCEEDED), after.condition(conditions.TERMINATED)
    note = _note(job, succeeded)
    if after.phase is Phase.SUCCEEDED:
        yield Event(EventReason.JOB_SUCCEEDED, note)
    elif after.phase is Phase.FAILED:
        yield Event(EventReason.JOB_FAILED, note, warning=True)
    elif after.phase is Phase.TERMINATED and (terminated is None or terminated.reason != Reason.TERMINATED_BY_REQUEST):
        cancelled = succeeded is not None and succeeded.reason == Reason.JOB_CANCELLED
        yield Event(EventReason.JOB_CANCELLED if cancelled else EventReason.JOB_TERMINATED, note)


def _of_problems(before: Status, after: Status, job: JobName) -> Iterator[Event]:
    blocked = after.job.blocked if after.job is not None else None
    if after.job is not None and blocked is not None and (before.job is None or before.job.blocked != blocked):
        yield Event(EventReason.JOB_BLOCKED, _sentence(job, conditions.observed(after.job).message), warning=True)
    following, shown = after.deadline, before.deadline
    if following is not None and following.overdue and (shown is None or shown.time != following.time):
        yield Event(
            EventReason.DEADLINE_SOON,
            f"{job.as_subject} had already exceeded a limit of spec.deadline when the operator first saw the "
            f"deadline. The operator terminates the job after {meta_time(following.time)}, unless spec.deadline "
            "changes",
            warning=True,
        )
    stalled = _entered(conditions.STALLED, before, after)
    if stalled is not None and stalled.reason in conditions.STALLED_REASONS:
        yield Event(Reason(stalled.reason), stalled.message, warning=True)
    reconciling = _entered(conditions.RECONCILING, before, after)
    if reconciling is not None and reconciling.reason == Reason.TERMINATION_HELD:
        yield Event(EventReason.TERMINATION_HELD, reconciling.message, warning=True)
    at_work = after.condition(conditions.RECONCILING)
    # After a restart `before.delayed` is not known: a condition that is the same was reported by the process before.
    if after.delayed and not before.delayed and at_work and at_work != before.condition(conditions.RECONCILING):
        yield Event(EventReason.TERMINATION_DELAYED, _sentence(job, conditions.DELAYED.message), warning=True)


def _entered(type_: str, before: Status, after: Status) -> Condition | None:
    """The condition, when its reason differs from the one before."""
    now, then = after.condition(type_), before.condition(type_)
    return None if now is None or (then is not None and then.reason == now.reason) else now


def _note(job: JobName, condition: Condition | None) -> str:
    return _sentence(job, condition.message if condition else "no details are known")


def _sentence(job: JobName, text: str) -> str:
    return f"{job.as_subject}: {text}"
