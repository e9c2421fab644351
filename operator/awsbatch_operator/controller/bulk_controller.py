"""The controller of BatchTerminations: one task sweeps for each object while this replica leads.

A sweep is derived from the spec and from AWS Batch alone. What a status shows decides nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final
from weakref import WeakValueDictionary

import structlog

from awsbatch_operator.api.batchtermination import (
    BulkMetricKey,
    BulkPhase,
    BulkSnapshot,
    BulkSpec,
    parse_bulk_status,
)
from awsbatch_operator.api.conditions import STALLED, Reason
from awsbatch_operator.api.job import Target
from awsbatch_operator.controller.bulk_cache import TrackedTermination
from awsbatch_operator.controller.bulk_reconciler import BulkReconciler
from awsbatch_operator.controller.bulk_writer import BulkStatusWriter
from awsbatch_operator.controller.dependencies import Dependencies
from awsbatch_operator.controller.holds import Holds
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.policy.resolution import Scope
from awsbatch_operator.reconcile.bulk_status import (
    Progress,
    withdrawn_event,
)

SWEEPS_PER_NAMESPACE: Final = 2
"""Sweeps of one namespace and region at once, of approved objects and of others: each knows the ids of all jobs that it
has seen."""
_UNFINISHED: Final = frozenset({BulkPhase.PLANNING, BulkPhase.AWAITING_APPROVAL, BulkPhase.TERMINATING})

log = structlog.get_logger(__name__)


class BulkController:
    """`first_polls`: see BulkCalls. `may_act`: whether this replica leads, asked right before each write.

    `relist` makes the watch list all objects again.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        policies: PolicyCache,
        holds: Holds,
        *,
        first_polls: Callable[[Target], Awaitable[object]],
        may_act: Callable[[], bool],
    ) -> None:
        self.objects: dict[str, TrackedTermination] = {}
        self.writer = BulkStatusWriter(self.objects, dependencies.client, dependencies.telemetry, is_leader=may_act)
        self._reconciler = BulkReconciler(
            dependencies,
            policies,
            holds,
            self.objects,
            self.writer,
            first_polls=first_polls,
            is_leading=lambda: self._is_leading,
        )
        self.calls = self._reconciler.calls
        self._tasks: asyncio.TaskGroup | None = None
        self._sweeping: dict[str, asyncio.Task[None]] = {}
        # By namespace and region, and whether the objects are approved. A sweep keeps its own.
        self._turns: WeakValueDictionary[tuple[str, str, bool], asyncio.Semaphore] = WeakValueDictionary()
        self._is_leading = False
        self.relist: Callable[[], None] = lambda: None
        policies.subscribe(self._on_policy_change)

    # -- run ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until cancelled. Calls under way go on until `drained`."""
        async with asyncio.TaskGroup() as self._tasks:
            self.calls.start(self._tasks)
            for tracked in self.objects.values():
                self._start(tracked)
            await self.writer.run()

    def on_started_leading(self) -> None:
        self._is_leading = True
        for tracked in self.objects.values():
            self._start(tracked)

    def on_stopped_leading(self) -> None:
        self._is_leading = False
        self.writer.clear()
        self._cancel_sweeps()

    def _cancel_sweeps(self) -> None:
        while self._sweeping:
            self._sweeping.popitem()[1].cancel()

    def stop(self) -> None:
        """Begin no more calls; those under way go on."""
        self._is_leading = False
        self._cancel_sweeps()
        self.calls.stop()

    def targets(self) -> set[Target]:
        """Return the targets that calls may go to."""
        scopes = map(self._reconciler.scope, self.objects.values())
        return {scope.target for scope in scopes if isinstance(scope, Scope)}

    def count(self) -> Counter[BulkMetricKey]:
        """Count the objects by their metric labels."""
        return Counter(
            BulkMetricKey(one.ref.namespace, one.status.phase or BulkPhase.PLANNING, one.status.reason(STALLED) or "")
            for one in self.objects.values()
        )

    # -- watch events -------------------------------------------------------------------------------------------------

    def on_upsert(self, snapshot: BulkSnapshot) -> None:
        uid, tracked = snapshot.ref.uid, self.objects.get(snapshot.ref.uid)
        if snapshot.deleted:
            self.on_delete(uid)
        elif snapshot.spec is None:
            log.error("this version of the operator cannot read the spec; object ignored", object=snapshot.ref)
            self.on_delete(uid)
        elif tracked is None:
            self._start(self._new(snapshot, snapshot.spec))
        else:
            self._update(tracked, snapshot, snapshot.spec)

    def _new(self, snapshot: BulkSnapshot, spec: BulkSpec) -> TrackedTermination:
        tracked = TrackedTermination(
            snapshot.ref,
            spec,
            snapshot.generation,
            snapshot.created_at,
            snapshot.resource_version,
            snapshot.shown,
            parse_bulk_status(snapshot.shown),
            Progress(spec),
        )
        self.objects[snapshot.ref.uid] = tracked
        return tracked

    def _update(self, tracked: TrackedTermination, snapshot: BulkSnapshot, spec: BulkSpec) -> None:
        tracked.resource_version, tracked.shown = snapshot.resource_version, snapshot.shown
        before, tracked.generation = tracked.spec, snapshot.generation
        if spec != before:
            tracked.spec, tracked.is_counted, tracked.empty_sweeps, tracked.is_inherited = spec, False, 0, False
            tracked.progress = replace(tracked.progress, spec=spec, finished=False, delay=None)
            tracked.changed.set()
            if before.approved:
                self._withdrawn(tracked, deleted=False)
        if not self._is_leading:
            # The metrics of this replica count what the leader shows.
            tracked.status = parse_bulk_status(snapshot.shown)
        # Another writer may have changed the status.
        self._reconciler.show(tracked)

    def on_delete(self, uid: str) -> None:
        """Handle a deletion. What was not sent yet is not sent."""
        tracked = self.objects.pop(uid, None)
        if tracked is not None and tracked.spec.approved:
            self._withdrawn(tracked, deleted=True)
        if uid in self._sweeping:
            self._sweeping.pop(uid).cancel()

    def _withdrawn(self, tracked: TrackedTermination, *, deleted: bool) -> None:
        if self._is_leading and tracked.progress.phase in _UNFINISHED:
            self._reconciler.report(tracked, withdrawn_event(deleted=deleted))

    def on_stale_since(self, since: float | None) -> None:
        """Handle the failure of the watch: since when (loop time); None: it works, or has listed all objects again."""
        state = self._reconciler
        state.stale_since, state.in_doubt = since, state.in_doubt and since is not None
        self.wake_held()

    def doubt(self) -> None:
        """Send nothing until the objects have been listed again: changes may have been missed."""
        self._reconciler.in_doubt = True
        self.relist()

    def _on_policy_change(self, namespaces: Iterable[str] | None) -> None:
        concerned = None if namespaces is None else set(namespaces)
        for tracked in self.objects.values():
            if (concerned is None or tracked.ref.namespace in concerned) and self._is_concerned(tracked):
                tracked.changed.set()

    def _is_concerned(self, tracked: TrackedTermination) -> bool:
        """Return whether a change of the policies means something to the object: most are about other namespaces."""
        # What has finished stays finished: a wider policy must not revive it.
        if tracked.progress.finished:
            return False
        # A suspension changes no scope.
        return tracked.progress.phase is BulkPhase.TERMINATING or self._reconciler.scope(tracked) != tracked.scope

    def wake_held(self) -> None:
        """Decide again about the objects whose terminations are held: what holds them may have changed."""
        for tracked in self.objects.values():
            if tracked.progress.delay is not None and tracked.progress.delay[0] == Reason.TERMINATION_HELD:
                tracked.changed.set()

    # -- sweeps -------------------------------------------------------------------------------------------------------

    def _start(self, tracked: TrackedTermination) -> None:
        if self._is_leading and self._tasks is not None and tracked.ref.uid not in self._sweeping:
            self._sweeping[tracked.ref.uid] = self._tasks.create_task(self._sweep_on(tracked))

    async def _sweep_on(self, tracked: TrackedTermination) -> None:
        """Sweep for one object until cancelled."""
        tracked.scope, tracked.is_counted, tracked.empty_sweeps = None, False, 0
        tracked.status = parse_bulk_status(tracked.shown)
        # What other processes requested: it is shown, and decides nothing.
        tracked.requested = max(tracked.requested, min(tracked.status.requested or 0, tracked.spec.max_jobs))
        tracked.progress = Progress(tracked.spec, requested=tracked.requested)
        tracked.is_inherited = tracked.status.observed_generation == tracked.generation
        self._reconciler.show(tracked)
        while True:
            # A region that throttles, or is not available, must not hold up the sweeps of another, and an object that
            # is counted must not hold up one that is approved.
            where = tracked.ref.namespace, tracked.spec.region, tracked.spec.approved
            async with self._turns.setdefault(where, asyncio.Semaphore(SWEEPS_PER_NAMESPACE)):
                pause: float | None = 0.0
                while pause == 0.0:
                    # What was counted is terminated in the same turn.
                    tracked.changed.clear()
                    pause = await self._reconciler.sweep(tracked)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await tracked.changed.wait()
