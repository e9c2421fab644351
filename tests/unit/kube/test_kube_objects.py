from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.api.batchjob import ObjectRef, Spec, Status
from awsbatch_operator.api.decoding import Snapshot, digest_of, parse_object
from awsbatch_operator.api.job import Job
from unit.kube.statuses import RUBBISH, TEXTS

METADATA = {
    "namespace": "team-a",
    "name": "train-42",
    "uid": "u-1",
    "generation": 2,
    "resourceVersion": "77",
    "creationTimestamp": "2026-11-23T10:00:00Z",
}


def spec_of(raw: Any) -> Spec | None:
    return parse_object({"metadata": METADATA, "spec": raw}).spec


def test_a_whole_object_is_read() -> None:
    shown = {"jobStatus": "RUNNING", "newer": 1}
    body = {
        "metadata": METADATA,
        "spec": {"jobId": "j:3", "region": "eu-west-1", "terminate": {"reason": "why"}},
        "status": shown,
    }
    snapshot = parse_object(body)
    assert snapshot == Snapshot(
        ref=ObjectRef("team-a", "train-42", "u-1"),
        generation=2,
        resource_version="77",
        created="2026-11-23T10:00:00Z",
        spec=Spec("j:3", "eu-west-1", "why"),
        shown=shown,
        digest=digest_of(shown),
    )
    assert snapshot.created_at == 1_795_428_000_000
    assert snapshot.status == Status(job=Job("RUNNING"))
    assert digest_of(shown) != digest_of(shown | {"newer": 2})


@given(TEXTS.map(lambda text: f"{text}x"))
def test_the_reason_is_kept_exactly_as_written(reason: str) -> None:
    assert spec_of({"jobId": "j", "terminate": {"reason": reason}}) == Spec("j", None, reason)


@pytest.mark.parametrize("terminate", [None, {}, {"reason": None}, {"reason": ""}, {"reason": " \n\t\u200b"}])
def test_a_termination_without_a_reason_is_none(terminate: Any) -> None:
    assert spec_of({"jobId": "j", "terminate": terminate}) == Spec("j")


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "j",
        {},
        {"jobId": None},
        {"jobId": ""},
        {"jobId": 7},
        {"jobId": ["j"]},
        {"jobId": "j", "region": ""},
        {"jobId": "j", "region": {"name": "eu-west-1"}},
        {"jobId": "j", "terminate": True},
        {"jobId": "j", "terminate": "now"},
        {"jobId": "j", "terminate": {"reason": 7}},
        {"jobId": "j", "terminate": {"reason": "why", "notBefore": "2030-01-01T00:00:00Z"}},
        {"jobId": "j", "accountId": "123456789012"},
    ],
)
def test_a_spec_of_another_schema_is_not_acted_on(raw: Any) -> None:
    assert spec_of(raw) is None


@given(
    RUBBISH.filter(lambda value: isinstance(value, dict))
    | st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), RUBBISH)
)
def test_no_body_raises(body: dict[str, Any]) -> None:
    parse_object(body)
