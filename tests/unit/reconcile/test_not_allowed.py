"""What is decided where the policy in force does not let a job be shown or ended."""

from typing import Any

import pytest

from awsbatch_operator.api.batchjob import AdmittedBy, Condition, Phase, Status
from awsbatch_operator.api.codec import encode
from awsbatch_operator.api.timestamps import MINUTE
from awsbatch_operator.policy.authorizer import job_not_allowed
from awsbatch_operator.policy.resolution import Deny, account_changed, invalid_region
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.not_allowed import unconfirmed
from awsbatch_operator.reconcile.outcome import Visible
from awsbatch_operator.reconcile.reconcile import ReconcileResult, reconcile
from builders import (
    DENIED,
    INTERVALS,
    JOB_ID,
    NOW,
    TERMINATE,
    THROTTLED,
    WHY,
    ObjectBuilder,
    a_job,
    absent,
    an_object,
    seen,
)
from unit.reconcile.rows import conditions_of, finished_of

NOT_ADMITTED = job_not_allowed("team-a")
NONE = Deny("NoAccessPolicy", "none")
OBSERVE = Deny("TerminationNotAllowed", "observe only")
ALIVE = seen(a_job().running())
SHOWN_OF_A_DENIED = {"observedGeneration", "phase", "region", "conditions", "accountId"}
MARK = AdmittedBy("team-a", "0123456789abcdef")


def under(access: Visible | Deny, given: ObjectBuilder, known: JobState, now: int = NOW) -> ReconcileResult:
    return reconcile(given.record.replace(access=access), known, now, INTERVALS)


KNOWN: dict[str, JobState] = {
    "never seen": seen(),
    "alive": ALIVE,
    "flagged": seen(a_job().running().flagged()),
    "ended": seen(a_job().ended("FAILED", "exit 1")),
    "absent": absent(NOW, last=ALIVE),
    "throttled": ALIVE.with_error(THROTTLED, NOW),
    "asked by another": ALIVE.accepted(TERMINATE, "the secret of another", NOW, NOW),
    "refused another": ALIVE.terminate_refused(DENIED, NOW),
}


@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("refusal", [NOT_ADMITTED, NONE], ids=lambda one: one.reason)
@pytest.mark.parametrize("before", [seen(), ALIVE, KNOWN["ended"]], ids=["nothing", "alive", "ended"])
def test_nothing_of_a_denied_job_is_shown_whatever_it_is_like(known: JobState, refusal: Deny, before: JobState) -> None:
    for given, terminated in ((an_object(), ""), (an_object().terminating(), f" Terminated=False/{refusal.reason}")):
        result = under(refusal, given.settled(before), known)
        assert result.status.phase is Phase.DENIED
        assert conditions_of(result.status) == f"Ready=False/{refusal.reason} Stalled=True/{refusal.reason}{terminated}"
        assert set(encode(result.status)) <= SHOWN_OF_A_DENIED
        ended = before is KNOWN["ended"]
        assert finished_of(result.status) == ("True/JobFailed" if ended else f"Unknown/{refusal.reason}")
        assert "exit 1" not in repr(result.status), "of an end that was shown only the fact stays"
        assert "secret" not in repr(result.status)
        assert result.terminate is None
        assert result.next_poll_at is not None


def test_a_request_that_batch_accepted_stays_without_its_end() -> None:
    given = an_object().terminating().sent(at=NOW - MINUTE)
    sent = given.record.status.termination
    assert sent is not None
    given = given.with_status(termination=sent.replace(request_id="an id", status_reason_before="CAPACITY:X"))
    for given_now in (given, given.terminating(None)):
        status = under(NOT_ADMITTED, given_now, KNOWN["ended"]).status
        assert conditions_of(status).endswith("Terminated=Unknown/JobNotAllowed")
        assert set(encode(status)) == (SHOWN_OF_A_DENIED | {"termination"}) - {"accountId"}
        assert status.termination is not None
        assert (status.termination.reason, status.termination.request_id) == (WHY, "an id")
        assert (status.termination.completed_at, status.termination.status_reason_before) == (None, None)


