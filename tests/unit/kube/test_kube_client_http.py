"""The client against a loopback server with scripted answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from awsbatch_operator import __version__
from awsbatch_operator.kube.client import METADATA, METADATA_LIST, ApiError, KubeClient, WatchEvent
from awsbatch_operator.kube.credentials import ClusterConfig, NoClusterError

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Logins:
    """Gives one access after the other, and counts."""

    def __init__(self, server: TestServer, *tokens: str, expires_at: datetime | None = None) -> None:
        self.left = [
            ClusterConfig(
                str(server.make_url("")).rstrip("/"), headers=(("Authorization", f"Bearer {t}"),), expires_at=expires_at
            )
            for t in tokens
        ]
        self.count = 0

    def __call__(self) -> ClusterConfig:
        self.count += 1
        return self.left.pop(0)


async def served(reply: Reply) -> TestServer:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", reply)
    server = TestServer(app)
    await server.start_server()
    return server


def replying(status: int, body: bytes = b"{}") -> Reply:
    async def reply(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body)

    return reply


async def error_of(reply: Reply) -> ApiError:
    server = await served(reply)
    async with server, KubeClient(Logins(server, "t", "t"), timeout=5) as client:
        with pytest.raises(ApiError) as raised:
            await client.get("/x")
    return raised.value


async def test_each_verb_sends_what_the_api_server_expects() -> None:
    seen: list[tuple[str, str, str, str | None, Any]] = []

    async def reply(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.text() or "null")
        assert request.headers["User-Agent"] == f"awsbatch-operator/{__version__}"
        assert request.headers["Authorization"] == "Bearer t"
        seen.append(
            (request.method, request.path_qs, request.headers["Accept"], request.headers.get("Content-Type"), body)
        )
        return web.json_response({"a": 1}, status=201)

    server = await served(reply)
    async with server, KubeClient(Logins(server, "t")) as client:
        assert await client.get("/x", {"limit": "1"}, METADATA) == (201, {"a": 1})
        await client.post("/x", {"b": "é"})
        await client.put("/x", {"b": 2})
        await client.patch("/x", {"b": None})
        await client.delete("/x")
    own = "?fieldManager=awsbatch-operator"
    json_type = "application/json"
    assert seen == [
        ("GET", "/x?limit=1", METADATA, None, None),
        ("POST", f"/x{own}", json_type, json_type, {"b": "é"}),
        ("PUT", f"/x{own}", json_type, json_type, {"b": 2}),
        ("PATCH", f"/x{own}", json_type, "application/merge-patch+json", {"b": None}),
        ("DELETE", "/x", json_type, None, None),
    ]


async def test_only_used_fields_of_a_metadata_list_are_decoded() -> None:
    name = {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1", "labels": {"team": "x"}}
    whole = {"metadata": {"continue": "t"}, "items": [{"kind": "P", "metadata": {**name, "managedFields": [{}]}}]}
    foreign = {"metadata": {}, "items": [{"metadata": {"name": 1, "managedFields": [{}]}}]}
    for sent, read in (
        (whole, {"metadata": {"continue": "t"}, "items": [{"metadata": name}]}),
        (foreign, foreign),
    ):
        server = await served(replying(200, json.dumps(sent).encode()))
        async with server, KubeClient(Logins(server, "t")) as client:
            assert (await client.get("/x", None, METADATA_LIST)).body == read
    server = await served(replying(403, b'{"kind": "Status", "message": "no such"}'))
    async with server, KubeClient(Logins(server, "t")) as client:
        with pytest.raises(ApiError, match="no such"):
            await client.get("/x", None, METADATA_LIST)


async def test_an_error_carries_the_fields_of_the_status_object() -> None:
    refusal = {"kind": "Status", "message": "no such", "reason": "NotFound", "details": {"name": "x"}}
    error = await error_of(replying(404, json.dumps(refusal).encode()))
    assert (error.status, str(error), error.reason, error.details) == (404, "no such", "NotFound", {"name": "x"})


@pytest.mark.parametrize(
    ("status", "transient"), [(400, False), (403, False), (409, False), (422, False), (429, True), (503, True)]
)
async def test_an_error_is_transient_or_not(status: int, transient: bool) -> None:
    error = await error_of(replying(status))
    assert (error.status, error.transient) == (status, transient)


async def test_half_a_surrogate_pair_does_not_make_an_answer_unreadable() -> None:
    server = await served(replying(200, b'{"items": ["\\ud83d", "whole"]}'))
    async with server, KubeClient(Logins(server, "t")) as client:
        assert (await client.get("/x")).body == {"items": ["\ud83d", "whole"]}


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"[1]", b"", b"[" * 100_000])
async def test_a_successful_call_without_a_json_object_counts_as_unanswered(body: bytes) -> None:
    error = await error_of(replying(200, body))
    assert (error.status, error.transient) == (0, True)


async def test_a_refusal_that_is_not_json_shows_its_beginning() -> None:
    error = await error_of(replying(502, b"<html>bad gateway" + b"x" * 10_000))
    assert error.message.startswith("HTTP 502: <html>bad gateway")
    assert len(error.message) < 400


async def test_a_redirect_is_no_answer_to_follow() -> None:
    async def reply(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/elsewhere")

    assert (await error_of(reply)).status == 302


async def test_a_cut_body_counts_as_unanswered() -> None:
    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"a":')
        assert request.transport is not None
        request.transport.close()
        return response

    error = await error_of(reply)
    assert (error.status, error.transient) == (0, True)
    assert error.__cause__ is not None


async def test_a_server_that_hangs_times_out() -> None:
    hanging = asyncio.Event()

    async def reply(_request: web.Request) -> web.StreamResponse:
        await hanging.wait()
        return web.Response()

    server = await served(reply)
    async with server, KubeClient(Logins(server, "t"), timeout=0.05) as client:
        with pytest.raises(ApiError, match=r"did not answer within 0\.05 s") as raised:
            await client.get("/x")
        hanging.set()
    assert raised.value.status == 0


async def test_an_unreachable_server_is_reported_without_memory_addresses() -> None:
    server = await served(replying(200))
    logins = Logins(server, "t")
    await server.close()
    async with KubeClient(logins) as client:
        with pytest.raises(ApiError, match=r"cannot reach .*: \[Errno") as raised:
            await client.get("/x")
    assert "0x" not in str(raised.value)


async def test_a_rejected_token_is_reloaded_once() -> None:
    async def reply(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=200 if request.headers["Authorization"] == "Bearer new" else 401)

    server = await served(reply)
    logins = Logins(server, "old", "new")
    async with server, KubeClient(logins) as client:
        assert [answer.status for answer in await asyncio.gather(*(client.get("/x") for _ in range(10)))] == [200] * 10
    assert logins.count == 2


async def test_a_token_that_is_rejected_twice_is_a_401() -> None:
    assert (await error_of(replying(401))).status == 401


async def test_an_expired_token_is_reloaded_before_the_call() -> None:
    seen: list[str] = []

    async def reply(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers["Authorization"])
        return web.json_response({})

    now = NOW
    server = await served(reply)
    async with (
        server,
        KubeClient(Logins(server, "a", "b", expires_at=NOW + timedelta(minutes=1)), now=lambda: now) as client,
    ):
        await client.get("/x")
        await client.get("/x")
        now += timedelta(minutes=1)
        await client.get("/x")
    assert seen == ["Bearer a", "Bearer a", "Bearer b"]


async def test_without_credentials_a_call_counts_as_unanswered_with_the_cause() -> None:
    def none() -> ClusterConfig:
        raise NoClusterError("no Kubernetes cluster: …")

    async with KubeClient(none) as client:
        with pytest.raises(ApiError, match="no Kubernetes cluster") as raised:
            await client.get("/x")
    assert isinstance(raised.value.__cause__, NoClusterError)


async def test_connections_are_kept_and_bounded() -> None:
    ports: set[int] = set()
    most = now = 0

    async def reply(request: web.Request) -> web.StreamResponse:
        nonlocal most, now
        now += 1
        most = max(most, now)
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        await asyncio.sleep(0)
        now -= 1
        return web.json_response({})

    server = await served(reply)
    async with server, KubeClient(Logins(server, "t"), connections=3) as client:
        await asyncio.gather(*(client.get("/x") for _ in range(30)))
    assert most <= 3
    assert len(ports) <= 3


async def test_use_outside_of_its_context_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await KubeClient(lambda: ClusterConfig("http://127.0.0.1:1")).get("/x")


# -- watches ----------------------------------------------------------------------------------------------------------


def streaming(*chunks: bytes, cut: bool = False, seen: list[web.Request] | None = None) -> Reply:
    """Each chunk by itself; afterwards the stream ends as it should, or the connection is gone."""

    async def reply(request: web.Request) -> web.StreamResponse:
        if seen is not None:
            seen.append(request)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0)
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    return reply


def line(kind: str, body: object) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


async def watched(reply: Reply, *tokens: str, **options: Any) -> tuple[list[WatchEvent], ApiError | None]:
    """Return the events of a watch, and the error that it ended with."""
    received: list[WatchEvent] = []
    server = await served(reply)
    async with server, KubeClient(Logins(server, *(tokens or ("t",))), timeout=5) as client:
        try:
            async with asyncio.timeout(5), client.watch("/x", {"resourceVersion": "7"}, METADATA, **options) as events:
                async for event in events:
                    received.append(event)  # noqa: PERF401  events before an error count
        except ApiError as error:
            return received, error
    return received, None


async def test_a_watch_gives_event_after_event_however_they_are_cut_into_chunks() -> None:
    seen: list[web.Request] = []
    text = line("ADDED", {"n": "é"}) + line("DELETED", {"n": 2}) + line("BOOKMARK", {"n": 3})
    wanted = [WatchEvent("ADDED", {"n": "é"}), WatchEvent("DELETED", {"n": 2}), WatchEvent("BOOKMARK", {"n": 3})]
    assert await watched(streaming(text, seen=seen)) == (wanted, None)
    assert await watched(streaming(*(text[at : at + 1] for at in range(len(text))))) == (wanted, None)
    (request,) = seen
    assert (request.method, dict(request.query)) == ("GET", {"resourceVersion": "7", "watch": "1"})
    assert (request.headers["Accept"], request.headers["Authorization"]) == (METADATA, "Bearer t")


async def test_an_event_may_be_as_long_as_an_object_can_be() -> None:
    body = {"text": "x" * 3_000_000}
    assert await watched(streaming(line("ADDED", body))) == ([WatchEvent("ADDED", body)], None)


@pytest.mark.parametrize("chunks", [(), (line("ADDED", {}),), (line("ADDED", {}), b'{"type":')])
async def test_a_watch_that_is_cut_is_an_error_after_its_events(chunks: tuple[bytes, ...]) -> None:
    received, error = await watched(streaming(*chunks, cut=True))
    assert received == [WatchEvent("ADDED", {})][: len(chunks)]
    assert error is not None
    assert (error.status, error.transient) == (0, True)


@pytest.mark.parametrize("end", [b'{"type":"ADDED","object":{}}', b"\n", b"[]\n", line("ADDED", None)])
async def test_a_line_that_is_not_an_event_is_an_error(end: bytes) -> None:
    received, error = await watched(streaming(line("ADDED", {}), end))
    assert received == [WatchEvent("ADDED", {})]
    assert error is not None
    assert error.status == 0


async def test_an_error_in_the_stream_is_one_with_its_own_code() -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    received, error = await watched(streaming(line("ADDED", {}), line("ERROR", status)))
    assert received == [WatchEvent("ADDED", {})]
    assert error is not None
    assert (error.status, error.reason, error.message) == (410, "Expired", "too old resource version")


@pytest.mark.parametrize("status", [403, 404, 410, 500])
async def test_a_rejected_watch_is_an_error(status: int) -> None:
    received, error = await watched(replying(status, b'{"message": "no"}'))
    assert received == []
    assert error is not None
    assert (error.status, error.message) == (status, "no")


async def test_a_watch_logs_in_again_once_like_every_call() -> None:
    async def reply(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] != "Bearer new":
            return web.json_response({}, status=401)
        return await streaming(line("ADDED", {}))(request)

    assert await watched(reply, "old", "new") == ([WatchEvent("ADDED", {})], None)
    _, error = await watched(replying(401), "old", "older")
    assert error is not None
    assert error.status == 401


async def test_a_silent_watch_times_out() -> None:
    hanging = asyncio.Event()

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(line("ADDED", {}))
        await hanging.wait()
        return response

    received, error = await watched(reply, idle_timeout=0.1)
    hanging.set()
    assert received == [WatchEvent("ADDED", {})]
    assert error is not None
    assert error.message.endswith(r"did not answer within 0.1 s")


async def test_watches_use_no_connections_of_calls_and_end_with_their_block() -> None:
    left = asyncio.Queue[None]()

    async def reply(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({})
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(line("ADDED", {}))
        try:
            await asyncio.Event().wait()
        finally:
            left.put_nowait(None)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", reply)
    server = TestServer(app, handler_cancellation=True)
    await server.start_server()
    async with server, KubeClient(Logins(server, "t"), connections=1, timeout=5) as client:
        async with client.watch("/x", {}) as first, client.watch("/x", {}) as second:
            assert [(await anext(events)).type for events in (first, second)] == ["ADDED", "ADDED"]
            assert (await client.get("/x")).status == 200
            assert left.empty()
        async with asyncio.timeout(5):
            await left.get()
            await left.get()
