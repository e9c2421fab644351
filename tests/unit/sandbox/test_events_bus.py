"""What the simulated Batch publishes, which rules bring it to which queue, and how reliably."""

import json
from collections import Counter
from typing import Any

import pytest

from awsbatch_sandbox.batch.simulator import BatchSimulator
from awsbatch_sandbox.events.eventbridge import put_events
from unit.sandbox.batch_wire_calls import HERE, START, Wire, frozen

SPOKE = "222222222222"
CANARY = {"Source": "awsbatch.dev", "DetailType": "awsbatch-operator canary"}


@pytest.fixture
def batch() -> BatchSimulator:
    return frozen(run_for=10.0)


@pytest.fixture
def url(batch: BatchSimulator) -> str:
    return batch.events.create_queue()


def bodies(batch: BatchSimulator, url: str) -> list[dict[str, Any]]:
    return [json.loads(one["body"]) for one in batch.events.messages(url)]


def statuses(batch: BatchSimulator, url: str) -> list[tuple[str, str]]:
    return [(body["jobId"], body["status"]) for body in bodies(batch, url)]


def put(batch: BatchSimulator, entry: dict[str, Any], account: str = HERE.account, region: str = HERE.region) -> Any:
    return put_events(batch.events.bus, account, region, {"Entries": [entry]}, int(START * 1000))


def test_each_change_of_a_status_is_one_event_and_a_submission_none(batch: BatchSimulator, url: str) -> None:
    _, submitted = Wire(batch).call("SubmitJob", jobName="a", jobQueue="default", jobDefinition="d")
    assert bodies(batch, url) == []
    batch.advance(60)
    job_id = submitted["jobId"]
    assert statuses(batch, url) == [(job_id, one) for one in ("RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED")]
    assert bodies(batch, url)[0] == {
        "jobId": job_id,
        "jobQueue": "arn:aws:batch:eu-west-1:123456789012:job-queue/default",
        "status": "RUNNABLE",
        "time": "2023-11-14T22:13:21Z",
        "region": "eu-west-1",
        "account": "123456789012",
    }


def test_a_termination_is_published_when_the_job_ends(batch: BatchSimulator, url: str) -> None:
    job_id = batch.seed(grace=30)
    Wire(batch).terminate(job_id)
    assert bodies(batch, url) == []
    batch.advance(30)
    assert statuses(batch, url) == [(job_id, "FAILED")]


def test_an_array_publishes_for_its_children_and_for_itself(batch: BatchSimulator, url: str) -> None:
    job_id = batch.seed(children=["RUNNING", "RUNNING"])
    batch.move(job_id, "SUCCEEDED")
    assert statuses(batch, url) == [(f"{job_id}:{n}", "SUCCEEDED") for n in (0, 1)] + [(job_id, "SUCCEEDED")]


def test_a_retry_publishes_runnable_again(batch: BatchSimulator, url: str) -> None:
    job_id = batch.seed()
    batch.move(job_id, "RUNNABLE", exit_code=1)
    batch.move(job_id, "RUNNABLE", reason="no change")
    assert statuses(batch, url) == [(job_id, "RUNNABLE")]


@pytest.mark.parametrize("reason", ["MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - x", "CAPACITY:INSUFFICIENT - x"])
def test_a_job_that_blocks_its_queue_publishes_that(batch: BatchSimulator, reason: str) -> None:
    url = batch.events.create_queue(transformed=False)
    job_id = batch.seed(status="RUNNABLE", environment={"PASSWORD": "hunter2"})
    batch.move(job_id, "RUNNABLE", reason=reason)
    (event,) = bodies(batch, url)
    assert (event["source"], event["detail-type"]) == ("aws.batch", "Batch Job Queue Blocked")
    prefix = "arn:aws:batch:eu-west-1:123456789012"
    assert event["resources"] == [f"{prefix}:job/{job_id}", f"{prefix}:job-queue/default"]
    assert (event["detail"]["jobId"], event["detail"]["statusReason"]) == (job_id, reason)
    assert event["detail"]["container"]["environment"] == [{"name": "PASSWORD", "value": "hunter2"}]


def test_an_own_event_goes_the_way_of_those_of_batch(batch: BatchSimulator, url: str) -> None:
    detail = {"jobId": "canary-1", "jobQueue": "", "status": "", "secret": "x"}
    assert put(batch, {**CANARY, "Detail": json.dumps(detail)})["FailedEntryCount"] == 0
    put(batch, {**CANARY, "Detail": json.dumps(detail), "EventBusName": "another"})
    put(batch, {**CANARY, "DetailType": "another", "Detail": json.dumps(detail)})
    place = {"time": "2023-11-14T22:13:20Z", "region": HERE.region, "account": HERE.account}
    assert bodies(batch, url) == [{"jobId": "canary-1", "jobQueue": "", "status": "", **place}]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Source": "aws.batch"}, "NotAuthorizedForSourceException"),
        ({"Source": ""}, "InvalidArgument"),
        ({"Detail": "{"}, "MalformedDetail"),
        ({"Detail": "[]"}, "MalformedDetail"),
    ],
)
def test_an_entry_of_put_events_is_refused_for_itself(
    batch: BatchSimulator, url: str, change: dict[str, str], code: str
) -> None:
    answer = put(batch, {**CANARY, "Detail": "{}", **change})
    assert (answer["FailedEntryCount"], answer["Entries"][0]["ErrorCode"]) == (1, code)
    assert bodies(batch, url) == []


