"""Rows of the decision table: the deletion of an object that the finalizer holds. It states spec.onDelete."""

import pytest

from awsbatch_operator.api.batchjob import Cause, Deadline, Limit, NextLimit, Phase, Spec, Status, Termination
from awsbatch_operator.api.conditions import STALLED
from awsbatch_operator.api.timestamps import HOUR, MINUTE, SECOND
from awsbatch_operator.policy.resolution import Deny
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Crd, Deletion, Record, Visible
from awsbatch_operator.reconcile.poll_intervals import PollIntervals
from awsbatch_operator.reconcile.reconcile import ReconcileResult, reconcile
from builders import (
    CREDENTIALS,
    DENIED,
    INTERVALS,
    JOB_ID,
    LIMIT,
    NOW,
    REJECTED,
    THROTTLED,
    UNAVAILABLE,
    WHY,
    a_job,
    absent,
    an_object,
    seen,
)

GONE = "its workflow was deleted"
ENABLED = PollIntervals(on_delete_timeout=HOUR)
RUNNING = seen(a_job().running())


def deleted(crd: Crd = Crd.SERVED, *, waited: int = 0, on_delete: str | None = GONE) -> Record:
    deletion = Deletion(NOW - MINUTE, crd, waited)
    return an_object().record.replace(spec=Spec(JOB_ID, on_delete=on_delete), deletion=deletion)


def decided(record: Record, known: JobState, intervals: PollIntervals = ENABLED) -> ReconcileResult:
    return reconcile(record, known, NOW, intervals)


def denied(reason: str) -> Record:
    return deleted().replace(access=Deny(reason, "why not"))


def recorded(reason: str, at: int, cause: Cause = Cause.ON_DELETE) -> Record:
    return deleted().replace(status=Status(termination=Termination(reason, at, at, requests=1, cause=cause)))


def accepted(reason: str = GONE, *, ago: int = 1) -> JobState:
    return RUNNING.accepted(Cause.ON_DELETE, reason, NOW - ago - 1, NOW - ago)


TERMINATING = deleted().replace(spec=Spec(JOB_ID, terminate=WHY, on_delete=GONE))
OBSERVE_ONLY = deleted().replace(
    access=Visible(terminate_denied=Deny("TerminationNotAllowed", "why not", hidden=False))
)
NOT_ADMITTED = deleted().replace(
    access=Visible(missing_as=Deny("JobNotAllowed", "why not")), status=Status(phase=Phase.DENIED)
)
FINISHED = an_object().settled(seen(a_job().running().ended("FAILED"))).record.status
SEND, HOLD, RELEASE, GIVE_UP = "send", "hold", "release", "give up"

ROWS = {
    "CRD deleted": (deleted(Crd.DELETED), RUNNING, RELEASE),
    "CRD deleted, spec.terminate stated": (
        TERMINATING.replace(deletion=deleted(Crd.DELETED).deletion),
        RUNNING,
        RELEASE,
    ),
    "onDelete removed": (deleted(on_delete=None), RUNNING, RELEASE),
    "alive": (deleted(), RUNNING, SEND),
    "alive, CRD not known yet": (deleted(Crd.UNKNOWN), RUNNING, HOLD),
    "spec.terminate needs no CRD": (TERMINATING.replace(deletion=deleted(Crd.UNKNOWN).deletion), RUNNING, SEND),
    "flagged": (deleted(), seen(a_job().running().flagged()), RELEASE),
    "cancelled": (deleted(), seen(a_job().pending().cancelled()), RELEASE),
    "accepted a moment ago": (deleted(), accepted(), HOLD),
    "accepted a minute ago, and no flag": (deleted(), accepted(ago=MINUTE), GIVE_UP),
    "accepted a minute ago, now throttled": (deleted(), accepted(ago=MINUTE).with_error(THROTTLED, NOW), GIVE_UP),
    "accepted in time": (deleted(waited=HOUR), accepted(), HOLD),
    "an earlier process recorded the acceptance, and no flag": (recorded(GONE, NOW - MINUTE), RUNNING, SEND),
    "an earlier process recorded the acceptance a moment ago": (recorded(GONE, NOW - SECOND), RUNNING, HOLD),
    "an acceptance in other words does not count": (recorded("another", NOW - HOUR), RUNNING, SEND),
    "clock set back since the acceptance": (deleted(), accepted(ago=-HOUR), GIVE_UP),
    "an acceptance in the future is recorded": (recorded(GONE, NOW + HOUR), RUNNING, HOLD),
    "finished": (deleted(), seen(a_job().running().ended("SUCCEEDED")), RELEASE),
    "was finished": (deleted().replace(status=FINISHED), JobState(), RELEASE),
    "missing": (
        deleted().replace(status=Status(phase=Phase.MISSING)),
        absent(NOW - 3 * MINUTE, NOW - 2 * MINUTE, NOW),
        RELEASE,
    ),
    "not missing for long enough": (deleted(), absent(NOW), HOLD),
    "JobNotAllowed": (denied("JobNotAllowed"), JobState(), GIVE_UP),
    "not admitted, as a missing job": (NOT_ADMITTED, absent(NOW - 3 * MINUTE, NOW - 2 * MINUTE, NOW), GIVE_UP),
    "TerminationNotAllowed": (OBSERVE_ONLY, RUNNING, GIVE_UP),
    "TerminationNotAllowed, not observed": (OBSERVE_ONLY, JobState(), HOLD),
    "AccountChanged": (denied("AccountChanged"), JobState(), GIVE_UP),
    "InvalidRegion": (denied("InvalidRegion"), JobState(), GIVE_UP),
    "NoAccessPolicy": (denied("NoAccessPolicy"), JobState(), HOLD),
    "AmbiguousPolicy": (denied("AmbiguousPolicy"), JobState(), HOLD),
    "PolicyUnreadable": (denied("PolicyUnreadable"), JobState(), HOLD),
    "never observed": (deleted(), JobState(), HOLD),
    "throttled": (deleted(), JobState().with_error(THROTTLED, NOW), HOLD),
    "AWS unavailable": (deleted(), JobState().with_error(UNAVAILABLE, NOW), HOLD),
    "AccessDenied": (deleted(), RUNNING.terminate_refused(DENIED, NOW), HOLD),
    "CredentialsUnavailable": (deleted(), RUNNING.terminate_refused(CREDENTIALS, NOW), HOLD),
    "TerminationRejected": (deleted(), RUNNING.terminate_refused(REJECTED, NOW), HOLD),
    "held too long": (deleted(waited=HOUR), JobState().with_error(THROTTLED, NOW), GIVE_UP),
    "held too long, CRD unreadable": (deleted(Crd.UNREADABLE, waited=HOUR).replace(held="x"), RUNNING, GIVE_UP),
    "held too long, no policy": (
        denied("NoAccessPolicy").replace(deletion=deleted(waited=HOUR).deletion),
        JobState(),
        GIVE_UP,
    ),
    "the answer comes after the timeout": (deleted(waited=HOUR), RUNNING.in_flight(), HOLD),
}


