"""What the informer of BatchTerminations passes on: by uid, from one or several namespaces, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api.batchtermination import BulkSnapshot
from awsbatch_operator.kube.batchterminations import BatchTerminationInformer
from awsbatch_operator.kube.client import JSON, ApiError, KubeClient, Response, WatchEvent
from awsbatch_operator.kube.credentials import ClusterConfig
from unit.kube.scripted_watch import AWAY, UNSERVED, Collection

pytestmark = pytest.mark.looptime(start=1_000)


class Handler:
    def __init__(self) -> None:
        self.calls: list[object] = []
        self.stale: list[float | None] = []

    def on_upsert(self, snapshot: BulkSnapshot) -> None:
        self.calls.append(snapshot.ref.uid)

    def on_delete(self, uid: str) -> None:
        self.calls.append(("deleted", uid))

    def on_stale_since(self, since: float | None) -> None:
        self.stale.append(since)

    def take(self) -> list[object]:
        calls, self.calls = self.calls, []
        return calls


class Cluster(KubeClient):
    """A collection for each namespace. `denied`: verbs that reviews deny there, or an error of reviews."""

    def __init__(self, *namespaces: str) -> None:
        super().__init__(lambda: ClusterConfig("http://nobody.example"))
        self.collections = {namespace: Collection() for namespace in namespaces}
        self.denied: dict[str, set[str]] = {}
        self.review_error: ApiError | None = None

    def make(self, namespace: str, name: str, uid: str) -> dict[str, Any]:
        body = self.collections[namespace].make(name)
        body["metadata"] |= {"namespace": namespace, "uid": uid}
        return body

    def _of(self, path: str) -> Collection:
        _, _, rest = path.partition("/namespaces/")
        return self.collections[rest.partition("/")[0] if rest else ""]

    async def get(self, path: str, params: Mapping[str, str] | None = None, accept: str = JSON) -> Response:
        return await self._of(path).get(path, params, accept)

    @asynccontextmanager
    async def watch(
        self, path: str, params: Mapping[str, str], accept: str = JSON, *, idle_timeout: float = 75.0
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        async with self._of(path).watch(path, params, accept, idle_timeout=idle_timeout) as events:
            yield events

    async def post(self, path: str, body: Mapping[str, Any], **_: Any) -> Response:
        assert path.endswith("/selfsubjectaccessreviews")
        if self.review_error is not None:
            raise self.review_error
        asked = body["spec"]["resourceAttributes"]
        assert (asked["group"], asked["resource"]) == ("awsbatch.dev", "batchterminations")
        return Response(201, {"status": {"allowed": asked["verb"] not in self.denied.get(asked["namespace"], set())}})


@asynccontextmanager
async def running(cluster: Cluster, *namespaces: str) -> AsyncIterator[tuple[Handler, BatchTerminationInformer]]:
    handler = Handler()
    informer = BatchTerminationInformer(cluster, handler, namespaces)
    task = asyncio.ensure_future(informer.run())
    try:
        await asyncio.sleep(0.1)
        yield handler, informer
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


async def test_objects_of_equal_names_in_two_namespaces_are_two() -> None:
    cluster = Cluster("a", "b")
    one, other = cluster.make("a", "stop", "u1"), cluster.make("b", "stop", "u2")
    async with running(cluster, "a", "b") as (handler, _):
        assert handler.take() == ["u1", "u2"]
        cluster.collections["b"].send("DELETED", other)
        await asyncio.sleep(0.1)
        assert handler.take() == [("deleted", "u2")]
        cluster.collections["a"].send("MODIFIED", one)
        await asyncio.sleep(0.1)
        assert handler.take() == ["u1"]


async def test_in_the_whole_cluster_names_are_those_of_their_namespaces() -> None:
    cluster = Cluster("")
    for namespace, uid in (("a", "u1"), ("b", "u2")):
        body = cluster.collections[""].make(f"{namespace}-stop")
        body["metadata"] |= {"name": "stop", "namespace": namespace, "uid": uid}
    async with running(cluster) as (handler, _):
        assert handler.take() == ["u1", "u2"]


@pytest.mark.parametrize("missed", ["in the watch", "in a list"])
async def test_an_object_that_was_created_again_is_another_one(missed: str) -> None:
    cluster = Cluster("a")
    cluster.make("a", "stop", "u1")
    cluster.make("a", "gone", "u0")
    async with running(cluster, "a") as (handler, _):
        await asyncio.sleep(5)
        assert handler.take() == ["u0", "u1"]
        again = cluster.make("a", "stop", "u2")
        if missed == "in the watch":
            cluster.collections["a"].send("MODIFIED", again)
        else:
            del cluster.collections["a"].objects["gone"]
            cluster.collections["a"].end(AWAY)
        await asyncio.sleep(0.5)
        gone = [("deleted", "u0")] if missed == "in a list" else []
        assert handler.take() == [*gone, ("deleted", "u1"), "u2"]


async def test_it_is_stale_while_one_of_its_watches_is_and_relist_lists_all() -> None:
    cluster = Cluster("a", "b")
    async with running(cluster, "a", "b") as (handler, informer):
        assert handler.stale[-1] is None
        assert handler.stale[:-1] == [1_000]
        await asyncio.sleep(5)
        cluster.collections["b"].error = AWAY
        cluster.collections["b"].end(AWAY)
        await asyncio.sleep(60)
        assert handler.stale[-1] == pytest.approx(1_000.1, abs=0.1)
        cluster.collections["b"].error = None
        await asyncio.sleep(2)
        assert handler.stale[-1] is None
        informer.relist()
        assert handler.stale[-1] is not None
        await asyncio.sleep(1)
        assert handler.stale[-1] is None
        assert [one.verbs[-2:] for one in cluster.collections.values()] == [["list", "watch"]] * 2


async def test_a_missing_crd_means_that_there_are_none_until_it_is_installed() -> None:
    cluster = Cluster("")
    cluster.collections[""].error = UNSERVED
    async with running(cluster) as (handler, informer):
        await asyncio.sleep(20)
        assert (handler.take(), handler.stale[-1]) == ([], None)
        informer.relist()
        assert handler.stale[-1] is not None
        await asyncio.sleep(5)
        assert handler.stale[-1] is None
        cluster.collections[""].error = None
        cluster.make("", "stop", "u1")
        await asyncio.sleep(5)
        assert handler.take() == ["u1"]


@pytest.mark.parametrize("verb", ["list", "watch", "patch"])
async def test_without_a_permission_they_are_ignored_and_the_log_names_it(verb: str) -> None:
    cluster = Cluster("a", "b")
    cluster.denied["b"] = {verb}
    with capture_logs() as logs:
        async with running(cluster, "a", "b") as (handler, _):
            await asyncio.sleep(60)
            assert handler.take() == []
    assert [one.calls for one in cluster.collections.values()] == [[], []]
    assert [line["log_level"] for line in logs] == ["warning"]
    assert f"{verb} batchterminations" in logs[0]["error"]
    assert "namespace b" in logs[0]["error"]


@pytest.mark.parametrize("error", [AWAY, ApiError(403, "forbidden")])
async def test_a_review_that_fails_keeps_nobody_from_watching(error: ApiError) -> None:
    cluster = Cluster("a")
    cluster.review_error = error
    cluster.make("a", "stop", "u1")
    async with running(cluster, "a") as (handler, _):
        assert handler.take() == ["u1"]
