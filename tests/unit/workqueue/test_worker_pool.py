"""The slots of a worker pool, on virtual time."""

import asyncio
from collections import Counter

import pytest

from awsbatch_operator.workqueue.worker_pool import WorkerPool

pytestmark = pytest.mark.looptime(start=0)

FOREVER = 1e6


class Workers:
    """Runs work in a pool and records when each piece began."""

    def __init__(self, size: int = 16, per_group: int = 4) -> None:
        self.loop = asyncio.get_running_loop()
        self.pool = WorkerPool[str](size, per_group=per_group, clock=self.loop.time)
        self.began: list[tuple[str, float]] = []
        self.running = Counter[str]()
        self.most = 0
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, group: str, seconds: float, *, fails: bool = False) -> asyncio.Task[None]:
        async def work() -> None:
            async with self.pool.slot(group) as slot:
                self.began.append((group, self.loop.time()))
                self.running[group] += 1
                self.most = max(self.most, self.running.total())
                try:
                    await asyncio.sleep(seconds)
                finally:
                    self.running[group] -= 1
                if fails:
                    slot.failed()

        self.tasks.append(asyncio.create_task(work()))
        return self.tasks[-1]

    async def make_fast(self, *groups: str) -> None:
        for group in groups:
            await self.start(group, 0.0)
        self.began.clear()

    def times(self, group: str) -> list[float]:
        return [at for of, at in self.began if of == group]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        assert (self.pool._running, self.pool._busy, dict(self.pool._ring)) == (0, {}, {})


async def test_a_fast_group_gets_its_limit_and_all_together_the_size() -> None:
    workers = Workers(size=8, per_group=3)
    await workers.make_fast("a", "b", "c", "d")
    for group in "abcd":
        for _ in range(5):
            workers.start(group, 1.0)
    await asyncio.sleep(0.5)
    assert workers.running == {"a": 3, "b": 3, "c": 2, "d": 0}
    await asyncio.sleep(1)
    assert workers.running == {"a": 2, "b": 2, "c": 2, "d": 2}
    await asyncio.gather(*workers.tasks)
    assert workers.most == 8


async def test_groups_that_wait_take_turns() -> None:
    workers = Workers(size=1, per_group=1)
    await workers.make_fast("a", "b", "c")
    for group in ("a", "a", "a", "a", "b", "c", "b"):
        workers.start(group, 1.0)
    await asyncio.gather(*workers.tasks)
    assert [group for group, _ in workers.began] == ["a", "a", "b", "c", "a", "b", "a"]


async def test_a_group_that_was_never_tried_gets_one_slot_until_it_was_quick_once() -> None:
    workers = Workers()
    for _ in range(9):
        workers.start("new", 1.0)
    await asyncio.gather(*workers.tasks)
    assert workers.times("new") == pytest.approx([0, 1, 1, 1, 1, 2, 2, 2, 2])


@pytest.mark.parametrize(("seconds", "fails"), [(2.5, False), (0.5, True)])
async def test_a_group_is_slow_after_a_slot_that_took_long_or_failed(seconds: float, *, fails: bool) -> None:
    workers = Workers()
    await workers.make_fast("a")
    await workers.start("a", seconds, fails=fails)
    for _ in range(3):
        workers.start("a", 1.0)
    await asyncio.gather(*workers.tasks)
    first, *others = [at - seconds for at in workers.times("a")[1:]]
    assert (first, *others) == pytest.approx((0, 1, 1))


async def test_a_group_counts_as_slow_while_one_of_its_slots_runs_for_long() -> None:
    workers = Workers()
    await workers.make_fast("a")
    workers.start("a", FOREVER)
    await asyncio.sleep(2.1)
    late = workers.start("a", 0.0)
    await asyncio.sleep(60)
    assert not late.done()
    workers.tasks[-2].cancel()
    await late
    await workers.stop()


