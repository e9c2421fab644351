"""Why AWS did not grant a call: every exception and error code, reduced to one of the few fates by one table.

AWS Batch models only ClientException and ServerException; throttling, permission and credentials come unmodelled
from the gateway in front of it. Hence codes and HTTP statuses are matched, never exception classes.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from awsbatch_operator.domain.errors import Fate, Fault

AWS_ERRORS: Final = (sdk.ClientError, sdk.BotoCoreError, ResponseParserError, OSError)
"""What a call may raise for a reason outside this program. OSError: a token file that cannot be read."""

MOST_TEXT: Final = 1024
"""Characters of a message that are kept."""

MOST_CODE: Final = 128
"""Characters of a code that are kept: it is a label of a metric."""

_MOST_SEARCHED: Final = 16 * 1024

BATCH_OPERATIONS: Final = frozenset({"DescribeJobs", "TerminateJob", "TerminateJobs"})


class NotActingError(sdk.BotoCoreError):
    """Raised in place of a request that this replica may not send any more."""

    fmt = "this replica does not hold the Lease any more: the request was not sent"


class LapsedError(sdk.BotoCoreError):
    """Raised in place of a request that rests on a leave which holds no more."""

    fmt = "the access policy in force does not allow it any more, or the last look is too old: the request was not sent"


class UnsignedError(sdk.BotoCoreError):
    """Raised in place of credentials: a termination must be signed for the one namespace whose leaves it rests on."""

    fmt = (
        "the request does not rest on leaves of one namespace, and is signed for none: this is a defect of the operator"
    )


class NotAssumedError(sdk.BotoCoreError):
    """A policy's role could not be assumed. `fault` tells why, in AWS's words: for the policy's status alone."""

    fmt = "the role could not be assumed: {message}"

    def __init__(self, fault: Fault) -> None:
        super().__init__(message=fault.message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class _Rule:
    """Holds for a reply with one of these codes, or one of these HTTP statuses, or one of these words in its text."""

    fate: Fate
    codes: Collection[str] = ()
    statuses: Collection[int] = ()
    words: tuple[str, ...] = ()

    def holds(self, code: str, status: int, text: str) -> bool:
        return code in self.codes or status in self.statuses or any(word in text for word in self.words)


_RULES: Final = (
    _Rule(
        Fate.THROTTLED,
        {
            *("TooManyRequestsException", "ThrottlingException", "Throttling", "ThrottledException"),
            *("RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "LimitExceededException"),
            *("SlowDown", "BandwidthLimitExceeded", "PriorRequestNotComplete"),
        },
        {429},
    ),
    _Rule(
        Fate.UNAVAILABLE,
        {
            *("ServerException", "AuthorizerConfigurationException", "InternalFailure", "InternalServerError"),
            *("ServiceUnavailable", "ServiceUnavailableException", "RequestTimeout", "RequestTimeoutException"),
            "IDPCommunicationError",
        },
        {408, *range(500, 600)},
    ),
    _Rule(
        Fate.CREDENTIALS,
        {
            *("ExpiredTokenException", "ExpiredToken", "RequestExpired", "TokenRefreshRequired"),
            *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "AuthFailure"),
            *("InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "RequestTimeTooSkewed"),
            *("IncompleteSignatureException", "MissingAuthenticationToken", "MissingAuthenticationTokenException"),
            *("InvalidToken", "InvalidIdentityToken", "OptInRequired", "RegionDisabledException"),
        },
    ),
    _Rule(
        Fate.DENIED,
        {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "NotAuthorized"},
        {401, 403},
        # Batch words some permission faults of its own roles as a ClientException.
        ("not authorized", "AccessDenied", "Access denied", "Access Denied"),
    ),
    # No such route: the address is not AWS Batch's. Only a person can correct the client's settings.
    _Rule(Fate.CREDENTIALS, {"UnknownOperationException", "UnknownOperation", "InvalidAction"}, {404, 405}),
    _Rule(Fate.REJECTED, {"ClientException", "ValidationException"}, range(400, 500)),
)

_SDK_FATES: Final[Mapping[type[Exception], Fate]] = {
    sdk.SSLError: Fate.UNAVAILABLE,
    sdk.ConnectionError: Fate.UNAVAILABLE,
    sdk.HTTPClientError: Fate.UNAVAILABLE,
    ResponseParserError: Fate.UNAVAILABLE,
    sdk.IncompleteReadError: Fate.UNAVAILABLE,
    NotActingError: Fate.UNAVAILABLE,
    LapsedError: Fate.LAPSED,
    UnsignedError: Fate.UNAVAILABLE,
    sdk.ParamValidationError: Fate.REJECTED,
}
"""By class, its bases included. Whatever else the SDK raises, it raises before it calls: credentials it cannot get, a
profile, region or endpoint it does not understand. That is CREDENTIALS: a person must mend the client's settings."""

_NO_OPERATION: Final = frozenset(
    {
        *("404", "405", "UnknownOperationException", "UnknownOperation", "InvalidAction"),
        "MissingAuthenticationTokenException",  # how API Gateway says that it has no such route
    }
)

_NOT_OURS: Final = frozenset({"RegionDisabledException", "OptInRequired"})
"""What STS says of the role's account, though it sounds like the caller's."""

_REMEDIES: Final = {
    "NoCredentialsError": "give the operator a role (IRSA, EKS Pod Identity) or AWS_ACCESS_KEY_ID",
    "404": "check AWS_ENDPOINT_URL_BATCH and the region: this address is not AWS Batch's",
}

_CHANGING: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), instead)
    for pattern, instead in (
        # What follows quotes the signed request, the session token included.
        (r"\s*the canonical string for this request should have been.*", ""),
        (r"(x-amz-security-token\s*[:=]\s*)[^\s,;&'\"]+", r"\1…"),
        (r"(signature\s*=\s*)[0-9a-f]{16,}", r"\1…"),
        (r"\s*encoded authorization failure message:\s*\S+", ""),
        (r"[\s,;]*\(?request[\s_-]?id\s*[:=]\s*[0-9a-z-]{8,}\)?", ""),
        (r"\b\d{8}T\d{6}Z\b", "…"),
        (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?", "…"),
        (r"\bbotocore-session-\d+", "botocore-session"),
        (r" at 0x[0-9a-f]+", ""),
        (r"\s+", " "),
    )
)


