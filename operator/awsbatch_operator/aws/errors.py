"""Why a request to AWS failed: one table reduces every exception and error code to an ErrorClass.

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

from awsbatch_operator.api.errors import CallError, ErrorClass

AWS_ERRORS: Final = (sdk.ClientError, sdk.BotoCoreError, ResponseParserError, OSError)
"""Exceptions of a call that this program did not cause. OSError: a token file that cannot be read."""

MAX_TEXT: Final = 1024
"""Characters of a message that are kept."""

MAX_CODE: Final = 128
"""Characters of a code that are kept: it is a label of a metric."""

_MAX_SEARCHED: Final = 16 * 1024

BATCH_OPERATIONS: Final = frozenset({"DescribeJobs", "ListJobs", "TerminateJob", "TerminateJobs"})
EVENT_OPERATIONS: Final = frozenset({"ReceiveMessage", "DeleteMessageBatch", "PutEvents"})
"""The operations that the operator calls; botocore itself calls others for credentials."""


class NotLeaderError(sdk.BotoCoreError):
    """Raised in place of a request: this replica is no longer the leader."""

    fmt = "this replica is no longer the leader; it did not send the request"


class PermitExpiredError(sdk.BotoCoreError):
    """Raised in place of a request that rests on a permit which is not valid any more."""

    fmt = (
        "the operator did not send the request: the object no longer requests the termination, the access "
        "policy no longer allows it, or the last poll is too old"
    )


class NoSigningScopeError(sdk.BotoCoreError):
    """Raised in place of credentials: a termination is signed for the one namespace that its permits belong to."""

    fmt = (
        "the operator did not sign the request, because its permits are not of one namespace; this is a "
        "defect, please report it"
    )


class RoleNotAssumedError(sdk.BotoCoreError):
    """A policy's role could not be assumed. `error` has AWS's message, which only the policy's status may show."""

    fmt = "cannot assume the role: {message}"

    def __init__(self, error: CallError) -> None:
        super().__init__(message=error.message)
        self.error = error


class InvalidSettingsError(sdk.BotoCoreError):
    """The SDK can't use a setting of this process. `message` names the variables to check."""

    fmt = "{message}"


@dataclass(frozen=True, slots=True)
class _Rule:
    """Matches a reply with one of these codes, or one of these HTTP statuses, or one of these words in its text."""

    error_class: ErrorClass
    codes: Collection[str] = ()
    statuses: Collection[int] = ()
    words: tuple[str, ...] = ()

    def matches(self, code: str, status: int, text: str) -> bool:
        return code in self.codes or status in self.statuses or any(word in text for word in self.words)


