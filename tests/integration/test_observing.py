"""The status mirrors what Batch says of the job."""

from typing import Any

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, claim, has_events, phase, says

pytestmark = pytest.mark.usefixtures("operator")

State = tuple[str, dict[str, Any], str, tuple[str, str]]
"""Name, the seeded job, the phase to be shown, and status and reason of the condition Succeeded."""

ACTIVE = ("Unknown", "JobActive")
STATES: list[State] = [
    ("submitted", {"status": "SUBMITTED"}, "Pending", ACTIVE),
    ("pending", {"status": "PENDING"}, "Pending", ACTIVE),
    ("runnable", {"status": "RUNNABLE"}, "Pending", ACTIVE),
    ("starting", {"status": "STARTING"}, "Pending", ACTIVE),
    ("running", {"status": "RUNNING"}, "Running", ACTIVE),
    ("succeeded", {"status": "SUCCEEDED", "exit_code": 0}, "Succeeded", ("True", "JobSucceeded")),
    ("failed", {"status": "FAILED", "exit_code": 3}, "Failed", ("False", "JobFailed")),
    ("array", {"children": ["SUCCEEDED", "RUNNING", "RUNNABLE"]}, "Running", ACTIVE),
    ("idle-array", {"children": ["RUNNABLE", "RUNNABLE"]}, "Pending", ACTIVE),
    ("multi-node", {"num_nodes": 3}, "Running", ACTIVE),
    ("eks", {"kind": "eks"}, "Running", ACTIVE),
    ("several-containers", {"kind": "ecs-multi", "status": "FAILED", "exit_code": 4}, "Failed", ("False", "JobFailed")),
    ("flagged", {"is_terminated": True}, "Terminating", ACTIVE),
    (
        "terminated-by-another",
        {"status": "FAILED", "is_terminated": True, "status_reason": "theirs"},
        "Terminated",
        ("False", "JobTerminated"),
    ),
    ("cancelled", {"status": "FAILED", "is_cancelled": True}, "Terminated", ("False", "JobCancelled")),
]


def test_a_job_is_mirrored_in_each_of_its_states(world: World, cluster: Cluster) -> None:
    ids = {name: world.batch.seed(name=name, queue="night", **job) for name, job, _, _ in STATES}
    for name, job_id in ids.items():
        cluster.create(name, job_id)
    for name, job, expected, reason in STATES:
        status = cluster.wait_for(name, phase(expected), timeout=SOON)["status"]
        assert status["jobName"] == name
        assert status["jobStatus"] == world.batch.job(ids[name])["status"]
        assert status["jobQueue"].endswith("job-queue/night")
        assert status["region"] == "eu-west-1"
        assert status["observedGeneration"] == 1
        assert status.get("exitCode") == job.get("exit_code")
        assert claim(status, "Ready") == ("True", "Observed")
        assert claim(status, "Succeeded") == reason, name
        assert claim(status, "Terminated") is None


def test_an_array_parent_shows_the_states_of_its_children(world: World, cluster: Cluster) -> None:
    cluster.create("sweep", world.batch.seed(children=["SUCCEEDED", "RUNNING", "RUNNING", "RUNNABLE"]))
    status = cluster.wait_for("sweep", phase("Running"), timeout=SOON)["status"]
    assert status["array"]["size"] == 4
    assert {state: n for state, n in status["array"]["statusSummary"].items() if n} == {
        "SUCCEEDED": 1,
        "RUNNING": 2,
        "RUNNABLE": 1,
    }


