"""The conditions of each phase, as kstatus reads them, their times, messages and Events."""

from dataclasses import replace
from typing import Any

import pytest

from awsbatch_operator.api.batchtermination import BulkSpec, BulkStatus
from awsbatch_operator.api.conditions import STALLED_REASONS
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.events import Event
from awsbatch_operator.reconcile.bulk_status import (
    Progress,
    bulk_status,
    cutoff_in_future,
    delay_of,
    events_between,
    queue_not_found,
    refusal_of,
    too_many,
)
from awsbatch_operator.reconcile.sweep import Tally
from builders import CREDENTIALS, DENIED, NOW, REGION, REJECTED, THROTTLED, UNAVAILABLE

SPEC = BulkSpec(REGION, ("gpu",), ("train-*",), (), NOW, "INC-4711", max_jobs=10, approved=True)
WAITS = replace(SPEC, approved=False)
SWEPT = Tally(matched=7, ending=2, failed=1)
HELD = ("TerminationHeld", "spec.suspend of the BatchAccessPolicy team-a suspends the terminations of this namespace")
TOO_MANY = too_many(11, 10, requested=0)


def given(spec: BulkSpec = SPEC, *, swept: bool = True, **more: Any) -> Progress:
    return Progress(spec, SWEPT if swept else None, NOW if swept else None, **more)


COUNTING = given(swept=False)
AWAITING = given(WAITS)
TERMINATING = given()
FINISHED = given(finished=True)
REFUSED = given(refusal=(TOO_MANY.reason, TOO_MANY.message))

PHASES: dict[str, tuple[Progress, str, dict[str, str]]] = {
    "counting": (COUNTING, "Planning", {"Ready": "False", "Reconciling": "True", "Finished": "False"}),
    "counting, throttled": (
        replace(COUNTING, delay=delay_of(THROTTLED, REGION)),
        "Planning",
        {"Ready": "False", "Reconciling": "True", "Finished": "False"},
    ),
    "counted": (AWAITING, "AwaitingApproval", {"Ready": "True", "Finished": "False"}),
    "counted, then throttled": (
        replace(AWAITING, delay=delay_of(THROTTLED, REGION)),
        "AwaitingApproval",
        {"Ready": "True", "Finished": "False"},
    ),
    "approved": (TERMINATING, "Terminating", {"Ready": "False", "Reconciling": "True", "Finished": "False"}),
    "held": (
        replace(TERMINATING, delay=HELD),
        "Terminating",
        {"Ready": "False", "Reconciling": "True", "Finished": "False"},
    ),
    "finished": (FINISHED, "Finished", {"Ready": "True", "Finished": "True"}),
    "refused": (REFUSED, "Refused", {"Ready": "False", "Stalled": "True", "Finished": "Unknown"}),
    "refused before it was counted": (
        replace(REFUSED, swept=None),
        "Refused",
        {"Ready": "False", "Stalled": "True", "Finished": "Unknown"},
    ),
    "refused after it had finished": (
        replace(REFUSED, finished=True),
        "Refused",
        {"Ready": "False", "Stalled": "True", "Finished": "Unknown"},
    ),
}
REASONS = {
    "counting": "Counting",
    "counting, throttled": "Throttled",
    "counted": "AwaitingApproval",
    "counted, then throttled": "AwaitingApproval",
    "approved": "TerminationInProgress",
    "held": "TerminationHeld",
    "finished": "AllRequested",
}


def status(progress: Progress, before: BulkStatus | None = None, now: int = NOW, generation: int = 1) -> BulkStatus:
    return bulk_status(progress, before or BulkStatus(), generation, now)


@pytest.mark.parametrize("name", PHASES)
def test_the_conditions_of_each_phase(name: str) -> None:
    progress, phase, wanted = PHASES[name]
    shown = status(progress, generation=3)
    assert shown.phase == phase
    assert {one.type: one.status for one in shown.conditions} == wanted
    assert {one.reason for one in shown.conditions} == {REASONS.get(name, "TooManyJobs")}
    assert len({one.message for one in shown.conditions}) == 1
    assert {one.generation for one in shown.conditions} == {shown.observed_generation} == {3}
    # kstatus: Failed, InProgress or Current, by exactly one of these conditions.
    assert sum(wanted.get(one) == "True" for one in ("Ready", "Reconciling", "Stalled")) == 1


