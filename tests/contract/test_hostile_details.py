"""For every response of DescribeJobs, the status stays valid, small and without secrets, and is not rewritten."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from awsbatch_operator.api.batchjob import Status
from awsbatch_operator.api.codec import encode
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.interfaces import DescribedJob
from awsbatch_operator.api.job import Job, NotFound
from awsbatch_operator.api.status_codec import diff, parse
from awsbatch_operator.aws.answers import JobDetail
from awsbatch_operator.aws.decoding import decode
from awsbatch_operator.aws.job_detail import job_of, parse_describe_jobs
from awsbatch_operator.reconcile.events import between
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Record
from awsbatch_operator.reconcile.reconcile import reconcile
from builders import INTERVALS, JOB_ID, NOW, an_object, seen
from contract.schema import MOST_BYTES, assert_valid
from hostile import MANY, PLACES, PUBLIC, SECRET, details, of_shape, rubbish, whole

LATER = NOW + 60_000
DETAILS = details()


SECRETIVE: dict[str, Any] = {
    **whole(),
    "status": "FAILED",
    "statusReason": "a\ud83d",
    "arrayProperties": {"statusSummary": {"RUNNING": 1, "PENDING": 2}},
    # Nothing that may be shown, beside all that may not.
    "container": {
        name: value for name, value in whole()["container"].items() if name not in ("reason", "logStreamName")
    },
}
TERMINATING = an_object().terminating().record


def over_the_wire(detail: Any) -> Job:
    """The job of a detail in the JSON of an answer."""
    found = decode(json.dumps(detail).encode(), JobDetail)
    assert found is not None
    return job_of(found)


def shown(status: Status) -> dict[str, Any]:
    """Return the status as an API server stores it."""
    body: dict[str, Any] = json.loads(json.dumps(encode(status), ensure_ascii=False).encode())
    return body


def records() -> st.SearchStrategy[Record]:
    """Objects that ask for nothing, state a termination, or tell of one that was accepted."""
    plain = an_object()
    return st.sampled_from(
        [
            plain.record,
            plain.terminating().record,
            plain.sent(at=NOW - 5_000).record,
            plain.terminating("💸" * 1024).record,
        ]
    )


@example(SECRETIVE, SECRETIVE, TERMINATING)
@given(DETAILS, DETAILS, records())
def test_the_status_is_valid_and_small_and_shows_no_secret(before: Any, after: Any, record: Record) -> None:
    first = reconcile(record, seen().with_job(over_the_wire(before), NOW), NOW, INTERVALS)
    then = record.replace(status=first.status)
    second = reconcile(then, seen().with_job(over_the_wire(after), LATER), LATER, INTERVALS)
    for status in (first.status, second.status):
        assert_valid(shown(status))
        assert SECRET not in json.dumps(shown(status))
        assert SECRET not in repr(status)
    for event in (*between(record.status, first.status, JOB_ID), *between(first.status, second.status, JOB_ID)):
        assert SECRET not in repr(event)


@example(SECRETIVE, TERMINATING)
@example({"status": "RUNNING", "attempts": 7, "parameters": {"a": "\ud83d"}}, TERMINATING)
@given(DETAILS, records())
def test_a_poll_that_finds_the_same_writes_nothing_in_this_process_or_the_next(detail: Any, record: Record) -> None:
    known = seen().with_job(over_the_wire(detail), NOW)
    status = reconcile(record, known, NOW, INTERVALS).status
    stored = shown(status)
    assert diff(status, stored) == {}
    again = reconcile(record.replace(status=status), known.with_job(over_the_wire(detail), NOW), NOW, INTERVALS)
    assert again.status == status
    restarted = record.replace(status=parse(stored))
    anew = reconcile(restarted, JobState().with_job(over_the_wire(detail), NOW), NOW, INTERVALS)
    assert diff(anew.status, stored) == {}
    assert restarted.status.job == status.job


@given(st.lists(of_shape(PLACES[()], ()), max_size=3), rubbish(public=False))
def test_an_answer_of_any_shape_gives_each_job_a_result_that_can_be_shown(entries: list[Any], other: Any) -> None:
    for answer in ({"jobs": entries}, {"jobs": other}, {"somethingNew": other}):
        results = parse_describe_jobs(json.dumps(answer).encode(), [JOB_ID, "public"], "eu-west-1")
        assert SECRET not in repr(results)
        if isinstance(results, CallError):
            continue
        assert results.keys() == {JOB_ID, "public"}
        for result in results.values():
            assert isinstance(result, (DescribedJob, NotFound, CallError))
            if isinstance(result, DescribedJob):
                assert_valid(shown(Status(job=result.job)))


def test_every_text_of_a_job_detail_is_secret_unless_it_is_listed() -> None:
    """The strategies above would prove nothing if the places in them were not those of botocore's model."""
    assert {place for place in PUBLIC if place not in PLACES} == {
        # Containers on EKS have no log stream.
        (*("eksProperties", "podProperties", "containers", "*"), "logStreamName"),
        (*("eksAttempts", "*", "containers", "*"), "logStreamName"),
    }
    assert json.dumps(whole()).count(SECRET) > 100


@pytest.mark.parametrize(
    "broken",
    [
        {"arrayProperties": {"size": MANY, "statusSummary": {f"STATUS-{n}": n for n in range(MANY)}}},
        {"arrayProperties": {"statusSummary": {"x" * 1_000_000: 1}}},
        {"attempts": [{"container": {"exitCode": n, "reason": "r" * 1025}} for n in range(MANY)], "container": None},
        {
            "container": None,
            "ecsProperties": {"taskProperties": [{"containers": [{"reason": "💸" * 50}] * MANY}, "💸" * 100_000]},
        },
        {"container": {"exitCode": 10**400}, "createdAt": -(10**400), "attempts": [[]] * MANY},
    ],
    ids=["10,000 statuses", "a long status", "10,000 attempts", "10,000 containers", "numbers of 400 digits"],
)
def test_a_detail_of_a_huge_job_makes_a_small_status(broken: dict[str, Any]) -> None:
    stored = shown(Status(job=over_the_wire({**whole(), **broken})))
    assert_valid(stored)
    assert len(json.dumps(stored).encode()) < MOST_BYTES / 2
