"""The decision table, row by row: the rows stand in rows_*.py beside this file."""

import pytest

from awsbatch_operator.api import conditions
from awsbatch_operator.api.batchjob import Cause, Condition, Termination
from awsbatch_operator.api.conditions import READY, RECONCILING, STALLED, TERMINATED
from awsbatch_operator.api.timestamps import MINUTE
from awsbatch_operator.reconcile.job_state import JobState, Request
from awsbatch_operator.reconcile.reconcile import reconcile
from builders import (
    DENIED,
    INTERVALS,
    JOB_ID,
    NOW,
    REJECTED,
    TERMINATE,
    WHY,
    JobBuilder,
    a_job,
    absent,
    an_object,
    seen,
)
from unit.reconcile.rows import Row, conditions_of, finished_of
from unit.reconcile.rows_accepted import ACCEPTED_ROWS
from unit.reconcile.rows_active import ACTIVE_ROWS
from unit.reconcile.rows_errors import ERROR_ROWS
from unit.reconcile.rows_finished import FINISHED
from unit.reconcile.rows_missing import MISSING_ROWS

GROUPS = {
    "active": ACTIVE_ROWS,
    "accepted": ACCEPTED_ROWS,
    "finished": FINISHED,
    "missing": MISSING_ROWS,
    "error": ERROR_ROWS,
}
ROWS = {f"{group}: {name}": row for group, rows in GROUPS.items() for name, row in rows.items()}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_of_the_decision_table_holds(row: Row) -> None:
    result = reconcile(row.given.record, row.known, row.at, INTERVALS)
    status = result.status
    assert (status.phase, conditions_of(status)) == (row.phase, row.says)
    assert (result.terminate.reason if result.terminate is not None else None) == row.call
    assert (None if result.next_poll_at is None else result.next_poll_at - row.at) == row.poll_in


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_asked_twice_says_the_same_and_writes_nothing(row: Row) -> None:
    first = reconcile(row.given.record, row.known, row.at, INTERVALS)
    again = reconcile(row.given.record.replace(status=first.status), row.known, row.at, INTERVALS)
    assert again == first


FINISHED_OF = {
    "active: a submitted job is pending and polled every minute": "False/JobActive",
    "active: a status that Batch may invent later counts as alive": "False/JobActive",
    "active: nothing sent: TerminateJob now": "False/JobActive",
    "active: flagged by our request: never again, however long it takes": "False/JobActive",
    "active: half an hour and still alive: a person must act": "False/JobActive",
    "finished: succeeded": "True/JobSucceeded",
    "finished: failed": "True/JobFailed",
    "finished: someone else terminated it": "True/JobTerminated",
    "finished: someone else cancelled it": "True/JobCancelled",
    "finished: accepted, failed with exactly our reason though not flagged: terminated by request": (
        "True/JobTerminated"
    ),
    "finished: accepted, but it succeeded first": "True/JobSucceeded",
    "finished: finished before the termination was stated: nothing is sent": "True/JobSucceeded",
    "finished: forgotten by Batch after its end: frozen": "True/JobSucceeded",
    "finished: stated late, the poll throttled: again in a second": "True/JobSucceeded",
    "finished: stated late, the poll throttled after another was denied: Ready shows neither": "True/JobSucceeded",
    "missing: absent once: it may be too new": "Unknown/NotObservedYet",
    "missing: the first poll throttled: again in a second": "Unknown/NotObservedYet",
    "missing: the first poll denied: a person must act": "Unknown/AccessDenied",
    "missing: absent in three polls over two minutes: missing": "Unknown/JobNotFound",
    "missing: missing by an earlier process, the first poll throttled": "Unknown/JobNotFound",
    "missing: an id that Batch refuses: no such job": "Unknown/JobNotFound",
    "missing: missing, then found after all": "False/JobActive",
    "missing: seen alive, absent once: nothing changes": "False/JobActive",
    "missing: seen alive, absent in three polls over two minutes: vanished": "True/JobVanished",
    "missing: known to an earlier process, absent in three polls over two minutes: vanished": "True/JobVanished",
    "missing: vanished, then seen again": "False/JobActive",
    "error: a poll denied: every five minutes": "False/JobActive",
}


@pytest.mark.parametrize(("row", "finished"), [(ROWS[name], says) for name, says in FINISHED_OF.items()])
def test_finished_says_whether_the_job_has_ended(row: Row, finished: str) -> None:
    assert finished_of(reconcile(row.given.record, row.known, row.at, INTERVALS).status) == finished


def test_an_error_does_not_take_back_the_end_of_a_job_that_vanished() -> None:
    alive = seen(a_job().running(), NOW - 3 * MINUTE)
    vanished = an_object().settled(alive).settled(absent(NOW - 2 * MINUTE, NOW - MINUTE, NOW, last=alive))
    status = vanished.settled(seen().with_error(DENIED, NOW)).record.status
    assert status.condition(STALLED) is not None
    assert finished_of(status) == "True/JobVanished"


