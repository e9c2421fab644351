"""Rights as kube-apiserver itself sees them: of the operator's service account, and of the chart's roles for users."""

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

from awsbatch_operator.api.names import API_VERSION, POLICY_KIND
from awsbatch_sandbox.cluster import Cluster, KubectlError
from awsbatch_sandbox.processes import wait_for
from deploy.charts import NAME, Object, objects
from deploy.places import bulk_termination
from deploy.rights import ANY, BASIC_USER, DISCOVERY, ResourceAttributes, of_rule, rights_of
from deploy.stage import ACCOUNT, MODES, RealStage, namespaces, values_of

pytestmark = pytest.mark.real

FINALIZER = "awsbatch.dev/terminate-on-delete"
REVIEWS = "authorization.k8s.io/v1"
STOP = json.dumps({"spec": {"terminate": {"reason": "enough"}}})
FORBIDDEN = (
    *(
        ("get", "", "secrets"),
        ("list", "", "secrets"),
        ("list", "", "pods"),
        ("create", "", "pods"),
        ("get", "", "nodes"),
    ),
    *(("create", "", "pods/exec"), ("get", "", "configmaps"), ("create", "", "serviceaccounts/token")),
    *((verb, "awsbatch.dev", "batchjobs") for verb in ("create", "update", "delete", "deletecollection")),
    *((verb, "awsbatch.dev", "batchterminations") for verb in ("get", "create", "update", "patch", "delete")),
    *(("update", "awsbatch.dev", "batchjobs/status"), ("update", "awsbatch.dev", "batchjobs/finalizers")),
    *(("list", "events.k8s.io", "events"), ("watch", "events.k8s.io", "events"), ("delete", "events.k8s.io", "events")),
    *(("create", "", "events"), ("list", "coordination.k8s.io", "leases"), ("delete", "coordination.k8s.io", "leases")),
    *(("get", "coordination.k8s.io", "leases"), ("update", "coordination.k8s.io", "leases")),
    *(("get", "apiextensions.k8s.io", "customresourcedefinitions"), ("get", "", "namespaces")),
    *(("patch", "apps", "deployments"), ("patch", "apps", "deployments/scale")),
    *((verb, "", "namespaces") for verb in ("create", "update", "patch", "delete")),
    *((verb, "awsbatch.dev", "batchaccesspolicies") for verb in ("get", "create", "update", "patch", "delete")),
    *((verb, "awsbatch.dev", "batchaccesspolicies/status") for verb in ("get", "update")),
    *(("create", "rbac.authorization.k8s.io", "rolebindings"), ("bind", "rbac.authorization.k8s.io", "clusterroles")),
    *(("escalate", "rbac.authorization.k8s.io", "clusterroles"), ("impersonate", "", "users")),
)


@dataclass(frozen=True)
class Installed:
    """`namespace` is watched; `watched` are the names of all that are, "" for across all of them."""

    stage: RealStage
    namespace: Cluster
    elsewhere: Cluster
    watched: tuple[str, ...]
    rights: set[ResourceAttributes]


@pytest.fixture(scope="module", params=list(MODES))
def installed(request: pytest.FixtureRequest, real: RealStage) -> Iterator[Installed]:
    with namespaces(real.world.cluster, "team", "elsewhere") as (team, elsewhere):
        values = values_of(request.param, [team.namespace])
        with real.operator(values):
            namespaced = "watchNamespaces" in values
            watched = (team.namespace,) if namespaced else ("", team.namespace, elsewhere.namespace)
            yield Installed(real, team, elsewhere, watched, rights_of(NAME, NAME, objects(values)))


