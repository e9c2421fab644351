"""Rows of the decision table: Batch does not know the job, or has not been heard."""

from awsbatch_operator.domain import cadence as waits
from awsbatch_operator.domain import conditions as say
from awsbatch_operator.domain.cadence import Cadence
from awsbatch_operator.domain.conditions import Claim
from awsbatch_operator.domain.denied import denied
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Job, Millis
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import FINAL_PHASES, Phase
from awsbatch_operator.domain.verdict import Record, Verdict, latched


def absent(record: Record, seen: Observation, now: Millis, cadence: Cadence) -> Verdict:
    before, looked_at = record.status, seen.looked_at or now
    last = seen.job or before.job
    age = looked_at - (seen.absent_since if seen.absent_since is not None else looked_at)
    believed = seen.absences >= waits.LOOKS_TO_BELIEVE_ABSENCE and age >= cadence.absence_grace
    missing = believed or before.phase is (Phase.MISSING if record.absence is None else Phase.DENIED)
    look_at = looked_at + (waits.MISSING if missing else cadence.absence(age))
    if looked_at < record.changed_at <= now:
        # No look has followed this edit yet, and whoever states something wants to know now.
        look_at = now
    if missing and record.absence is not None:
        return denied(record, record.absence, look_at)
    if missing:
        return _missing(record, seen, say.not_found(seen=last is not None), last, look_at)
    if last is None:
        return _unknown(record, seen, look_at, say.AWAITING)
    return _kept(record, seen, last, look_at)


def unanswered(record: Record, seen: Observation, fault: Fault) -> Verdict:
    """The look that had to come first has failed: show why, keep all else."""
    look_at, job = seen.failed_at + waits.look_backoff(fault.fate, seen.faults), record.status.job
    if job is None and fault.fate is Fate.REJECTED:
        malformed = Claim(say.TRUE, "JobNotFound", f"{fault.message} (check spec.jobId)")
        return _missing(record, seen, malformed, None, look_at)
    if record.absence is not None and record.status.phase is Phase.DENIED:
        return denied(record, record.absence, look_at)
    if record.status.phase is Phase.MISSING:
        return _missing(record, seen, say.not_found(seen=job is not None), job, look_at)
    if job is None:
        return _unknown(record, seen, look_at)
    return _kept(record, seen, job, look_at)


def _missing(record: Record, seen: Observation, stalled: Claim, last: Job | None, look_at: Millis) -> Verdict:
    return Verdict(
        phase=Phase.MISSING,
        job=last,
        termination=latched(record, seen),
        ready=Claim(say.FALSE, stalled.reason, stalled.message),
        stalled=stalled,
        terminated=say.unterminated(seen=last is not None) if _wanted(record, seen) else None,
        look_at=look_at,
    )


def _unknown(record: Record, seen: Observation, look_at: Millis, reconciling: Claim | None = None) -> Verdict:
    return Verdict(
        phase=Phase.UNKNOWN,
        job=None,
        termination=latched(record, seen),
        ready=say.NOT_OBSERVED,
        reconciling=reconciling,
        terminated=_fate_so_far(record, seen),
        look_at=look_at,
    )


def _kept(record: Record, seen: Observation, job: Job, look_at: Millis) -> Verdict:
    """What the status said before, for as long as nothing better is known."""
    before, wanted = record.status, _wanted(record, seen)
    scribbled = before.phase in FINAL_PHASES and not before.finished
    alive = say.NOT_READY_TERMINATING if wanted else say.OBSERVED
    termination = latched(record, seen) or before.termination
    said = _own(record, say.TERMINATED) if termination is not None else None
    at_work = None
    if wanted and not job.finished:
        at_work = _own(record, say.RECONCILING) or (say.OUT_OF_SIGHT if termination is None else say.FOLLOWING)
    return Verdict(
        phase=Phase.UNKNOWN if scribbled else before.phase or Phase.UNKNOWN,
        job=job,
        termination=termination,
        ready=(_own(record, say.READY) or say.OBSERVED) if job.finished else alive,
        reconciling=at_work,
        stalled=_own(record, say.STALLED),
        terminated=_fate_so_far(record, seen) or said,
        succeeded=_own(record, say.SUCCEEDED),
        look_at=look_at,
    )


def _wanted(record: Record, seen: Observation) -> bool:
    return record.asked or latched(record, seen) is not None


def _fate_so_far(record: Record, seen: Observation) -> Claim | None:
    """Of the request, when nothing new is known of the job."""
    if not _wanted(record, seen):
        return None
    said = _own(record, say.TERMINATED)
    if said is not None and said.reason != say.REQUESTED.reason:
        return said
    return say.REQUESTED if latched(record, seen) is None else say.IN_PROGRESS


def _own(record: Record, type_: str) -> Claim | None:
    """What this condition said, unless it told of a fault: that one is laid over again only if it still holds."""
    said = record.status.condition(type_)
    if said is None or said.reason in {fate.value for fate in Fate}:
        return None
    return Claim(said.status, said.reason, said.message)
