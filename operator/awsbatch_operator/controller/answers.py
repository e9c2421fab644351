"""Updates the cache from AWS's answers and adds the affected objects to the work queue."""

import asyncio
from collections.abc import Mapping

import structlog

from awsbatch_operator.api.batchjob import UNATTENDED, Termination
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import Accepted, DescribedJob, DescribeResult
from awsbatch_operator.api.job import JobKey, NotFound, Target
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.controller.cache import Cache, TrackedJob, TrackedObject
from awsbatch_operator.controller.dependencies import Dependencies, Leadership
from awsbatch_operator.controller.job_visibility import JobVisibility
from awsbatch_operator.controller.poll_pace import PollPace
from awsbatch_operator.controller.poller import Poller
from awsbatch_operator.controller.recovery import Recovery
from awsbatch_operator.controller.status_writer import StatusWriter, log_accepted, report_event
from awsbatch_operator.controller.terminator import TerminatePermit
from awsbatch_operator.controller.unattended_limit import UnattendedLimit
from awsbatch_operator.reconcile.events import change_ignored
from awsbatch_operator.workqueue.backoff import backoff
from awsbatch_operator.workqueue.fair_queue import FairQueue, Rank

Scope = tuple[str, str | None, str | None, str]
"""Kind of call, role, policy and namespace: calls of one scope are denied and allowed together."""

_FOR_A_PERSON = (ErrorClass.DENIED, ErrorClass.CREDENTIALS)

log = structlog.get_logger(__name__)


