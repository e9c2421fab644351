"""The rate limiters of one kind of call and of one account, on virtual time."""

import asyncio

import pytest

from awsbatch_operator.workqueue.fair_queue import Rank
from awsbatch_operator.workqueue.rate_limiter import SLOWEST, TERMINATE_SLOWEST, AccountRateLimiter, AdaptiveRateLimiter

pytestmark = pytest.mark.looptime(start=0)


def now() -> float:
    return asyncio.get_running_loop().time()


async def times(limiter: AdaptiveRateLimiter, number: int) -> list[float]:
    """Return the time at which each caller was admitted."""

    async def one() -> float:
        await limiter.acquire()
        return now()

    return list(await asyncio.gather(*(one() for _ in range(number))))


async def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    assert await times(AdaptiveRateLimiter(5, burst=3), 6) == pytest.approx([0, 0, 0, 0.2, 0.4, 0.6], abs=1e-3)


async def test_a_rest_restores_the_burst_and_no_more() -> None:
    limiter = AdaptiveRateLimiter(10, burst=2)
    await times(limiter, 2)
    await asyncio.sleep(60)
    assert await times(limiter, 3) == pytest.approx([60, 60, 60.1], abs=1e-3)


async def test_callers_are_admitted_in_the_order_of_asking() -> None:
    limiter, order = AdaptiveRateLimiter(10, burst=1), list[int]()

    async def one(number: int) -> None:
        await limiter.acquire()
        order.append(number)

    await asyncio.gather(*(one(number) for number in range(20)))
    assert order == list(range(20))


async def test_a_cancelled_caller_uses_no_token_and_delays_nobody() -> None:
    limiter = AdaptiveRateLimiter(1, burst=1)
    await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
    await asyncio.sleep(0.5)
    waiting[0].cancel()
    waiting[1].cancel()
    await waiting[2]
    assert now() == pytest.approx(1, abs=1e-3)


async def test_a_throttle_halves_the_rate_and_takes_the_burst() -> None:
    limiter = AdaptiveRateLimiter(8, burst=10)
    await limiter.acquire()
    limiter.throttled()
    assert limiter.rate == 4
    await limiter.acquire()
    assert now() == pytest.approx(0.25, abs=0.02)


async def test_throttles_within_a_second_count_once() -> None:
    limiter = AdaptiveRateLimiter(8)
    for _ in range(10):
        limiter.throttled()
    assert limiter.rate == 4


async def test_no_number_of_throttles_stops_all_calls() -> None:
    limiter = AdaptiveRateLimiter(1)
    for _ in range(50):
        limiter.throttled()
        await asyncio.sleep(1)
    limiter.throttled()
    assert limiter.rate >= SLOWEST
    before = now()
    await limiter.acquire()
    assert now() - before <= 10


async def rates(limiter: AdaptiveRateLimiter, *times: float) -> list[float]:
    """The rate at each of these times."""
    found = []
    for at in times:
        await asyncio.sleep(at - now())
        found.append(limiter.rate)
    return found


async def test_the_rate_comes_back_fast_and_lingers_where_the_throttle_came() -> None:
    limiter = AdaptiveRateLimiter(10)
    limiter.throttled()
    assert await rates(limiter, 0, 15, 25, 30, 300) == pytest.approx([5, 9.375, 9.977, 10, 10], abs=1e-3)


async def test_without_further_throttles_the_rate_outgrows_the_ceiling() -> None:
    limiter = AdaptiveRateLimiter(40)
    for _ in range(4):
        limiter.throttled()
        await asyncio.sleep(1)
    found = await rates(limiter, 33, 48, 63, 93)
    assert found == pytest.approx([found[0], found[0] * 1.125, found[0] * 2, found[0] * 9], rel=1e-6)
    assert await rates(limiter, 120) == [40]


async def test_a_throttle_before_the_rate_has_recovered_lowers_the_ceiling() -> None:
    limiter = AdaptiveRateLimiter(40)
    limiter.throttled()
    await asyncio.sleep(15)
    met = limiter.rate
    limiter.throttled()
    assert (met, limiter.ceiling, limiter.rate) == (37.5, 0.75 * met, 0.375 * met)
    await asyncio.sleep(36)
    met = limiter.rate
    limiter.throttled()
    assert limiter.ceiling == met > 0.75 * 37.5


async def test_at_a_low_rate_the_recovery_takes_longer() -> None:
    limiter = AdaptiveRateLimiter(1)
    limiter.throttled()
    await asyncio.sleep(15)
    limiter.throttled()
    ceiling = limiter.ceiling
    early, at_last = await rates(limiter, 15 + 42, 15 + 43)
    assert early < ceiling < at_last


async def test_while_aws_throttles_no_burst_is_saved_up() -> None:
    limiter = AdaptiveRateLimiter(8)
    limiter.throttled()
    await asyncio.sleep(20)
    assert limiter.short
    first, second, *_ = await times(limiter, 3)
    assert (first, second - first > 0.1) == (20, True)
    await asyncio.sleep(30)
    assert not limiter.short
    assert len(set(await times(limiter, 10))) == 1


