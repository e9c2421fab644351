"""The CRD's schema, as strict as an API server, and what a status may weigh."""

import json
import re
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml

from awsbatch_operator.api import names


def crd(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load((Path(__file__).parents[2] / file).read_text("utf-8"), yaml.CSafeLoader)
    return found


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


CRD: Final = crd(names.CRD_FILE)
SCHEMA: Final = schema_of(CRD)
TERMINATION: Final = schema_of(crd(names.crd_file(names.TERMINATION_PLURAL)))
TERMINATION_SPEC: Final = {
    "region": "eu-west-1",
    "select": {"queues": ["gpu"], "jobNames": ["train-*"], "tags": {"run": "42"}},
    "createdBefore": "2026-11-30T10:00:00Z",
    "reason": "INC-4711",
    "maxJobs": 10,
    "approved": True,
}
SPEC: Final = {
    "jobId": "j:3",
    "region": "eu-west-1",
    "terminate": {"reason": "INC-4711"},
    "deadline": {"reason": "over budget", "running": "8h", "waiting": "1h30m"},
    "onDelete": {"terminate": {"reason": "its workflow was deleted"}},
}
MOST_BYTES: Final = 64 * 1024
"""Longest status. etcd accepts 1.5 MB for an object, but ten thousand objects are in the operator's memory."""

_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_FORMATS: Final = jsonschema.FormatChecker(())


@_FORMATS.checks("date-time")
def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or _DATE_TIME.fullmatch(value) is not None


@_FORMATS.checks("int64")
def _is_int64(value: object) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63


@_FORMATS.checks("int32")
def _is_int32(value: object) -> bool:
    return not isinstance(value, int) or -(2**31) <= value < 2**31


_VALIDATOR: Final = jsonschema.Draft202012Validator(SCHEMA, format_checker=_FORMATS)
_TERMINATION: Final = jsonschema.Draft202012Validator(TERMINATION, format_checker=_FORMATS)


def assert_valid(status: dict[str, Any], *, heavy: bool = False) -> None:
    """A status that an API server takes and, unless it may be heavy, that is no burden to it."""
    head = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "train-42"}}
    _VALIDATOR.validate({**head, "spec": SPEC, "status": status})
    assert heavy or len(json.dumps(status, ensure_ascii=False).encode()) <= MOST_BYTES


def assert_valid_termination(status: dict[str, Any]) -> None:
    """A status of a BatchTermination that an API server takes."""
    _TERMINATION.validate({"spec": TERMINATION_SPEC, "status": status})
    assert len(json.dumps(status, ensure_ascii=False).encode()) <= 2 * MOST_BYTES


def assert_valid_object(body: dict[str, Any]) -> None:
    """A BatchJob as users write it: of our group and kind, by the schema, and without a field that it does not have."""
    assert (body["apiVersion"], body["kind"]) == (names.API_VERSION, names.KIND)
    _VALIDATOR.validate(body)
    assert set(body["spec"]) <= set(SCHEMA["properties"]["spec"]["properties"])
    terminate = SCHEMA["properties"]["spec"]["properties"]["terminate"]["properties"]
    assert set(body["spec"].get("terminate", {})) <= set(terminate)
