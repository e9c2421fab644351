"""How many calls a second AWS gets from us."""

import asyncio
from typing import Final

SLOWEST: Final = 0.1
"""Calls a second that are left after any number of throttles."""

RECOVERY: Final = 0.1
"""Part of the configured rate that comes back in each second without a throttle."""

_GLANCE: Final = 1.0
"""Seconds after which a waiting caller reads the rate anew: it may have recovered meanwhile."""


class TokenBucket:
    """Admits `rate` calls a second, after a rest `burst` at once, in the order of asking.

    Own code, as the ready-made limiters (aiolimiter among them) hold a fixed rate, and this one must give way when
    AWS throttles: the budget is shared with every other caller of the account.
    """

    def __init__(self, rate: float, burst: int = 10) -> None:
        self._full_rate = self._rate = rate
        self._burst = float(max(burst, 1))
        self._tokens = self._burst
        self._counted_at: float | None = None
        self._halved_at = float("-inf")
        # Held while waiting for a token: asyncio's lock is fair, which makes the bucket first come, first served.
        self._turn = asyncio.Lock()

    @property
    def rate(self) -> float:
        """Calls a second at this moment."""
        self._count()
        return self._rate

    async def acquire(self) -> None:
        """Wait for one call's worth. A cancelled caller takes none."""
        async with self._turn:
            self._count()
            while self._tokens < 1:
                await asyncio.sleep(min((1 - self._tokens) / self._rate, _GLANCE))
                self._count()
            self._tokens -= 1

    def throttled(self) -> None:
        """AWS said 429: go at half the rate. Replies to calls made together count once."""
        now = self._count()
        if now - self._halved_at < 1:
            return
        self._halved_at = now
        self._rate = max(self._rate / 2, min(SLOWEST, self._full_rate))
        self._tokens = min(self._tokens, 0.0)

    def _count(self) -> float:
        now = asyncio.get_running_loop().time()
        passed = now - (now if self._counted_at is None else self._counted_at)
        self._counted_at = now
        # A hair above 1 absorbs rounding, else a sleep that ends at 0.9999… tokens sleeps on in tiny steps.
        self._tokens = min(self._tokens + passed * self._rate + 1e-9, self._burst)
        self._rate = min(self._rate + passed * RECOVERY * self._full_rate, self._full_rate)
        return now
