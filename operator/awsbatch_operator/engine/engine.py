"""The engine: what is heard of objects and jobs goes in, looks, terminations and status writes come out.

Everything here runs on one event loop. `seen` and `gone` are told by the watch, `lead` and `follow` by the elector;
only while leading does the engine look, call or write.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from awsbatch_operator.domain.access import Grant, Mode, Refusal
from awsbatch_operator.domain.cadence import Cadence
from awsbatch_operator.domain.job import JobKey
from awsbatch_operator.domain.ports import PolicyStanding
from awsbatch_operator.domain.record import Snapshot
from awsbatch_operator.domain.verdict import Record
from awsbatch_operator.engine.access import needs_parent
from awsbatch_operator.engine.book import Book
from awsbatch_operator.engine.decisions import Decisions
from awsbatch_operator.engine.outside import Ports
from awsbatch_operator.engine.standings import standings
from awsbatch_operator.engine.store import Store, TrackedObject
from awsbatch_operator.engine.sweep import Sweep
from awsbatch_operator.engine.writes import Writes, newer

LOOKS_FINISH_WITHIN: Final = 1.0
"""Seconds that looks under way get at the end."""
TIDY_EVERY: Final = 300.0
"""Seconds between two looks at what is kept for nothing."""
_TICK: Final = 0.25
_DECISIONS_A_TURN: Final = 200

log = structlog.get_logger(__name__)


class Engine:
    """`book` tells what policies grant; without one there are none, and none is required."""

    def __init__(self, ports: Ports, *, region: str, cadence: Cadence, book: Book | None = None) -> None:
        self._ports = ports
        self.book = book or _blank(region)
        self.book.on_change(self._regrant_soon)
        self.store = Store()
        self._stale: dict[str, None] = {}
        self._turned = asyncio.Event()
        self._writes = Writes(
            self.store, ports.objects, ports.telemetry, seen=self.seen, gone=self.gone, acting=self._acting
        )
        self._decisions = Decisions(
            self.store, ports, cadence, self.book, self._writes, leading=lambda: self.leading, acting=self._acting
        )
        self._looks, self._terminations = self._decisions.looks, self._decisions.terminations
        self.sweep = Sweep(self.store, ports.objects, seen=self.seen, gone=self.gone)
        self._stopping = asyncio.Event()
        self.leading = False
        self.beat_at: float | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop`, then finish what is under way. An error in any part ends the whole."""
        async with asyncio.TaskGroup() as tasks:
            self._terminations.start(tasks)
            background = [
                tasks.create_task(part)
                for part in (self._writes.run(), self._looks.run(), self.sweep.run(), self._tick(), self._regrants())
            ]
            await self._stopping.wait()
            self._looks.stop()
            await self._finish()
            for task in background:
                task.cancel()

    def stop(self) -> None:
        self._stopping.set()
        self._terminations.stop()

    async def _finish(self) -> None:
        """Calls under way get their answer, and what was accepted is written down; the caller bounds the time.

        What else waits is left undone, however much it is: the next to act finds it in the specs, and waits for us.
        """
        with suppress(TimeoutError):
            # A look is only looked at: one that hangs must not hold the Lease, its answer is nobody's any more.
            await asyncio.wait_for(self._looks.drained(), LOOKS_FINISH_WITHIN)
        await self._terminations.drained()
        self._writes.keep(lambda tracked: tracked.record.status.termination != tracked.told.termination)
        await self._writes.drained()

    async def lead(self) -> None:
        """Start to act, on what the watch has told so far."""
        self.leading = True
        self._ports.telemetry.leading(yes=True)
        for tracked in self.store.objects.values():
            # What an earlier lead decided and did not come to write is forgotten, or it would seem written.
            tracked.record = replace(tracked.record, status=tracked.told)
            if tracked.scribbled is not None:
                # Nor did it come to mend what another wrote over it.
                self._writes.hold(tracked.ref.uid)
        refused = [tracked for tracked in self.store.objects.values() if isinstance(tracked.grant, Refusal)]
        for turn, job in enumerate(sorted(self.store, key=lambda job: not job.asked)):
            if self.store.jobs.get(job.key) is job:
                self._decisions.decide(job)
            if turn % _DECISIONS_A_TURN == 0:
                await asyncio.sleep(0)
        for turn, tracked in enumerate(refused):
            if self.store.objects.get(tracked.ref.uid) is tracked:
                self._decisions.decide_for(tracked)
            if turn % _DECISIONS_A_TURN == 0:
                await asyncio.sleep(0)

    def follow(self) -> None:
        """Stop to act at once. What was known of the jobs gets old from here on: forget it."""
        self.leading = False
        self._ports.telemetry.leading(yes=False)
        self._writes.clear()
        self._decisions.silent_since.clear()
        for job in self.store:
            job.look_at = job.early_at = job.routine = None
            job.seen = type(job.seen)(request=job.seen.request)
            job.tags_for_parts, job.lapses, job.held_until = None, 0, 0
        for tracked in self.store.objects.values():
            tracked.lift_veil()

    def _acting(self) -> bool:
        """Asked right before each call and write: a process that was frozen hears late that it leads no more."""
        return self.leading and self._ports.acting()

    def silent_for(self) -> float:
        """Seconds since looks began to bring no answer anywhere; 0 while they do, or there is nothing to look at."""
        return self._decisions.silent_for()

    @property
    def depths(self) -> Mapping[str, Callable[[], int]]:
        """What counts those that wait, by lane. Not at each tick: of looks it walks over all that are due."""
        return {"status": self._writes.depth, "look": self._looks.depth}

    def standings(self, *, all_jobs: bool = True) -> Mapping[str, PolicyStanding]:
        """What the statuses of the access policies shall say. `all_jobs`: whether all BatchJobs are watched."""
        return standings(self.book, self.store, self._ports.batch, all_jobs=all_jobs)

    async def _tick(self) -> None:
        tidied_at = asyncio.get_running_loop().time()
        while True:
            self.beat_at = asyncio.get_running_loop().time()
            self._writes.release()
            if self.beat_at - tidied_at >= TIDY_EVERY:
                tidied_at = self.beat_at
                self._decisions.tidy()
            await asyncio.sleep(_TICK)

    # -- what the watch tells -----------------------------------------------------------------------------------------

    def listed(self, uid: str) -> None:
        """The watch lists anew: of what was deleted since it broke off it says nothing, so look for that soon."""
        if uid in self.store.objects:
            self.sweep.soon()

    def knows(self, uid: str, resource_version: str) -> bool:
        """Note that the object is there; whether this version of it is known, so that nobody need read it."""
        known = self.store.objects.get(uid)
        if known is None or newer(resource_version, known.resource_version):
            return False
        known.listed_at = asyncio.get_running_loop().time()
        return True

    def seen(self, snapshot: Snapshot) -> None:
        """One version of an object. Versions may come twice, late and in any order."""
        known = self.store.objects.get(snapshot.ref.uid)
        if self.knows(snapshot.ref.uid, snapshot.resource_version):
            return
        if snapshot.spec is None:
            log.error("spec can't be read by this version of the operator; left alone", object=snapshot.ref)
            self.gone(snapshot.ref.uid)
            return
        tracked = self._renewed(known, snapshot)
        if known is None:
            self.store.add(tracked)
            self._grant(tracked, self.book.in_force(tracked.ref.namespace, snapshot.spec.region))
        if self.leading:
            self._decisions.decide_for(tracked)
            if known is not None and self._ports.objects.change(tracked.record.status, tracked.shows):
                # Somebody wrote over it. Not at once: two writers that disagree must not make a storm.
                self._writes.hold(tracked.ref.uid)

    def gone(self, uid: str) -> None:
        """The object was deleted. Its job goes on as it is: deleting the object states nothing."""
        self.store.forget(uid)

    def _renewed(self, known: TrackedObject | None, snapshot: Snapshot) -> TrackedObject:
        assert snapshot.spec is not None
        now = self._ports.now()
        same = known is not None and known.record.generation == snapshot.generation
        # The leader's own idea of the status stands against whatever another writes; a follower believes what it reads.
        ours = known.record.status if known is not None and self.leading else snapshot.status
        record = Record(
            spec=snapshot.spec,
            region=snapshot.spec.region or self.book.region,
            generation=snapshot.generation,
            created_at=snapshot.created_at,
            changed_at=known.record.changed_at if known is not None and same else now,
            status=ours,
        )
        heard_at = asyncio.get_running_loop().time()
        if known is None:
            known = TrackedObject(snapshot.ref, record, snapshot.resource_version, ours, heard_at)
        known.record, known.resource_version, known.listed_at = record, snapshot.resource_version, heard_at
        known.compare(known.told if self.leading else ours, snapshot.shown, self._ports.objects.change)
        return known

    # -- what policies tell -------------------------------------------------------------------------------------------

    def _regrant_soon(self, namespaces: Iterable[str] | None) -> None:
        """Something may have changed for these namespaces (None: all). No call needs to wait for that: see `Book`."""
        self._stale.update(dict.fromkeys(self.store.namespaces if namespaces is None else namespaces))
        self._turned.set()

    async def _regrants(self) -> None:
        while True:
            await self._turned.wait()
            self._turned.clear()
            stale, self._stale = self._stale, {}
            objects = [tracked for name in stale for tracked in self.store.namespaces.get(name, {}).values()]
            for turn, tracked in enumerate(objects):
                # Forgotten, and perhaps seen anew as another, while others had their turn.
                if self.store.objects.get(tracked.ref.uid) is tracked:
                    self._regrant(tracked)
                if turn % _DECISIONS_A_TURN == 0:
                    await asyncio.sleep(0)

    def _regrant(self, tracked: TrackedObject) -> None:
        granted = self.book.in_force(tracked.ref.namespace, tracked.record.spec.region)
        if granted != tracked.grant:
            self._grant(tracked, granted)
        if self.leading:
            self._decisions.reconsider(tracked)

    def _grant(self, tracked: TrackedObject, granted: Grant | Refusal | None) -> None:
        """Another place is another job, even by the same id: nothing that was seen of the one is carried over."""
        before, tracked.grant = tracked.key, granted
        if isinstance(granted, Grant):
            job_id = tracked.record.spec.job_id
            self.store.bind(tracked, JobKey(granted.place, job_id), needs_parent(granted, job_id))
        else:
            self.store.bind(tracked, None)
        if tracked.key != before:
            tracked.lift_veil()


def _blank(region: str) -> Book:
    book = Book(Mode.OPTIONAL, region, time.monotonic)
    book.policies_are({})
    book.namespaces_are({})
    return book