def test_an_end_that_was_shown_stays_until_batch_shows_the_job_alive_again() -> None:
    ended = an_object().settled(KNOWN["ended"])
    hidden = ended.with_status(**_fields(unconfirmed(ended.record, NOW)))
    denied = hidden.with_status(**_fields(under(NOT_ADMITTED, hidden, KNOWN["ended"]).status))
    assert [finished_of(one.record.status) for one in (hidden, denied)] == ["True/JobFailed"] * 2
    assert finished_of(under(Visible(MARK), denied, ALIVE).status) == "False/JobActive"
    forged = an_object().with_status(
        conditions=(Condition("Finished", "True", "Whatever", message="", since=NOW, generation=1),)
    )
    assert finished_of(under(NOT_ADMITTED, forged, ALIVE).status) == "Unknown/JobNotAllowed"


@pytest.mark.parametrize("known", [ALIVE, absent(NOW - 2 * MINUTE, NOW - MINUTE, NOW)], ids=["exists", "does not"])
def test_a_denial_names_the_job_that_was_asked_for(known: JobState) -> None:
    given = an_object().record.replace(account="111122223333", access=NOT_ADMITTED)
    stalled = reconcile(given, known, NOW, INTERVALS).status.condition("Stalled")
    assert stalled is not None
    assert stalled.message == f"Job {JOB_ID} in eu-west-1 (account 111122223333): {NOT_ADMITTED.message}"
    assert "not a job name" in stalled.message
    assert "a service job" in stalled.message


@pytest.mark.parametrize(
    ("known", "edited_at", "poll_in"),
    [
        (ALIVE, NOW - 1, 5 * MINUTE),
        (ALIVE, NOW + 1, 1),
        (ALIVE.with_error(THROTTLED, NOW), NOW - 1, 1_000),
        (seen(a_job(), NOW + 60 * MINUTE), NOW, INTERVALS.longest),
    ],
    ids=[
        "as one that is missing",
        "at once after an edit",
        "when a failed poll is due",
        "in spite of a clock set back",
    ],
)
def test_a_denied_job_is_polled_now_and_then(known: JobState, edited_at: int, poll_in: int) -> None:
    now = max(edited_at, NOW)
    result = under(NOT_ADMITTED, an_object().generation(1, edited_at), known, now)
    assert result.next_poll_at == NOW + poll_in


def test_a_job_that_may_only_be_observed_is_shown_and_never_terminated() -> None:
    only = Visible(MARK, OBSERVE)
    plain, asked = under(only, an_object(), ALIVE), under(only, an_object().terminating(), ALIVE)
    assert conditions_of(plain.status) == "Ready=True/Observed Succeeded=Unknown/JobActive"
    assert conditions_of(asked.status) == (
        "Ready=False/TerminationNotAllowed Stalled=True/TerminationNotAllowed Terminated=False/TerminationNotAllowed "
        "Succeeded=Unknown/JobActive"
    )
    assert asked.status.job == ALIVE.job
    assert (plain.terminate, asked.terminate) == (None, None)
    assert asked.status.access == MARK


def test_termination_errors_are_hidden_from_objects_that_may_not_terminate() -> None:
    status = under(Visible(MARK, OBSERVE), an_object().terminating(), KNOWN["refused another"]).status
    stalled = status.condition("Stalled")
    assert stalled is not None
    assert stalled.reason == "TerminationNotAllowed"


def test_an_old_request_is_not_sent_again_once_it_may_not_be() -> None:
    given = an_object().terminating().sent(at=NOW - 10 * MINUTE)
    again = under(Visible(MARK), given, ALIVE).terminate
    assert again is not None
    assert again.reason == WHY
    assert under(Visible(MARK, OBSERVE), given, ALIVE).terminate is None


