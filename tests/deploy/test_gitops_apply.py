"""What becomes of a `spec.terminate` that a person patched, when Git is applied again: on a real control plane.

The commands are those that Argo CD and Flux amount to: client-side apply, server-side apply by a manager of its own,
replace, and Flux's habit of taking over what `kubectl` wrote before it applies.
"""

import json
from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import pytest
from kubernetes import client

from awsbatch_operator.api.names import API_VERSION, GROUP, PLURAL, POLICY_KIND, POLICY_PLURAL, VERSION
from awsbatch_sandbox.cluster import MERGE_PATCH, Cluster, KubectlError, api_client, batch_job
from awsbatch_sandbox.world import World
from deploy.stage import namespaces

pytestmark = pytest.mark.real

BY_HAND: Final = '{"spec": {"terminate": {"reason": "by hand"}}}'
ONCALL: Final = "--field-manager=oncall"


@pytest.fixture(scope="module")
def control_plane(world: World) -> Iterator[Cluster]:
    """A namespace. Whether an operator runs makes no difference: what is compared is what the API server keeps."""
    with namespaces(world.cluster, "gitops") as (cluster,):
        yield cluster


class Git:
    """One BatchJob in Git, applied in one of the ways; `terminate` as its manifest says, left out by default."""

    def __init__(self, cluster: Cluster, name: str, *apply: str, terminate: str = "") -> None:
        self._cluster, self._name, self._apply = cluster, name, apply
        self.terminate = terminate
        self.sync()

    def sync(self) -> None:
        self._cluster.kubectl(*self._apply, "-f", "-", stdin=self._manifest)

    @property
    def _manifest(self) -> str:
        spec = f"{{jobId: job-1{self.terminate and f', terminate: {self.terminate}'}}}"
        return f"apiVersion: awsbatch.dev/v1alpha1\nkind: BatchJob\nmetadata: {{name: {self._name}}}\nspec: {spec}\n"

    def patch_by_hand(self, *arguments: str) -> None:
        self._cluster.kubectl("patch", "batchjob", self._name, "--type=merge", f"--patch={BY_HAND}", *arguments)

    def reason(self) -> str | None:
        found: dict[str, Any] = self._cluster.get(self._name)["spec"].get("terminate", {})
        return found.get("reason")

    def differs(self) -> bool:
        """What `kubectl diff` shows, and Argo CD as OutOfSync."""
        command = ["diff", *self._apply[1:], "-f", "-"]
        with self._cluster.kubectl_process(*command) as diff:
            diff.communicate(self._manifest, 30)
            assert diff.returncode in (0, 1)
            return diff.returncode == 1

    def take_over_from_kubectl(self) -> None:
        """As Flux does, unless the object says `ssa: Merge`: what managers named kubectl... own becomes its own."""
        fields = self._cluster.get(self._name)["metadata"]["managedFields"]
        flux = [entry for entry in fields if entry["manager"] == "kustomize-controller"]
        others = [entry for entry in fields if entry["manager"].startswith("kubectl")]
        for entry in others:
            flux[0]["fieldsV1"]["f:spec"] |= entry["fieldsV1"]["f:spec"]
        kept = [entry for entry in fields if entry not in others]
        change = json.dumps([{"op": "replace", "path": "/metadata/managedFields", "value": kept}])
        arguments = ("--type=json", "--field-manager=kustomize-controller", f"--patch={change}")
        self._cluster.kubectl("patch", "batchjob", self._name, *arguments)


CLIENT_SIDE: Final = ("apply",)
ARGO_CD: Final = ("apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller")
FLUX: Final = ("apply", "--server-side", "--force-conflicts", "--field-manager=kustomize-controller")


@pytest.mark.parametrize("apply", [CLIENT_SIDE, ARGO_CD], ids=["client-side", "server-side"])
def test_fields_outside_git_stay_and_are_no_difference(control_plane: Cluster, apply: tuple[str, ...]) -> None:
    git = Git(control_plane, f"stays-{len(apply)}", *apply)
    git.patch_by_hand()
    assert not git.differs()
    git.sync()
    assert git.reason() == "by hand"


@pytest.mark.parametrize("apply", [CLIENT_SIDE, ARGO_CD, FLUX], ids=["client-side", "argo-cd", "flux"])
def test_fields_in_git_win_and_fields_removed_from_git_are_removed(
    control_plane: Cluster, apply: tuple[str, ...]
) -> None:
    git = Git(control_plane, f"wins-{apply[-1][-6:]}", *apply, terminate="{reason: from Git}")
    git.patch_by_hand(ONCALL)
    assert git.differs()
    git.sync()
    assert git.reason() == "from Git"
    git.terminate = ""
    git.sync()
    assert git.reason() is None


def test_a_null_added_to_git_later_reverts_a_patch(control_plane: Cluster) -> None:
    git = Git(control_plane, "null-later", *CLIENT_SIDE)
    git.patch_by_hand()
    git.terminate = "null"
    git.sync()
    assert git.reason() is None


@pytest.mark.parametrize("apply", [ARGO_CD, FLUX], ids=["argo-cd", "flux"])
def test_server_side_apply_rejects_null(control_plane: Cluster, apply: tuple[str, ...]) -> None:
    with pytest.raises(KubectlError, match=r"spec.terminate in body must be of type object"):
        Git(control_plane, "null-refused", *apply, terminate="null")


