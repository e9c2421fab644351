"""Rows of the decision table: spec.deadline. The job of most of them has been running for 30 minutes."""

from dataclasses import dataclass

import pytest

from awsbatch_operator.api.batchjob import Cause, Limit, NextLimit
from awsbatch_operator.api.conditions import STALLED
from awsbatch_operator.api.timestamps import HOUR, MINUTE, SECOND, Millis, parse_duration
from awsbatch_operator.policy.resolution import Deny
from awsbatch_operator.reconcile.deadline import NOTICE
from awsbatch_operator.reconcile.events import between
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Visible
from awsbatch_operator.reconcile.reconcile import ReconcileResult, reconcile
from builders import (
    INTERVALS,
    JOB_ID,
    LIMIT,
    NOW,
    TERMINATE,
    THROTTLED,
    WHY,
    JobBuilder,
    ObjectBuilder,
    a_job,
    absent,
    an_object,
    seen,
)

RUNNING = a_job().running()
WAITING = a_job().in_status("RUNNABLE")
RAN_FOR, WAITED_FOR = 30 * MINUTE, 60 * MINUTE


def decided(given: ObjectBuilder, known: JobState, now: Millis = NOW) -> ReconcileResult:
    return reconcile(given.record, known, now, INTERVALS)


def noticed(given: ObjectBuilder, at: Millis = NOW - HOUR) -> ObjectBuilder:
    """Its status shows a limit since then: the deadline was seen before it fell due."""
    return given.with_status(deadline=NextLimit(at, Limit.RUNNING), observed_generation=1)


@dataclass(frozen=True, slots=True)
class Row:
    """`call`: whether TerminateJob is sent; `next_limit`: what status.deadline shows; `stalled`: the reason."""

    given: ObjectBuilder
    known: JobState
    call: bool = False
    next_limit: NextLimit | None = None
    stalled: str | None = None


def running_until(at: Millis) -> NextLimit:
    return NextLimit(at, Limit.RUNNING)


def waiting_until(at: Millis) -> NextLimit:
    return NextLimit(at, Limit.WAITING)


START, SUBMITTED = NOW - RAN_FOR, NOW - WAITED_FOR
FIRST_START = seen(WAITING).replace(first_started_at=START, has_started=True)
IN_A_RETRY = seen(a_job().running(), NOW - MINUTE).with_job(WAITING.job, NOW, asked_at=NOW)
PARENT = a_job().pending()
LATE = noticed(an_object().due(running=RAN_FOR - SECOND))

