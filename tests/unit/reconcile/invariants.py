"""Invariants of every result of `reconcile`."""

from awsbatch_operator.api.batchjob import FINAL_PHASES, Condition, Phase, Status
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Record
from awsbatch_operator.reconcile.reconcile import ReconcileResult, reconcile
from builders import INTERVALS

STALLED = {
    "JobNotFound",
    "JobVanished",
    "AccessDenied",
    "CredentialsUnavailable",
    "TerminationRejected",
    "TerminationStuck",
}
ENDS = {"JobSucceeded", "JobFailed", "JobTerminated", "JobCancelled"}
"""Reasons of Stalled of an object that no policy restricts."""
TRANSIENT = {"Throttled", "AWSUnavailable"}
AT_WORK = {"TerminationPending", "TerminationInProgress", "TerminationHeld"}
ALLOWED = {
    ("Ready", "True"): {"Observed", "Terminated", "AlreadyFinished"},
    ("Ready", "False"): AT_WORK | STALLED,
    ("Ready", "Unknown"): {"NotObservedYet"},
    ("Reconciling", "True"): {"AwaitingFirstObservation"} | AT_WORK | TRANSIENT,
    ("Stalled", "True"): STALLED,
    ("Terminated", "True"): {"TerminatedByRequest"},
    ("Terminated", "False"): {
        "AlreadyFinished",
        "SucceededBeforeTermination",
        "FailedBeforeTermination",
        "JobNotFound",
        "TerminationRejected",
    },
    ("Terminated", "Unknown"): AT_WORK | {"AccessDenied", "CredentialsUnavailable", "WaitingOnDependencies"},
    ("Succeeded", "True"): {"JobSucceeded"},
    ("Succeeded", "False"): {"JobFailed", "JobTerminated", "JobCancelled"},
    ("Succeeded", "Unknown"): {"JobActive"},
    ("Finished", "True"): ENDS | {"JobVanished"},
    ("Finished", "False"): {"JobActive"},
    ("Finished", "Unknown"): {"NotObservedYet", "JobNotFound", "AccessDenied", "CredentialsUnavailable"},
}


def conditions_are_well_formed(record: Record, status: Status, now: Millis) -> None:
    by_type = {condition.type: condition for condition in status.conditions}
    assert len(by_type) == len(status.conditions)
    for condition in status.conditions:
        assert condition.reason in ALLOWED[condition.type, condition.status], condition
        assert condition.message.strip()
        _keeps_its_time(record.status.condition(condition.type), condition, now)
    assert not ("Reconciling" in by_type and "Stalled" in by_type)
    ready, stalled, terminated = by_type["Ready"], by_type.get("Stalled"), by_type.get("Terminated")
    if stalled is not None:
        assert (ready.status, ready.reason) == ("False", stalled.reason)
    else:
        assert ready.reason not in STALLED
    reconciling = by_type.get("Reconciling")
    if reconciling is not None and AT_WORK.issuperset({ready.reason, reconciling.reason}):
        assert ready.reason == reconciling.reason, "two conditions with one reason"
    wanted = record.termination_wanted or status.termination is not None
    assert (terminated is not None) == wanted, "Terminated is there exactly when somebody asked"
    if wanted and (status.job is None or not status.job.finished):
        assert ready.status != "True", "a termination is not done while the job is not known to have ended"


def finished_tells_the_truth(record: Record, status: Status) -> None:
    """It is there at all times, agrees with Succeeded, and goes back only for a job that Batch shows alive again."""
    finished, succeeded = status.condition("Finished"), status.condition("Succeeded")
    assert finished is not None
    if succeeded is not None and status.phase is not Phase.MISSING:
        assert (finished.status == "True") == (succeeded.status != "Unknown")
        assert finished.reason == succeeded.reason
    before = record.status.condition("Finished")
    if before is not None and before.status == "True" and finished.status != "True":
        assert status.job is not None
        assert not status.job.finished
        assert status.phase is not Phase.MISSING
    if finished.status == "Unknown":
        reason = (status.condition("Stalled") or status.condition("Ready") or finished).reason
        assert finished.reason == reason


