"""The operations of AWS Batch that the sandbox speaks: a parsed body in, a reply out."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from awsbatch_sandbox.batch import submission
from awsbatch_sandbox.batch.credentials import Caller
from awsbatch_sandbox.batch.jobs import Job
from awsbatch_sandbox.batch.lifecycle import Lifecycle
from awsbatch_sandbox.batch.listing import Lists
from awsbatch_sandbox.batch.permissions import OF_ONE_JOB, Permissions, denied
from awsbatch_sandbox.batch.replies import RefusedError, Reply, client_exception, error, ok
from awsbatch_sandbox.batch.validation import check_listing, check_submission, check_tags, unknown_queue
from awsbatch_sandbox.batch.wire import FLAGS, encode, job_detail, rendered

MAX_DESCRIBE: Final = 100
MAX_BULK: Final = 50
MAX_REASON: Final = 1024
_ANY_ID = re.compile(r"[a-zA-Z_0-9-]{1,128}([:#][0-9]{1,5})?")
_STRICT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}([:#](0|[1-9][0-9]{0,4}))?")

Body = Mapping[str, Any]
Act = Callable[[Caller, str, str, int], bool]


class Operations:
    """Every operation sees only the jobs of its caller's account and region."""

    def __init__(self, lifecycle: Lifecycle, permissions: Permissions, dice: random.Random) -> None:
        self._lifecycle = lifecycle
        self._permissions = permissions
        self._dice = dice
        self.lists = Lists(lifecycle.jobs)
        self._table: dict[str, Callable[[Caller, Body, int], Reply]] = {
            "DescribeJobs": self._describe_jobs,
            "TerminateJob": self._terminate_job,
            "TerminateJobs": self._terminate_jobs,
            "CancelJob": self._cancel_job,
            "CancelJobs": self._cancel_jobs,
            "ListJobs": self._list_jobs,
            "SubmitJob": self._submit_job,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._list_tags,
        }

    @property
    def names(self) -> list[str]:
        return list(self._table)

    def settle(self, now: int) -> None:
        """Let the jobs reach the states that they have at `now`."""
        self._lifecycle.timers.settle(now)

    def perform(self, operation: str, caller: Caller, body: Body, now: int) -> Reply:
        try:
            self._permit(operation, caller, body)
            if operation not in self._table:
                raise client_exception(f"{operation} is not served by this sandbox; it serves {', '.join(self.names)}")
            return self._table[operation](caller, body, now)
        except RefusedError as refused:
            return refused.reply

    def _permit(self, operation: str, caller: Caller, body: Body) -> None:
        """Check IAM permissions; for the bulk calls job by job."""
        if operation in OF_ONE_JOB:
            return
        job_id = str(body.get("jobId") or str(body.get("resourceArn") or "*").rpartition("/")[2])
        if self._permissions.refuse(operation, caller, self._tags(caller, job_id)):
            raise RefusedError(error(403, "AccessDeniedException", denied(operation, caller, job_id)))

    def _tags(self, caller: Caller, job_id: str) -> Mapping[str, str]:
        """The tags of a job as IAM sees them."""
        job = self.find(caller, job_id)
        if job is not None and job.parent is not None and self._lifecycle.settings.children_carry_tags:
            return job.parent.tags
        return {} if job is None else job.tags

    def find(self, caller: Caller, job_id: str) -> Job | None:
        return self._lifecycle.jobs.find(caller.account_region, job_id)

    def _describe_jobs(self, caller: Caller, body: Body, _now: int) -> Reply:
        show = rendered if self._lifecycle.settings.flags_in_details else _without_flags
        details = [show(job) for job_id in self._ids(body) if (job := self._shown(caller, job_id)) is not None]
        if self._lifecycle.settings.shuffle:
            self._dice.shuffle(details)
        return Reply(200, b'{"jobs":[' + b",".join(details) + b"]}")

    def _ids(self, body: Body) -> Sequence[str]:
        job_ids = _strings(body, "jobs")
        if len(job_ids) > MAX_DESCRIBE:
            raise client_exception(f"Maximum number of jobs supported is  {MAX_DESCRIBE} .")
        for job_id in job_ids:
            if not self._well_formed(job_id):
                raise client_exception(f"Provided name {job_id} is not supported pattern[a-zA-Z_0-9-]{{1,128}}")
        return list(dict.fromkeys(job_ids))

    def _well_formed(self, job_id: str) -> bool:
        pattern = _STRICT_ID if self._lifecycle.settings.strict_ids else _ANY_ID
        return pattern.fullmatch(job_id) is not None

    def _shown(self, caller: Caller, job_id: str) -> Job | None:
        job = self.find(caller, job_id)
        if job is None or not job.hidden_polls:
            return job
        job.hidden_polls -= 1
        return None

    def _terminate_job(self, caller: Caller, body: Body, now: int) -> Reply:
        job_id, reason = _text(body, "jobId"), _reason(body)
        changed = self._terminate(caller, job_id, reason, now)
        return ok({}, accepted=(job_id,), effective=(job_id,) if changed else ())

    def _terminate(self, caller: Caller, job_id: str, reason: str, now: int) -> bool:
        job = self.find(caller, job_id)
        return job is not None and self._lifecycle.terminate(job, reason, now)

    def _terminate_jobs(self, caller: Caller, body: Body, now: int) -> Reply:
        if not self._lifecycle.settings.bulk_available:
            return error(404, "UnknownOperationException", None)
        return self._bulk("TerminateJobs", caller, body, now, self._terminate)

    def _cancel_job(self, caller: Caller, body: Body, now: int) -> Reply:
        job_id, reason = _text(body, "jobId"), _reason(body)
        changed = self._cancel(caller, job_id, reason, now)
        return ok({}, accepted=(job_id,), effective=(job_id,) if changed else ())

    def _cancel(self, caller: Caller, job_id: str, reason: str, now: int) -> bool:
        job = self.find(caller, job_id)
        return job is not None and self._lifecycle.cancel(job, reason, now)

    def _cancel_jobs(self, caller: Caller, body: Body, now: int) -> Reply:
        if not self._lifecycle.settings.bulk_available:
            return error(404, "UnknownOperationException", None)
        return self._bulk("CancelJobs", caller, body, now, self._cancel)

    def _bulk(self, operation: str, caller: Caller, body: Body, now: int, act: Act) -> Reply:
        """200 even when some failed: `errors` lists those. Ids that Batch does not know count as successful."""
        job_ids, reason = _strings(body, "jobs"), _reason(body)
        if len(job_ids) > MAX_BULK:
            raise client_exception(f"Maximum number of jobs supported is  {MAX_BULK} .")
        refusals = {job_id: self._refusal_in_bulk(operation, caller, job_id) for job_id in job_ids}
        good = [job_id for job_id, refusal in refusals.items() if refusal is None]
        effective = tuple(job_id for job_id in good if act(caller, job_id, reason, now))
        errors = [{"job": job_id, **refusal} for job_id, refusal in refusals.items() if refusal is not None]
        return ok({"successful": good, "errors": errors}, accepted=tuple(good), effective=effective)

    def _refusal_in_bulk(self, operation: str, caller: Caller, job_id: str) -> dict[str, str] | None:
        if not self._well_formed(job_id):
            return {"code": "ValidationException", "message": f"Invalid job id {job_id}"}
        single = OF_ONE_JOB[operation]
        if self._permissions.refuse(single, caller, self._tags(caller, job_id)):
            return {"code": "AccessDenied", "message": denied(single, caller, job_id)}
        return None

    def _list_jobs(self, caller: Caller, body: Body, _now: int) -> Reply:
        flags = self._lifecycle.settings.flags_in_lists
        return Reply(200, self.lists.page(caller.account_region, self._listing(caller, body), flags=flags))

    def same_page(self, caller: Caller, body: Body) -> str:
        """The nextToken that leads to the page of this ListJobs again."""
        return self.lists.same_page(self._listing(caller, body))

    def _listing(self, caller: Caller, body: Body) -> Body:
        """The checked request, its queue as an ARN."""
        check_listing(body)
        return {**body, "jobQueue": self._queue_arn(caller, body["jobQueue"])} if body.get("jobQueue") else body

    def _queue_arn(self, caller: Caller, queue: str) -> str:
        """`queue`: a name or an ARN. RefusedError for one that does not exist."""
        prefix = f"arn:aws:batch:{caller.region}:{caller.account}:job-queue/"
        arn = queue if queue.startswith("arn:") else prefix + queue
        known = queue.removeprefix(prefix) in self._lifecycle.settings.queues
        if not known and not self._lifecycle.jobs.has_queue(arn):
            raise unknown_queue(queue)
        return arn

    def _submit_job(self, caller: Caller, body: Body, now: int) -> Reply:
        check_submission(body)
        self._queue_arn(caller, body["jobQueue"])
        job = submission.job_of(body, caller.account, caller.region, self._lifecycle.settings, now)
        self._lifecycle.add(job, now)
        return ok({"jobArn": job.arn, "jobName": job.seed.name, "jobId": job.job_id}, effective=(job.job_id,))

    def _by_arn(self, caller: Caller, body: Body) -> Job:
        arn = _text(body, "resourceArn")
        job = self.find(caller, arn.rpartition("/")[2])
        if job is None or job.arn != arn:
            raise client_exception(f"Resource {arn} does not exist")
        return job

    def _tag(self, caller: Caller, body: Body, _now: int) -> Reply:
        job = self._by_arn(caller, body)
        check_tags(body.get("tags") or {})
        check_tags(job.tags | body["tags"])
        job.tags |= body["tags"]
        job.touch()
        return ok({})

    def _untag(self, caller: Caller, body: Body, _now: int) -> Reply:
        job = self._by_arn(caller, body)
        job.tags = {key: value for key, value in job.tags.items() if key not in body.get("tagKeys", ())}
        job.touch()
        return ok({})

    def _list_tags(self, caller: Caller, body: Body, _now: int) -> Reply:
        return ok({"tags": self._by_arn(caller, body).tags})


def _without_flags(job: Job) -> bytes:
    return encode({key: value for key, value in job_detail(job).items() if key not in FLAGS})


def _strings(body: Body, key: str) -> list[str]:
    values = body.get(key)
    if not isinstance(values, list) or not values or not all(isinstance(one, str) and one for one in values):
        raise client_exception(f"{key} must not be null or empty")
    return values


def _text(body: Body, key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise client_exception(f"{key} must not be null or empty")
    return value


def _reason(body: Body) -> str:
    reason = _text(body, "reason")
    if len(reason) > MAX_REASON:
        raise client_exception(f"reason must not be longer than {MAX_REASON} characters")
    return reason
