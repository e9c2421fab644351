"""The CRD and the code that encodes and decodes its objects agree on every field."""

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from awsbatch_operator.api import names
from awsbatch_operator.api.batchjob import AdmittedBy, Condition, Phase, Status, Termination
from awsbatch_operator.api.decoding import BatchJobSpec, TerminateSpec, parse_object
from awsbatch_operator.api.job import Array, Job, Node
from awsbatch_operator.api.status_codec import FIELDS, parse, render
from contract.schema import CRD, SCHEMA, SPEC, assert_valid

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
        attempts=3,
        array=Array(10, 2, (("RUNNING", 4),)),
        node=Node(4, 1, main=True),
    ),
    termination=Termination("INC-4711", AT + 3, AT + 4, AT + 5, 2),
    conditions=(Condition("Ready", "True", "Terminated", "Ended.", AT // 1000 * 1000, 2),),
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
                yield from value_leaves(inner, (*path, "*" if path[-1:] == ("statusSummary",) else name))
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
    del place[next(iter(place)) if path[-1] == "*" else path[-1]]
    return rest


def test_every_field_of_the_status_schema_is_written_and_no_other() -> None:
    assert set(value_leaves(render(FULL))) == set(schema_leaves(STATUS_SCHEMA))
    assert set(FIELDS) == set(STATUS_SCHEMA["properties"])


@pytest.mark.parametrize("leaf", [*schema_leaves(STATUS_SCHEMA)], ids=".".join)
def test_every_field_of_the_status_schema_is_read(leaf: Path_) -> None:
    whole = render(FULL)
    assert parse(whole) == FULL
    assert parse(without(whole, leaf)) != FULL


@pytest.mark.parametrize("leaf", [*schema_leaves(SPEC_SCHEMA)], ids=".".join)
def test_every_field_of_the_spec_schema_is_read(leaf: Path_) -> None:
    whole = parse_object({"spec": SPEC}).spec
    assert whole is not None
    assert parse_object({"spec": without(SPEC, leaf)}).spec != whole


def test_the_spec_schema_has_no_field_that_the_code_does_not_know() -> None:
    assert set(schema_leaves(SPEC_SCHEMA)) == set(value_leaves(SPEC))


@pytest.mark.parametrize(
    ("struct", "schema"),
    [(BatchJobSpec, SPEC_SCHEMA), (TerminateSpec, SPEC_SCHEMA["properties"]["terminate"])],
    ids=["spec", "terminate"],
)
def test_the_declared_spec_has_the_fields_of_the_crd(struct: type[msgspec.Struct], schema: dict[str, Any]) -> None:
    assert {field.encode_name for field in msgspec.structs.fields(struct)} == set(schema["properties"])


def test_the_phases_of_the_schema_are_those_of_the_code() -> None:
    assert STATUS_SCHEMA["properties"]["phase"]["enum"] == [phase.value for phase in Phase]


@pytest.mark.parametrize(
    "status", [FULL, Status(), Status(job=Job("RUNNING")), Status(job=Job("X", array=Array(), node=Node()))]
)
def test_what_is_written_is_valid(status: Status) -> None:
    assert_valid(render(status))


def test_the_names_are_those_of_the_definition() -> None:
    spec = CRD["spec"]
    assert (spec["group"], spec["versions"][0]["name"]) == (names.GROUP, names.VERSION)
    assert (spec["names"]["plural"], spec["names"]["kind"]) == (names.PLURAL, names.KIND)
    assert CRD["metadata"]["name"] == names.CRD_NAME