@pytest.mark.parametrize(
    ("code", "remedy"), [("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", "keeps trying"), ("MISCONFIGURATION:X", "change")]
)
def test_a_job_that_batch_cannot_start_says_why(code: str, remedy: str) -> None:
    blocked = a_job().in_status("RUNNABLE").because(f"{code} - no such instance")
    for known in (seen(blocked), absent(NOW, last=seen(blocked))):
        ready = reconcile(an_object().settled(seen(blocked)).record, known, NOW, INTERVALS).status.condition(READY)
        assert ready is not None
        assert (ready.status, ready.reason) == ("True", "Observed")
        assert f"{code} - no such instance" in ready.message
        assert remedy in ready.message


@pytest.mark.parametrize("job", [a_job().running().because("CAPACITY:OLD"), a_job().in_status("RUNNABLE").because("X")])
def test_other_jobs_are_not_called_blocked(job: JobBuilder) -> None:
    assert reconcile(an_object().record, seen(job), NOW, INTERVALS).status.condition(READY) == Condition(
        READY, "True", "Observed", message=conditions.OBSERVED.message, since=NOW, generation=1
    )


def test_an_end_by_a_request_that_was_not_recorded_is_shown_as_far_as_batch_tells() -> None:
    """After a crash between the call and its record. Batch gives the reason that was sent, and nothing else of it."""
    ended = seen(a_job().flagged().ended("FAILED", WHY))
    same = reconcile(an_object().terminating(WHY).record, ended, NOW, INTERVALS).status
    assert same.termination == Termination(WHY, completed_at=NOW, requests=1, cause=Cause.TERMINATE)
    other = reconcile(an_object().terminating("other words").record, ended, NOW, INTERVALS).status
    terminated = other.condition(TERMINATED)
    assert other.termination is None
    assert terminated is not None
    assert (terminated.status, terminated.reason) == ("False", "AlreadyFinished")
    assert "the operator sent it and restarted" in terminated.message


@pytest.mark.parametrize("job", [a_job().running().flagged(), a_job().flagged().ended("FAILED", WHY)])
def test_terminated_tells_when_the_request_had_other_words_than_this_object(job: JobBuilder) -> None:
    known = (
        seen(a_job().running(), NOW - MINUTE)
        .accepted(TERMINATE, WHY, NOW - MINUTE, NOW - MINUTE)
        .with_job(job.job, NOW)
    )
    counts = []
    for given in (an_object().terminating(WHY), an_object().terminating("other words")):
        for again in (given, given.settled(known)):
            status = reconcile(again.record, known, NOW, INTERVALS).status
            terminated = status.condition(TERMINATED)
            assert status.termination is not None
            assert terminated is not None
            assert status.termination.reason == WHY
            counts.append(terminated.message.count("the reason in status.termination, not the reason in spec"))
    assert counts == [0, 0, 1, 1]


def test_conditions_of_a_job_that_batch_has_not_described_say_one_thing() -> None:
    status = reconcile(an_object().record, absent(NOW), NOW, INTERVALS).status
    messages = {one.message.partition(";")[0] for one in status.conditions}
    assert (len(status.conditions), messages) == (3, {"AWS Batch has not described this job"})


def test_a_request_is_delayed_after_ten_minutes_and_says_so() -> None:
    requested, flagged = an_object().terminating(), seen(a_job().running().flagged())
    for age, message in ((10 * MINUTE - 1, conditions.FOLLOWING.message), (10 * MINUTE, conditions.DELAYED.message)):
        known = flagged.replace(request=Request(TERMINATE, WHY, NOW - age, NOW - age, 1))
        reconciling = reconcile(requested.record, known, NOW, INTERVALS).status.condition(RECONCILING)
        assert reconciling is not None
        assert reconciling.message == message


def test_the_age_of_a_request_counts_from_its_first_call_however_often_it_was_sent() -> None:
    known = seen(a_job().running().flagged()).replace(
        request=Request(TERMINATE, WHY, NOW - 30 * MINUTE, NOW - MINUTE, 3)
    )
    stalled = reconcile(an_object().terminating().record, known, NOW, INTERVALS).status.condition(STALLED)
    assert stalled is not None
    assert stalled.reason == "TerminationStuck"


def test_a_status_keeps_what_was_sent_and_when_it_ended() -> None:
    requested = an_object().terminating()
    ended = (
        seen(a_job())
        .accepted(TERMINATE, WHY, NOW - 10, NOW)
        .with_job(a_job().flagged().ended("FAILED", WHY, at=NOW + 5).job, NOW)
    )
    status = reconcile(requested.record, ended, NOW + 99, INTERVALS).status
    assert status.termination is not None
    assert (status.termination.requested_at, status.termination.accepted_at) == (NOW - 10, NOW)
    assert (status.termination.completed_at, status.termination.requests) == (NOW + 5, 1)
    reworded = requested.terminating("other words").generation(2).record.replace(status=status)
    assert reconcile(reworded, ended, NOW + 1000, INTERVALS).status.termination == status.termination


