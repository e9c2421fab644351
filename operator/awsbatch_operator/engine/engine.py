"""The engine: what is heard of objects and jobs goes in, looks, terminations and status writes come out.

Everything here runs on one event loop. `seen` and `gone` are told by the watch, `lead` and `follow` by the elector;
only while leading does the engine look, call or write.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from awsbatch_operator.domain.access import EVERY_JOB, Grant
from awsbatch_operator.domain.admission import Facts, MayEnd, MayNotEnd, MustLook, admit, termination
from awsbatch_operator.domain.cadence import Cadence
from awsbatch_operator.domain.decide import Decision, decide
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.job import Absent, JobKey, Millis, Place
from awsbatch_operator.domain.policy import ALL_VERBS
from awsbatch_operator.domain.ports import Look, Sight
from awsbatch_operator.domain.record import Snapshot
from awsbatch_operator.domain.verdict import Record
from awsbatch_operator.engine.looks import Looks
from awsbatch_operator.engine.outside import Ports
from awsbatch_operator.engine.store import Store, TrackedJob, TrackedObject
from awsbatch_operator.engine.sweep import Sweep
from awsbatch_operator.engine.terminations import Terminations, recall
from awsbatch_operator.engine.writes import Writes, newer

LOOKS_FINISH_WITHIN: Final = 1.0
"""Seconds that looks under way get at the end."""
_TICK: Final = 0.25
_DECISIONS_A_TURN: Final = 200

log = structlog.get_logger(__name__)


class Engine:
    def __init__(self, ports: Ports, *, region: str, cadence: Cadence) -> None:
        self._ports, self._region, self._cadence = ports, region, cadence
        self.store = Store()
        self._writes = Writes(
            self.store, ports.objects, ports.telemetry, seen=self.seen, gone=self.gone, acting=self._acting
        )
        self._looks = Looks(self.store.jobs, ports.batch, learn=self._learn, acting=self._acting, jitter=ports.jitter)
        self._terminations = Terminations(
            self.store.jobs, ports, decide=self._decide, leading=lambda: self.leading, acting=self._acting
        )
        self.sweep = Sweep(self.store, ports.objects, seen=self.seen, gone=self.gone)
        self._stopping = asyncio.Event()
        self.leading = False
        self.beat_at: float | None = None
        self._silent_since: float | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop`, then finish what is under way. An error in any part ends the whole."""
        async with asyncio.TaskGroup() as tasks:
            self._terminations.start(tasks)
            background = [
                tasks.create_task(part)
                for part in (self._writes.run(), self._looks.run(), self.sweep.run(), self._tick())
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
        for turn, job in enumerate(sorted(self.store, key=lambda job: not job.asked)):
            if job.key in self.store.jobs:
                for tracked in job.objects.values():
                    # What an earlier lead decided and did not come to write is forgotten, or it would seem written.
                    tracked.record = replace(tracked.record, status=tracked.told)
                    if tracked.scribbled is not None:
                        # Nor did it come to mend what another wrote over it.
                        self._writes.hold(tracked.ref.uid)
                self._decide(job)
            if turn % _DECISIONS_A_TURN == 0:
                await asyncio.sleep(0)

    def follow(self) -> None:
        """Stop to act at once. What was known of the jobs gets old from here on: forget it."""
        self.leading = False
        self._ports.telemetry.leading(yes=False)
        self._writes.clear()
        self._silent_since = None
        for job in self.store:
            job.look_at = job.early_at = job.routine = None
            job.seen = type(job.seen)(request=job.seen.request)

    def _acting(self) -> bool:
        """Asked right before each call and write: a process that was frozen hears late that it leads no more."""
        return self.leading and self._ports.acting()

    def silent_for(self) -> float:
        """Seconds since looks began to bring no answer; 0 while they do, or while there is nothing to look at."""
        return 0.0 if self._silent_since is None else asyncio.get_running_loop().time() - self._silent_since

    @property
    def depths(self) -> Mapping[str, Callable[[], int]]:
        """What counts those that wait, by lane. Not at each tick: of looks it walks over all that are due."""
        return {"status": self._writes.depth, "look": self._looks.depth}

    async def _tick(self) -> None:
        while True:
            self.beat_at = asyncio.get_running_loop().time()
            self._writes.release()
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
        tracked = self._renewed(known, snapshot, snapshot.spec.region or self._region)
        job = self.store.bind(tracked)
        if known is None or not self.leading:
            recall(job, snapshot.status.termination)
        if self.leading:
            self._decide(job)
            if known is not None and self._ports.objects.change(tracked.record.status, tracked.shows):
                # Somebody wrote over it. Not at once: two writers that disagree must not make a storm.
                self._writes.hold(tracked.ref.uid)

    def gone(self, uid: str) -> None:
        """The object was deleted. Its job goes on as it is: deleting the object states nothing."""
        self.store.forget(uid)

    def _renewed(self, known: TrackedObject | None, snapshot: Snapshot, region: str) -> TrackedObject:
        assert snapshot.spec is not None
        now = self._ports.now()
        same = known is not None and known.record.generation == snapshot.generation
        # The leader's own idea of the status stands against whatever another writes; a follower believes what it reads.
        ours = known.record.status if known is not None and self.leading else snapshot.status
        record = Record(
            spec=snapshot.spec,
            region=region,
            generation=snapshot.generation,
            created_at=snapshot.created_at,
            changed_at=known.record.changed_at if known is not None and same else now,
            status=ours,
        )
        heard_at = asyncio.get_running_loop().time()
        if known is None:
            key = JobKey(Place(region), snapshot.spec.job_id)
            known = TrackedObject(snapshot.ref, key, record, snapshot.resource_version, ours, heard_at)
        known.record, known.resource_version, known.listed_at = record, snapshot.resource_version, heard_at
        known.compare(known.told if self.leading else ours, snapshot.shown, self._ports.objects.change)
        return known

    # -- what AWS tells -----------------------------------------------------------------------------------------------

    def _learn(self, place: Place, looks: Mapping[str, Look]) -> None:
        if not self.leading:
            return
        now = self._ports.now()
        if any(not isinstance(look, Fault) for look in looks.values()):
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = asyncio.get_running_loop().time()
        for job_id, look in looks.items():
            job = self.store.jobs.get(JobKey(place, job_id))
            if job is None:
                continue
            if isinstance(look, Sight):
                if job.routine is not None and look.job == job.seen.job:
                    job.seen = job.seen.saw(job.seen.job, now)
                    self._looks.set(job, job.routine)
                    continue
                job.seen = job.seen.saw(look.job, now)
            elif isinstance(look, Absent):
                job.seen = job.seen.missed(now)
            else:
                job.seen = job.seen.failed(look, now)
            self._decide(job)

    # -- decide and act -----------------------------------------------------------------------------------------------

    def _decide(self, job: TrackedJob) -> None:
        """Decide for every object that names the job; the soonest of their looks is the job's."""
        now = self._ports.now()
        look_at: Millis | None = None
        routines: list[Millis] = []
        for tracked in job.objects.values():
            decision = decide(tracked.record, job.seen, now, self._cadence)
            if decision.terminate is not None:
                leave = _leave(tracked, now)
                if isinstance(leave, MayEnd):
                    self._terminations.send(job, leave, decision.terminate)
            self._take_over(tracked, decision, held=job.seen.calling)
            if decision.look_at is not None:
                look_at = decision.look_at if look_at is None else min(look_at, decision.look_at)
            if decision.routine is not None:
                routines.append(decision.routine)
        job.routine = min(routines) if len(routines) == len(job.objects) else None
        if look_at is None:
            job.look_at = job.early_at = None
        elif not self._looks.under_way(job.key):
            self._looks.set(job, max(look_at - now, 0))

    def _take_over(self, tracked: TrackedObject, decision: Decision, *, held: bool) -> None:
        before = tracked.record.status
        if decision.status == before:
            return
        tracked.record = replace(tracked.record, status=decision.status)
        self._terminations.measure(before, decision.status)
        if held:
            self._writes.hold(tracked.ref.uid)
        else:
            self._writes.submit(tracked.ref.uid)


def _leave(tracked: TrackedObject, now: Millis) -> MayEnd | MustLook | MayNotEnd | None:
    granted = Grant(tracked.ref.namespace, tracked.key.place, None, EVERY_JOB, ALL_VERBS)
    return termination(admit(granted, Facts(tracked.key.job_id, None, None, now)), now)
