"""Turns answers of DescribeJobs and TerminateJobs into results. Nothing raises, whatever a body contains."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec import DecodeError
from msgspec.json import Decoder

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import Accepted, DescribedJob, DescribeResult
from awsbatch_operator.api.job import ACTIVE_CHILDREN, FINISHED, NOT_FOUND, Array, Job, Node
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.aws.answers import (
    ArrayProperties,
    ContainerDetail,
    DescribeJobsAnswer,
    JobDetail,
    NodeDetails,
    NodeProperties,
    Task,
    TerminateJobsAnswer,
    TypedDescribeJobsAnswer,
)
from awsbatch_operator.aws.decoding import REPLACED, decode
from awsbatch_operator.aws.errors import classify_code
from awsbatch_operator.aws.values import MAX_TEXT, UNKNOWN, count, int64, is_foreign, moment, shared, text

MAX_STATUSES: Final = 32
"""Statuses of an array's children that are kept. Batch has seven; these go into each status of the parent."""

MAX_TAGS: Final = 200
"""Batch allows 50. More count as tags that can't be decoded: no policy with tag rules admits the job."""

_MAX_STATUS: Final = 64
_KNOWN: Final = frozenset({"SUBMITTED", "PENDING", *ACTIVE_CHILDREN, *FINISHED})

_DEFAULT_LOG_GROUP: Final = "/aws/batch/job"
"""Log group of jobs whose log configuration names none."""

NO_JOBS: Final = CallError(
    ErrorClass.UNAVAILABLE,
    "the DescribeJobs response has no list of jobs: its body is empty or truncated",
    "EmptyAnswer",
)
UNREADABLE: Final = CallError(
    ErrorClass.UNAVAILABLE,
    "the DescribeJobs response has an entry without a job id, which may be this job",
    "UnreadableAnswer",
)
FOREIGN: Final = CallError(
    ErrorClass.UNAVAILABLE,
    "the DescribeJobs response has a job of another account or region than requested",
    "ForeignAnswer",
)
_NO_LISTS: Final = CallError(
    ErrorClass.UNAVAILABLE, "the TerminateJobs response has no lists: its body is empty or truncated", "EmptyAnswer"
)
_NOT_MENTIONED: Final = CallError(
    ErrorClass.UNAVAILABLE, "the TerminateJobs response does not mention the job", "NotMentioned"
)


def parse_describe_jobs(
    body: bytes, job_ids: Sequence[str], region: str, account: str | None = None, asked_at: Millis | None = None
) -> Mapping[str, DescribeResult] | CallError:
    """Returns a result for each id, matched by id: DescribeJobs does not keep the order.

    `region` and `account` (None: any) are those of the request, `asked_at` its time by AWS's clock.
    """
    details = _details(body)
    if details is None:
        # An empty or cut body, or one of another kind, must never pass for "no such job".
        return NO_JOBS
    jobs: dict[str, DescribeResult] = {}
    unreadable = False
    for detail in details:
        if detail is None or detail.job_id is None or REPLACED in detail.job_id:
            unreadable = True
        else:
            job = job_of(detail)
            foreign = is_foreign(job.arn, region, account)
            jobs[detail.job_id] = FOREIGN if foreign else _described(detail, job, asked_at)
    missing = UNREADABLE if unreadable else NOT_FOUND
    return {job_id: jobs.get(job_id, missing) for job_id in job_ids}


def _details(body: bytes) -> Sequence[JobDetail | None] | None:
    """Returns the jobs of an answer, with None for each that is no JSON object; None if the body is no such answer."""
    try:
        # Nearly always everything fits: one pass over the body instead of two.
        return _TYPED_ANSWER.decode(body).jobs
    except (DecodeError, RecursionError):
        answer = decode(body, DescribeJobsAnswer)
    if answer is None or answer.jobs is None or not bytes(answer.error_type).startswith(b'"'):
        return None
    return [decode(raw, JobDetail) for raw in answer.jobs]


