"""The checker of events in the chaos suite: good histories pass, and each bad one turns it red."""

import random
from typing import Any

import pytest

from chaos.event_invariants import (
    BUDGET,
    GRACE,
    HINTS,
    NOT_BEFORE,
    POISON,
    SHOWN,
    judge_events,
    shown_late,
    stretched,
    unsettled_events,
)
from chaos.events import plan
from chaos.ledger import Evidence, Ledger
from chaos.record import Call, Job
from chaos.settled import CLEAN
from unit.chaos.histories import JOB, SECOND, evidence, poll, stating

ENDED = Job(JOB, "SUCCEEDED", stopped_at=120.0)
SHOWS_END = {"phase": "Succeeded", "conditions": [{"type": "Succeeded", "status": "True"}]}


def red(ledger: Ledger, *calls: Call, **job: Any) -> set[str]:
    return {violation.invariant for violation in judge_events(evidence(ledger, *calls, **job), rate=25)}


def test_polls_of_the_jobs_of_objects_are_fine() -> None:
    assert red(stating((None, 100.0)), poll(1, 101), poll(2, 102)) == set()


@pytest.mark.parametrize("named", [f"{JOB}:0", "of-nobody"])
def test_a_call_that_names_another_job_is_red(named: str) -> None:
    other = Call(2, 102, "DescribeJobs", "first-1", (JOB, named), answered_at=102.1)
    assert red(stating((None, 100.0)), poll(1, 101), other) == {HINTS}


def test_an_end_that_is_shown_before_it_is_red() -> None:
    ledger = stating((None, 100.0))
    ledger.shown["a"] = 120.1
    assert red(ledger, poll(1, 101), status="SUCCEEDED", stopped_at=120.0) == set()
    assert red(ledger, poll(1, 101), status="SUCCEEDED", stopped_at=121.0) == {NOT_BEFORE}
    assert red(ledger, poll(1, 101)) == {NOT_BEFORE}


def test_more_polls_than_the_budget_are_red_unless_they_failed() -> None:
    def many(count: int, **more: Any) -> list[Call]:
        return [poll(n, 100 + n * 9.0 / count, **more) for n in range(1, count)]

    assert red(stating((None, 100.0)), *many(270)) == set()
    assert red(stating((None, 100.0)), *many(350)) == {BUDGET}
    assert red(stating((None, 100.0)), *many(350, http_status=500, fault="server_500")) == set()


def test_an_end_that_is_not_shown_in_time_is_red() -> None:
    def late(at: float, status: dict[str, Any]) -> set[str]:
        reported = Evidence(stating((None, 100.0)), [], {JOB: ENDED}, at)
        return {one.invariant for one in shown_late(reported, {"a": {"status": status}}, 110.0, 20.0)}

    assert late(119 + 20 + GRACE, {"phase": "Running"}) == set()
    assert late(121 + 20 + GRACE, {"phase": "Running"}) == {SHOWN}
    assert late(121 + 20 + GRACE, {"phase": "Succeeded"}) == {SHOWN}
    assert late(121 + 20 + GRACE, SHOWS_END) == set()


def test_messages_are_deleted_and_poison_is_not() -> None:
    ledger = stating((None, 100.0))
    ledger.messages.poison.add("p")

    def left(at: float, messages: str, dead: str, *, strict: bool) -> set[str]:
        found = [{"message_id": one, "sent_at": 100_000, "body": one} for one in messages]
        missing = unsettled_events(
            Evidence(ledger, [], {}, at), found, [{"message_id": one} for one in dead], strict=strict
        )
        return {one.invariant for one in missing}

    assert left(110.0, "mp", "", strict=False) == left(160.0, "", "p", strict=True) == set()
    assert left(160.0, "m", "p", strict=False) == {CLEAN}
    assert left(160.0, "", "", strict=False) == left(160.0, "p", "", strict=True) == {POISON}


def test_polls_that_events_spare_are_counted_for_each_process() -> None:
    polls = [poll(1, 101), poll(2, 102), poll(3, 107), poll(4, 130, SECOND), poll(5, 131, SECOND)]
    assert stretched(evidence(stating((None, 100.0)), *polls)) == 1


def test_a_storm_holds_every_kind_of_trouble_and_ends_with_lost_ends() -> None:
    troubles = sorted(plan(random.Random(7), 18.0), key=lambda one: one[0])
    assert {kind for _, kind, _, _ in troubles} == {
        *("fault", "events_delivery", "events_rule", "events_deny", "events_forge", "events_poison", "events_flood"),
        *("events_purge", "events_lost_ends"),
    }
    assert troubles[-1][:2] == (18.0, "events_lost_ends")
