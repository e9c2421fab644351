"""The optional policy that makes ending a job a right of its own, on a real control plane: bob has it, ann has not."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from awsbatch_sandbox.cluster import Cluster, KubectlError, batch_job
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from deploy.places import DEPLOY, bulk_termination

pytestmark = pytest.mark.real

POLICY: Final = str(DEPLOY / "admission/terminate-verb.yaml")
REFUSED: Final = "needs the verb terminate on batchjobs.awsbatch.dev in namespace"
COLLECTOR: Final = "system:serviceaccount:kube-system:generic-garbage-collector"
CONTROLLER_MANAGER: Final = "system:kube-controller-manager"
OWNED: Final = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "1f0a9c1e-0000-4000-8000-000000000000"}
INTENTS: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "terminate": ({"reason": "by hand"}, {"reason": "by another hand"}),
    "deadline": ({"reason": "too long", "running": "8h"}, {"reason": "too long", "running": "60s"}),
    "onDelete": ({"terminate": {"reason": "gone"}}, {"terminate": {"reason": "gone at last"}}),
}
"""Fields of the spec that demand a termination, each with a value and another one."""


@pytest.fixture(scope="module", autouse=True)
def policy(world: World) -> Iterator[None]:
    world.cluster.kubectl("apply", "-f", POLICY)
    yield
    world.cluster.kubectl("delete", "-f", POLICY)


@pytest.fixture
def namespace(cluster: Cluster) -> Cluster:
    users = ("ann", "bob", COLLECTOR, CONTROLLER_MANAGER)
    grant(cluster, "edit", "get,create,update,patch,delete", "batchjobs.awsbatch.dev", *users)
    grant(cluster, "status", "get,patch", "batchjobs.awsbatch.dev/status", "ann")
    grant(cluster, "end", "terminate", "batchjobs.awsbatch.dev", "bob")
    cluster.create("job", "no-such-job")
    change = spec(terminate={"reason": "by hand"})
    wait_for(lambda: refused(cluster, "ann", change, "--dry-run=server"), timeout=30, what="the policy is in force")
    return cluster


def grant(cluster: Cluster, role: str, verbs: str, resource: str, *users: str) -> None:
    cluster.kubectl("create", "role", role, f"--verb={verbs}", f"--resource={resource}")
    cluster.kubectl("create", "rolebinding", role, f"--role={role}", *(f"--user={user}" for user in users))


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def owners(*references: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"ownerReferences": list(references)}}


def patch(cluster: Cluster, user: str, change: dict[str, Any], *flags: str, kind: str = "batchjob") -> None:
    cluster.kubectl("patch", kind, "job", f"--as={user}", "--type=merge", f"--patch={json.dumps(change)}", *flags)


def refused(cluster: Cluster, user: str, change: dict[str, Any], *flags: str, kind: str = "batchjob") -> bool:
    try:
        patch(cluster, user, change, *flags, kind=kind)
    except KubectlError as error:
        return f"{user} {REFUSED} {cluster.namespace}" in str(error)
    return False


@pytest.mark.parametrize("field", INTENTS)
def test_a_user_with_edit_only_can_neither_state_nor_change_nor_withdraw_it(namespace: Cluster, field: str) -> None:
    one, other = INTENTS[field]
    assert refused(namespace, "ann", spec(**{field: one}))
    patch(namespace, "bob", spec(**{field: one}))
    assert refused(namespace, "ann", spec(**{field: other}))
    assert refused(namespace, "ann", spec(**{field: None}))
    assert namespace.get("job")["spec"][field] == one
    patch(namespace, "bob", spec(**{field: other}))
    patch(namespace, "bob", spec(**{field: None}))


@pytest.mark.parametrize("field", INTENTS)
def test_creating_an_object_with_it_needs_the_verb_too(namespace: Cluster, field: str) -> None:
    def born(name: str, **fields: Any) -> str:
        return json.dumps(batch_job(name, "no-such-job", **fields))

    stated = born("stated", **{field: INTENTS[field][0]})
    with pytest.raises(KubectlError, match=f"ann {REFUSED}"):
        namespace.kubectl("create", "--as=ann", "-f", "-", stdin=stated)
    namespace.kubectl("create", "--as=ann", "-f", "-", stdin=born("plain"))
    namespace.kubectl("create", "--as=bob", "-f", "-", stdin=stated)


def test_other_edits_and_deletes_need_no_verb(namespace: Cluster) -> None:
    patch(namespace, "bob", spec(**{field: one for field, (one, _) in INTENTS.items()}))
    patch(namespace, "ann", {"metadata": {"labels": {"team": "a"}, "annotations": {"example.com/note": "1"}}})
    patch(namespace, "ann", {"metadata": {"finalizers": ["awsbatch.dev/terminate-on-delete"]}})
    patch(namespace, "ann", {"metadata": {"finalizers": None}})
    patch(namespace, "ann", {"status": {"phase": "Running"}}, "--subresource=status")
    namespace.kubectl("delete", "batchjob", "job", "--as=ann")


def test_the_owner_of_an_object_that_states_on_delete_cannot_be_forged(namespace: Cluster) -> None:
    patch(namespace, "ann", owners(OWNED))
    patch(namespace, "ann", owners())
    patch(namespace, "bob", spec(onDelete=INTENTS["onDelete"][0]))
    assert refused(namespace, "ann", owners(OWNED))
    patch(namespace, "bob", owners(OWNED))
    assert refused(namespace, "ann", owners({**OWNED, "name": "another"}))
    assert refused(namespace, "ann", owners())


@pytest.mark.parametrize("account", [COLLECTOR, CONTROLLER_MANAGER])
def test_the_garbage_collector_changes_owners_and_states_nothing(namespace: Cluster, account: str) -> None:
    patch(namespace, "bob", {**spec(onDelete=INTENTS["onDelete"][0]), **owners(OWNED)})
    assert refused(namespace, account, spec(onDelete=INTENTS["onDelete"][1]))
    patch(namespace, account, owners())
    assert "ownerReferences" not in namespace.get("job")["metadata"]
    namespace.kubectl("delete", "batchjob", "job", f"--as={account}")


def test_approving_a_batch_termination_needs_the_verb(namespace: Cluster) -> None:
    grant(namespace, "bulk", "get,create,update,patch,delete", "batchterminations.awsbatch.dev", "ann", "bob")
    approve, withdraw = spec(approved=True), spec(approved=False)
    namespace.kubectl("create", "--as=ann", "-f", "-", stdin=json.dumps(bulk_termination("job")))
    patch(namespace, "ann", withdraw, kind="batchtermination")
    assert refused(namespace, "ann", approve, kind="batchtermination")
    patch(namespace, "bob", approve, kind="batchtermination")
    patch(namespace, "ann", {"metadata": {"labels": {"team": "a"}}}, kind="batchtermination")
    assert refused(namespace, "ann", withdraw, kind="batchtermination")
    patch(namespace, "bob", withdraw, kind="batchtermination")
    namespace.kubectl("delete", "batchtermination", "job", "--as=ann")


def test_creating_an_approved_batch_termination_needs_the_verb(namespace: Cluster) -> None:
    grant(namespace, "bulk", "create", "batchterminations.awsbatch.dev", "ann", "bob")
    with pytest.raises(KubectlError, match=f"ann {REFUSED}"):
        namespace.kubectl("create", "--as=ann", "-f", "-", stdin=json.dumps(bulk_termination("job", approved=True)))
    namespace.kubectl("create", "--as=bob", "-f", "-", stdin=json.dumps(bulk_termination("job", approved=True)))
