import pytest
from hypothesis import given

from awsbatch_operator.api import timestamps as times
from unit.kube.statuses import RUBBISH, TIMES

AT = 1_795_428_000_123


def test_a_moment_is_written_in_the_three_ways_of_kubernetes() -> None:
    assert times.date_time(AT) == "2026-11-23T10:00:00.123Z"
    assert times.meta_time(AT) == "2026-11-23T10:00:00Z"
    assert times.micro_time(AT) == "2026-11-23T10:00:00.123000Z"


@given(TIMES)
def test_a_formatted_time_parses_to_the_same_value(at: int) -> None:
    assert times.parse(times.date_time(at)) == at
    assert times.parse(times.micro_time(at)) == at
    assert times.parse(times.meta_time(at)) == at // 1000 * 1000


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T10:00:00.123Z",
        "2026-11-23t10:00:00.123z",
        "2026-11-23T12:00:00.123+02:00",
        "2026-11-23 10:00:00.123-00:00",
        "2026-11-23T10:00:00.123987654Z",
    ],
)
def test_any_rfc_3339_text_is_understood(text: str) -> None:
    assert times.parse(text) == AT


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-23", "2026-11-23T10:00:00", "2026-13-01T00:00:00Z"])
def test_text_that_is_not_rfc_3339_is_none(text: str) -> None:
    assert times.parse(text) is None


@given(RUBBISH)
def test_rubbish_never_raises(rubbish: object) -> None:
    assert times.parse(rubbish) is None or isinstance(rubbish, str)


@pytest.mark.parametrize(
    ("at", "text"), [(-(10**18), "0001-01-01T00:00:00.000Z"), (10**18, "9999-12-31T23:59:59.999Z")]
)
def test_a_moment_beyond_all_years_becomes_the_nearest_that_can_be_written(at: int, text: str) -> None:
    assert times.date_time(at) == text
