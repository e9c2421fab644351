"""Status writes that Kubernetes forbids: tried again now and then, a few for all, and out of the way of the others."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

EVERY: Final = 5.0
"""Seconds between two rounds."""
A_ROUND: Final = 16

log = structlog.get_logger(__name__)


class Refused:
    """The right may be missing in one namespace alone, and for days. Once it is granted to one, all are tried."""

    def __init__(self, submit: Callable[[str], None]) -> None:
        self._submit = submit
        self._waiting: dict[str, None] = {}
        self._tried: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, uid: str, message: str) -> None:
        if not self._waiting and not self._tried:
            log.warning("status writes wait: Kubernetes forbids them", error=message)
        self._tried.discard(uid)
        self._waiting[uid] = None
        self._plan()

    def granted(self, uid: str) -> None:
        self._waiting.pop(uid, None)
        if uid in self._tried:
            self._tried.clear()
            self._resubmit(len(self._waiting))

    def tried(self, uid: str) -> None:
        """The try has ended, one way or another: the object may be gone, or show by now what it should."""
        self._tried.discard(uid)

    def clear(self) -> None:
        """Somebody else decides now: whatever is refused to this process later is told of anew."""
        self._waiting.clear()
        self._tried.clear()

    def _plan(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._round)

    def _round(self) -> None:
        self._timer = None
        self._tried = set(self._resubmit(A_ROUND))
        self._plan()

    def _resubmit(self, count: int) -> list[str]:
        chosen = list(self._waiting)[:count]
        for uid in chosen:
            del self._waiting[uid]
            self._submit(uid)
        return chosen
