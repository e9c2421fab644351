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
    "JOB_NAME": lambda job, value: _like(job.seed.name.lower(), value.lower()),
    "JOB_DEFINITION": lambda job, value: _is_definition(definition_arn(job.seed), value),
    "BEFORE_CREATED_AT": lambda job, value: job.created_at < _epoch_ms(value),
    "AFTER_CREATED_AT": lambda job, value: job.created_at > _epoch_ms(value),
    "SHARE_IDENTIFIER": lambda job, value: _like((job.seed.share_identifier or "").lower(), value.lower()),
}


def _like(text: str, wanted: str) -> bool:
    """A trailing asterisk matches any rest."""
    return text.startswith(wanted[:-1]) if wanted.endswith("*") else text == wanted


def _is_definition(arn: str, wanted: str) -> bool:
    """`wanted`: an ARN, a name and revision, or a name, which matches any revision; case-sensitive."""
    definition = arn.rpartition("/")[2]
    return wanted in (arn, definition) or _like(definition.partition(":")[0], wanted)


def _epoch_ms(value: str) -> int:
    if not value.isdecimal():
        raise client_exception(f"A filter by time needs milliseconds since 1970, got {value}")
    return int(value)


def list_jobs(jobs: Sequence[Job], body: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a checked request; `jobs` are those of the caller. RefusedError for a filter that Batch refuses."""
    scope = next(key for key in ("jobQueue", "arrayJobId", "multiNodeJobId") if body.get(key))
    # "The filter doesn't apply to child jobs": those are listed by status only.
    filters = _checked(body.get("filters") or []) if scope == "jobQueue" else []
    chosen = [job for job in jobs if _in_scope(job, scope, body[scope])]
    if filters:
        matches = FILTERS[filters[0]["name"]]
        chosen = [job for job in chosen if any(matches(job, value) for value in filters[0]["values"])]
    if not filters or filters[0]["name"] == "SHARE_IDENTIFIER":
        status = body.get("jobStatus") or RUNNING
        chosen = [job for job in chosen if job.status == status]
    chosen.sort(key=lambda job: job.created_at, reverse=True)
    return _page(chosen, body, PAGE_BY_FILTER if filters else PAGE_BY_STATUS)


def _in_scope(job: Job, scope: str, wanted: str) -> bool:
    if scope == "jobQueue":
        arn = queue_arn(job.seed)
        return job.parent is None and wanted in (arn, arn.rpartition("/")[2])
    return job.parent is not None and job.parent.job_id == wanted


def _checked(filters: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    if not filters:
        return filters
    if len(filters) > 1 or filters[0].get("name") not in FILTERS:
        raise client_exception(f"Exactly one filter of {', '.join(FILTERS)} is supported")
    name, values = filters[0]["name"], filters[0].get("values")
    if not values or not all(isinstance(value, str) for value in values):
        raise client_exception(f"The filter {name} needs values, all of them strings")
    if name.endswith("_CREATED_AT"):
        for value in values:
            _epoch_ms(value)
    return filters


def _page(jobs: Sequence[Job], body: Mapping[str, Any], most: int) -> dict[str, Any]:
    first = int(body.get("nextToken") or 0)
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
