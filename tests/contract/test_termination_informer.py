"""BatchTerminations as an API server reports them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from awsbatch_operator.api import names
from awsbatch_operator.api.batchtermination import BulkSnapshot
from awsbatch_operator.kube import credentials
from awsbatch_operator.kube.batchjobs import collection_path
from awsbatch_operator.kube.batchterminations import BatchTerminationInformer
from awsbatch_operator.kube.client import KubeClient
from awsbatch_sandbox.apiserver.server import ApiServer, load_definitions, serve
from awsbatch_sandbox.controlplane import crd_files
from contract.schema import TERMINATION_SPEC
from contract.test_policy_informer import SOON, eventually


class Handler:
    """Keeps what exists, by uid, and the order of what was reported."""

    def __init__(self) -> None:
        self.objects: dict[str, BulkSnapshot] = {}
        self.reported: list[tuple[str, str]] = []
        self.stale_since: float | None = 0.0

    def on_upsert(self, snapshot: BulkSnapshot) -> None:
        self.objects[snapshot.ref.uid] = snapshot
        self.reported.append(("upsert", snapshot.ref.uid))

    def on_delete(self, uid: str) -> None:
        del self.objects[uid]
        self.reported.append(("delete", uid))

    def on_stale_since(self, since: float | None) -> None:
        self.stale_since = since

    def approved(self) -> list[tuple[str, str, bool]]:
        return sorted(
            (one.ref.namespace, one.ref.name, one.spec is not None and one.spec.approved)
            for one in self.objects.values()
        )


async def make(client: KubeClient, namespace: str, name: str = "stop") -> str:
    head = {"apiVersion": names.API_VERSION, "kind": names.TERMINATION_KIND, "metadata": {"name": name}}
    spec = {**TERMINATION_SPEC, "approved": False}
    path = collection_path(namespace, names.TERMINATION_PLURAL)
    uid: str = (await client.post(path, {**head, "spec": spec})).body["metadata"]["uid"]
    return uid


def path_of(namespace: str, name: str = "stop") -> str:
    return f"{collection_path(namespace, names.TERMINATION_PLURAL)}/{name}"


@asynccontextmanager
async def running(client: KubeClient, *namespaces: str) -> AsyncIterator[tuple[Handler, BatchTerminationInformer]]:
    handler = Handler()
    informer = BatchTerminationInformer(client, handler, namespaces)
    task = asyncio.ensure_future(informer.run())
    try:
        await eventually(lambda: handler.stale_since is None)
        yield handler, informer
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


@asynccontextmanager
async def an_api_server() -> AsyncIterator[tuple[ApiServer, KubeClient]]:
    server = ApiServer(load_definitions(crd_files()))
    async with serve(server) as url, KubeClient(lambda: credentials.ClusterConfig(url)) as client:
        for namespace in ("a", "b", "c"):
            await client.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
        yield server, client


async def test_changes_in_the_watched_namespaces_are_reported_soon() -> None:
    async with an_api_server() as (_, client), running(client, "a", "b") as (handler, _):
        first, _, _ = [await make(client, namespace) for namespace in ("a", "b", "c")]
        await eventually(lambda: handler.approved() == [("a", "stop", False), ("b", "stop", False)], SOON)
        await client.patch(path_of("b"), {"spec": {"approved": True}})
        await eventually(lambda: handler.approved() == [("a", "stop", False), ("b", "stop", True)], SOON)
        await client.delete(path_of("a"))
        second = await make(client, "a")
        await eventually(lambda: second in handler.objects, SOON)
        assert handler.reported[-2:] == [("delete", first), ("upsert", second)]


async def test_missed_changes_are_reported_after_a_relist() -> None:
    async with an_api_server() as (server, client), running(client) as (handler, informer):
        first = await make(client, "a")
        gone = await make(client, "b")
        await eventually(lambda: {first, gone} == handler.objects.keys(), SOON)
        informer.relist()
        assert handler.stale_since is not None
        await eventually(lambda: handler.stale_since is None, SOON)
        server.store.expire()
        server.store.cut()
        await client.delete(path_of("a"))
        await client.delete(path_of("b"))
        second = await make(client, "a")
        await eventually(lambda: handler.objects.keys() == {second} and handler.stale_since is None, SOON)
