"""SubmitJob: from the request to a job that goes its natural way."""

from collections.abc import Mapping
from typing import Any

from awsbatch_sandbox.batch.build import build
from awsbatch_sandbox.batch.job_spec import SUBMITTED, job_spec_from
from awsbatch_sandbox.batch.jobs import Job
from awsbatch_sandbox.batch.replies import client_exception
from awsbatch_sandbox.batch.settings import Settings


def job_of(body: Mapping[str, Any], account: str, region: str, settings: Settings, now: int) -> Job:
    """The job of a checked request; RefusedError for what Batch refuses."""
    try:
        seed = job_spec_from(_shape(body, settings), region=region, account=account)
    except ValueError as wrong:
        raise client_exception(str(wrong)) from wrong
    return build(seed, now)


def _shape(body: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    overrides = body.get("containerOverrides") or {}
    shape: dict[str, Any] = {
        "status": SUBMITTED,
        "natural": True,
        "hidden_polls": settings.hide_after_submit,
        "name": body["jobName"],
        "queue": body["jobQueue"],
        "definition": body["jobDefinition"],
        "depends_on": [one["jobId"] for one in body.get("dependsOn") or () if "jobId" in one],
        "array_size": (body.get("arrayProperties") or {}).get("size"),
        "num_nodes": (body.get("nodeOverrides") or {}).get("numNodes"),
        "command": overrides.get("command"),
        "environment": {one["name"]: one.get("value", "") for one in overrides.get("environment") or ()},
        "parameters": body.get("parameters"),
        "tags": body.get("tags"),
        "retry_attempts": (body.get("retryStrategy") or {}).get("attempts"),
        "timeout": (body.get("timeout") or {}).get("attemptDurationSeconds"),
        "share_identifier": body.get("shareIdentifier"),
        "scheduling_priority": body.get("schedulingPriorityOverride"),
    }
    if "eksPropertiesOverride" in body:
        shape["kind"] = "eks"
    elif "ecsPropertiesOverride" in body:
        shape["kind"] = "ecs-multi"
    return shape
