"""Limits the rate of calls to AWS.

AWS does not publish how many calls it grants an account, and other callers share them. AWS only throttles. So each kind
of call measures the rate that is left for it, and terminations have priority over describes.
"""

import asyncio
from typing import Final

from awsbatch_operator.workqueue.fair_queue import Rank

SLOWEST: Final = 0.1
"""Calls a second that are left after any number of throttles, and for describes beside any number of terminations."""

TERMINATE_SLOWEST: Final = 1.0
"""The same for terminations. Polls can wait; a job that costs money cannot, even if one call in ten is throttled."""

RECOVERY: Final = 30.0
"""Seconds from a throttle until the rate is back where it came; half as many again for rates well below 1 a second."""

TERMINATE_RECOVERY: Final = 10.0
"""The same for terminations: a hundred that queued up in one bad minute must not need three good ones."""

TERMINATE_START: Final = 20.0
"""Calls a second that an account grants to terminations until more of them have been tried."""

_GROWTH: Final = 1.25
"""Factor by which a second raises the rate if its calls used the rate up and were not throttled."""

_USED_UP: Final = 0.8
"""Part of the rate that calls must use in a second to prove that AWS grants the rate."""

_IDLE: Final = 60.0
"""Seconds without a call after which a rate that had grown is no longer trusted."""

_TOGETHER: Final = 1.0
"""Seconds within which throttles count once: they answer calls that were made together."""

_PAUSE: Final = 5.0
"""Seconds without a termination after which the next one starts from what describes have found."""

_RECHECK: Final = 1.0
"""Seconds after which a waiting caller reads the rate again: it may have recovered meanwhile."""

_EPSILON: Final = 1e-6
"""Seconds or tokens. Rounding errors of this size are not worth a sleep."""


class AdaptiveRateLimiter:
    """Admits up to `rate` calls a second, and `burst` at once after a rest, first come, first served.

    A throttle halves the rate. As in TCP CUBIC it then recovers fast, lingers around the rate that was throttled, and
    leaves it behind ever faster if no throttle follows: a lasting limit is hit about once in fifty calls, and a limit
    that is gone is forgotten within one to four minutes. Ready-made limiters hold a fixed rate.

    With `start`, the limiter begins at that rate and grows towards `rate` while calls use it up without a throttle.
    After a minute without calls it is back at `start`, or at the rate that was throttled last if that is lower and has
    not been exceeded without a throttle since.

    Args:
        rate: Calls a second, at most.
        burst: Calls that a rest saves up; None: as many as the rate admits in a second.
        start: Calls a second to begin with; None: `rate`, which does not change while nothing is throttled.
        slowest: Calls a second that are left after any number of throttles.
        recovery: Seconds from a throttle until the rate is back where it came.
    """

    def __init__(
        self,
        rate: float,
        burst: int | None = 10,
        *,
        start: float | None = None,
        slowest: float = SLOWEST,
        recovery: float = RECOVERY,
    ) -> None:
        self._highest = rate
        self._start = start
        # What applies while no throttle is remembered. After a throttle the cubic curve alone slows calls down.
        self._limit = self._rate = rate if start is None else min(start, rate)
        self._shortest_recovery = recovery
        self._slowest = min(slowest, rate)
        self._fixed_burst = burst
        self._tokens = self._burst
        self._counted_at: float | None = None
        self.ceiling, self.throttled_at = self._limit, float("-inf")
        """Calls a second at which AWS throttled last, and when (-inf: never)."""
        # The highest rate that a second's calls used up since the last throttle.
        self._proven = 0.0
        self._second_began, self._used = float("-inf"), 0
        self._last_call = float("inf")
        # Held while waiting for a token: asyncio's lock is fair, which makes the limiter first come, first served.
        self._turn = asyncio.Lock()

    @property
    def rate(self) -> float:
        """Calls a second at this moment."""
        self._count()
        return self._rate

    @property
    def short(self) -> bool:
        """Whether AWS has throttled lately."""
        return self.rate < self._limit

    async def acquire(self) -> None:
        """Wait until one more call fits. A cancelled caller uses nothing."""
        async with self._turn:
            now = self._count()
            while self._tokens < 1:
                await asyncio.sleep(min((1 - self._tokens) / self._rate, _RECHECK))
                now = self._count()
            self._last_call = now
            self._used += 1
            self._tokens -= 1

    def throttled(self) -> None:
        """Halve the rate because AWS answered 429."""
        now = self._count()
        self._second_began, self._used = now, 0
        if now - self.throttled_at < _TOGETHER:
            return
        # Below the last ceiling: less is left than then, and going back to this rate would be too much again.
        found = self._rate if self._rate >= self.ceiling else 0.75 * self._rate
        self.ceiling, self.throttled_at = max(found, self._slowest), now
        self._limit, self._proven = self._highest, 0.0
        self._tokens = min(self._tokens, 0.0)
        self._count()

    def start_from(self, other: "AdaptiveRateLimiter") -> None:
        """Start a little below what another limiter has found, if that is a limit and slower than this one."""
        now = self._count()
        if other.short and other.rate < self._rate:
            self.ceiling = max(other.ceiling, self._slowest)
            self.throttled_at = now - self._recovery / 2
            self._count()

    @property
    def _burst(self) -> float:
        return max(self._limit if self._fixed_burst is None else self._fixed_burst, 1.0)

    @property
    def _recovery(self) -> float:
        # At a low rate, one throttle in so many seconds would be one in too few calls.
        return self._shortest_recovery * min(max(1 / self.ceiling, 1), 1.5)

    def _count(self) -> float:
        now = asyncio.get_running_loop().time()
        passed = now - (now if self._counted_at is None else self._counted_at)
        self._counted_at = now
        if self._start is not None and now - self._second_began >= 1:
            self._adapt(now)
        if self.throttled_at == float("-inf"):
            self._rate = self._limit
            burst = self._limit if self._fixed_burst is None else self._fixed_burst
            self._tokens = min(self._tokens + passed * self._rate + _EPSILON, max(burst, 1.0))
            return now
        # -1 at the throttle, 0 where the rate is back at the ceiling.
        since = (now - self.throttled_at) / self._recovery - 1
        grown = self.ceiling * (1 + since**3 * (0.5 if since < 0 else 1))
        self._rate = min(max(grown, self._slowest), self._limit)
        # While AWS throttles, calls are spread: the burst of a rest would hit an account that has no calls left.
        most = self._burst if self._rate == self._limit else 1.0
        self._tokens = min(self._tokens + passed * self._rate + _EPSILON, most)
        return now

    def _adapt(self, now: float) -> None:
        assert self._start is not None
        if self._used >= _USED_UP * self._rate:
            self._proven = max(self._proven, self._rate)
            # A rate below the limit recovers from a throttle: it follows the cubic curve.
            if self._rate == self._limit:
                self._limit = min(self._limit * _GROWTH, self._highest)
        self._second_began, self._used = now, 0
        if now - self._last_call >= _IDLE:
            self._limit = min(self._limit, self._start, max(self.ceiling, self._proven))


