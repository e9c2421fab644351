"""One keep-alive HTTP client of the Kubernetes API: JSON in and out, bounded in time and connections."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp

from awsbatch_operator import __version__
from awsbatch_operator.kube import credentials
from awsbatch_operator.kube.answers import Answer, ApiError, Told, answer, events, explained
from awsbatch_operator.kube.credentials import Access, NoClusterError
from awsbatch_operator.kube.names import FIELD_MANAGER

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
METADATA: Final = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"

TIMEOUT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 75.0
"""How long a watch may say nothing: a bookmark comes every minute, where bookmarks are asked for."""
CONNECTIONS: Final = 32

__all__ = ["Answer", "ApiError", "KubeClient", "Told"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    headers: Mapping[str, str]
    params: Mapping[str, str] | None = None
    data: bytes | None = None


def _writing(method: str, path: str, body: Mapping[str, Any], content_type: str = JSON) -> _Call:
    headers = {"Accept": JSON, "Content-Type": content_type}
    # The one name under which the API server files, field by field, what this operator writes.
    return _Call(
        method, path, headers, {"fieldManager": FIELD_MANAGER}, json.dumps(body, separators=(",", ":")).encode()
    )


@dataclass(frozen=True, slots=True)
class _Login:
    access: Access
    tls: ssl.SSLContext | None


def _log_in(load: Callable[[], Access]) -> _Login:
    access = load()
    return _Login(access, access.ssl_context())


def _utc_now() -> datetime:
    return datetime.now(UTC)


class KubeClient:
    """Use as `async with KubeClient() as client`. A verb gives an Answer or raises ApiError, in `timeout` s a try.

    Credentials are loaded when first needed, again when they expire, and once more when the server answers 401.
    """

    def __init__(
        self,
        load: Callable[[], Access] = credentials.load,
        *,
        connections: int = CONNECTIONS,
        timeout: float = TIMEOUT_SECONDS,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._load, self._connections, self._timeout, self._now = load, connections, timeout, now
        self._login: _Login | None = None
        self._logging_in = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._streams: aiohttp.ClientSession | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._session = await self._open.enter_async_context(_session(self._connections, self._timeout))
        # A watch keeps its connection for as long as it lasts; taken from the pool, it would be missed there.
        self._streams = await self._open.enter_async_context(_session(0, self._timeout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def get(self, path: str, params: Mapping[str, str] | None = None, accept: str = JSON) -> Answer:
        return await self._request(_Call("GET", path, {"Accept": accept}, params))

    async def patch(self, path: str, body: Mapping[str, Any]) -> Answer:
        """A JSON merge patch."""
        return await self._request(_writing("PATCH", path, body, MERGE_PATCH))

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return await self._request(_writing("POST", path, body))

    async def put(self, path: str, body: Mapping[str, Any]) -> Answer:
        return await self._request(_writing("PUT", path, body))

    async def delete(self, path: str) -> Answer:
        return await self._request(_Call("DELETE", path, {"Accept": JSON}))

    @asynccontextmanager
    async def watch(
        self, path: str, params: Mapping[str, str], accept: str = JSON, *, silence: float = SILENCE_SECONDS
    ) -> AsyncIterator[AsyncIterator[Told]]:
        """What happens, event by event; granted once the block begins, and the iterator ends when the server ends it.

        ApiError when it is not granted, breaks off, tells of an error (`status` is then that of the event, such as
        410), or when nothing is heard for `silence` seconds.
        """
        call = _Call("GET", path, {"Accept": accept}, {**params, "watch": "1"})
        server, response = await self._logged_in_for(lambda login: self._opened(login, call, silence))
        try:
            yield events(response, server, silence)
        finally:
            response.close()

    async def _request(self, call: _Call) -> Answer:
        return await self._logged_in_for(lambda login: self._send(login, call))

    async def _logged_in_for(self, attempt: Callable[[_Login], Awaitable[_Result]]) -> _Result:
        login = await self._logged_in(None)
        try:
            return await attempt(login)
        except ApiError as error:
            if error.status != 401:
                raise
        # A token may be renewed, or revoked, before its time.
        return await attempt(await self._logged_in(login))

    async def _logged_in(self, refused: _Login | None) -> _Login:
        """The current login; a new one when there is none, it has expired, or it is the one that was refused."""
        async with self._logging_in:
            login = self._login
            expires_at = login.access.expires_at if login else None
            if login is None or login is refused or (expires_at is not None and expires_at <= self._now()):
                try:
                    # Off the loop: an exec plugin is a process that may take seconds.
                    login = self._login = await asyncio.to_thread(_log_in, self._load)
                except (NoClusterError, OSError) as error:
                    raise ApiError(0, str(error)) from error
            return login

    async def _send(self, login: _Login, call: _Call) -> Answer:
        with explained(login.access.server, self._timeout):
            async with await _asked(self._session, login, call) as response:
                return answer(response.status, await response.read())

    async def _opened(self, login: _Login, call: _Call, silence: float) -> tuple[str, aiohttp.ClientResponse]:
        patience = aiohttp.ClientTimeout(total=None, sock_read=silence)
        with explained(login.access.server, self._timeout):
            async with asyncio.timeout(self._timeout):
                response = await _asked(self._streams, login, call, timeout=patience)
                if response.status != 200:
                    async with response:
                        answer(response.status, await response.read())
                return login.access.server, response


def _session(connections: int, timeout: float) -> aiohttp.ClientSession:
    """`connections` 0: as many as are wanted."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"{FIELD_MANAGER}/{__version__}"},
        timeout=aiohttp.ClientTimeout(total=timeout),
    )


async def _asked(
    session: aiohttp.ClientSession | None, login: _Login, call: _Call, **options: Any
) -> aiohttp.ClientResponse:
    if session is None:
        raise RuntimeError("KubeClient is used outside of `async with`")
    access, tls = login.access, login.tls
    return await session.request(
        call.method,
        access.server + call.path,
        params=call.params,
        headers={**call.headers, **access.headers()},
        data=call.data,
        ssl=tls or True,
        server_hostname=access.tls_server_name if tls else None,
        proxy=access.proxy,
        allow_redirects=False,
        **options,
    )
