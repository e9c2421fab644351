"""Terminations: namespaces in turn, those of one target and reason in one call, each sent only while it is stated."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from awsbatch_operator.api.batchjob import Cause, Intent, Spec
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import Accepted, BatchProvider
from awsbatch_operator.api.job import JobKey, Target
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.controller.cache import Cache, TrackedObject
from awsbatch_operator.controller.holds import Hold, Holds
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.policy.authorizer import Allow
from awsbatch_operator.reconcile.job_state import Request
from awsbatch_operator.workqueue.coalescer import Coalescer, Dispatchers, Pacer
from awsbatch_operator.workqueue.fair_queue import FairQueue

GATHER: Final = 1.0
"""Seconds that a termination waits for the answer of a call with the same reason, to go with the next call."""

IN_FLIGHT: Final = 8
"""TerminateJob and TerminateJobs calls in flight at once for a target."""


_PRECEDENCE: Final = tuple(Cause)

Sharing = tuple[str, str, str]
"""Namespace, reason and uid of terminations that may share a call: no namespace where IAM can't tell namespaces apart,
and a uid only where a shared call was rejected as a whole."""


@dataclass(slots=True, eq=False)
class TerminatePermit:
    """Leave to terminate the job of one object, by one intent. Asked with the last byte, from any thread.

    `request` is what AWS Batch had accepted for the job when the termination was decided, `status_reason` the job's
    statusReason then. `sharing` is the terminator's: with which others this one waits.
    """

    allow: Allow
    tracked: TrackedObject
    intent: Intent
    cache: Cache
    policies: PolicyCache
    holds: Holds
    now: Callable[[], Millis]
    request: Request | None = None
    status_reason: str | None = None
    target: Target = field(init=False)
    namespace: str = field(init=False)
    job_id: str = field(init=False)
    key: JobKey = field(init=False)
    spec: Spec = field(init=False)
    sharing: Sharing = ("", "", "")

    def __post_init__(self) -> None:
        scope = self.allow.scope
        self.target, self.namespace, self.job_id = scope.target, scope.namespace, self.allow.job_id
        self.key, self.spec = JobKey(self.target, self.job_id), self.tracked.record.spec

    def stated(self) -> bool:
        """Return whether the object still exists and states this very termination for this very job."""
        tracked = self.cache.objects.get(self.tracked.ref.uid)
        if tracked is not self.tracked or tracked.key != self.key:
            return False
        spec = tracked.record.spec
        return spec is self.spec or spec.stated(self.intent.cause) == self.intent.stated

    @property
    def rank(self) -> tuple[int, Millis, Millis, str]:
        """If several objects request the termination of one job, the operator sends the reason of the lowest rank."""
        record, uid = self.tracked.record, self.tracked.ref.uid
        return _PRECEDENCE.index(self.intent.cause), self.intent.due_at, record.created_at, uid

    def superseded(self) -> bool:
        """Whether AWS Batch has accepted a request for the job since: the object is about to be reconciled."""
        job = self.cache.jobs.get(self.key)
        return job is not None and job.state.request != self.request

    def hold(self) -> Hold | None:
        return self.holds.of(self.tracked, self.intent.cause)

    def valid(self) -> bool:
        job, max_age = self.cache.jobs.get(self.key), self.intent.max_age
        # Without a time limit no clock need be read.
        now = 0 if self.allow.valid_until is None and max_age is None else self.now()
        if job is None or not self.stated() or (max_age is not None and not job.answer_counts(max_age, now)):
            return False
        held = self.holds.of(self.tracked, self.intent.cause)
        return held is None and self.policies.is_valid(self.allow, now)


Answer = CallError | Accepted
OnTerminateResult = Callable[[TerminatePermit, Answer, Millis], None]
"""Receives the permit, the answer for its job, and when it was requested."""


class Terminator:
    """Sends the wanted terminations. `on_result` receives each answer, `on_expired` each expired permit."""

    def __init__(
        self,
        provider: BatchProvider,
        *,
        on_result: OnTerminateResult,
        now: Callable[[], Millis],
        is_leader: Callable[[], bool],
    ) -> None:
        self._provider = provider
        self.targets: Dispatchers[Target, TargetTerminator] = Dispatchers(
            lambda target: TargetTerminator(target, provider, on_result=on_result, now=now, is_leader=is_leader)
        )

    def request(self, permit: TerminatePermit) -> None:
        """Send the termination in its turn; it replaces the object's earlier request."""
        self.targets[permit.target].request(permit)

    def withdraw(self, tracked: TrackedObject, target: Target) -> None:
        if target in self.targets:
            self.targets[target].withdraw(tracked.ref.uid)

    def in_flight(self, key: JobKey) -> bool:
        target = self.targets.get(key.target)
        return target is not None and key in target.requested

    def depth(self) -> int:
        return sum(len(target.waiting) for target in self.targets.values())

    def stop(self) -> None:
        """Send no more; calls in flight continue."""
        self._provider.stop()
        self.clear()
        self.targets.stop()

    def clear(self) -> None:
        for target in self.targets.values():
            target.clear()


NOT_VALID: Final = CallError(ErrorClass.NOT_SENT, "the permit was no longer valid", "PermitExpired")