def test_events_stay_in_their_account_and_region_unless_a_rule_forwards_them(batch: BatchSimulator, url: str) -> None:
    hub = batch.events.create_queue("hub", sources=[{"account": SPOKE, "region": "us-east-1"}])
    whole_account = batch.events.create_queue("whole-account", sources=[{"account": SPOKE}])
    places = [(HERE.account, HERE.region), (SPOKE, "us-east-1"), (SPOKE, HERE.region), (HERE.account, "us-east-1")]
    ids = [batch.seed(account=account, region=region) for account, region in places]
    for job_id in ids:
        batch.move(job_id, "FAILED")
    seen = {one: [job_id for job_id, _ in statuses(batch, one)] for one in (url, hub, whole_account)}
    assert seen == {url: ids[:1], hub: ids[:2], whole_account: ids[:3]}
    assert [(body["account"], body["region"]) for body in bodies(batch, hub)] == places[:2]


def test_a_pattern_selects_by_detail(batch: BatchSimulator) -> None:
    gpu = "arn:aws:batch:eu-west-1:123456789012:job-queue/gpu"
    pattern = {"source": ["aws.batch"], "detail": {"jobQueue": [gpu], "status": ["FAILED", "SUCCEEDED"]}}
    url = batch.events.create_queue(pattern=pattern)
    wanted = batch.seed(queue="gpu", status="STARTING")
    other = batch.seed(status="RUNNING")
    for job_id, status in ((wanted, "RUNNING"), (wanted, "FAILED"), (other, "FAILED")):
        batch.move(job_id, status)
    assert statuses(batch, url) == [(wanted, "FAILED")]


def test_a_disabled_rule_is_silent(batch: BatchSimulator, url: str) -> None:
    first, second = batch.seed_many(2)
    batch.events.disable_rule(url)
    batch.move(first, "FAILED")
    batch.events.enable_rule(url)
    batch.move(second, "FAILED")
    assert statuses(batch, url) == [(second, "FAILED")]


def test_deliveries_can_be_lost_doubled_and_late_and_the_seed_repeats_them(batch: BatchSimulator, url: str) -> None:
    def run(seed: int) -> list[str]:
        batch.events.purge_queue(url)
        batch.events.delivery(url, duplicates=0.3, losses=0.2, disorder=0.5, late=5.0, seed=seed)
        names = [batch.seed(job_id=f"{n}") for n in range(100)]
        for job_id in names:
            batch.move(job_id, "FAILED")
            batch.forget(job_id)
        sent = sorted(batch.events.messages(url), key=lambda one: one["sent_at"])
        return [json.loads(one["body"])["jobId"] for one in sent]

    first = run(7)
    times = Counter(first)
    assert 60 < len(times) < 95
    assert 10 < sum(count == 2 for count in times.values()) < 40
    assert first != sorted(first, key=int)
    assert (first == run(7), first == run(8)) == (True, False)
    assert sorted(run(7), key=int) == sorted(first, key=int)


def test_a_delay_is_that_of_every_event(batch: BatchSimulator, url: str) -> None:
    batch.events.delivery(delay=1.5)
    batch.move(batch.seed(), "FAILED")
    (message,) = batch.events.messages(url)
    assert message["sent_at"] == message["visible_at"] == START * 1000 + 1500


@pytest.mark.parametrize(("name", "value"), [("losses", 1.1), ("duplicates", -0.1), ("delay", -1.0), ("late", -1.0)])
def test_a_wrong_delivery_names_the_field(batch: BatchSimulator, url: str, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        batch.events.delivery(url, **{name: value})


def test_a_queue_that_does_not_exist_is_named_with_those_that_do(batch: BatchSimulator, url: str) -> None:
    with pytest.raises(LookupError, match=rf"there is no queue {url}x; the queues are {url}"):
        batch.events.messages(url + "x")
    with pytest.raises(LookupError, match=r"there is no rule for .*: it is a dead-letter queue"):
        batch.events.disable_rule(url + "-dlq")
    with pytest.raises(ValueError, match="name awsbatch-events exists already in account 123456789012, eu-west-1"):
        batch.events.create_queue()
    batch.events.delete_queue(url)
    assert (batch.events.queues(), batch.events.bus.rules) == ([], [])
