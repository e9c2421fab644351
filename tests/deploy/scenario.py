"""A scenario with every call that the operator makes to Kubernetes, with objects of some namespaces."""

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from awsbatch_operator.api.names import API_VERSION, POLICY_KIND
from awsbatch_sandbox.cluster import Cluster, batch_job
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from deploy.charts import NAME
from deploy.places import bulk_termination
from integration.scenario import SOON, has_events, phase, reasons_sent, says

REASON: Final = "INC-4711: runaway cost"


def run(
    world: World,
    operator: OperatorProcess,
    clusters: Sequence[Cluster],
    *,
    with_policies: bool = True,
    with_finalizers: bool = True,
    with_on_delete: bool = False,
) -> None:
    """Run the operator twice: the second process finds the Lease and an Event of the first one."""
    for cluster in clusters:
        cluster.create("job", world.batch.seed())
        cluster.create("done", world.batch.seed(status="SUCCEEDED"))
        cluster.kubectl("create", "--filename=-", stdin=json.dumps(bulk_termination("bulk")))
    operator.start()
    wait_for(lambda: _holder(world), timeout=SOON, what="the Lease is held")
    for cluster in clusters:
        cluster.wait_for("job", phase("Running"), timeout=SOON)
        cluster.terminate("job", REASON)
    for cluster in clusters:
        cluster.wait_for("job", says("Terminated", "True", "TerminatedByRequest"), timeout=SOON)
        cluster.wait_for("done", phase("Succeeded"), timeout=SOON)
        assert has_events(cluster, "job", "TerminationAccepted", "Terminated")
        # No policy allows it.
        cluster.kubectl("wait", "bt/bulk", "--for=jsonpath={.status.phase}=Refused", f"--timeout={SOON}s")
        _provoke_a_conflict(world, operator, cluster)
    for cluster in clusters if with_finalizers else ():
        _delete_with_finalizer(world, cluster, on_delete=with_on_delete)
    assert operator.stop() == 0
    assert not _holder(world)
    for cluster in clusters:
        cluster.kubectl("patch", "batchjob", "done", "--subresource=status", "--type=merge", '--patch={"status":null}')
    operator.start()
    wait_for(lambda: all(map(_event_counted_up, clusters)), timeout=SOON, what="the Event is counted up")
    if with_policies:
        with policy(clusters) as name:
            world.cluster.kubectl("wait", "bap", name, "--for=condition=Ready", f"--timeout={SOON}s")
    assert operator.stop() == 0


def _delete_with_finalizer(world: World, cluster: Cluster, *, on_delete: bool) -> None:
    """Delete an object whose manifest has the operator's finalizer: the operator releases it."""
    job_id = world.batch.seed()
    body = batch_job("held", job_id, **({"onDelete": {"terminate": {"reason": REASON}}} if on_delete else {}))
    body["metadata"]["finalizers"] = ["awsbatch.dev/terminate-on-delete"]
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(body))
    cluster.wait_for("held", phase("Running"), timeout=SOON)
    cluster.kubectl("delete", "batchjob", "held", f"--timeout={SOON}s")
    assert reasons_sent(world, job_id) == ([REASON] if on_delete else [])


def _holder(world: World) -> str:
    """Holder of the Lease; empty if there is no Lease yet."""
    where = ("leases", f"--namespace={NAME}", f"--field-selector=metadata.name={NAME}")
    return world.cluster.kubectl("get", *where, "-o=jsonpath={.items[*].spec.holderIdentity}")


def _provoke_a_conflict(world: World, operator: OperatorProcess, cluster: Cluster) -> None:
    """Write to objects at the same time as the operator, until it had to read one again."""
    before = _conflicts(operator)
    for number in range(20):
        cluster.create(f"contended-{number}", world.batch.seed())
        # Until after the first status write, which waits for the first poll.
        for note in range(300):
            body = cluster.patch(f"contended-{number}", {"metadata": {"annotations": {"example.com/note": str(note)}}})
            if note % 10 == 9 and (_conflicts(operator) > before or (body.get("status") or {}).get("phase")):
                break
        if _conflicts(operator) > before:
            return
    raise AssertionError("no write of the operator conflicted with one of ours")


@contextmanager
def policy(clusters: Sequence[Cluster]) -> Iterator[str]:
    """A policy exists that selects these namespaces and admits every job; yields its name."""
    names = [cluster.namespace for cluster in clusters]
    name, kubectl = f"policy-{secrets.token_hex(2)}", clusters[0].kubectl
    selector = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": names}
    body = {
        "apiVersion": API_VERSION,
        "kind": POLICY_KIND,
        "metadata": {"name": name},
        "spec": {"namespaceSelector": {"matchExpressions": [selector]}, "jobs": {"queues": ["*"]}},
    }
    kubectl("create", "--filename=-", stdin=json.dumps(body))
    try:
        yield name
    finally:
        kubectl("delete", "bap", name, "--ignore-not-found")


def _conflicts(operator: OperatorProcess) -> float:
    writes = operator.metrics().get("awsbatch_operator_status_writes_total", [])
    return sum(count for labels, count in writes if labels["result"] == "conflict")


def _event_counted_up(cluster: Cluster) -> bool:
    """The one Event was counted up."""
    [event] = cluster.events("done")
    assert event["reason"] == "JobSucceeded"
    return (event.get("series") or {}).get("count") == 2