def test_a_changed_account_keeps_the_shown_status() -> None:
    given = an_object().terminating().settled(ALIVE)
    given = given.with_status(account_id="111122223333", access=MARK)
    result = under(
        account_changed("111122223333", hidden=False), given, seen(a_job().ended("FAILED", "of another account"))
    )
    assert result.status.job == ALIVE.job
    assert result.status.access == MARK
    assert result.terminate is None
    assert "Stalled=True/AccountChanged" in conditions_of(result.status)


def test_a_finished_object_stays_as_it_is_although_its_region_became_invalid_until_it_is_edited() -> None:
    given = an_object().terminating().settled(KNOWN["ended"])
    for access in (invalid_region("eu-wset-1"), Visible()):
        result = under(access, given, seen())
        assert result == ReconcileResult(given.record.status, result.wanted)
    assert "Stalled=True/InvalidRegion" in conditions_of(
        under(invalid_region("eu-wset-1"), given.generation(2), seen()).status
    )
    alive = under(invalid_region("eu-wset-1"), an_object().settled(ALIVE), ALIVE)
    assert "Stalled=True/InvalidRegion" in conditions_of(alive.status)


def test_the_account_is_pinned_by_the_first_sight_and_the_mark_goes_with_the_details() -> None:
    job = a_job().running().job.replace(arn="arn:aws:batch:eu-west-1:111122223333:job/j")
    status = under(Visible(MARK), an_object(), JobState().with_job(job, NOW)).status
    assert (status.account_id, status.access) == ("111122223333", MARK)
    moved = job.replace(arn="arn:aws:batch:eu-west-1:444455556666:job/j")
    given = an_object().with_status(**_fields(status))
    assert under(Visible(MARK), given, JobState().with_job(moved, NOW)).status.account_id == "111122223333"
    denied = under(NOT_ADMITTED, given, JobState().with_job(job, NOW)).status
    assert (denied.account_id, denied.access) == ("111122223333", None)
    assert under(NOT_ADMITTED, an_object(), JobState().with_job(job, NOW)).status.account_id is None


def test_a_missing_job_is_reported_as_denied_by_the_policy_after_the_same_grace() -> None:
    hidden = Visible(missing_as=NOT_ADMITTED)
    early, late = absent(NOW - MINUTE, NOW), absent(NOW - 2 * MINUTE, NOW - MINUTE, NOW)
    assert under(hidden, an_object(), early).status.phase is Phase.UNKNOWN
    believed = under(hidden, an_object(), late)
    assert believed.status.phase is Phase.DENIED
    assert believed.status == under(NOT_ADMITTED, an_object(), late).status
    failing = an_object().with_status(**_fields(believed.status))
    assert under(hidden, failing, JobState().with_error(THROTTLED, NOW)).status.phase is Phase.DENIED
    assert under(Visible(), an_object(), early).next_poll_at == under(hidden, an_object(), early).next_poll_at


def test_a_withheld_status_keeps_only_the_request_and_the_account() -> None:
    given = an_object().terminating().sent(at=NOW).settled(KNOWN["ended"]).with_status(account_id="111122223333")
    status = unconfirmed(given.record, NOW)
    assert set(encode(status)) == SHOWN_OF_A_DENIED | {"termination"}
    assert conditions_of(status) == (
        "Ready=Unknown/NotObservedYet Reconciling=True/AwaitingFirstObservation "
        "Terminated=Unknown/TerminationInProgress"
    )
    assert status.termination is not None
    assert status.termination.completed_at is None
    plain = unconfirmed(an_object().settled(ALIVE).record, NOW)
    assert conditions_of(plain) == "Ready=Unknown/NotObservedYet Reconciling=True/AwaitingFirstObservation"


def _fields(status: Status) -> dict[str, Any]:
    return {name: getattr(status, name) for name in Status.__struct_fields__}