@pytest.mark.parametrize("row", ROWS)
def test_row(row: str) -> None:
    record, known, expected = ROWS[row]
    result = decided(record, known)
    shown = SEND if result.terminate is not None else HOLD
    if not result.finalizer:
        shown = RELEASE if result.given_up is None else GIVE_UP
        assert (result.terminate, result.wanted) == (None, None)
    assert shown == expected


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ("held too long", "AWS throttles requests in eu-west-1"),
        ("held too long, no policy", "why not"),
    ],
)
def test_the_event_of_a_job_given_up_names_the_limit_and_the_cause(row: str, cause: str) -> None:
    record, known, _ = ROWS[row]
    given_up = decided(record, known).given_up
    assert given_up is not None
    assert given_up.startswith(f"the job could not be terminated within --on-delete-timeout (60 min): {cause}")


def test_the_reason_of_the_cause_with_precedence_is_sent() -> None:
    intent = decided(deleted(), RUNNING).terminate
    assert intent is not None
    assert (intent.cause, intent.reason, intent.stated, intent.due_at) == (Cause.ON_DELETE, GONE, GONE, NOW - MINUTE)
    intent = decided(TERMINATING, RUNNING).terminate
    assert intent is not None
    assert (intent.cause, intent.reason) == (Cause.TERMINATE, WHY)
    overdue = deleted().replace(spec=Spec(JOB_ID, deadline=Deadline(LIMIT, 20 * MINUTE), on_delete=GONE))
    noticed = Status(deadline=NextLimit(NOW - HOUR, Limit.RUNNING), observed_generation=1)
    intent = decided(overdue.replace(status=noticed), RUNNING).terminate
    assert intent is not None
    assert (intent.cause, intent.reason) == (Cause.DEADLINE, LIMIT)


def test_an_object_that_is_not_deleted_wants_the_finalizer_and_no_termination() -> None:
    result = decided(deleted().replace(deletion=None), RUNNING)
    assert (result.finalizer, result.wanted, result.terminate) == (True, None, None)


def test_disabled_it_neither_holds_nor_sends_and_says_so() -> None:
    result = decided(deleted().replace(deletion=None), RUNNING, INTERVALS)
    stalled = result.status.condition(STALLED)
    assert stalled is not None
    assert (result.finalizer, stalled.reason) == (False, "OnDeleteDisabled")
    result = decided(deleted(), RUNNING, INTERVALS)
    assert (result.finalizer, result.wanted, result.given_up) == (False, None, None)


def test_a_held_object_is_reconciled_after_the_timeout_or_the_minute() -> None:
    assert decided(deleted(waited=20 * MINUTE), JobState()).requeue_at == NOW + 40 * MINUTE
    assert decided(deleted(), accepted(ago=20 * SECOND)).requeue_at == NOW + 40 * SECOND
    paused = deleted(waited=HOUR - 1).replace(held="suspended")
    assert decided(paused, RUNNING).requeue_at == NOW + SECOND
