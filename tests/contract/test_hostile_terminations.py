"""For every content of a BatchTermination or a list of jobs, the API server accepts the status."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.api import names
from awsbatch_operator.api.batchtermination import BulkSpec, parse_bulk_status, parse_termination
from awsbatch_operator.api.codec import changes, encode
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.aws.job_summary import parse_list_jobs
from awsbatch_operator.reconcile.bulk_status import Progress, bulk_status, events_between, refusal_of, too_many
from awsbatch_operator.reconcile.sweep import Tally, listed_job
from awsbatch_sandbox.apiserver.patch import merge
from builders import DENIED, NOW, REGION
from contract.schema import TERMINATION, TERMINATION_SPEC, assert_valid_termination
from contract.test_hostile_objects import METADATA, RUBBISH, of_schema, schemas
from hostile import NUMBERS, TEXTS, Path, break_at

SCHEMAS = dict(schemas(TERMINATION["properties"]["status"]))
_read = parse_termination({"spec": TERMINATION_SPEC}).spec
assert _read is not None
SPEC: BulkSpec = _read

SUMMARIES = st.fixed_dictionaries(
    {},
    optional={
        "jobId": TEXTS | RUBBISH,
        "jobName": TEXTS | RUBBISH,
        "jobArn": TEXTS | RUBBISH,
        "status": st.sampled_from(["RUNNING", "PENDING", "FAILED"]) | RUBBISH,
        "createdAt": NUMBERS | RUBBISH,
        "isTerminated": st.booleans() | RUBBISH,
        "arrayProperties": st.fixed_dictionaries({}, optional={"size": NUMBERS, "index": NUMBERS}) | RUBBISH,
    },
)


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    """What a sweep counts of a page that a hostile AWS Batch answered."""
    body = json.dumps({"jobSummaryList": draw(st.lists(SUMMARIES, max_size=30))})
    page = parse_list_jobs(body.encode("utf-8", "replace"), REGION)
    tally = Tally()
    for summary in page.jobs if not isinstance(page, CallError) else ():
        job = listed_job(summary, "gpu", NOW)
        if job is not None:
            tally.jobs[job.job_id] = job.size
            tally.add(job, ending=job.flagged, refusal=draw(st.sampled_from([None, None, DENIED])))
    return tally


@st.composite
def progresses(draw: st.DrawFn) -> Progress:
    tally = draw(st.none() | tallies())
    refusal = draw(
        st.sampled_from([None, None, refusal_of(DENIED, REGION), too_many(11, 10, requested=draw(st.integers(0, 11)))])
    )
    return Progress(
        SPEC,
        swept=tally,
        swept_at=draw(st.sampled_from([None, NOW])),
        requested=draw(st.integers(0, 200_000)),
        refusal=None if refusal is None else (refusal.reason, refusal.message),
        finished=draw(st.booleans()),
    )


@st.composite
def foreign_status(draw: st.DrawFn) -> Any:
    """A status that the operator wrote, with a few parts that somebody else did."""
    status = encode(bulk_status(draw(progresses()), parse_bulk_status({}), 1, NOW))
    status = json.loads(json.dumps(status))
    for path in draw(st.lists(st.sampled_from(sorted(SCHEMAS.keys() - {()})), max_size=4)):
        break_at(status, path, draw(of_schema(SCHEMAS[path])), gone=draw(st.booleans()))
    return status


BODIES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": METADATA | RUBBISH,
        "spec": of_schema(TERMINATION["properties"]["spec"]),
        "status": foreign_status() | of_schema(SCHEMAS[()]),
        "somethingNew": RUBBISH,
    },
)


@given(BODIES)
def test_any_body_makes_a_snapshot_of_the_promised_types(body: dict[str, Any]) -> None:
    snapshot = parse_termination(json.loads(json.dumps(body)))
    assert type(snapshot.generation) is int
    assert type(snapshot.created_at) is int
    assert isinstance(snapshot.shown, dict)
    for text in (snapshot.ref.namespace, snapshot.ref.name, snapshot.ref.uid, snapshot.resource_version):
        assert type(text) is str
    spec = snapshot.spec
    if spec is not None:
        assert (spec.reason, spec.max_jobs) == (body["spec"]["reason"], body["spec"]["maxJobs"])
        assert spec.approved is body["spec"].get("approved", False)


@pytest.mark.parametrize("text", ["\ud83d", "a\udca9"])
@pytest.mark.parametrize(
    "place", [(), ("metadata",), ("spec",), ("spec", "select"), ("spec", "select", "tags"), ("status",)]
)
def test_half_a_surrogate_pair_anywhere_is_a_fault_of_that_object_only(text: str, place: Path) -> None:
    identity = {"namespace": "ns", "name": "stop", "uid": "u", "resourceVersion": "7"}
    whole = {"metadata": identity, "spec": TERMINATION_SPEC, "status": {"phase": "Planning"}}
    for odd in ({text: "1"}, {"x": text}, {text: text}, *([{"reason": text}] if place[-1:] == ("spec",) else [])):
        body = json.loads(json.dumps(whole))
        inner = body
        for name in place:
            inner = inner[name]
        inner |= odd
        snapshot = parse_termination(body)
        assert (snapshot.ref.namespace, snapshot.ref.uid, snapshot.resource_version) == ("ns", "u", "7")
        assert (snapshot.spec is None) == (place[:1] == ("spec",))
        assert snapshot.ref.kind == names.TERMINATION_KIND


@given(BODIES, progresses())
def test_one_write_makes_any_status_a_valid_one(body: dict[str, Any], progress: Progress) -> None:
    snapshot = parse_termination(json.loads(json.dumps(body)))
    before = parse_bulk_status(snapshot.shown)
    status = bulk_status(progress, before, snapshot.generation, NOW)
    assert all(event.note for event in events_between(before, status))
    change = changes(status, snapshot.shown)
    # As UTF-8: what can't be encoded would never be written.
    repaired = merge(snapshot.shown, json.loads(json.dumps(change, ensure_ascii=False).encode()))
    assert isinstance(repaired, dict)
    assert changes(status, repaired) == {}
    stored = json.loads(json.dumps(encode(status), ensure_ascii=False).encode())
    assert_valid_termination(stored)
    assert encode(parse_bulk_status(stored)) == stored
