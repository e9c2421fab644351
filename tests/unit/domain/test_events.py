"""What people are told: one Event for each transition of a status, none when nothing has changed."""

from dataclasses import replace

import pytest

from awsbatch_operator.domain.cadence import MINUTE, SECOND
from awsbatch_operator.domain.decide import decide
from awsbatch_operator.domain.events import between
from awsbatch_operator.domain.job import Millis
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import Status
from builders import (
    CADENCE,
    CREDENTIALS,
    DENIED,
    NOW,
    REJECTED,
    THROTTLED,
    UNAVAILABLE,
    WHY,
    ObjectBuilder,
    a_job,
    absent,
    an_object,
    seen,
)

LIVING = a_job().running()
PLAIN = an_object()
ASKED = an_object().terminating()
ALIVE = seen(LIVING)
SENT = ALIVE.accepted(WHY, NOW, NOW)
FLAGGED = SENT.saw(LIVING.flagged().job, NOW)
GONE = absent(NOW - 2 * MINUTE, NOW - MINUTE, NOW)
KILLED = a_job().flagged().ended("FAILED", WHY).job
FAILED = a_job().ended("FAILED", "exit 1").job
SUCCEEDED = a_job().ended("SUCCEEDED").job

Step = tuple[ObjectBuilder, Observation, Millis]


def status(step: Step | None) -> Status:
    if step is None:
        return Status()
    given, known, at = step
    return decide(given.record, known, at, CADENCE).status


