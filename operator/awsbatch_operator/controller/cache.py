"""Tracked objects and jobs: one small entry each. No task, thread or timer belongs to an entry."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from awsbatch_operator.api.batchjob import ObjectMetricKey, ObjectRef, Phase, Status
from awsbatch_operator.api.conditions import STALLED, STALLED_REASONS, TRUE
from awsbatch_operator.api.job import JobKey, Target
from awsbatch_operator.api.names import FINALIZER
from awsbatch_operator.api.timestamps import SECOND, Millis, meta_time
from awsbatch_operator.controller.hidden_view import HiddenView
from awsbatch_operator.policy.resolution import Deny, Scope
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Record

_metric_key = lru_cache(maxsize=4096)(ObjectMetricKey)
"""A cached key: most objects count as the same."""

Shown = Status | Mapping[str, object]
"""A status as the API server has it: raw, or the Status that renders to it."""


@dataclass(slots=True, eq=False)
class TrackedDeletion:
    """The deletion of an object: `at`, by the clock of the API server, and when it was seen (loop time).

    `waited`: seconds that this process has acted on it, without those in which it was `paused`; `counted_at`: loop time
    up to which they are counted.
    """

    at: Millis
    seen_at: float
    waited: float = 0.0
    counted_at: float | None = None
    paused: bool = False

    def count(self, now: float) -> Millis:
        """Return `waited` in milliseconds, up to now (loop time)."""
        if self.counted_at is not None and not self.paused:
            self.waited += now - self.counted_at
        self.counted_at = now
        return int(self.waited * SECOND)


@dataclass(slots=True, eq=False)
class TrackedObject:
    """One BatchJob. `record.status` is the desired status, `last_written` the status of the last write or first read.

    `foreign_status` is what the API server shows where that is another; keeping both for all would be half of an
    object's memory. `digest`: of what the API server showed when the two were compared. `updated_at`: loop time of the
    last news from the API server.

    `resolved`: what the policy in force allows; `scope`: the same, except for a region that AWS does not have (None:
    not known yet). `key`: the job that may be polled. `next_poll_at`: when the poller polls it. `hold_until`: loop
    time until which the write waits for the answer of a TerminateJob (0: it does not wait). `steady_interval`:
    milliseconds to the next poll as long as polls show nothing new; None: each poll needs a reconcile. `hidden`
    replaces the state of a job that must look like a missing one. `terminated_alone`: AWS rejected a call that its
    termination shared, so the next one shares none.

    `finalizers`: as the API server has them; `deletion`: None: the object is not being deleted. `finalizer_wanted`: as
    in ReconcileResult; None: not decided yet. `given_up`: the same. `counted_as`: the labels that the cache counts.
    """

    ref: ObjectRef
    record: Record
    resource_version: str
    last_written: Status
    updated_at: float
    key: JobKey | None = None
    scope: Scope | Deny | None = None
    foreign_status: Shown | None = None
    hidden: HiddenView | None = None
    steady_interval: Millis | None = None
    resolved: Scope | Deny | None = None
    next_poll_at: Millis | None = None
    hold_until: float = 0.0
    digest: int = 0
    write_failures: int = 0
    terminated_alone: bool = False
    finalizers: tuple[str, ...] = ()
    deletion: TrackedDeletion | None = None
    finalizer_wanted: bool | None = None
    given_up: str | None = None
    counted_as: ObjectMetricKey | None = None

    @property
    def held_deletion(self) -> TrackedDeletion | None:
        """The deletion, while the operator's finalizer holds the object."""
        return self.deletion if FINALIZER in self.finalizers else None

    @property
    def adds_finalizer(self) -> bool:
        # Kubernetes forbids to add one to an object that is being deleted.
        return self.finalizer_wanted is True and self.deletion is None and FINALIZER not in self.finalizers

    @property
    def removes_finalizer(self) -> bool:
        return self.finalizer_wanted is False and FINALIZER in self.finalizers

    @property
    def shown(self) -> Shown:
        return self.last_written if self.foreign_status is None else self.foreign_status

    def compare(self, written: Status, shown: Shown, digest: int, change: Callable[[Status, Shown], object]) -> None:
        """Note the status that was written, and what the API server shows only where it differs."""
        self.last_written, self.digest = written, digest
        self.foreign_status = shown if change(written, shown) else None


@dataclass(slots=True, eq=False)
class TrackedJob:
    """One Batch job and the objects that name it.

    `tags` are those of the poll in `state`, which was requested at `requested_at`. Access also depends on the tags of
    `parent`, and the access of `children` on the tags of this job. `expired` counts the terminations in a row that were
    not sent because their permit was not valid any more; the next is not sent before `held_until`. `hinted_at`: when an
    event last named the job. `changed`: whether the latest answer showed something new. `lists`: how many lists have
    shown it unchanged since it was described; the last of them has put off the polls of its objects.
    """

    key: JobKey
    state: JobState = field(default_factory=JobState)
    objects: dict[str, TrackedObject] = field(default_factory=dict)
    parent: JobKey | None = None
    children: dict[JobKey, None] = field(default_factory=dict)
    tags: Mapping[str, str] | None = field(default=None, repr=False)
    requested_at: Millis = 0
    malformed: bool = False
    expired: int = 0
    held_until: Millis = 0
    hinted_at: Millis = 0
    changed: bool = True
    lists: int = 0

    def answer_counts(self, max_age: Millis, now: Millis) -> bool:
        """Return whether the latest answer is not older than that. Called from any thread."""
        return 0 <= now - self.requested_at <= max_age