class TargetTerminator:
    """The terminations of one target, by uid of the object. One call of a job at a time."""

    def __init__(
        self,
        target: Target,
        provider: BatchProvider,
        *,
        on_result: OnTerminateResult,
        now: Callable[[], Millis],
        is_leader: Callable[[], bool],
    ) -> None:
        self._target_key, self._provider = target, provider
        self._on_result, self._now, self._is_leader = on_result, now, is_leader
        self._clock = asyncio.get_running_loop().time
        self._queue: FairQueue[str] = FairQueue(self._clock)
        self._pacer: Pacer[Sharing] = Pacer(self._clock)
        self._sharing: dict[Sharing, dict[str, None]] = {}
        self.waiting: dict[str, TerminatePermit] = {}
        self.requested: set[JobKey] = set()
        self._in_flight: dict[Sharing, float] = {}
        self.coalescer: Coalescer[tuple[TerminatePermit, ...]] = Coalescer(
            wait=self._queue.wait,
            slot=lambda: provider.terminate_slot(target),
            take=self._take,
            send=self._send,
            in_flight=IN_FLIGHT,
        )

    def request(self, permit: TerminatePermit) -> None:
        uid = permit.tracked.ref.uid
        alone = uid if permit.tracked.terminated_alone else ""
        permit.sharing = (permit.namespace if self._target_key.role else "", permit.intent.reason, alone)
        before = self._drop(uid)
        self.waiting[uid] = permit
        self._sharing.setdefault(permit.sharing, {})[uid] = None
        if before is None:
            self._queue.add(uid, permit.tracked.ref.namespace)

    def withdraw(self, uid: str) -> None:
        if self._drop(uid) is not None:
            self._queue.discard(uid)

    def clear(self) -> None:
        for uid in list(self.waiting):
            self.withdraw(uid)

    def _drop(self, uid: str) -> TerminatePermit | None:
        permit = self.waiting.pop(uid, None)
        if permit is not None:
            others = self._sharing[permit.sharing]
            del others[uid]
            if not others:
                del self._sharing[permit.sharing]
        return permit

    def _take(self) -> tuple[TerminatePermit, ...] | None:
        """The next object's termination, and up to a whole call's worth of others that may share its call."""
        if not self._is_leader():
            # Everything is decided anew once this replica leads again.
            self.clear()
            return None
        while (uid := self._queue.pop()) is not None:
            first = self.waiting[uid]
            if (job := first.cache.jobs.get(first.key)) is not None and len(job.objects) > 1:
                first = self._first_of_job(first)
            shared = self._sharing[first.sharing]
            at, limit = self._in_flight.get(first.sharing), 1
            if at is None or at <= self._clock():
                at = self._pacer.start(first.sharing)
            if at is not None or len(shared) > 1:
                limit = self._provider.terminate_limit(self._target_key)
            if at is not None and len(shared) < limit:
                # Its reason was sent a moment ago: what comes meanwhile, or until that call is answered, goes with the
                # next call. Others have their turn.
                self._queue.add_at(uid, self.waiting[uid].namespace, at)
                continue
            others = [permit for other in shared if (permit := self.waiting[other]) is not first]
            if first.tracked.ref.uid != uid:
                # The turn of the object that waited longest, the words of the one with precedence.
                self._drop(uid)
                self._queue.discard(first.tracked.ref.uid)
            taken = self._taken((first, *others), limit)
            if taken:
                self._in_flight[first.sharing] = self._clock() + GATHER
                return taken
        return None

    def _first_of_job(self, permit: TerminatePermit) -> TerminatePermit:
        """Return the permit with precedence among all that wait for the same job."""
        job = permit.cache.jobs.get(permit.key)
        waiting = (self.waiting.get(uid) for uid in job.objects) if job is not None else ()
        valid = (one for one in waiting if one is not None and one.key == permit.key and one.valid())
        return min(valid, key=lambda one: one.rank, default=permit)

    def _taken(self, shared: tuple[TerminatePermit, ...], limit: int) -> tuple[TerminatePermit, ...]:
        """Those of the permits that go into one call. The first has left the queue, and waits no longer."""
        self._drop(shared[0].tracked.ref.uid)
        permits: dict[JobKey, TerminatePermit] = {}
        expired = []
        for permit in shared:
            superseded = permit.superseded()
            if not permit.valid():
                expired.append(permit)
            elif (
                not superseded
                and permit.key not in self.requested
                and permit.key not in permits
                and (permit is shared[0] or self._first_of_job(permit) is permit)
            ):
                permits[permit.key] = permit
                if len(permits) == limit:
                    break
        # One whose job has a call under way, or had one since, is not sent: the answer makes its object decide anew.
        if len(shared) > 1:
            for permit in (*expired, *permits.values()):
                self.withdraw(permit.tracked.ref.uid)
        for permit in expired:
            self._on_result(permit, NOT_VALID, self._now())
        self.requested.update(permits)
        return tuple(permits.values())

    async def _send(self, permits: tuple[TerminatePermit, ...]) -> None:
        requested_at = self._now()
        try:
            answer = await self._provider.terminate(self._target_key, permits, permits[0].intent.reason)
        finally:
            self.requested.difference_update(permit.key for permit in permits)
            self._in_flight.pop(permits[0].sharing, None)
            for uid in self._sharing.get(permits[0].sharing, ()):
                self._queue.add(uid, self.waiting[uid].tracked.ref.namespace)
        if isinstance(answer, CallError) and answer.error_class is ErrorClass.REJECTED and len(permits) > 1:
            # AWS rejects the call because of one id: send each alone.
            for permit in permits:
                permit.tracked.terminated_alone = True
                self.request(permit)
            return
        for permit in permits:
            permit.tracked.terminated_alone = False
            self._on_result(permit, answer if isinstance(answer, CallError) else answer[permit], requested_at)
