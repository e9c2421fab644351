"""Encodes a Status as `.status`, decodes `.status`, and computes the merge patch between two statuses."""

from collections.abc import Mapping
from typing import Any, Final

from awsbatch_operator.api.batchjob import Status
from awsbatch_operator.api.codec import decode, encode, field_names
from awsbatch_operator.api.job import Job

FIELDS: Final = (*field_names(Status), *field_names(Job))
"""The top-level fields of `.status` that this version writes. Others belong to a newer version."""


def parse(raw: object) -> Status:
    """Decode any value of `.status` into the nearest valid Status: an invalid field counts as absent."""
    return decode(raw, Status) or Status()


def diff(wanted: Status, shown: Status | Mapping[str, object]) -> dict[str, Any]:
    """Return the JSON merge patch from the shown `.status` to the wanted one; {} if there is nothing to write.

    The patch leaves top-level fields outside FIELDS alone, and replaces everything within the others.
    """
    if isinstance(shown, Status):
        if shown == wanted:
            return {}
        shown = encode(shown)
    rendered = encode(wanted)
    patch: dict[str, Any] = {}
    for field in FIELDS:
        value, before = rendered.get(field), shown.get(field)
        if value != before:
            patch[field] = _merge(value, before)
    return patch


def _merge(wanted: object, shown: object) -> object:
    if not isinstance(wanted, dict) or not isinstance(shown, dict):
        return wanted
    patch = {field: None for field in shown if field not in wanted}
    return patch | {
        field: _merge(value, shown.get(field)) for field, value in wanted.items() if value != shown.get(field)
    }