async def test_a_waiting_caller_profits_from_the_recovery() -> None:
    limiter = AdaptiveRateLimiter(1, burst=1)
    for _ in range(12):
        limiter.throttled()
        await asyncio.sleep(1)
    slow = limiter.rate
    limiter.throttled()
    before = now()
    await limiter.acquire()
    assert now() - before < 1 / (slow / 2)


async def test_a_rate_below_the_floor_is_respected() -> None:
    limiter = AdaptiveRateLimiter(0.05, burst=1)
    limiter.throttled()
    assert limiter.rate == 0.05


async def test_describes_that_give_way_continue_together_at_the_slowest_rate() -> None:
    account, at = AccountRateLimiter(describe_rate=5, terminate_rate=1), list[float]()

    async def describe() -> None:
        await account.describe()
        at.append(now())

    account.describe_throttled()
    waiting = [asyncio.create_task(account.terminate()) for _ in range(100)]
    await asyncio.gather(*(describe() for _ in range(3)))
    assert at == pytest.approx([number / SLOWEST for number in (1, 2, 3)], abs=1)
    for each in waiting:
        each.cancel()


async def test_a_limiter_starts_from_what_a_slower_one_has_found_and_not_from_a_faster_one() -> None:
    describes, terminations = AdaptiveRateLimiter(5), AdaptiveRateLimiter(10)
    terminations.start_from(describes)
    assert not terminations.short
    for _ in range(3):
        describes.throttled()
        await asyncio.sleep(1)
    found = describes.rate
    terminations.start_from(describes)
    assert found < terminations.rate < 2 * found
    await asyncio.sleep(10)
    terminations.throttled()
    own = terminations.rate
    assert own < describes.rate
    terminations.start_from(describes)
    assert terminations.rate == own


async def test_describes_and_terminations_are_slowed_by_their_own_throttles() -> None:
    account = AccountRateLimiter(describe_rate=4, terminate_rate=8)
    account.describe_throttled()
    assert (account._describes.rate, account._terminations.rate) == (2, 8)
    await asyncio.sleep(100)
    account.terminate_throttled()
    assert (account._describes.rate, account._terminations.rate) == (4, 4)


async def test_a_describe_for_which_a_termination_waits_gives_way_to_no_call() -> None:
    account = AccountRateLimiter(describe_rate=5, terminate_rate=1)
    account.describe_throttled()
    waiting = [asyncio.create_task(call) for call in (*(account.terminate() for _ in range(20)), account.describe())]
    await asyncio.sleep(1)
    before = now()
    for _ in range(5):
        await account.describe(Rank.FIRST)
    assert now() - before < 2, "at half the rate"
    for each in waiting:
        each.cancel()


async def test_what_nobody_waits_for_comes_after_what_a_termination_waits_for() -> None:
    account, order = AccountRateLimiter(describe_rate=5, terminate_rate=10), list[Rank]()

    async def describe(rank: Rank) -> None:
        await account.describe(rank)
        order.append(rank)

    for _ in range(10):
        await account.describe()
    async with asyncio.TaskGroup() as tasks:
        for rank in (Rank.FIRST, Rank.LAST, Rank.LAST, Rank.FIRST, Rank.FIRST, Rank.NORMAL):
            tasks.create_task(describe(rank))
    assert order == [Rank.FIRST, Rank.FIRST, Rank.FIRST, Rank.NORMAL, Rank.LAST, Rank.LAST]
    assert now() < 3


async def test_nothing_comes_after_others_for_ever() -> None:
    account = AccountRateLimiter(describe_rate=1, terminate_rate=10)

    async def endless() -> None:
        while True:
            await account.describe(Rank.FIRST)

    tasks = [asyncio.create_task(endless()) for _ in range(3)]
    await asyncio.sleep(30)
    before = now()
    await account.describe(Rank.LAST)
    assert now() - before < 1 / SLOWEST + 5
    for task in tasks:
        task.cancel()


async def test_describes_do_not_wait_for_terminations_while_nothing_is_throttled() -> None:
    account = AccountRateLimiter(describe_rate=5, terminate_rate=1)
    waiting = [asyncio.create_task(account.terminate()) for _ in range(20)]
    await asyncio.sleep(1)
    before = now()
    for _ in range(10):
        await account.describe()
    assert now() == before
    for each in waiting:
        each.cancel()


async def test_a_cancelled_termination_delays_no_describe() -> None:
    account = AccountRateLimiter(describe_rate=5, terminate_rate=2)
    account.describe_throttled()
    account.terminate_throttled()
    waiting = asyncio.create_task(account.terminate())
    describe = asyncio.create_task(account.describe())
    await asyncio.sleep(0.9)
    assert not describe.done()
    waiting.cancel()
    await describe
    assert now() < 3


