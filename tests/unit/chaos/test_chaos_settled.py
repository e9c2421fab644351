"""What the chaos suite asks of objects once the storm is over: an object that agrees passes, each lie is found."""

from dataclasses import replace
from typing import Any

import pytest

from awsbatch_operator.api.names import FINALIZER
from chaos.ledger import Deadline, Ledger
from chaos.settled import CLEAN, DUE, ENDED, TRUE_STATUS, unsettled
from unit.chaos.histories import JOB, REASON, call, evidence, limited, poll, stating, tied

STATES = ((None, 100.0), (REASON, 110.0))
ENDED_JOB = {"status": "FAILED", "status_reason": REASON, "is_terminated": True, "stopped_at": 111.0}


def condition(type_: str, status: str, reason: str = "Any") -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": reason, "observedGeneration": 2}


def body(**status: Any) -> dict[str, Any]:
    """The object after its termination; a field that is None is absent."""
    shown = {
        "observedGeneration": 2,
        "phase": "Terminated",
        "jobStatus": "FAILED",
        "statusReason": REASON,
        "isTerminated": True,
        "isCancelled": False,
        "termination": {"cause": "Terminate", "reason": REASON, "requests": 1, "completedAt": "2026-01-01T00:00:00Z"},
        "conditions": [condition("Ready", "True"), condition("Terminated", "True"), condition("Succeeded", "False")],
    }
    known = {field: value for field, value in (shown | status).items() if value is not None}
    return {"metadata": {"name": "a", "generation": 2}, "status": known}


def missing(ledger: Ledger, shown: dict[str, Any] | None, **job: Any) -> set[str]:
    reported = evidence(ledger, poll(1, 101), call(2, 110.02), **(ENDED_JOB | job))
    return {one.invariant for one in unsettled(reported, {} if shown is None else {"a": shown})}


def test_an_object_that_agrees_with_its_job_is_settled() -> None:
    assert missing(stating(*STATES), body()) == set()


@pytest.mark.parametrize(
    "lie",
    [
        {"phase": "Failed"},
        {"jobStatus": "RUNNING"},
        {"statusReason": "Essential container in task exited"},
        {"isTerminated": False},
        {"observedGeneration": 1},
        {
            "termination": {
                "cause": "Terminate",
                "reason": "another",
                "requests": 1,
                "completedAt": "2026-01-01T00:00:00Z",
            }
        },
        {"termination": {"cause": "Terminate", "reason": REASON, "requests": 1}},
        {"termination": {"cause": "Deadline", "reason": REASON, "requests": 1, "completedAt": "2026-01-01T00:00:00Z"}},
        {"conditions": []},
        {"conditions": [condition("Ready", "True"), condition("Terminated", "True")]},
        {"conditions": [condition("Ready", "False"), condition("Terminated", "True"), condition("Succeeded", "False")]},
        {"conditions": [condition("Ready", "True"), condition("Succeeded", "False")]},
        {"conditions": [*body()["status"]["conditions"], condition("Reconciling", "True")]},
        {"conditions": [*body()["status"]["conditions"], condition("Stalled", "True")]},
        {"conditions": [*body()["status"]["conditions"], condition("Ready", "True")]},
        {"conditions": [one | {"observedGeneration": 1} for one in body()["status"]["conditions"]]},
    ],
)
def test_each_wrong_status_is_found(lie: dict[str, Any]) -> None:
    assert missing(stating(*STATES), body(**lie)) == {TRUE_STATUS}


def test_an_active_job_with_a_stated_termination_must_have_a_call() -> None:
    alive = {"status": "RUNNING", "status_reason": None, "is_terminated": False, "stopped_at": None}
    assert ENDED in missing(stating(*STATES), body(), **alive)
    assert ENDED not in missing(stating(*STATES), body(), **(alive | {"is_terminated": True}))
    assert ENDED not in missing(stating(*STATES, (None, 120.0)), body(), **alive)


