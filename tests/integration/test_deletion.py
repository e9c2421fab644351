"""spec.onDelete with real processes: what a deletion ends, what it must not end, and that no object is left hanging."""

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client import ApiException

from awsbatch_operator.api.batchjob import ObjectRef
from awsbatch_operator.api.interfaces import Conflict, NotWritten, Written
from awsbatch_operator.api.names import CRD_NAME, FINALIZER
from awsbatch_operator.kube.batchjobs import KubeBatchJobClient
from awsbatch_operator.kube.client import KubeClient
from awsbatch_operator.kube.credentials import Login
from awsbatch_operator.kube.events import EventPoster
from awsbatch_sandbox.cluster import Cluster, batch_job
from awsbatch_sandbox.controlplane import Embedded
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World, establish
from integration.scenario import SOON, reasons_sent, terminations_tried

GONE = "its workflow was deleted"
ON_DELETE: dict[str, Any] = {"onDelete": {"terminate": {"reason": GONE}}}
MANY = 100
FLAGS = ("--poll-running=500ms", "--poll-pending=500ms", "--on-delete=enabled")


@pytest.fixture(scope="module")
def own_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A world of the module's own: it deletes the CRD, and jobs live on after TerminateJob."""
    plane = request.config.getoption("--control-plane")
    if plane == "existing":
        pytest.skip("this control plane belongs to others")
    with World(plane, grace=20.0, flags=FLAGS) as world:
        yield world


@pytest.fixture
def place(own_world: World) -> Iterator[Cluster]:
    """A fresh namespace, with the operator running."""
    if not own_world.operator.running:
        own_world.operator.launch()
    own_world.operator.wait_ready()
    own_world.batch.clear_calls()
    cluster = own_world.cluster.within(f"test-{secrets.token_hex(4)}")
    cluster.create_namespace()
    yield cluster
    own_world.batch.clear_faults()
    cluster.close()


def tied(world: World, place: Cluster, name: str) -> str:
    """An object that states onDelete, once it has the finalizer and a status; its job's id."""
    job_id = world.batch.seed()
    place.create(name, job_id, **ON_DELETE)
    place.wait_for(name, lambda status: status.get("phase") == "Running", timeout=SOON)
    assert place.get(name)["metadata"]["finalizers"] == [FINALIZER]
    return job_id


def many(world: World, place: Cluster) -> list[str]:
    ids = [world.batch.seed() for _ in range(MANY)]
    for number, job_id in enumerate(ids):
        place.create(f"o{number}", job_id, **ON_DELETE)
    wait_for(lambda: all(_held(body) for body in place.objects()), timeout=60, what="all have status and finalizer")
    return ids


def _held(body: dict[str, Any]) -> bool:
    return FINALIZER in body["metadata"].get("finalizers", []) and body["status"].get("phase") == "Running"


def is_gone(place: Cluster, name: str) -> bool:
    try:
        place.get(name)
    except ApiException as error:
        return bool(error.status == 404)
    return False


def wait_until_gone(place: Cluster, name: str) -> None:
    wait_for(lambda: is_gone(place, name), timeout=SOON, what=f"{name} is gone")


def test_a_deletion_terminates_the_job_and_the_operator_owns_only_its_finalizer(
    own_world: World, place: Cluster
) -> None:
    job_id = tied(own_world, place, "job")
    written = [entry for entry in place.get("job")["metadata"]["managedFields"] if "subresource" not in entry]
    ours = [entry["fieldsV1"] for entry in written if entry["manager"] == "awsbatch-operator"]
    assert len(ours) == 1
    assert set(ours[0]) == {"f:metadata"}
    assert set(ours[0]["f:metadata"]) == {"f:finalizers"}
    place.delete("job")
    wait_until_gone(place, "job")
    assert reasons_sent(own_world, job_id) == [GONE]


def test_the_deletion_of_a_namespace_ends_all_its_jobs_within_a_minute(own_world: World, place: Cluster) -> None:
    ids = many(own_world, place)
    place.delete_namespace()
    if not isinstance(own_world.control_plane, Embedded):
        # What a namespace controller does, which envtest lacks.
        place.delete_all()
    wait_for(lambda: not place.objects(), timeout=60, what="all objects are gone")
    assert {job_id: reasons_sent(own_world, job_id) for job_id in ids} == {job_id: [GONE] for job_id in ids}


def test_killed_between_acceptance_and_release_it_neither_repeats_nor_forgets(own_world: World, place: Cluster) -> None:
    job_id = tied(own_world, place, "job")
    own_world.batch.fault("TerminateJob", kind="slow", seconds=0.6)
    place.delete("job")
    wait_for(lambda: terminations_tried(own_world), timeout=SOON, what="the call is under way")
    with own_world.api_server_away(1.0):
        wait_for(lambda: reasons_sent(own_world, job_id), timeout=SOON, what="Batch accepts")
        own_world.operator.kill9()
    assert not is_gone(place, "job")
    own_world.operator.start()
    wait_until_gone(place, "job")
    assert len(terminations_tried(own_world)) == 1