async def test_no_number_of_throttles_makes_terminations_as_slow_as_describes() -> None:
    account = AccountRateLimiter(describe_rate=5, terminate_rate=10)
    for _ in range(20):
        account.describe_throttled()
        account.terminate_throttled()
        await asyncio.sleep(1)
    account.describe_throttled()
    account.terminate_throttled()
    assert account._terminations.rate == TERMINATE_SLOWEST
    assert account._describes.rate < 0.2
    await asyncio.sleep(6)
    await account.terminate()
    assert account._terminations.rate >= TERMINATE_SLOWEST


async def test_terminations_that_piled_up_in_a_bad_minute_are_sent_within_the_next() -> None:
    account = AccountRateLimiter(5, 10)
    for _ in range(20):
        account.terminate_throttled()
        await asyncio.sleep(3)
    began = now()
    for _ in range(200):
        await account.terminate()
    assert now() - began < 45
    assert now() - began > 20, "the rate recovers step by step"


async def test_terminations_start_from_what_describes_have_found_only_after_a_pause() -> None:
    account = AccountRateLimiter(describe_rate=5, terminate_rate=10)
    await account.terminate()
    await asyncio.sleep(4)
    account.describe_throttled()
    await account.terminate()
    assert account._terminations.rate == 10
    await asyncio.sleep(6)
    await account.terminate()
    assert account._terminations.rate < 5


async def use(limiter: AdaptiveRateLimiter, seconds: float, *, part: float = 1.0) -> None:
    """Use this part of the rate for so long."""
    until = now() + seconds
    while now() < until:
        await limiter.acquire()
        if part < 1:
            await asyncio.sleep(1 / (part * limiter.rate))


class TestGrowth:
    """The budget of terminations, which starts at 20 calls a second."""

    @staticmethod
    def limiter() -> AdaptiveRateLimiter:
        return AccountRateLimiter(describe_rate=5, terminate_rate=40)._terminations

    async def test_it_starts_at_twenty_a_second_and_a_burst_of_as_many(self) -> None:
        limiter = self.limiter()
        assert limiter.rate == 20
        assert await times(limiter, 22) == pytest.approx([0] * 20 + [0.05, 0.1], abs=1e-3)

    async def test_a_lower_limit_is_kept_from_the_start(self) -> None:
        limiter = AccountRateLimiter(describe_rate=5, terminate_rate=8)._terminations
        assert await times(limiter, 10) == pytest.approx([0] * 8 + [1 / 8, 2 / 8], abs=1e-3)
        await use(limiter, 10)
        assert limiter.rate == 8

    async def test_each_second_that_uses_it_up_raises_it_by_a_quarter_up_to_the_limit(self) -> None:
        limiter, found = self.limiter(), list[float]()
        for second in range(1, 6):
            await use(limiter, second + 0.1 - now())
            found.append(limiter.rate)
        assert found == [25, 31.25, 39.0625, 40, 40]

    async def test_a_second_that_uses_less_than_four_fifths_raises_nothing(self) -> None:
        limiter = self.limiter()
        await use(limiter, 20, part=0.7)
        assert limiter.rate == 20
        await use(limiter, 2, part=0.9)
        assert limiter.rate > 20

    async def test_a_throttle_halves_it_and_the_ceiling_holds_it_although_it_is_used_up(self) -> None:
        limiter = self.limiter()
        await use(limiter, 2.1)
        limiter.throttled()
        assert (limiter.ceiling, limiter.rate) == (31.25, 15.625)
        await use(limiter, 9)
        assert 30 < limiter.rate <= 31.25
        await use(limiter, 3)
        assert 31.25 < limiter.rate < 32
        await use(limiter, 10)
        assert limiter.rate == 40

    async def test_a_second_with_a_throttle_raises_nothing(self) -> None:
        limiter = self.limiter()
        await use(limiter, 0.9)
        limiter.throttled()
        await asyncio.sleep(0.2)
        assert limiter.rate < 11

    async def test_a_minute_without_calls_takes_it_back_to_the_start(self) -> None:
        limiter = self.limiter()
        await use(limiter, 6)
        await asyncio.sleep(59)
        assert limiter.rate == 40
        await asyncio.sleep(2)
        assert limiter.rate == 20
        before = now()
        assert (await times(limiter, 21))[-2:] == pytest.approx([before, before + 0.05], abs=1e-3)

    async def test_a_minute_without_calls_takes_it_back_to_a_lower_ceiling_unless_calls_have_exceeded_it(self) -> None:
        limiter = self.limiter()
        for _ in range(2):
            limiter.throttled()
            await asyncio.sleep(1.5)
        await limiter.acquire()
        await asyncio.sleep(61)
        assert limiter.rate == limiter.ceiling < 11
        await use(limiter, 6)
        assert limiter.rate > 20
        await asyncio.sleep(61)
        assert limiter.rate == 20

    async def test_describes_keep_their_rate_and_burst(self) -> None:
        limiter = AccountRateLimiter(describe_rate=5, terminate_rate=40)._describes
        limiter.throttled()
        await use(limiter, 10)
        await asyncio.sleep(100)
        assert limiter.rate == 5
        assert (await times(limiter, 11))[-2:] == pytest.approx([now() - 0.2, now()], abs=1e-3)
