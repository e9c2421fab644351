"""One Event for each transition of a status, none when nothing has changed; Events of changed intents."""

import pytest

from awsbatch_operator.api import conditions
from awsbatch_operator.api.batchjob import Cause, Condition, Spec, Status
from awsbatch_operator.api.conditions import STALLED_REASONS, Reason
from awsbatch_operator.api.events import Event, EventReason
from awsbatch_operator.api.timestamps import MINUTE, SECOND, Millis
from awsbatch_operator.reconcile.events import between, intent_change
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.reconcile import reconcile
from builders import (
    CREDENTIALS,
    DENIED,
    INTERVALS,
    JOB_ID,
    NOW,
    REJECTED,
    TERMINATE,
    THROTTLED,
    UNAVAILABLE,
    WHY,
    ObjectBuilder,
    a_job,
    absent,
    an_object,
    seen,
)

RUNNING_JOB = a_job().running()
PLAIN = an_object()
ASKED = an_object().terminating()
ALIVE = seen(RUNNING_JOB)
SENT = ALIVE.accepted(TERMINATE, WHY, NOW, NOW)
FLAGGED = SENT.with_job(RUNNING_JOB.flagged().job, NOW)
GONE = absent(NOW - 2 * MINUTE, NOW - MINUTE, NOW)
KILLED = a_job().flagged().ended("FAILED", WHY).job
KILLED_BY_ANOTHER = a_job().flagged().ended("FAILED", "cleaning up").job
CANCELLED = a_job().cancelled().ended("FAILED", "queue drained").job
WAITS = a_job().in_status("RUNNABLE")
BLOCKED = WAITS.because("MISCONFIGURATION:X - a")
FAILED = a_job().ended("FAILED", "exit 1").job
SUCCEEDED = a_job().ended("SUCCEEDED").job

Step = tuple[ObjectBuilder, JobState, Millis]


def status(step: Step | None) -> Status:
    if step is None:
        return Status()
    given, known, at = step
    return reconcile(given.record, known, at, INTERVALS).status


