"""Limits, refusals, faults and the record of calls of the simulated Batch."""

import random
import re
from typing import Any

import pytest

from awsbatch_sandbox.batch.credentials import Caller
from unit.sandbox.batch_wire_calls import START, Wire, frozen

FRAME = r"Error executing request, Exception : {}, RequestId: [0-9a-f-]{{36}}"


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_unknown_ids_are_dropped_and_repeated_ids_answered_once(wire: Wire) -> None:
    job_id = wire.batch.seed()
    assert [one["jobId"] for one in wire.shown(job_id, "unknown", job_id)] == [job_id]


def test_answers_are_shuffled_in_a_seeded_order_unless_disabled() -> None:
    wire = Wire(frozen())
    job_ids = wire.batch.seed_many(20)
    expected = list(job_ids)
    random.Random(0).shuffle(expected)
    assert [one["jobId"] for one in wire.shown(*job_ids)] == expected
    wire.batch.settings(shuffle=False)
    assert [one["jobId"] for one in wire.shown(*job_ids)] == job_ids


def test_jobs_are_seen_only_from_their_account_and_region(wire: Wire) -> None:
    job_id = wire.batch.seed(region="us-east-1", account="222222222222")
    assert wire.shown(job_id) == []
    wire.terminate(job_id)
    there = Wire(wire.batch, Caller(account="222222222222", region="us-east-1"))
    assert there.describe(job_id)["jobArn"] == f"arn:aws:batch:us-east-1:222222222222:job/{job_id}"
    assert "isTerminated" not in there.describe(job_id)


@pytest.mark.parametrize("where", [{"region": "us-east-1"}, {"account": "222222222222"}])
def test_another_region_or_another_account_alone_hides_a_job(wire: Wire, where: dict[str, str]) -> None:
    assert wire.shown(wire.batch.seed(**where)) == []


@pytest.mark.parametrize(
    ("operation", "body", "text"),
    [
        ("DescribeJobs", {}, "jobs must not be null or empty"),
        ("DescribeJobs", {"jobs": []}, "jobs must not be null or empty"),
        ("DescribeJobs", {"jobs": ["ok"] * 101}, r"Maximum number of jobs supported is  100 \."),
        (
            "DescribeJobs",
            {"jobs": ["ok", "a b"]},
            r"Provided name a b is not supported pattern\[a-zA-Z_0-9-\]\{1,128\}",
        ),
        ("TerminateJob", {"jobId": "x"}, "reason must not be null or empty"),
        ("TerminateJob", {"jobId": "x", "reason": ""}, "reason must not be null or empty"),
        ("TerminateJob", {"jobId": "", "reason": "r"}, "jobId must not be null or empty"),
        ("TerminateJob", {"jobId": "x", "reason": "r" * 1025}, "reason must not be longer than 1024 characters"),
        ("TerminateJobs", {"jobs": ["ok"] * 51, "reason": "r"}, r"Maximum number of jobs supported is  50 \."),
        ("CancelJob", {"jobId": "x", "reason": ""}, "reason must not be null or empty"),
    ],
)
def test_a_call_that_batch_refuses_gets_a_client_exception(
    wire: Wire, operation: str, body: dict[str, object], text: str
) -> None:
    status, answer = wire.call(operation, **body)
    assert status == 400
    assert re.fullmatch(FRAME.format(text), answer["message"])
    assert wire.batch.calls()[0]["error"] == "ClientException"


def test_a_reason_of_1024_characters_arrives_unchanged(wire: Wire) -> None:
    job_id, reason = wire.batch.seed(status="RUNNABLE"), '"é🎉\n' * 256
    wire.terminate(job_id, reason)
    assert wire.describe(job_id)["statusReason"] == reason


def test_strict_ids_are_lower_case_uuids(wire: Wire) -> None:
    wire.batch.settings(strict_ids=True)
    assert wire.call("DescribeJobs", jobs=["train-42"])[0] == 400
    assert wire.call("DescribeJobs", jobs=["61e743ed-35e4-48da-b2de-5c8333821c84:3"])[0] == 200


def test_the_bulk_call_accepts_unknown_ids_and_names_malformed_ones(wire: Wire) -> None:
    job_id = wire.batch.seed(status="RUNNABLE")
    status, answer = wire.call("TerminateJobs", jobs=[job_id, "unknown", "a b"], reason="all of them")
    assert (status, answer["successful"]) == (200, [job_id, "unknown"])
    assert [(one["job"], one["code"]) for one in answer["errors"]] == [("a b", "ValidationException")]
    assert wire.describe(job_id)["statusReason"] == "all of them"
    assert wire.batch.calls("TerminateJobs")[0]["effective"] == [job_id]


