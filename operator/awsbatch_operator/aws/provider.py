"""AWS Batch for the controller: DescribeJobs, ListJobs, TerminateJob and TerminateJobs, one request a call."""

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import product
from typing import Any, Final

import structlog

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import (
    Accepted,
    CallLabels,
    DescribedJob,
    DescribeResult,
    JobPage,
    Location,
    P,
    Telemetry,
)
from awsbatch_operator.api.job import NotFound, Target, account_of
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.aws.caller_identity import CallerIdentity, Sts
from awsbatch_operator.aws.client_cache import CallRunner, ClientCache
from awsbatch_operator.aws.errors import NoSigningScopeError, classify_error, lacks_operation
from awsbatch_operator.aws.events import AwsEvents
from awsbatch_operator.aws.hooks import PermitCheck, RequestScope
from awsbatch_operator.aws.job_detail import parse_describe_jobs, parse_terminate_jobs
from awsbatch_operator.aws.job_summary import parse_list_jobs
from awsbatch_operator.aws.sdk_session import MAX_THREADS, MakeClient, own_credentials
from awsbatch_operator.aws.sessions import OwnSession, Session, SessionCache
from awsbatch_operator.workqueue.fair_queue import Rank
from awsbatch_operator.workqueue.rate_limiter import AccountRateLimiter
from awsbatch_operator.workqueue.worker_pool import WorkerPool

MAX_TERMINATE_IDS: Final = 50
"""Most ids in one TerminateJobs."""

JOBS_PER_PAGE: Final = 1000
"""Most jobs of one ListJobs without a filter."""

MAX_LONG_POLLS: Final = 16
"""ReceiveMessages at once."""

MAX_PER_TARGET: Final = 8
"""Calls of one kind and one target at once."""

_STOPPING: Final = CallError(ErrorClass.UNAVAILABLE, "the operator is stopping", "Stopping")
_NO_TERMINATE_JOBS: Final = CallError(
    ErrorClass.NOT_SENT,
    "the endpoint does not support TerminateJobs; the operator sends one TerminateJob for each job",
    "Regrouped",
)
_NOT_REPEATED: Final = CallError(
    ErrorClass.UNAVAILABLE,
    "AWS may have received the request; the operator did not repeat it, because the permit is no longer valid",
    "NotRepeated",
)

_Pool = WorkerPool[tuple[Target, bool]]

_log = structlog.get_logger(__name__)


