"""Records the changes of specs, faults and clocks. Times are epoch seconds, as in the simulator.

A change has two times: `began`, before the request went out, and `certain`, after the API server had granted it.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from chaos.bulks import Bulk
from chaos.events import Messages
from chaos.record import Call, Job

ATTEMPTS: Final = 3
BACKOFF: Final = 2.5
"""Seconds that boto3 waits at the most before its third attempt, and a little."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """spec.deadline as it was stated; `running` and `waiting` in seconds."""

    reason: str
    running: int | None = None
    waiting: int | None = None

    def due(self, job: Job, at: float) -> tuple[float, str] | None:
        """When the next limit falls due, and which, for the job as it had started at that time; by Batch's clock.

        None: no limit applies.
        """
        found = []
        if self.running is not None and job.started_at is not None:
            found.append((job.started_at + self.running, "Running"))
        if self.waiting is not None and not job.started_before(at):
            found.append((job.created_at + self.waiting, "Waiting"))
        return min(found, default=None)


@dataclass(slots=True)
class Statement:
    """The spec of an object from a time on; None: not set. `terminate`, `on_delete`: the reasons."""

    terminate: str | None
    began: float
    certain: float = math.inf
    deadline: Deadline | None = None
    on_delete: str | None = None


@dataclass(slots=True)
class Moment:
    """Something that took place between these two times."""

    began: float
    certain: float = math.inf


@dataclass(slots=True)
class History:
    """One object. `since`: when its job started, or was submitted, by the clock of Batch.

    `deletion`: the DELETE request; `held`: whether the finalizer held the object then (None: not known). `gone`: when
    it ceased to exist, between the last answer that showed it and the first that did not. Until then it states what it
    stated, and then nothing.
    """

    name: str
    job_id: str
    statements: list[Statement] = field(default_factory=list)
    since: float = 0.0
    deletion: Moment | None = None
    held: bool | None = False
    gone: Moment | None = None

    @property
    def exists(self) -> bool:
        return self.deletion is None

    @property
    def now(self) -> Statement:
        """The current spec, or the last one."""
        return self.statements[-1]

    @property
    def stated(self) -> str | None:
        """The reason of spec.terminate that it states now; a deleted one states nothing."""
        return self.now.terminate if self.exists else None

    @property
    def deadline(self) -> Deadline | None:
        """The deadline that it states now; a deleted one states nothing."""
        return self.now.deadline if self.exists else None

    @property
    def owes(self) -> bool:
        """Whether it was deleted while it stated spec.onDelete and the operator held it, and states it still."""
        return self.held is True and self.now.on_delete is not None

    def states_deadline(self, reason: str) -> bool:
        """Whether a deadline of it had this reason at any time."""
        return any(one.deadline is not None and one.deadline.reason == reason for one in self.statements)

    def cause_of(self, reason: str) -> str | None:
        """Which field stated this reason at any time, as status.termination.cause; None: none of this object."""
        if self.states_deadline(reason):
            return "Deadline"
        if any(one.on_delete == reason for one in self.statements):
            return "OnDelete"
        return "Terminate" if any(one.terminate == reason for one in self.statements) else None

    def stated_at(self, reason: str, since: float, until: float) -> bool:
        """Whether it may have asked for the end of the job with this reason at any moment from `since` to `until`."""
        return any(self.causes_at(reason, since, until))

    def causes_at(self, reason: str, since: float, until: float) -> Iterator[Statement]:
        """The statements that may have done so."""
        deleted_at = math.inf if self.deletion is None else self.deletion.began
        for number, one in enumerate(self.statements):
            later = number + 1 < len(self.statements)
            withdrawn = self.statements[number + 1].certain if later else math.inf
            if self.gone is not None:
                withdrawn = min(withdrawn, self.gone.certain)
            begins = []
            if reason == one.terminate or (one.deadline is not None and one.deadline.reason == reason):
                begins.append(one.began)
            if reason == one.on_delete:
                begins.append(max(one.began, deleted_at))
            if begins and min(begins) <= until and withdrawn >= since:
                yield one


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
    """Times and seconds of the jumps of the simulator's clock."""
    bulks: dict[str, Bulk] = field(default_factory=dict)
    rivals: dict[str, float] = field(default_factory=dict)
    """Jobs that somebody else asked to end, and when."""
    shown: dict[str, float] = field(default_factory=dict)
    """Objects of which an answer of the API server showed the end of their job, and when the first one came."""
    messages: Messages = field(default_factory=Messages)

    def naming(self, job_id: str) -> list[History]:
        return [one for one in self.objects.values() if one.job_id == job_id]

    def struck(self, kinds: Sequence[str], life: str, since: float, until: float) -> bool:
        return any(one.kind in kinds and one.touches(life, since, until) for one in self.strikes)

    def batch_time(self, at: float) -> float:
        """What the clock of Batch showed then; at the moment of a jump, the later time."""
        return at + sum(seconds for jumped_at, seconds in self.jumps if jumped_at <= at)

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
    """All that an invariant may read: the script's own ledger, and the simulator's own record, as of `at`."""

    ledger: Ledger
    calls: Sequence[Call]
    jobs: Mapping[str, Job]
    at: float = 0.0

    @cached_property
    def terminations(self) -> Mapping[str, Sequence[Call]]:
        """Return the calls for each job, in order."""
        found: dict[str, list[Call]] = {}
        for call in self.calls:
            for job_id in call.job_ids if call.terminates else ():
                found.setdefault(job_id, []).append(call)
        return found

    @cached_property
    def _polls(self) -> Mapping[str, tuple[list[float], list[Call]]]:
        """Return the polls for each life, with their arrival times."""
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