async def test_a_group_that_hangs_on_all_its_slots_leaves_room_for_fast_and_new_ones() -> None:
    workers = Workers(size=16, per_group=8)
    await workers.make_fast("hangs", "fast")
    for _ in range(50):
        workers.start("hangs", FOREVER)
    await asyncio.sleep(10)
    assert workers.running["hangs"] == 8
    for group in ("fast", "fast", "fast", "new", "newer"):
        workers.start(group, 0.1)
    await asyncio.sleep(0.05)
    assert (workers.running["fast"], workers.running["new"], workers.running["newer"]) == (3, 1, 1)
    await workers.stop()


async def test_many_slow_groups_share_a_quarter_and_do_not_delay_a_fast_one() -> None:
    workers = Workers(size=16, per_group=8)
    await workers.make_fast("fast")
    for number in range(300):
        workers.start(f"slow-{number}", 10.0, fails=True)
        workers.start(f"slow-{number}", 10.0, fails=True)
    for _ in range(20):
        before = workers.loop.time()
        await workers.start("fast", 0.1)
        assert workers.loop.time() - before == pytest.approx(0.1)
        assert workers.running.total() == 4
        await asyncio.sleep(3)
    await workers.stop()


async def test_slow_groups_take_turns() -> None:
    workers = Workers(size=4)
    for group in ("a", "a", "a", "b", "c"):
        workers.start(group, 5.0)
    await asyncio.gather(*workers.tasks)
    assert [group for group, _ in workers.began] == ["a", "a", "b", "c", "a"]


async def test_a_cancelled_waiter_takes_nothing() -> None:
    workers = Workers(size=1, per_group=1)
    holder = workers.start("a", 10.0)
    cancelled = [workers.start("b", 1.0) for _ in range(3)]
    last = workers.start("c", 1.0)
    await asyncio.sleep(1)
    cancelled[0].cancel()
    await asyncio.sleep(1)
    assert len(workers.pool._groups["b"].waiters) == 2
    # These two are cancelled at the moment in which the slot becomes free, before they could run.
    holder.cancel()
    cancelled[1].cancel()
    cancelled[2].cancel()
    await last
    assert workers.times("c") == [2]
    assert "b" not in workers.pool._groups
    await workers.stop()


async def test_a_waiter_that_is_cancelled_after_it_got_its_slot_gives_it_back() -> None:
    workers = Workers(size=1, per_group=1)
    first = asyncio.create_task(workers.pool._acquire("a"))
    slot = await first
    second = asyncio.create_task(workers.pool._acquire("a"))
    await asyncio.sleep(0)
    workers.pool._release("a", slot, slow=None)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await workers.start("b", 0.0)
    await workers.stop()


async def test_an_interrupted_slot_does_not_make_a_group_fast() -> None:
    workers = Workers()
    workers.start("new", 1.0).cancel()
    workers.start("new", FOREVER)
    await asyncio.sleep(1)
    workers.tasks[-1].cancel()
    await asyncio.sleep(0)
    workers.start("new", FOREVER)
    workers.start("new", FOREVER)
    await asyncio.sleep(1)
    assert workers.running["new"] == 1
    await workers.stop()


async def test_a_forgotten_group_counts_as_never_tried_and_takes_no_memory() -> None:
    workers = Workers()
    await workers.make_fast("idle", "busy")
    busy = workers.start("busy", 1.0)
    await asyncio.sleep(0.5)
    for group in ("idle", "busy", "unknown"):
        workers.pool.forget(group)
    await busy
    assert workers.pool._groups == {}
    for _ in range(2):
        workers.start("idle", 1.0)
    await asyncio.sleep(0.5)
    assert workers.running["idle"] == 1
    await workers.stop()


async def test_a_group_that_is_used_again_after_it_was_forgotten_can_become_fast() -> None:
    workers = Workers()
    workers.start("a", 1.0)
    await asyncio.sleep(0.5)
    workers.pool.forget("a")
    await workers.start("a", 1.0)
    for _ in range(3):
        workers.start("a", 1.0)
    await asyncio.sleep(0.5)
    assert workers.running["a"] == 3
    await workers.stop()


async def test_groups_that_only_failed_take_no_memory() -> None:
    workers = Workers()
    for number in range(100):
        workers.start(f"region-{number}", 0.1, fails=True)
    await asyncio.gather(*workers.tasks)
    assert workers.pool._groups == {}
