"""JobDetail to Job. Total: whatever stands in the body, nothing raises, and only what is named here is read."""

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import ABSENT, ACTIVE_CHILDREN, FINISHED, Array, Job, Millis, Node
from awsbatch_operator.domain.ports import Look, Sight

MOST_TEXT: Final = 1024
"""Characters of a text that are kept: a termination's reason, the longest text that AWS takes, stays whole."""

MOST_STATUSES: Final = 32
"""Statuses of an array's children that are kept. Batch has seven; these go into each status of the parent."""

_LONGEST_STATUS: Final = 64
_KNOWN: Final = frozenset({"SUBMITTED", "PENDING", *ACTIVE_CHILDREN, *FINISHED})

UNKNOWN: Final = "UNKNOWN"
"""The status of a job that came without one."""

_LAST_MILLI: Final = 253_402_300_799_999
"""The end of the year 9999: no later moment can be written in RFC 3339."""

NO_JOBS: Final = Fault(
    Fate.UNAVAILABLE, "DescribeJobs answered without a list of jobs: an empty or cut body", "EmptyAnswer"
)
UNREADABLE: Final = Fault(
    Fate.UNAVAILABLE, "DescribeJobs answered with an entry that names no job, perhaps this one", "UnreadableAnswer"
)

FOREIGN: Final = Fault(
    Fate.UNAVAILABLE, "DescribeJobs answered with a job of another account or region than was asked", "ForeignAnswer"
)

MOST_TAGS: Final = 200
"""Tags of a job that are read. Batch takes 50; who has more has none that can be read, which admits nothing."""

_ARN: Final = re.compile(r"arn:[a-z-]+:batch:([a-z0-9-]+):([0-9]{12}):")

_NOTHING: Final[Mapping[str, Any]] = {}


def looks_of(
    answer: Mapping[str, Any], job_ids: Sequence[str], region: str, account: str | None = None
) -> Mapping[str, Look] | Fault:
    """DescribeJobs' answer, one look for each id that was asked for, matched by id: the order is not kept.

    `region` and `account` (None: any) are those that were asked.
    """
    details = answer.get("jobs")
    if not isinstance(details, list):
        # botocore makes `{}` of an empty or cut body. It must never pass for "no such job".
        return NO_JOBS
    jobs: dict[str, Look] = {}
    unreadable = False
    for detail in details:
        job_id = _map(detail).get("jobId")
        if isinstance(job_id, str):
            job = job_of(detail)
            jobs[job_id] = FOREIGN if _is_foreign(job.arn, region, account) else Sight(job, tags_of(detail))
        else:
            unreadable = True
    missing = UNREADABLE if unreadable else ABSENT
    return {job_id: jobs.get(job_id, missing) for job_id in job_ids}


def _is_foreign(arn: str | None, region: str, account: str | None) -> bool:
    """An ARN that says nothing says nothing against the job: it was asked for with the right credentials."""
    found = _ARN.match(arn or "")
    return found is not None and (found[1] != region or account not in (None, found[2]))


def tags_of(detail: Mapping[str, Any]) -> Mapping[str, str] | None:
    """A job's tags; none where none are mentioned, None where they can't be read."""
    tags = detail.get("tags")
    if tags is None:
        return {}
    if not isinstance(tags, dict) or len(tags) > MOST_TAGS:
        return None
    if not all(isinstance(part, str) and len(part) <= MOST_TEXT for tag in tags.items() for part in tag):
        return None
    return _shared_tags(tuple(sorted(tags.items())))