def test_the_next_operator_terminates_jobs_of_objects_deleted_before_its_start(
    own_world: World, place: Cluster
) -> None:
    job_id = tied(own_world, place, "job")
    own_world.operator.stop()
    place.delete("job")
    assert not is_gone(place, "job")
    own_world.operator.start()
    wait_until_gone(place, "job")
    assert reasons_sent(own_world, job_id) == [GONE]


def test_a_finalizer_in_the_manifest_covers_the_time_before_the_operator_sees_the_object(
    own_world: World, place: Cluster
) -> None:
    own_world.operator.stop()
    job_id = own_world.batch.seed()
    manifest = batch_job("job", job_id, **ON_DELETE)
    manifest["metadata"]["finalizers"] = [FINALIZER]
    place.kubectl("create", "--filename=-", stdin=json.dumps(manifest))
    place.delete("job")
    own_world.operator.start()
    wait_until_gone(place, "job")
    assert reasons_sent(own_world, job_id) == [GONE]


def test_an_owner_that_is_deleted_without_its_dependents_ends_nothing(own_world: World, place: Cluster) -> None:
    job_id = tied(own_world, place, "job")
    place.kubectl("create", "configmap", "owner")
    uid = place.kubectl("get", "configmap", "owner", "--output=jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    place.patch("job", {"metadata": {"ownerReferences": [owner]}})
    place.kubectl("delete", "configmap", "owner", "--cascade=orphan", "--wait=false")
    # What the garbage collector does to dependents then.
    place.patch("job", {"metadata": {"ownerReferences": None}})
    tied(own_world, place, "witness")
    place.delete("witness")
    wait_until_gone(place, "witness")
    assert reasons_sent(own_world, job_id) == []
    assert not is_gone(place, "job")


def test_the_answers_to_writes_of_the_finalizer_are_told_apart(own_world: World, place: Cluster) -> None:
    own_world.operator.stop()
    place.create("job", own_world.batch.seed())

    async def write(*finalizers: str, version: str = "", add: bool) -> object:
        metadata = place.get("job")["metadata"]
        ref = ObjectRef(place.namespace, "job", metadata["uid"])
        login = Login(own_world.environment["KUBECONFIG"], None)
        async with KubeClient(login) as client, EventPoster(client, "test") as events:
            jobs = KubeBatchJobClient(client, events)
            return await jobs.write_finalizer(ref, finalizers, version or metadata["resourceVersion"], add=add)

    def written(*finalizers: str, version: str = "", add: bool) -> object:
        return asyncio.run(write(*finalizers, version=version, add=add))

    assert written(version="1", add=True) == Conflict()
    added = written(add=True)
    assert isinstance(added, Written)
    assert added.finalizers == (FINALIZER,)
    assert written("example.com/not-there", FINALIZER, add=False) == Conflict()
    place.patch("job", {"metadata": {"finalizers": ["example.com/other"]}})
    assert written(FINALIZER, add=False) == Conflict()
    place.delete("job")
    forbidden = written("example.com/other", add=True)
    assert isinstance(forbidden, NotWritten)
    assert forbidden.refused
    assert "no new finalizers can be added" in forbidden.message
    place.patch("job", {"metadata": {"finalizers": None}})


def release_finalizers(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "awsbatch_operator", "release-finalizers", *arguments]
    return subprocess.run(command, env=world.environment, capture_output=True, text=True, check=False, timeout=60)


def test_release_finalizers_lets_every_object_go_and_ends_nothing(own_world: World, place: Cluster) -> None:
    ids = [tied(own_world, place, f"o{number}") for number in range(5)]
    place.patch("o0", {"metadata": {"finalizers": ["example.com/other", FINALIZER]}})
    own_world.operator.stop()
    place.delete_all()
    done = release_finalizers(own_world, f"--namespace={place.namespace}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("5 finalizers removed")
    (left,) = place.objects()
    assert left["metadata"]["finalizers"] == ["example.com/other"]
    place.patch("o0", {"metadata": {"finalizers": None}})
    own_world.operator.start()
    assert [reasons_sent(own_world, job_id) for job_id in ids] == [[]] * 5


def test_release_finalizers_refuses_while_an_operator_holds_a_lease(own_world: World, place: Cluster) -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "op", "labels": {"app.kubernetes.io/name": "awsbatch-operator"}},
        "spec": {"holderIdentity": "pod-1"},
    }
    place.kubectl("create", "--filename=-", stdin=json.dumps(lease))
    refused = release_finalizers(own_world)
    assert refused.returncode == 2
    assert "pod-1 holds the Lease" in refused.stderr
    assert release_finalizers(own_world, "--force", f"--namespace={place.namespace}").returncode == 0
    place.kubectl("delete", "lease", "op")


def test_the_deletion_of_the_crd_ends_nothing_and_nothing_hangs(own_world: World, place: Cluster) -> None:
    many(own_world, place)
    own_world.cluster.kubectl("delete", "crd", CRD_NAME, "--timeout=60s", timeout=90)
    assert terminations_tried(own_world) == []
    if own_world.operator.running:
        own_world.operator.stop()
    establish(own_world.cluster)
