"""A BatchJob body, as the API server shows it -> Snapshot."""

from collections.abc import Mapping
from sys import intern
from typing import Any, Final

from awsbatch_operator.domain.record import ObjectRef, Snapshot, Spec
from awsbatch_operator.kube import status, times

_SPEC_FIELDS: Final = frozenset({"jobId", "region", "terminate"})
_TERMINATE_FIELDS: Final = frozenset({"reason"})


class _UnreadableSpecError(Exception):
    """The spec says something that this version does not understand."""


def parse_object(body: Mapping[str, Any]) -> Snapshot:
    """The snapshot of any body; never raises.

    `spec` is None as soon as it holds a field or a type that this version does not know: to act on the part that
    is understood could be to act in the wrong account, or too soon.
    """
    metadata, shown = _mapping(body.get("metadata")), shown_of(body)
    try:
        spec = _parse_spec(body.get("spec"))
    except _UnreadableSpecError:
        spec = None
    return Snapshot(
        ref=parse_ref(metadata),
        generation=status.count_of(metadata.get("generation")) or 0,
        resource_version=version_of(body),
        created_at=times.parse(metadata.get("creationTimestamp")) or 0,
        spec=spec,
        status=status.parse(shown),
        shown=shown,
    )


def parse_ref(metadata: Mapping[str, Any]) -> ObjectRef:
    # One namespace holds many objects: its name is kept once.
    return ObjectRef(intern(_text(metadata.get("namespace"))), _text(metadata.get("name")), _text(metadata.get("uid")))


def version_of(body: Mapping[str, Any]) -> str:
    return _text(_mapping(body.get("metadata")).get("resourceVersion"))


def shown_of(body: Mapping[str, Any]) -> dict[str, object]:
    """The raw `.status`."""
    return dict(_mapping(body.get("status")))


def _parse_spec(raw: object) -> Spec:
    if not isinstance(raw, Mapping) or not _SPEC_FIELDS.issuperset(raw):
        raise _UnreadableSpecError
    job_id, region = raw.get("jobId"), raw.get("region")
    if not isinstance(job_id, str) or not job_id:
        raise _UnreadableSpecError
    if region is not None and (not isinstance(region, str) or not region):
        raise _UnreadableSpecError
    return Spec(job_id, region, _parse_terminate(raw.get("terminate")))


def _parse_terminate(raw: object) -> str | None:
    """The reason exactly as written; None when nothing is stated, or nothing that could be told to AWS as a reason."""
    if raw is None:
        return None
    if not isinstance(raw, Mapping) or not _TERMINATE_FIELDS.issuperset(raw):
        raise _UnreadableSpecError
    reason = raw.get("reason")
    if reason is None:
        return None
    if not isinstance(reason, str):
        raise _UnreadableSpecError
    return reason if reason.strip() else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
