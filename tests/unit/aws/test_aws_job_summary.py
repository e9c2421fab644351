"""ListJobs: every shape of entry, and anything else that may stand in a body."""

import gc
import json
from typing import Any

import pytest

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import JobPage
from awsbatch_operator.api.job import JobSummary
from awsbatch_operator.aws.job_summary import FOREIGN, NO_LIST, NO_TOKEN, UNREADABLE, parse_list_jobs

HERE, OURS = "eu-west-1", "123456789012"


def arn(job_id: str, region: str = HERE, account: str = OURS) -> str:
    return f"arn:aws:batch:{region}:{account}:job/{job_id}"


def entry(job_id: str = "a", **given: Any) -> dict[str, Any]:
    """A JobSummary as AWS Batch answers it."""
    return {
        "jobArn": arn(job_id),
        "jobId": job_id,
        "jobName": "train",
        "createdAt": 1_700_000_000_123,
        "status": "RUNNING",
        "startedAt": 1_700_000_005_456,
        "jobDefinition": "arn:aws:batch:eu-west-1:123456789012:job-definition/train:7",
        "capacityUsage": [{"capacityUnit": "VCPU", "quantity": 4.0}],
        "container": {},
        **given,
    }


def page(*entries: Any, account: str | None = None, **answer: Any) -> JobPage | CallError:
    return parse_list_jobs(json.dumps({"jobSummaryList": list(entries), **answer}).encode(), HERE, account)


def jobs(*entries: Any, account: str | None = None) -> list[JobSummary]:
    found = page(*entries, account=account)
    assert isinstance(found, JobPage)
    return list(found.jobs)


def test_an_entry_is_reduced_to_what_selects_and_compares_a_job() -> None:
    expected = JobSummary("a", "train", "RUNNING", 1_700_000_000_123, False, 1, arn("a"), "why", 1_700_000_005_456)
    assert jobs(entry("a", statusReason="why")) == [expected]
    assert page() == JobPage((), None)


@pytest.mark.parametrize(
    ("given", "flagged"),
    [({}, False), ({"isTerminated": True}, True), ({"isCancelled": True}, True), ({"isTerminated": False}, False)],
)
def test_either_flag_tells_of_an_accepted_request(given: dict[str, Any], flagged: bool) -> None:
    assert [one.flagged for one in jobs(entry(**given))] == [flagged]


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({"arrayProperties": {"size": 10_000, "statusSummary": {"RUNNING": 7}}}, [10_000]),
        ({"arrayProperties": {"size": 0}}, [1]),
        ({"arrayProperties": {"size": -5}}, [1]),
        ({"arrayProperties": {"size": 10**400}}, [1]),
        ({"arrayProperties": {}}, [1]),
        ({"arrayProperties": None}, [1]),
        ({"nodeProperties": {"numNodes": 8}}, [1]),
        ({"arrayProperties": {"size": 5, "index": 0}}, []),
        ({"jobId": "a:0"}, []),
        ({"jobId": "a#1", "nodeProperties": {"nodeIndex": 1}}, []),
    ],
)
def test_a_parent_counts_its_children_which_are_not_listed_themselves(given: dict[str, Any], sizes: list[int]) -> None:
    assert [one.size for one in jobs(entry(**given))] == sizes


@pytest.mark.parametrize("token", [{}, {"nextToken": None}, {"nextToken": ""}])
def test_a_page_without_a_token_is_the_last_one(token: dict[str, Any]) -> None:
    found = page(entry(), **token)
    assert isinstance(found, JobPage)
    assert found.next_token is None


@pytest.mark.parametrize("spoils_the_fast_way", [False, True])
def test_a_token_is_passed_on_as_it_is(spoils_the_fast_way: bool) -> None:
    found = page(entry(), *[7] * spoils_the_fast_way, nextToken='eyJ"a"💸==')
    assert isinstance(found, JobPage)
    assert found.next_token == 'eyJ"a"💸=='


@pytest.mark.parametrize("token", [7, [], {"a": 1}, True, "half \ud83d"])
def test_a_token_that_cannot_be_read_never_means_the_last_page(token: Any) -> None:
    assert page(entry(), nextToken=token) == NO_TOKEN


@pytest.mark.parametrize("broken", [None, 7, [], {}, "a", entry(jobId=None), entry(jobId=""), entry(jobId="\ud83d")])
def test_an_entry_without_an_id_costs_that_entry_only(broken: Any) -> None:
    assert [one.job_id for one in jobs(entry("a"), broken, entry("b"))] == ["a", "b"]
    assert page(broken) == UNREADABLE, "nothing else on the page: not the same as no jobs"


@pytest.mark.parametrize(
    "broken",
    [
        {"jobName": ["x"]},
        {"createdAt": "yesterday"},
        {"createdAt": 10**400},
        {"createdAt": float("nan")},
        {"startedAt": "yesterday"},
        {"startedAt": 10**400},
        {"statusReason": ["why"]},
        {"statusReason": "\ud83d"},
        {"status": 7},
        {"status": "\ud83d"},
        {"isTerminated": "no"},
        {"arrayProperties": [1]},
        {"jobArn": {"a": 1}},
    ],
)
def test_a_field_that_cannot_be_read_costs_that_field_only(broken: dict[str, Any]) -> None:
    good, odd, after = jobs(entry("a"), entry("b", **broken), entry("c", isTerminated=True))
    assert (good, after.flagged) == (jobs(entry("a"))[0], True)
    assert (odd.job_id, odd.flagged, odd.size) == ("b", False, 1)
    assert odd.created_at in (None, 1_700_000_000_123)
    assert odd.started_at in (None, 1_700_000_005_456)
    for text in (odd.name, odd.status, odd.arn or "", odd.status_reason or ""):
        text.encode()


def test_missing_fields_differ_from_present_ones() -> None:
    (only,) = jobs({"jobId": "a"})
    assert only == JobSummary("a", "", "UNKNOWN", None, False, 1, None)
    (odd,) = jobs(entry(createdAt=1_700_000_000_123.0, startedAt=-7, jobName="x" * 5000, statusReason="y" * 5000))
    assert (odd.created_at, odd.started_at) == (1_700_000_000_123, None)
    assert (len(odd.name), len(odd.status_reason or "")) == (1024, 1024)


def test_a_job_of_another_account_or_region_is_dropped() -> None:
    ours = entry("a")
    elsewhere, theirs = entry("b", jobArn=arn("b", "us-east-1")), entry("c", jobArn=arn("c", account="2" * 12))
    assert [one.job_id for one in jobs(ours, elsewhere, theirs, account=OURS)] == ["a"]
    assert [one.job_id for one in jobs(ours, elsewhere, theirs)] == ["a", "c"], "no account is known"
    assert page(elsewhere) == page(theirs, account=OURS) == FOREIGN, "nothing else on the page: not the same as no jobs"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"jobSummaryList":null}',
        b'{"jobSummaryList":{"a":1}}',
        b'{"jobSummaryList":[{"jobId":"a"',
        b'{"jobSummaryList":[],"__type":{"a":1}}',
        b'{"nextToken":"more"}',
        b"[]",
        b"null",
        b"<html>no</html>",
        b'{"jobSummaryList":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    ],
)
def test_a_body_that_is_no_answer_never_means_no_jobs(body: bytes) -> None:
    assert parse_list_jobs(body, HERE) == NO_LIST
    assert NO_LIST.error_class is ErrorClass.UNAVAILABLE


def test_a_summary_is_nothing_that_the_garbage_collector_visits() -> None:
    assert not any(map(gc.is_tracked, jobs(entry("a"), entry("b"))))
