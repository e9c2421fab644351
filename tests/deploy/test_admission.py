"""The optional policy that makes ending a job a right of its own, on a real control plane: bob has it, ann has not."""

from collections.abc import Iterator
from typing import Final

import pytest

from awsbatch_sandbox.cluster import Cluster, KubectlError
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from deploy.places import DEPLOY

pytestmark = pytest.mark.real

POLICY: Final = str(DEPLOY / "admission/terminate-verb.yaml")
REFUSED: Final = "needs the verb terminate on batchjobs.awsbatch.dev in namespace"
STATED: Final = '{"spec": {"terminate": {"reason": "by hand"}}}'
REWORDED: Final = '{"spec": {"terminate": {"reason": "by another hand"}}}'
WITHDRAWN: Final = '{"spec": {"terminate": null}}'
RELABELLED: Final = '{"metadata": {"labels": {"team": "a"}}}'


@pytest.fixture(scope="module", autouse=True)
def policy(world: World) -> Iterator[None]:
    world.cluster.kubectl("apply", "-f", POLICY)
    yield
    world.cluster.kubectl("delete", "-f", POLICY)


@pytest.fixture
def namespace(cluster: Cluster) -> Cluster:
    for role, verbs, users in (
        ("edit", "get,create,update,patch,delete", ("ann", "bob")),
        ("end", "terminate", ("bob",)),
    ):
        cluster.kubectl("create", "role", role, f"--verb={verbs}", "--resource=batchjobs.awsbatch.dev")
        cluster.kubectl("create", "rolebinding", role, f"--role={role}", *(f"--user={user}" for user in users))
    cluster.create("job", "no-such-job")
    wait_for(lambda: refused(cluster, "ann", STATED, "--dry-run=server"), timeout=30, what="the policy is in force")
    return cluster


def patch(cluster: Cluster, user: str, change: str, *flags: str) -> None:
    cluster.kubectl("patch", "batchjob", "job", f"--as={user}", "--type=merge", f"--patch={change}", *flags)


def refused(cluster: Cluster, user: str, change: str, *flags: str) -> bool:
    try:
        patch(cluster, user, change, *flags)
    except KubectlError as error:
        return f"{user} {REFUSED} {cluster.namespace}" in str(error)
    return False


def test_a_user_with_edit_only_can_neither_state_nor_change_nor_remove_a_termination(namespace: Cluster) -> None:
    assert refused(namespace, "ann", STATED)
    patch(namespace, "ann", RELABELLED)
    patch(namespace, "bob", STATED)
    patch(namespace, "ann", RELABELLED.replace("team", "crew"))
    assert refused(namespace, "ann", REWORDED)
    assert refused(namespace, "ann", WITHDRAWN)
    assert namespace.get("job")["spec"]["terminate"] == {"reason": "by hand"}
    patch(namespace, "bob", REWORDED)
    patch(namespace, "bob", WITHDRAWN)


def test_creating_an_object_with_a_termination_needs_the_verb_too(namespace: Cluster) -> None:
    def born(terminate: str) -> str:
        return (
            "apiVersion: awsbatch.dev/v1alpha1\nkind: BatchJob\n"
            f"metadata: {{generateName: born-}}\nspec: {{jobId: no-such-job{terminate}}}\n"
        )

    stated = born(", terminate: {reason: why}")
    with pytest.raises(KubectlError, match=f"ann {REFUSED}"):
        namespace.kubectl("create", "--as=ann", "-f", "-", stdin=stated)
    namespace.kubectl("create", "--as=ann", "-f", "-", stdin=born(""))
    namespace.kubectl("create", "--as=bob", "-f", "-", stdin=stated)
