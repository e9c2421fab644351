"""How answers of AWS are folded into a JobState."""

from awsbatch_operator.api.timestamps import MINUTE, SECOND
from awsbatch_operator.reconcile.job_state import Request
from awsbatch_operator.reconcile.reconcile import reconcile
from builders import DENIED, INTERVALS, NOW, TERMINATE, THROTTLED, WHY, a_job, absent, an_object, seen
from unit.reconcile.rows import conditions_of


def test_an_observation_ends_absence_and_errors() -> None:
    known = absent(NOW - MINUTE, NOW).with_error(DENIED, NOW).with_job(a_job().job, NOW + 1)
    assert known == seen(a_job(), NOW + 1).with_error(DENIED, NOW).with_job(a_job().job, NOW + 1)
    assert (known.misses, known.missing_since, known.last_error, known.failures) == (0, None, None, 0)
    assert (known.observed_at, known.polled_at) == (NOW + 1, NOW + 1)


def test_absence_counts_from_its_first_poll_and_keeps_the_last_observation() -> None:
    known = absent(NOW + SECOND, NOW + MINUTE, last=seen(a_job()).with_error(DENIED, NOW))
    assert (known.misses, known.missing_since, known.polled_at) == (2, NOW + SECOND, NOW + MINUTE)
    assert (known.job, known.observed_at, known.last_error, known.failures) == (a_job().job, NOW, None, 0)


def test_a_failed_poll_counts_and_changes_nothing_else() -> None:
    known = seen(a_job()).with_error(THROTTLED, NOW + 1).with_error(DENIED, NOW + 2)
    assert (known.last_error, known.failures, known.failed_at) == (DENIED, 2, NOW + 2)
    assert (known.polled_at, known.job) == (NOW, a_job().job)


def test_an_acceptance_ends_the_call_and_its_errors() -> None:
    known = seen(a_job()).in_flight()
    assert known.call_in_flight
    known = known.terminate_refused(THROTTLED, NOW + 1).in_flight().terminate_refused(DENIED, NOW + 2)
    assert (known.terminate_error, known.terminate_failures, known.terminate_failed_at, known.call_in_flight) == (
        DENIED,
        2,
        NOW + 2,
        False,
    )
    known = known.in_flight().accepted(TERMINATE, WHY, NOW + 3, NOW + 4)
    assert (known.terminate_error, known.terminate_failures, known.call_in_flight) == (None, 0, False)
    assert known.request == Request(TERMINATE, WHY, NOW + 3, NOW + 4, 1)


def test_a_second_acceptance_keeps_the_time_of_the_first_call_and_what_it_overwrote() -> None:
    known = seen(a_job()).accepted(
        TERMINATE, WHY, NOW, NOW + 1, request_id="first id", status_reason_before="CAPACITY:X"
    )
    later = NOW + MINUTE
    known = known.accepted(TERMINATE, "other words", later, later + 1, request_id="second id", status_reason_before=WHY)
    assert known.request == Request(TERMINATE, "other words", NOW, NOW + MINUTE + 1, 2, "second id", "CAPACITY:X")


def test_a_call_that_was_not_sent_leaves_no_trace() -> None:
    known = seen(a_job()).terminate_refused(DENIED, NOW)
    assert known.in_flight().permit_expired() == known


def test_recovered_calls_are_retried_at_once_and_wait_again_when_they_fail_again() -> None:
    requested, known = an_object().terminating(), seen(a_job()).terminate_refused(DENIED, NOW)
    assert reconcile(requested.record, known, NOW + SECOND, INTERVALS).terminate is None
    recovered = reconcile(requested.record, known.retry_terminate(), NOW + SECOND, INTERVALS)
    assert recovered.terminate is not None
    assert recovered.terminate.reason == WHY
    assert "AccessDenied" in conditions_of(recovered.status)
    again = known.retry_terminate().in_flight().terminate_refused(DENIED, NOW + SECOND)
    assert reconcile(requested.record, again, NOW + 2 * SECOND, INTERVALS).terminate is None