def test_a_running_job_under_termination_is_shown_as_such() -> None:
    job = {"status": "RUNNING", "status_reason": None, "stopped_at": None}
    status = {"phase": "Terminating", "jobStatus": "RUNNING", "statusReason": None}
    under_way = [condition("Ready", "False"), condition("Terminated", "Unknown"), condition("Succeeded", "Unknown")]
    reported = {"cause": "Terminate", "reason": REASON, "requests": 1}
    reconciling = [*under_way, condition("Reconciling", "True")]
    assert missing(stating(*STATES), body(**status, termination=reported, conditions=reconciling), **job) == set()
    stuck = [*under_way, condition("Stalled", "True", "TerminationStuck")]
    assert missing(stating(*STATES), body(**status, termination=reported, conditions=stuck), **job) == set()
    assert missing(stating(*STATES), body(**status, termination=reported, conditions=under_way), **job) == {TRUE_STATUS}


def test_a_job_that_batch_does_not_know_is_missing() -> None:
    gone: dict[str, Any] = {"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "phase": "Missing"}}
    gone["status"]["conditions"] = [condition("Ready", "False"), condition("Stalled", "True")]
    reported = evidence(stating((None, 100.0)), unknown=True)
    assert list(unsettled(reported, {"a": gone})) == []
    gone["status"]["phase"] = "Unknown"
    assert {one.invariant for one in unsettled(reported, {"a": gone})} == {TRUE_STATUS}


def test_the_script_and_the_api_server_must_agree_on_what_exists() -> None:
    assert missing(stating(*STATES), None) == {CLEAN}
    assert missing(stating(*STATES, deleted=120.0), body()) == {CLEAN}
    assert missing(stating(*STATES, deleted=120.0), None) == set()


def shown(**more: Any) -> dict[str, Any]:
    """An object whose job runs and has a limit at 1,000 s of the epoch."""
    found = body(
        phase="Running",
        jobStatus="RUNNING",
        isTerminated=False,
        statusReason=None,
        termination=None,
        deadline={"time": "1970-01-01T00:16:40.000Z", "limit": "Running"},
        conditions=[condition("Ready", "True"), condition("Succeeded", "Unknown")],
    )
    return {"metadata": found["metadata"] | more.pop("metadata", {}), "status": found["status"] | more}


@pytest.mark.parametrize(
    ("at", "more", "expected"),
    [
        (900.0, {}, set()),
        (1009.0, {}, set()),
        (1011.0, {}, {DUE}),
        (1011.0, {"deadline": {"time": "1970-01-01T00:17:20.000Z", "limit": "Running"}}, set()),
        (1011.0, {"deadline": {"time": "1970-01-01T00:28:20.000Z", "limit": "Running"}}, {DUE, TRUE_STATUS}),
        (900.0, {"deadline": {"time": "1970-01-01T00:16:39.000Z", "limit": "Running"}}, {TRUE_STATUS}),
        (900.0, {"deadline": {"time": "1970-01-01T00:16:40.000Z", "limit": "Waiting"}}, {TRUE_STATUS}),
        (900.0, {"deadline": None}, {TRUE_STATUS}),
        (900.0, {"metadata": {"finalizers": [FINALIZER]}}, {CLEAN}),
    ],
)
def test_a_limit_is_shown_and_ends_the_job_soon_after(at: float, more: dict[str, Any], expected: set[str]) -> None:
    ledger = limited((Deadline(REASON, running=900), 50.0))
    reported = evidence(ledger, poll(1, 101), started_at=100.0)
    judged = unsettled(replace(reported, at=at), {"a": shown(**more)})
    assert {one.invariant for one in judged} == expected


def test_a_deleted_object_must_be_seen_gone_and_a_tied_one_has_the_finalizer() -> None:
    ledger = tied(deleted=110.0, gone=None)
    assert {one.invariant for one in unsettled(evidence(ledger), {})} == {CLEAN}
    history = ledger.objects["a"]
    history.deletion = None
    with_it = shown(metadata={"finalizers": [FINALIZER]})
    del with_it["status"]["deadline"]
    assert list(unsettled(evidence(ledger), {"a": with_it})) == []
    with_it["metadata"]["finalizers"] = []
    assert {one.invariant for one in unsettled(evidence(ledger), {"a": with_it})} == {CLEAN}


def test_a_violation_names_the_job_of_its_timeline() -> None:
    reported = evidence(stating(*STATES), status="RUNNING")
    assert {one.job_id for one in unsettled(reported, {"a": body()})} == {JOB}
