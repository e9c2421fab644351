"""The token bucket and the budget of two lanes, under virtual time."""

import asyncio

import pytest

from awsbatch_operator.aws.limits import SLOWEST, TERMINATIONS_SLOWEST, Budget, TokenBucket

pytestmark = pytest.mark.looptime(start=0)


def now() -> float:
    return asyncio.get_running_loop().time()


async def times(bucket: TokenBucket, number: int) -> list[float]:
    """When each of so many callers was admitted."""

    async def one() -> float:
        await bucket.acquire()
        return now()

    return list(await asyncio.gather(*(one() for _ in range(number))))


async def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    assert await times(TokenBucket(5, burst=3), 6) == pytest.approx([0, 0, 0, 0.2, 0.4, 0.6], abs=1e-3)


async def test_a_rest_gives_the_burst_back_but_no_more() -> None:
    bucket = TokenBucket(10, burst=2)
    await times(bucket, 2)
    await asyncio.sleep(60)
    assert await times(bucket, 3) == pytest.approx([60, 60, 60.1], abs=1e-3)


async def test_callers_are_admitted_in_the_order_of_asking() -> None:
    bucket, order = TokenBucket(10, burst=1), list[int]()

    async def one(number: int) -> None:
        await bucket.acquire()
        order.append(number)

    await asyncio.gather(*(one(number) for number in range(20)))
    assert order == list(range(20))


async def test_a_cancelled_caller_takes_no_token_and_holds_nobody_up() -> None:
    bucket = TokenBucket(1, burst=1)
    await bucket.acquire()
    waiting = [asyncio.create_task(bucket.acquire()) for _ in range(3)]
    await asyncio.sleep(0.5)
    waiting[0].cancel()
    waiting[1].cancel()
    await waiting[2]
    assert now() == pytest.approx(1, abs=1e-3)


async def test_a_throttle_halves_the_rate_and_takes_the_burst() -> None:
    bucket = TokenBucket(8, burst=10)
    await bucket.acquire()
    bucket.throttled()
    assert bucket.rate == 4
    await bucket.acquire()
    assert now() == pytest.approx(0.25, abs=0.02)


async def test_throttles_within_a_second_count_once() -> None:
    bucket = TokenBucket(8)
    for _ in range(10):
        bucket.throttled()
    assert bucket.rate == 4


async def test_no_number_of_throttles_stops_all_calls() -> None:
    bucket = TokenBucket(1)
    for _ in range(50):
        bucket.throttled()
        await asyncio.sleep(1)
    bucket.throttled()
    assert bucket.rate >= SLOWEST
    before = now()
    await bucket.acquire()
    assert now() - before <= 10


async def rates(bucket: TokenBucket, *times: float) -> list[float]:
    """The rate at each of these times."""
    found = []
    for at in times:
        await asyncio.sleep(at - now())
        found.append(bucket.rate)
    return found


async def test_the_rate_comes_back_fast_and_lingers_where_the_throttle_came() -> None:
    bucket = TokenBucket(10)
    bucket.throttled()
    assert await rates(bucket, 0, 15, 25, 30, 300) == pytest.approx([5, 9.375, 9.977, 10, 10], abs=1e-3)


async def test_where_nothing_happens_the_rate_leaves_the_last_throttle_behind() -> None:
    bucket = TokenBucket(40)
    for _ in range(4):
        bucket.throttled()
        await asyncio.sleep(1)
    found = await rates(bucket, 33, 48, 63, 93)
    assert found == pytest.approx([found[0], found[0] * 1.125, found[0] * 2, found[0] * 9], rel=1e-6)
    assert await rates(bucket, 120) == [40]


async def test_a_throttle_before_the_rate_is_back_tells_that_less_is_left() -> None:
    bucket = TokenBucket(40)
    bucket.throttled()
    await asyncio.sleep(15)
    met = bucket.rate
    bucket.throttled()
    assert (met, bucket.ceiling, bucket.rate) == (37.5, 0.75 * met, 0.375 * met)
    await asyncio.sleep(36)
    met = bucket.rate
    bucket.throttled()
    assert bucket.ceiling == met > 0.75 * 37.5


async def test_at_a_low_rate_the_recovery_takes_longer() -> None:
    bucket = TokenBucket(1)
    bucket.throttled()
    await asyncio.sleep(15)
    bucket.throttled()
    ceiling = bucket.ceiling
    early, at_last = await rates(bucket, 15 + 42, 15 + 43)
    assert early < ceiling < at_last


async def test_while_budget_is_short_nothing_is_saved_up_for_a_burst() -> None:
    bucket = TokenBucket(8)
    bucket.throttled()
    await asyncio.sleep(20)
    assert bucket.short
    first, second, *_ = await times(bucket, 3)
    assert (first, second - first > 0.1) == (20, True)
    await asyncio.sleep(30)
    assert not bucket.short
    assert len(set(await times(bucket, 10))) == 1


