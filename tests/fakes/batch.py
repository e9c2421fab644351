"""AWS Batch as the engine sees it, in memory: jobs, answers that can be made to fail, and what was called."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from awsbatch_operator.domain.admission import MayEnd
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import ABSENT, Job, Place
from awsbatch_operator.domain.ports import Look, Sight

LAPSED = Fault(Fate.LAPSED, "the leave has lapsed", "Lapsed")
STOPPING = Fault(Fate.UNAVAILABLE, "the operator is stopping", "Stopping")


class FakeBatch:
    """Implements `domain.ports.Batch`. `latency` in seconds of the loop; faults are used up in order.

    Jobs are the same in every place. A termination waits for its turn, and is asked right before it leaves whether it
    may: `at_the_door` answers with why not.
    """

    def __init__(self, *, latency: float = 0.01) -> None:
        self.jobs: dict[str, Job] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.accounts: dict[Place, str] = {}
        self.troubles: dict[Place, Fault] = {}
        self.place_faults: dict[Place, Fault] = {}
        self.id_faults: dict[str, Fault] = {}
        self.turns = asyncio.Event()
        self.turns.set()
        self.at_the_door: Callable[[MayEnd], Fault | None] = lambda _: None
        self.on_look: Callable[[Place, Mapping[str, Look], float], None] = lambda *_: None
        self.latency = latency
        self.looks: list[tuple[float, tuple[str, ...]]] = []
        self.terminations: list[tuple[float, str, str]] = []
        self.look_faults: list[Fault] = []
        self.call_faults: list[Fault] = []
        self.shows_flag = True
        self.looks_granted = asyncio.Event()
        self.looks_granted.set()
        self.before_answer: Callable[[], None] = lambda: None
        self.crowded = False
        """Terminations wait for their turn, which never comes."""
        self._stopped = asyncio.Event()

    async def look_budget(self, place: Place) -> None:
        assert place.region
        await self.looks_granted.wait()

    async def describe(self, place: Place, job_ids: Sequence[str]) -> Mapping[str, Look]:
        assert len(set(job_ids)) == len(job_ids) <= 100
        asked_at = _now()
        self.looks.append((asked_at, tuple(job_ids)))
        shown = {job_id: self._look(job_id) for job_id in job_ids}
        await asyncio.sleep(self.latency)
        if place in self.place_faults:
            return dict.fromkeys(job_ids, self.place_faults[place])
        if self.look_faults:
            fault = self.look_faults.pop(0)
            return dict.fromkeys(job_ids, fault)
        answer = {**shown, **{job_id: self.id_faults[job_id] for job_id in job_ids if job_id in self.id_faults}}
        self.on_look(place, answer, asked_at)
        return answer

    async def terminate(self, leave: MayEnd, reason: str) -> Fault | None:
        if self.crowded:
            await self._stopped.wait()
            return STOPPING
        await self.turns.wait()
        refused = self.at_the_door(leave)
        if refused is not None:
            return refused
        self.terminations.append((_now(), leave.job_id, reason))
        await asyncio.sleep(self.latency)
        if self.call_faults:
            return self.call_faults.pop(0)
        job = self.jobs.get(leave.job_id)
        if job is not None and not job.finished and self.shows_flag:
            self.jobs[leave.job_id] = replace(job, is_terminated=True)
        self.before_answer()
        return None

    def account(self, place: Place) -> str | None:
        return self.accounts.get(place)

    def trouble(self, place: Place) -> Fault | None:
        return self.troubles.get(place)

    def _look(self, job_id: str) -> Look:
        job = self.jobs.get(job_id)
        return ABSENT if job is None else Sight(job, self.tags.get(job_id, {}))

    def stop(self) -> None:
        self._stopped.set()

    def end(self, job_id: str, status: str, reason: str | None = None, stopped_at: int | None = None) -> None:
        self.jobs[job_id] = replace(self.jobs[job_id], status=status, status_reason=reason, stopped_at=stopped_at)


def _now() -> float:
    return asyncio.get_running_loop().time()
