"""When which job is looked at: the due ones, and with them those that soon would be.

A call costs the same for one id as for a hundred. So once a job is due, its call is filled with jobs of the same
place that fall due within the last fifth of their wait: N jobs of one cadence settle into ⌈N/100⌉ calls a round.
"""

import heapq
import math
from collections.abc import Mapping
from itertools import count

from awsbatch_operator.domain.job import JobKey
from awsbatch_operator.engine.store import TrackedJob

EARLY = 0.2
"""The last part of a wait that a job may skip to share a call."""


class Schedule:
    """The looks of one place. Times are seconds of the event loop's clock."""

    def __init__(self, jobs: Mapping[JobKey, TrackedJob]) -> None:
        self._jobs = jobs
        # Two orders of the same jobs: by when one must be looked at, and by when one may. An entry holds only as
        # long as the job still carries its time: setting a time anew leaves the old entry behind, to be skipped.
        self._due: list[tuple[float, int, JobKey]] = []
        self._early: list[tuple[float, int, JobKey]] = []
        self._turn = count()

    def set(self, job: TrackedJob, look_at: float, wait: float) -> None:
        """Look at the job at `look_at`, which is `wait` seconds after its last look."""
        if job.look_at == look_at:
            return
        job.look_at, job.early_at = look_at, look_at - EARLY * wait
        turn = next(self._turn)
        heapq.heappush(self._due, (job.look_at, turn, job.key))
        heapq.heappush(self._early, (job.early_at, turn, job.key))

    def next_due(self) -> float | None:
        while self._due:
            look_at, _, key = self._due[0]
            job = self._jobs.get(key)
            if job is not None and job.look_at == look_at:
                return look_at
            heapq.heappop(self._due)
        return None

    def take(self, now: float, limit: int) -> list[JobKey]:
        """At most `limit` jobs to look at now; none unless one is due. They leave the schedule."""
        due = self.next_due()
        taken: list[JobKey] = []
        if due is None or due > now:
            return taken
        while self._early and len(taken) < limit and self._early[0][0] <= now:
            early_at, _, key = heapq.heappop(self._early)
            job = self._jobs.get(key)
            if job is not None and job.early_at == early_at:
                job.look_at = job.early_at = None
                taken.append(key)
        return taken

    def depth(self, now: float, enough: float = math.inf) -> int:
        """How many wait although they are due, counted up to `enough`. Walks no more of the heap than that."""
        found, places = 0, [0]
        while places and found < enough:
            place = places.pop()
            if place < len(self._due) and self._due[place][0] <= now:
                look_at, _, key = self._due[place]
                job = self._jobs.get(key)
                found += job is not None and job.look_at == look_at
                places += (2 * place + 1, 2 * place + 2)
        return found