def _utc() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class AwsBatch:
    """The `BatchProvider` of `api.interfaces`. Rates are calls a second of one account and region.

    Args:
        make_client: makes boto3 clients, see `sdk_session.ClientFactory`.
        cluster: the name that sessions of roles carry.
        regions: those that may be called, see `regions.KnownRegions`.
        own: the operator's own credentials.
        clock: epoch seconds, for the time of the last poll.
        now, monotonic: the clocks by which credentials of roles are kept.
    """

    def __init__(
        self,
        *,
        telemetry: Telemetry,
        make_client: MakeClient,
        cluster: str,
        regions: Container[str],
        describe_rate: float,
        terminate_rate: float,
        own: Session | None = None,
        clock: Callable[[], float] = time.time,
        now: Callable[[], dt.datetime] = _utc,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        own = own or OwnSession(own_credentials, monotonic)
        self._telemetry, self._regions, self._clock = telemetry, regions, clock
        self._clients = ClientCache(make_client)
        sts = Sts(own, self._clients)
        self._sessions = SessionCache(own, cluster, sts.assume, now, monotonic)
        self._identity = CallerIdentity(own, sts.account, monotonic)
        self._rates = describe_rate, terminate_rate
        self._limiters: dict[Location, AccountRateLimiter] = {}
        self._labels: dict[Target, CallLabels] = {}
        runner = partial(CallRunner, clients=self._clients, own=own, telemetry=telemetry, labels=self._labels_of)
        self._describes = runner("describe", throttled=lambda target: self._limiter(target).describe_throttled())
        self._terminates = runner("terminate", throttled=lambda target: self._limiter(target).terminate_throttled())
        # So many that deletions need not wait for long polls.
        self.events = AwsEvents(self._sessions, runner("sqs", threads=MAX_LONG_POLLS + 4), runner("events", threads=4))
        # By target, and whether the calls are those of BatchTerminations, or list polls.
        self._describe_pool: _Pool = WorkerPool(MAX_THREADS, per_group=MAX_PER_TARGET, clock=monotonic)
        self._terminate_pool: _Pool = WorkerPool(MAX_THREADS, per_group=MAX_PER_TARGET, clock=monotonic)
        self._without_terminate_jobs: set[str] = set()
        self._stopped = False

    async def prepare(self, region: str) -> None:
        """Prepares clients and credentials, so that the first calls of the region do not wait for them."""
        await asyncio.gather(
            self._describes.prepare(region, then=partial(self._identity.learn, region)),
            self._terminates.prepare(region, then=lambda: None),
        )

    def knows_region(self, region: str) -> bool:
        return region in self._regions

    @asynccontextmanager
    async def describe_slot(self, target: Target, *, bulk: bool = False, urgent: bool = False) -> AsyncIterator[None]:
        rank = Rank.LAST if bulk else Rank.NORMAL
        await self._limiter(target).describe(Rank.FIRST if urgent else rank)
        async with self._describe_pool.slot((target, bulk)):
            yield

    @asynccontextmanager
    async def terminate_slot(self, target: Target, *, bulk: bool = False) -> AsyncIterator[None]:
        await self._limiter(target).terminate()
        async with self._terminate_pool.slot((target, bulk)):
            yield

    def terminate_limit(self, target: Target) -> int:
        return 1 if target.region in self._without_terminate_jobs else MAX_TERMINATE_IDS

    async def describe(self, target: Target, job_ids: Sequence[str]) -> Mapping[str, DescribeResult] | CallError:
        self._telemetry.describe_batch(len(job_ids))

        # The answer is decoded in the thread as well.
        def request(client: Any) -> Mapping[str, DescribeResult] | CallError:
            began = time.monotonic()
            answer = client.describe_jobs(jobs=job_ids)
            asked_at = _asked_at(answer, time.monotonic() - began)
            results = parse_describe_jobs(answer["body"], job_ids, target.region, account_of(target.role), asked_at)
            if target.role is None and not isinstance(results, CallError):
                self._learn_account(target.region, results)
            return results

        scope = RequestScope(self._sessions.for_describe(target))
        answer = await self._describes.run("DescribeJobs", target, scope, _log_fields(job_ids), request)
        if isinstance(answer, CallError):
            _mark_slow(self._describe_pool, target, answer)
        else:
            self._telemetry.polled(self._clock(), self._labels_of(target))
        return answer

    async def list_jobs(self, target: Target, queue: str, status: str, token: str | None) -> JobPage | CallError:
        asked: dict[str, Any] = {"jobQueue": queue, "jobStatus": status, "maxResults": JOBS_PER_PAGE}
        if token is not None:
            asked["nextToken"] = token

        # The answer is decoded in the thread as well.
        def request(client: Any) -> JobPage | CallError:
            page = parse_list_jobs(client.list_jobs(**asked)["body"], target.region, account_of(target.role))
            if target.role is None and isinstance(page, JobPage) and page.jobs:
                self._identity.learn(target.region, account_of(page.jobs[0].arn))
            return page

        scope = RequestScope(self._sessions.for_describe(target))
        fields = {"queue": queue, "status": status}
        answer = await self._describes.run("ListJobs", target, scope, fields, request)
        if isinstance(answer, CallError):
            _mark_slow(self._describe_pool, target, answer)
        return answer

    async def terminate(
        self, target: Target, permits: Sequence[P], reason: str
    ) -> Mapping[P, Accepted | CallError] | CallError:
        if self._stopped:
            return _STOPPING
        # Whether they are valid is asked with the last byte, by the hooks.
        check = PermitCheck(permits)
        try:
            scope = RequestScope(self._sessions.for_terminate(target, permits), check)
        except NoSigningScopeError as error:
            return classify_error(error)
        # Two objects may name one job, each with its own permit: its id is sent once, if both are valid.
        ids = list(dict.fromkeys(permit.job_id for permit in permits))
        answer = await (self._terminate_one if len(ids) == 1 else self._terminate_many)(target, scope, ids, reason)
        if isinstance(answer, CallError):
            _mark_slow(self._terminate_pool, target, answer)
            if not check.expired:
                return answer
            return _NOT_REPEATED if check.sent else check.not_sent()
        return {permit: answer[permit.job_id] for permit in permits}

    def account(self, target: Target) -> str | None:
        return account_of(target.role) if target.role else self._identity.account

    def location(self, target: Target) -> Location:
        if target.role is None:
            return self._identity.last_account, target.region
        return account_of(target.role) or target.role, target.region

    def assume_error(self, target: Target) -> CallError | None:
        return self._sessions.assume_error(target)

    def stop(self) -> None:
        self._stopped = True

    def forget(self, target: Target) -> None:
        self._sessions.forget(target)
        labels = self._labels.pop(target, None)
        # Two policies may have one role: its metrics go with the last of them.
        if labels is not None and labels not in self._labels.values():
            self._telemetry.forget(labels)
        used = {self.location(one) for one in self._labels}
        self._limiters = {key: limiter for key, limiter in self._limiters.items() if key in used}
        for runner in (self._describes, self._terminates):
            runner.forget(target)
        self.events.forget(target)
        for pool, bulk in product((self._describe_pool, self._terminate_pool), (False, True)):
            pool.forget((target, bulk))

    def close(self) -> None:
        """Drops threads and connections. No call may follow; calls in flight are abandoned."""
        self.stop()
        self._describes.close()
        self._terminates.close()
        self.events.close()
        self._clients.close()

    async def _terminate_one(
        self, target: Target, scope: RequestScope, ids: Sequence[str], reason: str
    ) -> Mapping[str, Accepted | CallError] | CallError:
        def request(client: Any) -> Mapping[str, Accepted | CallError]:
            # The answer is `{}`: a 200 means accepted.
            return {ids[0]: Accepted(_request_id(client.terminate_job(jobId=ids[0], reason=reason)))}

        answer = await self._terminates.run("TerminateJob", target, scope, _log_fields(ids), request)
        self._telemetry.terminate_batch(1)
        if isinstance(answer, CallError) and lacks_operation(answer):
            # The endpoint is not AWS Batch at the moment: TerminateJobs may exist.
            self._without_terminate_jobs.discard(target.region)
        return answer

    async def _terminate_many(
        self, target: Target, scope: RequestScope, ids: Sequence[str], reason: str
    ) -> Mapping[str, Accepted | CallError] | CallError:
        def request(client: Any) -> Mapping[str, Accepted | CallError] | CallError:
            answer = client.terminate_jobs(jobs=ids, reason=reason)
            return parse_terminate_jobs(answer["body"], ids, Accepted(_request_id(answer)))

        answer = await self._terminates.run("TerminateJobs", target, scope, _log_fields(ids), request)
        self._telemetry.terminate_batch(len(ids))
        if not isinstance(answer, CallError):
            if any(isinstance(one, CallError) and one.error_class is ErrorClass.THROTTLED for one in answer.values()):
                self._limiter(target).terminate_throttled()
        elif lacks_operation(answer):
            _log.info("TerminateJobs is not available, using TerminateJob", region=target.region, jobId=ids[0])
            self._without_terminate_jobs.add(target.region)
            return _NO_TERMINATE_JOBS
        return answer

    def _limiter(self, target: Target) -> AccountRateLimiter:
        """Returns that of the account and region of the target: roles of one account share it."""
        if target not in self._labels:
            self._labels_of(target)
        key = self.location(target)
        if key not in self._limiters:
            # What was learned about the operator's own account before its number was known.
            own = key[0] == self._identity.last_account
            unnamed = self._limiters.pop(("", target.region), None) if own else None
            self._limiters[key] = unnamed or AccountRateLimiter(*self._rates)
        return self._limiters[key]

    def _labels_of(self, target: Target) -> CallLabels:
        """Returns the labels of the target's metrics. They change when the operator's own account becomes known."""
        if target.role is None:
            now = CallLabels(self._identity.last_account, target.region, "")
        else:
            now = CallLabels(account_of(target.role) or "", target.region, target.role.rpartition("/")[2])
        before = self._labels.get(target)
        if before is not None and before != now:
            self._telemetry.forget_polls(before)
        self._labels[target] = now
        return now

    def _learn_account(self, region: str, results: Mapping[str, DescribeResult]) -> None:
        """Learns which account answered. A missing job proves nothing while the account is unknown."""
        shown = next((one.job.arn for one in results.values() if isinstance(one, DescribedJob) and one.job.arn), None)
        missing = any(isinstance(one, NotFound) for one in results.values())
        self._identity.learn(region, account_of(shown), needed=missing)


def _log_fields(job_ids: Sequence[str]) -> dict[str, object]:
    """Returns the fields of a log line about these jobs. A hundred ids would make it unreadable: it has the first."""
    return {"jobId": job_ids[0], "jobs": len(job_ids)}


def _mark_slow(pool: _Pool, target: Target, error: CallError) -> None:
    """A target that is not available counts as slow until it answers."""
    if error.error_class is ErrorClass.UNAVAILABLE:
        for bulk in (False, True):
            pool.mark_slow((target, bulk))


def _asked_at(answer: Mapping[str, Any], seconds: float) -> Millis | None:
    """Returns when an answer that took so long was requested, by AWS's clock and not later."""
    date = (answer.get("ResponseMetadata") or {}).get("HTTPHeaders", {}).get("date")
    try:
        return int((parsedate_to_datetime(date).timestamp() - seconds) * SECOND)
    except (TypeError, ValueError, OverflowError):
        return None


def _request_id(answer: Mapping[str, Any]) -> str | None:
    metadata = answer.get("ResponseMetadata") or {}
    found = metadata.get("RequestId") or metadata.get("HTTPHeaders", {}).get("x-amzn-requestid")
    return str(found) if found else None
