"""The fair queue against a model that keeps a plain list, and its sleep on virtual time."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from awsbatch_operator.workqueue.fair_queue import _SLACK, _TURNS, FairQueue, Rank

KEYS = st.sampled_from(range(12))
GROUPS = st.sampled_from("abc")
RANKS = st.sampled_from(Rank)
TIMES = st.integers(0, 8)


@dataclass
class Delayed:
    at: float
    early: float
    group: str
    rank: Rank


class FairQueueMachine(RuleBasedStateMachine):
    """The model lists ready keys in the order of arrival and remembers when each group was served last."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.queue = FairQueue[int](lambda: self.now)
        self.ready: list[tuple[int, str, Rank]] = []
        self.delayed: dict[int, Delayed] = {}
        self.passed_over: dict[str, list[str]] = {}
        self.taken: dict[str, int] = {}

    def promote(self) -> None:
        # dict keeps the order of add_at, and sorted is stable.
        for key, delayed in sorted(self.delayed.items(), key=lambda item: item[1].at):
            if delayed.at <= self.now:
                del self.delayed[key]
                self.ready.append((key, delayed.group, delayed.rank))

    def ready_groups(self) -> dict[int, str]:
        return {key: group for key, group, _ in self.ready}

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.promote()

    @rule(key=KEYS, group=GROUPS, rank=RANKS)
    def add(self, key: int, group: str, rank: Rank) -> None:
        self.queue.add(key, group, rank=rank)
        self.delayed.pop(key, None)
        self.now_ready(key, group, rank)

    def now_ready(self, key: int, group: str, rank: Rank) -> None:
        before = next((entry for entry in self.ready if entry[0] == key), None)
        if before is None:
            self.ready.append((key, group, rank))
        elif rank < before[2]:
            self.ready.remove(before)
            self.ready.append((key, before[1], rank))

    @rule(key=KEYS, group=GROUPS, delay=TIMES, early=st.none() | TIMES, rank=RANKS)
    def add_at(self, key: int, group: str, delay: int, early: int | None, rank: Rank) -> None:
        at = self.now + delay
        early_at = None if early is None else at - early
        self.queue.add_at(key, group, at, early=early_at, rank=rank)
        if not delay:
            self.delayed.pop(key, None)
            self.now_ready(key, group, rank)
        elif key not in self.ready_groups():
            new = Delayed(at, float("inf") if early_at is None else early_at, group, rank)
            before = self.delayed.get(key, new)
            if before.at > new.at or before.early > new.early:
                # A key that is postponed keeps its place among those of the same time.
                del self.delayed[key]
            self.delayed[key] = new

    @rule(key=KEYS)
    def discard(self, key: int) -> None:
        self.queue.discard(key)
        self.delayed.pop(key, None)
        self.take(key)

    def take(self, key: int) -> None:
        self.ready = [entry for entry in self.ready if entry[0] != key]

    @rule(early=st.booleans())
    def pop(self, *, early: bool) -> None:
        key = self.queue.pop(early=early)
        groups = self.ready_groups()
        if not groups:
            self.check_early(key, early=early)
            return
        assert key is not None
        group = groups[key]
        self.taken[group] = self.taken.get(group, 0) + 1
        best = 1 if self.taken[group] % _TURNS else -1
        # min takes the first of equals.
        expected = min((entry for entry in self.ready if entry[1] == group), key=lambda entry: best * entry[2])
        assert key == expected[0], "within a group by rank, then first in, first out"
        self.take(key)
        self.passed_over.pop(group, None)
        for waiting in {of for _, of, _ in self.ready} - {group}:
            served = self.passed_over.setdefault(waiting, [])
            assert group not in served, "a group waits for at most one key of each other group"
            served.append(group)

    def check_early(self, key: int | None, *, early: bool) -> None:
        eligible = {key: delayed.early for key, delayed in self.delayed.items() if early and delayed.early <= self.now}
        if key is None:
            assert not eligible
        else:
            assert eligible[key] == min(eligible.values())
            del self.delayed[key]

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        groups = self.ready_groups()
        # A group that is not ready at the moment loses its claim.
        self.passed_over = {group: served for group, served in self.passed_over.items() if group in groups.values()}
        self.taken = {group: taken for group, taken in self.taken.items() if group in groups.values()}
        assert self.queue.ready() == len(groups) == len(self.ready)
        assert len(self.queue) == len(groups) + len(self.delayed)
        assert {key for key in range(12) if key in self.queue} == groups.keys() | self.delayed.keys()
        assert self.queue.next_due() == min((delayed.at for delayed in self.delayed.values()), default=None)

    def teardown(self) -> None:
        self.now += 100
        self.promote()
        popped = [self.queue.pop() for _ in range(len(self.ready))]
        assert sorted(key for key in popped if key is not None) == sorted(self.ready_groups()), "no key is lost"
        assert self.queue.pop() is None
        assert len(self.queue) == 0


FairQueueMachine.TestCase.settings = settings(stateful_step_count=40)
TestFairQueue = FairQueueMachine.TestCase


def pop_all(queue: FairQueue[str]) -> list[str | None]:
    return [queue.pop() for _ in range(queue.ready())]