TRANSITIONS: dict[str, tuple[Step | None, Step, list[str]]] = {
    "a job comes into sight": (None, (PLAIN, ALIVE, NOW), []),
    "a termination is stated": ((PLAIN, ALIVE, NOW), (ASKED, ALIVE, NOW), []),
    "a termination is accepted": ((ASKED, ALIVE, NOW), (ASKED, SENT, NOW), ["TerminationRequested"]),
    "it is accepted again": ((ASKED, SENT, NOW), (ASKED, SENT.accepted(WHY, NOW, NOW + MINUTE), NOW), []),
    "it is flagged": ((ASKED, SENT, NOW), (ASKED, FLAGGED, NOW), []),
    "it has ended by the request": ((ASKED, FLAGGED, NOW), (ASKED, FLAGGED.saw(KILLED, NOW), NOW), ["Terminated"]),
    "accepted and ended in one step": (
        (ASKED, ALIVE, NOW),
        (ASKED, SENT.saw(KILLED, NOW), NOW),
        ["TerminationRequested", "Terminated"],
    ),
    "it succeeded before": ((ASKED, SENT, NOW), (ASKED, SENT.saw(SUCCEEDED, NOW), NOW), ["JobSucceeded"]),
    "it failed before": ((ASKED, SENT, NOW), (ASKED, SENT.saw(FAILED, NOW), NOW), ["JobFailed"]),
    "it had failed already": (
        (ASKED, ALIVE, NOW),
        (ASKED, seen().saw(FAILED, NOW), NOW),
        ["TerminationSkipped", "JobFailed"],
    ),
    "a job succeeds": ((PLAIN, ALIVE, NOW), (PLAIN, seen().saw(SUCCEEDED, NOW), NOW), ["JobSucceeded"]),
    "a job fails": ((PLAIN, ALIVE, NOW), (PLAIN, seen().saw(FAILED, NOW), NOW), ["JobFailed"]),
    "someone else terminates it": ((PLAIN, ALIVE, NOW), (PLAIN, seen().saw(KILLED, NOW), NOW), ["Terminated"]),
    "stated for a finished job": (
        (PLAIN, seen().saw(SUCCEEDED, NOW), NOW),
        (ASKED, seen().saw(SUCCEEDED, NOW), NOW),
        ["TerminationSkipped"],
    ),
    "ten minutes have passed": (
        (ASKED, FLAGGED, NOW),
        (ASKED, FLAGGED, NOW + 10 * MINUTE),
        ["TerminationDelayed"],
    ),
    "eleven minutes have passed": ((ASKED, FLAGGED, NOW + 10 * MINUTE), (ASKED, FLAGGED, NOW + 11 * MINUTE), []),
    "half an hour has passed": (
        (ASKED, FLAGGED, NOW + 29 * MINUTE),
        (ASKED, FLAGGED, NOW + 30 * MINUTE),
        ["TerminationDelayed"],
    ),
    "the call is rejected": ((ASKED, ALIVE, NOW), (ASKED, ALIVE.refused(REJECTED, NOW), NOW), ["TerminationDelayed"]),
    "the call is denied": ((ASKED, ALIVE, NOW), (ASKED, ALIVE.refused(DENIED, NOW), NOW), ["AccessDenied"]),
    "it is denied again": (
        (ASKED, ALIVE.refused(DENIED, NOW), NOW),
        (ASKED, ALIVE.refused(DENIED, NOW).refused(DENIED, NOW + 5 * MINUTE), NOW + 5 * MINUTE),
        [],
    ),
    "credentials are gone": ((PLAIN, ALIVE, NOW), (PLAIN, ALIVE.failed(CREDENTIALS, NOW), NOW), ["AccessDenied"]),
    "a look is throttled": ((PLAIN, ALIVE, NOW), (PLAIN, ALIVE.failed(THROTTLED, NOW), NOW), []),
    "looks are throttled": (
        (PLAIN, ALIVE, NOW),
        (PLAIN, ALIVE.failed(THROTTLED, NOW).failed(THROTTLED, NOW), NOW),
        ["Throttled"],
    ),
    "the call is throttled": ((ASKED, ALIVE, NOW), (ASKED, ALIVE.refused(THROTTLED, NOW), NOW), ["Throttled"]),
    "looks go unanswered": (
        (PLAIN, ALIVE, NOW),
        (PLAIN, ALIVE.failed(UNAVAILABLE, NOW).failed(UNAVAILABLE, NOW), NOW),
        [],
    ),
    "trouble ends": ((PLAIN, ALIVE.failed(DENIED, NOW), NOW), (PLAIN, ALIVE, NOW), []),
    "a job is not found": ((PLAIN, absent(NOW), NOW), (PLAIN, GONE, NOW), ["JobNotFound"]),
    "a job vanishes": (
        (PLAIN, ALIVE, NOW),
        (PLAIN.settled(ALIVE), GONE, NOW),
        ["JobNotFound"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "told"), TRANSITIONS.values(), ids=TRANSITIONS)
def test_each_transition_is_told_once(before: Step | None, after: Step, told: list[str]) -> None:
    events = between(status(before), status(after))
    assert [event.reason for event in events] == told
    assert between(status(after), status(after)) == ()


def test_later_looks_that_change_nothing_tell_nothing() -> None:
    first = PLAIN.settled(ALIVE)
    later = ALIVE.saw(LIVING.job, NOW + 30 * SECOND)
    assert between(first.record.status, decide(first.record, later, NOW + 30 * SECOND, CADENCE).status) == ()


def test_what_a_person_must_act_on_is_a_warning_and_the_rest_is_not() -> None:
    told = [event for before, after, _ in TRANSITIONS.values() for event in between(status(before), status(after))]
    warnings = {event.reason for event in told if event.warning}
    assert warnings == {"AccessDenied", "JobFailed", "JobNotFound", "TerminationDelayed", "Throttled"}
    assert {event.reason for event in told if not event.warning} == {
        "JobSucceeded",
        "Terminated",
        "TerminationRequested",
        "TerminationSkipped",
    }


def test_an_event_tells_the_reason_that_was_sent_and_the_one_that_batch_gives() -> None:
    requested = between(status((ASKED, ALIVE, NOW)), status((ASKED, SENT, NOW)))[0]
    assert WHY in requested.note
    failed = between(status((PLAIN, ALIVE, NOW)), status((PLAIN, seen().saw(FAILED, NOW), NOW)))[0]
    assert "exit 1" in failed.note


def test_a_phase_without_its_condition_is_told_without_words() -> None:
    ended = status((PLAIN, seen().saw(SUCCEEDED, NOW), NOW))
    events = between(Status(), replace(ended, conditions=()))
    assert [(event.reason, event.note) for event in events] == [("JobSucceeded", "")]


def test_a_reason_that_something_scribbled_into_stalled_tells_nothing() -> None:
    stalled = status((PLAIN, ALIVE.failed(DENIED, NOW), NOW))
    conditions = tuple(replace(c, reason="Sunspots") if c.type == "Stalled" else c for c in stalled.conditions)
    assert between(status((PLAIN, ALIVE, NOW)), replace(stalled, conditions=conditions)) == ()
