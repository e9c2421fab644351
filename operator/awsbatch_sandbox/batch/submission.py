"""SubmitJob: from the request to a job that goes its natural way."""

import re
from collections.abc import Mapping
from typing import Any

from awsbatch_sandbox.batch.build import build
from awsbatch_sandbox.batch.job_spec import SUBMITTED, job_spec_from
from awsbatch_sandbox.batch.jobs import Job
from awsbatch_sandbox.batch.replies import client_exception
from awsbatch_sandbox.batch.settings import Settings

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,127}")


def job_of(body: Mapping[str, Any], account: str, region: str, settings: Settings, now: int) -> Job:
    """The submitted job; RefusedError for what Batch refuses."""
    for key in ("jobName", "jobQueue", "jobDefinition"):
        if not isinstance(body.get(key), str) or not body[key]:
            raise client_exception(f"{key} must not be null or empty")
    if not _NAME.fullmatch(body["jobName"]):
        raise client_exception("Job name should match valid pattern")
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
        "hidden_looks": settings.hide_after_submit,
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