def test_bulk_calls_are_unknown_to_an_old_endpoint(wire: Wire) -> None:
    wire.batch.settings(bulk_available=False)
    assert wire.call("TerminateJobs", jobs=["x"], reason="r")[0] == 404
    assert wire.call("CancelJobs", jobs=["x"], reason="r")[0] == 404
    assert wire.batch.calls("TerminateJobs")[0]["error"] == "UnknownOperationException"


def test_the_bulk_cancel_ends_what_has_not_started(wire: Wire) -> None:
    early, running = wire.batch.seed(status="RUNNABLE"), wire.batch.seed()
    wire.call("CancelJobs", jobs=[early, running], reason="r")
    assert (wire.describe(early)["status"], wire.describe(running)["status"]) == ("FAILED", "RUNNING")


def test_a_hidden_job_is_omitted_from_the_next_answers(wire: Wire) -> None:
    job_id = wire.batch.seed()
    wire.batch.hide(job_id, polls=2)
    assert [len(wire.shown(job_id)) for _ in range(3)] == [0, 0, 1]


def test_a_fault_applies_as_often_as_requested_and_only_to_its_operation(wire: Wire) -> None:
    job_id = wire.batch.seed()
    wire.batch.fault("DescribeJobs", kind="server_500", times=2)
    wire.terminate(job_id)
    assert [wire.call("DescribeJobs", jobs=[job_id])[0] for _ in range(3)] == [500, 500, 200]


def test_a_fault_without_end_stays_until_it_is_cleared(wire: Wire) -> None:
    wire.batch.fault(kind="throttle_429", times=None)
    assert [wire.call("DescribeJobs", jobs=["x"])[0] for _ in range(3)] == [429] * 3
    wire.batch.clear_faults()
    assert wire.call("DescribeJobs", jobs=["x"])[0] == 200


@pytest.mark.parametrize("only", [{"job_id": "other"}, {"region": "us-east-1"}, {"account": "222222222222"}])
def test_a_fault_can_be_aimed(wire: Wire, only: dict[str, str]) -> None:
    wire.batch.fault(kind="denied_403", **only)
    assert wire.call("DescribeJobs", jobs=["mine"])[0] == 200
    there = Caller(only.get("account", wire.caller.account), only.get("region", wire.caller.region))
    assert Wire(wire.batch, there).call("DescribeJobs", jobs=["mine", "other"])[0] == 403


def test_a_faulty_termination_has_no_effect_unless_its_answer_is_what_gets_lost(wire: Wire) -> None:
    job_id = wire.batch.seed()
    wire.batch.fault("TerminateJob", kind="empty_503")
    wire.batch.fault("TerminateJob", kind="empty_503", act_then=True)
    assert wire.call("TerminateJob", jobId=job_id, reason="r")[0] == 503
    assert "isTerminated" not in wire.describe(job_id)
    assert wire.batch.terminate_requests() == []
    assert wire.call("TerminateJob", jobId=job_id, reason="r")[0] == 503
    assert wire.describe(job_id)["isTerminated"] is True
    assert [one["job_id"] for one in wire.batch.terminate_requests()] == [job_id]
    assert [call["effective"] for call in wire.batch.calls("TerminateJob")] == [[], [job_id]]


def test_the_bulk_call_can_refuse_one_id_or_all(wire: Wire) -> None:
    first, second = wire.batch.seed_many(2, status="RUNNABLE")
    wire.batch.fault(kind="refused_in_bulk", job_id=first, code="ThrottlingException")
    assert wire.call("DescribeJobs", jobs=[first])[0] == 200
    _, answer = wire.call("TerminateJobs", jobs=[first, second], reason="r")
    assert (answer["successful"], answer["errors"][0]["code"]) == ([second], "ThrottlingException")
    assert wire.describe(first)["status"] == "RUNNABLE"
    wire.batch.fault(kind="refused_in_bulk")
    _, answer = wire.call("TerminateJobs", jobs=[first, second], reason="r")
    assert (answer["successful"], [one["job"] for one in answer["errors"]]) == ([], [first, second])
    assert [one["job_id"] for one in wire.batch.terminate_requests()] == [second]


def test_a_refusal_in_bulk_after_the_effect_is_a_lost_answer(wire: Wire) -> None:
    job_id = wire.batch.seed(status="RUNNABLE")
    wire.batch.fault(kind="refused_in_bulk", act_then=True)
    _, answer = wire.call("TerminateJobs", jobs=[job_id], reason="r")
    assert answer["successful"] == []
    assert wire.describe(job_id)["status"] == "FAILED"


def test_a_refusal_in_bulk_leaves_a_wrong_call_wrong(wire: Wire) -> None:
    wire.batch.fault(kind="refused_in_bulk", job_id="x")
    assert wire.call("TerminateJobs", jobs=["x", "y"], reason="")[0] == 400


