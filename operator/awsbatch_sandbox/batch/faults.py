"""Faults that tests inject: error answers of AWS Batch, its gateway and its network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from awsbatch_sandbox.batch.credentials import Caller
from awsbatch_sandbox.batch.permissions import denied
from awsbatch_sandbox.batch.replies import JSON_TYPE, Reply, error

HTML: Final = "text/html"


def _html(status: int, title: str) -> Reply:
    page = f"<html><head><title>{status} {title}</title></head><body><h1>{status} {title}</h1></body></html>"
    return Reply(status, page.encode(), content_type=HTML)


def _denied(operation: str, caller: Caller) -> Reply:
    return error(403, "AccessDeniedException", denied(operation, caller))


def _fixed(reply: Reply) -> Callable[[str, Caller], Reply]:
    return lambda _operation, _caller: reply


THROTTLED: Final = error(429, "TooManyRequestsException", "Too Many Requests")
_EXPIRED = "The security token included in the request is expired"
_UNRECOGNIZED = "The security token included in the request is invalid."
_SIGNATURE = "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z"
REPLIES: Final[dict[str, Callable[[str, Caller], Reply]]] = {
    "server_500": _fixed(error(500, "ServerException", "Error executing request, Exception : null")),
    "authorizer_500": _fixed(error(500, "AuthorizerConfigurationException", None)),
    "html_502": _fixed(_html(502, "Bad Gateway")),
    "empty_503": _fixed(Reply(503, b"", content_type=None)),
    "empty_504": _fixed(Reply(504, b"", content_type=None)),
    "throttle_429": _fixed(THROTTLED),
    "throttle_400": _fixed(error(400, "ThrottlingException", "Rate exceeded")),
    "bare_429": _fixed(Reply(429, b"", content_type=None)),
    "limit_429": _fixed(Reply(429, b'{"message":"Limit Exceeded"}')),
    "denied_403": _denied,
    "expired_403": _fixed(error(403, "ExpiredTokenException", _EXPIRED)),
    "unrecognized_403": _fixed(error(403, "UnrecognizedClientException", _UNRECOGNIZED)),
    "signature_403": _fixed(error(403, "InvalidSignatureException", _SIGNATURE)),
    "html_404": _fixed(_html(404, "Not Found")),
    "unknown_operation_404": _fixed(error(404, "UnknownOperationException", None)),
    "client_400": _fixed(error(400, "ClientException", "Error executing request, Exception : refused by the sandbox")),
    "empty_200": _fixed(Reply(200, b"")),
    "cut_200": _fixed(Reply(200, b'{"jobs":[{"jobArn":"arn:aws:batch:eu-w', content_type=JSON_TYPE)),
    "braces_200": _fixed(Reply(200, b"{}")),
}
_ONLY: Final = {"refused_in_bulk": "TerminateJobs", "repeat_page": "ListJobs"}
"""Kinds of one operation only. repeat_page: the nextToken of the answer leads to the same page again."""

_WHO: Final = ("region", "account", "access_key", "role", "role_session")
KINDS: Final = (*REPLIES, "reset", "slow", *_ONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`times`: how many calls it hits, None for all. `skip`: how many pass before.

    `act_then`: the call takes effect, then the fault answers. `seconds`: delay of kind slow. `code`: error code of kind
    refused_in_bulk. Where `job_id`, `region`, `account`, `access_key`, `role` (an ARN) or `role_session` is empty, any
    matches.
    """

    operation: str = "*"
    kind: str
    times: int | None = 1
    skip: int = 0
    job_id: str | None = None
    region: str | None = None
    account: str | None = None
    access_key: str | None = None
    role: str | None = None
    role_session: str | None = None
    act_then: bool = False
    seconds: float = 1.0
    code: str = "AccessDenied"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times must be at least 1, or None for every call, got {self.times}")
        if self.skip < 0:
            raise ValueError(f"skip must not be negative, got {self.skip}")

    def matches(self, operation: str, job_ids: Sequence[str], caller: Caller) -> bool:
        return (
            self.operation in ("*", operation)
            and _ONLY.get(self.kind, operation) == operation
            and (self.job_id is None or self.job_id in job_ids)
            and all(getattr(self, who) in (None, getattr(caller, who)) for who in _WHO)
        )


class Faults:
    """The injected faults, in order of injection."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def pop(self, operation: str, job_ids: Sequence[str], caller: Caller) -> Fault | None:
        """Return the fault for this call and count it down."""
        for index, fault in enumerate(self._faults):
            if fault.matches(operation, job_ids, caller):
                if fault.skip:
                    self._faults[index] = replace(fault, skip=fault.skip - 1)
                    continue
                if fault.times == 1:
                    del self._faults[index]
                elif fault.times is not None:
                    self._faults[index] = replace(fault, times=fault.times - 1)
                return fault
        return None
