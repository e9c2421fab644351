"""What was stated, struck and moved, and when. Times are epoch seconds, as the simulator records its calls.

A change has two times: `began`, before the request went out, and `certain`, after the API server had granted it.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from chaos.record import Call, Job

ATTEMPTS: Final = 3
BACKOFF: Final = 2.5
"""Seconds that boto3 waits at the most before its third attempt, and a little."""


@dataclass(slots=True)
class Statement:
    """What an object stated from a moment on; None: no termination."""

    reason: str | None
    began: float
    certain: float = math.inf


@dataclass(slots=True)
class History:
    """One object. The deletion is a last statement of nothing."""

    name: str
    job_id: str
    statements: list[Statement] = field(default_factory=list)
    deletion: Statement | None = None

    @property
    def stated(self) -> str | None:
        """What it states now; a deleted one states nothing."""
        return None if self.deletion is not None else self.statements[-1].reason

    @property
    def exists(self) -> bool:
        return self.deletion is None

    def stated_at(self, reason: str, since: float, until: float) -> bool:
        """Whether it may have stated this reason at any moment from `since` to `until`."""
        line = [*self.statements, *([self.deletion] if self.deletion else [])]
        for number, one in enumerate(line):
            withdrawn = line[number + 1].certain if number + 1 < len(line) else math.inf
            if one.reason == reason and one.began <= until and withdrawn >= since:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Strike:
    """Something that was done to a replica (to all: life ""), to the API server, or to Batch."""

    kind: str
    life: str
    at: float
    until: float

    def touches(self, life: str, since: float, until: float) -> bool:
        return self.life in ("", life) and self.at <= until and since <= self.until


@dataclass(slots=True)
class Ledger:
    objects: dict[str, History] = field(default_factory=dict)
    strikes: list[Strike] = field(default_factory=list)
    jumps: list[tuple[float, float]] = field(default_factory=list)
    """When the simulator's clock was moved, and by how many seconds."""
    rivals: dict[str, float] = field(default_factory=dict)
    """Jobs that somebody else asked to end, and when."""

    def naming(self, job_id: str) -> list[History]:
        return [one for one in self.objects.values() if one.job_id == job_id]

    def struck(self, kinds: Sequence[str], life: str, since: float, until: float) -> bool:
        return any(one.kind in kinds and one.touches(life, since, until) for one in self.strikes)

    def ended_at(self, job: Job) -> float:
        """When the job ended by the clock on the wall; infinity while it lives."""
        if not job.finished or job.stopped_at is None:
            return math.inf
        return wall_time(job.stopped_at, self.jumps)


def wall_time(simulated: float, jumps: Sequence[tuple[float, float]]) -> float:
    """The moment at which the simulator's clock first showed `simulated` (epoch seconds) or more."""
    offset = 0.0
    for at, seconds in jumps:
        if simulated - offset < at:
            return simulated - offset
        offset += seconds
        if simulated - offset <= at:
            return at
    return simulated - offset


@dataclass(frozen=True)
class Evidence:
    """All that an invariant may read: the script's own ledger, and the simulator's own record."""

    ledger: Ledger
    calls: Sequence[Call]
    jobs: Mapping[str, Job]

    @cached_property
    def terminations(self) -> Mapping[str, Sequence[Call]]:
        """By job, the calls that named it, in order."""
        found: dict[str, list[Call]] = {}
        for call in self.calls:
            for job_id in call.job_ids if call.terminates else ():
                found.setdefault(job_id, []).append(call)
        return found

    @cached_property
    def _polls(self) -> Mapping[str, tuple[list[float], list[Call]]]:
        """By life, the polls that were shown to it and when they arrived."""
        found: dict[str, tuple[list[float], list[Call]]] = {}
        for call in self.calls:
            if call.shown:
                times, polls = found.setdefault(call.access_key, ([], []))
                times.append(call.at)
                polls.append(call)
        return found

    @cached_property
    def _times(self) -> list[float]:
        return [call.at for call in self.calls]

    def between(self, since: float, until: float) -> Sequence[Call]:
        return self.calls[bisect_left(self._times, since) : bisect_right(self._times, until)]

    def poll(self, life: str, job_id: str, since: float, until: float) -> Call | None:
        """The first whole poll of the job by this life that was sent after `since` and answered before `until`."""
        times, polls = self._polls.get(life, ([], []))
        for call in polls[bisect_left(times, since) : bisect_right(times, until)]:
            if job_id in call.job_ids and call.answered_at is not None and call.answered_at <= until:
                return call
        return None

    def first_attempt(self, call: Call, job_id: str) -> Call:
        """boto3 sends a call up to three times, what it got in between known to nobody: the first of these."""
        earlier = [one for one in self.terminations[job_id] if one.n < call.n and one.access_key == call.access_key]
        for one in reversed(earlier[-(ATTEMPTS - 1) :]):
            same = (one.operation, one.reason, one.job_ids) == (call.operation, call.reason, call.job_ids)
            if not same or one.granted(job_id) or call.at - one.left_at > BACKOFF:
                return call
            call = one
        return call