@pytest.mark.parametrize(("fault", "message"), [({"kind": "gremlin"}, "kind must be"), ({"times": 0}, "times must be")])
def test_a_fault_that_cannot_be_is_refused(wire: Wire, fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wire.batch.fault(**({"kind": "reset"} | fault))


def test_the_account_is_throttled_by_a_token_bucket_until_the_limit_is_lifted(wire: Wire) -> None:
    wire.batch.limit(rate=2, burst=3)
    assert [wire.call("DescribeJobs", jobs=["x"])[0] for _ in range(4)] == [200, 200, 200, 429]
    elsewhere = Wire(wire.batch, Caller(account="123456789012", region="us-east-1"))
    assert elsewhere.call("DescribeJobs", jobs=["x"])[0] == 200
    wire.batch.advance(0.5)
    assert [wire.call("DescribeJobs", jobs=["x"])[0] for _ in range(2)] == [200, 429]
    assert wire.batch.calls()[-1]["error"] == "TooManyRequestsException"
    wire.batch.limit(None)
    assert wire.call("DescribeJobs", jobs=["x"])[0] == 200


def test_a_limit_must_let_something_through(wire: Wire) -> None:
    with pytest.raises(ValueError, match="rate must be above 0"):
        wire.batch.limit(0)


def test_every_call_is_recorded_in_order(wire: Wire) -> None:
    job_id = wire.batch.seed()
    wire.terminate(job_id, "INC-4711")
    wire.shown(job_id)
    wire.batch.advance(60)
    first, second = wire.batch.calls()
    assert first == {
        "n": 1,
        "at": START,
        "operation": "TerminateJob",
        "region": "eu-west-1",
        "account": "123456789012",
        "access_key": "sandbox",
        "role": None,
        "role_session": None,
        "job_ids": [job_id],
        "reason": "INC-4711",
        "queue": None,
        "job_status": None,
        "token": None,
        "http_status": 200,
        "error": None,
        "accepted": [job_id],
        "effective": [job_id],
        "fault": None,
        "acted_at": START,
        "answered_at": START,
    }
    assert (second["n"], second["operation"], wire.batch.calls("TerminateJob")) == (2, "DescribeJobs", [first])
    assert wire.batch.counts() == {"TerminateJob": 1, "DescribeJobs": 1}
    assert wire.batch.calls(since=1) == [second]
    wire.batch.clear_calls()
    assert (wire.batch.calls(), wire.batch.terminate_requests()) == ([], [])


def test_the_record_shows_the_caller_and_the_fault(wire: Wire) -> None:
    job_id = wire.batch.seed()
    wire.batch.fault("TerminateJob", kind="braces_200")
    wire.batch.fault("TerminateJob", kind="slow", seconds=3.0, act_then=True)
    there = Wire(wire.batch, Caller("123456789012", "eu-west-1", access_key="AKIAFIRST"))
    for _ in range(2):
        there.call("TerminateJob", jobId=job_id, reason="r")
    lost, late = wire.batch.calls()
    assert (lost["access_key"], lost["fault"], lost["accepted"], lost["answered_at"]) == (
        "AKIAFIRST",
        "braces_200",
        [],
        START,
    )
    assert (late["fault"], late["accepted"]) == ("slow", [job_id])
    assert (late["acted_at"], late["answered_at"]) == (START, START + 3.0)


def test_accepted_terminations_are_listed_one_by_one_with_the_state_they_met(wire: Wire) -> None:
    running, runnable = wire.batch.seed(), wire.batch.seed(status="RUNNABLE")
    wire.terminate(running, "one")
    wire.call("TerminateJobs", jobs=[runnable, "unknown"], reason="two")
    wire.call("TerminateJob", jobId=running, reason="")
    requests = wire.batch.terminate_requests()
    assert [(one["job_id"], one["reason"], one["job_status_at_call"]) for one in requests] == [
        (running, "one", "RUNNING"),
        (runnable, "two", "RUNNABLE"),
        ("unknown", "two", None),
    ]
    assert (requests[0]["at"], requests[0]["account"], requests[0]["region"]) == (START, "123456789012", "eu-west-1")


def test_a_body_that_is_not_json_is_refused(wire: Wire) -> None:
    frontend = wire.batch.frontend
    reply = frontend.perform(frontend.admit("DescribeJobs", wire.caller, b"[1"))
    assert (reply.status, reply.error_type) == (400, "SerializationException")


def test_settings_that_do_not_exist_or_cannot_be_are_refused(wire: Wire) -> None:
    with pytest.raises(ValueError, match="the settings are grace"):
        wire.batch.settings(colour="red")
    with pytest.raises(ValueError, match="early_flag must be one of"):
        wire.batch.settings(early_flag="isGone")
    with pytest.raises(ValueError, match="grace must not be negative"):
        wire.batch.settings(grace=-1)
    assert wire.batch.settings()["grace"] == 30.0
