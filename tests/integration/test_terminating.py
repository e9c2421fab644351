"""A stated termination becomes a TerminateJob for an active job, and the status tells its outcome truthfully."""

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, accepted, claim, has_events, phase, reasons_sent, says, terminations_tried

pytestmark = pytest.mark.usefixtures("operator")

REASON = "INC-4711: runaway cost"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")


def test_an_active_job_is_terminated_in_each_of_its_states(world: World, cluster: Cluster) -> None:
    ids = {state: world.batch.seed(status=state) for state in ("SUBMITTED", "RUNNABLE", "STARTING", "RUNNING")}
    for state, job_id in ids.items():
        cluster.create(state.lower(), job_id)
        cluster.wait_for(state.lower(), lambda status: "jobStatus" in status, timeout=SOON)
        cluster.terminate(state.lower(), f"{REASON} ({state})")
    for state, job_id in ids.items():
        assert_terminated(world, cluster, state.lower(), job_id, f"{REASON} ({state})")


def assert_terminated(world: World, cluster: Cluster, name: str, job_id: str, reason: str) -> None:
    status = cluster.wait_for(name, BY_REQUEST, timeout=SOON)["status"]
    assert reasons_sent(world, job_id) == [reason]
    assert (status["phase"], status["jobStatus"], status["statusReason"]) == ("Terminated", "FAILED", reason)
    assert claim(status, "Ready") == ("True", "Terminated")
    assert claim(status, "Succeeded") == ("False", "JobTerminated")
    assert claim(status, "Reconciling") is None
    termination = status["termination"]
    assert (termination["reason"], termination["requests"]) == (reason, 1)
    assert termination["requestedAt"] <= termination["acceptedAt"]
    assert termination["completedAt"] == status["stoppedAt"]
    assert has_events(cluster, name, "TerminationAccepted", "Terminated")


def test_a_job_that_keeps_running_is_neither_terminated_in_status_nor_sent_again(
    world: World, cluster: Cluster
) -> None:
    job_id = world.batch.seed(stuck=True)
    cluster.create("job", job_id, terminate={"reason": REASON})
    status = cluster.wait_for("job", lambda status: status.get("isTerminated"), timeout=SOON)["status"]
    assert (status["phase"], status["jobStatus"]) == ("Terminating", "RUNNING")
    assert claim(status, "Terminated") == ("Unknown", "TerminationInProgress")
    assert claim(status, "Ready") == ("False", "TerminationInProgress")
    assert claim(status, "Reconciling") == ("True", "TerminationInProgress")
    accepted_at = world.batch.terminate_requests()[0]["at"]
    beyond_resend = accepted_at + 2.0
    wait_for(lambda: world.batch.calls("DescribeJobs")[-1]["at"] > beyond_resend, timeout=SOON, what="a later poll")
    cluster.create("witness", world.batch.seed(), terminate={"reason": "another"})
    cluster.wait_for("witness", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, job_id) == [REASON]


def test_a_job_that_waits_on_dependencies_is_terminated_once_they_end(world: World, cluster: Cluster) -> None:
    first = world.batch.seed(status="RUNNABLE")
    second = world.batch.seed(status="PENDING", depends_on=[first])
    cluster.create("second", second)
    cluster.wait_for("second", phase("Pending"), timeout=SOON)
    cluster.terminate("second", REASON)
    waiting = says("Terminated", "Unknown", "WaitingOnDependencies")
    assert cluster.wait_for("second", waiting, timeout=SOON)["status"]["phase"] == "Terminating"
    world.batch.move(first, "SUCCEEDED")
    cluster.wait_for("second", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, second) == [REASON]


def test_terminating_an_array_terminates_all_its_children(world: World, cluster: Cluster) -> None:
    parent = world.batch.seed(children=["SUCCEEDED", "RUNNING", "RUNNABLE"])
    cluster.create("sweep", parent)
    cluster.wait_for("sweep", phase("Running"), timeout=SOON)
    cluster.terminate("sweep", REASON)
    cluster.wait_for("sweep", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, parent) == [REASON]
    assert [world.batch.job(f"{parent}:{child}")["status"] for child in range(3)] == ["SUCCEEDED", "FAILED", "FAILED"]


