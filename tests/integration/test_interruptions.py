"""The operator dies, is asked to stop, or loses the API server: a stated termination is neither lost nor doubled."""

import time

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, accepted, phase, reasons_sent, says, terminations_tried

REASON = "INC-4711: runaway cost"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")


@pytest.fixture(autouse=True)
def _outages_are_possible(request: pytest.FixtureRequest, world: World) -> None:
    if "away" in request.node.name and not world.control_plane.can_go_away:
        pytest.skip("this control plane belongs to others")


@pytest.mark.parametrize("grace", [0.0, 3.5], ids=["ended meanwhile", "still alive"])
def test_killed_while_the_api_server_is_away_between_call_and_status_write(
    world: World, cluster: Cluster, operator: OperatorProcess, grace: float
) -> None:
    job_id = world.batch.seed(grace=grace)
    cluster.create("job", job_id)
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    world.batch.fault("TerminateJob", kind="slow", seconds=0.6)
    cluster.terminate("job", REASON)
    wait_for(lambda: terminations_tried(world), timeout=SOON, what="the call is under way")
    with world.api_server_away(1.0):
        wait_for(lambda: reasons_sent(world, job_id), timeout=SOON, what="Batch accepts")
        operator.kill9()
    assert not accepted(cluster.get("job")["status"])
    operator.start()
    status = cluster.wait_for("job", BY_REQUEST, timeout=SOON)["status"]
    assert status["statusReason"] == REASON
    assert reasons_sent(world, job_id) == [REASON]
    assert len(terminations_tried(world)) == 1


def test_killed_after_the_status_write_it_follows_the_job_to_its_end(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    job_id = world.batch.seed(grace=2.0)
    cluster.create("job", job_id, terminate={"reason": REASON})
    reported = cluster.wait_for("job", accepted, timeout=SOON)["status"]["termination"]
    operator.kill9()
    operator.start()
    termination = cluster.wait_for("job", BY_REQUEST, timeout=SOON)["status"]["termination"]
    assert {key: termination[key] for key in reported} == reported
    assert reasons_sent(world, job_id) == [REASON]


def test_a_termination_stated_while_no_operator_runs_is_not_lost(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    job_id = world.batch.seed()
    cluster.create("job", job_id)
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    operator.kill9()
    cluster.terminate("job", REASON)
    operator.start()
    cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, job_id) == [REASON]


def test_a_termination_completes_although_the_api_server_is_unavailable_for_20_seconds(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    requested, moved = world.batch.seed(grace=3.0), world.batch.seed(status="RUNNABLE")
    cluster.create("asked", requested)
    cluster.create("moved", moved)
    cluster.wait_for("moved", phase("Pending"), timeout=SOON)
    cluster.wait_for("asked", phase("Running"), timeout=SOON)
    world.batch.fault("TerminateJob", kind="slow", seconds=1.0)
    cluster.terminate("asked", REASON)
    wait_for(lambda: terminations_tried(world), timeout=SOON, what="the call is under way")
    pid = operator.pid
    with world.api_server_away(20.0):
        world.batch.move(moved, "RUNNING")
        wait_for(lambda: world.batch.job(requested)["status"] == "FAILED", timeout=SOON, what="the job ends meanwhile")
    cluster.wait_for("asked", BY_REQUEST, timeout=SOON)
    cluster.wait_for("moved", phase("Running"), timeout=SOON)
    cluster.terminate("moved", "after the outage")
    cluster.wait_for("moved", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, requested) == [REASON]
    assert reasons_sent(world, moved) == ["after the outage"]
    assert operator.pid == pid
    assert operator.running


def test_sigterm_finishes_the_call_in_flight_and_its_write_and_exits_0_within_10_s(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    job_id = world.batch.seed(grace=30.0)
    cluster.create("job", job_id)
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    world.batch.fault("TerminateJob", kind="slow", seconds=2.0)
    cluster.terminate("job", REASON)
    wait_for(lambda: terminations_tried(world), timeout=SOON, what="the call is under way")
    began = time.monotonic()
    assert operator.stop() == 0
    assert time.monotonic() - began < 10
    assert accepted(cluster.get("job")["status"])
    assert reasons_sent(world, job_id) == [REASON]


def test_sigterm_ends_it_within_10_s_although_nothing_answers(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    world.batch.fault("DescribeJobs", kind="slow", seconds=30, times=None)
    polls = len(world.batch.calls("DescribeJobs"))
    cluster.create("job", world.batch.seed())
    wait_for(lambda: len(world.batch.calls("DescribeJobs")) > polls, timeout=SOON, what="a poll that hangs")
    began = time.monotonic()
    assert operator.stop() == 0
    assert time.monotonic() - began < 10
