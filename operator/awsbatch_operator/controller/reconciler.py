"""Reconciles one object at a time: the only place that requests polls, terminations and writes."""

import asyncio
from dataclasses import replace
from typing import Final

from awsbatch_operator.api.batchjob import UNATTENDED, HoldCause, Phase, Status, Termination
from awsbatch_operator.api.job import JobKey
from awsbatch_operator.api.names import FINALIZER
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.controller.cache import Cache, TrackedJob, TrackedObject
from awsbatch_operator.controller.dependencies import Dependencies, Leadership
from awsbatch_operator.controller.holds import Hold, Holds
from awsbatch_operator.controller.job_visibility import JobVisibility, VisibleState
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.controller.poll_pace import PollPace
from awsbatch_operator.controller.poller import Poller
from awsbatch_operator.controller.status_writer import HOLD, StatusWriter, log_accepted
from awsbatch_operator.controller.terminator import TerminatePermit, Terminator
from awsbatch_operator.policy.authorizer import MAX_TAG_AGE, Allow, NeedsDescribe, deciding_parent
from awsbatch_operator.policy.resolution import Deny, Scope, invalid_region
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.not_allowed import unconfirmed
from awsbatch_operator.reconcile.outcome import Crd, Deletion, Record, retry_at
from awsbatch_operator.reconcile.poll_intervals import PollIntervals
from awsbatch_operator.reconcile.reconcile import ReconcileResult, reconcile
from awsbatch_operator.workqueue.fair_queue import FairQueue, Rank

TIME_SLICE: Final = 0.005
"""Seconds of work after which probes, answers and writes get their turn of the event loop."""
MAX_HOLD: Final = 15 * SECOND
"""The longest wait after a permit expired: a later time means that the clock was set back."""
_PAUSES: Final = frozenset({HoldCause.SUSPENDED_OPERATOR, HoldCause.SUSPENDED_POLICY, HoldCause.UNATTENDED_LIMIT})
"""Holds whose time does not count towards the end of a deletion."""


