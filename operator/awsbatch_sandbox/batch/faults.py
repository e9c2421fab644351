"""Faults that tests order: the answers of AWS Batch, its gateway and its network that are not what was asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from awsbatch_sandbox.batch.replies import JSON_TYPE, Reply, error

HTML: Final = "text/html"


def _html(status: int, title: str) -> Reply:
    page = f"<html><head><title>{status} {title}</title></head><body><h1>{status} {title}</h1></body></html>"
    return Reply(status, page.encode(), content_type=HTML)


def _denied(operation: str) -> Reply:
    who = "User: arn:aws:sts::123456789012:assumed-role/sandbox/sandbox"
    what = f"batch:{operation} on resource: arn:aws:batch:eu-west-1:123456789012:job/*"
    return error(403, "AccessDeniedException", f"{who} is not authorized to perform: {what}")


def _fixed(reply: Reply) -> Callable[[str], Reply]:
    return lambda _operation: reply


_EXPIRED = "The security token included in the request is expired"
_UNRECOGNIZED = "The security token included in the request is invalid."
_SIGNATURE = "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z"
REPLIES: Final[dict[str, Callable[[str], Reply]]] = {
    "server_500": _fixed(error(500, "ServerException", "Error executing request, Exception : null")),
    "authorizer_500": _fixed(error(500, "AuthorizerConfigurationException", None)),
    "html_502": _fixed(_html(502, "Bad Gateway")),
    "empty_503": _fixed(Reply(503, b"", content_type=None)),
    "empty_504": _fixed(Reply(504, b"", content_type=None)),
    "throttle_429": _fixed(error(429, "TooManyRequestsException", "Too Many Requests")),
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
THROTTLED: Final = REPLIES["throttle_429"]("")
KINDS: Final = (*REPLIES, "reset", "slow", "refused_in_bulk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`times`: how many calls it hits, None for all. `act_then`: the call takes effect, then the fault answers.

    `seconds`: delay of kind slow. `code`: error code of kind refused_in_bulk. Empty `job_id`, `region` and `account`
    match any.
    """

    operation: str = "*"
    kind: str
    times: int | None = 1
    job_id: str | None = None
    region: str | None = None
    account: str | None = None
    act_then: bool = False
    seconds: float = 1.0
    code: str = "AccessDenied"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times must be at least 1, or None for every call, got {self.times}")

    def matches(self, operation: str, job_ids: Sequence[str], region: str, account: str) -> bool:
        if self.kind == "refused_in_bulk" and operation != "TerminateJobs":
            return False
        asked = ((self.region, region), (self.account, account))
        return (
            self.operation in ("*", operation)
            and (self.job_id is None or self.job_id in job_ids)
            and all(want in (None, have) for want, have in asked)
        )


class Faults:
    """The ordered faults, first ordered first served."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def take(self, operation: str, job_ids: Sequence[str], region: str, account: str) -> Fault | None:
        """The fault that hits this call, counted down."""
        for place, fault in enumerate(self._faults):
            if fault.matches(operation, job_ids, region, account):
                if fault.times == 1:
                    del self._faults[place]
                elif fault.times is not None:
                    self._faults[place] = replace(fault, times=fault.times - 1)
                return fault
        return None


class Limits:
    """A token bucket per account and region, shared by all operations, as Batch throttles."""

    def __init__(self) -> None:
        self._rate: float | None = None
        self._burst = 0.0
        self._buckets: dict[tuple[str, str], tuple[float, int]] = {}

    def set(self, rate: float | None, burst: float | None = None) -> None:
        """`rate` calls/s with bursts of `burst` (default: one second's worth); None lifts the limit."""
        if rate is not None and rate <= 0:
            raise ValueError(f"rate must be above 0, or None for no limit, got {rate}")
        self._rate = rate
        self._burst = max(1.0, (rate or 0.0) if burst is None else burst)
        self._buckets.clear()

    def admits(self, account: str, region: str, now_ms: int) -> bool:
        if self._rate is None:
            return True
        tokens, since = self._buckets.get((account, region), (self._burst, now_ms))
        tokens = min(self._burst, tokens + (now_ms - since) * self._rate / 1000)
        admitted = tokens >= 1
        self._buckets[account, region] = (tokens - admitted, now_ms)
        return admitted
