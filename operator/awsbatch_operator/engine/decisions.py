"""What looks bring, what is decided by it, and what is done then: the heart of the engine."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from awsbatch_operator.domain.access import Refusal
from awsbatch_operator.domain.admission import (
    TAGS_HOLD_FOR,
    Admission,
    MayEnd,
    MayNotEnd,
    MustLook,
    ParentNeeded,
    termination,
)
from awsbatch_operator.domain.cadence import SECOND, TERMINATING_MAX, Cadence, look_backoff
from awsbatch_operator.domain.decide import Decision, decide
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.job import Absent, JobKey, Millis, Place
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.ports import Look, Sight
from awsbatch_operator.domain.record import Phase, Status
from awsbatch_operator.engine.access import Gate
from awsbatch_operator.engine.book import Book
from awsbatch_operator.engine.looks import Looks
from awsbatch_operator.engine.outside import Ports
from awsbatch_operator.engine.store import Store, TrackedJob, TrackedObject
from awsbatch_operator.engine.terminations import Terminations, recall
from awsbatch_operator.engine.writes import Writes


class _Decided(NamedTuple):
    """When an object wants its job to be looked at, and after how long again if nothing changes.

    `exact`: not a moment sooner or later, lest it tell of others' looks.
    """

    look_at: Millis | None
    routine: Millis | None
    exact: bool


class Decisions:
    """Decides anew for an object whenever more is known of its job, or when it says or may do something else.

    `silent_since`: when looks at a place began to bring no answer; None: the latest brought one.
    """

    def __init__(
        self,
        store: Store,
        ports: Ports,
        cadence: Cadence,
        book: Book,
        writes: Writes,
        *,
        leading: Callable[[], bool],
        acting: Callable[[], bool],
    ) -> None:
        self._store, self._ports, self._cadence, self._book, self._writes = store, ports, cadence, book, writes
        self._leading = leading
        self._gate = Gate(store.jobs, ports.batch, book.mode)
        self.looks = Looks(store.jobs, ports.batch, learn=self.learn, acting=acting, now=ports.now, jitter=ports.jitter)
        self.terminations = Terminations(
            store.jobs,
            ports,
            decide=self.decide,
            show=self._show,
            look=self._look_now,
            leading=leading,
            acting=acting,
        )
        self.silent_since: dict[Place, float | None] = {}

    def silent_for(self) -> float:
        """Seconds since looks began to bring no answer anywhere; 0 while they do, or there is nothing to look at."""
        places = self._places()
        since = [began for place, began in self.silent_since.items() if place in places]
        silent = [began for began in since if began is not None]
        if not silent or len(silent) < len(since):
            return 0.0
        return asyncio.get_running_loop().time() - max(silent)

    def tidy(self) -> None:
        """Forget the places at which there is no job any more."""
        used = self._places()
        self.looks.forget(used)
        self.silent_since = {place: since for place, since in self.silent_since.items() if place in used}

    def _places(self) -> set[Place]:
        return {key.place for key in self._store.jobs}

    # -- what AWS tells -----------------------------------------------------------------------------------------------

    def learn(self, place: Place, looks: Mapping[str, Look], asked_at: Millis) -> None:
        if not self._leading():
            return
        if any(not isinstance(look, Fault) for look in looks.values()):
            self.silent_since[place] = None
        elif self.silent_since.get(place) is None:
            self.silent_since[place] = asyncio.get_running_loop().time()
        now = self._ports.now()
        found = ((self._store.jobs.get(JobKey(place, job_id)), look) for job_id, look in looks.items())
        expected = partial(self._as_expected, asked_at=asked_at, now=now)
        # All is taken in before anything is decided: a job and the one that it is a part of come by one answer.
        news = [(job, look) for job, look in found if job is not None and not expected(job, look)]
        for job, look in news:
            _taken_in(job, look, asked_at, now)
        for job, look in news:
            for tracked in job.objects.values():
                self._gate.heard(tracked, job, look if isinstance(look, Fault) else None, now)
            self.decide(job)
            for part in self._parts(job):
                self.decide(part)

    def _as_expected(self, job: TrackedJob, look: Look, asked_at: Millis, now: Millis) -> bool:
        """Whether a look that is worth no decision shows what the one before it did."""
        if job.routine is None or not isinstance(look, Sight) or look.job != job.seen.job or look.tags != job.tags:
            return False
        job.seen, job.asked_at = job.seen.saw(job.seen.job, now), asked_at
        self.looks.set(job, job.routine)
        return True

    # -- decide and act -----------------------------------------------------------------------------------------------

    def decide_for(self, tracked: TrackedObject) -> None:
        """Decide for the object, and for all that name the same job."""
        job = self._store.job_of(tracked)
        if job is not None:
            self.decide(job)
        elif isinstance(tracked.grant, Refusal):
            before, now = tracked.record.status, self._ports.now()
            tracked.record = replace(tracked.record, access=tracked.grant)
            # Who applies a policy and its first objects together is not told of a policy that is missing.
            new = before.phase is None
            self._take_over(tracked, before, decide(tracked.record, Observation(), now, self._cadence), held=new)

    def reconsider(self, tracked: TrackedObject) -> None:
        """Decide anew as policies have changed: what a person had to mend may be mended with that."""
        self.decide_for(tracked)
        job = self._store.job_of(tracked)
        if job is not None and job.seen.fault is not None and not job.seen.fault.fate.passes:
            self._look_now(job)

    def _show(self, tracked: TrackedObject) -> None:
        """The status says more than the API server was told, by whatever is decided: it is written in any case."""
        self.decide_for(tracked)
        self._writes.submit(tracked.ref.uid)

    def decide(self, job: TrackedJob) -> None:
        """Decide for every object that names the job; the soonest of their looks is the job's."""
        now = self._ports.now()
        self._recall(job)
        decided = [self._decide_one(tracked, job, now) for tracked in job.objects.values()]
        wanted = [one.look_at for one in decided if one.look_at is not None] + self._for_parts(job, now)
        routines = [one.routine for one in decided if one.routine is not None]
        job.routine = min(routines) if routines and len(routines) == len(decided) and not job.parts else None
        if not wanted:
            self.looks.drop(job)
        elif not self.looks.under_way(job.key):
            look_at = min(wanted)
            exact = any(one.look_at == look_at and one.exact for one in decided)
            self.looks.set(job, max(look_at - now, 0), exact=exact)
        above = self._store.jobs.get(job.above) if job.above is not None else None
        if above is not None and above.look_at is None and not self.looks.under_way(above.key):
            self.decide(above)

    def _recall(self, job: TrackedJob) -> None:
        """Requests that an earlier process sent, as statuses tell: those of objects that may show the job at all."""
        for tracked in job.objects.values():
            told = tracked.record.status.termination
            if told is not None and told.accepted_at is not None and self._gate.admits(tracked, job):
                recall(job, told)

    def _decide_one(self, tracked: TrackedObject, job: TrackedJob, now: Millis) -> "_Decided":
        before = tracked.record.status
        ruled = self._gate.rule(tracked, job, now)
        if ruled.access != tracked.record.access:
            tracked.record = replace(tracked.record, access=ruled.access)
        decision = decide(tracked.record, ruled.seen, now, self._cadence)
        look_at = decision.look_at
        if decision.terminate is not None and ruled.admission is not None:
            look_at = self._end(tracked, job, ruled.admission, decision, now)
        elif look_at is not None and isinstance(ruled.admission, ParentNeeded):
            look_at = max(look_at, now + SECOND)
        self._take_over(tracked, before, decision, held=job.seen.calling)
        if look_at is not None and ruled.veiled:
            look_at = self._behind_the_veil(tracked, look_at, now)
        return _Decided(look_at, decision.routine, exact=ruled.veiled)

    def _behind_the_veil(self, tracked: TrackedObject, look_at: Millis, now: Millis) -> Millis:
        """When the next look counts for the object, whoever else has the same job looked at meanwhile."""
        if look_at != tracked.veil_for:
            wait = max(look_at - now, 0)
            tracked.veil_for, tracked.veil_due = look_at, now + int(wait * self._ports.jitter(1.0, 1.1))
        return tracked.veil_due

    def _end(
        self, tracked: TrackedObject, job: TrackedJob, admission: Admission, decision: Decision, now: Millis
    ) -> Millis | None:
        """Send the termination if what is known lets it be sent. When to look at the job."""
        if decision.terminate is None or job.seen.calling or self._book.sees_nothing:
            return decision.look_at
        match termination(admission, now):
            # A hold that is longer than any tells of a clock that was set back.
            case MayEnd() if now < job.held_until <= now + TERMINATING_MAX:
                pass
            case MayEnd() as leave:
                self.terminations.send(job, tracked, leave, decision.terminate)
            case MustLook(job_ids=job_ids):
                known = (self._store.jobs.get(JobKey(job.key.place, job_id)) for job_id in job_ids)
                stale = [one for one in known if one is not None and _look_helps(one, now)]
                for other in stale:
                    if other is not job:
                        self._look_now(other)
                if job in stale:
                    return now
            case MayNotEnd():
                pass
        return decision.look_at

    def _look_now(self, job: TrackedJob) -> None:
        if not self.looks.under_way(job.key):
            self.looks.set(job, 0)

    def _for_parts(self, job: TrackedJob, now: Millis) -> list[Millis]:
        """When jobs that are parts of this one want it to be looked at, for its tags: while they are looked at."""
        if not any(self._followed(key) for key in job.parts):
            return []
        if job.seen.fault is not None:
            return [job.seen.failed_at + look_backoff(job.seen.fault.fate, job.seen.faults)]
        return [now if job.seen.looked_at is None else job.seen.looked_at + self._cadence.pending]

    def _parts(self, job: TrackedJob) -> list[TrackedJob]:
        """The parts of a job of which more is known now, as far as that may change something for them."""
        parts = (self._store.jobs.get(key) for key in job.parts)
        tags = job.tags if not job.seen.absences else None
        changed, job.tags_for_parts = tags != job.tags_for_parts or not job.seen.looked_at, tags
        return [part for part in parts if part is not None and (changed or part.asked)]

    def _followed(self, key: JobKey) -> bool:
        part = self._store.jobs.get(key)
        return part is not None and (part.look_at is not None or self.looks.under_way(key))

    def _take_over(self, tracked: TrackedObject, before: Status, decision: Decision, *, held: bool) -> None:
        if decision.status == before:
            return
        tracked.record = replace(tracked.record, status=decision.status)
        self.terminations.measure(before, decision.status)
        # What is withheld until a look confirms it is mostly confirmed within a moment: one write will do then.
        if held or (decision.status.phase is Phase.UNKNOWN and before.job is not None):
            self._writes.hold(tracked.ref.uid)
        else:
            self._writes.submit(tracked.ref.uid)


def _look_helps(job: TrackedJob, now: Millis) -> bool:
    """Whether a look right now may show more. One that fails, or lacks the job, comes again in its own time."""
    fresh = job.seen.job is not None and 0 <= now - job.asked_at <= TAGS_HOLD_FOR
    return not fresh and job.seen.fault is None and not job.seen.absences


def _taken_in(job: TrackedJob, look: Look, asked_at: Millis, now: Millis) -> None:
    """What a look has shown becomes part of what is known."""
    if isinstance(look, Sight):
        job.seen, job.tags, job.asked_at = job.seen.saw(look.job, now), look.tags, asked_at
    elif isinstance(look, Absent):
        job.seen = job.seen.missed(now)
    else:
        job.seen = job.seen.failed(look, now)
