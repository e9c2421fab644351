"""The decision: what an object states and what is known of its job, turned into what happens next.

`decide` is pure and level-triggered: it is asked again after every answer, edit and wake-up, and gives the same
for the same knowledge. The rows of the decision table stand in alive.py, finished.py and absent.py.
"""

from dataclasses import dataclass, replace

from awsbatch_operator.domain import cadence as waits
from awsbatch_operator.domain import conditions as say
from awsbatch_operator.domain.absent import absent, unanswered
from awsbatch_operator.domain.access import Mark, Refusal
from awsbatch_operator.domain.alive import alive
from awsbatch_operator.domain.cadence import Cadence
from awsbatch_operator.domain.conditions import Claim
from awsbatch_operator.domain.denied import refused
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.finished import finished
from awsbatch_operator.domain.job import Millis, account_of
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import Status, condition, with_conditions
from awsbatch_operator.domain.verdict import Allowed, Record, Verdict, retry_at

__all__ = ["Decision", "Record", "decide"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The status to show, the reason to send a TerminateJob with (None: no call), and when to look (None: never).

    `routine`: for as long as looks show the very same job and nothing else is heard, the decision stays as it is, and
    each look is followed by the next after so many milliseconds. None: every look is worth a decision.
    """

    status: Status
    terminate: str | None = None
    look_at: Millis | None = None
    routine: Millis | None = None


def decide(record: Record, seen: Observation, now: Millis, cadence: Cadence) -> Decision:
    """What happens to this object now. `now` in epoch milliseconds; nothing else is read from outside."""
    if isinstance(record.access, Refusal):
        verdict = refused(record, record.access, seen, now)
        return Decision(_status(record, verdict, seen, now), look_at=_in_sight(verdict.look_at, now, cadence))
    edited_late = _edited_late(record, seen, now)
    if edited_late or _unheard(record, seen):
        if seen.fault is None:
            return Decision(record.status, look_at=now)
        verdict = unanswered(record, seen, seen.fault)
    else:
        job = seen.job or (record.status.job if record.status.finished else None)
        if job is not None and job.finished:
            if seen.calling and record.asked:
                # The answer under way decides between AlreadyFinished and a race that was lost: wait for it.
                return Decision(record.status)
            verdict = finished(record, seen, job, now)
        elif job is None or seen.absences:
            verdict = absent(record, seen, now, cadence)
        else:
            verdict = alive(record, seen, job, now, cadence)
    verdict = _with_faults(record, verdict, seen, now)
    look_at = _in_sight(verdict.look_at, now, cadence)
    status = _status(record, verdict, seen, now)
    if edited_late:
        # Not answered yet: whoever comes next, in this process or after it, must still look.
        status = replace(status, observed_generation=record.status.observed_generation)
    return Decision(status, verdict.terminate, look_at, verdict.routine if seen.fault is None else None)


def _in_sight(look_at: Millis | None, now: Millis, cadence: Cadence) -> Millis | None:
    """A clock that was set back leaves times in the future: they must not blind the operator."""
    return None if look_at is None else min(look_at, now + cadence.longest)


def _unheard(record: Record, seen: Observation) -> bool:
    """Whether nothing was ever heard that could be decided on."""
    return seen.job is None and not seen.absences and not record.status.finished


def _edited_late(record: Record, seen: Observation, now: Millis) -> bool:
    """Whether the job has ended and the object has a new generation that no look has answered yet."""
    ended = record.status.finished if seen.job is None else seen.job.finished
    unseen = record.generation != record.status.observed_generation
    return ended and unseen and (seen.looked_at is None or seen.looked_at < record.changed_at <= now)


def _with_faults(record: Record, verdict: Verdict, seen: Observation, now: Millis) -> Verdict:
    """Why the latest call was not granted, laid over what is known: Stalled or Reconciling, and the next try."""
    look_at = verdict.look_at
    if seen.fault is not None and look_at is not None:
        look_at = seen.failed_at + waits.look_backoff(seen.fault.fate, seen.faults)
        retry = retry_at(record, seen, now)
        if _owed(record, verdict) and retry is not None:
            look_at = min(look_at, retry)
    refusal = seen.refusal if _owed(record, verdict) else None
    fault = refusal or (seen.fault if verdict.look_at is not None else None)
    if fault is None or (verdict.stalled is not None and fault.fate.passes):
        return replace(verdict, look_at=look_at)
    if refusal is None and _made_good_soon(record, verdict, seen):
        return replace(verdict, look_at=look_at)
    if fault is seen.fault and fault.fate is Fate.REJECTED and refusal is None:
        # An id that Batch took before cannot be malformed: treat the refusal as an outage of the answer.
        fault = Fault(Fate.UNAVAILABLE, fault.message, fault.code)
        if verdict.stalled is not None:
            return replace(verdict, look_at=look_at)
    if fault.fate.passes:
        return replace(verdict, look_at=look_at, reconciling=say.waiting(fault))
    stalled = say.stalled(fault)
    terminated = verdict.terminated
    if refusal is not None and refusal.fate is Fate.REJECTED:
        terminated = Claim(say.FALSE, stalled.reason, stalled.message)
    return replace(
        verdict,
        look_at=look_at,
        ready=Claim(say.FALSE, stalled.reason, stalled.message),
        reconciling=None,
        stalled=stalled,
        terminated=terminated,
    )


def _made_good_soon(record: Record, verdict: Verdict, seen: Observation) -> bool:
    """Whether a look that failed once leaves the status as true as it was: the next comes within a second.

    One throttled look is a hundred objects; to tell of it and take it back would be two hundred writes about nothing.
    Who waits for the first sight of a job, or for a termination to be accepted, is told at once, and what a status
    tells already (that of an earlier process, too) stays until a look has an answer.
    """
    waited_for = verdict.job is None or (record.asked and verdict.termination is None)
    shown = record.status.condition(say.RECONCILING)
    told = shown is not None and shown.reason in {fate.value for fate in Fate}
    passes = seen.fault is not None and seen.fault.fate.passes
    return passes and seen.faults == 1 and not waited_for and not told


def _owed(record: Record, verdict: Verdict) -> bool:
    """Whether this object still owes a TerminateJob to a living job, so that its refusal matters."""
    job = verdict.job
    if isinstance(record.access, Allowed) and record.access.ending is not None:
        return False
    return verdict.terminated is not None and job is not None and not job.finished and not job.flagged


def _status(record: Record, verdict: Verdict, seen: Observation, now: Millis) -> Status:
    ready = verdict.ready
    if verdict.stalled is not None:
        ready = Claim(say.FALSE, verdict.stalled.reason, verdict.stalled.message)
    claims = (
        (say.READY, ready),
        (say.RECONCILING, None if verdict.stalled is not None else verdict.reconciling),
        (say.STALLED, verdict.stalled),
        (say.TERMINATED, verdict.terminated),
        (say.SUCCEEDED, verdict.succeeded),
    )
    # Kubernetes keeps lastTransitionTime in whole seconds; anything finer would differ from what is read back.
    since = now - now % waits.SECOND
    wanted = (
        condition(type_, claim.status, claim.reason, claim.message, since, record.generation)
        for type_, claim in claims
        if claim is not None
    )
    return Status(
        observed_generation=record.generation,
        phase=verdict.phase,
        region=record.region,
        job=verdict.job,
        termination=verdict.termination,
        conditions=with_conditions(record.status.conditions, wanted),
        # Pinned by the first sight of the job. What a status told before is no sight.
        account_id=record.status.account_id or (account_of(verdict.job.arn) if verdict.job and seen.job else None),
        access=_mark(record, verdict),
    )


def _mark(record: Record, verdict: Verdict) -> Mark | None:
    if verdict.job is None:
        return None
    return record.status.access if isinstance(record.access, Refusal) else record.access.mark
