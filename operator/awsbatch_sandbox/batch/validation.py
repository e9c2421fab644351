"""Checks of SubmitJob, ListJobs and tags: the limits that AWS documents. RefusedError, a ClientException, for a breach.

Sources: the documentation in botocore's model `batch/2016-08-10`; the words of an unknown queue and of a retry strategy
without attempts as reports show them (base2genomics/batchit#13, apache/airflow#35789).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from awsbatch_sandbox.batch.job_spec import ARRAY_SIZES, STATUSES
from awsbatch_sandbox.batch.replies import RefusedError, client_exception

JSON = Mapping[str, Any]
MAX_TAGS: Final = 50
_MAX_TAG_KEY: Final = 128
_MAX_TAG_VALUE: Final = 256
_MAX_DEPENDENCIES: Final = 20
_MAX_EVALUATIONS: Final = 5
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,127}")
_DEFINITION: Final = re.compile(
    r"(arn:[a-z-]+:batch:[a-z0-9-]+:[0-9]{12}:job-definition/)?[a-zA-Z0-9_-]{1,128}(:[1-9][0-9]*)?"
)


def unknown_queue(queue: str) -> RefusedError:
    return client_exception(f"JobQueue {queue} not found.")


def check_submission(body: JSON) -> None:
    """Check a SubmitJob, except whether its queue exists."""
    for key in ("jobName", "jobQueue", "jobDefinition"):
        if not isinstance(body.get(key), str) or not body[key]:
            raise client_exception(f"{key} must not be null or empty")
    if not _NAME.fullmatch(body["jobName"]):
        raise client_exception("Job name should match valid pattern")
    if not _DEFINITION.fullmatch(body["jobDefinition"]):
        form = "name, name:revision or the ARN of a job definition"
        raise client_exception(f"jobDefinition must be {form}, got {body['jobDefinition']}")
    _check_number(body, "arrayProperties.size", ARRAY_SIZES.start, ARRAY_SIZES.stop - 1)
    _check_number(body, "timeout.attemptDurationSeconds", 60, None)
    _check_number(body, "schedulingPriorityOverride", 0, 9999)
    _check_retries(body)
    check_tags(body.get("tags"))
    if len(body.get("dependsOn") or ()) > _MAX_DEPENDENCIES:
        raise client_exception(f"dependsOn must have at most {_MAX_DEPENDENCIES} jobs")
    for variable in (body.get("containerOverrides") or {}).get("environment") or ():
        if str(variable.get("name", "")).startswith("AWS_BATCH"):
            raise client_exception(f"Environment variables cannot start with AWS_BATCH, got {variable['name']}")


def check_listing(body: JSON) -> None:
    """Check a ListJobs, except whether its queue exists."""
    if len([key for key in ("jobQueue", "arrayJobId", "multiNodeJobId") if body.get(key)]) != 1:
        raise client_exception("Exactly one of jobQueue, arrayJobId or multiNodeJobId must be given")
    if body.get("jobStatus") is not None and body["jobStatus"] not in STATUSES:
        raise client_exception(f"jobStatus must be one of {', '.join(STATUSES)}, got {body['jobStatus']}")
    _check_number(body, "maxResults", 1, None)


def check_tags(tags: Any) -> None:
    """Check the tags of a request; None for no tags."""
    if tags is None:
        return
    if not isinstance(tags, dict) or not 1 <= len(tags) <= MAX_TAGS:
        raise client_exception(f"tags must be a map of 1 to {MAX_TAGS} tags")
    for key, value in tags.items():
        if not 1 <= len(key) <= _MAX_TAG_KEY or key.lower().startswith("aws:"):
            raise client_exception(
                f"A tag key must have 1 to {_MAX_TAG_KEY} characters and not start with aws:, got {key}"
            )
        if not isinstance(value, str) or len(value) > _MAX_TAG_VALUE:
            raise client_exception(f"The value of tag {key} must have at most {_MAX_TAG_VALUE} characters")


def _check_retries(body: JSON) -> None:
    strategy = body.get("retryStrategy") or {}
    _check_number(body, "retryStrategy.attempts", 1, 10)
    evaluations = strategy.get("evaluateOnExit") or ()
    if evaluations and strategy.get("attempts") is None:
        raise client_exception("RetryAttempts must be provided with retry strategy")
    if len(evaluations) > _MAX_EVALUATIONS:
        raise client_exception(f"retryStrategy.evaluateOnExit must have at most {_MAX_EVALUATIONS} entries")


def _check_number(body: JSON, path: str, least: int, most: int | None) -> None:
    """Check the whole number at that path, if it is there."""
    value: Any = body
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if value is None:
        return
    allowed = f"at least {least}" if most is None else f"between {least} and {most}"
    if type(value) is not int or value < least or (most is not None and value > most):
        raise client_exception(f"{path} must be {allowed}, got {value}")
