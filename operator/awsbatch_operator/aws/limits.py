"""How many calls a second AWS gets from us.

The limit is the account's, shared with callers that we don't know, and AWS tells it only by throttling. So each lane
finds by itself what is left for it, and terminations come first.
"""

import asyncio
from collections.abc import Callable
from typing import Final

SLOWEST: Final = 0.1
"""Calls a second that are left after any number of throttles, and for looks beside any number of terminations."""

TERMINATIONS_SLOWEST: Final = 1.0
"""The same for terminations. Looks can wait; what cannot is a job that burns money, even if one call in ten is lost."""

RECOVERY: Final = 30.0
"""Seconds from a throttle until the rate is back where it came; half as many again for rates well below 1 a second."""

TERMINATIONS_RECOVERY: Final = 10.0
"""The same for terminations: a hundred that piled up in a bad minute must not take three good ones."""

_TOGETHER: Final = 1.0
"""Seconds within which throttles count once: they answer calls that were made together."""

_LULL: Final = 5.0
"""Seconds without a termination, after which the next one is the first of a new crowd."""

_GLANCE: Final = 1.0
"""Seconds after which a waiting caller reads the rate anew: it may have recovered meanwhile."""

_HAIR: Final = 1e-6
"""Seconds, tokens: what rounding may leave over is not slept for."""


def _never() -> bool:
    return False


class TokenBucket:
    """Admits `rate` calls a second, after a rest `burst` at once, in the order of asking.

    A throttle halves the rate. As in TCP CUBIC it then comes back fast, lingers around where the throttle came, and
    leaves that behind ever faster when nothing happens: a lasting limit is hit about once in fifty calls, and one that
    is gone is forgotten within one to four minutes. Own code, as the ready-made limiters hold a fixed rate.
    """

    def __init__(self, rate: float, burst: int = 10, *, slowest: float = SLOWEST, recovery: float = RECOVERY) -> None:
        self._full_rate = self._rate = rate
        self._shortest_recovery = recovery
        self._slowest = min(slowest, rate)
        self._burst = float(max(burst, 1))
        self._tokens = self._burst
        self._counted_at: float | None = None
        self.ceiling, self._throttled_at = rate, float("-inf")
        """Calls a second at which AWS throttled last, and when."""
        # Held while waiting for a token: asyncio's lock is fair, which makes the bucket first come, first served.
        self._turn = asyncio.Lock()

    @property
    def rate(self) -> float:
        """Calls a second at this moment."""
        self._count()
        return self._rate

    @property
    def short(self) -> bool:
        """Whether AWS has throttled lately."""
        return self.rate < self._full_rate

    async def acquire(self, gives_way: Callable[[], bool] = _never) -> None:
        """Wait for one call's worth, and while `gives_way`; never longer than at the slowest rate.

        A cancelled caller takes none.
        """
        async with self._turn:
            now = self._count()
            latest = now + 1 / min(SLOWEST, self._slowest)
            while (self._tokens < 1 or gives_way()) and now < latest - _HAIR:
                wait = (1 - self._tokens) / self._rate if self._tokens < 1 else _GLANCE
                await asyncio.sleep(min(wait, _GLANCE, latest - now))
                now = self._count()
            self.take()

    def take(self) -> None:
        """One call's worth, be it there or not: whoever asks next waits until it is made good."""
        self._count()
        self._tokens = max(self._tokens - 1, -self._burst)

    def throttled(self) -> None:
        """AWS said 429: go at half the rate."""
        now = self._count()
        if now - self._throttled_at < _TOGETHER:
            return
        # Earlier than the last time: less is left than then, and going back to here would be too much again.
        found = self._rate if self._rate >= self.ceiling else 0.75 * self._rate
        self.ceiling, self._throttled_at = max(found, self._slowest), now
        self._tokens = min(self._tokens, 0.0)
        self._count()

    def heed(self, other: "TokenBucket") -> None:
        """Start a little below what another bucket has found, if that is a limit and this one is not slower."""
        now = self._count()
        if other.short and other.rate < self._rate:
            self.ceiling = max(other.ceiling, self._slowest)
            self._throttled_at = now - self._recovery / 2
            self._count()

    @property
    def _recovery(self) -> float:
        # At a low rate a throttle in so many seconds would be one in too few calls.
        return self._shortest_recovery * min(max(1 / self.ceiling, 1), 1.5)

    def _count(self) -> float:
        now = asyncio.get_running_loop().time()
        passed = now - (now if self._counted_at is None else self._counted_at)
        self._counted_at = now
        # -1 at the throttle, 0 where the rate is back at the ceiling.
        since = (now - self._throttled_at) / self._recovery - 1
        grown = self.ceiling * (1 + since**3 * (0.5 if since < 0 else 1))
        self._rate = min(max(grown, self._slowest), self._full_rate)
        # Where budget is short, calls are spread: what was saved up in a rest would be thrown at an empty account.
        most = self._burst if self._rate == self._full_rate else 1.0
        self._tokens = min(self._tokens + passed * self._rate + _HAIR, most)
        return now


class Budget:
    """What one account grants us in one region: a bucket for each lane, filled from a limit that both share.

    Terminations are slowed by their own throttles alone, looks by those of either lane. While AWS throttles, looks give
    way to each termination that waits and pay for each that went, and go on at the slowest rate meanwhile.
    """

    def __init__(self, describe_rate: float, terminate_rate: float) -> None:
        self._looks = TokenBucket(describe_rate)
        self._terminations = TokenBucket(terminate_rate, slowest=TERMINATIONS_SLOWEST, recovery=TERMINATIONS_RECOVERY)
        self._waiting = 0
        self._terminated_at = float("-inf")

    async def look(self) -> None:
        """Wait until one more look fits."""
        await self._looks.acquire(lambda: self._waiting > 0 and self._looks.short)

    async def termination(self) -> None:
        """Wait until one more termination fits."""
        now = asyncio.get_running_loop().time()
        if now - self._terminated_at > _LULL:
            # What a new crowd does not know of the account's state, the looks know.
            self._terminations.heed(self._looks)
        self._terminated_at = now
        self._waiting += 1
        try:
            await self._terminations.acquire()
        finally:
            self._waiting -= 1
        if self._looks.short:
            self._looks.take()

    def look_throttled(self) -> None:
        self._looks.throttled()

    def termination_throttled(self) -> None:
        self._terminations.throttled()
        self._looks.throttled()