def accepted_requests_are_shown_as_such(status: Status) -> None:
    """After the acceptance no condition says that a termination is pending, before it none says that it is accepted."""
    accepted = status.termination is not None and status.termination.accepted_at is not None
    flagged = status.job is not None and status.job.flagged
    reasons = {condition.reason for condition in status.conditions}
    if accepted:
        assert "TerminationPending" not in reasons
        assert not any("spec.terminate" in condition.message for condition in status.conditions)
    elif not flagged and status.phase not in {Phase.UNKNOWN, *FINAL_PHASES}:
        assert "TerminationInProgress" not in reasons


def _keeps_its_time(before: Condition | None, after: Condition, now: Millis) -> None:
    kept = before is not None and before.status == after.status
    assert after.since == (before.since if before is not None and kept else now - now % SECOND)


def the_generation_is_right(record: Record, known: JobState, result: ReconcileResult) -> None:
    """A status answers its generation, or says nothing new of it and something is still to come."""
    status = result.status
    if status.observed_generation != record.generation:
        assert status.observed_generation == record.status.observed_generation
        assert result.next_poll_at is not None or known.call_in_flight
    if status is not record.status:
        assert {condition.generation for condition in status.conditions} == {record.generation}


def the_next_poll_is_right(record: Record, known: JobState, result: ReconcileResult, now: Millis) -> None:
    if result.next_poll_at is None:
        assert result.status.finished or (known.call_in_flight and record.termination_wanted)
        assert result.terminate is None
    else:
        assert result.next_poll_at <= now + INTERVALS.longest


def the_parts_of_a_status_agree(status: Status) -> None:
    final = status.phase in FINAL_PHASES
    assert final == status.finished
    termination, terminated = status.termination, status.condition("Terminated")
    if termination is not None:
        assert (termination.completed_at is not None) == final
        assert termination.reason
    if terminated is not None and terminated.status == "True":
        assert (status.phase, termination is not None) == (Phase.TERMINATED, True)
    if status.phase is Phase.TERMINATED:
        succeeded = status.condition("Succeeded")
        assert succeeded is not None
        assert succeeded.reason in {"JobTerminated", "JobCancelled"}


def a_steady_result_stays_as_it_is(record: Record, known: JobState, result: ReconcileResult, now: Millis) -> None:
    """What lets the controller skip `reconcile` when a poll shows what the last one showed."""
    if result.steady_interval is None:
        return
    assert known.job is not None
    later = now + result.steady_interval
    again = reconcile(record.replace(status=result.status), known.with_job(known.job, later), later, INTERVALS)
    assert again == result.replace(next_poll_at=later + result.steady_interval)


def errors_are_shown_when_they_matter(record: Record, known: JobState, result: ReconcileResult) -> None:
    """One failed poll is not shown; a second in a row is, and so is the first that keeps somebody waiting."""
    status, error = result.status, known.last_error
    shown = TRANSIENT.intersection(condition.reason for condition in status.conditions)
    before = TRANSIENT.intersection(condition.reason for condition in record.status.conditions)
    waited_for = status.job is None or (record.termination_wanted and status.termination is None)
    if shown and not before:
        assert error is not None or known.terminate_error is not None
        refused = known.terminate_error is not None or (error is not None and not error.error_class.transient)
        assert known.failures > 1 or waited_for or refused
    if error is None or not error.error_class.transient or result.next_poll_at is None:
        return
    if known.failures > 1 or waited_for:
        reconciling = status.condition("Reconciling")
        held = reconciling is not None and reconciling.reason == "TerminationHeld"
        assert shown or held or status.condition("Stalled") is not None


def result_is_valid(record: Record, known: JobState, result: ReconcileResult, now: Millis) -> None:
    the_generation_is_right(record, known, result)
    the_next_poll_is_right(record, known, result, now)
    a_steady_result_stays_as_it_is(record, known, result, now)
    if result.status is not record.status:
        conditions_are_well_formed(record, result.status, now)
        finished_tells_the_truth(record, result.status)
        accepted_requests_are_shown_as_such(result.status)
        the_parts_of_a_status_agree(result.status)
        errors_are_shown_when_they_matter(record, known, result)