class AnswerHandler:
    """`silent_since`: loop time since which describes of a target have no answer; None: the latest had one."""

    def __init__(
        self,
        cache: Cache,
        dependencies: Dependencies,
        leadership: Leadership,
        queue: FairQueue[str],
        *,
        writer: StatusWriter,
        pace: PollPace,
        limit: UnattendedLimit,
    ) -> None:
        self._cache, self._dependencies, self._queue, self._writer = cache, dependencies, queue, writer
        self._leadership, self._pace, self._limit = leadership, pace, limit
        self.recovery: Recovery[Scope, str] = Recovery()
        self.silent_since: dict[Target, float | None] = {}
        self.poller: Poller
        self.visibility: JobVisibility

    def clear(self) -> None:
        self.recovery.clear()
        # The targets stay, to be forgotten once no object names them any more.
        self.silent_since = dict.fromkeys(self.silent_since)

    # -- DescribeJobs -------------------------------------------------------------------------------------------------

    def on_describe_result(self, target: Target, results: Mapping[str, DescribeResult], requested_at: Millis) -> None:
        if not self._leadership.is_leading:
            return
        now, scope = self._dependencies.now(), ("DescribeJobs", target.role, target.policy, "")
        self._note_silence(target, results)
        known = [(self._cache.jobs.get(JobKey(target, job_id)), result) for job_id, result in results.items()]
        # Update all jobs before reconciling any object: a job and its parent are in one answer.
        answered = [(job, result, _take_in(job, result, requested_at, now)) for job, result in known if job is not None]
        granted: list[str] = []
        for job, result, changed in answered:
            error = result if isinstance(result, CallError) else None
            if error is None:
                granted += job.objects
            for tracked in job.objects.values():
                self._answered(tracked, job, error, now, changed=changed)
                if error is not None and error.error_class in _FOR_A_PERSON:
                    self.recovery.refused(scope, tracked.ref.uid)
            if changed:
                for child in self._cache.children_of(job):
                    self._add_all(child)
        if granted:
            for uid in self.recovery.succeeded(scope, *granted):
                self._poll_again(uid)

    def _answered(
        self, tracked: TrackedObject, job: TrackedJob, error: CallError | None, now: Millis, *, changed: bool
    ) -> None:
        if not changed and tracked.steady_interval is not None:
            interval = self._pace.interval(job, tracked.steady_interval)
            tracked.next_poll_at = now + interval
            rank = Rank.LAST if interval >= tracked.steady_interval else Rank.NORMAL
            self.poller.poll_after(tracked, interval / SECOND * self._dependencies.jitter(0.9, 1.1), rank=rank)
            return
        self.visibility.record_hidden_poll(tracked, job, error, now)
        self._add(tracked)

    def _poll_again(self, uid: str) -> None:
        tracked = self._cache.objects.get(uid)
        job = self._cache.job_of(tracked) if tracked is not None else None
        if tracked is not None and job is not None and not self.poller.in_flight(job.key):
            self.poller.poll_now(tracked)

    def _note_silence(self, target: Target, results: Mapping[str, DescribeResult]) -> None:
        if any(not isinstance(result, CallError) for result in results.values()):
            self.silent_since[target] = None
        elif self.silent_since.get(target) is None:
            self.silent_since[target] = asyncio.get_running_loop().time()

    # -- TerminateJob -------------------------------------------------------------------------------------------------

    def on_terminate_result(self, permit: TerminatePermit, answer: Accepted | CallError, requested_at: Millis) -> None:
        scope = (
            "TerminateJob",
            permit.target.role,
            permit.target.policy,
            permit.namespace if permit.target.role else "",
        )
        uid, job = permit.tracked.ref.uid, self._cache.jobs.get(permit.key)
        if isinstance(answer, Accepted):
            self._accepted(permit, job, answer, requested_at)
            for other in self.recovery.succeeded(scope, uid):
                self._terminate_again(other)
        elif answer.error_class is ErrorClass.NOT_SENT:
            self._not_sent(permit, job, answer)
        elif job is not None and self._leadership.is_leading:
            job.state = job.state.terminate_refused(answer, self._dependencies.now())
            if answer.error_class in _FOR_A_PERSON and uid in self._cache.objects:
                self.recovery.refused(scope, uid)
            self._add_all(job)

    def _accepted(
        self, permit: TerminatePermit, job: TrackedJob | None, answer: Accepted, requested_at: Millis
    ) -> None:
        now, tracked = self._dependencies.now(), permit.tracked
        sent = Termination(
            permit.intent.reason, requested_at, now, requests=1, cause=permit.intent.cause, request_id=answer.request_id
        )
        log_accepted(tracked, sent)
        if permit.intent.cause in UNATTENDED:
            self._limit.sent(tracked.ref.uid, permit.target, permit.namespace)
        if job is not None:
            job.state = job.state.accepted(
                permit.intent.cause,
                permit.intent.reason,
                requested_at,
                now,
                request_id=answer.request_id,
                status_reason_before=permit.status_reason,
            )
            job.expired = 0
            for other in job.objects.values():
                if other.record.spec.terminate is not None:
                    self._dependencies.telemetry.termination_accepted(max(now - other.record.changed_at, 0) / SECOND)
        if not self._leadership.is_leading:
            return
        # Recorded for the requesting object, even if its spec or access changed meanwhile.
        status, before = tracked.record.status, tracked.record.recorded
        if before is not None and before.reason == sent.reason:
            sent = before.replace(accepted_at=now, requests=before.requests + 1, request_id=answer.request_id)
        stated, intent = tracked.record.spec, permit.intent
        if before is None and stated.stated(intent.cause) != intent.stated and tracked.ref.uid in self._cache.objects:
            report_event(self._dependencies.client, tracked, change_ignored(stated, intent.cause, in_flight=True))
        tracked.record = tracked.record.replace(status=status.replace(termination=sent))
        self._writer.add(tracked)
        self._add(tracked)
        if job is not None:
            self._add_all(job)

    def _not_sent(self, permit: TerminatePermit, job: TrackedJob | None, answer: CallError) -> None:
        """Handle an expired permit: reconcile again, with a back-off if permits expire repeatedly."""
        if job is not None and answer.code != "Regrouped" and permit.stated() and permit.hold() is None:
            wait = backoff(job.expired, 1.0, 15.0) if job.expired else 0.0
            job.expired += 1
            job.held_until = self._dependencies.now() + int(wait * SECOND)
        for tracked in (permit.tracked, *(job.objects.values() if job is not None else ())):
            self._add(tracked)

    def _terminate_again(self, uid: str) -> None:
        tracked = self._cache.objects.get(uid)
        job = self._cache.job_of(tracked) if tracked is not None else None
        if tracked is not None and job is not None:
            job.state = job.state.retry_terminate()
            self._add(tracked)

    # -- the work queue -----------------------------------------------------------------------------------------------

    def _add(self, tracked: TrackedObject) -> None:
        # After a start and after a change of a policy, all objects of the namespace may wait for their turn.
        rank = Rank.FIRST if tracked.ref.uid in self._cache.terminating else Rank.NORMAL
        self._queue.add(tracked.ref.uid, tracked.ref.namespace, rank=rank)

    def _add_all(self, job: TrackedJob) -> None:
        for tracked in job.objects.values():
            self._add(tracked)


def _shows_start(tracked: TrackedObject) -> bool:
    shown = tracked.record.status.job
    return shown is not None and shown.has_started


def _take_in(job: TrackedJob, result: DescribeResult, requested_at: Millis, now: Millis) -> bool:
    """Update the job. Return whether anything but the time of the poll has changed."""
    match result:
        case DescribedJob(job=shown, tags=tags):
            state = job.state
            if state.job is None and shown.is_array and any(_shows_start(one) for one in job.objects.values()):
                # Children that are retried wait again: only an earlier answer shows that they have started.
                state = state.replace(has_started=True)
            same = state.job == shown and job.tags == tags and state.last_error is None and not state.misses
            job.state = state.with_job(
                state.job if same and state.job is not None else shown,
                now,
                asked_at=result.asked_at,
                first_started_at=result.first_started_at,
                has_dependencies=result.has_dependencies,
            )
            job.tags, job.requested_at, job.lists, job.changed = tags, requested_at, 0, not same
            return not same
        case NotFound():
            job.state = job.state.with_not_found(now)
        case CallError():
            job.state = job.state.with_error(result, now)
    return True
