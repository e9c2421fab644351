"""Conditions that must hold after a storm, from the objects and the simulator's jobs.

Each function gives what is not true yet. A calm waits until nothing is left of it, or its patience has run out.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from awsbatch_operator.api.names import FINALIZER
from awsbatch_sandbox.cluster import condition
from chaos.bulks import unrequested
from chaos.invariants import Violation
from chaos.ledger import Evidence, History
from chaos.record import Call, Job

ENDED: Final = "(a) each stated termination was called for"
TRUE_STATUS: Final = "(e) status agrees with Batch"
CLEAN: Final = "(f) nothing is left over"
DUE: Final = "(h) a limit that is past ends the job"
LATE: Final = 10.0
"""Seconds after a limit in which the operator asks for the end when nothing is broken: its poll, the resolution of the
Date header, the call, and a machine that is busy."""
NOTICE: Final = 60.0
"""Seconds that the operator gives to a job that is overdue when it first sees the deadline."""

Body = Mapping[str, Any]
_MILLISECOND: Final = 0.001
_SUCCEEDED: Final = {"Succeeded": "True", "Failed": "False", "Terminated": "False"}
_TYPES: Final = ("Ready", "Reconciling", "Stalled", "Succeeded", "Terminated")


def unsettled(evidence: Evidence, objects: Mapping[str, Body]) -> Iterator[Violation]:
    for bulk, job_id in unrequested(evidence.ledger.bulks.values(), lambda job_id: _is_over(evidence.jobs[job_id])):
        yield Violation(ENDED, f"{bulk.name} is approved, and the job lives on", job_id)
    for name, history in evidence.ledger.objects.items():
        body, job = objects.get(name), evidence.jobs.get(history.job_id)
        if history.exists != (body is not None):
            yield Violation(CLEAN, f"{name}: the script and the API server differ on whether it exists", history.job_id)
        if history.deletion is not None and history.gone is None:
            yield Violation(CLEAN, f"{name} was deleted and is not gone", history.job_id)
        if body is None or not history.exists:
            continue
        calls = evidence.terminations.get(history.job_id, ())
        if job is not None and history.stated is not None and not (job.finished or job.flagged):
            yield Violation(ENDED, f"{name} states {history.stated!r}; the job is {job.status}", history.job_id)
        now = evidence.ledger.batch_time(evidence.at)
        if job is not None and _is_overdue(body, history, job, now):
            yield Violation(DUE, f"{name} states {history.deadline}; the job is {job.status}", history.job_id)
        finalizers = body["metadata"].get("finalizers", [])
        if finalizers != ([FINALIZER] if history.now.on_delete is not None else []):
            yield Violation(CLEAN, f"{name} has the finalizers {finalizers}", history.job_id)
        for fault in (*status_faults(body, history, job, calls), *_deadline_faults(body, history, job, now)):
            yield Violation(TRUE_STATUS, f"{name}: {fault}", history.job_id)


def shows_end(status: Body) -> bool:
    """Whether the status says in two places that the job has ended: foreign clients write one."""
    ended = condition(status, "Succeeded").get("status") in ("True", "False")
    return ended and status.get("phase") in _SUCCEEDED


def _is_over(job: Job) -> bool:
    return job.finished or job.flagged


def _is_overdue(body: Body, history: History, job: Job, now: float) -> bool:
    """Whether the job should have been asked to end by now. `now`: by the clock of Batch."""
    due = history.deadline.due(job, now) if history.deadline is not None else None
    if due is None or job.finished or job.flagged:
        return False
    shown = _time_shown(body)
    in_notice = shown is not None and now < shown <= now + NOTICE
    return now > due[0] + LATE and not in_notice


def _deadline_faults(body: Body, history: History, job: Job | None, now: float) -> Iterator[str]:
    """The limit that falls due next is shown while nobody has asked for the end of the job."""
    status = body.get("status", {})
    shown = status.get("deadline")
    waits = job is not None and not (job.finished or job.flagged or "termination" in status)
    due = history.deadline.due(job, now) if history.deadline is not None and job is not None and waits else None
    if (due is None) != (shown is None):
        yield f"deadline is {shown}, not {due}"
    elif due is not None and shown is not None:
        at = _time_shown(body) or 0.0
        if shown["limit"] != due[1] or not due[0] - _MILLISECOND < at <= max(due[0], now + NOTICE) + _MILLISECOND:
            yield f"deadline is {shown}, not {due}"


def _time_shown(body: Body) -> float | None:
    """The time of status.deadline, epoch seconds."""
    shown = body.get("status", {}).get("deadline")
    return None if shown is None else datetime.fromisoformat(shown["time"]).timestamp()


def status_faults(body: Body, history: History, job: Job | None, calls: Sequence[Call]) -> Iterator[str]:
    """Return the differences between `.status` and AWS Batch, and contradictions in `.status`."""
    status = body.get("status", {})
    expected = _expected(status, job)
    for field, value in expected.items():
        if status.get(field) != value:
            yield f"{field} is {status.get(field)!r}, not {value!r}"
    generation = body["metadata"]["generation"]
    if status.get("observedGeneration") != generation:
        yield f"observedGeneration is {status.get('observedGeneration')}, not {generation}"
    yield from _termination_faults(status, history, job, calls)
    yield from _condition_faults(status, history, generation)


def _expected(status: Body, job: Job | None) -> dict[str, object]:
    if job is None:
        return {"phase": "Missing"}
    asked = job.flagged or "termination" in status
    if job.status == "SUCCEEDED":
        phase = "Succeeded"
    elif job.status == "FAILED":
        ours = job.status_reason == status.get("termination", {}).get("reason")
        phase = "Terminated" if job.flagged or ours else "Failed"
    else:
        phase = "Terminating" if asked else "Running" if job.runs else "Pending"
    mirrored = {"jobStatus": job.status, "statusReason": job.status_reason}
    return {"phase": phase, **mirrored, "isTerminated": job.is_terminated, "isCancelled": job.is_cancelled}


def _termination_faults(status: Body, history: History, job: Job | None, calls: Sequence[Call]) -> Iterator[str]:
    printed = status.get("termination")
    if printed is None:
        return
    sent = {call.reason for call in calls}
    if (cause := history.cause_of(printed["reason"])) not in (None, printed.get("cause")):
        yield f"termination.cause is {printed.get('cause')} of a reason that {cause} stated"
    if printed["reason"] not in sent:
        yield f"termination.reason is {printed['reason']!r}, which was never sent"
    effective = [call.reason for call in calls if history.job_id in call.effective]
    if effective and job is not None and job.status == "FAILED" and job.status_reason == effective[0]:
        granted = [call.reason for call in calls if call.granted(history.job_id)]
        if printed["reason"] not in (effective[0], *granted[:1]):
            yield f"termination.reason is {printed['reason']!r}, but the job ended by {effective[0]!r}"
    finished = job is not None and job.finished
    if finished != ("completedAt" in printed):
        yield f"termination {printed} of a job that is {job.status if job else 'unknown'}"


def _condition_faults(status: Body, history: History, generation: int) -> Iterator[str]:
    conditions = status.get("conditions", [])
    types = [one["type"] for one in conditions]
    if len(set(types)) != len(types) or "Ready" not in types:
        yield f"conditions are {types}"
    if stale := [one["type"] for one in conditions if one.get("observedGeneration") != generation]:
        yield f"conditions {stale} are of an earlier generation"
    # A limit that is past asks for the end, too, of a job that somebody else has asked to end.
    by_limit = history.deadline is not None and bool(condition(status, "Terminated"))
    yield from _claim_faults(status, asked=history.stated is not None or "termination" in status or by_limit)


def _claim_faults(status: Body, *, asked: bool) -> Iterator[str]:
    phase = str(status.get("phase"))
    claims = {type_: condition(status, type_).get("status") for type_ in _TYPES}
    ending = phase == "Terminating" and asked
    stuck = condition(status, "Stalled").get("reason") == "TerminationStuck"  # half an hour after its request
    expected = {
        "Ready": "False" if ending or phase == "Missing" else "True",
        "Reconciling": "True" if ending and not stuck else None,
        "Stalled": "True" if phase == "Missing" or (ending and stuck) else None,
        "Succeeded": claims["Succeeded"] if phase == "Missing" else _SUCCEEDED.get(phase, "Unknown"),
        "Terminated": None if not asked else "Unknown" if ending else claims["Terminated"] or "True or False",
    }
    if claims != expected:
        yield f"phase {phase} with {claims}, not {expected}"
