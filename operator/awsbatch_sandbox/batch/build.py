"""Builds a job in its first state from its JobSpec, with children and nodes."""

import uuid

from awsbatch_sandbox.batch.job_spec import FAILED, FINISHED, ON_COMPUTE, RUNNING, STATUSES, SUCCEEDED, JobSpec
from awsbatch_sandbox.batch.jobs import CHILD_FAILED, ENDED_BY_ITSELF, Attempt, Job, array_status, close_attempt


def build(seed: JobSpec, now_ms: int) -> Job:
    """The job of a spec with its children or nodes, in the requested state."""
    job = _one(seed, seed.job_id, seed.status, now_ms)
    if seed.kind == "array":
        statuses = seed.children or [seed.status] * seed.size
        job.children = [_child(job, ":", index, status, now_ms) for index, status in enumerate(statuses)]
        job.summary = {status: statuses.count(status) for status in STATUSES}
        job.summary_at = now_ms
        job.status = array_status(job)
        _plain_parent(job)
    elif seed.kind == "multinode":
        job.children = [_child(job, "#", index, seed.status, now_ms) for index in range(seed.num_nodes or 0)]
    return job


def _child(parent: Job, mark: str, index: int, status: str, now_ms: int) -> Job:
    child = _one(parent.seed, f"{parent.job_id}{mark}{index}", status, now_ms)
    child.index = index
    child.parent = parent
    child.tags = {}
    return child


def _one(seed: JobSpec, job_id: str, status: str, now_ms: int) -> Job:
    created_at = seed.created_at or seed.started_at or seed.stopped_at or now_ms
    job = Job(seed=seed, job_id=job_id, status=status, created_at=created_at, tags=dict(seed.tags))
    job.status_reason = seed.status_reason
    job.is_terminated = seed.is_terminated
    job.is_cancelled = seed.is_cancelled
    job.end_reason = seed.status_reason if job.flagged else None
    job.ignore_terminates = seed.ignore_terminates
    job.hidden_polls = seed.hidden_polls
    job.container_reason = seed.container_reason
    job.attempts = [_past_attempt(job, now_ms) for _ in range(seed.past_attempts)]
    if status in ON_COMPUTE or status in FINISHED:
        job.task_id = uuid.uuid4().hex
    if _has_run(seed, status):
        job.started_at = seed.started_at or now_ms
    if status in FINISHED:
        _seed_end(job, now_ms)
    return job


def _past_attempt(job: Job, now_ms: int) -> Attempt:
    at = min(job.created_at, now_ms)
    return Attempt(at, at, 1, None, ENDED_BY_ITSELF, uuid.uuid4().hex)


def _seed_end(job: Job, now_ms: int) -> None:
    job.stopped_at = job.seed.stopped_at or now_ms
    job.status_reason = job.status_reason or ENDED_BY_ITSELF
    if job.started_at is not None:
        default = 0 if job.status == SUCCEEDED else 1
        job.exit_code = default if job.seed.exit_code is None else job.seed.exit_code
        close_attempt(job, job.stopped_at)


def _has_run(seed: JobSpec, status: str) -> bool:
    """A finished job that was terminated has run only if the spec states it: most often it was still RUNNABLE."""
    if status in FINISHED:
        ended_early = (seed.is_terminated or seed.is_cancelled) and seed.exit_code is None
        return seed.started_at is not None or not ended_early
    return status == RUNNING or (seed.started_at is not None and seed.kind != "array")


def _plain_parent(job: Job) -> None:
    """An array parent runs nothing itself: no start, no attempt, no exit code."""
    job.attempts = []
    job.started_at = None
    job.exit_code = None
    job.stopped_at = (job.seed.stopped_at or job.summary_at) if job.finished else None
    if job.seed.status_reason is None:
        job.status_reason = CHILD_FAILED if job.status == FAILED else None