def test_the_status_follows_a_job_through_its_life(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(status="RUNNABLE")
    cluster.create("life", job_id)
    cluster.wait_for("life", phase("Pending"), timeout=SOON)
    world.batch.move(job_id, "RUNNING")
    cluster.wait_for("life", phase("Running"), timeout=SOON)
    world.batch.move(job_id, "SUCCEEDED", exit_code=0)
    status = cluster.wait_for("life", phase("Succeeded"), timeout=SOON)["status"]
    assert status["exitCode"] == 0
    assert status["createdAt"] <= status["startedAt"] <= status["stoppedAt"]
    assert has_events(cluster, "life", "JobSucceeded")


def test_a_job_in_another_region_is_polled_there(world: World, cluster: Cluster) -> None:
    cluster.create("far", world.batch.seed(region="us-west-2"), region="us-west-2")
    assert cluster.wait_for("far", phase("Running"), timeout=SOON)["status"]["region"] == "us-west-2"


def test_an_unknown_job_is_missing_after_its_grace(cluster: Cluster) -> None:
    cluster.create("typo", "11111111-1111-4111-8111-111111111111")
    cluster.wait_for("typo", says("Reconciling", "True", "AwaitingFirstObservation"), timeout=SOON)
    status = cluster.wait_for("typo", phase("Missing"), timeout=SOON)["status"]
    assert claim(status, "Stalled") == ("True", "JobNotFound")
    assert claim(status, "Reconciling") is None
    assert has_events(cluster, "typo", "JobNotFound")


def test_a_new_job_that_batch_does_not_show_yet_is_not_missing(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed()
    world.batch.hide(job_id, polls=2)
    cluster.create("fresh", job_id)
    cluster.wait_for("fresh", phase("Running"), timeout=SOON)
    assert cluster.events("fresh") == []


def test_a_job_that_was_seen_and_is_gone_has_vanished(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(name="gone")
    cluster.create("gone", job_id)
    cluster.wait_for("gone", phase("Running"), timeout=SOON)
    world.batch.forget(job_id)
    status = cluster.wait_for("gone", phase("Missing"), timeout=SOON)["status"]
    assert claim(status, "Stalled") == ("True", "JobVanished")
    assert status["jobName"] == "gone"


def test_a_malformed_id_stalls_its_own_object_only(world: World, cluster: Cluster) -> None:
    world.batch.settings(strict_ids=True)
    try:
        cluster.create("bad", "not_a_uuid")
        cluster.create("good", world.batch.seed())
        cluster.wait_for("good", phase("Running"), timeout=SOON)
        status = cluster.wait_for("bad", phase("Missing"), timeout=SOON)["status"]
    finally:
        world.batch.settings(strict_ids=False)
    assert claim(status, "Stalled") == ("True", "JobNotFound")


def test_polls_without_changes_write_nothing(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed()
    cluster.create("calm", job_id)
    version = cluster.wait_for("calm", phase("Running"), timeout=SOON)["metadata"]["resourceVersion"]
    polled_at(world, job_id, times=4)
    assert cluster.get("calm")["metadata"]["resourceVersion"] == version


def test_a_finished_job_is_not_polled_any_more(world: World, cluster: Cluster) -> None:
    ended, alive = world.batch.seed(status="SUCCEEDED"), world.batch.seed()
    cluster.create("ended", ended)
    cluster.create("alive", alive)
    cluster.wait_for("ended", phase("Succeeded"), timeout=SOON)
    world.batch.clear_calls()
    polled_at(world, alive, times=3)
    assert not [call for call in world.batch.calls("DescribeJobs") if ended in call["job_ids"]]


def test_a_finished_job_that_batch_forgets_keeps_its_status_over_a_restart(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    job_id = world.batch.seed(status="SUCCEEDED")
    cluster.create("old", job_id)
    reported = cluster.wait_for("old", phase("Succeeded"), timeout=SOON)
    world.batch.forget(job_id)
    operator.stop()
    operator.start()
    world.batch.clear_calls()
    witness = world.batch.seed()
    cluster.create("witness", witness)
    polled_at(world, witness, times=3)
    assert cluster.get("old")["metadata"]["resourceVersion"] == reported["metadata"]["resourceVersion"]
    assert not [call for call in world.batch.calls("DescribeJobs") if job_id in call["job_ids"]]


def polled_at(world: World, job_id: str, *, times: int) -> None:
    def enough() -> bool:
        return sum(job_id in call["job_ids"] for call in world.batch.calls("DescribeJobs")) >= times

    wait_for(enough, timeout=SOON, what=f"{times} polls of {job_id}")
