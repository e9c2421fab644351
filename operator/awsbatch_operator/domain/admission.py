"""Whether one job is admitted under a grant, and whether it may be ended now.

A yes comes from `admit` and `termination` alone, and rests on facts that AWS showed: what is not known admits nothing.
A no tells nothing of the job: it is the same for every job that is not admitted.
"""

import re
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from awsbatch_operator.domain.access import EveryJob, Grant, Refusal, Ruling
from awsbatch_operator.domain.cadence import SECOND
from awsbatch_operator.domain.job import Absent, Millis
from awsbatch_operator.domain.policy import NAMESPACE, Rules, Verb

TAGS_HOLD_FOR: Final = 30 * SECOND
"""So long a look at a job's tags is fresh enough to end the job by."""

_QUEUE_ARN: Final = re.compile(r"arn:[a-z-]+:batch:[a-z0-9-]+:[0-9]{12}:job-queue/([A-Za-z0-9_-]{1,128})")
_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PART: Final = re.compile(r"([^:#]+)[:#][0-9]+")
_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Facts:
    """What DescribeJobs showed of a job at `seen_at`. `tags` None: none that could be read; {}: it has none."""

    job_id: str
    queue: str | None
    tags: Mapping[str, str] | None = field(repr=False)
    seen_at: Millis


@dataclass(frozen=True, slots=True)
class Admitted(Ruling):
    """The job keeps the rules of the grant. `seen_at`: when the oldest of the facts for it was seen."""

    grant: Grant
    job_id: str
    seen_at: Millis
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("only admit() admits a job")


@dataclass(frozen=True, slots=True)
class NotAdmitted(Ruling):
    """The job breaks a rule, or is not known well enough. Nothing here tells which, or anything else of the job."""

    policy: str

    @property
    def refusal(self) -> Refusal:
        return Refusal(
            "JobNotAllowed",
            f"The BatchAccessPolicy {self.policy} admits no job of this id: either there is none in this region, or it "
            "breaks a rule of the policy. Check spec.jobId and spec.region, or ask the platform team",
        )


@dataclass(frozen=True, slots=True)
class ParentNeeded(Ruling):
    """A child or node, of which AWS shows no tags: those of the job that it is part of decide. Until then, a no."""

    job_id: str


Admission = Admitted | NotAdmitted | ParentNeeded


def admit(grant: Grant, facts: Facts, parent: Facts | Absent | None = None) -> Admission:
    """Whether the grant admits the job. `parent`: the job that it is part of, looked up in the same place.

    `parent` None: it was not looked up yet. ABSENT: it was, and Batch does not show it.
    """
    match grant.rules:
        case EveryJob():
            return Admitted(grant, facts.job_id, facts.seen_at, _SEAL)
        case Rules() as rules:
            return _held_against(rules, grant, facts, parent)


def parent_of(job_id: str) -> str | None:
    """The array job or multi-node job that the id is a part of."""
    part = _PART.fullmatch(job_id)
    return part[1] if part else None


@dataclass(frozen=True, slots=True)
class MayEnd(Ruling):
    """TerminateJob may be sent: while `grant` is in force, and no later than `until` (None: as long as that)."""

    grant: Grant
    job_id: str
    until: Millis | None
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("only termination() lets a job be ended")

    def holds(self, in_force: Grant | Refusal | None, now: Millis) -> bool:
        """To be asked with the last byte: `in_force` is what the namespace is granted at that moment."""
        return in_force == self.grant and (self.until is None or self.until - TAGS_HOLD_FOR <= now <= self.until)


@dataclass(frozen=True, slots=True)
class MustLook(Ruling):
    """Not before these jobs were looked at once more: what is known of them is too old, or not enough."""

    job_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MayNotEnd(Ruling):
    """TerminateJob may not be sent."""

    refusal: Refusal


def termination(admission: Admission, now: Millis) -> MayEnd | MustLook | MayNotEnd:
    """Whether the job may be ended at this moment."""
    match admission:
        case NotAdmitted():
            return MayNotEnd(admission.refusal)
        case ParentNeeded():
            return MustLook((admission.job_id,))
        case Admitted(grant=grant) if Verb.TERMINATE not in grant.allow:
            return MayNotEnd(_observe_only(grant))
        case Admitted(grant=grant, job_id=job_id, seen_at=seen_at):
            if isinstance(grant.rules, EveryJob) or not grant.rules.tags:
                # A job stays in its queue for life: there is nothing that could have changed.
                return MayEnd(grant, job_id, None, _SEAL)
            # A look that lies in the future tells of a clock that was set back: how old it is, nobody knows.
            if not seen_at <= now <= seen_at + TAGS_HOLD_FOR:
                return MustLook(tuple(filter(None, (job_id, parent_of(job_id)))))
            return MayEnd(grant, job_id, seen_at + TAGS_HOLD_FOR, _SEAL)


def not_ended(admission: Admitted) -> Refusal | None:
    """Why a job that may be looked at may not be ended, whenever that is asked."""
    return None if Verb.TERMINATE in admission.grant.allow else _observe_only(admission.grant)


def _observe_only(grant: Grant) -> Refusal:
    return Refusal(
        "TerminationNotAllowed",
        f"The BatchAccessPolicy {grant.policy} lets this namespace observe jobs, not end them: ask the platform team",
    )


def _held_against(rules: Rules, grant: Grant, facts: Facts, parent: Facts | Absent | None) -> Admission:
    no = NotAdmitted(grant.policy or "")
    if rules.queues and not _queue_matches(rules.queues, facts.queue):
        return no
    if not rules.tags:
        return Admitted(grant, facts.job_id, facts.seen_at, _SEAL)
    wanted = {key: value.replace(NAMESPACE, grant.namespace) for key, value in rules.tags}
    above = parent_of(facts.job_id)
    if facts.tags is None:
        return no
    if above is None:
        return Admitted(grant, facts.job_id, facts.seen_at, _SEAL) if _has(facts.tags, wanted) else no
    if parent is None:
        return ParentNeeded(above)
    if isinstance(parent, Absent) or parent.job_id != above or parent.tags is None:
        return no
    # A part that carries such a tag itself, and with another value, is held against its own as well.
    if not _has(parent.tags, wanted) or not _has({**wanted, **facts.tags}, wanted):
        return no
    return Admitted(grant, facts.job_id, min(facts.seen_at, parent.seen_at), _SEAL)


def _has(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(tags.get(key) == value for key, value in wanted.items())


@lru_cache(maxsize=1024)
def _queue_matches(patterns: tuple[str, ...], queue: str | None) -> bool:
    """Whether one of the patterns is that of the queue. One with a colon means ARNs, one without names.

    Every ARN holds the words arn, aws and batch, and a region: a pattern such as *batch* would match them all.
    """
    arn = _QUEUE_ARN.fullmatch(queue or "")
    name = arn[1] if arn else queue if _QUEUE_NAME.fullmatch(queue or "") else None
    return any(
        fnmatchcase(whole, pattern)
        for pattern in patterns
        if (whole := (arn[0] if arn else None) if ":" in pattern else name) is not None
    )
