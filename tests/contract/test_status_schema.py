"""The CRD and the code that encodes and decodes its objects agree on every field."""

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from awsbatch_operator.api import names
from awsbatch_operator.api.access_policy import BatchAccessPolicySpec, BatchAccessPolicyStatus
from awsbatch_operator.api.batchjob import AdmittedBy, Cause, Condition, Limit, NextLimit, Phase, Status, Termination
from awsbatch_operator.api.batchtermination import (
    BatchTerminationSpec,
    BulkPhase,
    BulkStatus,
    Example,
    parse_bulk_status,
    parse_termination,
)
from awsbatch_operator.api.codec import encode
from awsbatch_operator.api.decoding import BatchJobSpec, parse_object
from awsbatch_operator.api.job import Array, Job, Node
from awsbatch_operator.api.status_codec import FIELDS, parse
from contract.schema import (
    CRD,
    SCHEMA,
    SPEC,
    TERMINATION_SPEC,
    assert_valid,
    assert_valid_termination,
    crd,
    schema_of,
)
from contract.schema import TERMINATION as TERMINATION_SCHEMA

STATUS_SCHEMA, SPEC_SCHEMA = SCHEMA["properties"]["status"], SCHEMA["properties"]["spec"]

AT = 1_795_428_000_123
FULL = Status(
    observed_generation=2,
    phase=Phase.TERMINATED,
    region="eu-west-1",
    job=Job(
        status="FAILED",
        status_reason="INC-4711",
        is_terminated=True,
        is_cancelled=True,
        name="train-42",
        arn="arn:aws:batch:eu-west-1:123456789012:job/j",
        queue="arn:aws:batch:eu-west-1:123456789012:job-queue/q",
        definition="arn:aws:batch:eu-west-1:123456789012:job-definition/d:1",
        created_at=AT,
        started_at=AT + 1,
        stopped_at=AT + 2,
        exit_code=137,
        container_reason="OutOfMemoryError",
        log_stream_name="d/default/x",
        log_group_name="/aws/batch/job",
        attempts=3,
        array=Array(10, 2, {"RUNNING": 4}),
        node=Node(4, 1, main=True),
    ),
    deadline=NextLimit(AT + 6, Limit.RUNNING),
    termination=Termination(
        "INC-4711", AT + 3, AT + 4, AT + 5, 2, Cause.TERMINATE, request_id="an-id", status_reason_before="CAPACITY:X"
    ),
    conditions=(Condition("Ready", "True", "Terminated", AT // 1000 * 1000, "Ended.", 2),),
    account_id="123456789012",
    access=AdmittedBy("team-a", "d02cb8035764dea6"),
)

Path_ = tuple[str, ...]


def schema_leaves(schema: dict[str, Any], path: Path_ = ()) -> Iterator[Path_]:
    """Paths of the values that a schema describes; `*` for any key or item."""
    if "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from schema_leaves(inner, (*path, name))
    elif inner := schema.get("additionalProperties") or schema.get("items"):
        yield from schema_leaves(inner, (*path, "*"))
    else:
        yield path


def value_leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    match value:
        case dict():
            for name, inner in value.items():
                yield from value_leaves(inner, (*path, "*" if path[-1:] in (("statusSummary",), ("tags",)) else name))
        case list():
            for inner in value:
                yield from value_leaves(inner, (*path, "*"))
        case _:
            yield path


def without(value: dict[str, Any], path: Path_) -> dict[str, Any]:
    rest = copy.deepcopy(value)
    place: Any = rest
    for step in path[:-1]:
        place = place[0] if isinstance(place, list) else place[step]
    last = 0 if isinstance(place, list) else next(iter(place)) if path[-1] == "*" else path[-1]
    del place[last]
    return rest


def test_every_field_of_the_status_schema_is_written_and_no_other() -> None:
    assert set(value_leaves(encode(FULL))) == set(schema_leaves(STATUS_SCHEMA))
    assert set(FIELDS) == set(STATUS_SCHEMA["properties"])


@pytest.mark.parametrize("leaf", [*schema_leaves(STATUS_SCHEMA)], ids=".".join)
def test_every_field_of_the_status_schema_is_read(leaf: Path_) -> None:
    whole = encode(FULL)
    assert parse(whole) == FULL
    assert parse(without(whole, leaf)) != FULL


@pytest.mark.parametrize("leaf", [*schema_leaves(SPEC_SCHEMA)], ids=".".join)
def test_every_field_of_the_spec_schema_is_read(leaf: Path_) -> None:
    whole = parse_object({"spec": SPEC}).spec
    assert whole is not None
    assert parse_object({"spec": without(SPEC, leaf)}).spec != whole


def test_the_spec_schema_has_no_field_that_the_code_does_not_know() -> None:
    assert set(schema_leaves(SPEC_SCHEMA)) == set(value_leaves(SPEC))


TERMINATION = TERMINATION_SCHEMA["properties"]
FULL_BULK = BulkStatus(
    observed_generation=2,
    phase=BulkPhase.TERMINATING,
    swept_at=AT,
    matched=3,
    requested=4,
    ending=5,
    failed=1,
    examples=(Example("j", "train-42", "not authorized"),),
    conditions=FULL.conditions,
)


def test_every_field_of_the_status_of_a_termination_is_written_and_no_other() -> None:
    assert set(value_leaves(encode(FULL_BULK))) == set(schema_leaves(TERMINATION["status"]))
    assert_valid_termination(encode(FULL_BULK))


@pytest.mark.parametrize("leaf", [*schema_leaves(TERMINATION["status"])], ids=".".join)
def test_every_field_of_the_status_of_a_termination_is_read(leaf: Path_) -> None:
    whole = encode(FULL_BULK)
    assert parse_bulk_status(whole) == FULL_BULK
    assert parse_bulk_status(without(whole, leaf)) != FULL_BULK


@pytest.mark.parametrize("leaf", [*schema_leaves(TERMINATION["spec"])], ids=".".join)
def test_every_field_of_the_spec_of_a_termination_is_read(leaf: Path_) -> None:
    whole = parse_termination({"spec": TERMINATION_SPEC}).spec
    assert whole is not None
    assert set(value_leaves(TERMINATION_SPEC)) == set(schema_leaves(TERMINATION["spec"]))
    assert parse_termination({"spec": without(TERMINATION_SPEC, leaf)}).spec != whole


KEYWORDS = ("type", "format", "enum", "minimum", "properties")


# Without lower bounds: the CRD states those as rules, whose messages say more. test_policy_verdicts.py compares those.
BOUNDS = ("maxLength", "maxItems", "maxProperties")


def declared(kind: type[msgspec.Struct], *more: str) -> dict[str, Any]:
    schema = msgspec.json.schema(kind)
    return compared(schema, schema["$defs"], *more)


def compared(schema: dict[str, Any], defs: dict[str, Any], *more: str) -> dict[str, Any]:
    """What a declaration's JSON schema and a CRD must have in common, in the words of a CRD."""
    schema = next((one for one in schema.get("anyOf", ()) if one != {"type": "null"}), schema)
    if "$ref" in schema:
        return compared(defs[schema["$ref"].rpartition("/")[2]], defs, *more)
    found = {name: schema[name] for name in (*KEYWORDS, *more) if name in schema}
    if "enum" in found:
        found |= {"type": "string", "enum": sorted(found["enum"])}
    elif found.get("format") == "date-time":
        found["type"] = "string"
    elif schema.get("maximum") == 2**63 - 1:
        found["format"] = "int64"
        if found["minimum"] == -(2**63):
            del found["minimum"]
    if "properties" in found:
        found["properties"] = {name: compared(inner, defs, *more) for name, inner in found["properties"].items()}
    for name in ("items", "additionalProperties"):
        if schema.get(name):
            found[name] = compared(schema[name], defs, *more)
    return found


def declared_status() -> dict[str, Any]:
    status, job = declared(Status), declared(Job)
    assert status["properties"].pop("job") == job
    # Neither is in JSON.
    del status["properties"]["delayed"], status["properties"]["deadline"]["properties"]["overdue"]
    return {"type": "object", "properties": status["properties"] | job["properties"]}


POLICY = schema_of(crd(names.crd_file(names.POLICY_PLURAL)))["properties"]


def test_the_declared_types_are_those_of_the_crds() -> None:
    assert declared_status() == compared(STATUS_SCHEMA, {})
    assert declared(BatchAccessPolicyStatus) == compared(POLICY["status"], {})
    assert declared(BatchAccessPolicySpec, *BOUNDS) == compared(POLICY["spec"], {}, *BOUNDS)
    assert declared(BatchJobSpec) == compared(SPEC_SCHEMA, {})
    assert declared(BatchTerminationSpec, *BOUNDS) == compared(TERMINATION["spec"], {}, *BOUNDS)
    assert declared(BulkStatus) == compared(TERMINATION["status"], {})


@pytest.mark.parametrize(
    "status", [FULL, Status(), Status(job=Job("RUNNING")), Status(job=Job("X", array=Array(), node=Node()))]
)
def test_written_statuses_are_valid(status: Status) -> None:
    assert_valid(encode(status))


def test_the_names_are_those_of_the_definition() -> None:
    spec = CRD["spec"]
    assert (spec["group"], spec["versions"][0]["name"]) == (names.GROUP, names.VERSION)
    assert (spec["names"]["plural"], spec["names"]["kind"]) == (names.PLURAL, names.KIND)
    assert CRD["metadata"]["name"] == names.CRD_NAME
