import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.api.batchjob import Condition, Phase, Status, Termination
from awsbatch_operator.api.codec import encode
from awsbatch_operator.api.job import Array, Job
from awsbatch_operator.api.status_codec import FIELDS, diff, parse
from awsbatch_sandbox.apiserver.patch import merge
from unit.kube.statuses import RUBBISH, STATUSES

AT = 1_795_428_000_123
READY = Condition("Ready", "True", "Observed", AT, "", 3)


def known(raw: dict[str, Any]) -> dict[str, Any]:
    return {field: raw[field] for field in raw if field in FIELDS}


@given(STATUSES)
def test_a_status_survives_the_way_through_the_object(status: Status) -> None:
    assert parse(json.loads(json.dumps(encode(status)))) == status


def _values(raw: object) -> Iterator[object]:
    inner = raw.values() if isinstance(raw, dict) else raw if isinstance(raw, list) else ()
    yield from (value for one in inner for value in (one, *_values(one)))


@given(STATUSES)
def test_only_known_fields_are_written_and_none_of_them_is_null(status: Status) -> None:
    raw = encode(status)
    assert set(raw) <= set(FIELDS)
    assert None not in list(_values(raw))


@given(RUBBISH | st.dictionaries(st.sampled_from(FIELDS), RUBBISH))
def test_any_value_decodes_to_the_nearest_valid_status(rubbish: object) -> None:
    status = parse(rubbish)
    seconds = tuple(one.replace(since=one.since // 1000 * 1000) for one in status.conditions)
    assert parse(encode(status)) == status.replace(conditions=seconds)


@given(STATUSES, STATUSES)
def test_the_patch_turns_the_shown_status_into_the_wanted_one(wanted: Status, before: Status) -> None:
    shown = encode(before)
    patch = diff(wanted, shown)
    assert merge(shown, patch) == encode(wanted)
    assert not diff(wanted, encode(wanted))


@given(STATUSES, st.dictionaries(st.sampled_from([*FIELDS, "ofANewerVersion"]), RUBBISH))
def test_a_foreign_status_is_overwritten_except_for_fields_of_a_newer_version(
    wanted: Status, shown: dict[str, Any]
) -> None:
    result = merge(shown, diff(wanted, shown))
    assert isinstance(result, dict)
    # A null that stands in an object is the same as nothing.
    assert {k: v for k, v in known(result).items() if v is not None} == encode(wanted)
    assert ("ofANewerVersion" in result) == ("ofANewerVersion" in shown)


def test_a_job_that_was_seen_always_shows_its_flags() -> None:
    assert encode(Status(job=Job("RUNNING"))) == {"jobStatus": "RUNNING", "isTerminated": False, "isCancelled": False}


def test_nothing_is_shown_of_what_is_not_known() -> None:
    assert encode(Status()) == {}


def test_the_patch_has_only_differences_and_removes_absent_fields() -> None:
    before = Status(
        3, Phase.RUNNING, "eu-west-1", Job("PENDING", array=Array(3, None, {"RUNNING": 1})), conditions=(READY,)
    )
    after = before.replace(phase=None, job=Job("PENDING", array=Array(3, None, {"SUCCEEDED": 1})))
    assert diff(after, encode(before)) == {
        "phase": None,
        "array": {"statusSummary": {"RUNNING": None, "SUCCEEDED": 1}},
    }


def test_a_condition_shows_whole_seconds() -> None:
    (shown,) = encode(Status(conditions=(READY,)))["conditions"]
    assert shown["lastTransitionTime"] == "2026-11-23T10:00:00Z"


def test_a_transition_within_the_same_second_is_no_difference() -> None:
    assert not diff(Status(conditions=(READY.replace(since=AT + 800),)), encode(Status(conditions=(READY,))))


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ({"phase": "Odd", "jobStatus": ""}, Status(job=Job(""))),
        ({"observedGeneration": True, "region": 1, "jobStatus": ["RUNNING"]}, Status()),
        ({"jobStatus": "X", "isTerminated": "yes", "exitCode": "1"}, Status(job=Job("X"))),
        ({"jobStatus": "X", "array": {"size": "3", "statusSummary": {"A": 1, "B": None}}}, None),
        ({"conditions": [{"type": "Ready", "status": "Maybe", "reason": "R"}, 7, {}]}, Status()),
        ({"conditions": {"type": "Ready"}}, Status()),
        ({"termination": {}}, Status()),
        ({"termination": {"requests": -1}}, Status()),
        ({"termination": {"requestedAt": "2026-11-23T10:00:00.123Z"}}, Status(termination=Termination("", AT))),
    ],
)
def test_a_field_that_makes_no_sense_counts_as_absent(raw: dict[str, Any], status: Status | None) -> None:
    assert parse(raw) == (status or Status(job=Job("X", array=Array(None, None, {"A": 1}))))
