"""Rows of the decision table: Batch does not know the job, or has not been heard."""

from awsbatch_operator.domain import cadence as waits
from awsbatch_operator.domain import conditions as say
from awsbatch_operator.domain.cadence import Cadence
from awsbatch_operator.domain.conditions import Claim
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Job, Millis
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import Phase
from awsbatch_operator.domain.verdict import Record, Verdict, latched


def absent(record: Record, seen: Observation, now: Millis, cadence: Cadence) -> Verdict:
    before, looked_at = record.status, seen.looked_at or now
    last = seen.job or before.job
    age = looked_at - (seen.absent_since if seen.absent_since is not None else looked_at)
    believed = seen.absences >= waits.LOOKS_TO_BELIEVE_ABSENCE and age >= cadence.absence_grace
    if believed or before.phase is Phase.MISSING:
        stalled = say.not_found(seen=last is not None)
        return Verdict(
            phase=Phase.MISSING,
            job=last,
            termination=latched(record, seen),
            ready=Claim(say.FALSE, stalled.reason, stalled.message),
            stalled=stalled,
            terminated=say.unterminated(seen=last is not None) if _wanted(record, seen) else None,
            look_at=looked_at + waits.MISSING,
        )
    look_at = looked_at + cadence.absence(age)
    if last is None:
        return Verdict(
            phase=Phase.UNKNOWN,
            job=None,
            ready=say.NOT_OBSERVED,
            reconciling=say.AWAITING,
            terminated=say.REQUESTED if record.asked else None,
            look_at=look_at,
        )
    return _kept(record, last, look_at)


def _wanted(record: Record, seen: Observation) -> bool:
    return record.asked or latched(record, seen) is not None


def unanswered(record: Record, seen: Observation, fault: Fault) -> Verdict:
    """The look that had to come first has failed: show why, keep all else."""
    look_at = seen.failed_at + waits.look_backoff(fault.fate, seen.faults)
    if record.status.job is not None or record.status.phase is Phase.MISSING:
        return _kept(record, record.status.job, look_at)
    if fault.fate is Fate.REJECTED:
        stalled = Claim(say.TRUE, "JobNotFound", f"{fault.message} (check spec.jobId)")
        return Verdict(
            phase=Phase.MISSING,
            job=None,
            ready=Claim(say.FALSE, stalled.reason, stalled.message),
            stalled=stalled,
            terminated=say.unterminated(seen=False) if record.asked else None,
            look_at=look_at,
        )
    return Verdict(
        phase=Phase.UNKNOWN,
        job=None,
        ready=say.NOT_OBSERVED,
        terminated=say.REQUESTED if record.asked else None,
        look_at=look_at,
    )


def _kept(record: Record, job: Job | None, look_at: Millis) -> Verdict:
    """What the status said before, for as long as nothing better is known."""
    before = record.status

    def claim(type_: str) -> Claim | None:
        condition = before.condition(type_)
        return Claim(condition.status, condition.reason, condition.message) if condition else None

    return Verdict(
        phase=before.phase or Phase.UNKNOWN,
        job=job,
        termination=before.termination,
        ready=claim(say.READY) or say.NOT_OBSERVED,
        reconciling=_own(claim(say.RECONCILING)),
        stalled=_own(claim(say.STALLED)),
        terminated=claim(say.TERMINATED) or (say.REQUESTED if record.asked else None),
        succeeded=claim(say.SUCCEEDED),
        look_at=look_at,
    )


def _own(claim: Claim | None) -> Claim | None:
    """The claim, unless it tells of a fault: that one is laid over again only if it still holds."""
    faults = {fate.value for fate in Fate}
    return None if claim is None or claim.reason in faults else claim