def test_the_end_of_a_job_without_a_time_is_when_it_was_first_seen() -> None:
    ended = (
        seen(a_job())
        .accepted(TERMINATE, WHY, NOW, NOW)
        .with_job(a_job().flagged().ended("FAILED", WHY, at=None).job, NOW + 1)
    )
    record = an_object().terminating().settled(ended, NOW + 1).record
    termination = reconcile(record, ended, NOW + 9999, INTERVALS).status.termination
    assert termination is not None
    assert termination.completed_at == NOW + 1


def test_an_acceptance_is_written_down_while_the_job_is_absent_for_a_moment() -> None:
    known = absent(NOW, last=seen(a_job().running(), NOW - MINUTE).in_flight()).accepted(
        Cause.TERMINATE, WHY, NOW, NOW + 1
    )
    record = an_object().terminating().settled(seen(a_job().running(), NOW - MINUTE)).record
    termination = reconcile(record, known, NOW + 1, INTERVALS).status.termination
    assert termination is not None
    assert termination.accepted_at == NOW + 1


def test_a_status_answers_the_generation_and_region_it_was_decided_for() -> None:
    status = reconcile(an_object().generation(7).record, seen(a_job()), NOW, INTERVALS).status
    assert (status.observed_generation, status.region) == (7, "eu-west-1")
    assert {condition.generation for condition in status.conditions} == {7}


def test_conditions_change_in_whole_seconds() -> None:
    status = reconcile(an_object().record, seen(a_job()), NOW + 999, INTERVALS).status
    assert {condition.since for condition in status.conditions} == {NOW}


@pytest.mark.parametrize(
    ("known", "remedy"),
    [
        (seen(a_job()).with_error(DENIED, NOW), "grant this action to the operator's role"),
        (seen(a_job()).terminate_refused(REJECTED, NOW), "retries every 5 minutes"),
        (seen().with_error(REJECTED, NOW), "Check spec.jobId"),
        (absent(NOW - 2 * MINUTE, NOW, NOW), "or the id of a service job"),
    ],
)
def test_errors_show_the_message_of_aws_and_the_remedy(known: JobState, remedy: str) -> None:
    stalled = reconcile(an_object().terminating().record, known, NOW, INTERVALS).status.condition(STALLED)
    assert stalled is not None
    assert remedy in stalled.message
    fault = known.terminate_error or known.last_error
    assert fault is None or fault.message in stalled.message


def test_requests_of_an_earlier_process_with_the_same_reason_count() -> None:
    given = an_object().terminating().sent(at=NOW - 10 * MINUTE, requests=3)
    known = seen(a_job().running()).accepted(TERMINATE, WHY, NOW, NOW + 10)
    for at, requests in ((NOW + 10, 4), (NOW + 20, 4)):
        given = given.settled(known, at)
        assert given.record.status.termination == Termination(
            WHY, NOW - 10 * MINUTE, NOW + 10, requests=requests, cause=Cause.TERMINATE
        )
    known = known.accepted(TERMINATE, WHY, NOW + MINUTE, NOW + MINUTE)
    termination = given.settled(known, NOW + MINUTE).record.status.termination
    assert termination is not None
    assert termination.requests == 5


def test_requests_of_an_earlier_process_with_another_reason_do_not_count() -> None:
    given = an_object().terminating().sent("forged", at=NOW + 10 * MINUTE, requests=10**9)
    known = seen(a_job().running()).accepted(TERMINATE, WHY, NOW, NOW + 10)
    assert given.settled(known, NOW + 10).record.status.termination == Termination(
        WHY, NOW, NOW + 10, requests=1, cause=Cause.TERMINATE
    )


@pytest.mark.parametrize(
    "known",
    [
        seen(a_job()).with_error(DENIED, NOW),
        seen(a_job()).terminate_refused(REJECTED, NOW),
        seen().with_error(REJECTED, NOW),
        absent(NOW - 2 * MINUTE, NOW, NOW),
        absent(NOW - 2 * MINUTE, NOW, NOW, last=seen(a_job(), NOW - 3 * MINUTE)),
        seen(a_job().running().flagged()).accepted(TERMINATE, WHY, NOW - 30 * MINUTE, NOW - 30 * MINUTE),
    ],
)
def test_stalled_messages_name_the_job_its_region_and_its_account(known: JobState) -> None:
    record = an_object().terminating().record.replace(account="111122223333")
    stalled = reconcile(record, known, NOW, INTERVALS).status.condition(STALLED)
    assert stalled is not None
    assert f"job {JOB_ID} in eu-west-1 (account 111122223333)" in stalled.message.replace("Job ", "job ")