class Reconciler:
    """`queue` holds uids to reconcile; an object that must be reconciled later goes back with a delay."""

    def __init__(
        self,
        cache: Cache,
        dependencies: Dependencies,
        leadership: Leadership,
        queue: FairQueue[str],
        *,
        intervals: PollIntervals,
        policies: PolicyCache,
        pace: PollPace,
        holds: Holds,
        poller: Poller,
        terminator: Terminator,
        writer: StatusWriter,
    ) -> None:
        self._cache, self._dependencies, self._leadership, self._queue = cache, dependencies, leadership, queue
        self._intervals, self._policies, self._pace, self._holds = intervals, policies, pace, holds
        self._poller, self._terminator, self._writer = poller, terminator, writer
        self.visibility = JobVisibility(cache.jobs, dependencies.provider.account, policies.mode, dependencies.jitter)

    async def run(self) -> None:
        """Reconcile what the queue holds, for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._queue.wait()
            until = clock() + TIME_SLICE
            while (uid := self._queue.pop()) is not None:
                self.reconcile(uid)
                if clock() >= until:
                    await asyncio.sleep(0)
                    until = clock() + TIME_SLICE

    def reconcile(self, uid: str) -> None:
        """Decide for the object, if it is still there, by what is known now. Equal knowledge gives equal results."""
        tracked = self._cache.objects.get(uid)
        if tracked is None:
            return
        self._bind(tracked)
        if not self._leadership.is_leading:
            self._cache.note(tracked)
            return
        now = self._dependencies.now()
        job = self._cache.jobs[tracked.key] if tracked.key is not None else None
        if job is not None:
            visible = self.visibility.visible_state(tracked, job, now)
        elif isinstance(tracked.scope, Deny):
            visible = VisibleState(tracked.scope, JobState())
        else:
            # The policies are not known yet.
            self._cache.note(tracked)
            return
        before = tracked.record.status
        hold = self._holds.of(tracked, None)
        record = tracked.record.replace(
            access=visible.access,
            held=hold.message if hold is not None else None,
            account=self._dependencies.provider.account(job.key.target) if job is not None else None,
            deletion=self._deletion(tracked) if tracked.deletion is not None else None,
        )
        if visible.withhold:
            record = record.replace(status=unconfirmed(record, now))
        state = visible.job
        if record.spec.deadline is not None and record.deadline_after is None:
            record = record.replace(deadline_after=state.asked_at or 0)
        if job is not None and self._terminator.in_flight(job.key):
            state = state.in_flight()
        result = reconcile(record, state, now, self._intervals)
        if result.terminate is None or result.terminate.cause in UNATTENDED:
            record, result, hold = self._within_limit(tracked, record, state, result, hold)
        if tracked.deletion is not None:
            tracked.deletion.paused = hold is not None and hold.cause in _PAUSES
        tracked.finalizer_wanted, tracked.given_up = result.finalizer, result.given_up
        tracked.record = record.replace(status=result.status, wanted=result.wanted)
        self._cache.note(tracked)
        sent = result.status.termination
        if sent is not None and state.request is not None and _newly_accepted(sent, before.termination):
            # Another object's request counts for this one, too. That object's own line was written with the answer.
            log_accepted(tracked, sent)
        tracked.steady_interval = result.steady_interval
        sending = False
        if job is not None:
            sending = state.call_in_flight or self._terminate(tracked, job, visible, result, now)
            self._schedule(tracked, job, visible, result, now)
        self._requeue(tracked, job, result, now)
        checking = record.deletion is not None and record.deletion.crd is Crd.UNKNOWN
        self._write(tracked, before, job is None, answer_soon=sending or checking)

    def _within_limit(
        self, tracked: TrackedObject, record: Record, state: JobState, result: ReconcileResult, hold: Hold | None
    ) -> tuple[Record, ReconcileResult, Hold | None]:
        """Decide again if the termination that is to be sent for a deadline or a deletion is held."""
        if result.terminate is None:
            if not state.call_in_flight:
                self._holds.limit.withdraw(tracked.ref.uid)
            return record, result, hold
        held = self._holds.of_unattended(tracked, result.terminate.cause)
        if held is None:
            return record, result, hold
        record = record.replace(held=held.message)
        return record, reconcile(record, state, self._dependencies.now(), self._intervals), held

    def _deletion(self, tracked: TrackedObject) -> Deletion | None:
        deletion = tracked.held_deletion
        if deletion is None:
            return None
        waited = deletion.count(asyncio.get_running_loop().time())
        return Deletion(deletion.at, self._holds.crd.require(tracked, deletion), waited)

    # -- job ----------------------------------------------------------------------------------------------------------

    def _bind(self, tracked: TrackedObject) -> None:
        """Bind the object to its job. Another target means another job, even with the same id: drop the old state."""
        resolved = self._policies.resolve(tracked.ref.namespace, tracked.record.spec.region)
        if resolved == tracked.resolved and tracked.scope == resolved:
            return
        scope = tracked.resolved = resolved
        if isinstance(scope, Scope) and not self._dependencies.provider.knows_region(scope.target.region):
            scope = invalid_region(scope.target.region)
        before, tracked.scope = tracked.key, scope
        if isinstance(scope, Scope):
            job_id = tracked.record.spec.job_id
            self._cache.bind(tracked, JobKey(scope.target, job_id), deciding_parent(scope, job_id))
            self._terminator.targets.ensure(scope.target)
        else:
            self._cache.bind(tracked, None)
        job = self._cache.job_of(tracked)
        if tracked.key != before:
            tracked.hidden = tracked.steady_interval = tracked.next_poll_at = None
            if before is not None:
                self._poller.discard(tracked, before.target)
                self._terminator.withdraw(tracked, before.target)
        elif job is not None:
            # The policy has changed: what a person had to fix may be fixed with it.
            job.state = job.state.retry_refused()
            if tracked.hidden is not None:
                tracked.hidden = replace(tracked.hidden, job_state=tracked.hidden.job_state.retry_refused())

    # -- actions ------------------------------------------------------------------------------------------------------

    def _terminate(
        self, tracked: TrackedObject, job: TrackedJob, visible: VisibleState, result: ReconcileResult, now: Millis
    ) -> bool:
        """Request the termination if it may be sent. Return whether it waits to be sent."""
        intent, target = result.terminate, job.key.target
        if intent is not None and not job.held_until - MAX_HOLD <= now < job.held_until:
            match visible.authorization:
                case Allow() if intent.max_age is not None and not job.answer_counts(intent.max_age, now):
                    if _describe_helps(job, now, intent.max_age):
                        self._poller.poll_now(tracked)
                case Allow() as allow:
                    self._terminator.request(
                        TerminatePermit(
                            allow,
                            tracked,
                            intent,
                            self._cache,
                            self._policies,
                            self._holds,
                            self._dependencies.now,
                            job.state.request,
                            job.state.job.status_reason if job.state.job is not None else None,
                        )
                    )
                    return True
                case NeedsDescribe(job_ids=job_ids):
                    needed = (self._cache.jobs.get(JobKey(target, job_id)) for job_id in job_ids)
                    if any(other is not None and _describe_helps(other, now, MAX_TAG_AGE) for other in needed):
                        self._poller.poll_now(tracked)
        self._terminator.withdraw(tracked, target)
        return False

    def _schedule(
        self, tracked: TrackedObject, job: TrackedJob, visible: VisibleState, result: ReconcileResult, now: Millis
    ) -> None:
        """Schedule the next poll for this object."""
        next_poll_at, hidden_due, rank = result.next_poll_at, 0, Rank.NORMAL
        if result.steady_interval is not None and next_poll_at is not None and not visible.hidden:
            interval = self._pace.interval(job, result.steady_interval)
            next_poll_at += interval - result.steady_interval
            rank = Rank.LAST if interval >= result.steady_interval else Rank.NORMAL
        if visible.hidden and next_poll_at is not None:
            # First: a poll that is in flight for others, or starts at once, must not count at the wrong time.
            hidden_due = self.visibility.schedule_hidden_poll(tracked, next_poll_at, now)
        if next_poll_at == tracked.next_poll_at or self._poller.in_flight(job.key):
            # The object is reconciled again when the call in flight is answered.
            return
        if job.lists and result.steady_interval is not None and (tracked.next_poll_at or 0) > (next_poll_at or 0):
            # A list has shown the job unchanged since its last poll.
            return
        tracked.next_poll_at = next_poll_at
        if next_poll_at is None:
            self._poller.discard(tracked, job.key.target)
        elif visible.hidden and hidden_due > now:
            self._poller.poll_after(tracked, (hidden_due - now) / SECOND, exact=True)
        elif next_poll_at <= now and tracked.record.termination_wanted and job.state.polled_at is None:
            self._poller.poll_now(tracked)
        elif visible.hidden:
            self._poller.poll_after(tracked, 0.0, exact=True)
        else:
            # A poll that confirms or retries must not be early: it would have no effect and need another one.
            settled = job.state.last_error is None and job.state.terminate_error is None and not job.state.misses
            jitter = self._dependencies.jitter(0.9 if settled else 1.0, 1.1)
            seconds = max(next_poll_at - now, 0) / SECOND * jitter
            self._poller.poll_after(tracked, seconds, rank=rank)

    def _requeue(self, tracked: TrackedObject, job: TrackedJob | None, result: ReconcileResult, now: Millis) -> None:
        """Schedule the next reconcile without news: of a limit, of the end of a deletion, or of a retry."""
        requeue_at, jitter = result.requeue_at, 1.0
        delayed = job is not None and (job.state.terminate_error is not None or now < job.held_until)
        if job is not None and delayed and tracked.record.termination_wanted:
            retry, jitter = retry_at(tracked.record, job.state, now), self._dependencies.jitter(1.0, 1.1)
            if retry is None and now < job.held_until <= now + MAX_HOLD:
                retry = job.held_until
            requeue_at = min((at for at in (retry, requeue_at) if at is not None), default=None)
        if requeue_at is not None:
            at = asyncio.get_running_loop().time() + max(requeue_at - now, 0) / SECOND * jitter
            self._queue.add_at(tracked.ref.uid, tracked.ref.namespace, at)

    def _write(self, tracked: TrackedObject, before: Status, no_job: bool, *, answer_soon: bool) -> None:
        after = tracked.record.status
        if tracked.last_written == after:
            # Keep one of two equal statuses: this one shares its job with the state of the job.
            tracked.last_written = after
        differs = tracked.finalizer_wanted is not (FINALIZER in tracked.finalizers)
        if (
            differs
            and (tracked.adds_finalizer or tracked.removes_finalizer)
            and (after != before or not tracked.write_failures)
        ):
            # At once: the object may be deleted at any moment, or waits for its release.
            tracked.hold_until = 0.0
            self._writer.add(tracked)
            return
        if after == before and not tracked.hold_until:
            return
        if after.termination is not None and after.termination.completed_at is not None:
            self._measure(before, after)
        # Usually an answer arrives soon, and one write reports both: the answer to a waiting TerminateJob, or to the
        # check of the CRD, or to a poll that confirms hidden details, or a policy that is applied together with its
        # first objects.
        withheld = after.phase is Phase.UNKNOWN and before.job is not None
        if answer_soon or withheld or (no_job and before.phase is None) or (tracked.hold_until and after == before):
            now = asyncio.get_running_loop().time()
            tracked.hold_until = tracked.hold_until or now + HOLD
            if now < tracked.hold_until:
                self._queue.add_at(tracked.ref.uid, tracked.ref.namespace, tracked.hold_until)
                return
        tracked.hold_until = 0.0
        self._writer.add(tracked)

    def _measure(self, before: Status, after: Status) -> None:
        """Record how long the termination took, once the status shows its end."""
        ended = after.termination
        if ended is None or ended.completed_at is None or ended.accepted_at is None:
            return
        if before.termination is None or before.termination.completed_at is None:
            seconds = max(ended.completed_at - ended.accepted_at, 0) / SECOND
            self._dependencies.telemetry.termination_completed(seconds)


def _newly_accepted(sent: Termination, before: Termination | None) -> bool:
    return sent.accepted_at is not None and (before is None or before.accepted_at != sent.accepted_at)


def _describe_helps(job: TrackedJob, now: Millis, max_age: Millis | None) -> bool:
    """Return whether a poll right now may show more. A failed poll, or one without the job, has its own schedule."""
    fresh = job.state.job is not None and (max_age is None or 0 <= now - job.requested_at <= max_age)
    return not fresh and job.state.last_error is None and not job.state.misses