async def test_a_waiting_caller_profits_from_the_recovery() -> None:
    bucket = TokenBucket(1, burst=1)
    for _ in range(12):
        bucket.throttled()
        await asyncio.sleep(1)
    slow = bucket.rate
    bucket.throttled()
    before = now()
    await bucket.acquire()
    assert now() - before < 1 / (slow / 2)


async def test_a_rate_below_the_floor_is_respected() -> None:
    bucket = TokenBucket(0.05, burst=1)
    bucket.throttled()
    assert bucket.rate == 0.05


async def test_who_waits_behind_debts_waits_no_longer_than_at_the_slowest_rate() -> None:
    bucket = TokenBucket(5)
    for _ in range(100):
        bucket.take()
    assert await times(bucket, 1) == pytest.approx([11 / 5], abs=1e-3)
    await bucket.acquire(gives_way=lambda: True)
    assert now() == pytest.approx(11 / 5 + 1 / SLOWEST)


async def test_a_bucket_heeds_what_a_slower_one_has_found_and_no_faster_one() -> None:
    looks, terminations = TokenBucket(5), TokenBucket(10)
    terminations.heed(looks)
    assert not terminations.short
    for _ in range(3):
        looks.throttled()
        await asyncio.sleep(1)
    found = looks.rate
    terminations.heed(looks)
    assert found < terminations.rate < 2 * found
    await asyncio.sleep(10)
    terminations.throttled()
    own = terminations.rate
    assert own < looks.rate
    terminations.heed(looks)
    assert terminations.rate == own


async def test_looks_are_slowed_by_throttles_of_either_lane_terminations_by_their_own() -> None:
    budget = Budget(describe_rate=4, terminate_rate=8)
    budget.look_throttled()
    assert (budget._looks.rate, budget._terminations.rate) == (2, 8)
    await asyncio.sleep(100)
    budget.termination_throttled()
    assert (budget._looks.rate, budget._terminations.rate) == (2, 4)


async def test_looks_do_not_wait_for_terminations_while_nothing_is_throttled() -> None:
    budget = Budget(describe_rate=5, terminate_rate=1)
    waiting = [asyncio.create_task(budget.termination()) for _ in range(20)]
    await asyncio.sleep(1)
    before = now()
    for _ in range(10):
        await budget.look()
    assert now() == before
    for each in waiting:
        each.cancel()


async def test_a_termination_that_is_given_up_holds_no_look_back() -> None:
    budget = Budget(describe_rate=5, terminate_rate=2)
    budget.termination_throttled()
    waiting = asyncio.create_task(budget.termination())
    look = asyncio.create_task(budget.look())
    await asyncio.sleep(0.9)
    assert not look.done()
    waiting.cancel()
    await look
    assert now() < 3


async def test_no_number_of_throttles_makes_terminations_as_slow_as_looks() -> None:
    budget = Budget(describe_rate=5, terminate_rate=10)
    for _ in range(20):
        budget.termination_throttled()
        await asyncio.sleep(1)
    budget.termination_throttled()
    assert budget._terminations.rate == TERMINATIONS_SLOWEST
    assert budget._looks.rate < 0.2
    await asyncio.sleep(6)
    await budget.termination()
    assert budget._terminations.rate >= TERMINATIONS_SLOWEST


async def test_a_crowd_of_terminations_that_a_bad_minute_left_is_gone_within_the_next() -> None:
    budget = Budget(5, 10)
    for _ in range(20):
        budget.termination_throttled()
        await asyncio.sleep(3)
    began = now()
    for _ in range(200):
        await budget.termination()
    assert now() - began < 45
    assert now() - began > 20, "it feels its way back"


async def test_while_budget_is_short_a_termination_is_paid_for_by_the_looks() -> None:
    budget = Budget(describe_rate=5, terminate_rate=10)
    budget.look_throttled()
    await asyncio.sleep(10)
    assert budget._looks.short
    before = now()
    await budget.termination()
    assert now() == before
    await budget.look()
    assert now() - before == pytest.approx(1 / 4.3, abs=0.02)


async def test_each_new_crowd_of_terminations_heeds_what_looks_have_found_a_crowd_under_way_does_not() -> None:
    budget = Budget(describe_rate=5, terminate_rate=10)
    await budget.termination()
    await asyncio.sleep(4)
    budget.look_throttled()
    await budget.termination()
    assert budget._terminations.rate == 10
    await asyncio.sleep(6)
    await budget.termination()
    assert budget._terminations.rate < 5
