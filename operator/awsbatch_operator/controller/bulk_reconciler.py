"""Decides about one BatchTermination at a time: when to sweep, what the sweep may terminate, what the status says."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

import structlog

from awsbatch_operator.api.batchtermination import BulkPhase, BulkSpec, BulkStatus
from awsbatch_operator.api.conditions import Reason
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
)
from awsbatch_operator.reconcile.sweep import EMPTY_SWEEPS, MARGIN, Tally
from awsbatch_operator.workqueue.backoff import backoff

SWEEP_WHILE_AWAITING: Final = 300.0
"""Seconds between two sweeps before the approval, or after a refusal by AWS; up to a tenth more."""
SWEEP_WHILE_TERMINATING: Final = 10.0
REST: Final = 10
"""Times its length that nothing follows a sweep before the approval: it may be forgotten for days, and a sweep of a
hundred thousand jobs with tags takes minutes of the budget."""
_FIRST_RESTART, _LONGEST_RESTART = 1.0, 60.0
_STALE: Final = (
    "The watch of batchterminations does not work, so the operator does not know whether the "
    "termination is still approved. The operator sends the termination when the watch works again"
)

log = structlog.get_logger(__name__)


class BulkReconciler:
    """`objects`: the BatchTerminations by uid. `first_polls`: see BulkCalls.

    `stale_since`: since when the watch of the objects has failed (loop time); None: it works. `in_doubt`: changes may
    have been missed, until the objects have been listed again.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        policies: PolicyCache,
        holds: Holds,
        objects: Mapping[str, TrackedTermination],
        writer: BulkStatusWriter,
        *,
        first_polls: Callable[[Target], Awaitable[object]],
        is_leading: Callable[[], bool],
    ) -> None:
        self._dependencies, self._policies, self._holds = dependencies, policies, holds
        self._objects, self._writer, self._is_leading = objects, writer, is_leading
        self._clock = asyncio.get_running_loop().time
        self.calls = BulkCalls(dependencies, first_polls=first_polls, on_progress=self._on_progress)
        self.stale_since: float | None = None
        self.in_doubt = False

    # -- sweeps -------------------------------------------------------------------------------------------------------

    async def sweep(self, tracked: TrackedTermination) -> float | None:
        """Sweep once. Return the seconds until the next sweep; None: it needs a change."""
        scope = self.scope(tracked)
        if tracked.scope != scope:
            # The policy may not admit any more what was counted.
            tracked.scope, tracked.is_counted = scope if isinstance(scope, Scope) else None, False
            tracked.progress = replace(tracked.progress, swept=None, refusal=None)
        if not isinstance(scope, Scope):
            return None if scope is None else self._refused(tracked, scope, None)
        # It is being counted, no longer refused by a policy.
        self.show(tracked)
        # A full sweep comes first: it finds out whether there are more than spec.maxJobs.
        sending = tracked.spec.approved and tracked.is_counted and self._hold(tracked) is None
        spec, began = tracked.spec, self._clock()
        sweep = Sweep(self.calls, tracked, scope, self._policies, self._may_send, sending=sending)
        try:
            await sweep.run()
        except SupersededError as superseded:
            tracked.restarts += 1
            if superseded.error is not None:
                self._on_progress(tracked, superseded.error)
            return backoff(tracked.restarts, _FIRST_RESTART, _LONGEST_RESTART)
        except RefusedError as refused:
            return self._refused(tracked, refused.refusal, SWEEP_WHILE_AWAITING)
        finally:
            if sweep.sender.accepted:
                self.report(tracked, accepted_event(sweep.sender.accepted, tracked.spec.reason))
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
            deny = too_many(total, tracked.spec.max_jobs, requested=tracked.progress.requested)
            return self._refused(tracked, deny, SWEEP_WHILE_AWAITING)
        if not tracked.spec.approved:
            self.show(tracked)
            return self._later(max(SWEEP_WHILE_AWAITING, REST * seconds))
        if tally.refusal is not None and tally.failed == tally.matched:
            return self._refused(tracked, refusal_of(tally.refusal, tracked.spec.region), SWEEP_WHILE_AWAITING)
        finished = tracked.empty_sweeps >= EMPTY_SWEEPS
        delay = None if tally.delay is None else delay_of(tally.delay, tracked.spec.region)
        delay = delay if hold is None else (Reason.TERMINATION_HELD, hold)
        tracked.progress = replace(tracked.progress, finished=finished, delay=delay)
        self.show(tracked)
        if finished:
            return None
        if hold is not None:
            # Its end wakes this object.
            return self._later(SWEEP_WHILE_AWAITING)
        return 0.0 if tally.matched and not sending else SWEEP_WHILE_TERMINATING

    def _refused(self, tracked: TrackedTermination, refusal: Deny, pause: float | None) -> float | None:
        tracked.empty_sweeps = 0
        tracked.progress = replace(tracked.progress, refusal=(refusal.reason, refusal.message), delay=None)
        self.show(tracked)
        return None if pause is None else self._later(pause)

    def _later(self, seconds: float) -> float:
        return seconds * self._dependencies.jitter(1.0, 1.1)

    def scope(self, tracked: TrackedTermination) -> Scope | Deny | None:
        """Return the jobs that may be listed and terminated, or why none may; None: it is not known yet."""
        spec = tracked.spec
        if spec.created_before > tracked.created_at + MARGIN:
            return cutoff_in_future()
        resolved = self._policies.resolve(tracked.ref.namespace, spec.region)
        scope = None if resolved is None else bulk_scope(resolved, spec.queues)
        if isinstance(scope, Scope) and not self._dependencies.provider.knows_region(spec.region):
            return invalid_region(spec.region)
        return scope

    # -- permits ------------------------------------------------------------------------------------------------------

    def _may_send(self, tracked: TrackedTermination, spec: BulkSpec) -> bool:
        """Return whether the object still states this spec, approved, and nothing holds it. For any thread."""
        return (
            self._objects.get(tracked.ref.uid) is tracked
            and tracked.spec is spec
            and spec.approved
            and self._hold(tracked) is None
        )

    def _hold(self, tracked: TrackedTermination) -> str | None:
        """Return why the terminations of the object are held now. For any thread."""
        hold = self._holds.of_namespace(tracked.ref.namespace)
        if hold is not None:
            return hold.message
        stale = self.stale_since is not None and self._clock() - self.stale_since > STALE_AFTER
        return _STALE if stale or self.in_doubt else None

    # -- reports ------------------------------------------------------------------------------------------------------

    def _on_progress(self, tracked: TrackedTermination, error: CallError | None) -> None:
        delay = None if error is None else delay_of(error, tracked.spec.region)
        tracked.progress = replace(tracked.progress, requested=tracked.requested, delay=delay)
        self.show(tracked)

    def show(self, tracked: TrackedTermination) -> None:
        """Compute the status anew, and write it if it is not what the API server shows."""
        if not self._is_leading() or self._objects.get(tracked.ref.uid) is not tracked:
            return
        tracked.is_inherited = tracked.is_inherited and not _contradicts(tracked.progress, tracked.status)
        if tracked.is_inherited:
            return
        before = tracked.status
        tracked.status = bulk_status(tracked.progress, before, tracked.generation, self._dependencies.now())
        for event in events_between(before, tracked.status):
            self.report(tracked, event)
        self._writer.add(tracked)

    def report(self, tracked: TrackedTermination, event: Event) -> None:
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