def test_the_account_has_the_permissions_of_the_chart_and_those_of_all_users(
    installed: Installed, tmp_path: Path
) -> None:
    """The sum of all rules that Kubernetes reports for each namespace."""
    account = Cluster(installed.stage.kubeconfig_of(NAME), tmp_path)
    for namespace in (installed.namespace.namespace, installed.elsewhere.namespace, NAME, "kube-system"):
        review = {"apiVersion": REVIEWS, "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
        reported = account.kubectl("create", "-o=json", "--validate=false", "--filename=-", stdin=json.dumps(review))
        status = json.loads(reported)["status"]
        assert not status["incomplete"]
        own = {right._replace(namespace=ANY) for right in installed.rights if right.namespace in (ANY, namespace)}
        assert _taken_apart(status["resourceRules"]) - _of_everybody(installed) == own
    account.close()


def _of_everybody(installed: Installed) -> set[ResourceAttributes]:
    return _taken_apart(_role(installed, "system:basic-user"))


def _role(installed: Installed, name: str) -> list[Object]:
    """Its rules."""
    rules: list[Object] = json.loads(installed.namespace.kubectl("get", "clusterrole", name, "-o=json"))["rules"]
    return rules


def _taken_apart(rules: list[Object]) -> set[ResourceAttributes]:
    return {right for rule in rules for right in of_rule(rule, ANY)}


def test_kubernetes_grants_all_users_what_the_chart_need_not(installed: Installed) -> None:
    assert {(right.group, right.resource, right.verb) for right in _of_everybody(installed)} >= BASIC_USER
    [rule] = _role(installed, "system:discovery")
    assert {*rule["nonResourceURLs"]} >= DISCOVERY


def test_the_account_may_not_do_what_it_need_not(installed: Installed) -> None:
    for namespace in (installed.namespace.namespace, NAME, ""):
        assert _allowed(installed, FORBIDDEN, namespace) == set()


def test_only_what_is_watched_may_be_read(installed: Installed) -> None:
    verbs = {"batchjobs": ("get", "list", "watch"), "batchterminations": ("list", "watch")}
    reading = [(verb, "awsbatch.dev", kind) for kind in verbs for verb in verbs[kind]]
    for namespace in (installed.namespace.namespace, installed.elsewhere.namespace, ""):
        assert _allowed(installed, reading, namespace) == (set(reading) if namespace in installed.watched else set())


@pytest.fixture
def operator(installed: Installed, job: str, tmp_path: Path) -> Iterator[Cluster]:
    """The operator's login, in the namespace of the object `job`."""
    if ResourceAttributes("awsbatch.dev", "batchjobs", "patch", ANY, ANY) not in installed.rights:
        pytest.skip("no cluster-scoped object limits the patch, so it is not granted")
    account = Cluster(installed.stage.kubeconfig_of(NAME), tmp_path, installed.namespace.namespace)
    relabel = {"metadata": {"labels": {"team": "x"}}}
    refused = partial(_denied, account, job, relabel, "--dry-run=server")
    wait_for(refused, timeout=30, what="the policy that limits the patch is in force")
    yield account
    account.close()


def _denied(account: Cluster, job: str, change: Object, *flags: str) -> bool:
    try:
        account.kubectl("patch", "batchjob", job, "--type=merge", f"--patch={json.dumps(change)}", *flags)
    except KubectlError as error:
        return "the operator may change nothing of a BatchJob but its own finalizer" in str(error)
    return False


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"terminate": {"reason": "enough"}}},
        {"spec": {"deadline": {"reason": "enough", "running": "60s"}}},
        {"spec": {"onDelete": {"terminate": {"reason": "enough"}}}},
        {"metadata": {"labels": {"team": "x"}}},
        {"metadata": {"annotations": {"example.com/note": "x"}}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}]}},
        {"metadata": {"finalizers": ["example.com/another", FINALIZER, "example.com/mine"]}},
        {"metadata": {"finalizers": [FINALIZER]}},
    ],
    ids=json.dumps,
)
def test_the_operator_may_patch_nothing_but_its_finalizer(
    installed: Installed, operator: Cluster, job: str, change: Object
) -> None:
    before = installed.namespace.patch(job, {"metadata": {"finalizers": ["example.com/another"]}})
    assert _denied(operator, job, change)
    assert installed.namespace.get(job) == before
    installed.namespace.patch(job, {"metadata": {"finalizers": None}})


def test_the_operator_may_add_and_remove_its_finalizer(installed: Installed, operator: Cluster, job: str) -> None:
    installed.namespace.patch(job, {"metadata": {"finalizers": ["example.com/another"]}})
    for finalizers in (["example.com/another", FINALIZER], ["example.com/another"]):
        assert not _denied(operator, job, {"metadata": {"finalizers": finalizers}})
        assert installed.namespace.get(job)["metadata"]["finalizers"] == finalizers
    installed.namespace.patch(job, {"metadata": {"finalizers": None}})


def _allowed(
    installed: Installed, requested: Sequence[tuple[str, str, str]], namespace: str
) -> set[tuple[str, str, str]]:
    """Of these (verb, group, resource)."""
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{NAME}", "system:authenticated"]
    reviews = []
    for verb, group, whole in requested:
        resource, _, subresource = whole.partition("/")
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        spec = {"user": ACCOUNT, "groups": groups, "resourceAttributes": {**attributes, "namespace": namespace}}
        reviews.append({"apiVersion": REVIEWS, "kind": "SubjectAccessReview", "spec": spec})
    answers = r"-o=jsonpath={.status.allowed}{'\n'}"
    reported = installed.namespace.kubectl("create", answers, "--filename=-", stdin=yaml.safe_dump_all(reviews)).split()
    return {one for one, allowed in zip(requested, reported, strict=True) if allowed == "true"}


@pytest.fixture
def job(installed: Installed) -> Iterator[str]:
    name = f"job-{secrets.token_hex(2)}"
    installed.namespace.create(name, installed.stage.world.batch.seed())
    yield name
    installed.namespace.delete(name)


def as_user(installed: Installed, user: str, role: str) -> None:
    installed.namespace.kubectl("create", "rolebinding", f"{user}-{role}", f"--clusterrole={role}", f"--user={user}")