class Cache:
    """Objects by uid and by namespace, jobs by key. `unreadable`: versions of objects that could not be decoded.

    `terminating`: the objects that want a termination; `targets`: the number of jobs of each. With 100,000 objects, to
    search or count them holds the event loop for a tenth of a second.

    `in_doubt_since`: wall clock from which on the cache may lack changes, until a list has succeeded; None: no doubt.
    `unconfirmed`: versions of objects that were listed then and could not be read. No termination of an object in doubt
    is sent.
    """

    def __init__(self) -> None:
        self.objects: dict[str, TrackedObject] = {}
        self.jobs: dict[JobKey, TrackedJob] = {}
        self.namespaces: dict[str, dict[str, TrackedObject]] = {}
        self.terminating: dict[str, TrackedObject] = {}
        self.targets: Counter[Target] = Counter()
        self._counts: Counter[ObjectMetricKey] = Counter()
        self.unreadable: dict[str, str] = {}
        self.in_doubt_since: Millis | None = None
        self.unconfirmed: dict[str, str] = {}

    def add(self, tracked: TrackedObject) -> None:
        self.objects[tracked.ref.uid] = tracked
        self.namespaces.setdefault(tracked.ref.namespace, {})[tracked.ref.uid] = tracked
        self.note(tracked)

    def remove(self, uid: str) -> TrackedObject | None:
        tracked = self.objects.pop(uid, None)
        if tracked is not None:
            self.bind(tracked, None)
            self.note(tracked)
            others = self.namespaces[tracked.ref.namespace]
            del others[uid]
            if not others:
                del self.namespaces[tracked.ref.namespace]
        return tracked

    def bind(self, tracked: TrackedObject, key: JobKey | None, parent: str | None = None) -> None:
        """Bind the object to the job of that key, and to no other. `parent`: its parent if access depends on tags."""
        before, tracked.key = tracked.key, key
        if key != before:
            # Another target is another job, even with the same id.
            tracked.hidden = None
        if key is not None:
            job = self._job(key)
            job.objects[tracked.ref.uid] = tracked
            if parent is not None:
                job.parent = JobKey(key.target, parent)
                self._job(job.parent).children[key] = None
        if before is not None and before != key:
            del self.jobs[before].objects[tracked.ref.uid]
            self._drop(before)

    def note(self, tracked: TrackedObject) -> None:
        """Note what the object counts as. Call it after its record or its key has changed."""
        key, before = None, tracked.counted_as
        self.terminating.pop(tracked.ref.uid, None)
        if tracked.ref.uid in self.objects:
            record = tracked.record
            if record.spec.terminate is not None or record.wanted is not None:
                self.terminating[tracked.ref.uid] = tracked
            role = tracked.key.target.role if tracked.key is not None else None
            phase = record.status.phase or Phase.UNKNOWN
            stalled = next(
                (
                    one.reason
                    for one in record.status.conditions
                    if one.type == STALLED and one.status == TRUE and one.reason in STALLED_REASONS
                ),
                "",
            )
            key = _metric_key(tracked.ref.namespace, record.region, phase, stalled, role)
        if key == before:
            return
        tracked.counted_as = key
        if key is not None:
            self._counts[key] += 1
        if before is not None:
            self._counts[before] -= 1
            if not self._counts[before]:
                del self._counts[before]

    def confirm(self, uid: str, version: str | None) -> None:
        """Note that this version of the object is known (None: its deletion)."""
        listed = self.unconfirmed.get(uid)
        if listed is not None and (version is None or not newer(listed, version)):
            del self.unconfirmed[uid]

    def doubt_reason(self, uid: str) -> str | None:
        """Return the message of TerminationHeld while the object is in doubt."""
        if self.in_doubt_since is None:
            if uid not in self.unconfirmed:
                return None
            return (
                "The operator knows that this object changed, but has not read the change, so it does not know "
                "whether the termination is still requested. The operator sends the termination when it has read "
                "the object"
            )
        return (
            f"The operator could not reach the Kubernetes API until {meta_time(self.in_doubt_since)}, so it "
            "does not know whether the termination is still requested. The operator sends the termination when "
            "it has listed BatchJobs again"
        )

    def job_of(self, tracked: TrackedObject) -> TrackedJob | None:
        return self.jobs[tracked.key] if tracked.key is not None else None

    def children_of(self, job: TrackedJob) -> Iterator[TrackedJob]:
        return (self.jobs[key] for key in job.children if key in self.jobs)

    def count_by_key(self) -> Counter[ObjectMetricKey]:
        """Count the objects by their metric labels."""
        return self._counts

    def _job(self, key: JobKey) -> TrackedJob:
        job = self.jobs.get(key)
        if job is None:
            job = self.jobs[key] = TrackedJob(key)
            self.targets[key.target] += 1
        return job

    def _drop(self, key: JobKey) -> None:
        job = self.jobs[key]
        if job.objects:
            return
        if job.parent is not None:
            self.jobs[job.parent].children.pop(key, None)
            self._drop(job.parent)
            job.parent = None
        if not job.children:
            del self.jobs[key]
            self.targets[key.target] -= 1
            if not self.targets[key.target]:
                del self.targets[key.target]


def newer(version: str, than: str) -> bool:
    """Resource versions of one object increase; versions that are not numbers can only be compared for equality."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than
