"""Writes of statuses and finalizers: the latest of each object, namespaces in turn; only a 404 ends the attempts."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from awsbatch_operator.api.batchjob import Status, Termination
from awsbatch_operator.api.decoding import Snapshot, digest_of
from awsbatch_operator.api.events import Event
from awsbatch_operator.api.interfaces import BatchJobClient, Conflict, Gone, NotWritten, Telemetry, Written
from awsbatch_operator.controller.cache import Cache, TrackedObject, newer
from awsbatch_operator.controller.recovery import Recovery
from awsbatch_operator.reconcile.events import between, termination_given_up
from awsbatch_operator.workqueue.backoff import backoff
from awsbatch_operator.workqueue.fair_queue import FairQueue
from awsbatch_operator.workqueue.log_once import Change, LogOnce
from awsbatch_operator.workqueue.worker_pool import Slot, WorkerPool

WRITERS: Final = 16
WRITERS_PER_NAMESPACE: Final = 12
HOLD: Final = 1.0
"""Seconds that a write waits for the answer of the TerminateJob that it would announce (mostly the answer comes first
and one write reports both), and that the correction of a foreign status waits."""
_FIRST_RETRY, _LONGEST_RETRY = 0.2, 5.0
_FIRST_RETRY_REFUSED, _LONGEST_RETRY_REFUSED = 5.0, 300.0
_LONGEST_RETRY_FIRST_REFUSED = 30.0
"""For one of the refused objects of a namespace. Its success shows that the others can be retried."""

log = structlog.get_logger(__name__)


class StatusWriter:
    """Writes the desired status of objects that differ from what the API server has, and their finalizer.

    A namespace with hanging or failing writes gets at most one slot; all such namespaces share a quarter of the slots.
    """

    def __init__(
        self,
        cache: Cache,
        client: BatchJobClient,
        telemetry: Telemetry,
        *,
        on_upsert: Callable[[Snapshot], None],
        on_delete: Callable[[str], None],
        is_leader: Callable[[], bool],
    ) -> None:
        self._cache, self._client, self._telemetry = cache, client, telemetry
        self._on_upsert, self._on_delete, self._is_leader = on_upsert, on_delete, is_leader
        clock = asyncio.get_running_loop().time
        self._queue: FairQueue[str] = FairQueue(clock)
        self._pool: WorkerPool[str] = WorkerPool(WRITERS, per_group=WRITERS_PER_NAMESPACE, clock=clock)
        self._ready: dict[str, dict[str, None]] = {}
        self._workers: dict[str, int] = {}
        self._writing: set[str] = set()
        self._again: set[str] = set()
        self._recovery: Recovery[str, str] = Recovery()
        self._refused: dict[str, dict[str, None]] = {}
        self._problem = LogOnce()
        self._tasks: asyncio.TaskGroup | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    # -- queue --------------------------------------------------------------------------------------------------------

    def add(self, tracked: TrackedObject) -> None:
        """Write the object's status in its turn."""
        self._queue.add(tracked.ref.uid, tracked.ref.namespace)
        self._idle.clear()

    def add_after(self, tracked: TrackedObject, seconds: float) -> None:
        at = asyncio.get_running_loop().time() + seconds
        self._queue.add_at(tracked.ref.uid, tracked.ref.namespace, at)

    def correct(self, tracked: TrackedObject) -> None:
        """Write over a foreign status. Not at once, as two writers that disagree must not make a storm."""
        if tracked.ref.uid not in self._queue:
            # What waits keeps its time, or a writer that never rests would put off the correction for ever.
            self.add_after(tracked, HOLD)

    def clear(self) -> None:
        """Drop all waiting writes: another replica acts now."""
        self._queue.clear()
        self._ready.clear()
        self._again.clear()
        self._recovery.clear()
        self._refused.clear()
        self._settle()

    def forget(self, tracked: TrackedObject) -> None:
        """Drop what is known of the writes of an object that was deleted."""
        uid, namespace = tracked.ref.uid, tracked.ref.namespace
        self._queue.discard(uid)
        self._recovery.forget(uid)
        self._drop_refused(uid, namespace)

    def retain(self, worth: Callable[[TrackedObject], bool]) -> None:
        """Drop waiting writes except those that are worth a write before the end."""
        self._queue.clear()
        self._ready.clear()
        self._again.clear()
        for tracked in self._cache.objects.values():
            if worth(tracked):
                self.add(tracked)
        self._settle()

    def depth(self) -> int:
        return self._queue.ready() + sum(map(len, self._ready.values())) + len(self._writing)

    async def drained(self) -> None:
        await self._idle.wait()

    # -- workers ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                await self._queue.wait()
                while (uid := self._queue.pop()) is not None:
                    self._hand_over(uid, self._tasks)
                self._settle()

    def _hand_over(self, uid: str, tasks: asyncio.TaskGroup) -> None:
        tracked = self._cache.objects.get(uid)
        if tracked is None:
            return
        if uid in self._writing:
            # One write of an object at a time; this one follows.
            self._again.add(uid)
            return
        namespace = tracked.ref.namespace
        waiting = self._ready.setdefault(namespace, {})
        waiting[uid] = None
        if self._workers.get(namespace, 0) < min(WRITERS_PER_NAMESPACE, len(waiting)):
            self._workers[namespace] = self._workers.get(namespace, 0) + 1
            tasks.create_task(self._work(namespace))

    async def _work(self, namespace: str) -> None:
        """Run one worker of a namespace as long as it has something to write."""
        try:
            while self._ready.get(namespace):
                async with self._pool.slot(namespace) as slot:
                    await self._write_next(namespace, slot)
        finally:
            self._workers[namespace] -= 1
            if not self._workers[namespace]:
                del self._workers[namespace]
            self._settle()

    async def _write_next(self, namespace: str, slot: Slot) -> None:
        waiting = self._ready.get(namespace)
        if not waiting:
            return
        uid = next(iter(waiting))
        del waiting[uid]
        if not waiting:
            del self._ready[namespace]
        self._writing.add(uid)
        try:
            await self._write(uid, slot)
        finally:
            self._writing.discard(uid)
            if uid in self._again:
                self._again.discard(uid)
                self._queue.add(uid, namespace)

    def _settle(self) -> None:
        if not self._queue.ready() and not self._ready and not self._writing:
            self._idle.set()

    # -- one write ----------------------------------------------------------------------------------------------------

    async def _write(self, uid: str, slot: Slot) -> None:
        tracked = self._cache.objects.get(uid)
        if tracked is None or not self._is_leader():
            return
        if tracked.adds_finalizer:
            # Before the status that answers the generation which states spec.onDelete.
            await self._write_finalizer(tracked, slot, add=True)
            return
        wanted = tracked.record.status
        change = self._client.change(wanted, tracked.shown)
        if change:
            outcome = await self._client.write_status(tracked.ref, change, tracked.resource_version)
            self._telemetry.status_write(RESULTS[type(outcome)])
            await self._on_outcome(tracked, wanted, outcome, slot)
            if isinstance(outcome, Gone | Conflict):
                return
        # After the last status; one that can't be written must not hold the object.
        if tracked.removes_finalizer and self._is_leader():
            await self._write_finalizer(tracked, slot, add=False)

    async def _on_outcome(
        self, tracked: TrackedObject, wanted: Status, outcome: Written | Conflict | Gone | NotWritten, slot: Slot
    ) -> None:
        match outcome:
            case Written():
                self._written(tracked, wanted, outcome)
            case Gone():
                self._on_delete(tracked.ref.uid)
            case Conflict():
                await self._read(tracked, slot)
            case NotWritten():
                await self._failed(tracked, outcome, slot)

    async def _write_finalizer(self, tracked: TrackedObject, slot: Slot, *, add: bool) -> None:
        given_up = tracked.given_up
        outcome = await self._client.write_finalizer(tracked.ref, tracked.finalizers, tracked.resource_version, add=add)
        if not isinstance(outcome, Written):
            await self._on_outcome(tracked, tracked.record.status, outcome, slot)
            return
        tracked.write_failures = 0
        self._no_longer_refused(tracked)
        if newer(outcome.resource_version, tracked.resource_version):
            tracked.resource_version, tracked.finalizers = outcome.resource_version, outcome.finalizers
        if given_up is not None and not add:
            report_event(self._client, tracked, termination_given_up(tracked.record.job_name, given_up))
            self._telemetry.orphaned()
        if tracked.ref.uid in self._cache.objects:
            self.add(tracked)

    def _written(self, tracked: TrackedObject, wanted: Status, written: Written) -> None:
        tracked.write_failures = 0
        if self._problem.report("") is Change.ENDED:
            log.info("status updates succeed again")
        self._no_longer_refused(tracked)
        before, shown, digest = tracked.last_written, tracked.shown, tracked.digest
        if newer(written.resource_version, tracked.resource_version):
            # Otherwise the watch has already delivered a newer version.
            tracked.resource_version, shown = written.resource_version, written.shown
            digest = digest_of(written.shown)
        tracked.compare(wanted, shown, digest, self._client.change)
        for event in between(before, wanted, tracked.record.spec.job_id):
            report_event(self._client, tracked, event)
        for uid in self._recovery.succeeded(tracked.ref.namespace, tracked.ref.uid):
            self._queue.add(uid, tracked.ref.namespace)
        if tracked.record.status is not wanted:
            self.add(tracked)

    async def _read(self, tracked: TrackedObject, slot: Slot) -> None:
        """Handle a conflict: read the object, which may change the result, then write again."""
        match await self._client.read(tracked.ref):
            case Snapshot() as snapshot:
                self._on_upsert(snapshot)
                self._retry(tracked, 0.0 if not tracked.write_failures else _FIRST_RETRY, _LONGEST_RETRY)
            case Gone():
                self._on_delete(tracked.ref.uid)
            case NotWritten() as failure:
                await self._failed(tracked, failure, slot)

    async def _failed(self, tracked: TrackedObject, failure: NotWritten, slot: Slot) -> None:
        if tracked.ref.uid not in self._cache.objects:
            return
        if failure.refused:
            self._note_refused(tracked, failure)
            return
        if self._problem.report(failure.message) in (Change.BEGAN, Change.CHANGED):
            log.warning("status update failed; retrying", object=tracked.ref, error=failure.message)
        slot.failed()
        self._retry(tracked, _FIRST_RETRY, _LONGEST_RETRY)
        # In the slot: an unavailable API server gets few attempts, however many namespaces wait for it.
        await asyncio.sleep(_FIRST_RETRY)

    def _note_refused(self, tracked: TrackedObject, failure: NotWritten) -> None:
        namespace, uid = tracked.ref.namespace, tracked.ref.uid
        refused = self._refused.setdefault(namespace, {})
        if not refused:
            log.warning("status update failed; retrying", object=tracked.ref, error=failure.message)
        refused[uid] = None
        self._recovery.refused(namespace, uid)
        first = next(iter(refused)) == uid
        self._retry(tracked, _FIRST_RETRY_REFUSED, _LONGEST_RETRY_FIRST_REFUSED if first else _LONGEST_RETRY_REFUSED)

    def _no_longer_refused(self, tracked: TrackedObject) -> None:
        if self._drop_refused(tracked.ref.uid, tracked.ref.namespace):
            log.info("status updates succeed again", namespace=tracked.ref.namespace)

    def _drop_refused(self, uid: str, namespace: str) -> bool:
        """Return whether it was the last object of the namespace whose latest write was refused."""
        refused = self._refused.get(namespace, {})
        refused.pop(uid, None)
        return not refused and self._refused.pop(namespace, None) is not None

    def _retry(self, tracked: TrackedObject, first: float, longest: float) -> None:
        tracked.write_failures += 1
        if first:
            self.add_after(tracked, backoff(tracked.write_failures, first, longest))
        else:
            self.add(tracked)


def report_event(client: BatchJobClient, tracked: TrackedObject, event: Event) -> None:
    """Post the Event and write its log line."""
    write = log.warning if event.warning else log.info
    record = tracked.record
    write(event.note, reason=event.reason, object=tracked.ref, jobId=record.spec.job_id, region=record.region)
    client.post_event(tracked.ref, event)


def log_accepted(tracked: TrackedObject, sent: Termination) -> None:
    """Write the log line of a termination that the object records, with the id under which CloudTrail has the call."""
    record = tracked.record
    log.info(
        "termination accepted",
        object=tracked.ref,
        generation=record.generation,
        cause=sent.cause,
        jobId=record.spec.job_id,
        region=record.region,
        reason=sent.reason,
        requestId=sent.request_id,
    )


RESULTS: Final = {Written: "written", Conflict: "conflict", Gone: "gone", NotWritten: "failed"}
