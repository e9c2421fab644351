"""Compares the cache with lists: reads objects that differ, and removes objects that a list does not contain."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import structlog

from awsbatch_operator.api.batchjob import ObjectRef
from awsbatch_operator.api.decoding import Snapshot
from awsbatch_operator.api.interfaces import BatchJobClient, Gone, ListError
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.controller.cache import Cache, newer
from awsbatch_operator.workqueue.log_once import Change, LogOnce

EVERY: Final = 60.0
EVERY_OF_MANY: Final = 300.0
MANY: Final = 10_000
"""Seconds between two lists up to so many objects, and above."""
IN_DOUBT: Final = 5.0
"""Seconds between two lists while the watch is known to lag."""
SOON: Final = 2.0
_AGAIN: Final = 5.0
WATCH_LAG: Final = 10.0
"""Seconds that the watch has to deliver a listed version before the resync reads it."""
RESTART_AFTER: Final = 30.0
"""Seconds without any event of a watch that lags after which it is restarted."""
_READS: Final = 16
_A_PAUSE_EVERY: Final = 1_000
_PAUSE: Final = 0.25
"""Objects of a list after which it pauses, and seconds."""

_Listed = tuple[ObjectRef, str]
"""An object, and its version in a list."""

log = structlog.get_logger(__name__)


class Resync:
    """Compares the cache with the API server. `synced` once a list has succeeded and what it showed was read.

    An object whose read fails concerns itself only: it is read again with the next list, after `IN_DOUBT` seconds.

    `restart_watch` makes the watch list and watch anew.

    `list_failed_since`: loop time from which on lists failed. `watch_lags_since`: loop time from which on lists showed
    what the watch had not delivered. None while all is well.
    """

    def __init__(
        self,
        cache: Cache,
        client: BatchJobClient,
        *,
        on_read: Callable[[Snapshot], None],
        on_delete: Callable[[str], None],
        on_confirmed: Callable[[], None],
        now: Callable[[], Millis],
    ) -> None:
        self._cache, self._client, self._on_read, self._on_delete = cache, client, on_read, on_delete
        self._on_confirmed, self._now = on_confirmed, now
        self._requested = asyncio.Event()
        self.synced = asyncio.Event()
        self.list_failed_since: float | None = None
        self.watch_lags_since: float | None = None
        self.undelivered: dict[str, str] = {}
        self.restart_watch: Callable[[], None]
        self._watch_event_at = float("-inf")
        self._all_read = True
        self._list_problem, self._read_problem = LogOnce(), LogOnce()

    async def run(self) -> None:
        while True:
            self._requested.clear()
            try:
                complete = await self.once()
            except ListError as error:
                self._failed(str(error))
                await asyncio.sleep(_AGAIN)
            else:
                if self._list_problem.report("") is Change.ENDED:
                    log.info("listing BatchJobs succeeds again")
                self.list_failed_since = None
                if complete:
                    self.synced.set()
                await self._rest()

    def on_watch_event(self, uid: str, version: str | None) -> None:
        """Note that the watch delivered this version (None: the deletion) of an object.

        The watch counts as restored once it has delivered everything that the resync had to read.
        """
        self._watch_event_at = asyncio.get_running_loop().time()
        read = self.undelivered.get(uid)
        if read is None or (version is not None and newer(read, version)):
            return
        del self.undelivered[uid]
        if not self.undelivered:
            self.watch_lags_since = None
            log.info("watch restored")

    def soon(self) -> None:
        """Note that the watch listed again: it does not report deletions that it missed."""
        self._requested.set()

    def doubt(self) -> None:
        """Send no termination until a list that begins from now on has succeeded: changes may have been missed."""
        self._cache.in_doubt_since = self._now()
        self._requested.set()

    async def once(self) -> bool:
        """List once. Return whether everything that the list shows is known now."""
        began, in_doubt_since = asyncio.get_running_loop().time(), self._cache.in_doubt_since
        listed, differing = await self._compare(began)
        for uid in self._cache.objects.keys() - listed:
            tracked = self._cache.objects[uid]
            if tracked.updated_at < began:
                log.info("deleted without a watch event; removed by resync", object=tracked.ref)
                self._on_delete(uid)
        for uid in self._cache.unreadable.keys() - listed:
            del self._cache.unreadable[uid]
        if in_doubt_since is not None:
            # At the start the watch is still delivering the others: they state nothing yet that could be sent.
            started, known = self.synced.is_set(), self._cache.objects.keys()
            failed = await self._read(ref for ref, _ in differing.values() if started or ref.uid in known)
            self._cache.unconfirmed = {uid: differing[uid][1] for uid in failed}
            if self._cache.in_doubt_since == in_doubt_since:
                self._cache.in_doubt_since = None
                self._on_confirmed()
            # Whether the watch delivers again is for the next list to see.
            self._requested.set()
            return False
        differing = await self._after_watch(differing.values(), began)
        if self._cache.in_doubt_since is not None:
            # A list that begins now is needed, and terminations wait for it.
            return False
        if differing and self.synced.is_set():
            if self.watch_lags_since is None:
                self.watch_lags_since = began
                log.warning("watch failed; reading changes by list", objects=len(differing))
            self.undelivered |= {uid: version for uid, (_, version) in differing.items()}
        self._restart_silent_watch(began)
        await self._read(ref for ref, _ in differing.values())
        return True

    async def _compare(self, began: float) -> tuple[set[str], dict[str, _Listed]]:
        """List all objects; return the uids of all, and with their versions those that the cache has in another one.

        Each page is compared when it comes: a list of all would be most of the memory of the process.
        """
        listed: set[str] = set()
        differing: dict[str, _Listed] = {}
        numbers = itertools.count(1)
        async for ref, version in self._client.versions():
            if next(numbers) % _A_PAUSE_EVERY == 0 and self._has_time():
                # The API server would answer nothing else in time: 100,000 objects are 200 pages.
                await asyncio.sleep(_PAUSE)
            tracked = self._cache.objects.get(ref.uid)
            # The same text, not an equal one.
            listed.add(ref.uid if tracked is None else tracked.ref.uid)
            if self._differs(ref, version, began):
                differing[ref.uid] = ref, version
            else:
                differing.pop(ref.uid, None)
        return listed, differing

    def _restart_silent_watch(self, now: float) -> None:
        """After an API server was restored, a watch from a version of before is open and delivers nothing."""
        if (
            self.watch_lags_since is not None
            and now - max(self.watch_lags_since, self._watch_event_at) >= RESTART_AFTER
        ):
            log.warning("watch delivers no events; restarting it")
            self._watch_event_at = now
            self.restart_watch()

    def _has_time(self) -> bool:
        """Return whether nothing waits for the list."""
        return self.synced.is_set() and self._cache.in_doubt_since is None and self.watch_lags_since is None

    async def _after_watch(self, differing: Iterable[_Listed], began: float) -> dict[str, _Listed]:
        """Return by uid what still differs although the watch had time to deliver it, or once the cache is in doubt.

        Before the first list has succeeded, the time counts from the last object that the watch delivered.

        A version that arrived after the list began may be newer than the list. Any other difference counts, also a
        lower version: an API server that was restored from a backup counts versions from there.
        """
        loop, waiting, known = asyncio.get_running_loop(), deque(differing), len(self._cache.objects)
        until = began if self.watch_lags_since is not None else loop.time() + WATCH_LAG
        while waiting and loop.time() < until and self._cache.in_doubt_since is None:
            await asyncio.sleep(0.05 if not self.synced.is_set() else 0.5)
            # The first ones only: with many objects, to check all is too much work for each turn.
            while waiting and not self._differs(*waiting[0], began):
                waiting.popleft()
            if not self.synced.is_set() and len(self._cache.objects) > known:
                known, until = len(self._cache.objects), loop.time() + WATCH_LAG
        return {ref.uid: (ref, version) for ref, version in waiting if self._differs(ref, version, began)}

    def _differs(self, ref: ObjectRef, version: str, began: float) -> bool:
        tracked = self._cache.objects.get(ref.uid)
        if tracked is None:
            return self._cache.unreadable.get(ref.uid) != version
        known = tracked.resource_version
        return known != version and (tracked.updated_at < began or newer(version, known))

    async def _read(self, refs: Iterable[ObjectRef]) -> set[str]:
        """Read these objects; return the uids of those whose read failed."""
        left = iter(refs)
        failed: dict[str, str] = {}

        async def read() -> None:
            for ref in left:
                answer = await self._client.read(ref)
                if isinstance(answer, Snapshot):
                    self._cache.unconfirmed.pop(ref.uid, None)
                    self._on_read(answer)
                elif isinstance(answer, Gone):
                    self._on_delete(ref.uid)
                else:
                    failed[ref.uid] = f"{ref.namespace}/{ref.name}: {answer.message}"

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_READS):
                tasks.create_task(read())
        self._all_read = not failed
        change = self._read_problem.report(min(failed.values(), default=""))
        if change in (Change.BEGAN, Change.CHANGED):
            log.warning("BatchJobs could not be read; retrying", objects=len(failed), error=min(failed.values()))
        elif change is Change.ENDED:
            log.info("all BatchJobs can be read again")
        return set(failed)

    def _failed(self, problem: str) -> None:
        if self.list_failed_since is None:
            self.list_failed_since = asyncio.get_running_loop().time()
        if self._list_problem.report(problem) in (Change.BEGAN, Change.CHANGED):
            log.warning("listing BatchJobs failed; retrying", error=problem)

    async def _rest(self) -> None:
        if self.watch_lags_since is not None or not self._all_read:
            every = IN_DOUBT
        else:
            every = EVERY if len(self._cache.objects) <= MANY else EVERY_OF_MANY
        with suppress(TimeoutError):
            async with asyncio.timeout(every):
                await self._requested.wait()
                # The watch reports objects one by one: one resync is enough for all.
                if self._cache.in_doubt_since is None:
                    await asyncio.sleep(SOON)
