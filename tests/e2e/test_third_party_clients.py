"""Clients that other people wrote do the same on every control plane, over TLS."""

import asyncio
import base64
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import kr8s.asyncio
import lightkube
import pytest
import yaml
from kr8s.asyncio.objects import ConfigMap, new_class
from kubernetes import aio, client, config, watch
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources import core_v1
from lightkube.types import PatchType

from awsbatch_sandbox.cluster import MERGE_PATCH, Cluster, KubectlError, batch_job
from awsbatch_sandbox.kubeconfig import server_of
from awsbatch_sandbox.world import World

NAME, JOB_ID = "mine", "job-1"
STATED, OTHER = {"spec": {"terminate": {"reason": "enough"}}}, {"spec": {"jobId": "job-2"}}
DATA = {"a": "b"}
RESOURCE = ("awsbatch.dev", "v1alpha1")
PLURAL = "batchjobs"
Outcome = dict[str, Any]
Act = Callable[[Path, str], Awaitable[Outcome]]


async def kubectl(kubeconfig: Path, namespace: str) -> Outcome:
    with tempfile.TemporaryDirectory() as cache, closing(Cluster(kubeconfig, Path(cache), namespace)) as cluster:
        patch = ("patch", "bj", NAME, "--type=merge")
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(batch_job(NAME, JOB_ID)))
        listed = cluster.kubectl("get", "bj", "-o=jsonpath={.items[*].metadata.name}").split()
        cluster.kubectl(*patch, f"--patch={json.dumps(STATED)}")
        patched = json.loads(cluster.kubectl("get", "bj", NAME, "-o=jsonpath={.spec}"))
        with pytest.raises(KubectlError) as refused:
            cluster.kubectl(*patch, f"--patch={json.dumps(OTHER)}")
        cluster.kubectl("create", "configmap", NAME, "--from-literal=a=b")
        data = json.loads(cluster.kubectl("get", "cm", NAME, "-o=jsonpath={.data}"))
        form = '-o=jsonpath={.type} {.object.metadata.name}{"\\n"}'
        with cluster.kubectl_process("get", "bj", "--watch", "--output-watch-events", form) as process:
            assert process.stdout is not None
            watched = process.stdout.readline().split()
            process.terminate()
        cluster.kubectl("delete", "bj", NAME)
    code = 422 if f'The BatchJob "{NAME}" is invalid' in str(refused.value) else 0
    return {
        "listed": listed,
        "patched": patched,
        "refused": [code, str(refused.value)],
        "data": data,
        "watched": watched,
    }


async def official(kubeconfig: Path, namespace: str) -> Outcome:
    """The official Python client; it sends ConfigMaps without kind and apiVersion."""
    settings = client.Configuration()
    config.load_kube_config(str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
    where = (*RESOURCE, namespace, PLURAL)
    with client.ApiClient(settings) as api:
        objects: Any = client.CustomObjectsApi(api)
        core = client.CoreV1Api(api)
        objects.create_namespaced_custom_object(*where, batch_job(NAME, JOB_ID))
        listed = [one["metadata"]["name"] for one in objects.list_namespaced_custom_object(*where)["items"]]
        patched = objects.patch_namespaced_custom_object(*where, NAME, STATED, _content_type=MERGE_PATCH)["spec"]
        with pytest.raises(client.ApiException) as refused:
            objects.patch_namespaced_custom_object(*where, NAME, OTHER, _content_type=MERGE_PATCH)
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=NAME), data=DATA)
        data = core.create_namespaced_config_map(namespace, body).data
        stream = watch.Watch("object").stream(objects.list_namespaced_custom_object, *where)  # type: ignore[no-untyped-call]
        event = next(stream)
        stream.close()
        objects.delete_namespaced_custom_object(*where, NAME)
    return {
        "listed": listed,
        "patched": patched,
        "refused": [refused.value.status, json.loads(refused.value.body or "")["message"]],
        "data": data,
        "watched": [event["type"], event["object"]["metadata"]["name"]],
    }


