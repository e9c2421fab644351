"""What is tracked: one slim entry an object, one a job. No task, thread or timer belongs to either."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from awsbatch_operator.domain import conditions as say
from awsbatch_operator.domain.access import Grant, Refusal
from awsbatch_operator.domain.job import JobKey, Millis
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import ObjectRef, Phase, Standing, Status
from awsbatch_operator.domain.verdict import Record

Shown = Status | Mapping[str, object]
"""A status as the API server has it: raw, or the one whose rendering it is."""


@dataclass(slots=True, eq=False)
class TrackedObject:
    """One BatchJob. `record.status` is what its status shall be, `shows` what the API server last showed.

    `told` is the status of the last write (or of the first sight): Events tell the way from there. `scribbled` is what
    is shown where that is another; for all the others, keeping both would be half of an object's memory. `listed_at`
    is when it was last heard of (seconds, monotonic), so that a list that began earlier can't call it gone.

    `grant` is what the policy in force grants (None: not known yet), `key` the job that it may be asked for (None: none
    may). `veil` is what is known of a job that must look like none: looks that lack it. One counts from `veil_due` on,
    which is drawn once for each look that was decided to be due at `veil_for`.
    """

    ref: ObjectRef
    record: Record
    resource_version: str
    told: Status
    listed_at: float
    key: JobKey | None = None
    grant: Grant | Refusal | None = None
    scribbled: Shown | None = None
    veil: Observation | None = None
    veil_for: Millis = 0
    veil_due: Millis = 0

    def lift_veil(self) -> None:
        self.veil, self.veil_for, self.veil_due = None, 0, 0

    @property
    def shows(self) -> Shown:
        return self.told if self.scribbled is None else self.scribbled

    def compare(self, told: Status, shown: Shown, change: Callable[[Status, Shown], object]) -> None:
        """Take over what was told, and of what is shown no more than what is not the same."""
        self.told = told
        self.scribbled = shown if change(told, shown) else None


@dataclass(slots=True, eq=False)
class TrackedJob:
    """One Batch job and the objects that name it. `look_at` and `early_at` are loop times; None while not scheduled.

    `routine` is the shortest of its objects' decisions; None as soon as one of them has none. `tags` are those of the
    look in `seen`, which was asked for at `asked_at`. Those of `above` decide about access too, as this one's do about
    `parts`, which were last decided for by `tags_for_parts`.
    `lapses` counts the terminations in a row that were not sent, as the leave lapsed while they waited; the next is
    not sent before `held_until`.
    """

    key: JobKey
    seen: Observation = field(default_factory=Observation)
    objects: dict[str, TrackedObject] = field(default_factory=dict)
    above: JobKey | None = None
    parts: dict[JobKey, None] = field(default_factory=dict)
    tags: Mapping[str, str] | None = field(default=None, repr=False)
    tags_for_parts: Mapping[str, str] | None = field(default=None, repr=False)
    asked_at: Millis = 0
    lapses: int = 0
    held_until: Millis = 0
    look_at: float | None = None
    early_at: float | None = None
    routine: Millis | None = None

    @property
    def asked(self) -> bool:
        return any(tracked.record.asked for tracked in self.objects.values())


class Store:
    """Objects by uid and by namespace, jobs by key."""

    def __init__(self) -> None:
        self.objects: dict[str, TrackedObject] = {}
        self.jobs: dict[JobKey, TrackedJob] = {}
        self.namespaces: dict[str, dict[str, TrackedObject]] = {}

    def add(self, tracked: TrackedObject) -> None:
        self.objects[tracked.ref.uid] = tracked
        self.namespaces.setdefault(tracked.ref.namespace, {})[tracked.ref.uid] = tracked

    def forget(self, uid: str) -> TrackedObject | None:
        tracked = self.objects.pop(uid, None)
        if tracked is not None:
            self.bind(tracked, None)
            neighbours = self.namespaces[tracked.ref.namespace]
            del neighbours[uid]
            if not neighbours:
                del self.namespaces[tracked.ref.namespace]
        return tracked

    def bind(self, tracked: TrackedObject, key: JobKey | None, above: str | None = None) -> None:
        """Let the object stand for the job of that key, and for no other. `above`: the job whose tags decide too."""
        before, tracked.key = tracked.key, key
        if key is not None:
            job = self._job(key)
            job.objects[tracked.ref.uid] = tracked
            if above is not None:
                job.above = JobKey(key.place, above)
                self._job(job.above).parts[key] = None
        if before is not None and before != key:
            del self.jobs[before].objects[tracked.ref.uid]
            self._drop(before)

    def job_of(self, tracked: TrackedObject) -> TrackedJob | None:
        return self.jobs[tracked.key] if tracked.key is not None else None

    def _job(self, key: JobKey) -> TrackedJob:
        return self.jobs.setdefault(key, TrackedJob(key))

    def _drop(self, key: JobKey) -> None:
        job = self.jobs[key]
        if job.objects:
            return
        if job.above is not None:
            self.jobs[job.above].parts.pop(key, None)
            self._drop(job.above)
            job.above = None
        if not job.parts:
            del self.jobs[key]

    def census(self) -> Counter[Standing]:
        """How many objects there are of each standing."""
        counts = Counter(map(_standing, self.objects.values()))
        return Counter({Standing(*standing): count for standing, count in counts.items()})

    def __iter__(self) -> Iterator[TrackedJob]:
        return iter(self.jobs.values())


def _standing(tracked: TrackedObject) -> tuple[str, str, Phase, str, str | None]:
    # Plain, as this is asked of ten thousand objects while nothing else runs.
    status = tracked.record.status
    role = tracked.key.place.role if tracked.key is not None else None
    return tracked.ref.namespace, tracked.record.region, status.phase or Phase.UNKNOWN, _stalled(status), role


def _stalled(status: Status) -> str:
    for said in status.conditions:
        if said.type == say.STALLED and said.status == say.TRUE and said.reason in say.REASONS_OF_STALLED:
            return said.reason
    return ""
