"""What is tracked: one slim entry an object, one a job. No task, thread or timer belongs to either."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from awsbatch_operator.domain.job import JobKey
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import ObjectRef, Phase, Status
from awsbatch_operator.domain.verdict import Record


@dataclass(slots=True, eq=False)
class TrackedObject:
    """One BatchJob. `record.status` is what its status shall be, `shown` what the API server last showed.

    `told` is the status of the last write (or of the first sight): Events tell the way from there. `listed_at` is
    when it was last heard of (seconds, monotonic), so that a list that began earlier can't call it gone.
    """

    ref: ObjectRef
    key: JobKey
    record: Record
    resource_version: str
    shown: dict[str, object]
    told: Status
    listed_at: float


@dataclass(slots=True, eq=False)
class TrackedJob:
    """One Batch job and the objects that name it. `look_at` and `early_at` are loop times; None while not scheduled."""

    key: JobKey
    seen: Observation = field(default_factory=Observation)
    objects: dict[str, TrackedObject] = field(default_factory=dict)
    look_at: float | None = None
    early_at: float | None = None


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

    def census(self) -> Counter[tuple[str, str]]:
        """How many objects there are by namespace and phase."""
        return Counter(
            (tracked.ref.namespace, tracked.record.status.phase or Phase.UNKNOWN) for tracked in self.objects.values()
        )

    def __iter__(self) -> Iterator[TrackedJob]:
        return iter(self.jobs.values())