async def official_async(kubeconfig: Path, namespace: str) -> Outcome:
    """The official Python client, asyncio."""
    settings = aio.client.Configuration()
    await aio.config.load_kube_config(str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
    where = (*RESOURCE, namespace, PLURAL)
    async with aio.client.ApiClient(settings) as api:
        objects: Any = aio.client.CustomObjectsApi(api)
        core = aio.client.CoreV1Api(api)
        await objects.create_namespaced_custom_object(*where, batch_job(NAME, JOB_ID))
        listed = [one["metadata"]["name"] for one in (await objects.list_namespaced_custom_object(*where))["items"]]
        patched = await objects.patch_namespaced_custom_object(*where, NAME, STATED, _content_type=MERGE_PATCH)
        with pytest.raises(aio.client.ApiException) as refused:
            await objects.patch_namespaced_custom_object(*where, NAME, OTHER, _content_type=MERGE_PATCH)
        body = aio.client.V1ConfigMap(metadata=aio.client.V1ObjectMeta(name=NAME), data=DATA)
        data = (await core.create_namespaced_config_map(namespace, body)).data
        watcher: Any = aio.watch.Watch("object")  # type: ignore[no-untyped-call]
        async with watcher.stream(objects.list_namespaced_custom_object, *where) as stream:
            event = await anext(stream)
        await objects.delete_namespaced_custom_object(*where, NAME)
    return {
        "listed": listed,
        "patched": patched["spec"],
        "refused": [refused.value.status, json.loads(refused.value.body or "")["message"]],
        "data": data,
        "watched": [event["type"], event["object"]["metadata"]["name"]],
    }


async def with_kr8s(kubeconfig: Path, namespace: str) -> Outcome:
    """kr8s; its synchronous interface runs the same code."""
    api: Any = await kr8s.asyncio.api(kubeconfig=str(kubeconfig), namespace=namespace)
    BatchJob: Any = new_class("BatchJob", "/".join(RESOURCE), namespaced=True, plural=PLURAL)  # noqa: N806
    job = await BatchJob(batch_job(NAME, JOB_ID), namespace=namespace, api=api)
    await job.create()
    listed = [one.name async for one in BatchJob.list(namespace=namespace, api=api)]
    await job.patch(STATED)
    patched = job.spec.to_dict()
    with pytest.raises(kr8s.ServerError) as refused:
        await job.patch(OTHER)
    answer: Any = refused.value
    configured = await ConfigMap({"metadata": {"name": NAME}, "data": DATA}, namespace=namespace, api=api)
    await configured.create()
    async with aclosing(api.watch(BatchJob, namespace=namespace)) as stream:
        kind, one = await anext(stream)
    await job.delete()
    await api._session.aclose()  # kr8s keeps it for the life of the process
    return {
        "listed": listed,
        "patched": patched,
        "refused": [answer.response.status_code, answer.status["message"]],
        "data": configured.data.to_dict(),
        "watched": [kind, one.name],
    }


BatchJobs: Any = create_namespaced_resource(*RESOURCE, "BatchJob", PLURAL)


async def with_lightkube(kubeconfig: Path, namespace: str) -> Outcome:
    """lightkube; its ApiError needs application/json without a charset."""
    settings = lightkube.KubeConfig.from_file(kubeconfig)
    made: Any = lightkube.Client(config=settings, namespace=namespace)
    with made as api:
        api.create(BatchJobs(batch_job(NAME, JOB_ID)))
        listed = [one.metadata.name for one in api.list(BatchJobs)]
        patched = api.patch(BatchJobs, NAME, STATED, patch_type=PatchType.MERGE).spec
        with pytest.raises(lightkube.ApiError) as refused:
            api.patch(BatchJobs, NAME, OTHER, patch_type=PatchType.MERGE)
        data = api.create(core_v1.ConfigMap(metadata=ObjectMeta(name=NAME), data=DATA)).data
        with closing(api.watch(BatchJobs)) as stream:
            kind, one = next(stream)
        api.delete(BatchJobs, NAME)
    return {
        "listed": listed,
        "patched": patched,
        "refused": [refused.value.status.code, refused.value.status.message],
        "data": data,
        "watched": [kind, one.metadata.name],
    }


async def javascript(kubeconfig: Path, namespace: str) -> Outcome:
    """The official JavaScript client."""
    program = fetched_client()
    done = await asyncio.create_subprocess_exec("node", program, kubeconfig, namespace, stdout=PIPE, stderr=PIPE)
    out, err = await done.communicate()
    assert done.returncode == 0, err.decode()
    outcome: Outcome = json.loads(out)
    return outcome


def fetched_client() -> Path:
    """The program beside its packages; npm fetches those once for each lock file. Skips the test without npm."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not on PATH")
    source, installed = Path(__file__).parent / "javascript", Path(sys.prefix, "javascript")
    if not (installed / "node_modules").is_dir() or _differ(source, installed):
        shutil.copytree(source, installed, dirs_exist_ok=True)
        fetched = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"],
            cwd=installed, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if fetched.returncode != 0:
            pytest.skip(f"npm can't fetch the client: {fetched.stderr.strip()[-200:]}")
    return installed / "client.mjs"


def _differ(source: Path, installed: Path) -> bool:
    return any((installed / one.name).read_bytes() != one.read_bytes() for one in source.iterdir())


@pytest.mark.filterwarnings("ignore:Kubernetes version .* is not supported")
@pytest.mark.parametrize("act", [kubectl, official, official_async, with_kr8s, with_lightkube, javascript])
async def test_it_creates_lists_patches_watches_deletes_and_reads_refusals(
    act: Act, world: World, cluster: Cluster
) -> None:
    outcome = await act(world.control_plane.kubeconfig, cluster.namespace)
    code, message = outcome.pop("refused")
    assert (code, "jobId is immutable" in message) == (422, True), message
    assert outcome == {
        "listed": [NAME],
        "patched": {"jobId": JOB_ID} | STATED["spec"],
        "data": DATA,
        "watched": ["ADDED", NAME],
    }


def test_the_control_plane_speaks_tls_only_and_its_certificate_is_valid_by_strict_rules(world: World) -> None:
    if world.control_plane.description == "the cluster of KUBECONFIG":
        pytest.skip("an existing cluster has its own certificates")
    server, opener = server_of(world.control_plane.kubeconfig)
    opener.open(f"{server}/readyz", timeout=5).close()
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        urllib.request.urlopen(f"{server}/readyz", timeout=5)
    cluster = yaml.safe_load(world.control_plane.kubeconfig.read_text("utf-8"))["clusters"][0]["cluster"]
    strict = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    urllib.request.build_opener(urllib.request.HTTPSHandler(context=strict)).open(f"{server}/readyz", timeout=5).close()
