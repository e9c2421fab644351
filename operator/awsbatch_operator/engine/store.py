"""What is tracked: one slim entry an object, one a job. No task, thread or timer belongs to either."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from awsbatch_operator.domain import conditions as say
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
    """

    ref: ObjectRef
    key: JobKey
    record: Record
    resource_version: str
    told: Status
    listed_at: float
    scribbled: Shown | None = None

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

    `routine` is the shortest of its objects' decisions; None as soon as one of them has none.
    """

    key: JobKey
    seen: Observation = field(default_factory=Observation)
    objects: dict[str, TrackedObject] = field(default_factory=dict)
    look_at: float | None = None
    early_at: float | None = None
    routine: Millis | None = None

    @property
    def asked(self) -> bool:
        return any(tracked.record.asked for tracked in self.objects.values())


class Store:
    """Objects by uid, jobs by key."""

    def __init__(self) -> None:
        self.objects: dict[str, TrackedObject] = {}
        self.jobs: dict[JobKey, TrackedJob] = {}

    def bind(self, tracked: TrackedObject) -> TrackedJob:
        job = self.jobs.setdefault(tracked.key, TrackedJob(tracked.key))
        job.objects[tracked.ref.uid] = tracked
        self.objects[tracked.ref.uid] = tracked
        return job

    def forget(self, uid: str) -> TrackedObject | None:
        tracked = self.objects.pop(uid, None)
        if tracked is not None:
            job = self.jobs[tracked.key]
            del job.objects[uid]
            if not job.objects:
                del self.jobs[tracked.key]
        return tracked

    def job_of(self, tracked: TrackedObject) -> TrackedJob:
        return self.jobs[tracked.key]

    def census(self) -> Counter[Standing]:
        """How many objects there are of each standing."""
        counts = Counter(map(_standing, self.objects.values()))
        return Counter({Standing(*standing): count for standing, count in counts.items()})

    def __iter__(self) -> Iterator[TrackedJob]:
        return iter(self.jobs.values())


def _standing(tracked: TrackedObject) -> tuple[str, str, Phase, str]:
    # Plain, as this is asked of ten thousand objects while nothing else runs.
    status = tracked.record.status
    return tracked.ref.namespace, tracked.key.place.region, status.phase or Phase.UNKNOWN, _stalled(status)


def _stalled(status: Status) -> str:
    for said in status.conditions:
        if said.type == say.STALLED and said.status == say.TRUE and said.reason in say.REASONS_OF_STALLED:
            return said.reason
    return ""
