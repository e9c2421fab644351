"""For every content of a BatchJob, the API server accepts the status of the operator."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from awsbatch_operator.api.batchjob import Cause, Spec
from awsbatch_operator.api.codec import encode
from awsbatch_operator.api.decoding import Snapshot, digest_of, parse_object
from awsbatch_operator.api.job import Array, Node
from awsbatch_operator.api.status_codec import diff, parse
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Record
from awsbatch_operator.reconcile.reconcile import reconcile
from awsbatch_sandbox.apiserver.patch import merge
from builders import (
    DENIED,
    INTERVALS,
    JOB_ID,
    NOW,
    REGION,
    TERMINATE,
    UNAVAILABLE,
    JobBuilder,
    a_job,
    absent,
    an_object,
    seen,
)
from contract.schema import SCHEMA, assert_valid
from hostile import MANY, NUMBERS, Path, break_at

TEXTS = st.text(max_size=20) | st.sampled_from(["", " \n", "\0", "x" * 30_000, "💸" * 1024, JOB_ID, REGION, "Ready"])
MOMENTS = st.sampled_from(
    [
        *("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.123456789Z", "2026-11-23T10:00:00", "0001-01-01T00:00:00+14:00"),
        *("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-14:00", "2026-W01-1T00:00:00Z", "20261123T100000Z", "now"),
    ]
)
RUBBISH = st.one_of(
    *(st.none(), st.booleans(), NUMBERS, TEXTS, MOMENTS),
    st.sampled_from([[], {}, [[]], [None], [{}], {"reason": {}}, {"type": "Ready"}, {str(n): n for n in range(MANY)}]),
)


def of_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What the CRD's schema allows, with any part missing or of another type: other versions had other schemas."""
    if "properties" in schema:
        members = {name: of_schema(inner) for name, inner in schema["properties"].items()}
        plain: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional={**members, "ofANewerVersion": RUBBISH})
    elif inner := schema.get("items"):
        plain = st.lists(of_schema(inner), max_size=4)
    elif inner := schema.get("additionalProperties"):
        plain = st.dictionaries(TEXTS, of_schema(inner), max_size=3)
    else:
        plain = _scalar(schema)
    return st.one_of(plain, plain, plain, RUBBISH)


def _scalar(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    match schema:
        case {"enum": values}:
            return st.sampled_from(values)
        case {"format": "date-time"}:
            return MOMENTS
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "integer"}:
            return NUMBERS
        case _:
            return TEXTS | st.sampled_from(["FAILED", "SUCCEEDED", "RUNNING", "Succeeded", "Terminated", "Stalled"])


def schemas(schema: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from schemas(inner, (*path, name))
    if inner := schema.get("items") or schema.get("additionalProperties"):
        yield from schemas(inner, (*path, "*"))


SCHEMAS = dict(schemas(SCHEMA["properties"]["status"]))
_FULL = a_job().job.replace(array=Array(3, 1, {"RUNNING": 2}), node=Node(4, 1, main=True), attempts=2, exit_code=1)
SHOWN = [
    json.dumps(encode(an_object().terminating(reason).settled(known).record.status))
    for reason in (None, "why")
    for known in (
        seen(JobBuilder(_FULL).running()),
        seen(JobBuilder(_FULL).ended("FAILED", "why")),
        seen(JobBuilder(_FULL).flagged().ended("FAILED", "why")).accepted(
            Cause.TERMINATE, "why", NOW - 5000, NOW - 4000
        ),
        seen(JobBuilder(_FULL).ended("SUCCEEDED")).accepted(TERMINATE, "why", NOW - 5000, NOW - 4000),
    )
]


@st.composite
def foreign_status(draw: st.DrawFn) -> Any:
    """A status that the operator wrote, with a few schemas that somebody else did."""
    status = json.loads(draw(st.sampled_from(SHOWN)))
    for path in draw(st.lists(st.sampled_from(sorted(SCHEMAS.keys() - {()})), max_size=4)):
        break_at(status, path, draw(of_schema(SCHEMAS[path])), gone=draw(st.booleans()))
    return status


METADATA = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("namespace", "name", "uid", "resourceVersion"), TEXTS | RUBBISH),
        "generation": st.just(1) | NUMBERS | RUBBISH,
        "creationTimestamp": MOMENTS | RUBBISH,
    },
)
SPECS = of_schema(SCHEMA["properties"]["spec"])
STATUSES = foreign_status() | of_schema(SCHEMAS[()])
BODIES = st.fixed_dictionaries(
    {}, optional={"metadata": METADATA | RUBBISH, "spec": SPECS, "status": STATUSES, "somethingNew": RUBBISH}
)
KNOWLEDGE = st.sampled_from(
    [
        seen(),
        seen(a_job().running()),
        seen(a_job().running().flagged()),
        seen(a_job().ended("FAILED", "INC-4711")),
        seen(a_job().ended("SUCCEEDED")),
        absent(NOW - 500_000, NOW - 1000, NOW),
        JobState().with_error(UNAVAILABLE, NOW),
        seen(a_job().running()).terminate_refused(DENIED, NOW),
    ]
)


