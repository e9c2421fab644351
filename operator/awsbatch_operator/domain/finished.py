"""Rows of the decision table: the job has ended."""

from dataclasses import replace

from awsbatch_operator.domain import conditions as say
from awsbatch_operator.domain.conditions import Claim
from awsbatch_operator.domain.job import Job, Millis
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import Phase, Termination
from awsbatch_operator.domain.verdict import Record, Verdict, ended_before, latched


def finished(record: Record, seen: Observation, job: Job, now: Millis) -> Verdict:
    termination = latched(record, seen) or _adopted(record, job)
    if termination is not None and termination.completed_at is None:
        termination = replace(termination, completed_at=job.stopped_at or now)
    ours = termination is not None and job.status_reason == termination.reason
    ended_by_request = job.status == "FAILED" and (job.flagged or ours)
    failed = Phase.TERMINATED if ended_by_request else Phase.FAILED
    fate = _fate(job, by_request=ended_by_request) if termination is not None else None
    if fate is None and record.asked:
        fate = say.ALREADY_FINISHED
    return Verdict(
        phase=Phase.SUCCEEDED if job.status == "SUCCEEDED" else failed,
        job=job,
        termination=termination,
        ready=_realised(fate),
        terminated=fate,
        succeeded=say.success(job, by_request=ended_by_request),
        look_at=None,
    )


def _adopted(record: Record, job: Job) -> Termination | None:
    """A request that an earlier process sent and did not live to write down: the job ended with exactly our reason."""
    if record.status.finished and record.status.termination is not None:
        return record.status.termination
    reason = record.spec.terminate
    if reason is None or job.status != "FAILED" or not job.flagged or job.status_reason != reason:
        return None
    return None if ended_before(record, job) else Termination(reason, requests=1)


def _fate(job: Job, *, by_request: bool) -> Claim:
    if by_request:
        return say.BY_REQUEST
    return say.SUCCEEDED_BEFORE if job.status == "SUCCEEDED" else say.FAILED_BEFORE


def _realised(fate: Claim | None) -> Claim:
    if fate is None:
        return say.OBSERVED
    return Claim(say.TRUE, "Terminated" if fate.status == say.TRUE else "AlreadyFinished", fate.message)
