"""A naive operator with Kopf, for comparison: a timer for each object, a call for each poll.

Run by `kopf run`. It mirrors the main fields, calls TerminateJob when `spec.terminate` appears, and is otherwise plain:
Kopf's own retries, progress and finalizers, boto3 in Kopf's threads.
"""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
import kopf

RESOURCE = ("awsbatch.dev", "v1alpha1", "batchjobs")
POLL_EVERY = float(os.environ.get("POLL_EVERY", "10"))
"""Seconds."""

PHASES = {
    "SUBMITTED": "Pending",
    "PENDING": "Pending",
    "RUNNABLE": "Pending",
    "STARTING": "Pending",
    "RUNNING": "Running",
    "SUCCEEDED": "Succeeded",
    "FAILED": "Failed",
}

batch = boto3.client("batch")


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    # One log line for each tick of each timer is too much.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    settings.persistence.finalizer = "awsbatch.dev/naive"


@kopf.timer(*RESOURCE, interval=POLL_EVERY)
def poll(spec: kopf.Spec, status: kopf.Status, patch: kopf.Patch, **_: Any) -> None:
    """Mirror the job; only what changed is written."""
    jobs = batch.describe_jobs(jobs=[spec["jobId"]])["jobs"]
    shown = mirrored(jobs[0]) if jobs else {"phase": "Missing"}
    for field, value in shown.items():
        if status.get(field) != value:
            patch.status[field] = value


@kopf.on.create(*RESOURCE, field="spec.terminate")
@kopf.on.update(*RESOURCE, field="spec.terminate")
def terminate(spec: kopf.Spec, new: Mapping[str, Any] | None, **_: Any) -> None:
    if new:
        batch.terminate_job(jobId=spec["jobId"], reason=new["reason"])


def mirrored(job: Mapping[str, Any]) -> dict[str, Any]:
    """`.status` of a job as DescribeJobs shows it."""
    container = job.get("container", {})
    ended_by_request = job["status"] == "FAILED" and (job.get("isTerminated") or job.get("isCancelled"))
    found = {
        "phase": "Terminated" if ended_by_request else PHASES[job["status"]],
        "jobStatus": job["status"],
        "statusReason": job.get("statusReason"),
        "isTerminated": job.get("isTerminated", False),
        "isCancelled": job.get("isCancelled", False),
        "jobName": job["jobName"],
        "jobArn": job["jobArn"],
        "jobQueue": job["jobQueue"],
        "jobDefinition": job["jobDefinition"],
        "createdAt": moment(job.get("createdAt")),
        "startedAt": moment(job.get("startedAt")),
        "stoppedAt": moment(job.get("stoppedAt")),
        "exitCode": container.get("exitCode"),
        "logStreamName": container.get("logStreamName"),
        "attempts": len(job.get("attempts", [])),
    }
    return {field: value for field, value in found.items() if value is not None}


def moment(millis: int | None) -> str | None:
    if millis is None:
        return None
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
