"""Rights as kube-apiserver itself sees them: of the operator's service account, and of the chart's roles for users."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from kubernetes import client, config

from awsbatch_sandbox.cluster import Cluster, KubectlError
from awsbatch_sandbox.operator_process import OperatorProcess
from deploy.chart import RELEASE, rendered
from deploy.rights import ANY, BASIC_USER, DISCOVERY, Right, rights_of
from deploy.stage import ACCOUNT, QUICK, RealStage
from integration.scenario import SOON, phase

pytestmark = pytest.mark.real

STOP = json.dumps({"spec": {"terminate": {"reason": "enough"}}})
FORBIDDEN = (
    *(("get", "", "secrets"), ("list", "", "secrets"), ("list", "", "pods"), ("create", "", "pods"), ("get", "", "nodes")),
    *(("create", "", "pods/exec"), ("get", "", "configmaps"), ("create", "", "serviceaccounts/token")),
    *((verb, "awsbatch.dev", "batchjobs") for verb in ("create", "update", "patch", "delete", "deletecollection")),
    *(("update", "awsbatch.dev", "batchjobs/status"), ("update", "awsbatch.dev", "batchjobs/finalizers")),
    *(("list", "events.k8s.io", "events"), ("watch", "events.k8s.io", "events"), ("delete", "events.k8s.io", "events")),
    *(("create", "", "events"), ("list", "coordination.k8s.io", "leases"), ("delete", "coordination.k8s.io", "leases")),
    *(("get", "coordination.k8s.io", "leases"), ("update", "coordination.k8s.io", "leases")),
    *(("get", "apiextensions.k8s.io", "customresourcedefinitions"), ("list", "", "namespaces")),
    *(("create", "rbac.authorization.k8s.io", "rolebindings"), ("bind", "rbac.authorization.k8s.io", "clusterroles")),
    *(("escalate", "rbac.authorization.k8s.io", "clusterroles"), ("impersonate", "", "users")),
)


@dataclass(frozen=True)
class Installed:
    stage: RealStage
    namespace: Cluster
    """One that is watched."""
    elsewhere: Cluster
    watched: tuple[str, ...]
    """Namespaces; "" for across all of them."""
    rights: set[Right]
    api: client.ApiClient
    """The login of the tests, who may do all."""


@pytest.fixture(scope="module", params=["cluster-wide", "namespaced"])
def installed(request: pytest.FixtureRequest, real: RealStage) -> Iterator[Installed]:
    clusters = [real.world.cluster.within(f"{team}-{secrets.token_hex(4)}") for team in ("team", "elsewhere")]
    for cluster in clusters:
        cluster.create_namespace()
    namespaced = request.param == "namespaced"
    values = {**QUICK} | ({"watchNamespaces": [clusters[0].namespace]} if namespaced else {})
    with (
        real.operator(values),
        config.new_client_from_config(str(real.plane.kubeconfig)) as api,  # type: ignore[no-untyped-call]
    ):
        rights = rights_of(RELEASE, RELEASE, rendered(values))
        watched = (clusters[0].namespace,) if namespaced else ("", *(cluster.namespace for cluster in clusters))
        yield Installed(real, *clusters, watched, rights, api)
    for cluster in clusters:
        cluster.delete_namespace()
        cluster.close()


def test_the_account_has_the_rights_of_the_chart_and_those_of_everybody(installed: Installed) -> None:
    """By Kubernetes' own sum of all rules, in each namespace."""
    with config.new_client_from_config(str(installed.stage.kubeconfig_of(RELEASE))) as api:  # type: ignore[no-untyped-call]
        for namespace in (installed.namespace.namespace, installed.elsewhere.namespace, RELEASE, "kube-system"):
            own = {right._replace(namespace=ANY) for right in installed.rights if right.namespace in (ANY, namespace)}
            assert _rights_in(api, namespace) - _of_everybody(installed.api) == own


def _rights_in(api: client.ApiClient, namespace: str) -> set[Right]:
    review = client.V1SelfSubjectRulesReview(spec=client.V1SelfSubjectRulesReviewSpec(namespace=namespace))
    status = client.AuthorizationV1Api(api).create_self_subject_rules_review(review).status
    assert not status.incomplete
    return _taken_apart(status.resource_rules)


def _of_everybody(api: client.ApiClient) -> set[Right]:
    return _taken_apart(client.RbacAuthorizationV1Api(api).read_cluster_role("system:basic-user").rules)


def _taken_apart(rules: list[client.V1PolicyRule]) -> set[Right]:
    return {
        Right(group, resource, verb, ANY, name)
        for rule in rules
        for group in rule.api_groups
        for resource in rule.resources
        for verb in rule.verbs
        for name in rule.resource_names or [ANY]
    }


def test_kubernetes_grants_to_everybody_what_the_chart_need_not(installed: Installed) -> None:
    assert {(right.group, right.resource, right.verb) for right in _of_everybody(installed.api)} >= BASIC_USER
    [rule] = client.RbacAuthorizationV1Api(installed.api).read_cluster_role("system:discovery").rules
    assert {*rule.non_resource_urls} >= DISCOVERY


def test_what_it_need_not_the_account_may_not(installed: Installed) -> None:
    for namespace in (installed.namespace.namespace, RELEASE, ""):
        assert [asked for asked in FORBIDDEN if _allowed(installed, *asked, namespace)] == []


def test_only_what_is_watched_may_be_read(installed: Installed) -> None:
    for namespace in (installed.namespace.namespace, installed.elsewhere.namespace, ""):
        for verb in ("get", "list", "watch"):
            assert _allowed(installed, verb, "awsbatch.dev", "batchjobs", namespace) is (namespace in installed.watched)


def _allowed(installed: Installed, verb: str, group: str, resource: str, namespace: str) -> bool:
    resource, _, subresource = resource.partition("/")
    attributes = client.V1ResourceAttributes(
        verb=verb, group=group, resource=resource, subresource=subresource, namespace=namespace
    )
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{RELEASE}", "system:authenticated"]
    spec = client.V1SubjectAccessReviewSpec(user=ACCOUNT, groups=groups, resource_attributes=attributes)
    review = client.V1SubjectAccessReview(spec=spec)
    return bool(client.AuthorizationV1Api(installed.api).create_subject_access_review(review).status.allowed)


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
    as_user(installed, "ann", "batchjobs-viewer")
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


def test_an_editor_states_terminations_and_no_status(installed: Installed, job: str) -> None:
    kubectl = installed.namespace.kubectl
    as_user(installed, "ed", "batchjobs-editor")
    assert "patched" in kubectl("--as=ed", "patch", "batchjob", job, "--type=merge", "-p", STOP)
    with pytest.raises(KubectlError, match='User "ed" cannot patch resource "batchjobs/status"'):
        kubectl("--as=ed", "patch", "batchjob", job, "--type=merge", "-p", "{}", "--subresource=status")
    with pytest.raises(KubectlError, match="cannot list"):
        installed.elsewhere.kubectl("--as=ed", "get", "batchjobs")
