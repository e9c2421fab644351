"""ListJobs: one queue, array or multi-node job; one state or one filter; newest first, in pages."""

import json
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any, Final

from awsbatch_sandbox.batch.job_spec import RUNNING, AccountRegion
from awsbatch_sandbox.batch.job_store import JobStore, Listed, listed
from awsbatch_sandbox.batch.jobs import Job
from awsbatch_sandbox.batch.replies import client_exception
from awsbatch_sandbox.batch.wire import FLAGS, array_properties, definition_arn, encode

PAGE_BY_STATUS: Final = 1000
PAGE_BY_FILTER: Final = 100

Body = Mapping[str, Any]
Filters = Sequence[Mapping[str, Any]]
Position = tuple[int, int]
START: Final[Position] = (-(2**63), 0)

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


class Tokens:
    """The values of nextToken: opaque, and bound to their request. A token names the last job of its page."""

    def __init__(self) -> None:
        self._expired = 0

    def expire(self) -> None:
        """Refuse all tokens up to now."""
        self._expired += 1

    def token(self, request: object, position: Position) -> str:
        return b64encode(json.dumps([*position, self._mark(request, position)]).encode()).decode()

    def position(self, request: object, token: object) -> Position:
        """Raises RefusedError for a token of another request."""
        try:
            created_at, order, mark = json.loads(b64decode(str(token), validate=True))
        except (ValueError, TypeError, RecursionError):
            mark = created_at = order = None
        if mark is None or mark != self._mark(request, (created_at, order)):
            raise client_exception("Invalid nextToken")
        return created_at, order

    def _mark(self, request: object, position: Position) -> str:
        return blake2b(repr((self._expired, request, *position)).encode(), digest_size=12).hexdigest()


class Lists:
    """ListJobs for all callers."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self.tokens = Tokens()

    def page(self, place: AccountRegion, body: Body, *, flags: bool) -> bytes:
        """Answer a checked request, in which a queue is an ARN. RefusedError for a wrong filter or token."""
        filters = _filters(body)
        most = PAGE_BY_FILTER if filters else PAGE_BY_STATUS
        size = min(body.get("maxResults") or most, most)
        entries = self._entries(place, body, filters)
        request = _request(body)
        token = body.get("nextToken")
        after = self.tokens.position(request, token) if token else START
        # One more than fits tells whether another page follows.
        found = list(islice(_matching(entries, after, filters), size + 1))
        page = found[:size]
        parts = [one for _, _, job in page if (one := _shown(job, flags=flags)) is not None]
        more = b""
        if len(found) > size:
            more = b',"nextToken":' + encode(self.tokens.token(request, page[-1][:2]))
        return b'{"jobSummaryList":[' + b",".join(parts) + b"]" + more + b"}"

    def same_page(self, body: Body) -> str:
        """The token that leads to the page of this request again."""
        return body.get("nextToken") or self.tokens.token(_request(body), START)

    def _entries(self, place: AccountRegion, body: Body, filters: Filters) -> Sequence[Listed]:
        status = body.get("jobStatus") or RUNNING
        if not body.get("jobQueue"):
            parent = self._jobs.find(place, body.get("arrayJobId") or body["multiNodeJobId"])
            children = [] if parent is None else parent.children
            return sorted(listed(job) for job in children if job.status == status)
        by_status = not filters or filters[0]["name"] == "SHARE_IDENTIFIER"
        return self._jobs.queued(place, body["jobQueue"], status if by_status else None)


def _request(body: Body) -> object:
    """Parameters that a token is bound to: all except the page size and the token itself."""
    return sorted((key, repr(value)) for key, value in body.items() if key not in ("nextToken", "maxResults"))


def _matching(entries: Sequence[Listed], after: Position, filters: Filters) -> Iterator[Listed]:
    # Two parts are less than an entry that begins with them.
    first = bisect_left(entries, (after[0], after[1] + 1))
    rest = (entries[index] for index in range(first, len(entries)))
    if not filters:
        return rest
    matches, values = FILTERS[filters[0]["name"]], filters[0]["values"]
    return (entry for entry in rest if any(matches(entry[2], value) for value in values))


def _shown(job: Job, *, flags: bool) -> bytes | None:
    """JSON of the JobSummary, cached until the job changes; None for a job that a test hides."""
    if job.hidden_lists:
        job.hidden_lists -= 1
        return None
    if not flags:
        return encode({key: value for key, value in job_summary(job).items() if key not in FLAGS})
    if job.summarized is None:
        job.summarized = encode(job_summary(job))
    return job.summarized


def _filters(body: Body) -> Filters:
    # "The filter doesn't apply to child jobs": those are listed by status only.
    return _checked(body.get("filters") or []) if body.get("jobQueue") else []


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
