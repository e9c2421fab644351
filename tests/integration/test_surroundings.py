"""Tests the start, the endpoints and the log of the operator."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import OperatorProcess, operator_environment
from awsbatch_sandbox.processes import free_port, wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, phase, says

BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")
METRICS = (
    *("jobs", "aws_requests_total", "aws_request_duration_seconds_count", "describe_batch_size_count"),
    *(
        "terminate_batch_size_count",
        "termination_acceptance_duration_seconds_count",
        "termination_completion_duration_seconds_count",
    ),
    *("terminations_in_progress", "status_writes_total", "last_successful_poll_timestamp_seconds", "leader"),
    *("queue_depth", "event_loop_lag_seconds_count"),
)


def run(world: World, *flags: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """`awsbatch-operator run` to its own end; a variable that is None is unset."""
    environment = operator_environment(world.control_plane.kubeconfig, world.cache, world.batch.url)
    environment |= {name: value for name, value in variables.items() if value is not None}
    for name in [name for name, value in variables.items() if value is None]:
        environment.pop(name, None)
    argv = [sys.executable, "-m", "awsbatch_operator", "run", f"--http-address=127.0.0.1:{free_port()}", *flags]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)


def one_line(reported: subprocess.CompletedProcess[str]) -> str:
    """What it said, as a person reads it; log lines are JSON."""
    lines = [line for line in (reported.stdout + reported.stderr).splitlines() if not line.startswith("{")]
    assert len(lines) == 1, reported
    return lines[0]


def test_wrong_flags_and_variables_are_reported_together_with_exit_2(world: World) -> None:
    reported = run(world, "--poll-running=soon", "--describe-rate=-1", AWSBATCH_OPERATOR_LOG_LEVEL="loud")
    assert reported.returncode == 2
    for name in ("--poll-running", "--describe-rate", "AWSBATCH_OPERATOR_LOG_LEVEL"):
        assert name in reported.stderr
    assert "Traceback" not in reported.stderr


def test_a_missing_region_and_kubeconfig_are_reported_together_with_exit_2(world: World, tmp_path: Path) -> None:
    missing = str(tmp_path / "absent")
    reported = run(world, AWS_REGION=None, AWS_DEFAULT_REGION=None, KUBECONFIG=missing)
    assert reported.returncode == 2
    for fault in ("--region / AWSBATCH_OPERATOR_REGION: no AWS region", f"KUBECONFIG = {missing}: no such file"):
        assert fault in reported.stderr


def test_an_unreachable_cluster_is_one_line_with_exit_1(world: World, tmp_path: Path) -> None:
    kubeconfig = yaml.safe_load(world.control_plane.kubeconfig.read_text("utf-8"))
    nobody = f"http://127.0.0.1:{free_port()}"
    kubeconfig["clusters"][0]["cluster"] = {"server": nobody}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig), "utf-8")
    reported = run(world, KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert reported.returncode == 1
    assert nobody.removeprefix("http://") in one_line(reported)


def test_a_port_in_use_is_one_line_with_exit_1(world: World, operator: OperatorProcess) -> None:
    reported = run(world, f"--http-address={operator.address}")
    assert reported.returncode == 1
    assert "--http-address" in one_line(reported)


@pytest.fixture
def held_lease(cluster: Cluster) -> Iterator[str]:
    """An operator elsewhere holds a Lease in the test's namespace; yields that."""
    metadata = {"name": "release-a", "labels": {"app.kubernetes.io/name": "awsbatch-operator"}}
    spec = {"holderIdentity": "pod-7_ab12", "leaseDurationSeconds": 15, "renewTime": "2199-01-01T00:00:00.000000Z"}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(lease))
    yield cluster.namespace
    cluster.kubectl("delete", "lease", "release-a")


def test_beside_an_operator_that_holds_a_lease_it_exits_2_and_names_the_holder(world: World, held_lease: str) -> None:
    reported = run(world)
    assert reported.returncode == 2
    said = one_line(reported)
    assert f"pod-7_ab12 holds the Lease {held_lease}/release-a" in said
    assert f"--leader-elect --lease-namespace={held_lease} --lease-name=release-a" in said
    assert "--no-leader-elect" in said


@pytest.mark.parametrize("given", [("--no-leader-elect",), ("--leader-elect", "--lease-namespace=default")])
def test_it_starts_beside_another_operator_with_leader_election(
    world: World, operator: OperatorProcess, held_lease: str, given: tuple[str, ...]
) -> None:
    # The HTTP port comes after the check: that it is in use ends the process.
    reported = run(world, f"--http-address={operator.address}", *given)
    assert (reported.returncode, "--http-address" in one_line(reported)) == (1, True)


def test_probes_and_metrics_answer(world: World, cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.create("job", world.batch.seed(), terminate={"reason": "measured"})
    cluster.create("other", world.batch.seed())
    cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    cluster.wait_for("other", phase("Running"), timeout=SOON)
    assert operator.get("/livez")[0] == 200
    assert operator.get("/readyz")[0] == 200
    metrics = operator.metrics()
    assert [name for name in METRICS if f"awsbatch_operator_{name}" not in metrics] == []
    jobs = {(labels["namespace"], labels["phase"]): n for labels, n in metrics["awsbatch_operator_jobs"]}
    assert jobs[cluster.namespace, "Terminated"] == 1
    assert jobs[cluster.namespace, "Running"] == 1
    calls = metrics["awsbatch_operator_aws_requests_total"]
    assert sum(n for labels, n in calls if labels["operation"] == "TerminateJob" and labels["code"] == "OK") >= 1


def test_every_log_line_is_json_and_those_of_a_termination_name_object_job_and_region(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    job_id = world.batch.seed()
    cluster.create("job", job_id, terminate={"reason": "logged"})
    uid = cluster.wait_for("job", BY_REQUEST, timeout=SOON)["metadata"]["uid"]

    def of_object() -> list[dict[str, Any]]:
        return [line for line in operator.logs() if line.get("object", {}).get("uid") == uid]

    # Both come after the write of the status that they report.
    wait_for(lambda: len(of_object()) >= 2, timeout=SOON, what="two lines about the object")
    assert {line["object"]["name"] for line in of_object()} == {"job"}
    lines = operator.logs()
    assert all({"timestamp", "level", "logger", "message"} <= set(line) for line in lines)
    of_call = [line for line in lines if line.get("jobId") == job_id and "accepted" in line["message"]]
    assert {line["region"] for line in of_call} == {"eu-west-1"}


def test_secrets_of_a_job_appear_nowhere(world: World, cluster: Cluster, operator: OperatorProcess) -> None:
    secret = "hunter2-of-the-job"
    job_id = world.batch.seed(
        command=["sh", "-c", secret],
        environment={"TOKEN": secret, secret: "x"},
        parameters={"password": secret},
        secrets={"DB": f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{secret}"},
        tags={"note": secret},
    )
    cluster.create("job", job_id, terminate={"reason": "quiet"})
    body = cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    published: list[Any] = [body, cluster.events("job"), operator.get("/metrics"), operator.output()]
    assert secret not in json.dumps(published)
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", "no such key") not in operator.output()
