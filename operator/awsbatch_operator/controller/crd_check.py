"""Checks whether the CRD of BatchJobs is being deleted: its deletion deletes every object and must terminate no job."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from awsbatch_operator.api.interfaces import BatchJobClient, NotWritten
from awsbatch_operator.controller.cache import TrackedDeletion, TrackedObject
from awsbatch_operator.reconcile.outcome import Crd
from awsbatch_operator.workqueue.backoff import backoff

_FIRST_RETRY, _LONGEST_RETRY = 0.2, 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    """`asked_at`: loop time at which the request was sent: it tells about every deletion that was seen before."""

    asked_at: float
    deleted: bool


class CrdCheck:
    """`on_answer` decides an object again once the check has answered for its deletion, or has begun to fail."""

    def __init__(self, client: BatchJobClient, on_answer: Callable[[TrackedObject], None]) -> None:
        self._client, self._on_answer = client, on_answer
        self._clock = asyncio.get_running_loop().time
        self._answer: _Answer | None = None
        self._waiting: dict[str, TrackedObject] = {}
        self._asked = asyncio.Event()
        self.error: str | None = None

    def state(self, deletion: TrackedDeletion) -> Crd:
        """Return what is known of the CRD since this deletion was seen. For any thread."""
        answer = self._answer
        if answer is not None and answer.asked_at >= deletion.seen_at:
            return Crd.DELETED if answer.deleted else Crd.SERVED
        return Crd.UNKNOWN if self.error is None else Crd.UNREADABLE

    def require(self, tracked: TrackedObject, deletion: TrackedDeletion) -> Crd:
        """Return the same, and have the CRD read if nothing is known."""
        state = self.state(deletion)
        if state in (Crd.UNKNOWN, Crd.UNREADABLE):
            self._waiting[tracked.ref.uid] = tracked
            self._asked.set()
        return state

    def waiting(self) -> int:
        return len(self._waiting)

    def clear(self) -> None:
        self._waiting.clear()
        self._asked.clear()

    async def run(self) -> None:
        failures = 0
        while True:
            await self._asked.wait()
            self._asked.clear()
            waiting, self._waiting = self._waiting, {}
            if not waiting:
                continue
            asked_at = self._clock()
            result = await self._client.crd_deleted()
            began = self.error is None
            if isinstance(result, NotWritten):
                failures, self.error = failures + 1, result.message
                self._waiting = waiting | self._waiting
            else:
                if result and (self._answer is None or not self._answer.deleted):
                    log.warning(
                        "the CRD is being deleted; the operator removes its finalizer from all BatchJobs and "
                        "terminates no job"
                    )
                failures, self.error, self._answer = 0, None, _Answer(asked_at, result)
            if self.error is None or began:
                for tracked in waiting.values():
                    self._on_answer(tracked)
            if self.error is not None:
                if began:
                    log.warning(
                        "cannot read the CRD; the operator terminates no job by spec.onDelete", error=self.error
                    )
                await asyncio.sleep(backoff(failures, _FIRST_RETRY, _LONGEST_RETRY))
                self._asked.set()