def _described(detail: JobDetail, job: Job, asked_at: Millis | None) -> DescribedJob:
    first_started_at = job.started_at
    for attempt in (*(detail.attempts or ()), *(detail.eks_attempts or ())):
        start = moment(attempt.started_at) if attempt is not None else None
        if start is not None and (first_started_at is None or start < first_started_at):
            first_started_at = start
    return DescribedJob(
        job,
        tags_of(detail),
        first_started_at=first_started_at,
        has_dependencies=bool(detail.depends_on),
        asked_at=asked_at,
    )


def parse_terminate_jobs(
    body: bytes, job_ids: Sequence[str], accepted: Accepted
) -> Mapping[str, Accepted | CallError] | CallError:
    """Returns the result for each id. The answer is a 200 even when some jobs failed: `errors` has those."""
    answer = decode(body, TerminateJobsAnswer)
    if answer is None or (answer.successful is None and answer.errors is None):
        return _NO_LISTS
    successful = answer.successful or ()
    results: dict[str, Accepted | CallError] = {
        job_id: accepted if job_id in successful else _NOT_MENTIONED for job_id in job_ids
    }
    for error in answer.errors or ():
        if error is not None and error.job in results:
            results[error.job] = classify_code(error.code or "", 0, error.message or "")
    return results


def tags_of(detail: JobDetail) -> Mapping[str, str] | None:
    """Returns a job's tags: {} without any, None if they can't be decoded."""
    return _shared_tags(bytes(detail.tags))


_TAGS: Final = Decoder(dict[str, str] | None)
_TYPED_ANSWER: Final = Decoder(TypedDescribeJobsAnswer)


@lru_cache(maxsize=4096)
def _shared_tags(raw: bytes) -> Mapping[str, str] | None:
    """Most jobs of a team have the same tags: decoded and kept once, with the texts that others have in common."""
    try:
        tags = _TAGS.decode(raw) or {}
    except (DecodeError, RecursionError):
        return None
    if len(tags) > MAX_TAGS or any(len(part) > MAX_TEXT for tag in tags.items() for part in tag):
        return None
    return {sys.intern(key): sys.intern(value) for key, value in tags.items()}


def job_of(detail: JobDetail) -> Job:
    """Returns the job without the fields that the operator does not keep."""
    status = shared(detail.status) or UNKNOWN
    last = _last_container(detail, finished=status in FINISHED, succeeded=status == "SUCCEEDED")
    return Job(
        status=status,
        status_reason=shared(detail.status_reason),
        is_terminated=detail.is_terminated is True,
        is_cancelled=detail.is_cancelled is True,
        name=text(detail.job_name),
        arn=text(detail.job_arn),
        queue=shared(detail.job_queue),
        definition=shared(detail.job_definition),
        created_at=moment(detail.created_at),
        started_at=moment(detail.started_at),
        stopped_at=moment(detail.stopped_at),
        exit_code=last.exit_code,
        container_reason=last.reason,
        log_stream_name=last.log_stream_name,
        log_group_name=_log_group(last),
        attempts=_attempts(detail),
        array=_array(detail.array_properties),
        node=_node(detail.node_properties, detail.node_details),
    )


def _attempts(detail: JobDetail) -> int | None:
    if detail.attempts is None and detail.eks_attempts is None:
        return None
    return max(len(detail.attempts or ()), len(detail.eks_attempts or ()))


class _Container(NamedTuple):
    """The exit of one container and its log. `log_group_name`: empty if its logs do not go to CloudWatch."""

    exit_code: int | None = None
    reason: str | None = None
    log_stream_name: str | None = None
    log_group_name: str | None = None

    def or_else(self, other: "_Container") -> "_Container":
        return _Container(
            other.exit_code if self.exit_code is None else self.exit_code,
            self.reason or other.reason,
            self.log_stream_name or other.log_stream_name,
            other.log_group_name if self.log_group_name is None else self.log_group_name,
        )


