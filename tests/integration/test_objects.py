"""Objects as others leave them: foreign statuses, schemas of the future."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster, KubectlError, batch_job
from awsbatch_sandbox.controlplane import crd_file
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World, establish
from integration.scenario import SOON, phase, reasons_sent, says, terminations_tried

pytestmark = pytest.mark.usefixtures("operator")

BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")


FOREIGN: dict[str, dict[str, Any] | None] = {
    "another-reason": {"phase": "Succeeded", "jobStatus": "SUCCEEDED", "isTerminated": True},
    "no-such-request": {"termination": {"reason": "not mine", "acceptedAt": "2026-01-01T00:00:00Z", "requests": 7}},
    "without-conditions": {"conditions": [], "jobName": None, "phase": None},
    "nothing-at-all": None,
}


def test_a_status_that_another_writer_changed_is_repaired(world: World, cluster: Cluster) -> None:
    for name in FOREIGN:
        cluster.create(name, world.batch.seed())
    for name, foreign_status in FOREIGN.items():
        reported = cluster.wait_for(name, phase("Running"), timeout=SOON)["status"]
        patch = json.dumps({"status": foreign_status})
        cluster.kubectl("patch", "batchjob", name, "--subresource=status", "--type=merge", "-p", patch)
        cluster.wait_for(name, reported.__eq__, timeout=SOON, what=f"the status of {name} is as it was")
    assert terminations_tried(world) == []


def test_a_forged_final_status_does_not_prevent_a_termination(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed()
    cluster.create("job", job_id)
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    patch = json.dumps({"status": {"phase": "Terminated", "jobStatus": "FAILED", "isTerminated": True}})
    cluster.kubectl("patch", "batchjob", "job", "--subresource=status", "--type=merge", "-p", patch)
    cluster.terminate("job", "in spite of it")
    cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, job_id) == ["in spite of it"]


def test_fields_of_other_managers_stay_unchanged(world: World, cluster: Cluster) -> None:
    body = batch_job("owned", world.batch.seed(), terminate={"reason": "applied"})
    body["metadata"] |= {"labels": {"team": "a"}, "annotations": {"example.com/note": "keep"}}
    cluster.kubectl("apply", "--filename=-", stdin=json.dumps(body))
    metadata = cluster.wait_for("owned", BY_REQUEST, timeout=SOON)["metadata"]
    assert metadata["labels"] == {"team": "a"}
    assert metadata.pop("annotations")["example.com/note"] == "keep"
    assert "unchanged" in cluster.kubectl("apply", "--filename=-", stdin=json.dumps(body))
    cluster.kubectl("annotate", "batchjob", "owned", "example.com/note-")


@pytest.fixture
def future_schema(cluster: Cluster, operator: OperatorProcess) -> Iterator[None]:
    """The CRD as a later version may have it, and an operator that watches through it.

    A watch that is older than the schema goes on to show objects in the old one, for minutes.
    """
    definition = yaml.safe_load(crd_file().read_text("utf-8"))
    relaxed = copy.deepcopy(definition)
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    relaxed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = anything
    relaxed["spec"]["versions"][0].pop("selectableFields")
    cluster.kubectl("apply", "--filename=-", stdin=json.dumps(relaxed))
    wait_for(lambda: _takes_anything(cluster), timeout=SOON, what="the relaxed schema is in force", every=0.1)
    operator.stop()
    operator.start()
    yield
    cluster.delete_all()
    wait_for(lambda: not cluster.objects(), timeout=SOON, what="the odd objects are gone")
    establish(cluster)
    wait_for(lambda: not _takes_anything(cluster), timeout=SOON, what="the schema is in force again", every=0.1)


def _takes_anything(cluster: Cluster) -> bool:
    body = {**batch_job("probe", ""), "spec": {"anything": 1}}
    try:
        cluster.kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(body))
    except KubectlError:
        return False
    return True


@pytest.mark.usefixtures("future_schema")
def test_an_object_of_a_future_schema_does_not_stop_the_operator(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    first, second, other = world.batch.seed(), world.batch.seed(), world.batch.seed()
    future = {
        "several": {"jobIds": ["a", "b"], "terminate": {"reason": "all of them"}},
        "another-shape": {"jobId": {"arn": "x"}, "terminate": ["now"]},
        "elsewhere": {"jobId": first, "account": "210987654321", "terminate": {"reason": "there"}},
        "later": {"jobId": second, "terminate": {"reason": "later", "after": "1h"}},
    }
    for name, spec in future.items():
        body = {**batch_job(name, ""), "spec": spec}
        cluster.kubectl("create", "--filename=-", stdin=json.dumps(body))
    cluster.create("plain", other, terminate={"reason": "plain"})
    cluster.wait_for("plain", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, other) == ["plain"]
    # To act on the part that is understood could be to act too soon, or on the wrong job.
    assert [call["job_ids"] for call in terminations_tried(world)] == [[other]]
    assert [name for name in future if cluster.get(name)["status"] != {"observedGeneration": 0}] == []
    assert operator.running
    complaints = [line for line in operator.logs() if line["level"] == "error" and "spec" in line["message"]]
    assert {line["object"]["name"] for line in complaints} >= set(future)
