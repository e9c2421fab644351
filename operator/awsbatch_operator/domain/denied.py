"""Rows of the decision table: the policy in force does not let the object show or end its job."""

from dataclasses import replace

from awsbatch_operator.domain import cadence as waits
from awsbatch_operator.domain import conditions as say
from awsbatch_operator.domain.access import Refusal
from awsbatch_operator.domain.conditions import Claim
from awsbatch_operator.domain.job import Millis
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import Phase, Status, Termination, condition, with_conditions
from awsbatch_operator.domain.verdict import Record, Verdict


def refused(record: Record, refusal: Refusal, seen: Observation, now: Millis) -> Verdict:
    """Whatever the job is like. It is looked at now and then, as what was refused may be granted later."""
    looked_at = seen.looked_at if seen.looked_at is not None else now
    look_at = looked_at + waits.MISSING
    if looked_at < record.changed_at <= now:
        # No look has followed this edit yet, and whoever states something wants to know now.
        look_at = now
    if seen.fault is not None:
        look_at = seen.failed_at + waits.look_backoff(seen.fault.fate, seen.faults)
    return denied(record, refusal, look_at) if refusal.hides else _left(record, refusal, look_at)


def denied(record: Record, refusal: Refusal, look_at: Millis) -> Verdict:
    """Nothing of the job is shown, and of its termination no more than that it was accepted."""
    claim = _claim(refusal)
    termination = accepted_of(record.status)
    fate = say.FATE_NOT_SHOWN if termination is not None else claim
    return Verdict(
        phase=Phase.DENIED,
        job=None,
        termination=termination,
        ready=claim,
        stalled=replace(claim, status=say.TRUE),
        terminated=replace(fate, reason=claim.reason) if record.asked or termination is not None else None,
        look_at=look_at,
    )


def observed_only(verdict: Verdict, refusal: Refusal) -> Verdict:
    """Of a living job that may be looked at, and whose stated termination may not be sent."""
    claim = _claim(refusal)
    return replace(
        verdict,
        ready=claim,
        reconciling=None,
        stalled=replace(claim, status=say.TRUE),
        terminated=claim,
        terminate=None,
    )


def withheld(record: Record, now: Millis) -> Status:
    """The status of an object whose job was admitted by what is in force no more, until a look shows how it stands."""
    since = now - now % waits.SECOND
    termination = accepted_of(record.status)
    claims = [(say.READY, say.NOT_OBSERVED), (say.RECONCILING, say.WITHHELD)]
    if record.asked or termination is not None:
        claims.append((say.TERMINATED, say.REQUESTED if termination is None else say.FATE_WITHHELD))
    wanted = (condition(type_, one.status, one.reason, one.message, since, record.generation) for type_, one in claims)
    return Status(
        observed_generation=record.status.observed_generation,
        phase=Phase.UNKNOWN,
        region=record.region,
        termination=termination,
        conditions=with_conditions(record.status.conditions, wanted),
        account_id=record.status.account_id,
    )


def accepted_of(status: Status) -> Termination | None:
    """The request that the status tells of, if Batch accepted it, without the moment at which the job ended."""
    own = status.termination
    return None if own is None or own.accepted_at is None else replace(own, completed_at=None)


def _left(record: Record, refusal: Refusal, look_at: Millis) -> Verdict:
    """What was shown stays, and is not followed any more."""
    claim, before = _claim(refusal), record.status
    said = {type_: before.condition(type_) for type_ in (say.TERMINATED, say.SUCCEEDED)}
    fates = {type_: Claim(one.status, one.reason, one.message) for type_, one in said.items() if one is not None}
    return Verdict(
        phase=before.phase or Phase.UNKNOWN,
        job=before.job,
        termination=before.termination,
        ready=claim,
        stalled=replace(claim, status=say.TRUE),
        terminated=fates.get(say.TERMINATED) if before.termination else claim if record.asked else None,
        succeeded=fates.get(say.SUCCEEDED),
        look_at=look_at,
    )


def _claim(refusal: Refusal) -> Claim:
    return Claim(say.FALSE, refusal.reason, refusal.message)