@lru_cache(maxsize=512)
def _shared_tags(tags: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """Most jobs of a team have the same ones: kept once, and texts that others have in common too."""
    return {sys.intern(key): sys.intern(value) for key, value in tags}


def job_of(detail: Mapping[str, Any]) -> Job:
    """One JobDetail, as JSON gives it."""
    status = _shared(detail.get("status")) or UNKNOWN
    last = _last_container(detail, finished=status in ("SUCCEEDED", "FAILED"), well=status == "SUCCEEDED")
    return Job(
        status=status,
        status_reason=_shared(detail.get("statusReason")),
        is_terminated=detail.get("isTerminated") is True,
        is_cancelled=detail.get("isCancelled") is True,
        name=_text(detail.get("jobName")),
        arn=_text(detail.get("jobArn")),
        queue=_shared(detail.get("jobQueue")),
        definition=_shared(detail.get("jobDefinition")),
        created_at=_moment(detail.get("createdAt")),
        started_at=_moment(detail.get("startedAt")),
        stopped_at=_moment(detail.get("stoppedAt")),
        exit_code=last.exit_code,
        container_reason=last.reason,
        log_stream_name=last.log_stream_name,
        attempts=_attempts(detail),
        array=_array(_map(detail.get("arrayProperties"))),
        node=_node(_map(detail.get("nodeProperties")), _map(detail.get("nodeDetails"))),
    )


class _Container(NamedTuple):
    """How one container ended and where its log is."""

    exit_code: int | None = None
    reason: str | None = None
    log_stream_name: str | None = None

    def or_else(self, other: "_Container") -> "_Container":
        return _Container(
            other.exit_code if self.exit_code is None else self.exit_code,
            self.reason or other.reason,
            self.log_stream_name or other.log_stream_name,
        )


_NO_CONTAINER: Final = _Container()


def _last_container(detail: Mapping[str, Any], *, finished: bool, well: bool) -> _Container:
    """The last attempt's container; each platform of Batch keeps it elsewhere.

    Of a live job, the first place that tells anything is taken alone: its `attempts` hold earlier attempts, and their
    exit codes must not stand beside the log of the present one. Of a finished job all places tell of the same attempt.
    """
    found = _NO_CONTAINER
    for containers in _places(detail):
        found = found.or_else(_most_telling([_container(one) for one in containers], well=well))
        if not finished and found != _NO_CONTAINER:
            break
    return found


def _places(detail: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    # One after the other, as the first is enough for most jobs: this runs for ten thousand of them each half minute.
    yield (detail.get("container"),)
    task = _map(_end(_map(detail.get("ecsProperties")).get("taskProperties"), 0))
    yield _list(task.get("containers"))
    attempt = _map(_end(detail.get("attempts"), -1))
    yield (attempt.get("container"),)
    last_task = _map(_end(attempt.get("taskProperties"), 0))
    yield _list(last_task.get("containers"))
    pod = _map(_map(detail.get("eksProperties")).get("podProperties"))
    yield _list(pod.get("containers"))
    eks_attempt = _map(_end(detail.get("eksAttempts"), -1))
    yield _list(eks_attempt.get("containers"))


def _most_telling(containers: Sequence[_Container], *, well: bool) -> _Container:
    """The container that decided the job's end: of a failed job the first that failed, of a good one the first good.

    When one container of a task ends, the others are killed: their 137 or 143 says nothing about the job.
    """

    def rank(one: _Container) -> int:
        if one.exit_code is not None:
            return 4 if (one.exit_code == 0) is well else 3
        return 2 if one.reason else 1 if one.log_stream_name else 0

    if len(containers) == 1:
        return containers[0]
    return max(containers, key=rank, default=_NO_CONTAINER)


def _container(raw: Any) -> _Container:
    value = _map(raw)
    return _Container(_whole(value.get("exitCode")), _shared(value.get("reason")), _text(value.get("logStreamName")))


def _attempts(detail: Mapping[str, Any]) -> int | None:
    kinds = [detail.get(key) for key in ("attempts", "eksAttempts")]
    return max((len(kind) for kind in kinds if isinstance(kind, list)), default=None)


def _array(properties: Mapping[str, Any]) -> Array | None:
    if not properties:
        return None
    array = Array(
        size=_count(properties.get("size")),
        index=_count(properties.get("index")),
        status_summary=_summary(_map(properties.get("statusSummary"))),
    )
    return array if array != Array() else None


def _summary(raw: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Children by status, sorted. Of too many statuses, those that are known stay."""
    named = ((_shared(status), _count(number)) for status, number in raw.items() if len(status) <= _LONGEST_STATUS)
    counts = {status: number for status, number in named if status and number is not None}
    if len(counts) > MOST_STATUSES:
        counts = {status: counts[status] for status in sorted(counts, key=_last_if_unknown)[:MOST_STATUSES]}
    return tuple(sorted(counts.items()))


def _last_if_unknown(status: str) -> tuple[bool, str]:
    return status not in _KNOWN, status


def _node(properties: Mapping[str, Any], details: Mapping[str, Any]) -> Node | None:
    if not properties and not details:
        return None
    main = details.get("isMainNode")
    node = Node(
        num_nodes=_count(properties.get("numNodes")),
        index=_count(details.get("nodeIndex")),
        main=main if isinstance(main, bool) else None,
    )
    return node if node != Node() else None


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NOTHING


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _end(value: Any, index: int) -> Any:
    entries = _list(value)
    return entries[index] if entries else None


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    text: str = value if len(value) <= MOST_TEXT else value[: MOST_TEXT - 1] + "…"
    if not text.isascii():
        # JSON may carry half a surrogate pair, which no UTF-8 can: Kubernetes would refuse the whole status.
        text = text.encode("utf-8", "replace").decode()
    return text


def _shared(value: Any) -> str | None:
    """A text that many jobs have in common is kept once: ten thousand jobs stand in few queues."""
    text = _text(value)
    return None if text is None else sys.intern(text)


def _whole(value: Any) -> int | None:
    """An int64, or None. A number that came as 137.0 counts, `true` does not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # isfinite makes a float of its argument, which an integer of four hundred digits can not become.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    number = int(value)
    return number if -(2**63) <= number < 2**63 else None


def _count(value: Any) -> int | None:
    number = _whole(value)
    return number if number is not None and number >= 0 else None


def _moment(value: Any) -> Millis | None:
    number = _whole(value)
    return number if number is not None and 0 < number <= _LAST_MILLI else None
