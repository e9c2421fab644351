"""Status writes: latest wins for each object, a bounded number at once; an API server that is away loses nothing."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from awsbatch_operator.domain.events import Event, between
from awsbatch_operator.domain.ports import Conflict, Gone, NotWritten, Objects, Telemetry, Written
from awsbatch_operator.domain.record import ObjectRef, Snapshot, Status
from awsbatch_operator.engine.refused import Refused
from awsbatch_operator.engine.store import Store, TrackedObject

WRITERS: Final = 16
HOLD: Final = 1.0
"""Seconds that a write waits for the answer of the TerminateJob that it would announce (mostly the answer comes
first, and one write tells both), and that repairing a status waits when another writes into it."""
_PAUSE_MIN, _PAUSE_MAX = 0.2, 5.0

log = structlog.get_logger(__name__)


class Writes:
    """The queue of objects whose status differs from what the API server holds."""

    def __init__(
        self,
        store: Store,
        objects: Objects,
        telemetry: Telemetry,
        *,
        seen: Callable[[Snapshot], None],
        gone: Callable[[str], None],
        acting: Callable[[], bool],
    ) -> None:
        self._store, self._objects, self._telemetry = store, objects, telemetry
        self._seen, self._gone, self._acting = seen, gone, acting
        self._waiting: dict[str, None] = {}
        self._held: deque[tuple[float, str]] = deque()
        self._writing: set[str] = set()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._pause = 0.0
        self._refused = Refused(self.submit)

    def submit(self, uid: str) -> None:
        self._waiting.setdefault(uid)
        self._idle.clear()
        self._wake.set()

    def hold(self, uid: str) -> None:
        """Submit it at the first `release` after HOLD seconds."""
        self._held.append((asyncio.get_running_loop().time() + HOLD, uid))

    def release(self) -> None:
        """Submit what was held long enough."""
        now = asyncio.get_running_loop().time()
        while self._held and self._held[0][0] <= now:
            self.submit(self._held.popleft()[1])

    def clear(self) -> None:
        """Drop what waits and what is held: somebody else decides now."""
        self._held.clear()
        self._refused.clear()
        self._waiting.clear()
        self._settle()

    def keep(self, worth: Callable[[TrackedObject], bool]) -> None:
        """Of what waits, drop the rest, and all that is held."""
        self._held.clear()
        objects = self._store.objects
        self._waiting = {uid: None for uid in self._waiting if uid in objects and worth(objects[uid])}
        self._settle()

    def depth(self) -> int:
        return len(self._waiting) + len(self._writing) + len(self._refused)

    async def drained(self) -> None:
        await self._idle.wait()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as writers:
            for _ in range(WRITERS):
                writers.create_task(self._writer())

    async def _writer(self) -> None:
        while True:
            uid = await self._next()
            self._writing.add(uid)
            try:
                again = await self._write(uid)
            finally:
                self._writing.discard(uid)
            if again:
                self.submit(uid)
            else:
                self._refused.tried(uid)
            self._settle()
            if self._pause:
                await asyncio.sleep(self._pause)

    async def _next(self) -> str:
        while True:
            uid = next((uid for uid in self._waiting if uid not in self._writing), None)
            if uid is not None:
                del self._waiting[uid]
                return uid
            self._wake.clear()
            await self._wake.wait()

    def _settle(self) -> None:
        if self._waiting:
            self._wake.set()
        elif not self._writing:
            self._idle.set()

    async def _write(self, uid: str) -> bool:
        """One try. True: try again."""
        tracked = self._store.objects.get(uid)
        if tracked is None or not self._acting():
            return False
        wanted = tracked.record.status
        change = self._objects.change(wanted, tracked.shows)
        if not change:
            return False
        outcome = await self._objects.write_status(tracked.ref, change, tracked.resource_version)
        self._telemetry.status_write(_RESULTS[type(outcome)])
        match outcome:
            case Written():
                self._pause = 0.0
                self._refused.granted(uid)
                told = tracked.told
                self._note(tracked, wanted, outcome)
                for event in between(told, wanted):
                    _log(tracked, event)
                    await self._objects.post_event(tracked.ref, event)
                return tracked.record.status is not wanted
            case Gone():
                self._gone(uid)
                return False
            case Conflict():
                return await self._read(tracked.ref)
            case NotWritten():
                return self._failed(tracked, outcome)

    def _note(self, tracked: TrackedObject, wanted: Status, written: Written) -> None:
        """Take over what the write left, unless the watch has already told of something newer."""
        shown = tracked.shows
        if newer(written.resource_version, tracked.resource_version):
            tracked.resource_version, shown = written.resource_version, written.shown
        tracked.compare(wanted, shown, self._objects.change)

    async def _read(self, ref: ObjectRef) -> bool:
        """Somebody wrote first: learn what the object says now, which may decide anew, then write on top of it."""
        match await self._objects.read(ref):
            case Snapshot() as snapshot:
                self._seen(snapshot)
                return True
            case Gone():
                self._gone(ref.uid)
                return False
            case NotWritten(forbidden=True) as failure:
                self._refused.add(ref.uid, failure.message)
                return False
            case NotWritten() as failure:
                self._back_off(failure)
                return True

    def _failed(self, tracked: TrackedObject, failure: NotWritten) -> bool:
        if failure.forbidden:
            self._refused.add(tracked.ref.uid, failure.message)
            return False
        if failure.again:
            self._back_off(failure)
            return True
        log.error("status refused by the API server", object=tracked.ref, error=failure.message)
        return False

    def _back_off(self, failure: NotWritten) -> None:
        if not self._pause:
            log.warning("status writes wait for the API server", error=failure.message)
        self._pause = min(max(self._pause * 2, _PAUSE_MIN), _PAUSE_MAX)


def _log(tracked: TrackedObject, event: Event) -> None:
    say = log.warning if event.warning else log.info
    say(
        event.note,
        reason=event.reason,
        object=tracked.ref,
        jobId=tracked.record.spec.job_id,
        region=tracked.record.region,
    )


_RESULTS: Final = {Written: "written", Conflict: "conflict", Gone: "gone", NotWritten: "failed"}


def newer(version: str, than: str) -> bool:
    """Resource versions of one object grow; one that is no number can only be told apart."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than
