"""The dispatch of looks: one schedule and one dispatcher a place, a few DescribeJobs in flight at the most."""

import asyncio
from collections.abc import Callable, Container, Mapping
from typing import Final

from awsbatch_operator.domain.job import JobKey, Millis, Place
from awsbatch_operator.domain.ports import LOOKS_PER_CALL, Batch, Look
from awsbatch_operator.engine.schedule import Schedule
from awsbatch_operator.engine.store import TrackedJob

URGENT: Final = 3_600.0
"""Seconds by which a look goes ahead of all others that are due."""

IN_FLIGHT: Final = 4
"""DescribeJobs under way at once in a place: one that hangs must not blind the others."""

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.25
"""Seconds from the start of one call of a busy place to the start of its next, unless a whole call's worth waits."""

_TICK: Final = 0.001
"""Seconds. A timer may fire a little before its time: what is due within a tick is due."""


Learn = Callable[[Place, Mapping[str, Look], Millis], None]
"""Told where was looked, what was answered, and when it was asked for."""


class Looks:
    """Group commit: an idle place sends at once; what falls due while calls are in flight goes with the next one.

    Calls that follow closely are paced: the objects of a first list come one by one, and the budget of a start would be
    spent on calls for a handful each.
    """

    def __init__(
        self,
        jobs: Mapping[JobKey, TrackedJob],
        batch: Batch,
        *,
        learn: Learn,
        acting: Callable[[], bool],
        now: Callable[[], Millis],
        jitter: Callable[[float, float], float],
    ) -> None:
        self._jobs, self._batch, self._learn, self._acting = jobs, batch, learn, acting
        self._now, self._jitter = now, jitter
        self._places: dict[Place, _Place] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._dispatchers: dict[Place, asyncio.Task[None]] = {}
        self._stopped = asyncio.Event()

    def set(self, job: TrackedJob, after: Millis, *, exact: bool = False) -> None:
        """Look at the job after so long, give or take a tenth unless `exact`."""
        # A look that confirms or retries must not come too early, or it would decide nothing and be one more.
        early = 0.9 if job.seen.fault is None and job.seen.refusal is None and not job.seen.absences else 1.0
        wait = after / 1000 * (1.0 if exact else self._jitter(early, 1.1))
        at = asyncio.get_running_loop().time() + wait
        # After a restart every job is due at once: those that a termination waits for come first.
        urgent = wait == 0 and job.seen.looked_at is None and job.asked
        self._place(job.key.place).set(job, at - URGENT if urgent else at, wait)

    def drop(self, job: TrackedJob) -> None:
        """Look at the job no more."""
        job.look_at = job.early_at = None

    def under_way(self, key: JobKey) -> bool:
        place = self._places.get(key.place)
        return place is not None and key in place.asked

    def depth(self) -> int:
        now = asyncio.get_running_loop().time()
        return sum(place.schedule.depth(now) for place in self._places.values())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._dispatchers = {
                where: tasks.create_task(place.dispatch(tasks)) for where, place in self._places.items()
            }
            await self._stopped.wait()

    def stop(self) -> None:
        """No new looks; those under way go on."""
        for dispatcher in self._dispatchers.values():
            dispatcher.cancel()
        self._stopped.set()

    def forget(self, used: Container[Place]) -> None:
        """Places that no job is at any more: their policy is gone, or a region that there never was."""
        for where in [where for where, place in self._places.items() if where not in used and not place.asked]:
            del self._places[where]
            dispatcher = self._dispatchers.pop(where, None)
            if dispatcher is not None:
                dispatcher.cancel()

    async def drained(self) -> None:
        for place in self._places.values():
            await place.idle.wait()

    def _place(self, where: Place) -> "_Place":
        if where not in self._places:
            place = self._places[where] = _Place(
                where, self._jobs, self._batch, learn=self._learn, acting=self._acting, now=self._now
            )
            if self._tasks is not None and not self._stopped.is_set():
                self._dispatchers[where] = self._tasks.create_task(place.dispatch(self._tasks))
        return self._places[where]


class _Place:
    def __init__(
        self,
        where: Place,
        jobs: Mapping[JobKey, TrackedJob],
        batch: Batch,
        *,
        learn: Learn,
        acting: Callable[[], bool],
        now: Callable[[], Millis],
    ) -> None:
        self._where, self._batch, self._learn = where, batch, learn
        self._acting, self._now = acting, now
        self.schedule = Schedule(jobs)
        self.asked: set[JobKey] = set()
        self.idle = asyncio.Event()
        self.idle.set()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._wake = asyncio.Event()
        self._pause, self._resume_at = FIRST_PAUSE, 0.0

    def set(self, job: TrackedJob, look_at: float, wait: float) -> None:
        self.schedule.set(job, look_at, wait)
        self._wake.set()

    async def dispatch(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._until_due(loop)
            await self._until_full(loop)
            await self._slots.acquire()
            await self._batch.look_budget(self._where)
            # Taken only now: what fell due while the budget was short shares this call.
            keys = self.schedule.take(loop.time() + _TICK, LOOKS_PER_CALL)
            if not keys or not self._acting():
                self._slots.release()
                continue
            self.asked.update(keys)
            self.idle.clear()
            tasks.create_task(self._look(keys))

    async def _until_due(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            self._wake.clear()
            due = self.schedule.next_due()
            if due is not None and due <= loop.time() + _TICK:
                return
            timer = loop.call_at(due, self._wake.set) if due is not None else None
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    async def _until_full(self, loop: asyncio.AbstractEventLoop) -> None:
        """Until a whole call's worth is due, or the pause after the last call is over."""
        busy = loop.time() < self._resume_at
        while loop.time() < self._resume_at and self.schedule.depth(loop.time(), LOOKS_PER_CALL) < LOOKS_PER_CALL:  # noqa: ASYNC110 - what falls due by time sets no event
            await asyncio.sleep(min(FIRST_PAUSE, self._resume_at - loop.time()))
        self._pause = min(2 * self._pause, LONGEST_PAUSE) if busy else FIRST_PAUSE
        self._resume_at = loop.time() + self._pause

    async def _look(self, keys: list[JobKey]) -> None:
        # What an answer shows may be as old as its request.
        asked_at = self._now()
        try:
            looks = await self._batch.describe(self._where, [key.job_id for key in keys])
        finally:
            self.asked.difference_update(keys)
            self._slots.release()
        self._learn(self._where, looks, asked_at)
        if not self.asked:
            self.idle.set()
