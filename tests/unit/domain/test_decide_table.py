"""The decision table, row by row: the rows stand in rows_*.py beside this file."""

from dataclasses import replace

import pytest

from awsbatch_operator.domain import conditions as say
from awsbatch_operator.domain.cadence import MINUTE
from awsbatch_operator.domain.conditions import RECONCILING, STALLED
from awsbatch_operator.domain.decide import decide
from awsbatch_operator.domain.observation import Observation, Request
from builders import CADENCE, DENIED, NOW, REJECTED, WHY, a_job, absent, an_object, seen
from unit.domain.rows import Row, told
from unit.domain.rows_absent import ABSENT
from unit.domain.rows_alive import ALIVE
from unit.domain.rows_faults import FAULTS
from unit.domain.rows_finished import FINISHED

GROUPS = {"alive": ALIVE, "finished": FINISHED, "absent": ABSENT, "fault": FAULTS}
ROWS = {f"{group}: {name}": row for group, rows in GROUPS.items() for name, row in rows.items()}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_of_the_decision_table_holds(row: Row) -> None:
    decision = decide(row.given.record, row.known, row.at, CADENCE)
    status = decision.status
    assert (status.phase, told(status)) == (row.phase, row.says)
    assert decision.terminate == row.call
    assert (None if decision.look_at is None else decision.look_at - row.at) == row.look_in


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_asked_twice_says_the_same_and_writes_nothing(row: Row) -> None:
    first = decide(row.given.record, row.known, row.at, CADENCE)
    again = decide(replace(row.given.record, status=first.status), row.known, row.at, CADENCE)
    assert again == first


def test_a_request_is_delayed_after_ten_minutes_and_says_so() -> None:
    asked, flagged = an_object().terminating(), seen(a_job().running().flagged())
    for age, message in ((10 * MINUTE - 1, say.FOLLOWING.message), (10 * MINUTE, say.DELAYED.message)):
        known = flagged.recalled(Request(WHY, NOW - age, NOW - age, 1))
        reconciling = decide(asked.record, known, NOW, CADENCE).status.condition(RECONCILING)
        assert reconciling is not None
        assert reconciling.message == message


def test_the_age_of_a_request_counts_from_its_first_call_however_often_it_was_sent() -> None:
    known = seen(a_job().running().flagged()).recalled(Request(WHY, NOW - 30 * MINUTE, NOW - MINUTE, 3))
    stalled = decide(an_object().terminating().record, known, NOW, CADENCE).status.condition(STALLED)
    assert stalled is not None
    assert stalled.reason == "TerminationStuck"


def test_a_status_keeps_what_was_sent_and_when_it_ended() -> None:
    asked = an_object().terminating()
    ended = seen(a_job()).accepted(WHY, NOW - 10, NOW).saw(a_job().flagged().ended("FAILED", WHY, at=NOW + 5).job, NOW)
    status = decide(asked.record, ended, NOW + 99, CADENCE).status
    assert status.termination is not None
    assert (status.termination.requested_at, status.termination.accepted_at) == (NOW - 10, NOW)
    assert (status.termination.completed_at, status.termination.requests) == (NOW + 5, 1)
    reworded = replace(asked.terminating("other words").generation(2).record, status=status)
    assert decide(reworded, ended, NOW + 1000, CADENCE).status.termination == status.termination


def test_the_end_of_a_job_without_a_time_is_when_it_was_first_seen() -> None:
    ended = seen(a_job()).accepted(WHY, NOW, NOW).saw(a_job().flagged().ended("FAILED", WHY, at=None).job, NOW + 1)
    record = an_object().terminating().settled(ended, NOW + 1).record
    termination = decide(record, ended, NOW + 9999, CADENCE).status.termination
    assert termination is not None
    assert termination.completed_at == NOW + 1


def test_an_acceptance_is_written_down_while_the_job_is_absent_for_a_moment() -> None:
    known = absent(NOW, last=seen(a_job().running(), NOW - MINUTE).called()).accepted(WHY, NOW, NOW + 1)
    record = an_object().terminating().settled(seen(a_job().running(), NOW - MINUTE)).record
    termination = decide(record, known, NOW + 1, CADENCE).status.termination
    assert termination is not None
    assert termination.accepted_at == NOW + 1


def test_a_status_answers_the_generation_and_region_it_was_decided_for() -> None:
    status = decide(an_object().generation(7).record, seen(a_job()), NOW, CADENCE).status
    assert (status.observed_generation, status.region) == (7, "eu-west-1")
    assert {condition.generation for condition in status.conditions} == {7}


def test_conditions_change_in_whole_seconds() -> None:
    status = decide(an_object().record, seen(a_job()), NOW + 999, CADENCE).status
    assert {condition.since for condition in status.conditions} == {NOW}


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (seen(a_job()).failed(DENIED, NOW), "grant the operator's role this action"),
        (seen(a_job()).refused(REJECTED, NOW), "tried again every 5 minutes"),
        (seen().failed(REJECTED, NOW), "check spec.jobId"),
        (absent(NOW - 2 * MINUTE, NOW, NOW), "check spec.jobId and spec.region"),
    ],
)
def test_trouble_carries_the_words_of_aws_and_the_remedy(known: Observation, words: str) -> None:
    stalled = decide(an_object().terminating().record, known, NOW, CADENCE).status.condition(STALLED)
    assert stalled is not None
    assert words in stalled.message
    fault = known.refusal or known.fault
    assert fault is None or fault.message in stalled.message
