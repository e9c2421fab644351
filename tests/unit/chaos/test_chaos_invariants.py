"""The checker of the chaos suite: it lets good histories and defined races pass, and each bad one turns it red."""

from dataclasses import replace
from typing import Any

import pytest

from chaos.invariants import FINISHED, NOT_EARLY, ONCE, ONE_LEADER, RELEASED, STATED, judge
from chaos.ledger import Deadline, Evidence, History, Ledger, Moment, Statement, Strike
from chaos.record import Call
from unit.chaos.histories import FIRST, JOB, REASON, SECOND, call, evidence, limited, poll, refused, stating, tied

STATES = ((None, 100.0), (REASON, 110.0))
"""The object is created at 100 and states its termination at 110."""


def red(reported: Evidence) -> set[str]:
    """The invariants that are violated."""
    return {violation.invariant for violation in judge(reported).violations}


def races(reported: Evidence) -> dict[str, int]:
    """What is let pass, when nothing is violated."""
    judgement = judge(reported)
    assert judgement.violations == []
    return dict(judgement.races)


def test_a_termination_that_is_stated_seen_and_called_is_fine() -> None:
    reported = evidence(
        stating(*STATES), poll(1, 101), call(2, 110.02), poll(3, 111), status="FAILED", stopped_at=111.0
    )
    assert races(reported) == {}


# -- (b) nothing without a statement -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ledger",
    [
        stating((None, 100.0)),
        stating((None, 100.0), (REASON, 111.0)),
        stating((None, 100.0), ("another reason", 109.0)),
        stating((None, 100.0), (REASON, 101.0), job_id="job-b"),
    ],
    ids=["never stated", "stated later", "another reason", "stated for another job"],
)
def test_a_call_without_a_statement_is_red(ledger: Ledger) -> None:
    assert STATED in red(evidence(ledger, poll(1, 101), call(2, 110.02)))


@pytest.mark.parametrize("end", [{"statements": (*STATES, (None, 120.0))}, {"statements": STATES, "deleted": 120.0}])
def test_a_withdrawal_may_be_noticed_late_within_a_limit(end: dict[str, tuple[tuple[str | None, float], ...]]) -> None:
    ledger = stating(*end["statements"], deleted=end.get("deleted"))  # type: ignore[arg-type]
    assert races(evidence(ledger, poll(1, 101), call(2, 133.0))) == {"called within 15 s of the withdrawal": 1}
    assert red(evidence(ledger, poll(1, 101), call(2, 136.0))) == {STATED}


def test_a_call_is_judged_by_its_first_attempt() -> None:
    ledger = stating((None, 100.0), (REASON, 110.0), (None, 112.0))
    attempts = [refused(2, 126.9), refused(3, 127.5), call(4, 129.0)]
    assert STATED not in red(evidence(ledger, poll(1, 101), *attempts))
    assert STATED in red(evidence(ledger, poll(1, 101), refused(2, 122.0), call(3, 129.0)))


def test_an_accepted_request_is_repeated_only_while_the_spec_requests_it() -> None:
    ignored = call(2, 110.02, effective=False)
    again = (poll(1, 101), ignored, poll(3, 170), call(4, 171.0))
    assert races(evidence(stating(*STATES), *again)) == {}
    assert red(evidence(stating(*STATES, (None, 120.0)), *again)) == {STATED}


# -- (b), (h), (i) deadlines and deletions ---------------------------------------------------------------------------

RUNS = Deadline(REASON, running=60)
WAITS = Deadline(REASON, waiting=60)


def test_a_deadline_is_called_for_once_its_limit_is_past() -> None:
    started = {"started_at": 50.0}
    assert races(evidence(limited((RUNS, 100.0)), poll(1, 101), call(2, 111.5), **started)) == {}
    assert red(evidence(limited((RUNS, 100.0)), poll(1, 101), call(2, 109.9), **started)) == {NOT_EARLY}
    assert red(evidence(limited((RUNS, 100.0)), poll(1, 101), call(2, 111.5))) == {NOT_EARLY}


def test_a_limit_falls_due_by_the_clock_of_batch() -> None:
    ledger = limited((RUNS, 100.0))
    ledger.jumps.append((104.0, 10.0))
    assert red(evidence(ledger, poll(1, 101), call(2, 104.5), started_at=50.0)) == set()
    assert red(evidence(ledger, poll(1, 101), call(2, 103.5), started_at=50.0)) == {NOT_EARLY}


def test_a_limit_of_waiting_holds_until_the_job_has_started() -> None:
    ledger = limited((WAITS, 100.0))
    calls = (poll(1, 101), call(2, 131.5))
    assert red(evidence(ledger, *calls, created_at=50.0)) == set()
    assert red(evidence(ledger, *calls, created_at=50.0, started_at=130.0)) == set()
    assert red(evidence(ledger, *calls, created_at=50.0, started_at=101.0)) == {NOT_EARLY}


