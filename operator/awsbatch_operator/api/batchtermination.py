"""A BatchTermination: which jobs it selects, its status, and its versions as the API server shows them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from sys import intern
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from awsbatch_operator.api import codec, names, timestamps
from awsbatch_operator.api.batchjob import Conditions, ObjectRef
from awsbatch_operator.api.codec import Count, DateTime, Object, StrictObject
from awsbatch_operator.api.decoding import is_reason, parse_metadata, raw_status_of
from awsbatch_operator.api.timestamps import Millis

MOST_EXAMPLES: Final = 20
"""Jobs that a status names."""

_REGION: Final = re.compile(r"[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_NAMES: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}|([A-Za-z0-9][A-Za-z0-9_-]{0,127})?[*]")
_TIME: Final = re.compile(
    r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
_LONGEST_REASON: Final = 1024
_INT32: Final = {"format": "int32"}

MOST_JOBS: Final = 2**31 - 1
Jobs = Annotated[int, Meta(ge=0, le=MOST_JOBS, extra_json_schema=_INT32)]
"""A number of jobs, the children of arrays included."""
LONGEST_NAME: Final = 256
"""Characters of the id and of the name of an example."""


class BulkPhase(StrEnum):
    PLANNING = "Planning"
    AWAITING_APPROVAL = "AwaitingApproval"
    TERMINATING = "Terminating"
    FINISHED = "Finished"
    REFUSED = "Refused"


class SelectSpec(StrictObject, frozen=True):
    """The schema of `spec.select`."""

    queues: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(min_length=1, max_length=20)]
    job_names: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(min_length=1, max_length=50)] | None = (
        None
    )
    tags: Annotated[dict[str, Annotated[str, Meta(max_length=1024)]], Meta(min_length=1, max_length=50)] | None = None


class BatchTerminationSpec(StrictObject, frozen=True):
    """The schema of `.spec`. A field or type that it does not declare belongs to another version of the operator."""

    region: Annotated[str, Meta(max_length=32)]
    select: SelectSpec
    created_before: Annotated[str, Meta(max_length=40, extra_json_schema={"format": "date-time"})]
    max_jobs: Annotated[int, Meta(ge=1, le=100_000, extra_json_schema=_INT32)]
    reason: Annotated[str, Meta(max_length=4096)] = ""
    approved: bool = False


@dataclass(frozen=True, slots=True)
class BulkSpec:
    """The spec of a BatchTermination. A job must match all parts of the selection.

    `job_names`: names, or beginnings of names with * at the end; empty: every name. `created_before`: epoch
    milliseconds. `reason`: sent exactly as written. `max_jobs`: an array counts with all its children.
    """

    region: str
    queues: tuple[str, ...]
    job_names: tuple[str, ...]
    tags: tuple[tuple[str, str], ...]
    created_before: Millis
    reason: str
    max_jobs: int
    approved: bool


class Example(Object, frozen=True):
    """One of the matching jobs. `message`: why AWS refused its termination."""

    job_id: str
    job_name: str | None = None
    message: str | None = None


class BulkStatus(Object, frozen=True):
    """`.status`."""

    observed_generation: Count | None = None
    phase: BulkPhase | None = None
    swept_at: DateTime | None = None
    matched: Jobs | None = None
    requested: Jobs | None = None
    ending: Jobs | None = None
    failed: Jobs | None = None
    examples: tuple[Example, ...] = ()
    conditions: Conditions = ()

    def reason(self, condition: str) -> str | None:
        """Return the reason of the condition of this type; None: there is no such condition."""
        return next((one.reason for one in self.conditions if one.type == condition), None)


@dataclass(frozen=True, slots=True)
class BulkSnapshot:
    """One version of a BatchTermination. `spec` None: this version of the operator can't read it.

    `deleted`: the deletion was requested, though a finalizer may hold the object.
    """

    ref: ObjectRef
    generation: int
    resource_version: str
    created_at: Millis
    spec: BulkSpec | None
    shown: Mapping[str, object]
    deleted: bool = False


def parse_termination(body: Mapping[str, Any]) -> BulkSnapshot:
    """Return the snapshot of any body; never raises."""
    metadata = parse_metadata(body)
    return BulkSnapshot(
        ref=ObjectRef(intern(metadata.namespace), metadata.name, metadata.uid, names.TERMINATION_KIND),
        generation=metadata.generation,
        resource_version=metadata.resource_version,
        created_at=timestamps.parse(metadata.creation_timestamp) or 0,
        spec=_spec(body.get("spec")),
        shown=raw_status_of(body),
        deleted=metadata.deletion_timestamp is not None,
    )


def parse_bulk_status(shown: Mapping[str, object]) -> BulkStatus:
    """Return what can be decoded of a raw `.status`."""
    return codec.decode(shown, BulkStatus) or BulkStatus()


def _spec(raw: object) -> BulkSpec | None:
    """Return None for what breaks a rule of the schema: it was written for another version."""
    try:
        stated = msgspec.convert(raw, BatchTerminationSpec)
        select, tags = stated.select, stated.select.tags or {}
        # Half a surrogate pair, which JSON may have and UTF-8 can't, raises an error.
        "".join((stated.reason, *tags, *tags.values())).encode()
    except (msgspec.ValidationError, UnicodeEncodeError):
        return None
    job_names, cutoff = select.job_names or (), timestamps.parse(stated.created_before)
    valid = (
        cutoff is not None
        and _TIME.fullmatch(stated.created_before)
        and _REGION.fullmatch(stated.region)
        and all(map(_NAME.fullmatch, select.queues))
        and all(map(_NAMES.fullmatch, job_names))
        and all(1 <= len(key) <= 128 for key in tags)
        and (job_names or tags)
        and is_reason(stated.reason)
        and len(stated.reason) <= _LONGEST_REASON
    )
    if not valid or cutoff is None:
        return None
    return BulkSpec(
        region=stated.region,
        queues=tuple(dict.fromkeys(select.queues)),
        job_names=job_names,
        tags=tuple(sorted(tags.items())),
        created_before=cutoff,
        reason=stated.reason,
        max_jobs=stated.max_jobs,
        approved=stated.approved,
    )


class BulkMetricKey(NamedTuple):
    """Labels of the metrics of BatchTerminations. `stalled`: a reason of Stalled, or empty."""

    namespace: str
    phase: BulkPhase
    stalled: str
