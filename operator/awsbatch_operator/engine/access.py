"""What an object may show and do, by the policy in force and by what looks have shown of its job."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from awsbatch_operator.domain.access import EveryJob, Grant, Mode, Refusal, account_changed, mark
from awsbatch_operator.domain.admission import (
    Admission,
    Admitted,
    Facts,
    NotAdmitted,
    ParentNeeded,
    admit,
    not_ended,
    parent_of,
)
from awsbatch_operator.domain.denied import withheld
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.job import ABSENT, Absent, JobKey, Millis, account_of
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.policy import Rules
from awsbatch_operator.domain.ports import Batch
from awsbatch_operator.domain.verdict import EVERYTHING, Allowed
from awsbatch_operator.engine.store import TrackedJob, TrackedObject


@dataclass(frozen=True, slots=True)
class Ruled:
    """What `decide` may know: what is allowed, and what was observed. `admission`: for ending the job by."""

    access: Allowed | Refusal
    seen: Observation
    admission: Admission | None = None

    @property
    def veiled(self) -> bool:
        return isinstance(self.access, Allowed) and self.access.absence is not None


_NOTHING = Observation()


class Gate:
    """Stands between what is known of jobs and what is decided for objects.

    Where a policy is required, an object whose job is not admitted has an observation of its own, the veil: every
    answer counts as one that lacks the job, at the times at which that object alone would have looked.
    """

    def __init__(self, jobs: Mapping[JobKey, TrackedJob], batch: Batch, mode: Mode) -> None:
        self._jobs, self._batch, self._mode = jobs, batch, mode

    def rule(self, tracked: TrackedObject, job: TrackedJob, now: Millis) -> Ruled:
        """What holds for the object now. What its status shows and nothing vouches for any more is withheld."""
        granted = tracked.grant
        if not isinstance(granted, Grant):
            raise TypeError("an object without a grant stands for no job")
        changed = self._account_changed(tracked, job)
        if changed is not None:
            return Ruled(changed, job.seen)
        if isinstance(granted.rules, EveryJob):
            return Ruled(EVERYTHING, job.seen, admit(granted, Facts(job.key.job_id, None, None, now)))
        admission = self._admission(granted, job)
        match admission:
            case Admitted():
                tracked.lift_veil()
                return Ruled(Allowed(mark(granted, job.key.job_id), not_ended(admission)), job.seen, admission)
            case None | ParentNeeded() if tracked.record.status.access == mark(granted, job.key.job_id):
                # Admitted by the very same rules before: the look that will tell is on its way.
                return Ruled(Allowed(mark(granted, job.key.job_id)), self._unconfirmed(job), admission)
            case NotAdmitted(refusal=refusal) if self._mode is Mode.OPTIONAL or tracked.record.status.job is not None:
                # That there is such a job is no secret here, or no more.
                return Ruled(refusal, job.seen)
        if tracked.record.status.job is not None:
            tracked.record = replace(tracked.record, status=withheld(tracked.record, now))
        if self._mode is Mode.OPTIONAL:
            return Ruled(EVERYTHING, self._unconfirmed(job), admission)
        return Ruled(Allowed(absence=NotAdmitted(granted.policy or "").refusal), tracked.veil or _NOTHING)

    def admits(self, tracked: TrackedObject, job: TrackedJob) -> bool:
        """Whether what the object's status tells of the job concerns others that name it."""
        granted = tracked.grant
        if not isinstance(granted, Grant):
            return False
        return isinstance(granted.rules, EveryJob) or isinstance(self._admission(granted, job), Admitted)

    def heard(self, tracked: TrackedObject, job: TrackedJob, fault: Fault | None, now: Millis) -> None:
        """A look at the job has brought an answer, or a fault: what the veil makes of it."""
        granted = tracked.grant
        if self._mode is Mode.OPTIONAL or not isinstance(granted, Grant) or isinstance(granted.rules, EveryJob):
            return
        if tracked.record.status.job is not None or isinstance(self._admission(granted, job), Admitted):
            tracked.lift_veil()
            return
        veil = tracked.veil or _NOTHING
        if now >= tracked.veil_due:
            tracked.veil = veil.missed(now) if fault is None else veil.failed(fault, now)

    def _unconfirmed(self, job: TrackedJob) -> Observation:
        """Of a job that nothing vouches for yet: that it is absent, or why looks fail. Not what others asked of it."""
        if job.seen.job is None:
            return replace(job.seen, request=None)
        above = self._jobs.get(job.above) if job.above is not None else None
        trouble = above.seen if above is not None else _NOTHING
        return Observation(
            fault=trouble.fault, faults=trouble.faults, failed_at=trouble.failed_at, calling=job.seen.calling
        )

    def _admission(self, granted: Grant, job: TrackedJob) -> Admission | None:
        """None: no look has shown the job here."""
        facts = _facts(job)
        return None if facts is None else admit(granted, facts, self._parent(job))

    def _may_see(self, tracked: TrackedObject, job: TrackedJob) -> bool:
        """Lest an account that was scribbled into a status shows that there is such a job."""
        granted = tracked.grant
        return isinstance(granted, Grant) and isinstance(self._admission(granted, job), Admitted)

    def _parent(self, job: TrackedJob) -> Facts | Absent | None:
        above = self._jobs.get(job.above) if job.above is not None else None
        if above is None:
            return None
        return _facts(above) or (ABSENT if above.seen.absences else None)

    def _account_changed(self, tracked: TrackedObject, job: TrackedJob) -> Refusal | None:
        """Another account than the one in which the job was seen first: an id may exist in both."""
        status = tracked.record.status
        if status.account_id is None or status.finished:
            return None
        shown = None
        if job.seen.job is not None and not job.seen.absences and self._may_see(tracked, job):
            shown = account_of(job.seen.job.arn)
        account = shown or self._batch.account(job.key.place)
        if account in (None, status.account_id):
            return None
        # Under another policy than before, the account is that policy's: what was shown is not its to show.
        hides = isinstance(tracked.grant, Grant) and status.access != mark(tracked.grant, job.key.job_id)
        return account_changed(status.account_id, hides=hides)


def needs_parent(granted: Grant, job_id: str) -> str | None:
    """The job that this one is a part of, where its tags decide: AWS shows none of a part."""
    has_tags = isinstance(granted.rules, Rules) and granted.rules.tags
    return parent_of(job_id) if has_tags else None


def _facts(job: TrackedJob) -> Facts | None:
    seen = job.seen.job
    return None if seen is None else Facts(job.key.job_id, seen.queue, job.tags, job.asked_at)