def test_terminating_an_array_child_does_not_affect_its_siblings(world: World, cluster: Cluster) -> None:
    parent = world.batch.seed(children=["RUNNING", "RUNNING"])
    cluster.create("child", f"{parent}:1")
    cluster.wait_for("child", phase("Running"), timeout=SOON)
    cluster.terminate("child", REASON)
    status = cluster.wait_for("child", BY_REQUEST, timeout=SOON)["status"]
    assert status["array"]["index"] == 1
    assert reasons_sent(world, f"{parent}:1") == [REASON]
    assert world.batch.job(f"{parent}:0")["status"] == "RUNNING"


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED"])
def test_a_finished_job_gets_no_call(world: World, cluster: Cluster, state: str) -> None:
    cluster.create("ended", world.batch.seed(status=state))
    cluster.wait_for("ended", phase(state.capitalize()), timeout=SOON)
    cluster.terminate("ended", REASON)
    status = cluster.wait_for("ended", says("Terminated", "False", "AlreadyFinished"), timeout=SOON)["status"]
    assert status["phase"] == state.capitalize()
    assert claim(status, "Ready") == ("True", "AlreadyFinished")
    assert "termination" not in status
    assert terminations_tried(world) == []
    assert has_events(cluster, "ended", f"Job{state.capitalize()}", "TerminationSkipped")


def test_a_vanished_job_gets_no_call(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed()
    cluster.create("gone", job_id)
    cluster.wait_for("gone", phase("Running"), timeout=SOON)
    world.batch.forget(job_id)
    cluster.wait_for("gone", says("Stalled", "True", "JobVanished"), timeout=SOON)
    cluster.terminate("gone", REASON)
    cluster.wait_for("gone", says("Terminated", "False", "JobNotFound"), timeout=SOON)
    assert terminations_tried(world) == []


def test_an_unknown_job_gets_no_call(world: World, cluster: Cluster) -> None:
    cluster.create("typo", "11111111-1111-4111-8111-111111111111", terminate={"reason": REASON})
    status = cluster.wait_for("typo", says("Terminated", "False", "JobNotFound"), timeout=SOON)["status"]
    assert status["phase"] == "Missing"
    assert terminations_tried(world) == []


@pytest.mark.parametrize(
    ("end", "reason"),
    [("SUCCEEDED", "SucceededBeforeTermination"), ("FAILED", "FailedBeforeTermination")],
)
def test_a_job_that_ends_by_itself_first_is_not_shown_as_terminated(
    world: World, cluster: Cluster, end: str, reason: str
) -> None:
    job_id = world.batch.seed(ignores_terminate=True)
    cluster.create("race", job_id, terminate={"reason": REASON})
    cluster.wait_for("race", accepted, timeout=SOON)
    world.batch.move(job_id, end, reason="Essential container in task exited")
    status = cluster.wait_for("race", says("Terminated", "False", reason), timeout=SOON)["status"]
    assert status["phase"] == end.capitalize()
    assert status["termination"]["reason"] == REASON


def test_a_request_that_batch_lost_is_sent_again(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(ignore_terminates=1)
    cluster.create("lost", job_id, terminate={"reason": REASON})
    status = cluster.wait_for("lost", BY_REQUEST, timeout=SOON)["status"]
    assert status["termination"]["requests"] == 2
    first, second = [one for one in world.batch.terminate_requests() if one["job_id"] == job_id]
    assert second["at"] - first["at"] >= 1.0
    assert (first["reason"], second["reason"]) == (REASON, REASON)


def test_an_object_may_state_its_termination_from_the_start(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed()
    cluster.create("born", job_id, terminate={"reason": REASON})
    cluster.wait_for("born", BY_REQUEST, timeout=SOON)
    calls = [call["operation"] for call in world.batch.calls() if job_id in call["job_ids"]]
    assert calls[:2] == ["DescribeJobs", "TerminateJob"]
    assert reasons_sent(world, job_id) == [REASON]


def test_two_objects_on_one_job_share_one_call_and_both_converge(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(grace=0.8)
    for name in ("a", "b"):
        cluster.create(name, job_id)
        cluster.wait_for(name, phase("Running"), timeout=SOON)
    for name in ("a", "b"):
        cluster.terminate(name, REASON)
    for name in ("a", "b"):
        cluster.wait_for(name, BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, job_id) == [REASON]


def test_three_hundred_objects_at_once_are_all_terminated_once(world: World, cluster: Cluster) -> None:
    ids = world.batch.seed_many(300)
    for number, job_id in enumerate(ids):
        cluster.create(f"job-{number}", job_id, terminate={"reason": REASON})
    for number in range(len(ids)):
        cluster.wait_for(f"job-{number}", BY_REQUEST, timeout=30)
    requests = world.batch.terminate_requests()
    assert sorted(one["job_id"] for one in requests) == sorted(ids)
    assert {one["reason"] for one in requests} == {REASON}
