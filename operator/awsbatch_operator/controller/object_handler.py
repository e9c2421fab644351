"""What the watch and lists say of objects: it changes the cache and adds keys to the work queue."""

import asyncio
from collections.abc import Callable

import structlog

from awsbatch_operator.api.batchjob import Cause, Spec
from awsbatch_operator.api.decoding import Snapshot
from awsbatch_operator.controller.cache import Cache, TrackedDeletion, TrackedObject, newer
from awsbatch_operator.controller.dependencies import Dependencies, Leadership
from awsbatch_operator.controller.resync import Resync
from awsbatch_operator.controller.status_writer import StatusWriter, report_event
from awsbatch_operator.controller.terminator import Terminator
from awsbatch_operator.reconcile.events import intent_change
from awsbatch_operator.reconcile.outcome import Record
from awsbatch_operator.workqueue.fair_queue import FairQueue, Rank

log = structlog.get_logger(__name__)


class ObjectHandler:
    """The watch calls `on_relist`, `on_upsert` and `on_delete`; reads of single objects call `on_read`.

    `forget` drops the waiting work of an object that is gone. `on_confirmed`: see Resync.
    """

    def __init__(
        self,
        cache: Cache,
        dependencies: Dependencies,
        leadership: Leadership,
        queue: FairQueue[str],
        *,
        region: str,
        forget: Callable[[TrackedObject], None],
        on_confirmed: Callable[[], None],
    ) -> None:
        self._cache, self._dependencies, self._leadership, self._queue = cache, dependencies, leadership, queue
        self._region, self._forget = region, forget
        self.writer: StatusWriter
        self.terminator: Terminator
        self.resync = Resync(
            cache,
            dependencies.client,
            on_read=self.on_read,
            on_delete=self.on_delete,
            on_confirmed=on_confirmed,
            now=dependencies.now,
        )

    def on_relist(self, uid: str) -> None:
        """Handle a new list of the watch. It does not report deletions that it missed before: resync soon."""
        if uid in self._cache.objects:
            self.resync.soon()

    def on_upsert(self, snapshot: Snapshot) -> None:
        """One version of an object, by the watch. Versions may come twice, late and in any order."""
        uid = snapshot.ref.uid
        if self.resync.undelivered:
            self.resync.on_watch_event(uid, snapshot.resource_version)
        known = self._cache.objects.get(uid)
        if known is None or newer(snapshot.resource_version, known.resource_version):
            self.on_read(snapshot)
        else:
            known.updated_at = asyncio.get_running_loop().time()

    def on_read(self, snapshot: Snapshot) -> None:
        """Handle an object that was read just now. It counts even if its version is lower than the known one."""
        if snapshot.spec is None:
            log.error("this version of the operator cannot read the spec; object ignored", object=snapshot.ref)
            self.on_delete(snapshot.ref.uid)
            self._cache.unreadable[snapshot.ref.uid] = snapshot.resource_version
            return
        self._cache.unreadable.pop(snapshot.ref.uid, None)
        if self._cache.unconfirmed:
            self._cache.confirm(snapshot.ref.uid, snapshot.resource_version)
        tracked = self._cache.objects.get(snapshot.ref.uid)
        if tracked is None:
            tracked = self._new(snapshot, snapshot.spec)
            self._cache.add(tracked)
        else:
            self._update(tracked, snapshot, snapshot.spec)
        rank = Rank.NORMAL if snapshot.spec.terminate is None else Rank.FIRST
        self._queue.add(snapshot.ref.uid, snapshot.ref.namespace, rank=rank)

    def on_delete(self, uid: str) -> None:
        """Handle the deletion of an object. Its job continues; a termination that was not sent yet is not sent."""
        if self.resync.undelivered:
            self.resync.on_watch_event(uid, None)
        self._cache.unreadable.pop(uid, None)
        self._cache.confirm(uid, None)
        tracked = self._cache.objects.get(uid)
        if tracked is None:
            return
        if self._leadership.is_leading:
            self._report_intent_change(tracked, None)
        self._forget(tracked)
        self._cache.remove(uid)

    def _new(self, snapshot: Snapshot, spec: Spec) -> TrackedObject:
        now, status = self._dependencies.now(), snapshot.status
        if status.observed_generation != snapshot.generation:
            # It may be about another deadline.
            status = status.replace(deadline=None)
        record = Record(
            spec=spec,
            region=spec.region or self._region,
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
        status = record.status if self._leadership.is_leading else snapshot.status
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
            if self._leadership.is_leading and (before.terminate or before.deadline or before.on_delete):
                self._report_intent_change(tracked, spec)
        tracked.record = record.replace(
            spec=spec,
            region=spec.region or self._region,
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
        if not self._leadership.is_leading:
            tracked.compare(status, snapshot.shown, snapshot.digest, change)
        elif snapshot.digest != tracked.digest:
            tracked.compare(tracked.last_written, snapshot.shown, snapshot.digest, change)
            if change(tracked.record.status, tracked.shown):
                self.writer.correct(tracked)

    def _report_intent_change(self, tracked: TrackedObject, spec: Spec | None) -> None:
        job, sent = self._cache.job_of(tracked), tracked.record.status.termination
        accepted = sent is not None and sent.accepted_at is not None
        alive = job is not None and job.state.job is not None and not job.state.job.finished
        in_flight = job is not None and self.terminator.in_flight(job.key)
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


def _note_deletion(tracked: TrackedObject, snapshot: Snapshot) -> None:
    if snapshot.deleted is None:
        tracked.deletion = None
    elif tracked.deletion is None:
        tracked.deletion = TrackedDeletion(snapshot.deleted_at or 0, tracked.updated_at)
