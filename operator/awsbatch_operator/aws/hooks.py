"""Hooks of boto3 clients: checks before each request to AWS, and handling of answers before botocore parses them."""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Generic

from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.model import OperationModel

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import Accepted, P
from awsbatch_operator.aws.errors import NoSigningScopeError, NotLeaderError, PermitExpiredError, classify_error
from awsbatch_operator.aws.sessions import Session

EXPIRED: Final = classify_error(PermitExpiredError())
REGROUPED: Final = CallError(
    ErrorClass.NOT_SENT,
    "another termination in the same request was no longer valid; the operator sends this one again",
    "Regrouped",
)


class PermitCheck(Generic[P]):
    """The permits that one request rests on. One that was not valid once is `expired` for the whole request.

    `sent`: the whole body has left once. AWS may have acted on it, even if the attempt failed and is not repeated.
    """

    def __init__(self, permits: Sequence[P]) -> None:
        self._permits = tuple(permits)
        self.expired: set[P] = set()
        self.sent = False

    def valid(self) -> bool:
        """Returns whether all of them are valid at this moment."""
        self.expired.update(permit for permit in self._permits if not permit.valid())
        return not self.expired

    def not_sent(self) -> Mapping[P, Accepted | CallError]:
        return {permit: EXPIRED if permit in self.expired else REGROUPED for permit in self._permits}


@dataclass(slots=True)
class RequestScope:
    """The session and the permits of the requests of this thread, while `active`.

    `refused`: why an attempt of the request was not sent; no other attempt follows.
    """

    session: Session
    permits: PermitCheck[Any] | None = None
    refused: BotoCoreError | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        token = _SCOPE.set(self)
        try:
            yield
        finally:
            _SCOPE.reset(token)


_SCOPE: Final[ContextVar[RequestScope | None]] = ContextVar("scope of the request", default=None)


def current_scope() -> RequestScope:
    """Returns the scope of this thread's request. Raises NoSigningScopeError outside of one."""
    scope = _SCOPE.get()
    if scope is None:
        raise NoSigningScopeError
    return scope


class ScopeCredentials:
    """Credentials for botocore: those of the session in the request's scope.

    botocore needs nothing else for AWS Batch and STS: their endpoints do not depend on the account and their requests
    have no bearer token. If it needs more, it gets an AttributeError and signs nothing.
    """

    method: Final = "request-scope"

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return current_scope().session.frozen()

    def get_deferred_property(self, _name: str) -> Callable[[], None]:
        return lambda: None


def install_hooks(client: Any, is_leader: Callable[[], bool] | None) -> None:
    """Makes a client of AWS Batch check permits before it sends, fail fast on a throttle, and keep bodies raw."""

    # Not earlier than with the last byte: a call may have waited for credentials, for a connection, or between two of
    # botocore's attempts, and the process may freeze at any line.
    def fence(request: Any, event_name: str, **_: Any) -> None:
        scope = current_scope()
        permits = scope.permits
        if permits is None and "Terminate" in event_name:
            raise NoSigningScopeError
        if scope.refused is not None:
            # botocore takes a body that can't be read for a broken connection, and tries again.
            raise scope.refused

        def check() -> None:
            if is_leader is not None and not is_leader():
                scope.refused = NotLeaderError()
            elif permits is not None and not permits.valid():
                scope.refused = PermitExpiredError()
            if scope.refused is not None:
                raise scope.refused
            if permits is not None:
                permits.sent = True

        if isinstance(request.body, bytes):
            request.body = FencedBody(request.body, check)
        else:
            check()

    client.meta.events.register("before-send.batch", fence)
    client.meta.events.register("before-parse.batch", keep_body_raw)
    client.meta.events.register_first("needs-retry.batch", fail_fast_on_throttle)


class FencedBody(io.BytesIO):
    """A body that is read once connection and headers are through. AWS does not act on a request without it.

    Some ten microseconds are left between the check and the system call.
    """

    def __init__(self, body: bytes, check: Callable[[], None]) -> None:
        super().__init__(body)
        self._check = check

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        if block:
            # Not at the end: everything was sent by then, and an error would be wrong.
            self._check()
        return block


def keep_body_raw(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Passes the body of a successful answer on as `body`, instead of botocore's parsing by the model.

    botocore's parsing takes five times as long and creates objects for environments and volumes. botocore parses
    errors itself, unless it would raise for their shape.
    """
    body = response_dict["body"]
    if response_dict["status_code"] < 300:
        customized_response_dict["body"], response_dict["body"] = body, b""
        return
    try:
        answer = json.loads(body or b"{}")
    except RecursionError:
        response_dict["body"] = b""
        return
    except ValueError:
        # botocore decodes an error as UTF-8 only: a proxy's page in Latin-1 would raise.
        response_dict["body"] = body.decode(errors="replace").encode()
        return
    if not isinstance(answer, dict) or not isinstance(answer.get("__type", ""), str):
        response_dict["body"] = b""


def fail_fast_on_throttle(response: tuple[Any, Any] | None, operation: OperationModel, **_: Any) -> None:
    """Raises a throttling error at once: botocore would retry twice within seconds, although the budget is used up.

    Raised before botocore's own handler, which hides a single 5xx or broken connection: throttles would use up its
    quota of retries.
    """
    if response is None or response[0].status_code < 300:
        return
    error = ClientError(response[1], operation.name)
    if classify_error(error).error_class is ErrorClass.THROTTLED:
        raise error
