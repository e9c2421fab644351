"""What the operator says and does when Kubernetes forbids something, on a real control plane."""

import json
import re
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster, KubectlError
from awsbatch_sandbox.operator_process import OperatorProcess, operator_environment
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import establish
from deploy.charts import NAME, objects, of_kind
from deploy.places import bulk_termination
from deploy.record import AuditLog
from deploy.scenario import REASON, policy
from deploy.stage import QUICK, RealStage, flags, namespaces
from integration.scenario import SOON, accepted, phase, reasons_sent, says

pytestmark = pytest.mark.real

RIGHTS = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
CLUSTERS_OWN = ("batchaccesspolicies", "namespaces")
BULK = "batchterminations"
STATUS_RETRY = 45
"""Seconds after which a refused status write is tried again at the latest, and some."""
LONGEST_STALE = 11
"""Seconds after which what was known of policies is not acted on any more, and one."""
EVENTS = (("create", "events"), ("get", "events"), ("patch", "events"))


class Account:
    """A service account of its own, with the rights of the chart in these namespaces, all but some."""

    def __init__(self, stage: RealStage, *namespaces: Cluster, lacks: Sequence[tuple[str, str]] = ()) -> None:
        self.name, self._cluster = f"op-{secrets.token_hex(3)}", stage.world.cluster
        watched = [cluster.namespace for cluster in namespaces]
        values = {**QUICK, "fullnameOverride": self.name, "watchNamespaces": watched}
        release = objects({**values, "userRoles": {"create": False}})
        self.flags = flags(release)
        self.rights = [_without(body, lacks) for body in of_kind(release, *RIGHTS)]
        self._apply(*of_kind(release, "ServiceAccount"), *self.rights)
        self.kubeconfig: Path = stage.kubeconfig_of(self.name)
        self.record = AuditLog(stage.audit_log, f"system:serviceaccount:{NAME}:{self.name}")

    def restore(self) -> None:
        self._apply(*self.rights)

    def lose(self, binding: str, namespace: str) -> None:
        self._cluster.kubectl("delete", "rolebinding", binding, f"--namespace={namespace}")

    def lose_policies(self) -> None:
        self._cluster.kubectl("delete", "clusterrolebinding", f"{self.name}-{NAME}")

    def _apply(self, *objects: dict[str, Any]) -> None:
        self._cluster.kubectl("apply", "--namespace=", "--filename=-", stdin=yaml.safe_dump_all(objects))


def _without(body: dict[str, Any], lacks: Sequence[tuple[str, str]]) -> dict[str, Any]:
    if "rules" not in body:
        return body
    rules = [
        rule | {"resources": [resource], "verbs": verbs}
        for rule in body["rules"]
        for resource in rule["resources"]
        if (verbs := [verb for verb in rule["verbs"] if (verb, resource) not in lacks])
    ]
    return body | {"rules": rules}


@pytest.fixture
def cluster(real: RealStage) -> Iterator[Cluster]:
    establish(real.world.cluster)
    home = real.world.cluster.within(NAME)
    if f"namespace/{NAME}" not in home.kubectl("get", "namespaces", "-o", "name").split():
        home.create_namespace()
    home.close()
    with namespaces(real.world.cluster, "team") as (cluster,):
        yield cluster


def running(real: RealStage, account: Account) -> AbstractContextManager[OperatorProcess]:
    return real.running(account.kubeconfig, account.flags)


def complaints(operator: OperatorProcess) -> list[dict[str, Any]]:
    return [line for line in operator.logs() if line["level"] in ("warning", "error")]


def refusals(account: Account) -> Counter[str]:
    """Return the number of forbidden requests by verb and resource."""
    return Counter(f"{call.verb} {call.resource}" for call, code in account.record.requests() if code == 403)


