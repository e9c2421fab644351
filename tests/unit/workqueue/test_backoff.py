import pytest

from awsbatch_operator.workqueue.backoff import backoff


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (1, 1.5), (2, 3), (3, 6), (4, 10), (5, 10), (10**6, 10)], ids=str
)
def test_each_failure_doubles_the_delay_up_to_the_longest(failures: int, seconds: float) -> None:
    assert backoff(failures, first=1.5, longest=10) == seconds
