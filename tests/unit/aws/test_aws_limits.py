"""The token bucket, under virtual time."""

import asyncio

import pytest

from awsbatch_operator.aws.limits import SLOWEST, TokenBucket

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
    # The rate recovers by 0.8/s meanwhile.
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


async def test_the_rate_recovers_by_a_tenth_of_itself_each_second_and_not_beyond() -> None:
    bucket = TokenBucket(10)
    bucket.throttled()
    await asyncio.sleep(2)
    assert bucket.rate == pytest.approx(7)
    await asyncio.sleep(30)
    assert bucket.rate == 10


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
