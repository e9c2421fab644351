"""Rows of the decision table: spec.deadline.

A limit is decided on an answer of DescribeJobs that was requested after it fell due, and by the Date header of that
answer: never by the clock of this machine, which only schedules the poll.
"""

from collections.abc import Iterator
from typing import Final

from awsbatch_operator.api.batchjob import Cause, Deadline, Intent, Limit, NextLimit
from awsbatch_operator.api.errors import ErrorClass
from awsbatch_operator.api.job import Job
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Record

NOTICE: Final = 60 * SECOND
"""Until the termination of a job that is overdue when the operator first sees its deadline."""
MAX_AGE: Final = 30 * SECOND
MAX_AGE_WAITING: Final = 5 * SECOND
"""Age of the answer that a termination rests on: a job that waits can start at any moment."""
_RESOLUTION: Final = SECOND
"""Date has whole seconds: the limit counts as past a second later."""


def next_limit(record: Record, state: JobState, job: Job) -> NextLimit | None:
    """Return the limit of spec.deadline that falls due next, or fell due; None: none applies to the job now."""
    deadline = record.spec.deadline
    if deadline is None or state.asked_at is None or awaits_answer(record, state):
        return None
    due_at, limit = min(_limits(deadline, state, job), default=(0, None))
    if limit is None:
        return None
    if state.request is not None or record.recorded is not None or job.flagged:
        # The job is being terminated: a notice would come too late.
        return NextLimit(due_at, limit)
    shown, notice_ends = record.status.deadline, state.asked_at + NOTICE
    if shown is not None:
        # It was seen before. A status that somebody wrote can't delay it by more than the notice.
        at = max(due_at, min(shown.time, notice_ends))
    else:
        at = notice_ends if due_at <= state.asked_at else due_at
    return NextLimit(at, limit, overdue=at > due_at)


def awaits_answer(record: Record, state: JobState) -> bool:
    """Return whether no answer was requested since the operator saw the deadline: its notice can't begin earlier."""
    seen_after, asked_at = record.deadline_after, state.asked_at
    if record.status.deadline is not None or seen_after is None or asked_at is None:
        return False
    return asked_at <= seen_after


def past_limit(record: Record, state: JobState) -> Intent | None:
    """Return the termination that spec.deadline demands now."""
    deadline, job = record.spec.deadline, state.job
    if deadline is None or job is None or job.finished or state.misses:
        return None
    following = next_limit(record, state, job)
    if following is None or state.asked_at is None or state.asked_at < following.time + _RESOLUTION:
        return None
    throttled = state.last_error is not None and state.last_error.error_class is ErrorClass.THROTTLED
    short = following.limit is Limit.WAITING and not throttled
    max_age = MAX_AGE_WAITING if short else MAX_AGE
    return Intent(Cause.DEADLINE, deadline.reason, deadline, following.time, max_age)


def poll_at(following: NextLimit, state: JobState) -> Millis | None:
    """Return when to poll to see that the limit has passed, by the clock of this machine; None: not known."""
    if state.asked_at is None or state.observed_at is None:
        return None
    left = following.time + _RESOLUTION - state.asked_at
    # Date is rounded down: a second later no answer comes too early.
    return state.observed_at + max(left, 0) + SECOND


def applies(deadline: Deadline, state: JobState, job: Job) -> bool:
    """Return whether any of the limits can ever apply to such a job."""
    return (deadline.running is not None and not job.is_array) or (
        deadline.waiting is not None and not state.has_dependencies
    )


def _limits(deadline: Deadline, state: JobState, job: Job) -> Iterator[tuple[Millis, Limit]]:
    if deadline.running is not None and not job.is_array and state.first_started_at is not None:
        yield state.first_started_at + deadline.running, Limit.RUNNING
    waits = not state.has_started and not state.has_dependencies
    if deadline.waiting is not None and waits and job.created_at is not None:
        yield job.created_at + deadline.waiting, Limit.WAITING
