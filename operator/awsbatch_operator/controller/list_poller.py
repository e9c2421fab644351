"""Polls by lists: ListJobs shows 1,000 jobs a call, and a job that it shows unchanged is described later.

A list concludes nothing about a job: it delays the next DescribeJobs, or hastens it.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import JOBS_PER_DESCRIBE, BatchProvider, JobPage, Location
from awsbatch_operator.api.job import Job, Target, unchanged
from awsbatch_operator.api.timestamps import MINUTE, SECOND, Millis
from awsbatch_operator.controller.cache import Cache, TrackedJob
from awsbatch_operator.controller.poller import Poller
from awsbatch_operator.reconcile.sweep import LIVE_STATUSES
from awsbatch_operator.workqueue.backoff import backoff
from awsbatch_operator.workqueue.fair_queue import Rank

MOST_LISTS: Final = 9
"""Lists in a row that stand for a DescribeJobs, which shows more: log stream, attempts, tags."""

_LISTS_COUNT: Final = 10 * MINUTE
"""The same in milliseconds, where lists are far apart because events arrive."""

_MARGIN: Final = 2
"""A list pays if it needs at most so many times fewer calls than DescribeJobs."""

_LATE: Final = MINUTE
"""Longest delay of the next list, at most a period: the poll of a listed job becomes due only after that."""

_OWED: Final = 0.8
"""Part of a period after which a job is described that lists have shown often enough: before the next list."""

_LONGEST_PERIOD: Final = 300.0
_IDLE: Final = 5.0
"""Seconds between two searches while no job is steady."""
_SHORTEST_PAUSE: Final = 0.05
_TIME_SLICE: Final = 0.005
"""Seconds of work after which others get their turn of the event loop."""
_CHUNK: Final = 64
"""Jobs that take much less than a slice."""

_NOT_WORTH: Final = 600.0, 4 * 3600.0
_REFUSED: Final = 300.0, 4 * 3600.0
_FAILED: Final = 30.0, 600.0
"""Seconds of the first and of the longest pause of lists: that do not pay, that are refused, that fail."""


class ListKey(NamedTuple):
    """The jobs of one queue (its ARN) in one status. Without both it stands for all lists of the target."""

    target: Target
    queue: str = ""
    status: str = ""


@dataclass(slots=True, eq=False)
class _Jobs:
    """Tracked jobs that a list should show, by id. `steady`: milliseconds between two polls of each of them."""

    steady: Millis
    by_id: dict[str, TrackedJob] = field(default_factory=dict)

    @property
    def limit(self) -> int:
        """The most pages with which the list pays."""
        return len(self.by_id) // (_MARGIN * JOBS_PER_DESCRIBE)


@dataclass(slots=True, eq=False)
class _History:
    """The earlier lists of a key. `began`: loop time of the search for the last one; `period`: seconds between two."""

    began: float = float("-inf")
    period: float = 0.0
    rounds: int = 0


@dataclass(slots=True, eq=False)
class _Pause:
    """`until`: loop time. `limit`: pages that were not enough; twice as many may be. 0: more pages do not help."""

    failures: int = 0
    until: float = 0.0
    limit: int = 0


class ListPoller:
    """Lists the queues of which so many live jobs are tracked that it needs fewer calls than DescribeJobs.

    A target has one call in flight. Lists of a target take turns: each begins once the earlier ones have ended.

    Args:
        interval: the milliseconds between two lists of a target. Its second argument is the interval of polls
            (`steady_interval`).
        now: epoch milliseconds.
        is_leader: whether calls may be made now.
        jitter: `random.uniform`, or a fake.
    """

    def __init__(
        self,
        cache: Cache,
        provider: BatchProvider,
        poller: Poller,
        *,
        now: Callable[[], Millis],
        is_leader: Callable[[], bool],
        jitter: Callable[[float, float], float],
        interval: Callable[[Target, Millis], Millis] = lambda _, steady: steady,
    ) -> None:
        self._cache, self._provider, self._poller = cache, provider, poller
        self._now, self._is_leader, self._jitter, self._interval = now, is_leader, jitter, interval
        self._clock = asyncio.get_running_loop().time
        self._busy: set[Target] = set()
        self._histories: dict[ListKey, _History] = {}
        self._pauses: dict[ListKey, _Pause] = {}
        self._listed: Counter[Target] = Counter()
        self._slice_until = 0.0

    def listed(self) -> Mapping[Location, int]:
        """Count the BatchJobs whose last poll was a list, as of the last search for jobs to list."""
        counts: Counter[Location] = Counter()
        for target, count in self._listed.items():
            counts[self._provider.location(target)] += count
        return counts

    async def run(self) -> None:
        """List until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                began = self._clock()
                found = await self._search()
                due: defaultdict[Target, list[ListKey]] = defaultdict(list)
                for key, jobs in found.items():
                    if key.target not in self._busy and self._is_due(key, jobs, began):
                        due[key.target].append(key)
                for target, keys in due.items():
                    self._busy.add(target)
                    tasks.create_task(self._list_all({key: found[key] for key in keys}, target, began))
                period = min((jobs.steady / SECOND for jobs in found.values()), default=_IDLE)
                # The tasks have what they need of it: a hundred thousand jobs must not be kept while nothing happens.
                found.clear()
                await asyncio.sleep(max(began + period - self._clock(), _SHORTEST_PAUSE))

    # -- which lists pay ----------------------------------------------------------------------------------------------

    async def _search(self) -> dict[ListKey, _Jobs]:
        """Return the jobs that lists may show, by queue and status."""
        found: dict[ListKey, _Jobs] = {}
        targets: set[Target] = set()
        listed: Counter[Target] = Counter()
        for number, job in enumerate(list(self._cache.jobs.values()) if self._is_leader() else ()):
            if not number % _CHUNK:
                await self._give_way()
            target = job.key.target
            targets.add(target)
            shown = _steady_job(job)
            if shown is None or shown.queue is None:
                continue
            if job.lists:
                listed[target] += len(job.objects)
            key = ListKey(target, shown.queue, shown.status)
            if key not in found:
                found[key] = _Jobs(_steady_interval(job))
            found[key].by_id[job.key.job_id] = job
        self._listed = listed
        self._histories = {key: one for key, one in self._histories.items() if key.target in targets}
        self._pauses = {key: one for key, one in self._pauses.items() if key.target in targets}
        return found

    def _is_due(self, key: ListKey, jobs: _Jobs, began: float) -> bool:
        if not jobs.limit or self._is_paused(ListKey(key.target)) or self._is_paused(key, jobs.limit):
            return False
        history = self._histories.setdefault(key, _History())
        # A search may be a little early.
        return began - history.began >= 0.95 * self._interval(key.target, jobs.steady) / SECOND

    def _is_paused(self, key: ListKey, limit: int = 0) -> bool:
        pause = self._pauses.get(key)
        return pause is not None and self._clock() < pause.until and not 0 < 2 * pause.limit <= limit

    def _pause(self, key: ListKey, times: tuple[float, float], limit: int = 0) -> None:
        pause = self._pauses.setdefault(key, _Pause())
        pause.failures += 1
        pause.until, pause.limit = self._clock() + backoff(pause.failures, *times), limit
        self._histories.pop(key, None)

    # -- lists --------------------------------------------------------------------------------------------------------

    async def _list_all(self, found: Mapping[ListKey, _Jobs], target: Target, began: float) -> None:
        for key, jobs in found.items():
            if not self._is_paused(ListKey(target)):
                await self._list(key, jobs, began)
        self._busy.discard(target)

    async def _list(self, key: ListKey, jobs: _Jobs, began: float) -> None:
        """List the queue until the last page, or until the list does not pay any more."""
        history = self._histories.setdefault(key, _History())
        history.period = min(began - history.began, _LONGEST_PERIOD) if history.rounds else 0.0
        history.began = began
        history.rounds += 1
        limit, began_at, same = jobs.limit, self._now(), 0
        token: str | None = None
        for page_number in range(1, limit + 1):
            page, requested_at = await self._request(key, token)
            if not isinstance(page, JobPage):
                self._on_error(key, page)
                return
            same += await self._on_page(key, jobs, page, requested_at)
            if page.next_token is None:
                await self._on_end(key, jobs, began_at)
                if same >= page_number * JOBS_PER_DESCRIBE:
                    self._pauses.pop(key, None)
                    self._pauses.pop(ListKey(key.target), None)
                    return
                break
            if page.next_token == token:
                break
            token = page.next_token
        self._pause(key, _NOT_WORTH, limit)

    async def _request(self, key: ListKey, token: str | None) -> tuple[JobPage | CallError | None, Millis]:
        """Return a page and when it was requested; None: this replica does not lead any more."""
        # Where a hundred objects and more wait for their first poll, those calls go first.
        await self._poller.first_polls(key.target)
        async with self._provider.describe_slot(key.target, bulk=True):
            at = self._now()
            if not self._is_leader():
                return None, at
            return await self._provider.list_jobs(key.target, key.queue, key.status, token), at

    def _on_error(self, key: ListKey, error: CallError | None) -> None:
        """Leave the jobs to DescribeJobs. The provider has logged the error."""
        if error is None:
            return
        if error.error_class in (ErrorClass.DENIED, ErrorClass.CREDENTIALS):
            self._pause(ListKey(key.target), _REFUSED)
        self._pause(key, _NOT_WORTH if error.error_class is ErrorClass.REJECTED else _FAILED)

    async def _on_page(self, key: ListKey, jobs: _Jobs, page: JobPage, requested_at: Millis) -> int:
        """Delay the polls of the jobs that are shown unchanged, and return how many; hasten those of the others."""
        same = 0
        for number, summary in enumerate(page.jobs):
            if not number % _CHUNK:
                await self._give_way()
            job = jobs.by_id.pop(summary.job_id, None)
            shown = self._comparable(key, job, requested_at) if job is not None else None
            if job is None or shown is None:
                continue
            if unchanged(shown, summary):
                same += 1
                self._delay(key, job)
            else:
                self._hasten(job)
        return same

    async def _on_end(self, key: ListKey, jobs: _Jobs, began_at: Millis) -> None:
        """Poll the jobs that the complete list lacks."""
        for number, job in enumerate(jobs.by_id.values()):
            if not number % _CHUNK:
                await self._give_way()
            if self._comparable(key, job, began_at) is not None:
                self._hasten(job)

    def _comparable(self, key: ListKey, job: TrackedJob, requested_at: Millis) -> Job | None:
        """Return what DescribeJobs showed, if this list was requested later and nothing has happened since."""
        shown = _steady_job(job)
        if shown is None or (shown.queue, shown.status) != (key.queue, key.status):
            return None
        if job.requested_at >= requested_at or self._poller.in_flight(job.key):
            return None
        # After an event DescribeJobs may not show yet what has changed, and a list neither.
        return None if job.requested_at - job.hinted_at < _steady_interval(job) else shown

    def _delay(self, key: ListKey, job: TrackedJob) -> None:
        if job.lists > MOST_LISTS:
            # It waits for its DescribeJobs.
            return
        history = self._histories.get(key) or _History()
        period = max(self._interval(key.target, _steady_interval(job)), int(history.period * SECOND))
        # A share of the jobs in each round, so that not all are described at once.
        most = max(min(MOST_LISTS, _LISTS_COUNT // max(period, 1)), 1)
        has_turn = (history.rounds + hash(job.key.job_id)) % (most + 1) == 0
        if job.lists >= most or (job.lists and has_turn):
            job.lists = MOST_LISTS + 1
            self._poll_after(job, int(_OWED * period * self._jitter(0.9, 1.1)), exact=False)
        else:
            job.lists += 1
            self._poll_after(job, period + min(period, _LATE), exact=True)

    def _poll_after(self, job: TrackedJob, wait: Millis, *, exact: bool) -> None:
        at = self._now() + wait
        for tracked in job.objects.values():
            tracked.next_poll_at = at
            self._poller.poll_after(tracked, wait / SECOND, exact=exact, rank=Rank.LAST)

    def _hasten(self, job: TrackedJob) -> None:
        """Poll the job now, in the turn of each namespace that names it. One answer concerns all."""
        for tracked in {one.ref.namespace: one for one in job.objects.values()}.values():
            tracked.next_poll_at = self._now()
            self._poller.poll_after(tracked, 0.0, exact=True)

    async def _give_way(self) -> None:
        if self._clock() >= self._slice_until:
            await asyncio.sleep(0)
            self._slice_until = self._clock() + _TIME_SLICE


def _steady_job(job: TrackedJob) -> Job | None:
    """Return what DescribeJobs showed of the job, if a list can show the same: all that is left to do is to poll it.

    A list does not show children and nodes, and of the parent of an array it does not show enough.
    """
    shown = job.state.job
    if (
        shown is None
        or shown.is_array
        or shown.flagged
        or shown.status not in LIVE_STATUSES
        or not {":", "#"}.isdisjoint(job.key.job_id)
        or not job.objects
    ):
        return None
    for tracked in job.objects.values():
        if tracked.steady_interval is None or tracked.hidden is not None:
            return None
    return shown


def _steady_interval(job: TrackedJob) -> Millis:
    return next(iter(job.objects.values())).steady_interval or 0