def test_the_raise_of_a_deadline_may_be_noticed_late_within_a_limit() -> None:
    ledger = limited((RUNS, 100.0), (replace(RUNS, running=600), 120.0))
    late = {"called within 15 s of the raise of a deadline": 1}
    assert races(evidence(ledger, poll(1, 101), call(2, 133.0), started_at=50.0)) == late
    assert red(evidence(ledger, poll(1, 101), call(2, 136.0), started_at=50.0)) == {NOT_EARLY}
    dropped = limited((RUNS, 100.0), (None, 120.0))
    assert STATED in red(evidence(dropped, poll(1, 101), call(2, 136.0), started_at=50.0))


def test_on_delete_is_called_for_from_the_deletion_on_until_the_object_is_gone() -> None:
    ledger = tied(deleted=110.0, gone=112.0)
    assert races(evidence(ledger, poll(1, 101), call(2, 110.5))) == {}
    assert red(evidence(ledger, poll(1, 101), call(2, 109.5))) == {STATED}
    assert STATED in red(evidence(ledger, poll(1, 101), call(2, 128.0)))
    assert red(evidence(tied(deleted=110.0, gone=110.0, held=False), poll(1, 101), call(2, 126.0))) == {STATED}


def test_an_object_with_on_delete_goes_only_once_its_job_is_asked_to_end() -> None:
    ledger = tied(deleted=110.0, gone=112.0)
    assert red(evidence(ledger, poll(1, 101))) == {RELEASED}
    assert red(evidence(ledger, poll(1, 101), refused(2, 110.5))) == {RELEASED}
    assert red(evidence(ledger, poll(1, 101), call(2, 113.0))) == {RELEASED}
    assert red(evidence(ledger, poll(1, 101), call(2, 110.5, effective=False))) == set()
    late: dict[str, Any] = {"fault": "slow", "answered_at": 114.0}
    assert red(evidence(ledger, poll(1, 101), call(2, 110.5, acted_at=111.0, **late))) == set()
    assert red(evidence(ledger, poll(1, 101), call(2, 110.5, acted_at=113.0, **late))) == {RELEASED}
    assert red(evidence(ledger, poll(1, 101), status="SUCCEEDED", stopped_at=105.0)) == set()
    assert red(evidence(ledger, poll(1, 101), unknown=True)) == set()
    assert red(evidence(tied(deleted=110.0, gone=None), poll(1, 101))) == set()
    assert red(evidence(tied(deleted=110.0, gone=112.0, untied=111.0), poll(1, 101))) == set()
    assert red(evidence(tied(deleted=110.0, gone=110.0, held=False), poll(1, 101))) == set()


# -- (c) no call to a finished or unknown job, none by a process that has not seen it ----------------------------------


def test_a_call_to_a_job_that_batch_does_not_know_is_red() -> None:
    assert FINISHED in red(evidence(stating(*STATES), poll(1, 101), call(2, 110.02), unknown=True))


def test_a_call_by_a_process_that_never_saw_the_job_is_red() -> None:
    assert red(evidence(stating(*STATES), call(1, 110.02))) == {FINISHED}
    assert red(evidence(stating(*STATES), poll(1, 101, SECOND), call(2, 110.02))) >= {FINISHED}
    assert red(evidence(stating(*STATES), poll(1, 101, http_status=503), call(2, 110.02))) == {FINISHED}
    assert red(evidence(stating(*STATES), poll(1, 101, fault="cut_200"), call(2, 110.02))) == {FINISHED}


def test_a_job_may_end_between_poll_and_call_but_not_before_the_poll() -> None:
    ended = {"status": "SUCCEEDED", "stopped_at": 105.0}
    late = call(9, 110.02, effective=False)
    assert races(evidence(stating(*STATES), poll(1, 101), late, **ended)) == {"called after an end not yet seen": 1}
    assert races(evidence(stating(*STATES), poll(1, 101), poll(2, 109.5), late, **ended)) == {
        "called after an end not yet seen": 1
    }
    assert red(evidence(stating(*STATES), poll(1, 101), poll(2, 106), late, **ended)) == {FINISHED}


def test_while_aws_throttles_a_call_may_have_waited_for_its_budget() -> None:
    ended = {"status": "SUCCEEDED", "stopped_at": 105.0}
    throttled = poll(2, 105.5, http_status=429)
    late = call(9, 110.02, effective=False)
    assert FINISHED not in red(evidence(stating(*STATES), poll(1, 101), throttled, poll(3, 106), late, **ended))


def test_a_process_that_was_frozen_draws_its_conclusions_late() -> None:
    ledger = stating(*STATES)
    ledger.strikes.append(Strike("freeze", FIRST, 106.5, 110.0))
    ended = {"status": "SUCCEEDED", "stopped_at": 105.0}
    assert FINISHED not in red(evidence(ledger, poll(1, 101), poll(2, 106), call(9, 110.02, effective=False), **ended))


