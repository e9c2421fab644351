"""Whether ListJobs shows a job as DescribeJobs did."""

from typing import Any

import pytest

from awsbatch_operator.api.job import Array, Job, JobSummary, unchanged
from builders import NOW

JOB = Job("RUNNING", status_reason="why", started_at=NOW)
SAME = JobSummary("j", "train", "RUNNING", status_reason="why", started_at=NOW)


def test_a_list_that_shows_the_same_has_nothing_new() -> None:
    assert unchanged(JOB, SAME)
    assert unchanged(Job("RUNNABLE"), JobSummary("j", "", "RUNNABLE"))
    assert unchanged(JOB.replace(is_cancelled=True), SAME.replace(flagged=True))


@pytest.mark.parametrize(
    "other",
    [
        {"status": "RUNNABLE"},
        {"status": "UNKNOWN"},
        {"status_reason": "another"},
        {"status_reason": None},
        {"started_at": NOW + 1},
        {"started_at": None},
        {"flagged": True},
    ],
)
def test_a_different_or_missing_field_needs_a_describe(other: dict[str, Any]) -> None:
    assert not unchanged(JOB, SAME.replace(**other))


def test_a_field_that_only_the_list_shows_needs_a_describe() -> None:
    assert not unchanged(JOB.replace(started_at=None), SAME)
    assert not unchanged(JOB.replace(status_reason=None), SAME)
    assert not unchanged(JOB.replace(is_terminated=True), SAME), "an old endpoint lists no flags"


def test_a_list_says_nothing_about_the_children_of_an_array() -> None:
    parent = JOB.replace(array=Array(size=2))
    assert not unchanged(parent, SAME.replace(size=2))