def fault_of(error: Exception) -> Fault:
    """The fate of one of AWS_ERRORS."""
    if isinstance(error, sdk.ClientError):
        return _of_reply(error)
    if isinstance(error, NotAssumedError):
        return error.fault
    if isinstance(error, sdk.HTTPClientError) and isinstance(error.kwargs.get("error"), LapsedError):
        # Raised with the last byte: what it passes on its way makes it an error of the connection.
        return fault_of(error.kwargs["error"])
    code = type(error).__name__
    fate = next((fate for kind, fate in _SDK_FATES.items() if isinstance(error, kind)), Fate.CREDENTIALS)
    if isinstance(error, sdk.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        # Waiting mends no certificate; AWS_CA_BUNDLE does.
        fate = Fate.CREDENTIALS
    return Fault(fate, _message(code, str(error)), code)


def fault_of_code(code: str, status: int, message: str) -> Fault:
    """The fate of an error that AWS named; `status` 0 when it came inside a 200, as TerminateJobs answers per job."""
    code = code[:MOST_CODE].encode("ascii", "replace").decode()
    fate = next((rule.fate for rule in _RULES if rule.holds(code, status, message)), Fate.UNAVAILABLE)
    return Fault(fate, _message(code, message, status), code)


def lacks_operation(fault: Fault) -> bool:
    """Whether the endpoint does not have the operation at all."""
    return fault.code in _NO_OPERATION


def fault_of_assuming(error: Exception) -> Fault:
    """Why the operator, whose own credentials were found, may not assume a role.

    CREDENTIALS where AWS does not take those; DENIED for all that only the role's owner, or the policy's, can mend.
    """
    fault = _of_words(error) if isinstance(error, sdk.ClientError) else fault_of(error)
    if fault.fate is Fate.REJECTED or fault.code in _NOT_OURS:
        return replace(fault, fate=Fate.DENIED)
    return fault


def _of_words(error: sdk.ClientError) -> Fault:
    response: Mapping[str, Any] = error.response
    reply = response.get("Error", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code, message = (str(reply.get(key) or "") for key in ("Code", "Message"))
    return fault_of_code(code or str(status), status, message)


def _of_reply(error: sdk.ClientError) -> Fault:
    fault = _of_words(error)
    if error.operation_name not in BATCH_OPERATIONS and not fault.fate.passes:
        # Refused by STS or SSO on the way to credentials: the right to call Batch was not even asked for.
        return Fault(Fate.CREDENTIALS, f"{error.operation_name}: {fault.message}", fault.code)
    return fault


def _message(code: str, text: str, status: int = 0) -> str:
    """AWS's words on one line, without what changes from call to call or must stay secret."""
    # JSON may carry half a surrogate pair, which no UTF-8 can; and a megabyte would be searched by each pattern.
    text = text[:_MOST_SEARCHED].encode("utf-8", "replace").decode()
    if "<html" in text.lower() or text.lstrip().startswith("<"):
        text = ""
    for pattern, instead in _CHANGING:
        text = pattern.sub(instead, text)
    text = text.strip() or _status_words(status) or code or "no reason given"
    remedy = _REMEDIES.get(code)
    text = f"{text}; {remedy}" if remedy else text
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _status_words(status: int) -> str:
    if not status:
        return ""
    words = HTTPStatus(status).phrase if status in {known.value for known in HTTPStatus} else ""
    return f"HTTP {status} {words}".strip()