def test_replace_reverts_a_patch(control_plane: Cluster) -> None:
    git = Git(control_plane, "replaced", *CLIENT_SIDE)
    git.patch_by_hand()
    Git(control_plane, "replaced", "replace")
    assert git.reason() is None


def test_flux_reverts_a_patch_by_kubectl(control_plane: Cluster) -> None:
    git = Git(control_plane, "taken-over", *FLUX)
    git.patch_by_hand()
    git.take_over_from_kubectl()
    git.sync()
    assert git.reason() is None


def test_flux_leaves_a_patch_by_another_manager_and_with_merge_one_by_kubectl(control_plane: Cluster) -> None:
    git = Git(control_plane, "oncall", *FLUX)
    git.patch_by_hand(ONCALL)
    git.take_over_from_kubectl()
    git.sync()
    assert git.reason() == "by hand"
    merged = Git(control_plane, "merged", *FLUX)
    merged.patch_by_hand()
    merged.sync()
    assert merged.reason() == "by hand"


class Steps:
    """What a person and Git do to one BatchJob, as requests: hundreds of orders would take kubectl minutes."""

    def __init__(self, cluster: Cluster, objects: client.CustomObjectsApi, name: str, manager: str) -> None:
        self._cluster, self._objects, self._name, self._manager = cluster, objects, name, manager
        self._where = (GROUP, VERSION, cluster.namespace, PLURAL, name)
        self._stated = 0
        self.drop()

    def patch(self) -> None:
        self._patch({"reason": "by hand"})

    def withdraw(self) -> None:
        self._patch(None)

    def _patch(self, terminate: dict[str, str] | None) -> None:
        change = {"spec": {"terminate": terminate}}
        options: dict[str, Any] = {"field_manager": "kubectl-patch", "_content_type": MERGE_PATCH}
        self._objects.patch_namespaced_custom_object(*self._where, change, **options)

    def state(self) -> None:
        """Git states a reason, another one each time."""
        self._stated += 1
        self._sync(terminate={"reason": f"from Git {self._stated}"})

    def drop(self) -> None:
        """Git states none."""
        self._sync()

    def _sync(self, **spec: Any) -> None:
        options = apply_options(self._manager)
        self._objects.patch_namespaced_custom_object(*self._where, batch_job(self._name, "job-1", **spec), **options)

    def reason(self) -> str | None:
        found: dict[str, str] = self._cluster.get(self._name)["spec"].get("terminate", {})
        return found.get("reason")


def apply_options(manager: str) -> dict[str, Any]:
    """Server-side apply that takes over what others own, as Argo CD and Flux do."""
    return {"field_manager": manager, "force": True, "_content_type": "application/apply-patch+yaml"}


@pytest.fixture(scope="module")
def objects(world: World) -> Iterator[client.CustomObjectsApi]:
    api = api_client(world.control_plane.kubeconfig)
    yield client.CustomObjectsApi(api)
    api.close()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("manager", ["argocd-controller", "kustomize-controller"])
def test_every_sync_succeeds_in_whatever_order_a_person_and_git_act(
    control_plane: Cluster, objects: client.CustomObjectsApi, manager: str
) -> None:
    orders = product((Steps.patch, Steps.withdraw, Steps.state, Steps.drop), repeat=3)
    for number, order in enumerate(orders):
        steps = Steps(control_plane, objects, f"{manager[:4]}-{number}", manager)
        before, in_git = None, False
        for step in order:
            step(steps)
            reason, names = steps.reason(), [one.__name__ for one in order]
            if step is Steps.state:
                assert (reason or "").startswith("from Git"), names
            if step is Steps.drop:
                assert reason == (None if in_git else before), f"{names}: Git removes what it wrote, and nothing else"
            before, in_git = reason, step is Steps.state


def test_git_can_drop_what_a_patch_added_to_a_policy_first(objects: client.CustomObjectsApi) -> None:
    name = "policy-two-managers"
    where, tags, queues = (GROUP, VERSION, POLICY_PLURAL, name), {"tags": {"team": "a"}}, {"queues": ["a-*"]}
    one, other = ({"arn": f"arn:aws:iam::111122223333:role/{role}"} for role in ("one", "other"))

    def sync(**rules: Any) -> None:
        spec = {"namespaceSelector": {"matchLabels": {"nobody": "here"}}, **rules}
        body = {"apiVersion": API_VERSION, "kind": POLICY_KIND, "metadata": {"name": name}, "spec": spec}
        objects.patch_cluster_custom_object(*where, body, **apply_options("argocd-controller"))

    sync(jobs=queues)
    try:
        options: dict[str, Any] = {"field_manager": "kubectl-patch", "_content_type": MERGE_PATCH}
        objects.patch_cluster_custom_object(*where, {"spec": {"jobs": tags, "role": one}}, **options)
        sync(jobs={"tags": {"team": "b"}}, role=other)
        sync(jobs=queues)
        found: Any = objects.get_cluster_custom_object(*where)
        assert (found["spec"]["jobs"], "role" in found["spec"]) == (queues, False)
    finally:
        objects.delete_cluster_custom_object(*where)