class AccountRateLimiter:
    """The calls that one account grants in one region, for describes and for terminations.

    Each kind is slowed by its own throttles. While AWS throttles describes, they give way to each waiting termination
    and continue at the slowest rate, except for those of the first rank: a termination waits for their answers.
    """

    def __init__(self, describe_rate: float, terminate_rate: float) -> None:
        self._describes = AdaptiveRateLimiter(describe_rate)
        self._terminations = AdaptiveRateLimiter(
            terminate_rate,
            burst=None,
            start=min(TERMINATE_START, terminate_rate),
            slowest=TERMINATE_SLOWEST,
            recovery=TERMINATE_RECOVERY,
        )
        self._waiting = self._waiting_first = 0
        self._terminated_at = float("-inf")
        # One describe of a rank gives way, the others wait behind it: together they continue at the slowest rate.
        self._turns = {rank: asyncio.Lock() for rank in (Rank.NORMAL, Rank.LAST)}

    async def describe(self, rank: Rank = Rank.NORMAL) -> None:
        """Wait until one more describe call fits. Those of the last rank also give way to those of the first."""
        if rank is not Rank.FIRST:
            async with self._turns[rank]:
                await self._give_way(rank)
                await self._describes.acquire()
            return
        self._waiting_first += 1
        try:
            await self._describes.acquire()
        finally:
            self._waiting_first -= 1

    async def _give_way(self, rank: Rank) -> None:
        loop = asyncio.get_running_loop()
        latest = loop.time() + 1 / SLOWEST
        while (self._waiting and self._describes.short) or (rank is Rank.LAST and self._waiting_first):
            left = latest - loop.time()
            if left < _EPSILON:
                return
            await asyncio.sleep(min(_RECHECK, left))

    async def terminate(self) -> None:
        """Wait until one more terminate call fits."""
        now = asyncio.get_running_loop().time()
        throttled = self._describes.throttled_at > float("-inf")
        if throttled and now - self._terminated_at > _PAUSE:
            # Describes may have found a limit since the last termination.
            self._terminations.start_from(self._describes)
        self._terminated_at = now
        self._waiting += 1
        try:
            await self._terminations.acquire()
        finally:
            self._waiting -= 1

    def describe_throttled(self) -> None:
        """Slow describes down because AWS throttled one."""
        self._describes.throttled()

    def terminate_throttled(self) -> None:
        """Slow terminations down because AWS throttled one."""
        self._terminations.throttled()
