"""ListJobs: one queue, array or multi-node job; one state or one filter; newest first, in pages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from awsbatch_sandbox.batch.job_spec import RUNNING
from awsbatch_sandbox.batch.jobs import Job
from awsbatch_sandbox.batch.replies import client_exception
from awsbatch_sandbox.batch.wire import array_properties, definition_arn, queue_arn

PAGE_BY_STATUS: Final = 1000
PAGE_BY_FILTER: Final = 100

FILTERS: Final[dict[str, Callable[[Job, str], bool]]] = {
    "JOB_NAME": lambda job, value: _like(job.seed.name, value),
    "JOB_DEFINITION": lambda job, value: _like(definition_arn(job.seed).rpartition("/")[2], value),
    "BEFORE_CREATED_AT": lambda job, value: job.created_at < int(value),
    "AFTER_CREATED_AT": lambda job, value: job.created_at > int(value),
    "SHARE_IDENTIFIER": lambda job, value: _like(job.seed.share_identifier or "", value),
}


def _like(text: str, wanted: str) -> bool:
    """Case-insensitive; a trailing asterisk matches any rest."""
    text, wanted = text.lower(), wanted.lower()
    return text.startswith(wanted[:-1]) if wanted.endswith("*") else text == wanted


def list_jobs(jobs: Sequence[Job], body: Mapping[str, Any]) -> dict[str, Any]:
    """`jobs` are those of the caller; RefusedError for what Batch refuses."""
    scopes = [key for key in ("jobQueue", "arrayJobId", "multiNodeJobId") if body.get(key)]
    if len(scopes) != 1:
        raise client_exception("Exactly one of jobQueue, arrayJobId or multiNodeJobId must be given")
    filters = body.get("filters") or []
    chosen = [job for job in jobs if _in_scope(job, scopes[0], body[scopes[0]])]
    chosen = _filtered(chosen, filters) if filters else chosen
    if not filters or filters[0].get("name") == "SHARE_IDENTIFIER":
        status = body.get("jobStatus") or RUNNING
        chosen = [job for job in chosen if job.status == status]
    chosen.sort(key=lambda job: job.created_at, reverse=True)
    return _page(chosen, body, PAGE_BY_FILTER if filters else PAGE_BY_STATUS)


def _in_scope(job: Job, scope: str, wanted: str) -> bool:
    if scope == "jobQueue":
        arn = queue_arn(job.seed)
        return job.parent is None and wanted in (arn, arn.rpartition("/")[2])
    return job.parent is not None and job.parent.job_id == wanted


def _filtered(jobs: Sequence[Job], filters: Sequence[Mapping[str, Any]]) -> list[Job]:
    name = filters[0].get("name")
    if len(filters) > 1 or name not in FILTERS:
        raise client_exception(f"Exactly one filter of {', '.join(FILTERS)} is supported")
    values = filters[0].get("values") or []
    return [job for job in jobs if any(FILTERS[name](job, value) for value in values)]


def _page(jobs: Sequence[Job], body: Mapping[str, Any], most: int) -> dict[str, Any]:
    token = body.get("nextToken") or "0"
    if not token.isdecimal():
        raise client_exception("Invalid nextToken")
    first = int(token)
    end = first + min(body.get("maxResults") or most, most)
    page: dict[str, Any] = {"jobSummaryList": [job_summary(job) for job in jobs[first:end]]}
    if end < len(jobs):
        page["nextToken"] = str(end)
    return page


def job_summary(job: Job) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "jobArn": job.arn,
        "jobId": job.job_id,
        "jobName": job.seed.name,
        "createdAt": job.created_at,
        "status": job.status,
        "statusReason": job.status_reason,
        "startedAt": job.started_at,
        "stoppedAt": job.stopped_at,
        "shareIdentifier": job.seed.share_identifier,
        "jobDefinition": definition_arn(job.seed),
        "isCancelled": job.is_cancelled or None,
        "isTerminated": job.is_terminated or None,
    }
    ended = {"exitCode": job.exit_code, "reason": job.container_reason}
    keys["container"] = {key: value for key, value in ended.items() if value is not None}
    if job.seed.kind == "array":
        keys["arrayProperties"] = array_properties(job)
    if job.is_multinode:
        keys["nodeProperties"] = {"numNodes": job.seed.num_nodes}
    elif job.seed.kind == "multinode":
        keys["nodeProperties"] = {"nodeIndex": job.index, "isMainNode": job.index == job.seed.main_node}
    return {key: value for key, value in keys.items() if value is not None}