def test_groups_take_turns_however_many_keys_one_of_them_has() -> None:
    queue = FairQueue[str](lambda: 0.0)
    for key in ("a1", "a2", "a3", "b1", "c1", "b2"):
        queue.add(key, key[0])
    assert pop_all(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_key_of_first_rank_goes_ahead_in_its_group_and_not_ahead_of_other_groups() -> None:
    queue = FairQueue[str](lambda: 0.0)
    for key in ("a1", "b1", "b2"):
        queue.add(key, key[0])
    queue.add("b2", "b", rank=Rank.FIRST)
    assert pop_all(queue) == ["a1", "b2", "b1"]


def test_a_key_of_last_rank_has_its_turn_however_many_better_ones_come() -> None:
    queue = FairQueue[str](lambda: 0.0)
    queue.add("steady", "a", rank=Rank.LAST)
    popped = []
    for number in range(_TURNS):
        queue.add(f"new{number}", "a", rank=Rank.FIRST)
        popped.append(queue.pop())
    assert popped.index("steady") == _TURNS - 1


def test_outdated_delays_take_no_memory() -> None:
    now = 0.0
    queue = FairQueue[int](lambda: now)
    for number in range(10_000):
        queue.add_at(number % 10, "group", 1e6 - number, early=number)
    for entries in (queue._due, queue._early):
        assert len(entries) <= 2 * 10 + _SLACK + 1
    for key in range(10_000):
        queue.add_at(key, "group", 5.0, early=4.0)
    now = 5.0
    while queue.pop() is not None:
        pass
    assert (len(queue._ring), len(queue._taken), len(queue._ready), len(queue._delayed)) == (0, 0, 0, 0)
    assert max(len(queue._due), len(queue._early)) <= _SLACK


def test_a_key_that_is_postponed_keeps_its_entries() -> None:
    now = 0.0
    queue = FairQueue[int](lambda: now)
    for at in (10.0, 20.0, 30.0):
        for key in range(100):
            queue.add_at(key, "group", at, early=at - 1)
    assert len(queue._due) == len(queue._early) == 100
    now = 28.9
    assert (queue.ready(), queue.pop(early=True), queue.next_due()) == (0, None, 30.0)
    now = 29.0
    assert queue.pop(early=True) == 0
    now = 30.0
    assert [queue.pop() for _ in range(99)] == [*range(1, 100)]


class TestWait:
    pytestmark = pytest.mark.looptime(start=0)

    @staticmethod
    async def start(queue: FairQueue[str]) -> asyncio.Task[float]:
        async def woken() -> float:
            await queue.wait()
            return asyncio.get_running_loop().time()

        task = asyncio.create_task(woken())
        await asyncio.sleep(1)
        return task

    @staticmethod
    def queue() -> FairQueue[str]:
        return FairQueue(asyncio.get_running_loop().time)

    async def test_returns_at_once_while_a_key_is_ready(self) -> None:
        queue = self.queue()
        queue.add("key", "group")
        assert await (await self.start(queue)) == 0

    async def test_an_added_key_ends_it(self) -> None:
        queue = self.queue()
        waiting = await self.start(queue)
        assert not waiting.done()
        queue.add("key", "group")
        assert await waiting == 1

    async def test_it_sleeps_until_the_first_delayed_key_is_due(self) -> None:
        queue = self.queue()
        queue.add_at("late", "group", 9.5)
        waiting = await self.start(queue)
        queue.add_at("later", "group", 20)
        assert await waiting == pytest.approx(9.5, abs=0.002)
        assert queue.pop() == "late"

    async def test_a_key_that_is_due_earlier_wakes_it_earlier(self) -> None:
        queue = self.queue()
        queue.add_at("key", "group", 30)
        waiting = await self.start(queue)
        queue.add_at("key", "group", 4)
        assert await waiting == pytest.approx(4, abs=0.002)

    async def test_a_removed_key_does_not_end_it(self) -> None:
        queue = self.queue()
        queue.add_at("removed", "group", 3)
        queue.add_at("key", "group", 30)
        waiting = await self.start(queue)
        queue.discard("removed")
        assert await waiting == pytest.approx(30, abs=0.002)

    async def test_every_waiter_is_woken(self) -> None:
        queue = self.queue()
        waiting = [await self.start(queue) for _ in range(3)]
        queue.add("key", "group")
        assert await asyncio.gather(*waiting) == [3, 3, 3]


@pytest.mark.looptime(start=0)
async def test_outdated_delays_wake_nobody() -> None:
    loop, asked = asyncio.get_running_loop(), 0

    def clock() -> float:
        nonlocal asked
        asked += 1
        return loop.time()

    queue: FairQueue[int] = FairQueue(clock)
    for key in range(1_000):
        queue.add_at(key, "group", 1.0 + key / 100, early=0.0)
    while queue.pop(early=True) is not None:
        pass
    queue.add_at(-1, "group", 60.0)
    asked = 0
    await queue.wait()
    assert loop.time() == pytest.approx(60.0, abs=0.01)
    assert queue.pop() == -1
    assert asked < 20