ROWS = {
    "running, before the limit": Row(
        an_object().due(running=RAN_FOR + MINUTE), seen(RUNNING), next_limit=running_until(NOW + MINUTE)
    ),
    "running, at the limit: Date has whole seconds, so not yet": Row(
        noticed(an_object().due(running=RAN_FOR)), seen(RUNNING), next_limit=running_until(NOW)
    ),
    "running, a second later": Row(
        noticed(an_object().due(running=RAN_FOR - SECOND)),
        seen(RUNNING),
        call=True,
        next_limit=running_until(NOW - SECOND),
    ),
    "overdue when first seen: a minute of notice": Row(
        an_object().due(running=MINUTE),
        seen(RUNNING),
        next_limit=NextLimit(NOW + NOTICE, Limit.RUNNING, overdue=True),
    ),
    "within the notice": Row(
        noticed(an_object().due(running=MINUTE), at=NOW + 20 * SECOND),
        seen(RUNNING),
        next_limit=NextLimit(NOW + 20 * SECOND, Limit.RUNNING, overdue=True),
    ),
    "a forged status delays by no more than the notice": Row(
        noticed(an_object().due(running=MINUTE), at=NOW + 9 * HOUR),
        seen(RUNNING),
        next_limit=NextLimit(NOW + NOTICE, Limit.RUNNING, overdue=True),
    ),
    "after the notice": Row(
        noticed(an_object().due(running=MINUTE), at=NOW - SECOND),
        seen(RUNNING),
        call=True,
        next_limit=NextLimit(NOW - SECOND, Limit.RUNNING, overdue=True),
    ),
    "a forged status never makes a limit fall due": Row(
        noticed(an_object().due(running=RAN_FOR + MINUTE), at=NOW - HOUR),
        seen(RUNNING),
        next_limit=running_until(NOW + MINUTE),
    ),
    "waiting, before the limit": Row(
        an_object().due(waiting=WAITED_FOR + MINUTE), seen(WAITING), next_limit=waiting_until(NOW + MINUTE)
    ),
    "waiting, after the limit": Row(
        noticed(an_object().due(waiting=WAITED_FOR - SECOND)),
        seen(WAITING),
        call=True,
        next_limit=waiting_until(NOW - SECOND),
    ),
    "STARTING is still waiting": Row(
        noticed(an_object().due(waiting=HOUR // 2)),
        seen(a_job().in_status("STARTING")),
        call=True,
        next_limit=waiting_until(NOW - HOUR // 2),
    ),
    "waiting is over once it runs": Row(noticed(an_object().due(waiting=MINUTE)), seen(RUNNING)),
    "a retry waits again: waiting is over for ever": Row(noticed(an_object().due(waiting=MINUTE)), IN_A_RETRY),
    "a retry does not reset running": Row(
        noticed(an_object().due(running=RAN_FOR - SECOND)),
        IN_A_RETRY,
        call=True,
        next_limit=running_until(NOW - SECOND),
    ),
    "running counts from the first of all attempts": Row(
        noticed(an_object().due(running=RAN_FOR - SECOND)),
        FIRST_START,
        call=True,
        next_limit=running_until(NOW - SECOND),
    ),
    "the earlier of two limits": Row(
        an_object().due(running=2 * HOUR, waiting=3 * HOUR),
        seen(RUNNING),
        next_limit=running_until(START + 2 * HOUR),
    ),
    "not started: only waiting is known": Row(
        an_object().due(running=MINUTE, waiting=3 * HOUR), seen(WAITING), next_limit=waiting_until(SUBMITTED + 3 * HOUR)
    ),
    "waiting, with dependencies: running may apply later": Row(
        noticed(an_object().due(running=HOUR, waiting=MINUTE)), seen(a_job().pending(), has_dependencies=True)
    ),
    "waiting alone, with dependencies": Row(
        noticed(an_object().due(waiting=MINUTE)),
        seen(a_job().pending(), has_dependencies=True),
        stalled="DeadlineNotApplicable",
    ),
    "running, the parent of an array": Row(
        noticed(an_object().due(running=MINUTE)), seen(PARENT.array(RUNNING=3)), stalled="DeadlineNotApplicable"
    ),
    "waiting, the parent of an array": Row(
        noticed(an_object().due(waiting=WAITED_FOR - SECOND)),
        seen(PARENT.array(RUNNABLE=3)),
        call=True,
        next_limit=waiting_until(NOW - SECOND),
    ),
    "waiting, a child of the array is STARTING": Row(
        noticed(an_object().due(waiting=MINUTE)), seen(PARENT.array(RUNNABLE=2, STARTING=1))
    ),
    "waiting, a child of the array has ended": Row(
        noticed(an_object().due(waiting=MINUTE)), seen(PARENT.array(RUNNABLE=2, SUCCEEDED=1))
    ),
    "waiting, a child of the array was STARTING": Row(
        noticed(an_object().due(waiting=MINUTE)),
        seen(PARENT.array(RUNNABLE=2, STARTING=1), NOW - MINUTE).with_job(
            PARENT.array(RUNNABLE=3).job, NOW, asked_at=NOW
        ),
    ),
    "an answer without Date decides nothing": Row(
        noticed(an_object().due(running=MINUTE)), JobState().with_job(RUNNING.job, NOW)
    ),
    "flagged by somebody else: nothing to send": Row(noticed(an_object().due(running=MINUTE)), seen(RUNNING.flagged())),
    "absent from the latest answer: wait for the next": Row(
        noticed(an_object().settled(seen(RUNNING)).due(running=MINUTE)),
        absent(NOW, last=seen(RUNNING)),
        next_limit=running_until(NOW - HOUR),
    ),
    "finished": Row(noticed(an_object().due(running=MINUTE)), seen(a_job().running().ended("SUCCEEDED"))),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_of_deadlines_holds(row: Row) -> None:
    result = decided(row.given, row.known)
    stalled = result.status.condition(STALLED)
    assert (result.terminate is not None) == row.call
    assert result.status.deadline == row.next_limit
    assert (stalled.reason if stalled is not None else None) == row.stalled
    if result.terminate is not None:
        assert (result.terminate.cause, result.terminate.reason) == (Cause.DEADLINE, LIMIT)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_asked_twice_says_the_same(row: Row) -> None:
    first = decided(row.given, row.known)
    again = reconcile(row.given.record.replace(status=first.status), row.known, NOW, INTERVALS)
    assert again == first


def test_spec_terminate_takes_precedence() -> None:
    result = decided(noticed(an_object().terminating().due(running=MINUTE)), seen(RUNNING))
    assert result.terminate is not None
    assert (result.terminate.cause, result.terminate.reason) == (TERMINATE, WHY)


@pytest.mark.parametrize(("running", "due_now"), [(8 * HOUR, False), (MINUTE, True)])
def test_a_policy_without_terminate_says_so_at_once_whether_or_not_a_limit_is_past(
    running: Millis, due_now: bool
) -> None:
    deny = Deny("TerminationNotAllowed", "observe only", hidden=False)
    given = noticed(an_object().due(running=running))
    result = reconcile(given.record.replace(access=Visible(terminate_denied=deny)), seen(RUNNING), NOW, INTERVALS)
    assert result.terminate is None
    assert (result.wanted is not None) is due_now
    stalled, terminated = result.status.condition(STALLED), result.status.condition("Terminated")
    assert stalled is not None
    assert terminated is not None
    assert stalled.reason == terminated.reason == "TerminationNotAllowed"


def test_a_denied_object_shows_nothing_of_its_deadline() -> None:
    given = noticed(an_object().settled(seen(RUNNING)).due(running=MINUTE))
    deny = Deny("JobNotAllowed", "no such job")
    result = reconcile(given.record.replace(access=deny), seen(RUNNING), NOW, INTERVALS)
    assert (result.status.deadline, result.wanted, result.terminate) == (None, None, None)
    assert result.status.condition("Terminated") is None


@pytest.mark.parametrize(
    ("waiting", "known", "max_age"),
    [
        (None, seen(RUNNING), 30 * SECOND),
        (MINUTE, seen(WAITING), 5 * SECOND),
        (MINUTE, seen(WAITING).with_error(THROTTLED, NOW), 30 * SECOND),
    ],
)
def test_the_answer_counts_for_so_long(waiting: Millis | None, known: JobState, max_age: Millis) -> None:
    given = noticed(an_object().due(running=MINUTE, waiting=waiting))
    result = decided(given, known)
    assert result.wanted is not None
    assert result.wanted.max_age == max_age
    if known.last_error is None:
        assert result.next_poll_at == NOW + max_age // 2


@pytest.mark.parametrize("skew", [0, -HOUR, HOUR])
def test_the_clock_of_this_machine_decides_nothing(skew: Millis) -> None:
    early = seen(RUNNING, NOW).replace(observed_at=NOW + skew, polled_at=NOW + skew)
    given = noticed(an_object().due(running=RAN_FOR + MINUTE))
    for now in (NOW + skew, NOW + skew + 10 * HOUR):
        assert decided(given, early, now).terminate is None
    late = early.replace(asked_at=NOW + MINUTE + SECOND)
    assert decided(given, late, NOW + skew).terminate is not None


def test_the_job_is_polled_when_the_limit_is_past_and_then_every_second() -> None:
    given = an_object().due(running=RAN_FOR + 10 * SECOND)
    result = decided(given, seen(RUNNING))
    assert result.requeue_at == NOW + 12 * SECOND, "10 s, one for the resolution of Date, one for its rounding"
    assert result.next_poll_at == NOW + INTERVALS.running
    given = given.settled(seen(RUNNING))
    due = decided(given, seen(RUNNING), NOW + 12 * SECOND)
    assert (due.next_poll_at, due.requeue_at, due.steady_interval) == (NOW + 12 * SECOND, None, None)
    too_early = seen(RUNNING, NOW + 12 * SECOND).replace(asked_at=NOW + 10 * SECOND)
    assert decided(given, too_early, NOW + 12 * SECOND).requeue_at == NOW + 14 * SECOND


def test_after_acceptance_without_a_flag_it_is_sent_again_without_another_notice() -> None:
    accepted = seen(RUNNING).accepted(Cause.DEADLINE, LIMIT, NOW, NOW)
    given = an_object().due(running=MINUTE).settled(accepted)
    assert given.record.status.deadline is None
    assert decided(given, accepted, NOW + MINUTE - 1).terminate is None
    later = accepted.with_job(RUNNING.job, NOW + MINUTE, asked_at=NOW + MINUTE, first_started_at=START)
    again = decided(given, later, NOW + MINUTE).terminate
    assert again is not None
    assert again.cause is Cause.DEADLINE


def test_the_status_says_which_field_asked() -> None:
    accepted = seen(RUNNING).accepted(Cause.DEADLINE, LIMIT, NOW, NOW + 1, status_reason_before="CAPACITY:X")
    sent = decided(noticed(an_object().due(running=MINUTE)), accepted, NOW + 1).status.termination
    assert sent is not None
    assert (sent.cause, sent.reason, sent.status_reason_before) == (Cause.DEADLINE, LIMIT, "CAPACITY:X")


def test_an_end_by_the_deadline_that_was_not_recorded_is_known_by_its_words() -> None:
    ended = seen(a_job().running().flagged().ended("FAILED", LIMIT))
    status = decided(an_object().due(running=MINUTE), ended).status
    assert status.termination is not None
    assert status.termination.cause is Cause.DEADLINE
    assert status.phase == "Terminated"


def test_an_object_whose_limit_is_not_past_does_not_record_the_request_of_another() -> None:
    accepted = seen(RUNNING).accepted(TERMINATE, "another's", NOW, NOW)
    assert decided(an_object().due(running=8 * HOUR), accepted).status.termination is None


def test_the_notice_is_an_event_once() -> None:
    given = an_object().due(running=MINUTE)
    first = decided(given, seen(RUNNING)).status
    again = decided(given.with_status(deadline=first.deadline), seen(RUNNING, NOW + SECOND), NOW + SECOND).status
    events = [
        [event.reason for event in between(*step, JOB_ID)] for step in ((given.record.status, first), (first, again))
    ]
    assert events == [["DeadlineSoon"], []]


@pytest.mark.parametrize("job", [WAITING.because("MISCONFIGURATION:X"), RUNNING])
def test_a_deadline_that_cannot_apply_does_not_hide_that_a_termination_is_wanted(job: JobBuilder) -> None:
    known = seen(JobBuilder(job.job.replace(array=PARENT.array(RUNNABLE=2).job.array)))
    result = decided(an_object().terminating().due(running=MINUTE), known)
    assert result.terminate is not None
    assert result.status.condition(STALLED) is None


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("8h", 8 * HOUR),
        ("90m", 90 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("1h0m60s", 61 * MINUTE),
        ("60s", MINUTE),
        ("", None),
        ("0s", None),
        ("8", None),
        ("1.5h", None),
        ("1d", None),
        ("-1h", None),
        ("30m1h", None),
        ("8h ", None),
    ],
)
def test_a_duration_has_hours_minutes_and_seconds(text: str, millis: Millis | None) -> None:
    assert parse_duration(text) == millis
