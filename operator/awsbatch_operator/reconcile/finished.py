"""Rows of the decision table: the job has ended."""

from awsbatch_operator.api import conditions
from awsbatch_operator.api.batchjob import Cause, Phase, Termination
from awsbatch_operator.api.conditions import ConditionValue, Reason
from awsbatch_operator.api.job import Job
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Outcome, Record, effective_termination, ended_before, of_request


def finished(record: Record, state: JobState, job: Job, now: Millis) -> Outcome:
    termination = effective_termination(record, state) or _inferred(record, job)
    if termination is not None and termination.completed_at is None:
        termination = termination.replace(completed_at=job.stopped_at or now)
    ours = termination is not None and job.status_reason == termination.reason
    by_request = job.status == "FAILED" and (job.flagged or ours)
    failed = Phase.TERMINATED if by_request else Phase.FAILED
    terminated = None
    if termination is not None:
        terminated = of_request(record, termination, _terminated(job, by_request=by_request))
    if terminated is None and record.termination_wanted:
        terminated = conditions.ENDED_BY_UNKNOWN if by_request else conditions.ALREADY_FINISHED
    return Outcome(
        phase=Phase.SUCCEEDED if job.status == "SUCCEEDED" else failed,
        job=job,
        termination=termination,
        ready=_ready(terminated),
        terminated=terminated,
        succeeded=conditions.success(job, by_request=by_request),
        next_poll_at=None,
    )


def _inferred(record: Record, job: Job) -> Termination | None:
    """A request that an earlier process sent and could not record: the job ended with exactly a stated reason."""
    if record.status.finished and record.status.termination is not None:
        return record.status.termination
    if job.status != "FAILED" or not job.flagged or job.status_reason is None or ended_before(record, job):
        return None
    cause = next((cause for cause in Cause if record.spec.reason(cause) == job.status_reason), None)
    return None if cause is None else Termination(job.status_reason, requests=1, cause=cause)


def _terminated(job: Job, *, by_request: bool) -> ConditionValue:
    if by_request:
        return conditions.TERMINATED_BY_REQUEST
    return conditions.SUCCEEDED_BEFORE if job.status == "SUCCEEDED" else conditions.FAILED_BEFORE


def _ready(terminated: ConditionValue | None) -> ConditionValue:
    if terminated is None:
        return conditions.OBSERVED
    reason = Reason.TERMINATED if terminated.status == conditions.TRUE else Reason.ALREADY_FINISHED
    return ConditionValue(conditions.TRUE, reason, terminated.message)
