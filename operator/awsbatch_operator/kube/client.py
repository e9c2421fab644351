"""One keep-alive HTTP client of the Kubernetes API: JSON in and out, bounded in time and connections."""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import aiohttp

from awsbatch_operator import __version__
from awsbatch_operator.kube import credentials
from awsbatch_operator.kube.credentials import Access, NoClusterError
from awsbatch_operator.kube.names import FIELD_MANAGER

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"

TIMEOUT_SECONDS: Final = 10.0
CONNECTIONS: Final = 32

_CONTENT_REFUSED: Final = frozenset({400, 405, 413, 415, 422})
_TEXT_SHOWN: Final = 300
"""Characters of an answer that is not JSON (a proxy's, say) that go into a message."""


class ApiError(Exception):
    """A call that was not granted. `status` is the HTTP status, 0 when there was no (whole) answer.

    `reason` and `details` are those of the Kubernetes Status object, empty when the answer held none.
    """

    def __init__(self, status: int, message: str, reason: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.reason, self.details = status, message, reason, details or {}

    @property
    def again(self) -> bool:
        """Whether the very same call may succeed later."""
        return self.status not in _CONTENT_REFUSED

    @property
    def transient(self) -> bool:
        """Whether waiting alone may cure it: no answer, too many requests, a server in trouble."""
        return self.status in (0, 429) or self.status >= 500


class Answer(NamedTuple):
    """A granted call: HTTP status (2xx) and JSON body."""

    status: int
    body: dict[str, Any]


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

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"{FIELD_MANAGER}/{__version__}"},
            timeout=aiohttp.ClientTimeout(total=self._timeout),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

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

    async def _request(self, call: _Call) -> Answer:
        login = await self._logged_in(None)
        try:
            return await self._send(login.access, login.tls, call)
        except ApiError as error:
            if error.status != 401:
                raise
        # A token may be renewed, or revoked, before its time.
        login = await self._logged_in(login)
        return await self._send(login.access, login.tls, call)

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

    async def _send(self, access: Access, tls: ssl.SSLContext | None, call: _Call) -> Answer:
        if self._session is None:
            raise RuntimeError("KubeClient is used outside of `async with`")
        try:
            async with self._session.request(
                call.method,
                access.server + call.path,
                params=call.params,
                headers={**call.headers, **access.headers()},
                data=call.data,
                ssl=tls or True,
                server_hostname=access.tls_server_name if tls else None,
                proxy=access.proxy,
                allow_redirects=False,
            ) as response:
                return _answer(response.status, await response.read())
        except TimeoutError as error:
            raise ApiError(
                0, f"the Kubernetes API at {access.server} gave no answer within {self._timeout:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, f"the Kubernetes API at {access.server} can't be reached: {_why(error)}") from error


def _why(error: Exception) -> str:
    # aiohttp's own words for these hold addresses of memory, new ones each time.
    match error:
        case aiohttp.ClientConnectorCertificateError():
            error = error.certificate_error
        case aiohttp.ClientConnectorError():
            error = error.os_error
    return str(error) or type(error).__name__


def _answer(status: int, raw: bytes) -> Answer:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    granted = 200 <= status < 300
    if granted and isinstance(body, dict):
        return Answer(status, body)
    text = raw[: 4 * _TEXT_SHOWN].decode(errors="replace").strip()[:_TEXT_SHOWN]
    if granted:
        raise ApiError(0, f"HTTP {status} with something that is not a JSON object: {text}")
    if not isinstance(body, dict):
        raise ApiError(status, f"HTTP {status}: {text}")
    details = body.get("details")
    raise ApiError(
        status,
        str(body.get("message") or f"HTTP {status}"),
        str(body.get("reason") or ""),
        details if isinstance(details, dict) else None,
    )
