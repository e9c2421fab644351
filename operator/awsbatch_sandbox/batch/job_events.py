"""Events of AWS Batch in EventBridge: a job changed its status, or blocks its queue."""

from collections.abc import Callable
from typing import Final

from awsbatch_sandbox.batch.job_spec import RUNNABLE
from awsbatch_sandbox.batch.jobs import Job
from awsbatch_sandbox.batch.wire import job_detail, queue_arn
from awsbatch_sandbox.events.bus import JOB_QUEUE_BLOCKED, JOB_STATE_CHANGE, Event, EventBus

BLOCKED: Final = ("MISCONFIGURATION:", "CAPACITY:")
"""Prefix of the statusReason of a RUNNABLE job that blocks its queue."""


def publisher(bus: EventBus) -> Callable[[Job, str, int], None]:
    """A function that publishes what has happened to a job. It costs nothing while the bus has no rules."""

    def publish(job: Job, was: str, at: int) -> None:
        if not bus.rules:
            return
        if job.status != was:
            bus.publish(_event(job, JOB_STATE_CHANGE, at, job.arn))
        if job.status == RUNNABLE and (job.status_reason or "").startswith(BLOCKED):
            bus.publish(_event(job, JOB_QUEUE_BLOCKED, at, job.arn, queue_arn(job.seed)))

    return publish


def _event(job: Job, detail_type: str, at: int, *resources: str) -> Event:
    ids = {"jobId": job.job_id, "jobQueue": queue_arn(job.seed), "status": job.status}
    place = job.account_region
    return Event("aws.batch", detail_type, place.account, place.region, at, resources, ids, lambda: job_detail(job))