TRANSITIONS: dict[str, tuple[Step | None, Step, list[str]]] = {
    "a job is observed": (None, (PLAIN, ALIVE, NOW), []),
    "a termination is stated": ((PLAIN, ALIVE, NOW), (ASKED, ALIVE, NOW), []),
    "a termination is accepted": ((ASKED, ALIVE, NOW), (ASKED, SENT, NOW), ["TerminationAccepted"]),
    "it is accepted again": (
        (ASKED, SENT, NOW),
        (ASKED, SENT.accepted(TERMINATE, WHY, NOW, NOW + MINUTE), NOW),
        [],
    ),
    "it is flagged": ((ASKED, SENT, NOW), (ASKED, FLAGGED, NOW), []),
    "it has ended by the request": ((ASKED, FLAGGED, NOW), (ASKED, FLAGGED.with_job(KILLED, NOW), NOW), ["Terminated"]),
    "accepted and ended in one step": (
        (ASKED, ALIVE, NOW),
        (ASKED, SENT.with_job(KILLED, NOW), NOW),
        ["TerminationAccepted", "Terminated"],
    ),
    "it succeeded before": ((ASKED, SENT, NOW), (ASKED, SENT.with_job(SUCCEEDED, NOW), NOW), ["JobSucceeded"]),
    "it failed before": ((ASKED, SENT, NOW), (ASKED, SENT.with_job(FAILED, NOW), NOW), ["JobFailed"]),
    "it had failed already": (
        (ASKED, ALIVE, NOW),
        (ASKED, seen().with_job(FAILED, NOW), NOW),
        ["TerminationSkipped", "JobFailed"],
    ),
    "a job succeeds": ((PLAIN, ALIVE, NOW), (PLAIN, seen().with_job(SUCCEEDED, NOW), NOW), ["JobSucceeded"]),
    "a job fails": ((PLAIN, ALIVE, NOW), (PLAIN, seen().with_job(FAILED, NOW), NOW), ["JobFailed"]),
    "someone else terminates it": ((PLAIN, ALIVE, NOW), (PLAIN, seen().with_job(KILLED, NOW), NOW), ["JobTerminated"]),
    "someone else cancels it": ((PLAIN, ALIVE, NOW), (PLAIN, seen().with_job(CANCELLED, NOW), NOW), ["JobCancelled"]),
    "someone else terminates it first": (
        (ASKED, ALIVE, NOW),
        (ASKED, seen().with_job(KILLED_BY_ANOTHER, NOW), NOW),
        ["TerminationSkipped", "JobTerminated"],
    ),
    "Batch cannot start it": ((PLAIN, seen(WAITS), NOW), (PLAIN, seen(BLOCKED), NOW), ["JobBlocked"]),
    "it waits for capacity, then for a person": (
        (PLAIN, seen(WAITS.because("CAPACITY:X - a")), NOW),
        (PLAIN, seen(BLOCKED), NOW),
        ["JobBlocked"],
    ),
    "Batch describes the same obstacle in other words": (
        (PLAIN, seen(BLOCKED), NOW),
        (PLAIN, seen(WAITS.because("MISCONFIGURATION:X - b")), NOW),
        [],
    ),
    "it starts after all": ((PLAIN, seen(BLOCKED), NOW), (PLAIN, ALIVE, NOW), []),
    "stated for a finished job": (
        (PLAIN, seen().with_job(SUCCEEDED, NOW), NOW),
        (ASKED, seen().with_job(SUCCEEDED, NOW), NOW),
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
        ["TerminationStuck"],
    ),
    "the call is rejected": (
        (ASKED, ALIVE, NOW),
        (ASKED, ALIVE.terminate_refused(REJECTED, NOW), NOW),
        ["TerminationRejected"],
    ),
    "the call is denied": ((ASKED, ALIVE, NOW), (ASKED, ALIVE.terminate_refused(DENIED, NOW), NOW), ["AccessDenied"]),
    "it is denied again": (
        (ASKED, ALIVE.terminate_refused(DENIED, NOW), NOW),
        (ASKED, ALIVE.terminate_refused(DENIED, NOW).terminate_refused(DENIED, NOW + 5 * MINUTE), NOW + 5 * MINUTE),
        [],
    ),
    "credentials are missing": (
        (PLAIN, ALIVE, NOW),
        (PLAIN, ALIVE.with_error(CREDENTIALS, NOW), NOW),
        ["CredentialsUnavailable"],
    ),
    "a poll is throttled": ((PLAIN, ALIVE, NOW), (PLAIN, ALIVE.with_error(THROTTLED, NOW), NOW), []),
    "polls are throttled": (
        (PLAIN, ALIVE, NOW),
        (PLAIN, ALIVE.with_error(THROTTLED, NOW).with_error(THROTTLED, NOW), NOW),
        [],
    ),
    "the call is throttled": ((ASKED, ALIVE, NOW), (ASKED, ALIVE.terminate_refused(THROTTLED, NOW), NOW), []),
    "polls go unanswered": (
        (PLAIN, ALIVE, NOW),
        (PLAIN, ALIVE.with_error(UNAVAILABLE, NOW).with_error(UNAVAILABLE, NOW), NOW),
        [],
    ),
    "an error ends": ((PLAIN, ALIVE.with_error(DENIED, NOW), NOW), (PLAIN, ALIVE, NOW), []),
    "a job is not found": ((PLAIN, absent(NOW), NOW), (PLAIN, GONE, NOW), ["JobNotFound"]),
    "a job vanishes": (
        (PLAIN, ALIVE, NOW),
        (PLAIN.settled(ALIVE), GONE, NOW),
        ["JobVanished"],
    ),
    "terminations are held": ((ASKED, ALIVE, NOW), (ASKED.held("no policies"), ALIVE, NOW), ["TerminationHeld"]),
    "terminations are held no more": ((ASKED.held("no policies"), ALIVE, NOW), (ASKED, ALIVE, NOW), []),
}


@pytest.mark.parametrize(("before", "after", "reasons"), TRANSITIONS.values(), ids=TRANSITIONS)
def test_each_transition_is_one_event(before: Step | None, after: Step, reasons: list[str]) -> None:
    events = between(status(before), status(after), JOB_ID)
    assert [event.reason for event in events] == reasons
    assert between(status(after), status(after), JOB_ID) == ()


def test_later_polls_that_change_nothing_are_no_event() -> None:
    first = PLAIN.settled(ALIVE)
    later = ALIVE.with_job(RUNNING_JOB.job, NOW + 30 * SECOND)
    assert (
        between(first.record.status, reconcile(first.record, later, NOW + 30 * SECOND, INTERVALS).status, JOB_ID) == ()
    )


def test_events_that_ask_a_person_to_act_are_warnings() -> None:
    events = [
        event for before, after, _ in TRANSITIONS.values() for event in between(status(before), status(after), JOB_ID)
    ]
    warnings = {event.reason for event in events if event.warning}
    assert warnings == {
        *("AccessDenied", "CredentialsUnavailable", "JobBlocked", "JobFailed", "JobNotFound", "JobVanished"),
        *("TerminationDelayed", "TerminationHeld", "TerminationRejected", "TerminationStuck"),
    }
    assert {event.reason for event in events if not event.warning} == {
        "JobCancelled",
        "JobSucceeded",
        "JobTerminated",
        "Terminated",
        "TerminationAccepted",
        "TerminationSkipped",
    }