def record_of(snapshot: Snapshot) -> Record:
    spec = snapshot.spec or Spec(JOB_ID)
    return Record(
        spec=spec,
        region=spec.region or REGION,
        generation=snapshot.generation,
        created_at=snapshot.created_at,
        changed_at=NOW,
        known_since=NOW,
        status=snapshot.status,
    )


@example({"metadata": {"generation": True}})
@example({"metadata": {"generation": -1}})
@given(BODIES)
def test_any_body_makes_a_snapshot_of_the_promised_types(body: dict[str, Any]) -> None:
    snapshot = parse_object(json.loads(json.dumps(body)))
    assert type(snapshot.generation) is int
    assert snapshot.generation >= 0
    assert type(snapshot.created_at) is int
    for text in (snapshot.ref.namespace, snapshot.ref.name, snapshot.ref.uid, snapshot.resource_version):
        assert type(text) is str
    spec = snapshot.spec
    if spec is not None:
        assert spec.job_id
        assert body["spec"]["jobId"] == spec.job_id
        assert spec.region is None or body["spec"]["region"] == spec.region
        assert spec.terminate is None or body["spec"]["terminate"]["reason"] == spec.terminate
        assert spec.terminate is None or spec.terminate.strip()


@pytest.mark.parametrize("text", ["\ud83d", "a\udca9"])
@pytest.mark.parametrize(
    "place", [(), ("metadata",), ("spec",), ("spec", "terminate"), ("status",), ("status", "node")]
)
def test_half_a_surrogate_pair_anywhere_is_a_fault_of_that_object_only(text: str, place: Path) -> None:
    """JSON can name it, UTF-8 can't: an object that made decoding fail would end the watch of all others."""
    identity = {"namespace": "ns", "name": "job", "uid": "u", "resourceVersion": "7"}
    whole: dict[str, Any] = {"metadata": identity, "spec": {"jobId": JOB_ID, "terminate": {"reason": "why"}}}
    whole |= {"status": {"phase": "Running", "node": {"count": 2}}}
    for odd in ({text: 1}, {"x": text}, {text: text}):
        body = json.loads(json.dumps(whole))
        inner = body
        for name in place:
            inner = inner[name]
        inner |= odd
        snapshot = parse_object(body)
        assert (snapshot.ref.namespace, snapshot.ref.uid, snapshot.resource_version) == ("ns", "u", "7")
        assert (snapshot.spec is None) == (place[:1] == ("spec",))
        assert digest_of(snapshot.shown) == snapshot.digest
        assert isinstance(diff(snapshot.status, snapshot.shown), dict)


@example({"metadata": {"generation": 1}, "status": json.loads(SHOWN[1]) | {"attempts": -1, "exitCode": 2**63}}, seen())
@given(BODIES, KNOWLEDGE)
def test_the_next_status_after_any_body_is_valid(body: dict[str, Any], known: JobState) -> None:
    snapshot = parse_object(json.loads(json.dumps(body)))
    status = reconcile(record_of(snapshot), known, NOW, INTERVALS).status
    stored = json.loads(json.dumps(encode(status), ensure_ascii=False).encode())
    assert diff(status, stored) == {}
    assert_valid(stored, heavy=True)


@given(STATUSES, KNOWLEDGE)
def test_one_write_repairs_a_foreign_status(foreign: Any, known: JobState) -> None:
    snapshot = parse_object(json.loads(json.dumps({"metadata": {"generation": 2}, "status": foreign})))
    status = reconcile(record_of(snapshot), known, NOW, INTERVALS).status
    patch = diff(status, snapshot.shown)
    repaired = merge(snapshot.shown, json.loads(json.dumps(patch)))
    assert isinstance(repaired, dict)
    assert diff(status, repaired) == {}
    stored = json.loads(json.dumps(encode(status)))
    assert diff(parse(stored), stored) == {}
