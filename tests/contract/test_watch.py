"""Kopf's watch, on an API server with the project's CRD."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from awsbatch_operator.api import names
from awsbatch_operator.api.decoding import Snapshot
from awsbatch_operator.handlers.watch import EventBuffer, Watch, WatchError, make_registry
from awsbatch_operator.kube.credentials import ClusterConfig
from awsbatch_sandbox.apiserver.server import ApiServer, load_definitions, serve
from awsbatch_sandbox.cluster import batch_job

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serve(ApiServer(load_definitions([ROOT / names.CRD_FILE]))) as url:
        yield url


async def order(url: str, verb: str, **body: object) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/_sandbox/{verb}", json=body) as response:
        assert response.status == 200


async def create(url: str, name: str) -> None:
    path = f"{url}/apis/{names.API_VERSION}/namespaces/default/{names.PLURAL}"
    async with aiohttp.ClientSession() as session, session.post(path, json=batch_job(name, "job-1")) as response:
        assert response.status == 201


@pytest.fixture
async def received() -> asyncio.Queue[str]:
    """The names of the objects that the watch reported."""
    return asyncio.Queue()


class Listener:
    def __init__(self, received: asyncio.Queue[str]) -> None:
        self._received = received

    def on_relist(self, uid: str) -> None:
        """What follows says it all."""

    def on_upsert(self, snapshot: Snapshot) -> None:
        self._received.put_nowait(snapshot.ref.name)

    def on_delete(self, uid: str) -> None:
        """No test deletes anything."""


@pytest.fixture
async def watch(url: str, received: asyncio.Queue[str]) -> AsyncIterator[Watch]:
    watch = Watch(
        make_registry(lambda: ClusterConfig(url), EventBuffer(asyncio.get_running_loop(), Listener(received))),
        ("default",),
    )
    yield watch
    watch.stop()


async def until_received(received: asyncio.Queue[str], name: str) -> None:
    async with asyncio.timeout(10):
        while await received.get() != name:
            pass


async def test_it_watches_without_a_user_name(
    url: str, watch: Watch, received: asyncio.Queue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    # No database of users at all, which is even less than a uid that is not in it.
    monkeypatch.setitem(sys.modules, "pwd", None)
    await create(url, "train-42")
    ended = watch.start()
    await until_received(received, "train-42")
    assert not ended.done()


@pytest.mark.parametrize("expired", [True, False], ids=["a 410 in the stream", "a cut"])
async def test_a_watch_continues_after(url: str, watch: Watch, received: asyncio.Queue[str], expired: bool) -> None:
    ended = watch.start()
    await create(url, "before")
    await until_received(received, "before")
    await order(url, "cut", expired=expired)
    await create(url, "after")
    await until_received(received, "after")
    watch.stop()
    await asyncio.wait_for(ended, 10)


async def test_a_watch_from_an_expired_version_ends_with_its_error(
    url: str, watch: Watch, received: asyncio.Queue[str]
) -> None:
    ended = watch.start()
    await create(url, "before")
    await until_received(received, "before")
    await order(url, "fault", method="GET", query_regex="watch=", status=410)
    await order(url, "cut")
    # A watch that ended without a word would leave a leader that receives nothing and holds its Lease.
    with pytest.raises(Exception, match="410"):
        await asyncio.wait_for(ended, 10)


async def test_a_watch_whose_crd_is_deleted_ends_with_the_remedy(
    url: str, watch: Watch, received: asyncio.Queue[str]
) -> None:
    ended = watch.start()
    await create(url, "before")
    await until_received(received, "before")
    crd = f"{url}/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{names.crd_name(names.PLURAL)}"
    async with aiohttp.ClientSession() as session, session.delete(crd) as response:
        assert response.status == 200
    with pytest.raises(WatchError, match=r"does not serve BatchJob: install .*kubectl apply -f"):
        await asyncio.wait_for(ended, 20)


async def test_a_watch_that_says_nothing_is_replaced_by_a_restart(
    url: str, watch: Watch, received: asyncio.Queue[str]
) -> None:
    await order(url, "fault", method="GET", query_regex="watch=", silent=True)
    await create(url, "listed")
    ended = watch.start()
    await until_received(received, "listed")
    await create(url, "unseen")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await received.get()
    threads = 0
    for number in range(2):
        watch.restart()
        await until_received(received, "unseen")
        await create(url, f"watched-{number}")
        await until_received(received, f"watched-{number}")
        threads = threads or threading.active_count()
        assert threading.active_count() <= threads
    assert not ended.done()
    watch.restart()
    watch.stop()
    await asyncio.wait_for(ended, 10)


async def test_a_server_that_rejects_all_credentials_is_not_asked_in_a_tight_loop(received: asyncio.Queue[str]) -> None:
    logins, rejected = 0, asyncio.Queue[None]()

    async def reject(_request: web.Request) -> web.Response:
        rejected.put_nowait(None)
        return web.json_response({"kind": "Status", "code": 401}, status=401)

    app = web.Application()
    app.router.add_get("/{path:.*}", reject)
    async with TestServer(app) as server:

        def login() -> ClusterConfig:
            nonlocal logins
            logins += 1
            return ClusterConfig(str(server.make_url("")).rstrip("/"))

        buffer = EventBuffer(asyncio.get_running_loop(), Listener(received))
        watch = Watch(make_registry(login, buffer), ("default",))
        ended = watch.start()
        try:
            await asyncio.wait_for(rejected.get(), 10)
            await asyncio.sleep(1)
            assert logins == 1
            # The credentials may be accepted again: Kopf must not end.
            assert not ended.done()
        finally:
            watch.stop()
            await asyncio.wait([ended], timeout=10)
