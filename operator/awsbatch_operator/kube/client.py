"""HTTP client of the Kubernetes API with keep-alive: JSON in and out, bounded in time and connections."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp

from awsbatch_operator import __version__
from awsbatch_operator.api.names import FIELD_MANAGER
from awsbatch_operator.kube.credentials import ClusterConfig, NoClusterError, Renewal
from awsbatch_operator.kube.responses import (
    ApiError,
    Response,
    WatchEvent,
    connection_errors,
    parse_response,
    watch_events,
)

JSON: Final = "application/json"
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
METADATA: Final = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"

TIMEOUT_SECONDS: Final = 10.0
IDLE_TIMEOUT_SECONDS: Final = 75.0
"""Seconds that a watch may be silent: the API server sends a bookmark each minute if bookmarks are requested."""
CONNECTIONS: Final = 32

__all__ = ["ApiError", "KubeClient", "Response", "WatchEvent"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    headers: Mapping[str, str]
    params: Mapping[str, str] | None = None
    data: bytes | None = None


def _write_call(method: str, path: str, body: object, content_type: str = JSON) -> _Call:
    headers = {"Accept": JSON, "Content-Type": content_type}
    # The API server records under this name, field by field, what the operator writes.
    return _Call(
        method, path, headers, {"fieldManager": FIELD_MANAGER}, json.dumps(body, separators=(",", ":")).encode()
    )


def _utc_now() -> datetime:
    return datetime.now(UTC)


class KubeClient:
    """Use as `async with KubeClient(login) as client`. A verb returns a Response or raises ApiError.

    A request takes at most `timeout` s, and a login before it the time of a Renewal. It logs in when it first needs to,
    when the credentials expire, and once more when the server answers 401.
    """

    def __init__(
        self,
        load: Callable[[], ClusterConfig],
        *,
        connections: int = CONNECTIONS,
        timeout: float = TIMEOUT_SECONDS,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._renew, self._connections, self._timeout, self._now = Renewal(load), connections, timeout, now
        self._login: ClusterConfig | None = None
        self._session: aiohttp.ClientSession | None = None
        self._streams: aiohttp.ClientSession | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._session = await self._open.enter_async_context(_session(self._connections, self._timeout))
        # A watch keeps its connection while it is open: it must not use up the pool.
        self._streams = await self._open.enter_async_context(_session(0, self._timeout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def get(self, path: str, params: Mapping[str, str] | None = None, accept: str = JSON) -> Response:
        return await self._request(_Call("GET", path, {"Accept": accept}, params))

    async def patch(self, path: str, body: Mapping[str, Any]) -> Response:
        """A JSON merge patch."""
        return await self._request(_write_call("PATCH", path, body, MERGE_PATCH))

    async def json_patch(self, path: str, operations: Sequence[Mapping[str, Any]]) -> Response:
        """A JSON patch. If a `test` of it fails, the API server answers 422 without naming the object."""
        return await self._request(_write_call("PATCH", path, operations, JSON_PATCH))

    async def post(self, path: str, body: Mapping[str, Any]) -> Response:
        return await self._request(_write_call("POST", path, body))

    async def put(self, path: str, body: Mapping[str, Any]) -> Response:
        return await self._request(_write_call("PUT", path, body))

    async def delete(self, path: str) -> Response:
        return await self._request(_Call("DELETE", path, {"Accept": JSON}))

    @asynccontextmanager
    async def watch(
        self, path: str, params: Mapping[str, str], accept: str = JSON, *, idle_timeout: float = IDLE_TIMEOUT_SECONDS
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """Open a watch; the iterator ends when the server ends the watch.

        Raises ApiError if the server rejects the watch, the stream breaks, an ERROR event arrives (`status` is then
        that of the event, such as 410), or the stream is silent for `idle_timeout` seconds.
        """
        call = _Call("GET", path, {"Accept": accept}, {**params, "watch": "1"})
        server, response = await self._with_login(lambda login: self._open_watch(login, call, idle_timeout))
        try:
            yield watch_events(response, server, idle_timeout)
        finally:
            response.close()

    async def _request(self, call: _Call) -> Response:
        return await self._with_login(lambda login: self._send(login, call))

    async def _with_login(self, attempt: Callable[[ClusterConfig], Awaitable[_Result]]) -> _Result:
        login = await self._current_login(None)
        try:
            return await attempt(login)
        except ApiError as error:
            if error.status != 401:
                raise
        # A token may be renewed, or revoked, before its time.
        return await attempt(await self._current_login(login))

    async def _current_login(self, rejected: ClusterConfig | None) -> ClusterConfig:
        """Return the login; a new one if there is none, it has expired, or it is the one that the server rejected."""
        login = self._login
        expires_at = login.expires_at if login else None
        if login is None or login is rejected or (expires_at is not None and expires_at <= self._now()):
            try:
                login = self._login = await self._renew()
            except NoClusterError as error:
                raise ApiError(0, str(error)) from error
        return login

    async def _send(self, login: ClusterConfig, call: _Call) -> Response:
        with connection_errors(login.server, self._timeout):
            async with await _send_request(self._session, login, call) as response:
                listed = call.headers["Accept"] == METADATA_LIST
                return parse_response(response.status, await response.read(), metadata_list=listed)

    async def _open_watch(
        self, login: ClusterConfig, call: _Call, idle_timeout: float
    ) -> tuple[str, aiohttp.ClientResponse]:
        client_timeout = aiohttp.ClientTimeout(total=None, sock_read=idle_timeout)
        with connection_errors(login.server, self._timeout):
            async with asyncio.timeout(self._timeout):
                response = await _send_request(self._streams, login, call, timeout=client_timeout)
                if response.status != 200:
                    async with response:
                        parse_response(response.status, await response.read())
                return login.server, response


def _session(connections: int, timeout: float) -> aiohttp.ClientSession:
    """`connections` 0: no limit."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"{FIELD_MANAGER}/{__version__}"},
        timeout=aiohttp.ClientTimeout(total=timeout),
    )


async def _send_request(
    session: aiohttp.ClientSession | None, login: ClusterConfig, call: _Call, **options: Any
) -> aiohttp.ClientResponse:
    if session is None:
        raise RuntimeError("KubeClient is used outside `async with`")
    return await session.request(
        call.method,
        login.server + call.path,
        params=call.params,
        headers=[*call.headers.items(), *login.headers],
        data=call.data,
        ssl=login.tls or True,
        proxy=login.proxy,
        allow_redirects=False,
        **options,
    )
