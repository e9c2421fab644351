"""Writes the statuses of BatchTerminations: the latest of each, namespaces in turn; only a 404 ends the attempts."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from awsbatch_operator.api.codec import changes
from awsbatch_operator.api.interfaces import BatchJobClient, Conflict, Gone, NotWritten, Telemetry, Written
from awsbatch_operator.controller.bulk_cache import TrackedTermination
from awsbatch_operator.controller.cache import newer
from awsbatch_operator.controller.status_writer import RESULTS
from awsbatch_operator.workqueue.backoff import backoff
from awsbatch_operator.workqueue.fair_queue import FairQueue
from awsbatch_operator.workqueue.worker_pool import WorkerPool

WRITERS: Final = 8
"""A quarter of them is for namespaces that are new or whose writes hang: one that hangs must leave one for the new."""
WRITERS_PER_NAMESPACE: Final = 4
INTERVAL: Final = 1.0
"""Seconds between two writes of one object: the numbers change with each request."""
_FIRST_RETRY, _LONGEST_RETRY, _LONGEST_RETRY_REFUSED = 0.5, 5.0, 300.0

log = structlog.get_logger(__name__)


class BulkStatusWriter:
    """Writes the wanted status of the objects (by uid) that differ from what the API server has."""

    def __init__(
        self,
        objects: dict[str, TrackedTermination],
        client: BatchJobClient,
        telemetry: Telemetry,
        *,
        is_leader: Callable[[], bool],
    ) -> None:
        self._objects, self._client, self._telemetry, self._is_leader = objects, client, telemetry, is_leader
        self._clock = asyncio.get_running_loop().time
        self._queue: FairQueue[str] = FairQueue(self._clock)
        self._pool: WorkerPool[str] = WorkerPool(WRITERS, per_group=WRITERS_PER_NAMESPACE, clock=self._clock)
        self._writing: set[str] = set()

    def add(self, tracked: TrackedTermination) -> None:
        """Write the object's status soon."""
        self._queue.add_at(tracked.ref.uid, tracked.ref.namespace, tracked.written_at + INTERVAL)

    def clear(self) -> None:
        self._queue.clear()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._queue.wait()
                while (uid := self._queue.pop()) is not None:
                    tracked = self._objects.get(uid)
                    # One write of an object at a time; its end looks for what is new.
                    if tracked is not None and uid not in self._writing:
                        self._writing.add(uid)
                        tasks.create_task(self._write(tracked))

    async def _write(self, tracked: TrackedTermination) -> None:
        try:
            async with self._pool.slot(tracked.ref.namespace) as slot:
                change = changes(tracked.status, tracked.shown)
                if not change or self._objects.get(tracked.ref.uid) is not tracked or not self._is_leader():
                    return
                outcome = await self._send(tracked, change)
                if isinstance(outcome, NotWritten):
                    slot.failed()
        finally:
            self._writing.discard(tracked.ref.uid)
        if not isinstance(outcome, Gone) and changes(tracked.status, tracked.shown):
            self.add(tracked)

    async def _send(
        self, tracked: TrackedTermination, change: dict[str, object]
    ) -> Written | Conflict | Gone | NotWritten:
        outcome = await self._client.write_status(tracked.ref, change, tracked.resource_version)
        self._telemetry.status_write(RESULTS[type(outcome)])
        tracked.written_at = self._clock()
        if isinstance(outcome, Written):
            tracked.write_failures = 0
            if newer(outcome.resource_version, tracked.resource_version):
                tracked.resource_version, tracked.shown = outcome.resource_version, outcome.shown
        elif isinstance(outcome, NotWritten):
            tracked.write_failures += 1
            if tracked.write_failures == 1:
                log.warning("status update failed; retrying", object=tracked.ref, error=outcome.message)
            longest = _LONGEST_RETRY_REFUSED if outcome.refused else _LONGEST_RETRY
            tracked.written_at += backoff(tracked.write_failures, _FIRST_RETRY, longest)
        return outcome
