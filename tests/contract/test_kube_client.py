"""The behaviour of an API server with the project's CRD on which the package `kube` relies."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from awsbatch_operator.api import names
from awsbatch_operator.api.batchjob import Condition, ObjectRef, Phase, Status
from awsbatch_operator.api.decoding import Snapshot
from awsbatch_operator.api.events import Event, EventReason
from awsbatch_operator.api.interfaces import Conflict, Gone, ListError, NotWritten, Written
from awsbatch_operator.api.job import Array, Job
from awsbatch_operator.kube import credentials
from awsbatch_operator.kube.batchjobs import KubeBatchJobClient, PreflightError, collection_path, object_path
from awsbatch_operator.kube.client import METADATA_LIST, KubeClient
from awsbatch_operator.kube.events import EventPoster
from awsbatch_sandbox.processes import Child
from contract.servers import embedded_api_server

AT = 1_795_428_000_000
RUNNING = Status(
    observed_generation=1,
    phase=Phase.RUNNING,
    region="eu-west-1",
    job=Job("PENDING", name="train", created_at=AT, array=Array(3, None, {"RUNNABLE": 2, "RUNNING": 1})),
    conditions=(Condition("Ready", "True", "Observed", AT, "", 1),),
)
_numbers = count()


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with embedded_api_server(tmp_path_factory.mktemp("api")) as path:
        yield path


@pytest.fixture
async def client(kubeconfig: Path) -> AsyncIterator[KubeClient]:
    async with KubeClient(credentials.Login(str(kubeconfig))) as client:
        yield client


@pytest.fixture
async def events(client: KubeClient) -> AsyncIterator[EventPoster]:
    async with EventPoster(client, "pod-1") as events:
        yield events


@pytest.fixture
def jobs(client: KubeClient, events: EventPoster) -> KubeBatchJobClient:
    return KubeBatchJobClient(client, events)


def kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None) -> str:
    found = shutil.which("kubectl", path=Path(sys.executable).parent)
    assert found, "kubectl comes with the extra sandbox"
    command = [found, "--kubeconfig", str(kubeconfig), "--cache-dir", str(kubeconfig.parent / "cache"), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=30).stdout


async def created(client: KubeClient, name: str = "") -> Snapshot:
    """A new object, read back."""
    name = name or f"job-{next(_numbers)}"
    body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": {"jobId": name}}
    _, shown = await client.post(collection_path("default"), body)
    found = await KubeBatchJobClient(client, EventPoster(client, "")).read(
        ObjectRef("default", name, shown["metadata"]["uid"])
    )
    assert isinstance(found, Snapshot)
    return found


async def test_a_status_is_written_whole_then_in_parts_and_reads_back_the_same(
    client: KubeClient, jobs: KubeBatchJobClient
) -> None:
    made = await created(client)
    first = await jobs.write_status(made.ref, jobs.change(RUNNING, made.shown), made.resource_version)
    assert isinstance(first, Written)
    assert not jobs.change(RUNNING, first.shown)
    assert RUNNING.job is not None
    later = RUNNING.replace(phase=None, job=RUNNING.job.replace(array=Array(3, None, {"SUCCEEDED": 3})))
    second = await jobs.write_status(made.ref, jobs.change(later, first.shown), first.resource_version)
    assert isinstance(second, Written)
    assert not jobs.change(later, second.shown)
    found = await jobs.read(made.ref)
    assert isinstance(found, Snapshot)
    assert (found.status, found.resource_version, found.generation) == (later, second.resource_version, 1)


async def test_only_the_status_of_the_object_belongs_to_the_operator(
    client: KubeClient, jobs: KubeBatchJobClient, kubeconfig: Path
) -> None:
    name = f"job-{next(_numbers)}"
    body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": {"jobId": "j"}}
    made = json.loads(kubectl(kubeconfig, "create", "-o", "json", "-f", "-", stdin=json.dumps(body)))
    ref = ObjectRef("default", name, made["metadata"]["uid"])
    await jobs.write_status(ref, jobs.change(RUNNING, {}), made["metadata"]["resourceVersion"])
    _, shown = await client.get(object_path(ref))
    ours = [entry for entry in shown["metadata"]["managedFields"] if entry["manager"] == names.FIELD_MANAGER]
    assert [(entry.get("subresource"), [*entry["fieldsV1"]]) for entry in ours] == [("status", ["f:status"])]
    assert not shown["metadata"].keys() & {"annotations", "finalizers", "labels"}


async def test_a_write_for_an_older_version_is_a_conflict_and_changes_nothing(
    client: KubeClient, jobs: KubeBatchJobClient
) -> None:
    made = await created(client)
    newer = await jobs.write_status(made.ref, jobs.change(RUNNING, {}), made.resource_version)
    assert isinstance(newer, Written)
    assert (
        await jobs.write_status(made.ref, jobs.change(Status(phase=Phase.FAILED), {}), made.resource_version)
        == Conflict()
    )
    found = await jobs.read(made.ref)
    assert isinstance(found, Snapshot)
    assert found.status == RUNNING


async def test_an_object_that_was_deleted_is_gone(client: KubeClient, jobs: KubeBatchJobClient) -> None:
    made = await created(client)
    await client.delete(object_path(made.ref))
    assert await jobs.write_status(made.ref, jobs.change(RUNNING, {}), made.resource_version) == Gone()
    assert await jobs.read(made.ref) == Gone()


async def test_a_re_created_object_is_another_object(client: KubeClient, jobs: KubeBatchJobClient) -> None:
    made = await created(client)
    await client.delete(object_path(made.ref))
    anew = await created(client, made.ref.name)
    assert await jobs.write_status(made.ref, jobs.change(RUNNING, {}), made.resource_version) == Conflict()
    assert await jobs.read(made.ref) == Gone()
    found = await jobs.read(anew.ref)
    assert isinstance(found, Snapshot)
    assert found.shown == {"observedGeneration": 0}


async def test_a_status_that_the_schema_rejects_is_a_refusal(client: KubeClient, jobs: KubeBatchJobClient) -> None:
    made = await created(client)
    refused = await jobs.write_status(
        made.ref, jobs.change(Status(job=Job("RUNNING", attempts=-1)), {}), made.resource_version
    )
    assert isinstance(refused, NotWritten)
    assert refused.refused
    assert "status.attempts" in refused.message


async def test_the_list_of_versions_holds_each_object_of_the_watched_namespaces(
    client: KubeClient, events: EventPoster
) -> None:
    snapshots = [await created(client) for _ in range(3)]
    made = {(snapshot.ref, snapshot.resource_version) for snapshot in snapshots}
    for namespaces in ((), ("default",), ("default", "kube-system")):
        assert made <= {found async for found in KubeBatchJobClient(client, events, namespaces).versions()}
    assert {found async for found in KubeBatchJobClient(client, events, ("kube-system",)).versions()} == set()


async def test_a_page_has_only_metadata_and_a_continue_token(client: KubeClient) -> None:
    for _ in range(2):
        await created(client)
    _, page = await client.get(collection_path(None), {"limit": "1"}, METADATA_LIST)
    assert [set(item) & {"spec", "status"} for item in page["items"]] == [set()]
    _, second = await client.get(
        collection_path(None), {"limit": "1", "continue": page["metadata"]["continue"]}, METADATA_LIST
    )
    assert second["items"][0]["metadata"]["uid"] != page["items"][0]["metadata"]["uid"]


async def test_kubectl_shows_the_events(
    client: KubeClient, events: EventPoster, jobs: KubeBatchJobClient, kubeconfig: Path
) -> None:
    made = await created(client)
    for note in ("exit 1", "exit 1", "exit 2"):
        jobs.post_event(made.ref, Event(EventReason.JOB_FAILED, note, warning=True))
    jobs.post_event(made.ref, Event(EventReason.TERMINATION_ACCEPTED, "asked AWS Batch"))
    async with asyncio.timeout(10):
        await events.idle()
    described = await asyncio.to_thread(kubectl, kubeconfig, "describe", "batchjob", made.ref.name)
    table = [" ".join(line.split()) for line in described.partition("Events:")[2].splitlines()]
    assert any(
        line.startswith("Warning JobFailed") and "(x2 over" in line and line.endswith("exit 1") for line in table
    )
    assert any(line.endswith(f"{names.REPORTING_CONTROLLER} asked AWS Batch") for line in table)
    listed = await asyncio.to_thread(kubectl, kubeconfig, "events", "--for", f"batchjob/{made.ref.name}")
    assert [listed.count(note) for note in ("exit 1", "exit 2", "asked AWS Batch")] == [1, 1, 1]
    assert "(x2 over" in listed


async def test_a_cluster_without_the_crd_is_reported_with_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    command = [sys.executable, "-m", "awsbatch_sandbox.apiserver", "--kubeconfig", str(path)]
    server = Child("API server", command, log=tmp_path / "log")
    server.start()
    server.ready(server.output, timeout=20)
    async with KubeClient(credentials.Login(str(path))) as client:
        with pytest.raises(PreflightError, match=f"kubectl apply -f {names.CRD_FILE}"):
            await KubeBatchJobClient(client, EventPoster(client, "")).preflight()
    server.stop()


async def test_preflight_passes_on_a_complete_cluster(jobs: KubeBatchJobClient) -> None:
    await jobs.preflight()


async def test_a_server_error_is_not_a_refusal(client: KubeClient, jobs: KubeBatchJobClient) -> None:
    made = await created(client)
    await client.post("/_sandbox/fault", {"method": "*", "path_regex": "batchjobs", "status": 503, "times": 3})
    outcome = await jobs.write_status(made.ref, jobs.change(RUNNING, {}), made.resource_version)
    assert isinstance(outcome, NotWritten)
    assert not outcome.refused
    assert isinstance(await jobs.read(made.ref), NotWritten)
    with pytest.raises(ListError):
        _ = [found async for found in jobs.versions()]
    assert isinstance(await jobs.write_status(made.ref, jobs.change(RUNNING, {}), made.resource_version), Written)
