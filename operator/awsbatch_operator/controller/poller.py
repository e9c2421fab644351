"""Polls: DescribeJobs for 100 ids at once, namespaces in turn, one dispatch loop for each target."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from awsbatch_operator.api.batchjob import LIVE_PHASES
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import JOBS_PER_DESCRIBE, BatchProvider, DescribeResult
from awsbatch_operator.api.job import JobKey, Target
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.controller.cache import Cache, TrackedJob, TrackedObject
from awsbatch_operator.workqueue.coalescer import Coalescer, Dispatchers, Pacer
from awsbatch_operator.workqueue.fair_queue import FairQueue, Rank

IN_FLIGHT: Final = 4
"""DescribeJobs under way at once for a target: one that hangs must not delay the others."""

EARLY: Final = 0.5
"""The last part of a wait that a poll may skip to share a call: jobs created at different times soon share calls."""

_RECHECK: Final = 0.05
"""Seconds of a pause after which the poller checks again whether a full call is due."""

_SHORTEST_SLEEP: Final = 0.001
"""Seconds. A wait for less is over: a sleep that is too short for the clock to advance would spin."""

OnDescribeResult = Callable[[Target, Mapping[str, DescribeResult], Millis], None]
"""Receives the target, the answers by job id, and when they were requested."""

Batch = tuple[TrackedObject, ...]


class Poller:
    """Schedules the polls of objects. Objects that name one job share its polls."""

    def __init__(
        self,
        cache: Cache,
        provider: BatchProvider,
        *,
        on_result: OnDescribeResult,
        now: Callable[[], Millis],
        is_leader: Callable[[], bool],
    ) -> None:
        self._cache, self._now = cache, now
        self.targets: Dispatchers[Target, TargetPoller] = Dispatchers(
            lambda target: TargetPoller(target, cache, provider, on_result=on_result, now=now, is_leader=is_leader)
        )

    def poll_after(
        self, tracked: TrackedObject, seconds: float, *, exact: bool = False, rank: Rank = Rank.NORMAL
    ) -> None:
        """Poll the object's job then, or up to half of that time sooner to share a call unless `exact`.

        `rank`: its place among the polls of the namespace that are due.
        """
        if tracked.key is not None:
            self.targets.ensure(tracked.key.target).poll_after(tracked, seconds, exact=exact, rank=rank)

    def poll_now(self, tracked: TrackedObject) -> None:
        """Poll ahead of the other polls of its namespace."""
        if tracked.key is not None:
            self.targets.ensure(tracked.key.target).poll_now(tracked)

    def hint(self, job: TrackedJob) -> None:
        """Poll the job, which may have changed, now; but not twice within a second."""
        now = self._now()
        job.hinted_at = now
        if job.state.last_error is not None or self.in_flight(job.key):
            return
        wait = job.requested_at + SECOND - now
        # Those of others, and of jobs that have ended, are polled by times of their own, or not at all. One in each
        # namespace: another's may have thousands of polls to do first.
        live = (one for one in job.objects.values() if one.record.status.phase in LIVE_PHASES)
        for tracked in {one.ref.namespace: one for one in live}.values():
            self.poll_after(tracked, max(wait, 0) / SECOND if wait <= SECOND else 0.0, exact=True)

    def discard(self, tracked: TrackedObject, target: Target) -> None:
        if target in self.targets:
            self.targets[target].discard(tracked)

    async def first_polls(self, target: Target) -> None:
        """Wait until no object of the target waits for the first poll of its job."""
        if target in self.targets:
            await self.targets[target].no_first.wait()

    def in_flight(self, key: JobKey) -> bool:
        target = self.targets.get(key.target)
        return target is not None and target.in_flight(key.job_id)

    def depth(self) -> int:
        return sum(target.ready() for target in self.targets.values())

    async def run(self) -> None:
        """Dispatch until cancelled, which also cancels the calls in flight: a hanging poll must not delay the end."""
        async with asyncio.TaskGroup() as tasks:
            self.targets.start(tasks)
            await asyncio.Event().wait()

    def clear(self) -> None:
        for target in self.targets.values():
            target.clear()


class TargetPoller:
    """The polls of one target.

    Keys are objects, so that the queue is fair between namespaces. If AWS rejects a call because one id is malformed,
    its ids are split: first by namespace, then into halves, until the malformed id is alone. Such parts and all other
    polls are served in turn.
    """

    def __init__(
        self,
        target: Target,
        cache: Cache,
        provider: BatchProvider,
        *,
        on_result: OnDescribeResult,
        now: Callable[[], Millis],
        is_leader: Callable[[], bool],
    ) -> None:
        self._target_key, self._cache, self._provider = target, cache, provider
        self._on_result, self._now, self._is_leader = on_result, now, is_leader
        self._clock = asyncio.get_running_loop().time
        self._queue: FairQueue[str] = FairQueue(self._clock)
        self._parts: FairQueue[tuple[str, ...]] = FairQueue(self._clock)
        self._parts_next = False
        self._pacer: Pacer[None] = Pacer(self._clock)
        self._first: set[str] = set()
        self.no_first = asyncio.Event()
        self.no_first.set()
        # A parent may be in several calls.
        self._requested: Counter[str] = Counter()
        self.coalescer: Coalescer[tuple[Batch, tuple[str, ...]]] = Coalescer(
            wait=self._wait,
            slot=lambda: provider.describe_slot(target),
            take=self._take,
            send=self._send,
            in_flight=IN_FLIGHT,
        )

    def poll_after(self, tracked: TrackedObject, seconds: float, *, exact: bool, rank: Rank) -> None:
        at = self._clock() + seconds
        job = self._cache.job_of(tracked)
        if job is not None and job.malformed:
            self._parts.add_at((tracked.ref.uid,), tracked.ref.namespace, at)
        else:
            early = at if exact else at - EARLY * seconds
            self._queue.add_at(tracked.ref.uid, tracked.ref.namespace, at, early=early, rank=rank)
            if not seconds and job is not None and job.state.polled_at is None:
                self._first.add(tracked.ref.uid)
                self.no_first.clear()

    def poll_now(self, tracked: TrackedObject) -> None:
        job = self._cache.job_of(tracked)
        if job is not None and job.malformed:
            self._parts.add((tracked.ref.uid,), tracked.ref.namespace)
        else:
            self._queue.add(tracked.ref.uid, tracked.ref.namespace, rank=Rank.FIRST)

    def discard(self, tracked: TrackedObject) -> None:
        self._queue.discard(tracked.ref.uid)
        self._parts.discard((tracked.ref.uid,))
        self._note_taken(tracked.ref.uid)

    def clear(self) -> None:
        self._queue.clear()
        self._parts.clear()
        self._first.clear()
        self.no_first.set()

    def _note_taken(self, uid: str) -> None:
        self._first.discard(uid)
        if not self._first:
            self.no_first.set()

    def in_flight(self, job_id: str) -> bool:
        return job_id in self._requested

    def ready(self) -> int:
        return self._queue.ready() + self._parts.ready()

    async def _wait(self) -> None:
        """Wait until a poll is due, and until the pause after the last call is over or a full call is due."""
        while not self.ready():
            await self._sleep_until_due()
        while (left := self._pacer.next_start(None) - self._clock()) > _SHORTEST_SLEEP:
            if self.ready() >= JOBS_PER_DESCRIBE:
                return
            # What falls due by time sets no event.
            await asyncio.sleep(min(_RECHECK, left))

    async def _sleep_until_due(self) -> None:
        waits = [asyncio.ensure_future(queue.wait()) for queue in (self._queue, self._parts)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=60.0)
        finally:
            for wait in waits:
                wait.cancel()

    def _take(self) -> tuple[Batch, tuple[str, ...]] | None:
        """Return the objects of the next call and the ids to describe."""
        if not self._is_leader():
            # Everything is decided anew once this replica leads again; what stayed here would be taken in a loop.
            self.clear()
            return None
        self._parts_next = not self._parts_next
        part = self._parts.pop() if self._parts_next or not self._queue.ready() else None
        batch, ids = self._fill(part or (), exclusive=part is not None)
        if not ids:
            return None
        for tracked in batch if part is not None else ():
            self._discard_others(tracked)
        self._pacer.started(None)
        self._requested.update(ids)
        return batch, ids

    def _fill(self, uids: Iterable[str], *, exclusive: bool) -> tuple[Batch, tuple[str, ...]]:
        """Return objects and distinct ids for one call: the given ones, or due ones in turn, then those due soon."""
        batch: dict[str, TrackedObject] = {}
        ids: dict[str, None] = {}
        rest = iter(uids)
        while len(ids) < JOBS_PER_DESCRIBE:
            uid = next(rest, None) if exclusive else self._queue.pop(early=bool(ids))
            if uid is None:
                break
            if self._first:
                self._note_taken(uid)
            tracked = self._cache.objects.get(uid)
            wanted = self._ids_of(tracked) if tracked is not None else ()
            if tracked is None or not wanted:
                continue
            tracked.next_poll_at = None
            if len(ids) + len(wanted) > JOBS_PER_DESCRIBE and len({*ids, *wanted}) > JOBS_PER_DESCRIBE:
                self._queue.add(uid, tracked.ref.namespace, rank=Rank.FIRST)
                break
            batch[uid] = tracked
            ids.update(dict.fromkeys(wanted))
        # A changed policy may have added parents to a part: what no longer fits is polled with the others.
        for uid in rest:
            if uid in self._cache.objects:
                self._queue.add(uid, self._cache.objects[uid].ref.namespace)
        return tuple(batch.values()), tuple(ids)

    def _ids_of(self, tracked: TrackedObject) -> tuple[str, ...]:
        """Return the object's job and its parent, unless a call for the job is in flight."""
        key, job = tracked.key, self._cache.job_of(tracked)
        if key is None or job is None or key.target != self._target_key or self.in_flight(key.job_id):
            return ()
        return (key.job_id,) if job.parent is None else (key.job_id, job.parent.job_id)

    async def _send(self, taken: tuple[Batch, tuple[str, ...]]) -> None:
        batch, ids = taken
        # An answer may be as old as its request.
        requested_at = self._now()
        try:
            answer = await self._provider.describe(self._target_key, ids)
        finally:
            self._requested -= Counter(ids)
        rejected = isinstance(answer, CallError) and answer.error_class is ErrorClass.REJECTED
        if len({tracked.record.spec.job_id for tracked in batch}) == 1:
            self._note_malformed(ids[0], malformed=rejected)
            # Its parent is well-formed for all that this answer shows.
            ids = ids[:1] if rejected else ids
        elif rejected:
            self._split(batch)
            return
        results = dict.fromkeys(ids, answer) if isinstance(answer, CallError) else answer
        self._on_result(self._target_key, results, requested_at)

    def _discard_others(self, tracked: TrackedObject) -> None:
        """The answer about a malformed id schedules all of its objects anew."""
        job = self._cache.job_of(tracked)
        for uid in job.objects if job is not None and job.malformed else ():
            self._parts.discard((uid,))

    def _split(self, batch: Batch) -> None:
        by_namespace: dict[str, list[str]] = {}
        for tracked in batch:
            by_namespace.setdefault(tracked.ref.namespace, []).append(tracked.ref.uid)
        for namespace, uids in by_namespace.items():
            for part in _halves(uids) if len(by_namespace) == 1 else (uids,):
                self._parts.add(tuple(part), namespace)

    def _note_malformed(self, job_id: str, *, malformed: bool) -> None:
        job = self._cache.jobs.get(JobKey(self._target_key, job_id))
        if job is not None:
            job.malformed = malformed


def _halves(uids: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    middle = len(uids) // 2
    return uids[:middle], uids[middle:]