def test_events_name_the_job_and_the_reasons_sent_and_given() -> None:
    requested = between(status((ASKED, ALIVE, NOW)), status((ASKED, SENT, NOW)), JOB_ID)[0]
    assert WHY in requested.note
    failed = between(status((PLAIN, ALIVE, NOW)), status((PLAIN, seen().with_job(FAILED, NOW), NOW)), JOB_ID)[0]
    assert "exit 1" in failed.note
    assert all(f"{JOB_ID} in eu-west-1" in event.note for event in (requested, failed))


def test_a_phase_without_its_condition_is_an_event_without_details() -> None:
    ended = status((PLAIN, seen().with_job(SUCCEEDED, NOW), NOW))
    events = between(Status(), ended.replace(conditions=()), JOB_ID)
    assert [event.reason for event in events] == ["JobSucceeded"]


def test_a_foreign_reason_of_stalled_is_no_event() -> None:
    stalled = status((PLAIN, ALIVE.with_error(DENIED, NOW), NOW))
    conditions = tuple(c.replace(reason="Sunspots") if c.type == "Stalled" else c for c in stalled.conditions)
    assert between(status((PLAIN, ALIVE, NOW)), stalled.replace(conditions=conditions), JOB_ID) == ()


def test_a_delay_is_one_event_across_restarts_and_throttling() -> None:
    at = NOW + 10 * MINUTE
    delayed = status((ASKED, FLAGGED, at))
    read_back = delayed.replace(delayed=False)
    assert between(read_back, delayed, JOB_ID) == ()
    throttled = status((ASKED, FLAGGED.with_error(THROTTLED, at).with_error(THROTTLED, at), at))
    assert between(delayed, throttled, JOB_ID) == between(throttled, delayed, JOB_ID) == ()


def test_every_reason_of_stalled_is_an_event_of_the_same_name() -> None:
    before = status((PLAIN, ALIVE, NOW))
    for reason in STALLED_REASONS:
        after = before.replace(conditions=(Condition("Stalled", "True", reason, NOW, "why", 1),))
        assert between(before, after, JOB_ID) == (Event(reason, "why", warning=True),)


def test_an_event_says_what_the_condition_or_reason_of_its_name_says() -> None:
    both = {*EventReason} & {*Reason, conditions.TERMINATED, conditions.FINISHED}
    assert both == {
        *("TerminationHeld", "Terminated"),
        *("JobSucceeded", "JobFailed", "JobTerminated", "JobCancelled"),
    }
    for before, after, _ in TRANSITIONS.values():
        shown = status(after)
        for event in between(status(before), shown, JOB_ID):
            named = shown.condition(event.reason)
            if event.reason in {*both, *STALLED_REASONS}:
                assert event.reason in {condition.reason for condition in shown.conditions}
                assert named is None or named.status == "True"


STATED, REWORDED, WITHDRAWN = Spec(JOB_ID, None, WHY), Spec(JOB_ID, None, "other words"), Spec(JOB_ID)


@pytest.mark.parametrize(
    ("before", "after", "accepted", "alive", "reason"),
    [
        (STATED, WITHDRAWN, False, True, "TerminationWithdrawn"),
        (STATED, None, False, True, "TerminationWithdrawn"),
        (STATED, REWORDED, False, True, None),
        (STATED, REWORDED, True, True, "TerminationChangeIgnored"),
        (STATED, WITHDRAWN, True, True, "TerminationChangeIgnored"),
        (STATED, None, True, True, None),
        (STATED, STATED, True, True, None),
        (STATED, STATED, False, True, None),
        (WITHDRAWN, STATED, False, True, None),
        (WITHDRAWN, STATED, True, True, None),
        (WITHDRAWN, None, False, True, None),
        (STATED, WITHDRAWN, False, False, None),
        (STATED, WITHDRAWN, True, False, None),
        (STATED, None, False, False, None),
    ],
)
def test_a_changed_intent_is_an_event(
    before: Spec, after: Spec | None, accepted: bool, alive: bool, reason: str | None
) -> None:
    event = intent_change(
        before, after, Cause.TERMINATE, wanted=True, accepted=accepted, in_flight=False, job_alive=alive
    )
    assert (event and event.reason) == reason
    assert event is None or JOB_ID in event.note


@pytest.mark.parametrize("after", [WITHDRAWN, None])
def test_a_withdrawal_beside_a_request_without_an_answer_does_not_promise_that_the_job_runs_on(
    after: Spec | None,
) -> None:
    notes = [
        intent_change(STATED, after, Cause.TERMINATE, wanted=True, accepted=False, in_flight=one, job_alive=True)
        for one in (True, False)
    ]
    assert [event is not None and "can still terminate the job" in event.note for event in notes] == [True, False]