@pytest.mark.parametrize(
    "lacks",
    [
        *(("list", "batchjobs"), ("watch", "batchjobs"), ("get", "batchjobs"), ("patch", "batchjobs/status")),
        *(("get", "leases"), ("create", "leases"), ("update", "leases")),
        *((verb, resource) for resource in CLUSTERS_OWN for verb in ("list", "watch")),
    ],
    ids=" ".join,
)
def test_without_it_the_start_fails_with_one_line_that_names_the_permission(
    real: RealStage, cluster: Cluster, lacks: tuple[str, str]
) -> None:
    account = Account(real, cluster, lacks=[lacks])
    with real.process(account.kubeconfig, account.flags) as operator:
        operator.launch()
        wait_for(lambda: operator.exit_code is not None, timeout=SOON, what="it ends")
        assert operator.exit_code == 1
        [line] = [line for line in operator.output().splitlines() if not line.startswith("{")]
    verb, resource = lacks
    assert f"{verb} {resource}" in line or f'{verb} resource "{resource}"' in line
    assert "grant" in line
    assert f"by a {'ClusterRole' if resource in CLUSTERS_OWN else 'Role'} " in line


def test_a_forbidden_policy_status_affects_nothing_else(real: RealStage, cluster: Cluster) -> None:
    account = Account(real, cluster, lacks=[("patch", "batchaccesspolicies/status")])
    cluster.create("train", real.world.batch.seed(), terminate={"reason": REASON})
    with running(real, account) as operator:
        cluster.wait_for("train", says("Terminated", "True", "TerminatedByRequest"), timeout=SOON)
        [line] = complaints(operator)
    assert line["message"] == "cannot write the status of access policies (RBAC); everything else keeps working"
    assert "patch batchaccesspolicies/status" in line["error"]
    assert "by a ClusterRole" in line["error"]


@pytest.mark.parametrize("lacks", [("list", BULK), ("watch", BULK), ("patch", f"{BULK}/status")], ids=" ".join)
def test_without_it_batch_terminations_are_ignored_and_nothing_else(
    real: RealStage, cluster: Cluster, lacks: tuple[str, str]
) -> None:
    account = Account(real, cluster, lacks=[lacks])
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(bulk_termination("bulk")))
    cluster.create("train", real.world.batch.seed(), terminate={"reason": REASON})
    with running(real, account) as operator:
        cluster.wait_for("train", says("Terminated", "True", "TerminatedByRequest"), timeout=SOON)
        [line] = complaints(operator)
    assert line["message"] == "BatchTerminations are ignored (RBAC); everything else keeps working"
    assert " ".join(lacks) in line["error"]
    assert f"namespace {cluster.namespace}: grant it by a Role" in line["error"]
    assert refusals(account) == {}
    bulk = json.loads(cluster.kubectl("get", "bt", "bulk", "-o", "json"))
    assert bulk["status"] == {"observedGeneration": 0}


def test_without_permission_to_read_policies_no_job_is_terminated(real: RealStage, cluster: Cluster) -> None:
    """Without these permissions the operator does not know what policies forbid."""
    account = Account(real, cluster)
    job_id = real.world.batch.seed()
    cluster.create("train", job_id)
    with policy([cluster]), running(real, account) as operator:
        cluster.wait_for("train", phase("Running"), timeout=SOON)
        account.lose_policies()
        # What is granted is asked at the begin of a watch: so it has to begin anew.
        with real.plane.away(0):
            pass
        wait_for(lambda: _stale(operator), timeout=SOON, what="it reports that policies can't be read")
        time.sleep(LONGEST_STALE)
        cluster.terminate("train", REASON)
        time.sleep(2)
        assert reasons_sent(real.world, job_id) == []
        assert sum(refusals(account).values()) < 40
        account.restore()
        cluster.wait_for("train", says("Terminated", "True", "TerminatedByRequest"), timeout=SOON)
    assert reasons_sent(real.world, job_id) == [REASON]


def _stale(operator: OperatorProcess) -> bool:
    return any("batchaccesspolicies" in str(line) for line in complaints(operator))


