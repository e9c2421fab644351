"""Events of AWS Batch by SQS: they show what has changed, they save polls, and nothing depends on them."""

import json
from collections.abc import Iterator

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.by_events import FLAGS, a_job_that_is_not_polled, arrive, in_queue, polls
from integration.scenario import SOON, phase


@pytest.fixture(scope="module")
def events() -> Iterator[World]:
    """A world of the module's own, whose operator reads events."""
    with World("embedded", grace=0.2, flags=FLAGS, events=True) as world:
        world.operator.start()
        yield world


@pytest.fixture
def cluster(events: World) -> Iterator[Cluster]:
    yield events.cluster
    events.cluster.delete_all()
    events.batch.clear_denials()
    events.batch.delivery()
    events.batch.enable_rule(events.events_queue)


def test_a_quiet_job_is_not_polled_and_its_end_is_shown_at_once(events: World, cluster: Cluster) -> None:
    job_id = a_job_that_is_not_polled(events, cluster, "quiet")
    events.batch.move(job_id, "SUCCEEDED")
    cluster.wait_for("quiet", phase("Succeeded"), timeout=SOON)
    (received, *_) = events.operator.metrics()["awsbatch_operator_event_delay_seconds_count"]
    assert received[1] >= 1


def test_doubled_and_late_events_end_in_the_true_status(events: World, cluster: Cluster) -> None:
    job_id = a_job_that_is_not_polled(events, cluster, "disorder")
    events.batch.delivery(duplicates=1.0, disorder=0.5, late=1.0)
    for status in ("RUNNABLE", "STARTING", "RUNNING", "FAILED"):
        events.batch.move(job_id, status)
    cluster.wait_for("disorder", phase("Failed"), timeout=SOON)
    wait_for(lambda: in_queue(events) == [], timeout=SOON, what="the late events are handled too")
    assert cluster.get("disorder")["status"]["phase"] == "Failed"


def test_a_forged_message_shows_nothing_and_asks_for_no_other_job(events: World, cluster: Cluster) -> None:
    job_id = a_job_that_is_not_polled(events, cluster, "forged")
    other = events.batch.seed(name="of-nobody")
    before = polls(events, job_id)
    for body in (
        {"jobId": job_id, "status": "FAILED", "jobQueue": "forged"},
        {"jobId": other, "status": "RUNNING"},
        {"detail": {"jobId": "'; drop table jobs"}},
    ):
        events.batch.send_message(events.events_queue, json.dumps(body))
    poison = events.batch.send_message(events.events_queue, "not JSON")
    wait_for(lambda: polls(events, job_id) > before, timeout=SOON, what="the hint is taken")
    wait_for(lambda: in_queue(events) == [poison], timeout=SOON, what="all but the poison are deleted")
    assert (polls(events, other), cluster.get("forged")["status"]["phase"]) == (0, "Running")
    events.batch.purge_queue(events.events_queue)


def test_without_an_answer_of_sqs_jobs_are_polled_again(events: World, cluster: Cluster) -> None:
    job_id = a_job_that_is_not_polled(events, cluster, "denied")
    events.batch.disable_rule(events.events_queue)
    events.batch.deny("ReceiveMessage")
    # The long poll that waits is answered before the next one is denied.
    events.batch.send_message(events.events_queue, json.dumps({"jobId": "unknown"}))
    before = polls(events, job_id)
    wait_for(lambda: polls(events, job_id) >= before + 2, timeout=SOON, what="polls as without events")
    assert not arrive(events)
    events.batch.move(job_id, "FAILED")
    cluster.wait_for("denied", phase("Failed"), timeout=SOON)
