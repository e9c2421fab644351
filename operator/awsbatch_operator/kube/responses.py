"""Responses of the Kubernetes API: a JSON object, a stream of watch events, or an ApiError."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypedDict

import aiohttp
import msgspec

_TEXT_SHOWN: Final = 300
"""Characters of an answer that is not JSON (a proxy's, for example) that a message quotes."""


class ApiError(Exception):
    """A failed call. `status` is the HTTP status, 0 if there was no (whole) answer.

    `reason` and `details` are those of the Kubernetes Status object, empty if the answer held none.
    """

    def __init__(self, status: int, message: str, reason: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.reason, self.details = status, message, reason, details or {}

    @property
    def transient(self) -> bool:
        """Whether waiting alone may help: no answer, too many requests, a fault of the server."""
        return self.status in (0, 429) or self.status >= 500


class Response(NamedTuple):
    """A successful call: HTTP status (2xx) and JSON body."""

    status: int
    body: dict[str, Any]


class WatchEvent(NamedTuple):
    """An event of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object."""

    type: str
    body: dict[str, Any]


class _Metadata(TypedDict, total=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    labels: dict[str, str] | None
    finalizers: list[str] | None


class _Item(TypedDict):
    metadata: _Metadata


class _MetadataList(TypedDict, total=False):
    """The part of a PartialObjectMetadataList that is read. Most of the rest is managedFields."""

    metadata: dict[str, Any]
    items: list[_Item] | None


_ANYTHING: Final = msgspec.json.Decoder()
_METADATA_LIST: Final = msgspec.json.Decoder(_MetadataList)


@contextmanager
def connection_errors(server: str, timeout: float) -> Iterator[None]:
    """Raise ApiError with status 0 for a timeout or a broken connection. `timeout` in seconds, for the message."""
    try:
        yield
    except TimeoutError as error:
        raise ApiError(0, f"the Kubernetes API at {server} did not answer within {timeout:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ApiError(0, f"cannot reach the Kubernetes API at {server}: {_cause(error)}") from error


async def watch_events(response: aiohttp.ClientResponse, server: str, idle_timeout: float) -> AsyncIterator[WatchEvent]:
    """Read the events of a watch. Raises ApiError if the stream breaks, or is silent for `idle_timeout` seconds."""
    # Not by the stream's own lines: those have a limit, and an object may be larger.
    line = bytearray()
    chunks = response.content.iter_any()
    while True:
        with connection_errors(server, idle_timeout):
            chunk = await anext(chunks, b"")
        if not chunk:
            break
        head, *rest = chunk.split(b"\n")
        line += head
        for part in rest:
            yield _event(line)
            line = bytearray(part)
    if line:
        raise ApiError(0, "the watch ended in the middle of an event")


def _event(line: bytes | bytearray) -> WatchEvent:
    match _decode(line):
        case {"type": "ERROR", "object": {"code": int(code)} as status}:
            raise _status_error(code, status)
        case {"type": str(kind), "object": dict(body)}:
            return WatchEvent(kind, body)
    text = line[:_TEXT_SHOWN].decode(errors="replace")
    raise ApiError(0, f"the watch sent something that is not an event: {text}")


def _decode(raw: bytes | bytearray, decoder: "msgspec.json.Decoder[Any]" = _ANYTHING) -> Any:
    """Return the JSON value; None if it is not JSON. All of it is decoded if it does not fit the decoder's type."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return _decode_leniently(raw)


def _decode_leniently(raw: bytes | bytearray) -> Any:
    # One object with half a surrogate pair in a text must not make a whole list unreadable.
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _cause(error: Exception) -> str:
    # aiohttp's own messages for these hold memory addresses, new ones each time.
    match error:
        case aiohttp.ClientConnectorCertificateError():
            error = error.certificate_error
        case aiohttp.ClientConnectorError():
            error = error.os_error
    return str(error) or type(error).__name__


def parse_response(status: int, raw: bytes, *, metadata_list: bool = False) -> Response:
    """Return the JSON object of a 2xx answer. Raises ApiError for every other answer.

    `metadata_list`: a PartialObjectMetadataList, of which undeclared fields need not become Python objects.
    """
    success = 200 <= status < 300
    body = _decode(raw, _METADATA_LIST if metadata_list and success else _ANYTHING)
    if success and isinstance(body, dict):
        return Response(status, body)
    text = raw[: 4 * _TEXT_SHOWN].decode(errors="replace").strip()[:_TEXT_SHOWN]
    if success:
        raise ApiError(0, f"HTTP {status} with something that is not a JSON object: {text}")
    if not isinstance(body, dict):
        raise ApiError(status, f"HTTP {status}: {text}")
    raise _status_error(status, body)


def _status_error(status: int, body: Mapping[str, Any]) -> ApiError:
    """Return the ApiError of a Kubernetes Status object."""
    details = body.get("details")
    return ApiError(
        status,
        str(body.get("message") or f"HTTP {status}"),
        str(body.get("reason") or ""),
        details if isinstance(details, dict) else None,
    )
