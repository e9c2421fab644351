"""Rows of the decision table: Batch shows the job alive."""

from dataclasses import dataclass
from typing import Final

from awsbatch_operator.domain import cadence as waits
from awsbatch_operator.domain import conditions as say
from awsbatch_operator.domain.cadence import Cadence
from awsbatch_operator.domain.conditions import Claim
from awsbatch_operator.domain.denied import observed_only
from awsbatch_operator.domain.job import Job, Millis
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import Phase, Termination
from awsbatch_operator.domain.verdict import Allowed, Record, Verdict, latched, retry_at

_PHASES: Final = dict.fromkeys(("SUBMITTED", "PENDING", "RUNNABLE", "STARTING"), Phase.PENDING)


def alive(record: Record, seen: Observation, job: Job, now: Millis, cadence: Cadence) -> Verdict:
    termination = latched(record, seen)
    phase = Phase.RUNNING if job.running else _PHASES.get(job.status, Phase.UNKNOWN)
    if job.flagged or termination is not None:
        phase = Phase.TERMINATING
    forbidden = record.access.ending if isinstance(record.access, Allowed) else None
    if termination is None and (forbidden is not None or not record.asked):
        wait = min(waits.TERMINATING_MAX, cadence.running) if job.flagged else cadence.alive(running=job.running)
        verdict = Verdict(phase, job, say.OBSERVED, (seen.looked_at or now) + wait, wait, succeeded=say.ACTIVE)
        return observed_only(verdict, forbidden) if forbidden is not None and record.asked else verdict
    ending = _Ending(record, seen, job, termination, now, cadence)
    return Verdict(
        phase=phase,
        job=job,
        termination=termination,
        ready=say.NOT_READY_TERMINATING,
        reconciling=ending.progress(),
        stalled=say.STUCK if ending.stuck else None,
        terminated=ending.fate(),
        succeeded=say.ACTIVE,
        terminate=ending.call() if forbidden is None else None,
        look_at=ending.look_at(),
    )


@dataclass(frozen=True, slots=True)
class _Ending:
    """A living job whose termination is stated or was sent."""

    record: Record
    seen: Observation
    job: Job
    termination: Termination | None
    now: Millis
    cadence: Cadence

    @property
    def held(self) -> bool:
        return self.job.flagged and self.job.waits_on_dependencies

    @property
    def stuck(self) -> bool:
        return self._age >= waits.STUCK_AFTER and not self.held

    @property
    def _age(self) -> Millis:
        """Of the request, from its first call on."""
        if self.termination is None:
            return 0
        start = self.termination.requested_at or self.termination.accepted_at
        return 0 if start is None else self.now - start

    def call(self) -> str | None:
        """The reason to send now: the stated one, or, for a request without a sign, the one that was sent before."""
        seen = self.seen
        if seen.calling or self.job.flagged:
            return None
        if retry_at(self.record, seen, self.now) is not None:
            return None
        if self.termination is None:
            return self.record.spec.terminate
        # A sight that lies in the future tells of a clock that was set back, not of a long silence.
        shown_since = min(seen.seen_at or 0, self.now) - (self.termination.accepted_at or 0)
        return self.termination.reason if shown_since >= self._resend_wait(self.termination) else None

    def look_at(self) -> Millis:
        looked_at, retry = self.seen.looked_at or self.now, retry_at(self.record, self.seen, self.now)
        if self.termination is not None and self.termination.accepted_at is not None:
            accepted_at = self.termination.accepted_at
            since = min(max(looked_at, accepted_at), self.now)
            # An acceptance that lies in the future tells of a clock that was set back: the request is old then, too.
            look_at = since + waits.terminating(abs(since - accepted_at))
            # A resend rests on a look no older than itself: have one when it falls due.
            due = max(accepted_at + self._resend_wait(self.termination), retry or 0)
            return min(look_at, due) if looked_at < due and not self.job.flagged else look_at
        if self.job.flagged:
            return looked_at + waits.terminating(max(looked_at - self.record.changed_at, 0))
        regular = looked_at + self.cadence.alive(running=self.job.running)
        return regular if retry is None else min(regular, retry)

    def _resend_wait(self, termination: Termination) -> Millis:
        return self.cadence.resend(termination.requests)

    def progress(self) -> Claim:
        if self.termination is None and not self.job.flagged:
            return say.SENDING
        return say.DELAYED if self._age >= waits.DELAYED_AFTER and not self.held else say.FOLLOWING

    def fate(self) -> Claim:
        if self.held:
            return say.WAITING
        return say.IN_PROGRESS if self.termination is not None or self.job.flagged else say.REQUESTED