def test_forbidden_events_affect_nothing_else(real: RealStage, cluster: Cluster) -> None:
    account = Account(real, cluster, lacks=EVENTS)
    names = [f"job-{number}" for number in range(5)]
    for name in names:
        cluster.create(name, real.world.batch.seed(), terminate={"reason": REASON})
    with running(real, account) as operator:
        for name in names:
            cluster.wait_for(name, says("Terminated", "True", "TerminatedByRequest"), timeout=SOON)
        first, second = complaints(operator)
    assert "create events, get events, patch events" in first["error"]
    assert "grant" in first["error"]
    assert second["message"] == "cannot create Event"
    assert "grant create, get and patch on events" in second["remedy"]


def test_permissions_lost_in_a_namespace_lose_no_termination_and_affect_no_other(
    real: RealStage, cluster: Cluster
) -> None:
    other = real.world.cluster
    account = Account(real, cluster, other)
    job_id = real.world.batch.seed()
    cluster.create("train", job_id)
    with running(real, account) as operator:
        cluster.wait_for("train", phase("Running"), timeout=SOON)
        account.lose(account.name, cluster.namespace)
        wait_for(lambda: not _may_patch(cluster, account), timeout=SOON, what="the binding is deleted")
        cluster.terminate("train", REASON)
        wait_for(lambda: reasons_sent(real.world, job_id), timeout=SOON, what="TerminateJob arrives")
        other.create(account.name, real.world.batch.seed(), terminate={"reason": REASON})
        other.wait_for(account.name, says("Terminated", "True", "TerminatedByRequest"), timeout=SOON)
        other.delete(account.name)
        assert sum(refusals(account).values()) < 10
        assert not accepted(cluster.get("train")["status"])
        account.restore()
        cluster.wait_for("train", says("Terminated", "True", "TerminatedByRequest"), timeout=STATUS_RETRY)
        assert reasons_sent(real.world, job_id) == [REASON]
        [line] = [line for line in complaints(operator) if line["message"] == "status update failed; retrying"]
    assert 'cannot patch resource "batchjobs/status"' in line["error"]


def test_a_denied_status_of_one_object_delays_no_other(real: RealStage, cluster: Cluster) -> None:
    account = Account(real, cluster)
    with _denying_statuses(cluster, "held"), running(real, account) as operator:
        cluster.create("held", real.world.batch.seed())
        cluster.create("free", real.world.batch.seed())
        cluster.wait_for("free", phase("Running"), timeout=SOON)
        wait_for(lambda: complaints(operator), timeout=SOON, what="a warning in the log")
        cluster.kubectl("delete", "validatingadmissionpolicybinding", cluster.namespace)
        cluster.wait_for("held", phase("Running"), timeout=STATUS_RETRY)
        [line] = complaints(operator)
    assert line["message"] == "status update failed; retrying"
    assert "denied request" in line["error"]


@contextmanager
def _denying_statuses(cluster: Cluster, name: str) -> Iterator[None]:
    """A policy is in force that takes no status of that object."""
    where, kind = {"name": cluster.namespace}, "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": ["awsbatch.dev"], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["*/status"]}
    of_it = f"object.metadata.namespace == '{cluster.namespace}' && object.metadata.name == '{name}'"
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [{"name": "it", "expression": of_it}],
        "validations": [{"expression": "false", "message": "no status here"}],
    }
    binding = {"policyName": cluster.namespace, "validationActions": ["Deny"]}
    policy = {"apiVersion": kind, "kind": "ValidatingAdmissionPolicy", "metadata": where, "spec": spec}
    bound = {"apiVersion": kind, "kind": "ValidatingAdmissionPolicyBinding", "metadata": where, "spec": binding}
    cluster.kubectl("apply", "--namespace=", "--filename=-", stdin=yaml.safe_dump_all([policy, bound]))
    cluster.create(name, "no-such-job")
    write = (
        "patch",
        "batchjob",
        name,
        "--subresource=status",
        "--type=merge",
        '--patch={"status":{"phase":"Running"}}',
    )
    wait_for(lambda: _refused(cluster, *write, "--dry-run=server"), timeout=SOON, what="the policy is in force")
    cluster.delete(name)
    yield
    for made in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        cluster.kubectl("delete", made, cluster.namespace, "--ignore-not-found")


