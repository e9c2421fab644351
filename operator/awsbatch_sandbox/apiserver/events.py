"""Events have one storage and two shapes, core v1 (which is stored) and events.k8s.io/v1."""

from collections.abc import Callable
from typing import Any, Final

from awsbatch_sandbox.apiserver.errors import FieldError
from awsbatch_sandbox.apiserver.storage import Body

_CORE_TO_NEW: Final = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_NEW_TO_CORE: Final = {new: core for core, new in _CORE_TO_NEW.items()}
_LIMITS: Final = (("reportingComponent", 253), ("reportingInstance", 128), ("action", 128), ("reason", 128))
_MUTABLE: Final = frozenset({"series", "metadata", "apiVersion", "kind"})


_TIMES: Final[Body] = {"eventTime": None, "firstTimestamp": None, "lastTimestamp": None, "source": {}}
_ALWAYS_SHOWN: Final[Body] = _TIMES | {"reportingComponent": "", "reportingInstance": ""}
"""Kubernetes shows these fields of core v1 when they are empty, too; they are not stored then."""


def to_core(stored: Body) -> Body:
    """A stored event as core v1 shows it."""
    return _ALWAYS_SHOWN | stored


def from_core(core: Body) -> Body:
    """A core v1 event as it is stored."""
    return {key: value for key, value in core.items() if value or key not in _ALWAYS_SHOWN}


def to_new(stored: Body) -> Body:
    """A stored event as events.k8s.io/v1."""
    shown = (_TIMES | stored).items()
    return {_CORE_TO_NEW.get(key, key): value for key, value in shown} | {"apiVersion": "events.k8s.io/v1"}


def from_new(new: Body) -> Body:
    """An events.k8s.io/v1 event as it is stored."""
    return from_core({_NEW_TO_CORE.get(key, key): value for key, value in new.items()}) | {"apiVersion": "v1"}


def _reference(field: str) -> Callable[[Body], str]:
    return lambda event: str((event.get("involvedObject") or {}).get(field, ""))


_REFERENCE_FIELDS: Final = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_PLAIN: Final[dict[str, Callable[[Body], str]]] = {
    "reason": lambda event: str(event.get("reason", "")),
    "type": lambda event: str(event.get("type", "")),
    "source": lambda event: str((event.get("source") or {}).get("component", "")),
}
CORE_FIELDS: Final[dict[str, Callable[[Body], str]]] = {
    **_PLAIN,
    "reportingComponent": lambda event: str(event.get("reportingComponent", "")),
    **{f"involvedObject.{field}": _reference(field) for field in _REFERENCE_FIELDS},
}
NEW_FIELDS: Final[dict[str, Callable[[Body], str]]] = {
    **_PLAIN,
    "reportingController": lambda event: str(event.get("reportingComponent", "")),
    **{f"regarding.{field}": _reference(field) for field in _REFERENCE_FIELDS},
}


def core_faults(event: Body, old: Body | None) -> list[FieldError]:
    """Rules of core v1 for an event: it is in the namespace of its object ("default" for cluster-scoped ones)."""
    del old
    home = event["metadata"].get("namespace", "")
    wanted = (event.get("involvedObject") or {}).get("namespace", "")
    if home == (wanted or "default"):
        return []
    detail = "does not match event.namespace"
    return [FieldError("FieldValueInvalid", ("involvedObject", "namespace"), wanted, detail)]


def new_faults(event: Body, old: Body | None) -> list[FieldError]:
    """Rules of events.k8s.io/v1 for an event, which are stricter; an update may change `series` only."""
    if old is not None:
        touched = sorted(
            key for key in event.keys() | old.keys() if key not in _MUTABLE and event.get(key) != old.get(key)
        )
        return [FieldError("FieldValueInvalid", (key,), event.get(key), "field is immutable") for key in touched]
    faults = core_faults(event, None)
    if not event.get("eventTime"):
        faults.append(FieldError("FieldValueRequired", ("eventTime",)))
    else:
        for key, limit in _LIMITS:
            faults += _text_faults(event.get(key) or "", _CORE_TO_NEW.get(key, key), limit)
    if event.get("type") not in {"Normal", "Warning"}:
        faults.append(FieldError("FieldValueInvalid", ("type",), "", f"has invalid value: {event.get('type') or ''}"))
    if len((event.get("message") or "").encode()) > 1024:
        faults.append(FieldError("FieldValueInvalid", ("note",), "", "can have at most 1024 characters"))
    return faults


def _text_faults(text: str, field: str, limit: int) -> list[FieldError]:
    if not text:
        return [FieldError("FieldValueRequired", (field,))]
    if len(text) > limit:
        return [FieldError("FieldValueInvalid", (field,), "", f"can have at most {limit} characters")]
    return []


def source(event: Body) -> str:
    """The SOURCE that `kubectl get events -o wide` shows: the component and its instance."""
    legacy = event.get("source") or {}
    parts = (
        event.get("reportingComponent") or legacy.get("component"),
        event.get("reportingInstance") or legacy.get("host"),
    )
    return ", ".join(part for part in parts if part)


def count(event: Body) -> int:
    """Number of occurrences of the Event."""
    return int((event.get("series") or {}).get("count") or event.get("count") or 1)


def last_seen(event: Body) -> Any:
    """The time (RFC 3339) that LAST SEEN of `kubectl get events` shows."""
    series = event.get("series") or {}
    return series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
