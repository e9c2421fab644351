"""spec.deadline with real processes: jobs that started a while ago, so that a limit falls due within seconds."""

import time

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.world import World
from integration.scenario import SOON, accepted, claim, has_events, phase, reasons_sent, says

LIMIT = "over its budget"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")


def ago(seconds: float) -> int:
    return int((time.time() - seconds) * 1000)


def test_the_first_limit_of_two_objects_ends_the_job_once_and_one_that_waits_keeps_what_aws_said_about_it(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    started_at = ago(50)
    job_id = world.batch.seed(started_at=started_at)
    blocked = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - the queue has no such instance"
    waiting = world.batch.seed(status="RUNNABLE", created_at=started_at, status_reason=blocked)
    cluster.create("waiting", waiting, deadline={"reason": LIMIT, "waiting": "1m"})
    for name, running in (("first", "60s"), ("second", "8h")):
        cluster.create(name, job_id, deadline={"reason": f"{LIMIT} ({name})", "running": running})
    shown = cluster.wait_for("first", lambda status: "deadline" in status, timeout=SOON)["status"]["deadline"]
    assert shown["limit"] == "Running"
    assert shown["time"] in cluster.kubectl("get", "bj", "first", "-o", "jsonpath={.status.deadline.time}")
    status = cluster.wait_for("first", BY_REQUEST, timeout=10 + SOON)["status"]
    assert (status["termination"]["cause"], "deadline" in status) == ("Deadline", False)
    (request,) = (one for one in world.batch.terminate_requests() if one["job_id"] == job_id)
    assert request["reason"] == f"{LIMIT} (first)"
    assert request["at"] * 1000 >= started_at + 60_000
    other = cluster.wait_for("second", phase("Terminated"), timeout=SOON)["status"]
    assert "termination" not in other
    assert claim(other, "Succeeded") == ("False", "JobTerminated")
    assert has_events(cluster, "first", "TerminationAccepted", "Terminated")
    lines = [line for line in operator.logs() if line["message"] == "termination accepted" and line["jobId"] == job_id]
    assert [line["cause"] for line in lines] == ["Deadline"]
    # Both fell due at the same time.
    status = cluster.wait_for("waiting", accepted, timeout=SOON)["status"]
    assert status["termination"]["statusReasonBefore"] == blocked
    assert reasons_sent(world, waiting) == [LIMIT]
    assert operator.running


def test_an_operator_that_was_away_when_the_limit_passed_gives_no_second_notice(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    started_at = ago(50)
    job_id = world.batch.seed(started_at=started_at)
    cluster.create("job", job_id, deadline={"reason": LIMIT, "running": "60s"})
    cluster.wait_for("job", lambda status: "deadline" in status, timeout=SOON)
    operator.kill9()
    time.sleep(max(started_at / 1000 + 61 - time.time(), 0))
    assert reasons_sent(world, job_id) == []
    operator.start()
    cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, job_id) == [LIMIT]


def test_an_overdue_job_gets_its_notice_in_which_the_deadline_can_be_raised(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    overdue = world.batch.seed(started_at=ago(3_600))
    cluster.create("job", overdue, deadline={"reason": LIMIT, "running": "10m"})
    assert has_events(cluster, "job", "DeadlineSoon")
    cluster.patch("job", {"spec": {"deadline": {"running": "8h"}}})
    shown = cluster.wait_for("job", lambda status: status["observedGeneration"] == 2, timeout=SOON)["status"]
    assert shown["deadline"]["limit"] == "Running"
    assert (shown["phase"], claim(shown, "Ready")) == ("Running", ("True", "Observed"))
    assert operator.running