_NO_CONTAINER: Final = _Container()


def _last_container(detail: JobDetail, *, finished: bool, succeeded: bool) -> _Container:
    """Returns the last attempt's container; each platform of Batch has it in another field.

    For a live job, only the first field with a value counts: `attempts` has earlier attempts, whose exit codes must
    not be combined with the log of the current one. For a finished job all fields describe the same attempt.
    """
    found = _container(detail.container)
    if not finished and found != _NO_CONTAINER:
        return found
    for containers in _container_fields(detail):
        found = found.or_else(_most_telling([_container(one) for one in containers], succeeded=succeeded))
        if not finished and found != _NO_CONTAINER:
            break
    return found


def _container_fields(detail: JobDetail) -> Iterator[Sequence[ContainerDetail | None]]:
    if detail.ecs_properties is not None:
        yield _first_task(detail.ecs_properties.task_properties)
    if detail.attempts and (attempt := detail.attempts[-1]) is not None:
        yield (attempt.container,)
        yield _first_task(attempt.task_properties)
    if detail.eks_properties is not None and (pod := detail.eks_properties.pod_properties) is not None:
        yield pod.containers or ()
    if detail.eks_attempts and (last := detail.eks_attempts[-1]) is not None:
        yield last.containers or ()


def _first_task(tasks: list[Task | None] | None) -> Sequence[ContainerDetail | None]:
    return (tasks[0].containers or ()) if tasks and tasks[0] is not None else ()


def _most_telling(containers: Sequence[_Container], *, succeeded: bool) -> _Container:
    """Returns the container that decided the job's end: the first that failed, or for a job that succeeded, did not.

    When one container of a task ends, the others are killed: their exit code 137 or 143 does not concern the job.
    """

    def rank(one: _Container) -> int:
        if one.exit_code is not None:
            return 4 if (one.exit_code == 0) is succeeded else 3
        return 2 if one.reason else 1 if one.log_stream_name else 0

    if len(containers) == 1:
        return containers[0]
    return max(containers, key=rank, default=_NO_CONTAINER)


def _container(detail: ContainerDetail | None) -> _Container:
    if detail is None:
        return _NO_CONTAINER
    log = detail.log_configuration
    group = None
    if log is not None and log.log_driver not in (None, "awslogs"):
        group = ""
    elif log is not None and log.options is not None:
        group = shared(log.options.group)
    return _Container(int64(detail.exit_code), shared(detail.reason), text(detail.log_stream_name), group)


def _log_group(last: _Container) -> str | None:
    """Returns the log group of a job that has a log stream."""
    if last.log_stream_name is None:
        return None
    return _DEFAULT_LOG_GROUP if last.log_group_name is None else last.log_group_name or None


def _array(properties: ArrayProperties | None) -> Array | None:
    if properties is None:
        return None
    array = Array(count(properties.size), count(properties.index), _summary(properties.status_summary or {}))
    return array if array != Array() else None


def _summary(raw: Mapping[str, int | None]) -> dict[str, int]:
    """Returns the children by status. Of too many statuses, the known ones stay."""
    named = ((shared(status), count(number)) for status, number in raw.items() if len(status) <= _MAX_STATUS)
    counts = {status: number for status, number in named if status and number is not None}
    if len(counts) > MAX_STATUSES:
        counts = {status: counts[status] for status in sorted(counts, key=_last_if_unknown)[:MAX_STATUSES]}
    return counts


def _last_if_unknown(status: str) -> tuple[bool, str]:
    return status not in _KNOWN, status


def _node(properties: NodeProperties | None, details: NodeDetails | None) -> Node | None:
    if properties is None and details is None:
        return None
    properties, details = properties or NodeProperties(), details or NodeDetails()
    node = Node(count(properties.num_nodes), count(details.node_index), details.is_main_node)
    return node if node != Node() else None
