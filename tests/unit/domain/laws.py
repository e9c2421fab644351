"""What every decision must keep to, whatever has happened before."""

from dataclasses import replace

from awsbatch_operator.domain.cadence import SECOND
from awsbatch_operator.domain.decide import Decision, decide
from awsbatch_operator.domain.job import Millis
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import FINAL_PHASES, Condition, Phase, Status
from awsbatch_operator.domain.verdict import Record
from builders import CADENCE

STALLS = {
    "JobNotFound",
    "JobVanished",
    "AccessDenied",
    "CredentialsUnavailable",
    "TerminationRejected",
    "TerminationStuck",
}
REFUSALS = {
    "NoAccessPolicy",
    "AmbiguousPolicy",
    "PolicyUnreadable",
    "JobNotAllowed",
    "TerminationNotAllowed",
    "AccountChanged",
}
"""Stalls of objects that a policy governs."""
TROUBLE = {"Throttled", "AWSUnavailable"}
ALLOWED = {
    ("Ready", "True"): {"Observed", "Terminated", "AlreadyFinished"},
    ("Ready", "False"): {"Terminating"} | STALLS,
    ("Ready", "Unknown"): {"NotObservedYet"},
    ("Reconciling", "True"): {
        "AwaitingFirstObservation",
        "TerminationInProgress",
        "Throttled",
        "AWSUnavailable",
    },
    ("Stalled", "True"): STALLS,
    ("Terminated", "True"): {"TerminatedByRequest"},
    ("Terminated", "False"): {
        "AlreadyFinished",
        "SucceededBeforeTermination",
        "FailedBeforeTermination",
        "JobNotFound",
        "TerminationRejected",
    },
    ("Terminated", "Unknown"): {"TerminationRequested", "TerminationInProgress", "WaitingOnDependencies"},
    ("Succeeded", "True"): {"JobSucceeded"},
    ("Succeeded", "False"): {"JobFailed", "JobTerminated", "JobCancelled"},
    ("Succeeded", "Unknown"): {"JobActive"},
}


def conditions_are_well_formed(record: Record, status: Status, now: Millis) -> None:
    by_type = {condition.type: condition for condition in status.conditions}
    assert len(by_type) == len(status.conditions)
    for condition in status.conditions:
        assert condition.reason in ALLOWED[condition.type, condition.status], condition
        assert condition.message.strip()
        _keeps_its_time(record.status.condition(condition.type), condition, now)
    assert not ("Reconciling" in by_type and "Stalled" in by_type)
    ready, stalled, fate = by_type["Ready"], by_type.get("Stalled"), by_type.get("Terminated")
    if stalled is not None:
        assert (ready.status, ready.reason) == ("False", stalled.reason)
    else:
        assert ready.reason not in STALLS
    asked = record.asked or status.termination is not None
    assert (fate is not None) == asked, "Terminated is there exactly when somebody asked"
    if asked and (status.job is None or not status.job.finished):
        assert ready.status != "True", "a stated termination is not realised while the job is not known to have ended"


def _keeps_its_time(before: Condition | None, after: Condition, now: Millis) -> None:
    kept = before is not None and before.status == after.status
    assert after.since == (before.since if before is not None and kept else now - now % SECOND)


def the_generation_is_right(record: Record, known: Observation, decision: Decision) -> None:
    """A status answers its generation, or says nothing new of it and something is still under way."""
    status = decision.status
    if status.observed_generation != record.generation:
        assert status.observed_generation == record.status.observed_generation
        assert decision.look_at is not None or known.calling
    if status is not record.status:
        assert {condition.generation for condition in status.conditions} == {record.generation}


def the_next_look_is_sensible(record: Record, known: Observation, decision: Decision, now: Millis) -> None:
    if decision.look_at is None:
        assert decision.status.finished or (known.calling and record.asked)
        assert decision.terminate is None
    else:
        assert decision.look_at <= now + CADENCE.longest


def the_parts_of_a_status_agree(status: Status) -> None:
    final = status.phase in FINAL_PHASES
    assert final == status.finished
    termination, fate = status.termination, status.condition("Terminated")
    if termination is not None:
        assert (termination.completed_at is not None) == final
        assert termination.reason
    if fate is not None and fate.status == "True":
        assert (status.phase, termination is not None) == (Phase.TERMINATED, True)
    if status.phase is Phase.TERMINATED:
        succeeded = status.condition("Succeeded")
        assert succeeded is not None
        assert succeeded.reason in {"JobTerminated", "JobCancelled"}


def a_routine_stays_as_it_is(record: Record, known: Observation, decision: Decision, now: Millis) -> None:
    """What lets the engine pass over decide when a look shows what the last one showed."""
    if decision.routine is None:
        return
    assert known.job is not None
    later = now + decision.routine
    again = decide(replace(record, status=decision.status), known.saw(known.job, later), later, CADENCE)
    assert again == replace(decision, look_at=later + decision.routine)


def trouble_is_told_when_it_makes_late(record: Record, known: Observation, decision: Decision) -> None:
    """One failed look is no news; a second in a row is, and so is the first that keeps somebody waiting."""
    status, fault = decision.status, known.fault
    told = TROUBLE.intersection(condition.reason for condition in status.conditions)
    before = TROUBLE.intersection(condition.reason for condition in record.status.conditions)
    waited_for = status.job is None or (record.asked and status.termination is None)
    if told and not before:
        assert fault is not None or known.refusal is not None
        refused = known.refusal is not None or (fault is not None and not fault.fate.passes)
        assert known.faults > 1 or waited_for or refused
    if fault is not None and fault.fate.passes and (known.faults > 1 or waited_for) and decision.look_at is not None:
        assert told or status.condition("Stalled") is not None


def decided_lawfully(record: Record, known: Observation, decision: Decision, now: Millis) -> None:
    the_generation_is_right(record, known, decision)
    the_next_look_is_sensible(record, known, decision, now)
    a_routine_stays_as_it_is(record, known, decision, now)
    if decision.status is not record.status:
        conditions_are_well_formed(record, decision.status, now)
        the_parts_of_a_status_agree(decision.status)
        trouble_is_told_when_it_makes_late(record, known, decision)
