"""The controller: watch events and answers change the cache and add keys to one work queue; keys are reconciled.

Everything here runs on one event loop. The watch calls `objects`, the elector `on_started_leading` and
`on_stopped_leading`; only the leader calls AWS and writes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog

from awsbatch_operator.api.batchjob import HoldCause
from awsbatch_operator.api.interfaces import PolicyStatus
from awsbatch_operator.api.job import Target
from awsbatch_operator.controller.answers import AnswerHandler
from awsbatch_operator.controller.bulk_controller import BulkController
from awsbatch_operator.controller.cache import Cache, TrackedDeletion, TrackedObject
from awsbatch_operator.controller.crd_check import CrdCheck
from awsbatch_operator.controller.dependencies import Dependencies, Leadership, wall_clock
from awsbatch_operator.controller.event_receiver import EventReceiver
from awsbatch_operator.controller.holds import Holds
from awsbatch_operator.controller.list_poller import ListPoller
from awsbatch_operator.controller.object_handler import ObjectHandler
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.controller.policy_status import policy_statuses
from awsbatch_operator.controller.poll_pace import PollPace
from awsbatch_operator.controller.poller import Poller
from awsbatch_operator.controller.reconciler import TIME_SLICE, Reconciler
from awsbatch_operator.controller.status_writer import StatusWriter
from awsbatch_operator.controller.terminator import Terminator
from awsbatch_operator.controller.unattended_limit import UnattendedLimit
from awsbatch_operator.policy.resolution import Mode
from awsbatch_operator.reconcile.poll_intervals import PollIntervals
from awsbatch_operator.workqueue.fair_queue import FairQueue, Rank

POLLS_FINISH_WITHIN: Final = 1.0
"""Seconds that polls in flight get at the end."""
PRUNE_EVERY: Final = 300.0
"""Seconds between two searches for targets that no object names any more."""
_TICK: Final = 2.0
FROZEN_AFTER: Final = 5.0
"""Seconds between two ticks after which the process was frozen: the watch may have ended meanwhile."""

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
        self.leadership = Leadership(dependencies.is_leader)
        self.beat_at: float | None = None
        may_act, provider = self.leadership.may_act, dependencies.provider
        self.objects = ObjectHandler(
            self.cache,
            dependencies,
            self.leadership,
            self._queue,
            region=self.policies.region,
            forget=self._forget,
            on_confirmed=self._decide_terminations,
        )
        self.resync = self.objects.resync
        self._writer = StatusWriter(
            self.cache,
            dependencies.client,
            dependencies.telemetry,
            on_upsert=self.objects.on_read,
            on_delete=self.objects.on_delete,
            is_leader=may_act,
        )
        pace = PollPace(intervals.with_events, dependencies.now)
        self._answers = AnswerHandler(
            self.cache,
            dependencies,
            self.leadership,
            self._queue,
            writer=self._writer,
            pace=pace,
            limit=self.holds.limit,
        )
        self._poller = Poller(
            self.cache,
            provider,
            on_result=self._answers.on_describe_result,
            now=dependencies.now,
            is_leader=may_act,
        )
        self._terminator = Terminator(
            provider, on_result=self._answers.on_terminate_result, now=dependencies.now, is_leader=may_act
        )
        self._reconciler = Reconciler(
            self.cache,
            dependencies,
            self.leadership,
            self._queue,
            intervals=intervals,
            policies=self.policies,
            pace=pace,
            holds=self.holds,
            poller=self._poller,
            terminator=self._terminator,
            writer=self._writer,
        )
        self.objects.writer, self.objects.terminator = self._writer, self._terminator
        self._answers.poller, self._answers.visibility = self._poller, self._reconciler.visibility
        self.events = EventReceiver(
            dependencies,
            events_queues,
            cache=self.cache,
            poller=self._poller,
            policies=self.policies,
            may_act=may_act,
        )
        pace.events_since = self.events.since
        self.bulk = BulkController(
            dependencies, self.policies, self.holds, first_polls=self._poller.first_polls, may_act=may_act
        )
        self._stopping = asyncio.Event()
        self.lists = ListPoller(
            self.cache,
            provider,
            self._poller,
            now=dependencies.now,
            is_leader=lambda: may_act() and not self._stopping.is_set(),
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
            parts = (self._reconciler, self._poller, self._writer, self.resync, self._crd, self.bulk, self.events)
            background = [tasks.create_task(part.run()) for part in parts]
            if self._list_polls:
                background.append(tasks.create_task(self.lists.run()))
            background += [tasks.create_task(run()) for run in (self._tick, self._follow_policies)]
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
            tracked.record = tracked.record.replace(status=tracked.last_written, known_since=now)
            if tracked.deletion is not None:
                tracked.deletion = TrackedDeletion(tracked.deletion.at, tracked.deletion.seen_at)
        self.leadership.is_leading = True
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
        self.leadership.is_leading = False
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

    # -- the work queue -----------------------------------------------------------------------------------------------

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

    def _forget(self, tracked: TrackedObject) -> None:
        """Drop the waiting work of an object that is gone."""
        uid = tracked.ref.uid
        if tracked.key is not None:
            self._poller.discard(tracked, tracked.key.target)
            self._terminator.withdraw(tracked, tracked.key.target)
        self._queue.discard(uid)
        self._writer.forget(tracked)
        self.holds.limit.withdraw(uid)
        self._answers.recovery.forget(uid)

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


async def _in_slices(objects: Iterable[TrackedObject]) -> AsyncIterator[TrackedObject]:
    """Yield each of them; other work gets its turn of the event loop in between."""
    clock = asyncio.get_running_loop().time
    until = clock() + TIME_SLICE
    for tracked in list(objects):
        yield tracked
        if clock() >= until:
            await asyncio.sleep(0)
            until = clock() + TIME_SLICE


def _no_policies(region: str) -> PolicyCache:
    policies = PolicyCache(Mode.OPTIONAL, region, time.monotonic, wall_clock)
    policies.on_policies({})
    policies.on_namespaces({})
    return policies
