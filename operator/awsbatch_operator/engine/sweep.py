"""Mark and sweep: the watch may miss a deletion (after a re-list it says nothing of what is gone), a list does not."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from awsbatch_operator.domain.ports import ListError, Objects
from awsbatch_operator.domain.record import ObjectRef, Snapshot
from awsbatch_operator.engine.store import Store

EVERY: Final = 300.0
SOON: Final = 2.0
_AGAIN: Final = 5.0
_PATIENCE: Final = 10.0
"""Seconds that the watch gets to tell of what the list shows, before the sweep reads it itself."""

log = structlog.get_logger(__name__)


class Sweep:
    """Compares the store with the API server now and then. `synced` once the store has held all that a list showed.

    `blind_since`: loop time from which on lists failed; None while they don't.
    """

    def __init__(
        self, store: Store, objects: Objects, *, seen: Callable[[Snapshot], None], gone: Callable[[str], None]
    ) -> None:
        self._store, self._objects, self._seen, self._gone = store, objects, seen, gone
        self._asked = asyncio.Event()
        self.synced = asyncio.Event()
        self.blind_since: float | None = None
        self._trouble = ""

    async def run(self) -> None:
        while True:
            self._asked.clear()
            try:
                await self.once()
            except ListError as error:
                self._failed(str(error))
                await asyncio.sleep(_AGAIN)
            else:
                if self._trouble:
                    log.info("objects can be listed again")
                self._trouble, self.blind_since = "", None
                self.synced.set()
                await self._rest()

    def _failed(self, trouble: str) -> None:
        """Told when it begins and when it changes: a right that is missing may be so for days."""
        if self.blind_since is None:
            self.blind_since = asyncio.get_running_loop().time()
        if trouble != self._trouble:
            log.warning("objects can't be listed", error=trouble)
        self._trouble = trouble

    def soon(self) -> None:
        """Something may be gone without a word: don't wait for the turn."""
        self._asked.set()

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY):
                await self._asked.wait()
                # Who asks is told of object after object: one sweep will do for them all.
                await asyncio.sleep(SOON)

    async def once(self) -> None:
        began = asyncio.get_running_loop().time()
        listed = {ref.uid: ref async for ref in self._objects.refs()}
        for uid, tracked in list(self._store.objects.items()):
            if uid not in listed and tracked.listed_at < began:
                log.info("gone without a word from the watch", object=tracked.ref)
                self._gone(uid)
        await self._wait_for(listed)
        for ref in [ref for uid, ref in listed.items() if uid not in self._store.objects]:
            snapshot = await self._objects.read(ref)
            if isinstance(snapshot, Snapshot):
                self._seen(snapshot)

    async def _wait_for(self, listed: dict[str, ObjectRef]) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while loop.time() < until and not listed.keys() <= self._store.objects.keys():  # noqa: ASYNC110 - once a start
            await asyncio.sleep(0.05)
