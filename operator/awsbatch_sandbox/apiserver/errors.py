"""Kubernetes `Status` errors with kube-apiserver's messages (apimachinery api/errors and util/validation/field)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
FieldPath = tuple[str | int, ...]

NOT_KUBERNETES = (
    "This is the embedded API server of the awsbatch-operator sandbox: it behaves like kube-apiserver, but it is not "
    "Kubernetes. Start the sandbox with --control-plane=envtest for the real one."
)


class NotServedError(Exception):
    """A path that nothing is served at; kube-apiserver answers it with plain text."""


class ApiError(Exception):
    """An answer other than success; `code` is the HTTP status, `reason` a metav1.StatusReason."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def body(self) -> Json:
        """The `Status` object that clients read."""
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        return body | {"code": self.code}


_LABELS = {
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueTypeInvalid": "Invalid value",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueTooLong": "Too long",
    "FieldValueTooMany": "Too many",
}
_WITHOUT_VALUE = frozenset({"FieldValueRequired", "FieldValueForbidden", "FieldValueTooLong"})
OMIT = object()
"""The value of a FieldError that is not to be shown."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of an object; `reason` is a metav1.CauseType, `value` the offending value or OMIT."""

    reason: str
    path: FieldPath
    value: Any = OMIT
    detail: str = ""

    @property
    def field(self) -> str:
        return render_path(self.path)

    @property
    def body(self) -> str:
        text = _LABELS[self.reason]
        if self.reason not in _WITHOUT_VALUE and self.value is not OMIT:
            text += ": " + json.dumps(self.value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"


def render_path(path: FieldPath) -> str:
    """`("status", "conditions", 0, "type")` is `status.conditions[0].type`; the root is `<nil>`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "<nil>"


def qualified(name: str, group: str) -> str:
    """`batchjobs.awsbatch.dev`, or `events` in the core group."""
    return f"{name}.{group}" if group else name


def _details(group: str, kind: str, name: str) -> Json:
    return {key: value for key, value in (("name", name), ("group", group), ("kind", kind)) if value}


def not_found(group: str, plural: str, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{qualified(plural, group)} "{name}" not found', _details(group, plural, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(group: str, plural: str, name: str) -> ApiError:
    message = f'{qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(group, plural, name))


STALE = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(group: str, plural: str, name: str, why: str = STALE) -> ApiError:
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(group, plural, name))


def forbidden(group: str, plural: str, name: str, why: str) -> ApiError:
    message = f'{qualified(plural, group)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _details(group, plural, name))


def invalid(group: str, kind: str, name: str, faults: Sequence[FieldError]) -> ApiError:
    """A 422 with one cause per fault, and all of them in the message."""
    unique = list(dict.fromkeys(str(fault) for fault in faults))
    listing = unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
    causes = [{"reason": fault.reason, "message": fault.body, "field": fault.field} for fault in faults]
    message = f'{qualified(kind, group)} "{name}" is invalid: {listing}'
    return ApiError(422, "Invalid", message, _details(group, kind, name) | {"causes": causes})


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def too_old(version: int, oldest: int) -> ApiError:
    """The error of a watch from a version before the history."""
    return expired(f"too old resource version: {version} ({oldest})")


def method_not_allowed(message: str = "the server does not allow this method on the requested resource") -> ApiError:
    return ApiError(405, "MethodNotAllowed", message)


def unsupported_media_type(message: str) -> ApiError:
    return ApiError(415, "UnsupportedMediaType", message)


def not_acceptable(served: str) -> ApiError:
    return ApiError(406, "NotAcceptable", f"only the following media types are accepted: {served}")


def list_options(field: str, detail: str) -> ApiError:
    """A 422 for query parameters that don't go together."""
    return invalid("meta.k8s.io", "ListOptions", "", [FieldError("FieldValueForbidden", (field,), detail=detail)])


def too_large_version(wanted: int, current: int) -> ApiError:
    """A resourceVersion from the future, such as one of an earlier server."""
    message = f"Timeout: Too large resource version: {wanted}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return ApiError(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1})


_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def scripted(code: int, message: str = "") -> ApiError:
    """The answer of a fault that a test injected."""
    return ApiError(
        code, _REASONS.get(code, "Unknown"), message or f"a fault that /_sandbox/fault ordered: HTTP {code}"
    )
