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
    BulkStatus,
    parse_bulk_status,
)
from awsbatch_operator.api.conditions import STALLED, Reason
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.events import Event
from awsbatch_operator.api.job import Target
from awsbatch_operator.controller.bulk_cache import TrackedTermination
from awsbatch_operator.controller.bulk_calls import BulkCalls, RefusedError, SupersededError
from awsbatch_operator.controller.bulk_sweep import Sweep
from awsbatch_operator.controller.bulk_writer import BulkStatusWriter
from awsbatch_operator.controller.dependencies import Dependencies
from awsbatch_operator.controller.holds import Holds
from awsbatch_operator.controller.policy_cache import STALE_AFTER, PolicyCache
from awsbatch_operator.policy.authorizer import bulk_scope
from awsbatch_operator.policy.resolution import Deny, Scope, invalid_region
from awsbatch_operator.reconcile.bulk_status import (
    Progress,
    accepted_event,
    bulk_status,
    cutoff_in_future,
    delay_of,
    events_between,
    refusal_of,
    too_many,
    withdrawn_event,
)
from awsbatch_operator.reconcile.sweep import EMPTY_SWEEPS, MARGIN, Tally
from awsbatch_operator.workqueue.backoff import backoff

SWEEP_WHILE_AWAITING: Final = 300.0
"""Seconds between two sweeps before the approval, or after a refusal by AWS; up to a tenth more."""
SWEEP_WHILE_TERMINATING: Final = 10.0
REST: Final = 10
"""Times its length that nothing follows a sweep before the approval: it may be forgotten for days, and a sweep of a
hundred thousand jobs with tags takes minutes of the budget."""
SWEEPS_PER_NAMESPACE: Final = 2
"""Sweeps of one namespace and region at once: each knows the ids of all jobs that it has seen."""
_FIRST_RESTART, _LONGEST_RESTART = 1.0, 60.0
_UNFINISHED: Final = frozenset({BulkPhase.PLANNING, BulkPhase.AWAITING_APPROVAL, BulkPhase.TERMINATING})
_STALE: Final = (
    "The watch of batchterminations does not work, so the operator can't tell whether the termination is still "
    "approved; it is sent once the watch works again"
)

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
        self._dependencies, self._policies, self._holds = dependencies, policies, holds
        self._clock = asyncio.get_running_loop().time
        self.objects: dict[str, TrackedTermination] = {}
        self.calls = BulkCalls(dependencies, first_polls=first_polls, on_progress=self._on_progress)
        self.writer = BulkStatusWriter(self.objects, dependencies.client, dependencies.telemetry, is_leader=may_act)
        self._tasks: asyncio.TaskGroup | None = None
        self._sweeping: dict[str, asyncio.Task[None]] = {}
        # By namespace and region. A sweep keeps its own.
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Semaphore] = WeakValueDictionary()
        self._is_leading = False
        self._stale_since: float | None = None
        self._in_doubt = False
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
        scopes = map(self._scope, self.objects.values())
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
        self._show(tracked)

    def on_delete(self, uid: str) -> None:
        """Handle a deletion. What was not sent yet is not sent."""
        tracked = self.objects.pop(uid, None)
        if tracked is not None and tracked.spec.approved:
            self._withdrawn(tracked, deleted=True)
        if uid in self._sweeping:
            self._sweeping.pop(uid).cancel()

    def _withdrawn(self, tracked: TrackedTermination, *, deleted: bool) -> None:
        if self._is_leading and tracked.progress.phase in _UNFINISHED:
            self._report(tracked, withdrawn_event(deleted=deleted))

    def on_stale_since(self, since: float | None) -> None:
        """Handle the failure of the watch: since when (loop time); None: it works, or has listed all objects again."""
        self._stale_since, self._in_doubt = since, self._in_doubt and since is not None
        self.wake_held()

    def doubt(self) -> None:
        """Send nothing until the objects have been listed again: changes may have been missed."""
        self._in_doubt = True
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
        return tracked.progress.phase is BulkPhase.TERMINATING or self._scope(tracked) != tracked.scope

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
        self._show(tracked)
        # A region that throttles, or is not available, must not hold up the sweeps of another.
        where = tracked.ref.namespace, tracked.spec.region
        turns = self._turns.setdefault(where, asyncio.Semaphore(SWEEPS_PER_NAMESPACE))
        while True:
            async with turns:
                tracked.changed.clear()
                pause = await self._sweep(tracked)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await tracked.changed.wait()

    async def _sweep(self, tracked: TrackedTermination) -> float | None:
        """Sweep once. Return the seconds until the next sweep; None: it needs a change."""
        scope = self._scope(tracked)
        if tracked.scope != scope:
            # The policy may not admit any more what was counted.
            tracked.scope, tracked.is_counted = scope if isinstance(scope, Scope) else None, False
            tracked.progress = replace(tracked.progress, swept=None)
        if not isinstance(scope, Scope):
            return None if scope is None else self._refused(tracked, scope, None)
        # A full sweep comes first: it finds out whether there are more than spec.maxJobs.
        sending = tracked.spec.approved and tracked.is_counted and self._hold(tracked) is None
        spec, began = tracked.spec, self._clock()
        sweep = Sweep(self.calls, tracked, scope, self._policies, self._may_send, sending=sending)
        try:
            await sweep.run()
        except SupersededError:
            tracked.restarts += 1
            return backoff(tracked.restarts, _FIRST_RESTART, _LONGEST_RESTART)
        except RefusedError as refused:
            return self._refused(tracked, refused.refusal, SWEEP_WHILE_AWAITING)
        finally:
            if sweep.sender.accepted:
                self._report(tracked, accepted_event(sweep.sender.accepted, tracked.spec.reason))
        tracked.is_counted, tracked.restarts = tracked.spec is spec, 0
        if sweep.tally.matched or sweep.tally.unknown or sweep.sender.accepted or not tracked.spec.approved:
            tracked.empty_sweeps = 0
        else:
            tracked.empty_sweeps += 1
        return self._swept(tracked, sweep.tally, self._clock() - began, sending=sending)

    def _swept(self, tracked: TrackedTermination, tally: Tally, seconds: float, *, sending: bool) -> float | None:
        """Handle a full sweep, which took so long. Return the seconds until the next one; None: it needs a change."""
        hold = self._hold(tracked) if tally.matched else None
        tracked.progress = replace(tracked.progress, swept=tally, swept_at=self._dependencies.now(), refusal=None)
        total = tally.complete(tracked.accepted)
        if total > tracked.spec.max_jobs:
            tracked.is_counted = False
            return self._refused(tracked, too_many(total, tracked.spec.max_jobs), SWEEP_WHILE_AWAITING)
        if not tracked.spec.approved:
            self._show(tracked)
            return self._later(max(SWEEP_WHILE_AWAITING, REST * seconds))
        if tally.refusal is not None and tally.failed == tally.matched:
            return self._refused(tracked, refusal_of(tally.refusal, tracked.spec.region), SWEEP_WHILE_AWAITING)
        finished = tracked.empty_sweeps >= EMPTY_SWEEPS
        delay = (Reason.TERMINATION_HELD, hold) if hold is not None else None
        tracked.progress = replace(tracked.progress, finished=finished, delay=delay)
        self._show(tracked)
        if finished:
            return None
        if hold is not None:
            # Its end wakes this object.
            return self._later(SWEEP_WHILE_AWAITING)
        return 0.0 if tally.matched and not sending else SWEEP_WHILE_TERMINATING

    def _refused(self, tracked: TrackedTermination, refusal: Deny, pause: float | None) -> float | None:
        tracked.empty_sweeps = 0
        tracked.progress = replace(tracked.progress, refusal=(refusal.reason, refusal.message), delay=None)
        self._show(tracked)
        return None if pause is None else self._later(pause)

    def _later(self, seconds: float) -> float:
        return seconds * self._dependencies.jitter(1.0, 1.1)

    def _scope(self, tracked: TrackedTermination) -> Scope | Deny | None:
        """Return the jobs that may be listed and terminated, or why none may; None: it is not known yet."""
        spec = tracked.spec
        if spec.created_before > tracked.created_at + MARGIN:
            return cutoff_in_future()
        resolved = self._policies.resolve(tracked.ref.namespace, spec.region)
        scope = None if resolved is None else bulk_scope(resolved)
        if isinstance(scope, Scope) and not self._dependencies.provider.knows_region(spec.region):
            return invalid_region(spec.region)
        return scope

    # -- permits ------------------------------------------------------------------------------------------------------

    def _may_send(self, tracked: TrackedTermination, spec: BulkSpec) -> bool:
        """Return whether the object still states this spec, approved, and nothing holds it. For any thread."""
        return (
            self.objects.get(tracked.ref.uid) is tracked
            and tracked.spec is spec
            and spec.approved
            and self._hold(tracked) is None
        )

    def _hold(self, tracked: TrackedTermination) -> str | None:
        """Return why the terminations of the object are held now. For any thread."""
        hold = self._holds.of_namespace(tracked.ref.namespace)
        if hold is not None:
            return hold.message
        stale = self._stale_since is not None and self._clock() - self._stale_since > STALE_AFTER
        return _STALE if stale or self._in_doubt else None

    # -- reports ------------------------------------------------------------------------------------------------------

    def _on_progress(self, tracked: TrackedTermination, error: CallError | None) -> None:
        delay = None if error is None else delay_of(error, tracked.spec.region)
        tracked.progress = replace(tracked.progress, requested=tracked.requested, delay=delay)
        self._show(tracked)

    def _show(self, tracked: TrackedTermination) -> None:
        """Compute the status anew, and write it if it is not what the API server shows."""
        if not self._is_leading or self.objects.get(tracked.ref.uid) is not tracked:
            return
        tracked.is_inherited = tracked.is_inherited and not _contradicts(tracked.progress, tracked.status)
        if tracked.is_inherited:
            return
        before = tracked.status
        tracked.status = bulk_status(tracked.progress, before, tracked.generation, self._dependencies.now())
        for event in events_between(before, tracked.status):
            self._report(tracked, event)
        self.writer.add(tracked)

    def _report(self, tracked: TrackedTermination, event: Event) -> None:
        write = log.warning if event.warning else log.info
        write(event.note, reason=event.reason, object=tracked.ref, region=tracked.spec.region)
        self._dependencies.client.post_event(tracked.ref, event)


def _contradicts(progress: Progress, shown: BulkStatus) -> bool:
    """Return whether something that was seen contradicts the status of an earlier process."""
    if progress.refusal is not None or progress.delay is not None:
        return True
    if progress.swept is None:
        return False
    finished = shown.phase is BulkPhase.FINISHED and progress.spec.approved
    return not finished or progress.finished or progress.swept.matched > 0
