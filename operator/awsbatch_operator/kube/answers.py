"""What the Kubernetes API answers: a JSON object, a stream of events, or an ApiError that says why neither."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import aiohttp

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


class Told(NamedTuple):
    """An event of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object."""

    type: str
    body: dict[str, Any]


@contextmanager
def explained(server: str, patience: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ApiError(0, f"the Kubernetes API at {server} gave no answer within {patience:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ApiError(0, f"the Kubernetes API at {server} can't be reached: {_why(error)}") from error


async def events(response: aiohttp.ClientResponse, server: str, silence: float) -> AsyncIterator[Told]:
    # Not by the stream's own lines: those have a limit, and an object may be larger.
    line = bytearray()
    chunks = response.content.iter_any()
    while True:
        with explained(server, silence):
            chunk = await anext(chunks, b"")
        if not chunk:
            break
        head, *rest = chunk.split(b"\n")
        line += head
        for part in rest:
            yield _event(line)
            line = bytearray(part)
    if line:
        raise ApiError(0, "the watch broke off in the middle of an event")


def _event(line: bytes | bytearray) -> Told:
    try:
        match json.loads(line):
            case {"type": "ERROR", "object": {"code": int(code)} as status}:
                raise _refusal(code, status)
            case {"type": str(kind), "object": dict(body)}:
                return Told(kind, body)
    except ValueError:
        pass
    text = line[:_TEXT_SHOWN].decode(errors="replace")
    raise ApiError(0, f"the watch tells of something that is no event: {text}")


def _why(error: Exception) -> str:
    # aiohttp's own words for these hold addresses of memory, new ones each time.
    match error:
        case aiohttp.ClientConnectorCertificateError():
            error = error.certificate_error
        case aiohttp.ClientConnectorError():
            error = error.os_error
    return str(error) or type(error).__name__


def answer(status: int, raw: bytes) -> Answer:
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
    raise _refusal(status, body)


def _refusal(status: int, body: Mapping[str, Any]) -> ApiError:
    """What a Status object says."""
    details = body.get("details")
    return ApiError(
        status,
        str(body.get("message") or f"HTTP {status}"),
        str(body.get("reason") or ""),
        details if isinstance(details, dict) else None,
    )
