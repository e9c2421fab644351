"""Decodes the body of a BatchJob as the API server shows it into a Snapshot."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from sys import intern
from typing import Annotated, Any, Final, TypeGuard
from unicodedata import category

import msgspec

from awsbatch_operator.api import status_codec, timestamps
from awsbatch_operator.api.batchjob import Deadline, ObjectRef, Spec, Status
from awsbatch_operator.api.codec import StrictObject
from awsbatch_operator.api.timestamps import Millis

_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class ObjectMetadata(msgspec.Struct, frozen=True, rename="camel"):
    """The part of `metadata` that the operator reads. The API server sets all of it; a missing field is empty."""

    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: Annotated[int, msgspec.Meta(ge=0)] = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] | None = None


class TerminateSpec(StrictObject, frozen=True):
    """The schema of `spec.terminate`."""

    reason: str | None = None


class DeadlineSpec(StrictObject, frozen=True):
    """The schema of `spec.deadline`."""

    reason: str | None = None
    running: str | None = None
    waiting: str | None = None


class OnDeleteSpec(StrictObject, frozen=True):
    """The schema of `spec.onDelete`."""

    terminate: TerminateSpec | None = None


class BatchJobSpec(StrictObject, frozen=True):
    """The schema of `spec`. A field or type that it does not declare belongs to another version of the operator."""

    job_id: _NonEmpty
    region: _NonEmpty | None = None
    terminate: TerminateSpec | None = None
    deadline: DeadlineSpec | None = None
    on_delete: OnDeleteSpec | None = None


_INVISIBLE: Final = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"})
"""Categories in the pattern of the CRD. What has none yet may be visible by a newer Unicode."""

_NO_METADATA: Final = ObjectMetadata()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of an object as the API server returned it.

    `spec` is None when this version of the operator can't decode it (a future schema); `resource_version` orders the
    versions of one object; `shown` is the raw `.status`, to detect what others wrote there, and `digest` that of it;
    `deleted` is the deletionTimestamp, `finalizers` are in their order.
    """

    ref: ObjectRef
    generation: int
    resource_version: str
    created: str | None
    spec: Spec | None
    shown: dict[str, object]
    digest: int
    deleted: str | None = None
    finalizers: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """The status that is shown. It is decoded with each access: most versions are handled without it."""
        return status_codec.parse(self.shown)

    @property
    def created_at(self) -> Millis:
        return timestamps.parse(self.created) or 0

    @property
    def deleted_at(self) -> Millis | None:
        """Time of the deletion request, by the clock of the API server; None: the object is not being deleted."""
        return None if self.deleted is None else timestamps.parse(self.deleted) or 0


def parse_object(body: Mapping[str, Any]) -> Snapshot:
    """Return the snapshot of any body; never raises.

    `spec` is None if it has a field or a type that this version does not know: acting on the known part could be
    acting in the wrong account, or too early.
    """
    metadata = parse_metadata(body)
    try:
        stated = msgspec.convert(body.get("spec"), BatchJobSpec)
    except (msgspec.ValidationError, UnicodeEncodeError):
        # The latter: a field named with half a surrogate pair, which JSON may have and UTF-8 can't.
        spec = None
    else:
        spec = _spec(stated)
    shown = raw_status_of(body)
    return Snapshot(
        # A namespace holds many objects: its name is stored once.
        ref=ObjectRef(intern(metadata.namespace), metadata.name, metadata.uid),
        generation=metadata.generation,
        resource_version=metadata.resource_version,
        created=metadata.creation_timestamp,
        spec=spec,
        shown=shown,
        digest=digest_of(shown),
        deleted=metadata.deletion_timestamp,
        finalizers=metadata.finalizers or (),
    )


def _spec(stated: BatchJobSpec) -> Spec | None:
    reason = stated.terminate.reason if stated.terminate is not None else None
    deadline = None
    if stated.deadline is not None and is_reason(stated.deadline.reason):
        limits = [stated.deadline.running, stated.deadline.waiting]
        running, waiting = (None if limit is None else timestamps.parse_duration(limit) for limit in limits)
        if [running is None, waiting is None] != [limit is None for limit in limits]:
            # A limit in a form that this version does not know.
            return None
        deadline = Deadline(stated.deadline.reason, running, waiting)
    last = stated.on_delete.terminate.reason if stated.on_delete is not None and stated.on_delete.terminate else None
    return Spec(
        stated.job_id,
        stated.region,
        reason if is_reason(reason) else None,
        deadline,
        last if is_reason(last) else None,
    )


def is_reason(reason: str | None) -> TypeGuard[str]:
    """Return whether the reason states a termination: one without a visible character states none."""
    return reason is not None and any(category(character) not in _INVISIBLE for character in reason)


def parse_metadata(body: Mapping[str, Any]) -> ObjectMetadata:
    """Return `.metadata`; empty if it can't be decoded."""
    metadata: Any = body.get("metadata")
    try:
        return msgspec.convert(metadata, ObjectMetadata)
    except msgspec.ValidationError:
        return _NO_METADATA
    except UnicodeEncodeError:
        return parse_metadata({"metadata": {key: value for key, value in metadata.items() if key.isascii()}})


def parse_ref(metadata: Mapping[str, Any]) -> ObjectRef:
    """Return the identity in `.metadata`; a missing field is empty."""
    return ObjectRef(intern(_text(metadata.get("namespace"))), _text(metadata.get("name")), _text(metadata.get("uid")))


def resource_version_of(body: Mapping[str, Any]) -> str:
    """Return `.metadata.resourceVersion`; empty if it is missing."""
    metadata = body.get("metadata")
    return _text(metadata.get("resourceVersion")) if isinstance(metadata, Mapping) else ""


def raw_status_of(body: Mapping[str, Any]) -> dict[str, object]:
    """Return the raw `.status`; {} if it is missing."""
    shown = body.get("status")
    return shown if isinstance(shown, dict) else {}


def digest_of(shown: Mapping[str, object]) -> int:
    """Return a number that tells raw statuses apart, in this process."""
    try:
        return hash(msgspec.json.encode(shown))
    except UnicodeEncodeError:
        return hash(json.dumps(shown))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
