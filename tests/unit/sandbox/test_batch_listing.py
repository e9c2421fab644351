"""SubmitJob, ListJobs and tags of the simulated Batch."""

from typing import Any

import pytest

from unit.sandbox.batch_wire_calls import START, Wire, frozen

NOW = int(START * 1000)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def submit(wire: Wire, **body: Any) -> str:
    status, answer = wire.call("SubmitJob", **({"jobName": "train", "jobQueue": "q", "jobDefinition": "d:1"} | body))
    assert status == 200, answer
    job_id: str = answer["jobId"]
    return job_id


def listed(wire: Wire, **body: Any) -> list[str]:
    status, answer = wire.call("ListJobs", **body)
    assert status == 200, answer
    return [one["jobId"] for one in answer["jobSummaryList"]]


def test_a_submitted_job_has_the_requested_properties_and_runs(wire: Wire) -> None:
    overrides = {"command": ["run"], "environment": [{"name": "A", "value": "1"}]}
    job_id = submit(wire, containerOverrides=overrides, tags={"team": "a"}, retryStrategy={"attempts": 3})
    detail = wire.look(job_id)
    assert (detail["status"], detail["jobName"], detail["tags"]) == ("SUBMITTED", "train", {"team": "a"})
    assert (detail["container"]["command"], detail["retryStrategy"]["attempts"]) == (["run"], 3)
    wire.batch.advance(60)
    assert wire.look(job_id)["status"] == "RUNNING"


def test_arrays_nodes_pods_and_dependencies_can_be_submitted(wire: Wire) -> None:
    assert wire.look(submit(wire, arrayProperties={"size": 3}))["arrayProperties"]["size"] == 3
    assert wire.look(submit(wire, nodeOverrides={"numNodes": 2}))["nodeProperties"]["numNodes"] == 2
    assert "eksProperties" in wire.look(submit(wire, eksPropertiesOverride={}))
    assert "ecsProperties" in wire.look(submit(wire, ecsPropertiesOverride={}))
    first = submit(wire)
    assert wire.look(submit(wire, dependsOn=[{"jobId": first}]))["dependsOn"] == [{"jobId": first}]


def test_a_new_job_may_be_missing_from_some_answers() -> None:
    wire = Wire(frozen(hide_after_submit=1))
    job_id = submit(wire)
    assert [len(wire.shown(job_id)) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"jobQueue": ""}, "jobQueue must not be null or empty"),
        ({"jobName": "a.b"}, "Job name should match valid pattern"),
        ({"arrayProperties": {"size": 1}}, "array_size must be 2..10000"),
    ],
)
def test_a_submission_that_batch_refuses_gets_a_client_exception(wire: Wire, wrong: dict[str, Any], text: str) -> None:
    body = {"jobName": "train", "jobQueue": "q", "jobDefinition": "d:1"} | wrong
    status, answer = wire.call("SubmitJob", **body)
    assert (status, text in answer["message"]) == (400, True)


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
    assert by("JOB_DEFINITION", "d:3") == [train]
    assert by("BEFORE_CREATED_AT", str(NOW)) == [train]
    assert by("AFTER_CREATED_AT", str(NOW - 5)) == [other]
    assert by("SHARE_IDENTIFIER", "s") == [other]


def test_long_lists_come_in_pages(wire: Wire) -> None:
    wire.batch.seed_many(5, queue="q")
    _, first = wire.call("ListJobs", jobQueue="q", maxResults=3)
    _, second = wire.call("ListJobs", jobQueue="q", maxResults=3, nextToken=first["nextToken"])
    assert (len(first["jobSummaryList"]), len(second["jobSummaryList"]), "nextToken" in second) == (3, 2, False)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"jobQueue": "q", "arrayJobId": "x"},
        {"jobQueue": "q", "nextToken": "beyond"},
        {"jobQueue": "q", "filters": [{"name": "COLOUR", "values": ["red"]}]},
    ],
)
def test_a_list_that_batch_refuses_gets_a_client_exception(wire: Wire, body: dict[str, Any]) -> None:
    assert wire.call("ListJobs", **body)[0] == 400


def test_tags_can_be_added_listed_and_removed(wire: Wire) -> None:
    job_id = wire.batch.seed(tags={"team": "a"})
    arn = wire.look(job_id)["jobArn"]
    wire.call("TagResource", resourceArn=arn, tags={"cost": "b"})
    assert wire.look(job_id)["tags"] == {"team": "a", "cost": "b"}
    wire.call("UntagResource", resourceArn=arn, tagKeys=["team"])
    assert wire.call("ListTagsForResource", resourceArn=arn) == (200, {"tags": {"cost": "b"}})
    assert wire.call("ListTagsForResource", resourceArn=arn + "x")[0] == 400
