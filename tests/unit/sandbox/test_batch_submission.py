"""SubmitJob and tags of the simulated Batch."""

from typing import Any

import pytest

from unit.sandbox.batch_wire_calls import Wire, frozen


@pytest.fixture
def wire() -> Wire:
    return Wire(frozen(queues=["q"]))


def submit(wire: Wire, **body: Any) -> str:
    status, answer = wire.call("SubmitJob", **({"jobName": "train", "jobQueue": "q", "jobDefinition": "d:1"} | body))
    assert status == 200, answer
    job_id: str = answer["jobId"]
    return job_id


def test_a_submitted_job_has_the_requested_properties_and_runs(wire: Wire) -> None:
    overrides = {"command": ["run"], "environment": [{"name": "A", "value": "1"}]}
    job_id = submit(wire, containerOverrides=overrides, tags={"team": "a"}, retryStrategy={"attempts": 3})
    detail = wire.describe(job_id)
    assert (detail["status"], detail["jobName"], detail["tags"]) == ("SUBMITTED", "train", {"team": "a"})
    assert (detail["container"]["command"], detail["retryStrategy"]["attempts"]) == (["run"], 3)
    wire.batch.advance(60)
    assert wire.describe(job_id)["status"] == "RUNNING"


def test_arrays_nodes_pods_and_dependencies_can_be_submitted(wire: Wire) -> None:
    assert wire.describe(submit(wire, arrayProperties={"size": 3}))["arrayProperties"]["size"] == 3
    assert wire.describe(submit(wire, nodeOverrides={"numNodes": 2}))["nodeProperties"]["numNodes"] == 2
    assert "eksProperties" in wire.describe(submit(wire, eksPropertiesOverride={}))
    assert "ecsProperties" in wire.describe(submit(wire, ecsPropertiesOverride={}))
    first = submit(wire)
    assert wire.describe(submit(wire, dependsOn=[{"jobId": first}]))["dependsOn"] == [{"jobId": first}]


def test_a_new_job_may_be_missing_from_some_answers() -> None:
    wire = Wire(frozen(queues=["q"], hide_after_submit=1))
    job_id = submit(wire)
    assert [len(wire.shown(job_id)) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"jobQueue": ""}, "jobQueue must not be null or empty"),
        ({"jobQueue": "misspelt"}, "JobQueue misspelt not found."),
        ({"jobQueue": "arn:aws:batch:eu-west-1:999999999999:job-queue/q"}, "job-queue/q not found."),
        ({"jobName": "a.b"}, "Job name should match valid pattern"),
        ({"jobDefinition": "d:latest"}, "jobDefinition must be name, name:revision or the ARN"),
        ({"arrayProperties": {"size": 1}}, "arrayProperties.size must be between 2 and 10000, got 1"),
        ({"retryStrategy": {"attempts": 0}}, "retryStrategy.attempts must be between 1 and 10, got 0"),
        ({"retryStrategy": {"attempts": 11}}, "retryStrategy.attempts must be between 1 and 10, got 11"),
        ({"retryStrategy": {"attempts": "3"}}, "retryStrategy.attempts must be between 1 and 10, got 3"),
        ({"retryStrategy": {"evaluateOnExit": [{"action": "EXIT"}]}}, "RetryAttempts must be provided"),
        ({"retryStrategy": {"attempts": 1, "evaluateOnExit": [{"action": "EXIT"}] * 6}}, "at most 5 entries"),
        ({"timeout": {"attemptDurationSeconds": 59}}, "timeout.attemptDurationSeconds must be at least 60, got 59"),
        ({"schedulingPriorityOverride": 10_000}, "schedulingPriorityOverride must be between 0 and 9999"),
        ({"dependsOn": [{"jobId": "x"}] * 21}, "dependsOn must have at most 20 jobs"),
        ({"tags": {}}, "tags must be a map of 1 to 50 tags"),
        ({"tags": {str(n): "" for n in range(51)}}, "tags must be a map of 1 to 50 tags"),
        ({"tags": {"": "x"}}, "A tag key must have 1 to 128 characters"),
        ({"tags": {"AWS:x": "x"}}, "not start with aws:"),
        ({"tags": {"team": "x" * 257}}, "The value of tag team must have at most 256 characters"),
        ({"containerOverrides": {"environment": [{"name": "AWS_BATCH_X"}]}}, "cannot start with AWS_BATCH"),
    ],
)
def test_a_submission_that_batch_refuses_gets_a_client_exception(wire: Wire, wrong: dict[str, Any], text: str) -> None:
    body = {"jobName": "train", "jobQueue": "q", "jobDefinition": "d:1"} | wrong
    status, answer = wire.call("SubmitJob", **body)
    assert (status, text in answer["message"]) == (400, True), answer
    assert wire.batch.jobs() == []


def test_the_documented_limits_themselves_are_accepted(wire: Wire) -> None:
    most: dict[str, Any] = {
        "retryStrategy": {"attempts": 10, "evaluateOnExit": [{"action": "EXIT"}] * 5},
        "timeout": {"attemptDurationSeconds": 60},
        "schedulingPriorityOverride": 0,
        "tags": {f"{n:0128}": "x" * 256 for n in range(50)},
    }
    submit(wire, **most)
    submit(wire, jobDefinition="arn:aws:batch:eu-west-1:123456789012:job-definition/d", arrayProperties={"size": 2})


def test_a_queue_of_a_seeded_job_exists(wire: Wire) -> None:
    wire.batch.forget(wire.batch.seed(queue="seeded"))
    submit(wire, jobQueue="seeded")
    submit(wire, jobQueue="arn:aws:batch:eu-west-1:123456789012:job-queue/seeded")


def test_tags_can_be_added_listed_and_removed(wire: Wire) -> None:
    job_id = wire.batch.seed(tags={"team": "a"})
    arn = wire.describe(job_id)["jobArn"]
    wire.call("TagResource", resourceArn=arn, tags={"cost": "b"})
    assert wire.describe(job_id)["tags"] == {"team": "a", "cost": "b"}
    wire.call("UntagResource", resourceArn=arn, tagKeys=["team"])
    assert wire.call("ListTagsForResource", resourceArn=arn) == (200, {"tags": {"cost": "b"}})
    assert wire.call("ListTagsForResource", resourceArn=arn + "x")[0] == 400


@pytest.mark.parametrize("tags", [{}, {"aws:x": "y"}, {str(n): "" for n in range(50)}])
def test_tags_that_batch_refuses_change_nothing(wire: Wire, tags: dict[str, str]) -> None:
    job_id = wire.batch.seed(tags={"team": "a"})
    assert wire.call("TagResource", resourceArn=wire.describe(job_id)["jobArn"], tags=tags)[0] == 400
    assert wire.describe(job_id)["tags"] == {"team": "a"}
