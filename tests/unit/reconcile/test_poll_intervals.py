"""Poll intervals and back-off of the decision."""

import pytest

from awsbatch_operator.api.errors import ErrorClass
from awsbatch_operator.api.timestamps import MINUTE, SECOND
from awsbatch_operator.reconcile.poll_intervals import PollIntervals, poll_backoff, terminate_backoff, terminating


@pytest.mark.parametrize(("age", "wait"), [(0, 1), (1, 2), (3, 4), (7, 8), (14, 15), (15, 15), (9999, 15)])
def test_polls_after_a_request_become_rarer_down_to_every_fifteen_seconds(age: int, wait: int) -> None:
    assert terminating(age * SECOND) == wait * SECOND


def test_a_resend_waits_twice_as_long_each_time_up_to_a_quarter_of_an_hour() -> None:
    waits = [PollIntervals().resend(requests) // MINUTE for requests in (0, 1, 2, 3, 4, 5, 6, 10_000)]
    assert waits == [1, 1, 2, 4, 8, 15, 15, 15]


def test_a_resend_that_users_set_beyond_a_quarter_of_an_hour_is_not_cut() -> None:
    assert PollIntervals(resend_after=20 * MINUTE).resend(3) == 20 * MINUTE


def test_polls_of_a_missing_job_keep_a_pause_however_short_the_grace() -> None:
    assert PollIntervals(missing_grace=0).missing(0) == SECOND
    assert PollIntervals().missing(5 * MINUTE) == SECOND
    assert [PollIntervals().missing(age * SECOND) // SECOND for age in (0, 40, 80, 110)] == [40, 40, 40, 10]


@pytest.mark.parametrize(
    ("error_class", "polls", "calls"),
    [
        (ErrorClass.THROTTLED, [1, 2, 4, 60], [1, 2, 4, 15]),
        (ErrorClass.UNAVAILABLE, [1, 2, 4, 60], [1, 2, 4, 15]),
        (ErrorClass.CREDENTIALS, [1, 2, 4, 300], [1, 2, 4, 300]),
        (ErrorClass.DENIED, [300, 300, 300, 300], [300, 300, 300, 300]),
        (ErrorClass.REJECTED, [300, 300, 300, 300], [300, 300, 300, 300]),
    ],
)
def test_errors_back_off_by_their_class(error_class: ErrorClass, polls: list[int], calls: list[int]) -> None:
    times = (1, 2, 3, 10_000)
    assert [poll_backoff(error_class, failures) // SECOND for failures in times] == polls
    assert [terminate_backoff(error_class, refusals) // SECOND for refusals in times] == calls