def test_a_viewer_reads_and_changes_nothing(installed: Installed, job: str) -> None:
    kubectl = installed.namespace.kubectl
    as_user(installed, "ann", "awsbatch-operator-view")
    assert job in kubectl("--as=ann", "get", "batchjobs")
    assert job in kubectl("--as=ann", "get", "batchjob", job, "--subresource=status", "-o", "name")
    for deed in (
        ("patch", "batchjob", job, "--type=merge", "-p", STOP),
        ("patch", "batchjob", job, "--type=merge", "-p", "{}", "--subresource=status"),
        ("delete", "batchjob", job),
    ):
        with pytest.raises(KubectlError, match=f'User "ann" cannot {deed[0]} resource "batchjobs'):
            kubectl("--as=ann", *deed)
    with pytest.raises(KubectlError, match="cannot list"):
        installed.elsewhere.kubectl("--as=ann", "get", "batchjobs")


def test_readers_and_writers_of_batch_jobs_cannot_read_policies(installed: Installed) -> None:
    kubectl = installed.namespace.kubectl
    for user, role in (("bea", "awsbatch-operator-view"), ("bob", "awsbatch-operator-edit")):
        # In the whole cluster, as Kubernetes' own view may be bound too.
        kubectl("create", "clusterrolebinding", user, f"--clusterrole={role}", f"--user={user}")
        assert "items" in kubectl(f"--as={user}", "get", "--raw", f"/apis/{API_VERSION}/batchjobs")
        with pytest.raises(KubectlError, match=f'User "{user}" cannot list resource "batchaccesspolicies"'):
            kubectl(f"--as={user}", "get", "batchaccesspolicies")
        kubectl("delete", "clusterrolebinding", user)


def test_a_writer_of_policies_writes_them_and_no_status(installed: Installed) -> None:
    kubectl, name = installed.namespace.kubectl, f"policy-{secrets.token_hex(2)}"
    kubectl("create", "clusterrolebinding", "pia", "--clusterrole=awsbatch-operator-policies-edit", "--user=pia")
    kubectl("create", "clusterrolebinding", "pit", "--clusterrole=awsbatch-operator-policies-view", "--user=pit")
    policy = {
        "apiVersion": API_VERSION,
        "kind": POLICY_KIND,
        "metadata": {"name": name},
        "spec": {"namespaceSelector": {"matchLabels": {"team": name}}, "jobs": {"queues": ["*"]}},
    }
    assert name in kubectl("--as=pia", "create", "--filename=-", stdin=json.dumps(policy))
    assert name in kubectl("--as=pit", "get", "bap")
    for user, deed in (
        ("pia", ("patch", "bap", name, "--type=merge", "-p", "{}", "--subresource=status")),
        ("pit", ("delete", "bap", name)),
    ):
        with pytest.raises(KubectlError, match=f'User "{user}" cannot {deed[0]} resource "batchaccesspolicies'):
            kubectl(f"--as={user}", *deed)
    assert "deleted" in kubectl("--as=pia", "delete", "bap", name)
    kubectl("delete", "clusterrolebinding", "pia", "pit")


def test_an_editor_states_terminations_and_no_status(installed: Installed, job: str) -> None:
    kubectl = installed.namespace.kubectl
    as_user(installed, "ed", "awsbatch-operator-edit")
    assert "patched" in kubectl("--as=ed", "patch", "batchjob", job, "--type=merge", "-p", STOP)
    with pytest.raises(KubectlError, match='User "ed" cannot patch resource "batchjobs/status"'):
        kubectl("--as=ed", "patch", "batchjob", job, "--type=merge", "-p", "{}", "--subresource=status")
    with pytest.raises(KubectlError, match="cannot list"):
        installed.elsewhere.kubectl("--as=ed", "get", "batchjobs")


def test_only_the_role_for_bulk_terminations_writes_them(installed: Installed) -> None:
    kubectl, name = installed.namespace.kubectl, f"bulk-{secrets.token_hex(2)}"
    for user, role in (("uma", "edit"), ("ute", "view"), ("una", "bulk-terminate")):
        as_user(installed, user, f"awsbatch-operator-{role}")
    body = json.dumps(bulk_termination(name))
    approve = ("patch", "bt", name, "--type=merge", "-p", '{"spec": {"approved": true}}')
    for user in ("uma", "ute"):
        with pytest.raises(KubectlError, match=f'User "{user}" cannot create resource "batchterminations"'):
            kubectl(f"--as={user}", "create", "--filename=-", stdin=body)
    assert name in kubectl("--as=una", "create", "--filename=-", stdin=body)
    assert name in kubectl("--as=ute", "get", "bt")
    with pytest.raises(KubectlError, match='User "ute" cannot patch resource "batchterminations"'):
        kubectl("--as=ute", *approve)
    with pytest.raises(KubectlError, match='User "una" cannot patch resource "batchterminations/status"'):
        kubectl("--as=una", "patch", "bt", name, "--type=merge", "-p", "{}", "--subresource=status")
    assert "patched" in kubectl("--as=una", *approve)
    assert "deleted" in kubectl("--as=una", "delete", "bt", name)
