"""The controller: watch events and answers change the cache and add keys to one work queue; keys are reconciled.

Everything here runs on one event loop. The watch calls `on_upsert` and `on_delete`, the elector
`on_started_leading` and `on_stopped_leading`; only the leader calls AWS and writes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from awsbatch_operator.api.batchjob import Cause, HoldCause, Spec
from awsbatch_operator.api.decoding import Snapshot
from awsbatch_operator.api.interfaces import PolicyStatus
from awsbatch_operator.api.job import Target
from awsbatch_operator.controller.answers import AnswerHandler
from awsbatch_operator.controller.bulk_controller import BulkController
from awsbatch_operator.controller.cache import Cache, TrackedDeletion, TrackedObject, newer
from awsbatch_operator.controller.crd_check import CrdCheck
from awsbatch_operator.controller.dependencies import Dependencies, wall_clock
from awsbatch_operator.controller.event_receiver import EventReceiver
from awsbatch_operator.controller.holds import Holds
from awsbatch_operator.controller.list_poller import ListPoller
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.controller.policy_status import policy_statuses
from awsbatch_operator.controller.poll_pace import PollPace
from awsbatch_operator.controller.poller import Poller
from awsbatch_operator.controller.reconciler import Reconciler
from awsbatch_operator.controller.resync import Resync
from awsbatch_operator.controller.status_writer import StatusWriter, report_event
from awsbatch_operator.controller.terminator import Terminator
from awsbatch_operator.controller.unattended_limit import UnattendedLimit
from awsbatch_operator.policy.resolution import Mode
from awsbatch_operator.reconcile.events import intent_change
from awsbatch_operator.reconcile.outcome import Record
from awsbatch_operator.reconcile.poll_intervals import PollIntervals
from awsbatch_operator.workqueue.fair_queue import FairQueue, Rank

POLLS_FINISH_WITHIN: Final = 1.0
"""Seconds that polls in flight get at the end."""
PRUNE_EVERY: Final = 300.0
"""Seconds between two searches for targets that no object names any more."""
_TICK: Final = 2.0
FROZEN_AFTER: Final = 5.0
"""Seconds between two ticks after which the process was frozen: the watch may have ended meanwhile."""
_TIME_SLICE: Final = 0.005
"""Seconds of work after which probes, answers and writes get their turn of the event loop."""

log = structlog.get_logger(__name__)


class Controller:
    """`policies` resolves which policy applies; None: there are no policies, and none is required.

    `events_queues`: URLs of the queues that get the events of the operator's own account.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        *,
        region: str,
        intervals: PollIntervals,
        policies: PolicyCache | None = None,
        unattended_limit: int = 500,
        events_queues: Sequence[str] = (),
        list_polls: bool = True,
    ) -> None:
        self._dependencies = dependencies
        self.policies = policies or _no_policies(region)
        self.policies.subscribe(self._on_policy_change)
        # Namespaces whose objects must be reconciled, because a policy or their labels changed.
        self._changed: dict[str, None] = {}
        self._policies_changed = asyncio.Event()
        self.cache = Cache()
        self._queue: FairQueue[str] = FairQueue(asyncio.get_running_loop().time)
        self._crd = CrdCheck(dependencies.client, on_answer=self._add)
        self.holds = Holds(
            self.cache,
            self.policies,
            on_change=self._decide_terminations,
            crd=self._crd,
            limit=UnattendedLimit(unattended_limit, on_place=self._queue.add),
        )
        self.is_leading = False
        self.beat_at: float | None = None
        provider, client = dependencies.provider, dependencies.client
        self._writer = StatusWriter(
            self.cache,
            client,
            dependencies.telemetry,
            on_upsert=self.on_read,
            on_delete=self.on_delete,
            is_leader=self.may_act,
        )
        pace = PollPace(intervals.with_events, dependencies.now)
        self._answers = AnswerHandler(
            self.cache,
            dependencies,
            self._queue,
            writer=self._writer,
            pace=pace,
            is_leading=lambda: self.is_leading,
            limit=self.holds.limit,
        )
        self._poller = Poller(
            self.cache,
            provider,
            on_result=self._answers.on_describe_result,
            now=dependencies.now,
            is_leader=self.may_act,
        )
        self._terminator = Terminator(
            provider, on_result=self._answers.on_terminate_result, now=dependencies.now, is_leader=self.may_act
        )
        self._reconciler = Reconciler(
            self.cache,
            dependencies,
            intervals,
            self.policies,
            self._queue,
            pace=pace,
            holds=self.holds,
            poller=self._poller,
            terminator=self._terminator,
            writer=self._writer,
            is_leading=lambda: self.is_leading,
        )
        self._answers.poller, self._answers.visibility = self._poller, self._reconciler.visibility
        self.resync = Resync(
            self.cache,
            client,
            on_read=self.on_read,
            on_delete=self.on_delete,
            on_confirmed=self._decide_terminations,
            now=dependencies.now,
        )
        self.events = EventReceiver(
            dependencies,
            events_queues,
            cache=self.cache,
            poller=self._poller,
            policies=self.policies,
            may_act=self.may_act,
        )
        pace.events_since = self.events.since
        self.bulk = BulkController(
            dependencies, self.policies, self.holds, first_polls=self._poller.first_polls, may_act=self.may_act
        )
        self._stopping = asyncio.Event()
        self.lists = ListPoller(
            self.cache,
            provider,
            self._poller,
            now=dependencies.now,
            is_leader=lambda: self.may_act() and not self._stopping.is_set(),
            jitter=dependencies.jitter,
            interval=pace.target_interval,
        )
        self._list_polls = list_polls
        self._stale: frozenset[HoldCause] = frozenset()

    # -- run ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until `stop`, then finish the calls in flight. An error in any part stops all of them."""
        async with asyncio.TaskGroup() as tasks:
            self._terminator.targets.start(tasks)
            parts = (self._poller, self._writer, self.resync, self._crd, self.bulk, self.events)
            background = [tasks.create_task(part.run()) for part in parts]
            if self._list_polls:
                background.append(tasks.create_task(self.lists.run()))
            background += [tasks.create_task(run()) for run in (self._work, self._tick, self._follow_policies)]
            await self._stopping.wait()
            self._poller.targets.stop()
            await self._finish()
            for task in background:
                task.cancel()

    def stop(self) -> None:
        self._stopping.set()
        self._terminator.stop()
        self.bulk.stop()

    async def _finish(self) -> None:
        """Wait for the answers of calls in flight, and write what was accepted; the caller limits the time.

        Other waiting work is dropped: the next leader finds it in the specs, and waits for this process.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._poller.targets.drained(), POLLS_FINISH_WITHIN)
        await self._terminator.targets.drained()
        await self.bulk.calls.terminations.drained()
        while (uid := self._queue.pop()) is not None:
            self._reconciler.reconcile(uid)
        self._writer.retain(lambda tracked: tracked.record.status.termination != tracked.last_written.termination)
        await self._writer.drained()

    async def on_started_leading(self) -> None:
        """Start to act on everything that the watch has delivered so far."""
        now = self._dependencies.now()
        # All of them before the first decision.
        async for tracked in _in_slices(self.cache.objects.values()):
            # Drop statuses that an earlier term computed but did not write: they would seem written.
            tracked.record = replace(tracked.record, status=tracked.last_written, known_since=now)
            if tracked.deletion is not None:
                tracked.deletion = TrackedDeletion(tracked.deletion.at, tracked.deletion.seen_at)
        self.is_leading = True
        self._dependencies.telemetry.leading(yes=True)
        self.bulk.on_started_leading()
        for tracked in self.cache.terminating.values():
            self._add(tracked)
        async for tracked in _in_slices(self.cache.objects.values()):
            if tracked.foreign_status is not None:
                self._writer.correct(tracked)
            self._add(tracked)

    def on_stopped_leading(self) -> None:
        """Stop acting at once and drop the state of all jobs: it becomes stale."""
        self.is_leading = False
        self._dependencies.telemetry.leading(yes=False)
        for part in (
            *(self._queue, self._writer, self._poller, self._terminator, self._answers),
            *(self._crd, self.holds.limit, self.events),
        ):
            part.clear()
        self.bulk.on_stopped_leading()
        for job in self.cache.jobs.values():
            job.state = type(job.state)(request=job.state.request)
            job.expired = job.held_until = job.hinted_at = 0
        for tracked in self.cache.objects.values():
            tracked.hidden = tracked.steady_interval = tracked.next_poll_at = None
            tracked.finalizer_wanted, tracked.hold_until = None, 0.0

    def doubt(self) -> None:
        """Send no termination until what is stated has been listed again: changes may have been missed."""
        self.resync.doubt()
        self.bulk.doubt()

    def may_act(self) -> bool:
        """Checked right before each call and write: a process that was frozen learns late that it lost the Lease."""
        is_leader = self._dependencies.is_leader
        return self.is_leading and (is_leader is None or is_leader())

    # -- the work queue -----------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._queue.wait()
            until = clock() + _TIME_SLICE
            while (uid := self._queue.pop()) is not None:
                self._reconciler.reconcile(uid)
                if clock() >= until:
                    await asyncio.sleep(0)
                    until = clock() + _TIME_SLICE

    def _on_policy_change(self, namespaces: Iterable[str] | None) -> None:
        """Handle a possible change for these namespaces (None: all). Permits resolve their policy themselves."""
        self._changed |= dict.fromkeys(self.cache.namespaces if namespaces is None else namespaces)
        if self._changed:
            self._policies_changed.set()

    async def _follow_policies(self) -> None:
        while True:
            await self._policies_changed.wait()
            self._policies_changed.clear()
            while self._changed:
                namespace = next(iter(self._changed))
                del self._changed[namespace]
                async for tracked in _in_slices(self.cache.namespaces.get(namespace, {}).values()):
                    self._add(tracked)

    async def _tick(self) -> None:
        pruned_at = self.beat_at = asyncio.get_running_loop().time()
        while True:
            before, self.beat_at = self.beat_at, asyncio.get_running_loop().time()
            if self.beat_at - before > FROZEN_AFTER:
                self.doubt()
            stale = self.holds.stale()
            if stale != self._stale:
                self._stale = stale
                self._decide_terminations()
            self.holds.limit.grant()
            if self.beat_at - pruned_at >= PRUNE_EVERY:
                pruned_at = self.beat_at
                self._prune()
            await asyncio.sleep(_TICK)

    def _add(self, tracked: TrackedObject) -> None:
        rank = Rank.FIRST if tracked.ref.uid in self.cache.terminating else Rank.NORMAL
        self._queue.add(tracked.ref.uid, tracked.ref.namespace, rank=rank)

    def _decide_terminations(self) -> None:
        self.bulk.wake_held()
        for tracked in self.cache.terminating.values():
            self._add(tracked)

    def _prune(self) -> None:
        used = self._used_targets()
        for target in (self._answers.silent_since.keys() | self.events.readers) - used:
            self._answers.silent_since.pop(target, None)
            self.events.readers.discard(target)
            self._dependencies.provider.forget(target)
        self._poller.targets.prune(used)
        self._terminator.targets.prune(used)
        self.bulk.calls.prune(used)

    def _used_targets(self) -> set[Target]:
        return self.cache.targets.keys() | self.bulk.targets() | self.events.targets()

    # -- watch events -------------------------------------------------------------------------------------------------

    def on_relist(self, uid: str) -> None:
        """Handle a new list of the watch. It does not report deletions that it missed before: resync soon."""
        if uid in self.cache.objects:
            self.resync.soon()

    def on_upsert(self, snapshot: Snapshot) -> None:
        """One version of an object, by the watch. Versions may come twice, late and in any order."""
        uid = snapshot.ref.uid
        if self.resync.undelivered:
            self.resync.on_watch_event(uid, snapshot.resource_version)
        known = self.cache.objects.get(uid)
        if known is None or newer(snapshot.resource_version, known.resource_version):
            self.on_read(snapshot)
        else:
            known.updated_at = asyncio.get_running_loop().time()

    def on_read(self, snapshot: Snapshot) -> None:
        """Handle an object that was read just now. It counts even if its version is lower than the known one."""
        if snapshot.spec is None:
            log.error("this version of the operator cannot read the spec; object ignored", object=snapshot.ref)
            self.on_delete(snapshot.ref.uid)
            self.cache.unreadable[snapshot.ref.uid] = snapshot.resource_version
            return
        self.cache.unreadable.pop(snapshot.ref.uid, None)
        if self.cache.unconfirmed:
            self.cache.confirm(snapshot.ref.uid, snapshot.resource_version)
        tracked = self.cache.objects.get(snapshot.ref.uid)
        if tracked is None:
            tracked = self._new(snapshot, snapshot.spec)
            self.cache.add(tracked)
        else:
            self._update(tracked, snapshot, snapshot.spec)
        rank = Rank.NORMAL if snapshot.spec.terminate is None else Rank.FIRST
        self._queue.add(snapshot.ref.uid, snapshot.ref.namespace, rank=rank)

    def on_delete(self, uid: str) -> None:
        """Handle the deletion of an object. Its job continues; a termination that was not sent yet is not sent."""
        if self.resync.undelivered:
            self.resync.on_watch_event(uid, None)
        self.cache.unreadable.pop(uid, None)
        self.cache.confirm(uid, None)
        tracked = self.cache.objects.get(uid)
        if tracked is None:
            return
        if self.is_leading:
            self._report_intent_change(tracked, None)
        if tracked.key is not None:
            self._poller.discard(tracked, tracked.key.target)
            self._terminator.withdraw(tracked, tracked.key.target)
        self._queue.discard(uid)
        self._writer.forget(tracked)
        self.holds.limit.withdraw(uid)
        self._answers.recovery.forget(uid)
        self.cache.remove(uid)

    def _new(self, snapshot: Snapshot, spec: Spec) -> TrackedObject:
        now, status = self._dependencies.now(), snapshot.status
        if status.observed_generation != snapshot.generation:
            # It may be about another deadline.
            status = status.replace(deadline=None)
        record = Record(
            spec=spec,
            region=spec.region or self.policies.region,
            generation=snapshot.generation,
            created_at=snapshot.created_at,
            changed_at=now,
            known_since=now,
            status=status,
        )
        at = asyncio.get_running_loop().time()
        tracked = TrackedObject(snapshot.ref, record, snapshot.resource_version, status, at)
        tracked.finalizers = snapshot.finalizers
        _note_deletion(tracked, snapshot)
        tracked.compare(status, snapshot.shown, snapshot.digest, self._dependencies.client.change)
        return tracked

    def _update(self, tracked: TrackedObject, snapshot: Snapshot, spec: Spec) -> None:
        record = tracked.record
        # The leader keeps its desired status whatever others write; a follower uses the status that it reads.
        status = record.status if self.is_leading else snapshot.status
        deadline_after = record.deadline_after
        if spec.deadline != record.spec.deadline:
            # Another deadline: its notice counts from now.
            status, deadline_after = status.replace(deadline=None), None
        changed_at, withdrawn_at = record.changed_at, record.withdrawn_at
        if record.generation != snapshot.generation:
            changed_at = self._dependencies.now()
            wanted = record.wanted
            if wanted is not None and spec.stated(wanted.cause) is None:
                withdrawn_at = changed_at
            before = record.spec
            if self.is_leading and (before.terminate or before.deadline or before.on_delete):
                self._report_intent_change(tracked, spec)
        tracked.record = replace(
            record,
            spec=spec,
            region=spec.region or self.policies.region,
            generation=snapshot.generation,
            changed_at=changed_at,
            withdrawn_at=withdrawn_at,
            deadline_after=deadline_after,
            status=status,
        )
        tracked.resource_version = snapshot.resource_version
        tracked.updated_at = asyncio.get_running_loop().time()
        tracked.finalizers = snapshot.finalizers
        if snapshot.deleted is not None or tracked.deletion is not None:
            _note_deletion(tracked, snapshot)
        change = self._dependencies.client.change
        if not self.is_leading:
            tracked.compare(status, snapshot.shown, snapshot.digest, change)
        elif snapshot.digest != tracked.digest:
            tracked.compare(tracked.last_written, snapshot.shown, snapshot.digest, change)
            if change(tracked.record.status, tracked.shown):
                self._writer.correct(tracked)

    def _report_intent_change(self, tracked: TrackedObject, spec: Spec | None) -> None:
        job, sent = self.cache.job_of(tracked), tracked.record.status.termination
        accepted = sent is not None and sent.accepted_at is not None
        alive = job is not None and job.state.job is not None and not job.state.job.finished
        in_flight = job is not None and self._terminator.in_flight(job.key)
        record = tracked.record
        for cause in Cause:
            wanted = cause is Cause.TERMINATE or (record.wanted is not None and record.wanted.cause is cause)
            if cause is Cause.ON_DELETE and not wanted:
                # The object is not being deleted: an edit concerns no termination.
                continue
            event = intent_change(
                record.spec, spec, cause, wanted=wanted, accepted=accepted, in_flight=in_flight, job_alive=alive
            )
            if event is not None:
                report_event(self._dependencies.client, tracked, event)

    # -- reports ------------------------------------------------------------------------------------------------------

    def silent_for(self) -> float:
        """Return the seconds without an answer to describes of any target; 0: there are answers, or none is needed."""
        used = self._used_targets()
        since = [began for target, began in self._answers.silent_since.items() if target in used]
        silent = [began for began in since if began is not None]
        if not silent or len(silent) < len(since):
            return 0.0
        return asyncio.get_running_loop().time() - max(silent)

    @property
    def depths(self) -> Mapping[str, Callable[[], int]]:
        """Functions that return the number of waiting keys, by queue."""
        return {
            "reconcile": self._queue.ready,
            "describe": self._poller.depth,
            "terminate": self._terminator.depth,
            "status": self._writer.depth,
        }

    def policy_statuses(self, *, all_jobs: bool = True) -> Mapping[str, PolicyStatus]:
        """Return the wanted statuses of the access policies. `all_jobs`: whether all BatchJobs are watched."""
        return policy_statuses(self.policies, self.cache, self._dependencies.provider, all_jobs=all_jobs)


def _note_deletion(tracked: TrackedObject, snapshot: Snapshot) -> None:
    if snapshot.deleted is None:
        tracked.deletion = None
    elif tracked.deletion is None:
        tracked.deletion = TrackedDeletion(snapshot.deleted_at or 0, tracked.updated_at)


async def _in_slices(objects: Iterable[TrackedObject]) -> AsyncIterator[TrackedObject]:
    """Yield each of them; other work gets its turn of the event loop in between."""
    clock = asyncio.get_running_loop().time
    until = clock() + _TIME_SLICE
    for tracked in list(objects):
        yield tracked
        if clock() >= until:
            await asyncio.sleep(0)
            until = clock() + _TIME_SLICE


def _no_policies(region: str) -> PolicyCache:
    policies = PolicyCache(Mode.OPTIONAL, region, time.monotonic, wall_clock)
    policies.on_policies({})
    policies.on_namespaces({})
    return policies