_RULES: Final = (
    _Rule(
        ErrorClass.THROTTLED,
        {
            *("TooManyRequestsException", "ThrottlingException", "Throttling", "ThrottledException"),
            *("RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "LimitExceededException"),
            *("SlowDown", "BandwidthLimitExceeded", "PriorRequestNotComplete"),
        },
        {429},
    ),
    _Rule(
        ErrorClass.UNAVAILABLE,
        {
            *("ServerException", "AuthorizerConfigurationException", "InternalFailure", "InternalServerError"),
            *("ServiceUnavailable", "ServiceUnavailableException", "RequestTimeout", "RequestTimeoutException"),
            "IDPCommunicationError",
        },
        {408, *range(500, 600)},
    ),
    _Rule(
        ErrorClass.CREDENTIALS,
        {
            *("ExpiredTokenException", "ExpiredToken", "RequestExpired", "TokenRefreshRequired"),
            *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "AuthFailure"),
            *("InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "RequestTimeTooSkewed"),
            *("IncompleteSignatureException", "MissingAuthenticationToken", "MissingAuthenticationTokenException"),
            *("InvalidToken", "InvalidIdentityToken", "OptInRequired", "RegionDisabledException"),
        },
    ),
    _Rule(
        ErrorClass.DENIED,
        {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "NotAuthorized"},
        {401, 403},
        # Batch words some permission faults of its own roles as a ClientException.
        ("not authorized", "AccessDenied", "Access denied", "Access Denied"),
    ),
    # No such route: the address is not AWS Batch's. Only a user can correct the client's settings.
    _Rule(ErrorClass.CREDENTIALS, {"UnknownOperationException", "UnknownOperation", "InvalidAction"}, {404, 405}),
    _Rule(ErrorClass.REJECTED, {"ClientException", "ValidationException"}, range(400, 500)),
)

_SDK_CLASSES: Final[Mapping[type[Exception], ErrorClass]] = {
    sdk.SSLError: ErrorClass.UNAVAILABLE,
    sdk.ConnectionError: ErrorClass.UNAVAILABLE,
    sdk.HTTPClientError: ErrorClass.UNAVAILABLE,
    ResponseParserError: ErrorClass.UNAVAILABLE,
    sdk.IncompleteReadError: ErrorClass.UNAVAILABLE,
    NotLeaderError: ErrorClass.UNAVAILABLE,
    PermitExpiredError: ErrorClass.NOT_SENT,
    NoSigningScopeError: ErrorClass.UNAVAILABLE,
    sdk.ParamValidationError: ErrorClass.REJECTED,
}
"""By class, its bases included. All others are raised before a request: missing credentials, or a profile, region or
endpoint that the SDK does not understand. They are CREDENTIALS: a user must correct the settings."""

_NO_OPERATION: Final = frozenset(
    {
        *("404", "405", "UnknownOperationException", "UnknownOperation", "InvalidAction"),
        "MissingAuthenticationTokenException",  # API Gateway's error for an unknown route
    }
)

_NOT_OURS: Final = frozenset({"RegionDisabledException", "OptInRequired"})
"""Codes of STS that concern the account of the role, not the caller's."""

_REMEDIES: Final = {
    "NoCredentialsError": "configure a role for the operator (IRSA, EKS Pod Identity), or set AWS_ACCESS_KEY_ID",
    "404": "check AWS_ENDPOINT_URL_BATCH and the region: the endpoint is not AWS Batch",
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


def classify_error(error: Exception) -> CallError:
    """Classifies one of AWS_ERRORS."""
    if isinstance(error, sdk.ClientError):
        return _of_operation(error)
    if isinstance(error, RoleNotAssumedError):
        return error.error
    if isinstance(error, sdk.HTTPClientError) and isinstance(error.kwargs.get("error"), PermitExpiredError):
        # Raised with the last byte: botocore wraps it as an error of the connection.
        return classify_error(error.kwargs["error"])
    code = type(error).__name__
    error_class = next((one for kind, one in _SDK_CLASSES.items() if isinstance(error, kind)), ErrorClass.CREDENTIALS)
    if isinstance(error, sdk.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        # Waiting does not correct a certificate; AWS_CA_BUNDLE does.
        error_class = ErrorClass.CREDENTIALS
    return CallError(error_class, _message(code, str(error)), code)


def classify_code(code: str, status: int, message: str) -> CallError:
    """Classifies an error that AWS named. `status` is 0 for one inside a 200, as TerminateJobs has for each job."""
    code = code[:MAX_CODE].encode("ascii", "replace").decode()
    error_class = next(
        (rule.error_class for rule in _RULES if rule.matches(code, status, message)), ErrorClass.UNAVAILABLE
    )
    return CallError(error_class, _message(code, message, status), code)


def lacks_operation(error: CallError) -> bool:
    """Whether the endpoint does not have the operation at all."""
    return error.code in _NO_OPERATION


def classify_assume_error(error: Exception) -> CallError:
    """Classifies an answer of AssumeRole to the operator's own credentials.

    CREDENTIALS: AWS does not accept those. DENIED: only the owner of the role or of the policy can correct it.
    """
    call_error = _of_client_error(error) if isinstance(error, sdk.ClientError) else classify_error(error)
    if call_error.error_class is ErrorClass.REJECTED or call_error.code in _NOT_OURS:
        return replace(call_error, error_class=ErrorClass.DENIED)
    return call_error


def _of_client_error(error: sdk.ClientError) -> CallError:
    response: Mapping[str, Any] = error.response
    reply = response.get("Error", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code, message = (str(reply.get(key) or "") for key in ("Code", "Message"))
    return classify_code(code or str(status), status, message)


def _of_operation(error: sdk.ClientError) -> CallError:
    call_error = _of_client_error(error)
    if error.operation_name not in BATCH_OPERATIONS | EVENT_OPERATIONS and not call_error.error_class.transient:
        # STS or SSO rejected the request for credentials: the service received no request.
        return CallError(ErrorClass.CREDENTIALS, f"{error.operation_name}: {call_error.message}", call_error.code)
    return call_error


def _message(code: str, text: str, status: int = 0) -> str:
    """Returns AWS's text on one line, without what changes from call to call or must stay secret."""
    # JSON may carry half a surrogate pair, which no UTF-8 can; and a megabyte would be searched by each pattern.
    text = text[:_MAX_SEARCHED].encode("utf-8", "replace").decode()
    if "<html" in text.lower() or text.lstrip().startswith("<"):
        text = ""
    for pattern, instead in _CHANGING:
        text = pattern.sub(instead, text)
    text = text.strip() or _status_text(status) or code or "no reason given"
    remedy = _REMEDIES.get(code)
    text = f"{text}; {remedy}" if remedy else text
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _status_text(status: int) -> str:
    if not status:
        return ""
    words = HTTPStatus(status).phrase if status in {known.value for known in HTTPStatus} else ""
    return f"HTTP {status} {words}".strip()