def test_the_numbers_are_those_of_the_last_full_sweep() -> None:
    shown = status(replace(TERMINATING, requested=4))
    assert (shown.matched, shown.ending, shown.failed, shown.requested, shown.swept_at) == (7, 2, 1, 4, NOW)
    shown = status(COUNTING)
    assert (shown.matched, shown.ending, shown.failed, shown.requested, shown.swept_at) == (None, None, None, 0, None)


def test_a_condition_keeps_its_time_for_as_long_as_its_status_stays() -> None:
    counting = status(COUNTING)
    counted = status(AWAITING, counting, NOW + 1_000)
    approved = status(TERMINATING, counted, NOW + 2_000)
    held = status(replace(TERMINATING, delay=HELD), approved, NOW + 3_000)
    finished = status(FINISHED, held, NOW + 4_000)
    since = [
        {one.type: one.since - NOW for one in shown.conditions}
        for shown in (counting, counted, approved, held, finished)
    ]
    assert since == [
        {"Ready": 0, "Reconciling": 0, "Finished": 0},
        {"Ready": 1_000, "Finished": 0},
        {"Ready": 2_000, "Reconciling": 2_000, "Finished": 0},
        {"Ready": 2_000, "Reconciling": 2_000, "Finished": 0},
        {"Ready": 4_000, "Finished": 4_000},
    ]


DENIED_HERE = refusal_of(DENIED, REGION)


@pytest.mark.parametrize(
    ("steps", "events"),
    [
        ([COUNTING, AWAITING, TERMINATING, FINISHED], []),
        ([TERMINATING, REFUSED, replace(REFUSED, requested=3), TERMINATING, REFUSED], ["TooManyJobs", "TooManyJobs"]),
        (
            [REFUSED, replace(REFUSED, refusal=(DENIED_HERE.reason, DENIED_HERE.message))],
            ["TooManyJobs", "AccessDenied"],
        ),
        ([replace(TERMINATING, delay=HELD)] * 2 + [TERMINATING], ["TerminationHeld"]),
        ([replace(TERMINATING, delay=delay_of(THROTTLED, REGION)), TERMINATING], []),
    ],
)
def test_each_transition_has_its_event_once(steps: list[Progress], events: list[str]) -> None:
    before, found = BulkStatus(), list[Event]()
    for progress in steps:
        after = status(progress, before)
        found += events_between(before, after)
        before = after
    assert [event.reason for event in found] == events
    assert all(event.warning and event.note for event in found)


@pytest.mark.parametrize(
    ("refusal", "reason", "words"),
    [
        (
            too_many(4_001, 4_000, requested=0),
            "TooManyJobs",
            ["4001 jobs", "spec.maxJobs is 4000: the operator terminates none", "Create another"],
        ),
        (too_many(3, 2, requested=1), "TooManyJobs", ["3 jobs", "spec.maxJobs is 2: the operator terminates no more"]),
        (cutoff_in_future(), "CutoffInFuture", ["spec.createdBefore", "5 minutes", "Create another"]),
        (
            queue_not_found("cpu", REGION, REJECTED),
            "QueueNotFound",
            ["cpu", REGION, REJECTED.message, "Create another"],
        ),
        (refusal_of(DENIED, REGION), "AccessDenied", [REGION, DENIED.message, "grant", "every 5 minutes"]),
        (refusal_of(CREDENTIALS, REGION), "CredentialsUnavailable", [REGION, CREDENTIALS.message, "credentials"]),
        (refusal_of(replace(DENIED, remedy="ask Jo"), REGION), "AccessDenied", ["(ask Jo)"]),
    ],
)
def test_a_refusal_names_what_a_person_needs(refusal: Any, reason: str, words: list[str]) -> None:
    assert refusal.reason == reason
    assert reason in STALLED_REASONS
    assert [word for word in words if word not in refusal.message] == []


@pytest.mark.parametrize(("error", "reason"), [(THROTTLED, "Throttled"), (UNAVAILABLE, "AWSUnavailable")])
def test_a_delay_names_the_region_and_the_words_of_aws(error: CallError, reason: str) -> None:
    delay, message = delay_of(error, REGION)
    assert delay == reason
    assert REGION in message
    assert error.message in message


def test_awaiting_approval_shows_the_number_of_matches() -> None:
    assert {one.message for one in status(AWAITING).conditions} == {
        "7 active jobs match. To terminate, set spec.approved to true"
    }
