"""One account, one limit, and another caller that ignores throttling: the rates of the operator, on virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import pytest

from awsbatch_operator.workqueue.fair_queue import Rank
from awsbatch_operator.workqueue.rate_limiter import SLOWEST, AccountRateLimiter

pytestmark = pytest.mark.looptime(start=0)

LIMIT = 5.0
SETTLED = 60.0
"""Seconds from which on the promises hold."""
LONG = 360.0


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Account:
    """A bucket of `burst` calls that `limit` a second flow into, shared by all."""

    limit: float = LIMIT
    burst: float = 5.0
    tokens: float = field(init=False)
    since: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def admits(self) -> bool:
        self.tokens = min(self.burst, self.tokens + (now() - self.since) * self.limit)
        self.since = now()
        admitted = self.tokens >= 1
        self.tokens -= admitted
        return admitted


@dataclass
class Calls:
    """Our calls: when each was made, and whether it was admitted."""

    account: Account
    acquire: Callable[[], Awaitable[None]]
    throttled: Callable[[], None]
    calls: list[tuple[float, bool]] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    async def call(self) -> bool:
        await self.acquire()
        await asyncio.sleep(self.chance.uniform(0.01, 0.03))
        admitted = self.account.admits()
        self.calls.append((now(), admitted))
        if not admitted:
            self.throttled()
        return admitted

    async def endless(self) -> None:
        while True:
            await self.call()

    def rate(self, since: float, until: float) -> float:
        """Calls a second that were admitted."""
        return sum(admitted for at, admitted in self.calls if since <= at < until) / (until - since)

    def throttled_share(self, since: float) -> float:
        outcomes = [admitted for at, admitted in self.calls if at >= since]
        return outcomes.count(False) / len(outcomes)


@dataclass
class World:
    account: Account

    def __post_init__(self) -> None:
        self.limiter = account = AccountRateLimiter(describe_rate=5, terminate_rate=10)
        self.describes = Calls(self.account, account.describe, account.describe_throttled)
        self.terminations = Calls(self.account, account.terminate, account.terminate_throttled)
        self.neighbour: list[bool] = []

    async def disturb(self, calls: int, every: float) -> None:
        """So many calls at once each so many seconds, give or take: in step with us it would prove nothing."""
        chance = random.Random(2)
        while True:
            self.neighbour += [self.account.admits() for _ in range(calls)]
            await asyncio.sleep(every * chance.uniform(0.9, 1.1))

    async def termination(self) -> float:
        """Until it is admitted, as the reconciler tries it: again after 1, 2, 4, 8 s. The time."""
        wait = 1.0
        while not await self.terminations.call():
            await asyncio.sleep(wait)
            wait = min(2 * wait, 15)
        return now()


@asynccontextmanager
async def running(*endless: Awaitable[object]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(each) for each in endless]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# Calls at once, how often, and how many the account saves up. Bursts that empty it are another matter: each call in the
# moment after is refused, however few they are. These leave something.
NEIGHBOURS = {
    "steady": (1, 1 / 3, 5.0),
    "light": (1, 1.0, 5.0),
    "heavy": (1, 1 / 4.5, 5.0),
    "bursts of three": (3, 1.0, 5.0),
    "bursts of six": (6, 2.0, 10.0),
}


@pytest.mark.parametrize(("calls", "every", "burst"), NEIGHBOURS.values(), ids=NEIGHBOURS)
async def test_few_of_our_calls_are_throttled_and_what_is_left_is_used(calls: int, every: float, burst: float) -> None:
    world = World(Account(burst=burst))
    async with running(world.describes.endless(), world.disturb(calls, every)):
        await asyncio.sleep(LONG)
    left = LIMIT - calls / every
    assert world.describes.throttled_share(SETTLED) < 0.05
    assert world.describes.rate(SETTLED, LONG) > 0.8 * left
    assert world.neighbour.count(True) > 0.9 * LONG * calls / every, "the neighbour is not pushed out"


async def test_bursts_that_empty_the_account_are_met_with_few_calls() -> None:
    """Throttling after a burst cannot be avoided, only made rare."""
    world = World(Account(burst=5))
    async with running(world.describes.endless(), world.disturb(6, 2.0)):
        await asyncio.sleep(LONG)
    throttled = [at for at, admitted in world.describes.calls if at >= SETTLED and not admitted]
    assert len(throttled) / (LONG - SETTLED) < 1 / 15
    assert world.describes.rate(SETTLED, LONG) > SLOWEST


@pytest.mark.parametrize("start", [70, 84, 98, 112])
async def test_terminations_go_first_while_the_account_is_short(start: float) -> None:
    world = World(Account())
    async with running(world.describes.endless(), world.disturb(1, 1 / 3)):
        await asyncio.sleep(start)
        ends = max(await asyncio.gather(*(world.termination() for _ in range(30))))
        await asyncio.sleep(60)
    assert ends - start < 30 / 2 * 1.3, "2 calls a second are left, and the terminations get nearly all of them"
    assert len(world.terminations.calls) <= 32
    describes = sum(start < at < ends for at, _ in world.describes.calls)
    assert 1 <= describes <= 3
    assert world.describes.rate(ends, ends + 60) > 1.5, "and then describes have them back"
    assert world.describes.throttled_share(SETTLED) < 0.05


@pytest.mark.parametrize(("calls", "every"), [(1, 1 / 4.5), (6, 2.0)], ids=["heavy", "bursts that empty the account"])
async def test_terminations_get_through_where_next_to_nothing_is_left(calls: int, every: float) -> None:
    world = World(Account(burst=5))
    async with running(world.describes.endless(), world.disturb(calls, every)):
        await asyncio.sleep(SETTLED)
        ends = max(await asyncio.gather(*(world.termination() for _ in range(30))))
    assert ends - SETTLED < 45
    assert len(world.terminations.calls) < 40


async def test_describes_go_on_slowly_beside_any_number_of_terminations() -> None:
    world = World(Account())
    async with running(world.disturb(1, 1 / 3), world.describes.endless()):
        await asyncio.sleep(SETTLED)
        async with running(*(world.terminations.endless() for _ in range(4))):
            await asyncio.sleep(300)
        waits = [after - before for before, after in pairwise(at for at, _ in world.describes.calls if at > SETTLED)]
        assert 5 < max(waits) < 1 / SLOWEST + 1
        assert world.terminations.throttled_share(2 * SETTLED) < 0.05


async def test_while_terminations_are_throttled_the_reads_of_another_one_go_on() -> None:
    """A new leader: AWS throttles its first polls, and each TerminateJob for a while; 80 wait, and polls by lists."""
    world, done = World(Account(limit=1000, burst=1000)), list[float]()
    world.terminations.account = Account(limit=1000, burst=1000, since=8.0)
    world.terminations.account.tokens = 0.0
    world.limiter.describe_throttled()
    sweep = Calls(world.account, partial(world.limiter.describe, Rank.FIRST), world.limiter.describe_throttled)
    lists = Calls(world.account, partial(world.limiter.describe, Rank.LAST), world.limiter.describe_throttled)

    async def read() -> None:
        for _ in range(10):
            assert await sweep.call()
        done.append(now())

    async with running(
        world.describes.endless(), lists.endless(), *(world.termination() for _ in range(80)), read(), read()
    ):
        await asyncio.sleep(20)
        assert len(done) == 2
        assert world.terminations.rate(0, 20) < 3, "they still wait"
        assert lists.rate(0, 20) > 0
        assert world.describes.rate(0, 20) > 0


async def test_a_single_termination_does_not_wait_while_describes_are_throttled() -> None:
    world = World(Account(limit=0.5, burst=1))
    async with running(world.describes.endless()):
        await asyncio.sleep(SETTLED)
        await world.limiter.terminate()
    assert now() == pytest.approx(SETTLED)


async def test_terminations_that_have_a_limit_of_their_own_outgrow_what_describes_found() -> None:
    """AWS does not document which operations share a limit."""
    world = World(Account())
    world.terminations.account = Account(limit=100, burst=100)
    async with running(world.describes.endless(), world.disturb(1, 1 / 3)):
        await asyncio.sleep(SETTLED)
        async with running(*(world.terminations.endless() for _ in range(4))):
            await asyncio.sleep(120)
    assert world.terminations.rate(SETTLED, SETTLED + 10) < 3
    assert world.terminations.rate(SETTLED + 90, SETTLED + 120) > 9


async def test_a_neighbour_that_leaves_is_forgotten_within_three_minutes() -> None:
    world = World(Account())
    async with running(world.describes.endless()):
        async with running(world.disturb(1, 1 / 4)):
            await asyncio.sleep(2 * SETTLED)
        world.account.limit = 100
        await asyncio.sleep(180)
        since = now()
        await asyncio.sleep(10)
    assert world.describes.rate(since, since + 10) == pytest.approx(5, abs=0.2)
