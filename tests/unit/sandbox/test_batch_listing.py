"""ListJobs of the simulated Batch."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from awsbatch_sandbox.batch.job_spec import STATUSES
from unit.sandbox.batch_wire_calls import HERE, START, Wire, frozen

NOW = int(START * 1000)


@pytest.fixture
def wire() -> Wire:
    return Wire(frozen(queues=["q"]))


def submit(wire: Wire, **body: Any) -> str:
    status, answer = wire.call("SubmitJob", **({"jobName": "train", "jobQueue": "q", "jobDefinition": "d:1"} | body))
    assert status == 200, answer
    job_id: str = answer["jobId"]
    return job_id


def listed(wire: Wire, **body: Any) -> list[str]:
    status, answer = wire.call("ListJobs", **body)
    assert status == 200, answer
    return [one["jobId"] for one in answer["jobSummaryList"]]


def test_a_queue_lists_running_jobs_by_default_newest_first(wire: Wire) -> None:
    old = wire.batch.seed(queue="q", created_at=NOW - 5)
    new = wire.batch.seed(queue="q", created_at=NOW)
    runnable = wire.batch.seed(queue="q", status="RUNNABLE")
    wire.batch.seed(queue="other")
    assert listed(wire, jobQueue="q") == [new, old]
    assert listed(wire, jobQueue="arn:aws:batch:eu-west-1:123456789012:job-queue/q", jobStatus="RUNNABLE") == [runnable]


def test_children_and_nodes_are_listed_by_their_job_only(wire: Wire) -> None:
    parent = wire.batch.seed(array_size=2, queue="q")
    job_id = wire.batch.seed(num_nodes=2, queue="q")
    assert listed(wire, jobQueue="q", jobStatus="PENDING") == [parent]
    assert sorted(listed(wire, arrayJobId=parent)) == [f"{parent}:0", f"{parent}:1"]
    assert sorted(listed(wire, multiNodeJobId=job_id)) == [f"{job_id}#0", f"{job_id}#1"]


def test_a_filter_replaces_the_status(wire: Wire) -> None:
    train = wire.batch.seed(queue="q", name="Train-1", status="FAILED", definition="d:3", created_at=NOW - 5)
    other = wire.batch.seed(queue="q", name="other", share_identifier="s", created_at=NOW)

    def by(name: str, value: str) -> list[str]:
        return listed(wire, jobQueue="q", filters=[{"name": name, "values": [value]}])

    assert by("JOB_NAME", "train-*") == [train]
    assert by("BEFORE_CREATED_AT", str(NOW)) == [train]
    assert by("AFTER_CREATED_AT", str(NOW - 5)) == [other]
    assert by("SHARE_IDENTIFIER", "s") == [other]


def test_a_definition_is_found_by_name_and_by_arn(wire: Wire) -> None:
    arn = "arn:aws:batch:eu-west-1:123456789012:job-definition/"
    third = wire.batch.seed(queue="q", status="FAILED", definition="resize:3", created_at=NOW)
    second = wire.batch.seed(queue="q", definition=f"{arn}resize:2", created_at=NOW - 1)
    first = submit(wire, jobDefinition=f"{arn}resize")
    longer = submit(wire, jobDefinition="resize-all")

    def by(value: str) -> set[str]:
        return set(listed(wire, jobQueue="q", filters=[{"name": "JOB_DEFINITION", "values": [value]}]))

    assert by("resize") == {third, second, first}
    assert by("resize*") == {third, second, first, longer}
    assert by("resize:2") == by(f"{arn}resize:2") == {second}
    assert by(f"{arn}resize:1") == {first}
    assert by("Resize") == by(f"{arn}resize*") == by(f"{arn}resize") == by("resize:4") == set()


def test_a_filter_does_not_apply_to_children(wire: Wire) -> None:
    parent = wire.batch.seed(children=["RUNNING", "FAILED"], queue="q")
    by_name = [{"name": "JOB_NAME", "values": ["other"]}]
    assert listed(wire, arrayJobId=parent, filters=by_name) == [f"{parent}:0"]
    assert listed(wire, arrayJobId=parent, filters=by_name, jobStatus="FAILED") == [f"{parent}:1"]


def pages(wire: Wire, **body: Any) -> Iterator[list[str]]:
    """The ids of each page. A page may be followed by any change of the jobs."""
    while True:
        status, answer = wire.call("ListJobs", **body)
        assert status == 200, answer
        yield [one["jobId"] for one in answer["jobSummaryList"]]
        if "nextToken" not in answer:
            return
        body["nextToken"] = answer["nextToken"]


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        ({}, [1000, 1]),
        ({"maxResults": 5000}, [1000, 1]),
        ({"maxResults": 600}, [600, 401]),
        ({"maxResults": 1001}, [1000, 1]),
        ({"jobStatus": "RUNNABLE"}, [0]),
        ({"filters": [{"name": "JOB_NAME", "values": ["*"]}], "jobStatus": "RUNNABLE"}, [100] * 10 + [2]),
        ({"filters": [{"name": "JOB_NAME", "values": ["*"]}], "maxResults": 501}, [100] * 10 + [2]),
    ],
)
def test_a_page_has_1000_jobs_of_a_status_or_100_of_any_by_a_filter(
    wire: Wire, asked: dict[str, Any], sizes: list[int]
) -> None:
    job_ids = [*wire.batch.seed_many(1001, queue="q"), wire.batch.seed(queue="q", status="FAILED")]
    found = list(pages(wire, jobQueue="q", **asked))
    assert [len(page) for page in found] == sizes
    assert sorted(job_id for page in found for job_id in page) == sorted(job_ids[: sum(sizes)])


def test_children_come_in_pages_too(wire: Wire) -> None:
    parent = wire.batch.seed(array_size=5, queue="q", status="RUNNABLE")
    found = list(pages(wire, arrayJobId=parent, jobStatus="RUNNABLE", maxResults=2))
    assert found == [[f"{parent}:0", f"{parent}:1"], [f"{parent}:2", f"{parent}:3"], [f"{parent}:4"]]


def test_jobs_that_move_on_between_two_pages_do_not_hide_others(wire: Wire) -> None:
    job_ids = wire.batch.seed_many(6, queue="q")
    found = pages(wire, jobQueue="q", maxResults=2)
    first = next(found)
    for job_id in first:
        wire.batch.move(job_id, "FAILED")
    wire.batch.seed(queue="q", created_at=NOW + 1)
    assert [first, *found] == [job_ids[:2], job_ids[2:4], job_ids[4:]]


def test_the_lists_agree_with_the_jobs_whatever_happens_to_them(wire: Wire) -> None:
    dice = random.Random(5)
    ids: list[str] = []
    kinds: list[dict[str, Any]] = [{}, {"array_size": 2}, {"num_nodes": 2}, {"natural": True, "status": "SUBMITTED"}]
    for _ in range(300):
        match dice.randrange(5):
            case 0 | 1:
                created_at = NOW - dice.randrange(9)
                ids.append(wire.batch.seed(queue=dice.choice("qr"), created_at=created_at, **dice.choice(kinds)))
            case 2 if ids:
                wire.batch.move(dice.choice(ids), dice.choice(STATUSES))
            case 3 if ids:
                wire.terminate(dice.choice(ids))
            case 4 if ids:
                wire.batch.forget(ids.pop(dice.randrange(len(ids))))
        wire.batch.advance(dice.choice([0, 1, 40]))
    state = {one["job_id"]: one for one in wire.batch.jobs() if one["parent"] is None}
    seen = []
    for queue in "qr":
        for status in STATUSES:
            shown = listed(wire, jobQueue=queue, jobStatus=status)
            assert {state[job_id]["status"] for job_id in shown} <= {status}
            times = [state[job_id]["created_at"] for job_id in shown]
            assert times == sorted(times, reverse=True)
            seen += shown
    assert sorted(seen) == sorted(state)
    assert len(seen) > 50


def test_a_token_is_good_for_its_request_only(wire: Wire) -> None:
    wire.batch.seed_many(3, queue="q")
    wire.batch.seed_many(3, queue="other")
    asked = {"jobQueue": "q", "jobStatus": "RUNNING", "maxResults": 1}
    _, answer = wire.call("ListJobs", **asked)
    mine = {**asked, "nextToken": answer["nextToken"]}
    same = {"jobQueue": "arn:aws:batch:eu-west-1:123456789012:job-queue/q", "maxResults": 2}
    for body in (mine, mine | same):
        assert wire.call("ListJobs", **body)[0] == 200
    by_name = [{"name": "JOB_NAME", "values": ["*"]}]
    for other in (
        {"jobQueue": "other"},
        {"jobStatus": "FAILED"},
        {"filters": by_name},
        {"nextToken": mine["nextToken"][1:]},
    ):
        assert "Invalid nextToken" in wire.call("ListJobs", **mine | other)[1]["message"], other
    elsewhere = Wire(wire.batch, replace(HERE, region="us-east-1"))
    wire.batch.seed(queue="q", region="us-east-1")
    assert "Invalid nextToken" in elsewhere.call("ListJobs", **mine)[1]["message"]
    wire.batch.expire_tokens()
    status, answer = wire.call("ListJobs", **mine)
    assert (status, "Invalid nextToken" in answer["message"]) == (400, True)
    assert "nextToken" in wire.call("ListJobs", **asked)[1]


def test_a_summary_has_the_flags_only_when_they_are_true(wire: Wire) -> None:
    job_ids = [wire.batch.seed(queue="q", **flag) for flag in ({}, {"is_terminated": True}, {"is_cancelled": True})]
    asked = wire.batch.seed(queue="q")
    flags = {"isTerminated", "isCancelled"}

    def shown(job_id: str) -> list[set[str]]:
        (summary,) = (one for one in wire.call("ListJobs", jobQueue="q")[1]["jobSummaryList"] if one["jobId"] == job_id)
        return [flags & set(summary), flags & set(wire.describe(job_id))]

    for before in (set(), {"isTerminated"}):
        assert shown(asked) == [before] * 2
        wire.terminate(asked)
    assert [shown(job_id) for job_id in job_ids] == [[set()] * 2, [{"isTerminated"}] * 2, [{"isCancelled"}] * 2]
    wire.batch.settings(flags_in_lists=False)
    assert shown(job_ids[1]) == [set(), {"isTerminated"}]
    wire.batch.settings(flags_in_lists=True, flags_in_details=False)
    assert shown(job_ids[1]) == [{"isTerminated"}, set()]


def test_a_summary_has_neither_tags_nor_queue_nor_attempts(wire: Wire) -> None:
    wire.batch.seed(queue="q", tags={"team": "a"}, past_attempts=1)
    ((summary,),) = (wire.call("ListJobs", jobQueue="q")[1]["jobSummaryList"],)
    assert set(summary) == {
        "jobArn",
        "jobId",
        "jobName",
        "createdAt",
        "status",
        "startedAt",
        "jobDefinition",
        "container",
    }


def test_a_summary_follows_its_job_and_its_children(wire: Wire) -> None:
    parent = wire.batch.seed(array_size=2, queue="q")

    def children_running() -> int:
        (summary,) = wire.call("ListJobs", jobQueue="q", jobStatus="PENDING")[1]["jobSummaryList"]
        running: int = summary["arrayProperties"]["statusSummary"]["RUNNING"]
        return running

    assert children_running() == 2
    wire.batch.move(f"{parent}:0", "FAILED")
    assert children_running() == 1


def test_faults_of_lists_can_be_injected(wire: Wire) -> None:
    job_ids = wire.batch.seed_many(5, queue="q")
    chunks = [job_ids[:2], job_ids[2:4], job_ids[4:]]
    wire.batch.fault("ListJobs", kind="repeat_page", skip=1)
    assert list(pages(wire, jobQueue="q", maxResults=2)) == [chunks[0], chunks[1], *chunks[1:]]
    wire.batch.fault(kind="repeat_page", times=2)
    wire.shown(job_ids[0])
    assert list(pages(wire, jobQueue="q", maxResults=2)) == [chunks[0], chunks[0], *chunks]
    wire.batch.hide(job_ids[2], polls=0, lists=1)
    assert list(pages(wire, jobQueue="q", maxResults=2)) == [chunks[0], [job_ids[3]], chunks[2]]
    assert list(pages(wire, jobQueue="q", maxResults=2)) == chunks
    wire.batch.fault("ListJobs", kind="throttle_429", skip=2)
    assert [wire.call("ListJobs", jobQueue="q")[0] for _ in range(4)] == [200, 200, 429, 200]


def test_the_record_of_calls_shows_what_was_listed(wire: Wire) -> None:
    wire.batch.seed_many(2, queue="q")
    list(pages(wire, jobQueue="q", jobStatus="RUNNING", maxResults=1))
    first, second = wire.batch.calls("ListJobs")
    assert [(one["queue"], one["job_status"], one["token"] is None) for one in (first, second)] == [
        ("q", "RUNNING", True),
        ("q", "RUNNING", False),
    ]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Exactly one of jobQueue, arrayJobId or multiNodeJobId"),
        ({"jobQueue": "q", "arrayJobId": "x"}, "Exactly one of jobQueue, arrayJobId or multiNodeJobId"),
        ({"jobQueue": "misspelt"}, "JobQueue misspelt not found."),
        ({"jobQueue": "q", "jobStatus": "LIVE"}, "jobStatus must be one of SUBMITTED, "),
        ({"jobQueue": "q", "maxResults": 0}, "maxResults must be at least 1, got 0"),
        ({"jobQueue": "q", "nextToken": "beyond"}, "Invalid nextToken"),
        ({"jobQueue": "q", "filters": [{"name": "COLOUR", "values": ["red"]}]}, "Exactly one filter of JOB_NAME, "),
        ({"jobQueue": "q", "filters": [{"name": "JOB_NAME", "values": ["a"]}] * 2}, "Exactly one filter of JOB_NAME, "),
        ({"jobQueue": "q", "filters": [{"name": "JOB_NAME"}]}, "The filter JOB_NAME needs values"),
        ({"jobQueue": "q", "filters": [{"name": "AFTER_CREATED_AT", "values": ["now"]}]}, "milliseconds since 1970"),
    ],
)
def test_a_list_that_batch_refuses_gets_a_client_exception(wire: Wire, body: dict[str, Any], text: str) -> None:
    status, answer = wire.call("ListJobs", **body)
    assert (status, text in answer["message"]) == (400, True), answer