def test_the_end_of_a_job_is_placed_on_the_clock_of_the_wall() -> None:
    ledger = stating(*STATES)
    ledger.jumps.append((104.0, 1000.0))
    ended = {"status": "SUCCEEDED", "stopped_at": 1105.0}
    late = call(9, 110.02, effective=False)
    assert red(evidence(ledger, poll(1, 101), poll(2, 106), late, **ended)) == {FINISHED}
    assert FINISHED not in red(evidence(ledger, poll(1, 101), poll(2, 104.5), late, **ended))


# -- (d) accepted once is asked once -----------------------------------------------------------------------------------


def test_a_second_call_within_a_minute_of_an_accepted_one_is_red() -> None:
    ignored = call(2, 110.02, effective=False)
    assert ONCE in red(evidence(stating(*STATES), poll(1, 101), ignored, call(3, 169.0)))
    assert red(evidence(stating(*STATES), poll(1, 101), ignored, call(3, 170.1))) == set()


def test_two_calls_at_once_are_red() -> None:
    slow = call(2, 110.02, answered_at=112.0, fault="slow")
    assert ONCE in red(evidence(stating(*STATES), poll(1, 101), slow, call(3, 110.03, effective=False)))


def test_a_call_without_an_answer_may_be_repeated() -> None:
    lost = call(2, 110.02, http_status=0, fault="reset")
    again = call(3, 110.5, effective=False)
    assert red(evidence(stating(*STATES), poll(1, 101), lost, again)) == set()
    timed_out = call(2, 110.02, answered_at=121.1, fault="slow")
    assert red(evidence(stating(*STATES), poll(1, 101), timed_out, call(3, 120.5, effective=False))) == set()


def test_an_empty_answer_of_terminate_job_counts_as_accepted() -> None:
    empty = call(2, 110.02, fault="empty_200", accepted=(), effective=False)
    assert ONCE in red(evidence(stating(*STATES), poll(1, 101), empty, call(3, 115.0)))


def test_in_bulk_only_the_jobs_that_the_answer_names_are_accepted() -> None:
    bulk = {"operation": "TerminateJobs", "fault": "refused_in_bulk", "accepted": (), "effective": ()}
    some = Call(2, 110.02, access_key=FIRST, job_ids=(JOB, "b"), reason=REASON, answered_at=110.03, **bulk)  # type: ignore[arg-type]
    assert ONCE not in red(evidence(stating(*STATES), poll(1, 101), some, call(3, 112.0)))


def test_another_process_repeats_a_call_only_without_a_recorded_acceptance_and_flag() -> None:
    ignored, flagged = call(2, 110.02, effective=False), call(2, 110.02)
    poll_first = (poll(1, 101), poll(3, 127, SECOND))
    again = call(4, 127.5, SECOND)
    killed = stating(*STATES)
    killed.strikes.append(Strike("kill", FIRST, 110.05, 110.05))
    assert races(evidence(killed, poll_first[0], ignored, poll_first[1], again)) == {
        "repeated by another: neither written down nor flagged": 1
    }
    assert ONCE in red(evidence(stating(*STATES), poll_first[0], ignored, poll_first[1], again))
    assert ONCE in red(evidence(killed, poll_first[0], flagged, poll_first[1], call(4, 127.5, SECOND, effective=False)))


def test_a_call_by_a_process_that_was_shown_the_flag_is_red() -> None:
    rival = stating(*STATES)
    rival.rivals[JOB] = 105.0
    assert ONCE in red(evidence(rival, poll(1, 101), poll(2, 106), call(3, 110.02, effective=False)))
    assert red(evidence(rival, poll(1, 101), poll(2, 109.9), call(3, 110.02, effective=False))) == set()


# -- (g) one acts at a time --------------------------------------------------------------------------------------------


def test_a_replica_that_acts_while_the_other_leads_is_red() -> None:
    assert red(evidence(stating(*STATES), poll(1, 101), poll(2, 101.5, SECOND))) == {ONE_LEADER}
    assert red(evidence(stating(*STATES), poll(1, 101), poll(2, 107, SECOND))) == set()


def test_a_stopped_leader_hands_over_at_once_and_does_not_return() -> None:
    ledger = stating(*STATES)
    ledger.strikes.append(Strike("term", FIRST, 100.5, 110.5))
    assert red(evidence(ledger, poll(1, 101), poll(2, 101.5, SECOND))) == set()
    assert red(evidence(ledger, poll(1, 101), poll(2, 101.5, SECOND), poll(3, 102.0))) == {ONE_LEADER}


# -- the ledger --------------------------------------------------------------------------------------------------------


def test_a_statement_counts_from_its_begin_to_the_certainty_of_the_next() -> None:
    history = History("a", JOB, [Statement(None, 1, 2), Statement("x", 5, 6), Statement("y", 8, 9)])
    assert [history.stated_at("x", at, at) for at in (4.9, 5, 8.9, 9.1)] == [False, True, True, False]
    assert history.stated == "y"
    history.deletion = history.gone = Moment(20, 21)
    assert [history.stated_at("y", at, at) for at in (20.5, 21.5)] == [True, False]
    assert not history.exists
    assert history.stated is None
