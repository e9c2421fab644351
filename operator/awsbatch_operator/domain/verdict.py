"""What the rows of the decision table have in common: their input, their outcome, and the request that was sent."""

from dataclasses import dataclass
from typing import Final

from awsbatch_operator.domain import cadence as waits
from awsbatch_operator.domain.access import Mark, Refusal
from awsbatch_operator.domain.conditions import Claim
from awsbatch_operator.domain.job import Job, Millis
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import Phase, Spec, Status, Termination


@dataclass(frozen=True, slots=True)
class Allowed:
    """The object may show its job. `mark`: by what the job was admitted. `ending`: why it may not be ended.

    `absence`: what is said of a job that no look shows, in place of JobNotFound.
    """

    mark: Mark | None = None
    ending: Refusal | None = None
    absence: Refusal | None = None


EVERYTHING: Final = Allowed()


@dataclass(frozen=True, slots=True)
class Record:
    """One object: what it states since `changed_at` (when this process first saw this generation), and its status.

    `access`: what the policy in force lets it show and do.
    """

    spec: Spec
    region: str
    generation: int
    created_at: Millis
    changed_at: Millis
    status: Status
    access: Allowed | Refusal = EVERYTHING

    @property
    def absence(self) -> Refusal | None:
        """What is said of a job that no look shows, in place of JobNotFound."""
        return None if isinstance(self.access, Refusal) else self.access.absence

    @property
    def asked(self) -> bool:
        return self.spec.terminate is not None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision before faults are laid over it and conditions are stamped. `routine` as in Decision."""

    phase: Phase
    job: Job | None
    ready: Claim
    look_at: Millis | None
    routine: Millis | None = None
    termination: Termination | None = None
    reconciling: Claim | None = None
    stalled: Claim | None = None
    terminated: Claim | None = None
    succeeded: Claim | None = None
    terminate: str | None = None


def latched(record: Record, seen: Observation) -> Termination | None:
    """The request that was sent for this job, as far as it concerns this object.

    Once accepted it stays, whatever becomes of `spec.terminate`. An object that states a termination while
    another's request is already under way shares that one.
    """
    own, shared = record.status.termination, seen.request
    if own is not None and (own.accepted_at is None or not own.reason):
        own = None
    if shared is None or (own is None and (not record.asked or ended_before(record, seen.job))):
        return own
    return Termination(
        shared.reason,
        shared.requested_at,
        shared.accepted_at,
        own.completed_at if own else None,
        shared.requests,
    )


def ended_before(record: Record, job: Job | None) -> bool:
    """Whether the job had ended before this object could have had a part in it."""
    if record.status.finished:
        return True
    return job is not None and job.finished and job.stopped_at is not None and job.stopped_at < record.created_at


def retry_at(record: Record, seen: Observation, now: Millis) -> Millis | None:
    """Until when the latest refusal holds the next TerminateJob back; None: it does not, or not any more."""
    if seen.refusal is None:
        return None
    if record.changed_at > seen.refused_at and not seen.refusal.fate.passes:
        # What a person had to mend may be mended: an edit that came after the refusal is worth a try.
        return None
    at = seen.refused_at + waits.call_backoff(seen.refusal.fate, seen.refusals)
    # A refusal that lies in the future tells of a clock that was set back.
    return at if seen.refused_at <= now < at else None