def _refused(cluster: Cluster, *command: str) -> bool:
    try:
        cluster.kubectl(*command)
    except KubectlError:
        return True
    return False


def _may_patch(cluster: Cluster, account: Account) -> bool:
    requested = ("auth", "can-i", "patch", "batchjobs", "--subresource=status")
    return not _refused(cluster, *requested, f"--as=system:serviceaccount:{NAME}:{account.name}")


def test_a_forbidden_watch_is_no_hot_loop_and_continues_when_allowed(real: RealStage, cluster: Cluster) -> None:
    account = Account(real, cluster)
    with running(real, account) as operator:
        account.lose(account.name, cluster.namespace)
        # What is granted is asked at the begin of a watch: so it has to begin anew.
        with real.plane.away(0):
            pass
        account.record.clear()
        wait_for(lambda: _denied(operator), timeout=SOON, what="it reports that the watch is refused")
        time.sleep(5)
        assert sum(refusals(account).values()) < 10
        account.restore()
        cluster.create("late", real.world.batch.seed(), terminate={"reason": REASON})
        cluster.wait_for("late", says("Terminated", "True", "TerminatedByRequest"), timeout=SOON)


def _denied(operator: OperatorProcess) -> bool:
    # A watch that found no API server lists first; one that has just begun to serve may refuse in other words as well.
    refusal = re.compile(r'cannot (watch|list) resource "batchjobs" in API group "awsbatch.dev"')
    return any(refusal.search(line["message"]) for line in complaints(operator))


def test_without_permission_to_renew_the_lease_a_replica_stops_acting(real: RealStage, cluster: Cluster) -> None:
    account = Account(real, cluster)
    job_id = real.world.batch.seed()
    with running(real, account) as operator:
        wait_for(lambda: _is_leader(operator), timeout=SOON, what="it leads")
        account.lose(f"{account.name}-lease", NAME)
        wait_for(lambda: not _is_leader(operator), timeout=SOON, what="it lost leadership")
        cluster.create("train", job_id, terminate={"reason": REASON})
        time.sleep(2)
        assert reasons_sent(real.world, job_id) == []
        account.restore()
        cluster.wait_for("train", says("Terminated", "True", "TerminatedByRequest"), timeout=SOON)
        [line] = [line for line in complaints(operator) if line["message"] == "failed to renew lease"]
    assert 'cannot update resource "leases"' in line["error"]
    assert f"by a Role in namespace {NAME}" in line["error"]
    assert refusals(account)["update leases"] < 15


def test_outside_a_cluster_without_permission_to_list_leases_it_warns_and_starts(
    real: RealStage, cluster: Cluster
) -> None:
    account = Account(real, cluster)
    environment = operator_environment(account.kubeconfig, real.world.cache, real.world.batch.url)
    argv = [sys.executable, "-m", "awsbatch_operator", "run", f"--namespace={cluster.namespace}"]
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        # The HTTP port comes after the check: that it is in use ends the process.
        argv.append(f"--http-address=127.0.0.1:{occupied.getsockname()[1]}")
        ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, "--http-address" in ended.stderr) == (1, True)
    [line] = [json.loads(line) for line in ended.stderr.splitlines() if "cannot list leases" in line]
    assert line["level"] == "warning"
    assert 'cannot list resource "leases"' in line["error"]
    assert "--no-leader-elect" in line["message"]


def _is_leader(operator: OperatorProcess) -> bool:
    return operator.metrics()["awsbatch_operator_leader"][0][1] == 1
