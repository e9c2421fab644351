"""Group commit, under virtual time: who shares a call, who waits how long, who is answered what."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from awsbatch_operator.aws.lanes import FIRST_PAUSE, LONGEST_PAUSE, Lane

pytestmark = pytest.mark.looptime(start=0)

Group = tuple[str, str]
HERE: Group = ("eu-west-1", "why")
SOON = 1e-3


def now() -> float:
    return asyncio.get_running_loop().time()


class Calls:
    """A service that takes `seconds` a call and answers each key in capitals."""

    def __init__(self, seconds: float = 0.1, admission: float = 0.0, most: int = 50, at_once: int = 4) -> None:
        self.seconds, self.admission = seconds, admission
        self.made: list[tuple[float, Group, tuple[str, ...]]] = []
        self.error: Exception | None = None
        self.forgotten: str | None = None
        self.depths: list[int] = []
        self.under_way: Counter[str] = Counter()
        self.most_under_way: Counter[str] = Counter()
        self.lane = Lane[Group, str, str](
            self.send,
            admit=self.admit,
            place=lambda group: group[0],
            closed="closed",
            most=most,
            at_once=at_once,
            depth=self.depths.append,
        )

    async def admit(self, group: Group) -> None:
        await asyncio.sleep(self.admission)

    async def send(self, group: Group, keys: Sequence[str]) -> Mapping[str, str]:
        self.made.append((now(), group, tuple(keys)))
        self.under_way[group[0]] += 1
        self.most_under_way[group[0]] = max(self.most_under_way[group[0]], self.under_way[group[0]])
        await asyncio.sleep(self.seconds)
        self.under_way[group[0]] -= 1
        if self.error is not None:
            raise self.error
        return {key: key.upper() for key in keys if key != self.forgotten}

    async def ask(self, *keys: str, group: Group = HERE) -> list[str]:
        return await asyncio.gather(*(self.lane.ask(group, key) for key in keys))

    @property
    def keys(self) -> list[tuple[str, ...]]:
        return [keys for _, _, keys in self.made]


def ids(number: int) -> list[str]:
    return [f"j{index}" for index in range(number)]


async def test_an_idle_lane_sends_at_once() -> None:
    calls = Calls()
    assert await calls.ask("a") == ["A"]
    assert [at for at, _, _ in calls.made] == pytest.approx([0], abs=SOON)


async def test_who_asks_together_shares_one_call() -> None:
    calls = Calls()
    assert await calls.ask(*ids(50)) == [key.upper() for key in ids(50)]
    assert calls.keys == [tuple(ids(50))]


async def test_no_call_holds_more_keys_than_allowed() -> None:
    calls = Calls()
    await calls.ask(*ids(101))
    assert [len(keys) for keys in calls.keys] == [50, 50, 1]


async def test_five_hundred_with_one_reason_are_ten_calls_without_pauses_between() -> None:
    calls = Calls(seconds=0.01)
    await calls.ask(*ids(500))
    assert len(calls.made) == 10
    assert now() == pytest.approx(0.1, abs=0.02)


async def test_what_arrives_during_a_call_goes_together_with_the_next() -> None:
    calls = Calls(seconds=1.0)
    first = asyncio.create_task(calls.ask("a"))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(calls.ask("b"))
    await asyncio.sleep(0.5)
    await asyncio.gather(first, second, calls.ask("c"))
    assert calls.keys == [("a",), ("b", "c")]
    assert calls.made[1][0] == pytest.approx(1.0, abs=SOON)


async def test_a_crowd_that_arrives_slowly_goes_out_in_few_calls_and_nobody_waits_long() -> None:
    calls = Calls(seconds=0.005)
    waits = list[float]()

    async def late(number: int) -> None:
        await asyncio.sleep(number * 0.005)
        before = now()
        await calls.ask(f"j{number}")
        waits.append(now() - before)

    await asyncio.gather(*(late(number) for number in range(400)))
    assert len(calls.made) <= 14
    assert max(waits) <= LONGEST_PAUSE + 0.01


async def test_after_a_rest_the_next_one_goes_at_once_again() -> None:
    calls = Calls(seconds=0.001)
    for number in range(5):
        await calls.ask(f"j{number}")
        await asyncio.sleep(1)
    assert [at for at, _, _ in calls.made] == pytest.approx([0, 1.001, 2.002, 3.003, 4.004], abs=0.01)


async def test_one_that_comes_right_after_a_call_waits_no_longer_than_the_first_pause() -> None:
    calls = Calls(seconds=0.001)
    await calls.ask("a")
    await calls.ask("b")
    assert calls.made[1][0] <= FIRST_PAUSE + SOON


async def test_who_comes_while_the_lane_waits_for_admission_goes_along() -> None:
    calls = Calls(admission=1.0)
    first = asyncio.create_task(calls.ask("a"))
    await asyncio.sleep(0.9)
    await asyncio.gather(first, calls.ask("b"))
    assert calls.keys == [("a", "b")]


async def test_equal_keys_are_sent_once_and_all_callers_answered() -> None:
    calls = Calls()
    assert await calls.ask("a", "b", "a", "a") == ["A", "B", "A", "A"]
    assert calls.keys == [("a", "b")]


async def test_a_key_under_way_is_not_sent_again() -> None:
    calls = Calls(seconds=1.0)
    first = asyncio.create_task(calls.ask("a"))
    await asyncio.sleep(0.5)
    assert await calls.ask("a") == ["A"]
    assert await first == ["A"]
    assert calls.keys == [("a",)]


async def test_a_key_asked_again_after_its_answer_is_sent_again() -> None:
    calls = Calls()
    await calls.ask("a")
    await calls.ask("a")
    assert calls.keys == [("a",), ("a",)]


async def test_groups_never_share_a_call() -> None:
    calls = Calls()
    other = ("eu-west-1", "another reason")
    await asyncio.gather(calls.ask("a"), calls.ask("b", group=other), calls.ask("c"))
    assert sorted((group[1], keys) for _, group, keys in calls.made) == [
        ("another reason", ("b",)),
        ("why", ("a", "c")),
    ]


async def test_different_reasons_do_not_wait_for_each_other_beyond_the_calls_at_once() -> None:
    calls = Calls(seconds=1.0, at_once=4)
    await asyncio.gather(*(calls.ask("j", group=("eu-west-1", f"r{number}")) for number in range(8)))
    assert calls.most_under_way["eu-west-1"] == 4
    assert now() == pytest.approx(2.0, abs=0.1)


async def test_five_hundred_different_reasons_are_as_fast_as_the_calls_at_once_allow() -> None:
    calls = Calls(seconds=0.04, at_once=4)
    await asyncio.gather(*(calls.ask("j", group=("eu-west-1", f"r{number}")) for number in range(500)))
    assert now() == pytest.approx(500 / 4 * 0.04, rel=0.05)


async def test_a_slow_place_does_not_hold_up_another() -> None:
    calls = Calls(seconds=1.0, at_once=1)
    everywhere = [(f"region-{number}", "why") for number in range(5)]
    await asyncio.gather(*(calls.ask("j", group=group) for group in everywhere))
    assert now() == pytest.approx(1.0, abs=0.1)


async def test_a_cancelled_caller_disturbs_neither_the_call_nor_the_others() -> None:
    calls = Calls(seconds=1.0)
    leaving, staying = (asyncio.create_task(calls.ask(key)) for key in ("a", "b"))
    same = asyncio.create_task(calls.ask("a"))
    await asyncio.sleep(0.5)
    leaving.cancel()
    assert (await staying, await same) == (["B"], ["A"])
    assert leaving.cancelled()
    assert calls.keys == [("a", "b")]


async def test_a_key_whose_caller_left_before_it_was_sent_is_sent_all_the_same() -> None:
    calls = Calls(seconds=1.0)
    first = asyncio.create_task(calls.ask("a"))
    await asyncio.sleep(0.1)
    leaving = asyncio.create_task(calls.ask("b"))
    await asyncio.sleep(0.1)
    leaving.cancel()
    await first
    await calls.lane.close(5)
    assert calls.keys == [("a",), ("b",)]


async def test_an_error_of_the_program_reaches_every_caller_and_no_later_one() -> None:
    calls = Calls()
    calls.error = TypeError("a bug")
    answers = await asyncio.gather(*(calls.lane.ask(HERE, key) for key in "abc"), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["a bug"] * 3
    assert len(calls.made) == 1
    calls.error = None
    assert await calls.ask("a") == ["A"]


async def test_an_answer_that_is_missing_is_an_error_of_the_program_for_those_not_yet_answered() -> None:
    calls = Calls()
    calls.forgotten = "b"
    first, *others = await asyncio.gather(*(calls.lane.ask(HERE, key) for key in "abc"), return_exceptions=True)
    assert first == "A"
    assert [type(other) for other in others] == [KeyError, KeyError]


async def test_the_depth_tells_how_many_wait_and_ends_at_nought() -> None:
    calls = Calls()
    await calls.ask(*ids(60))
    assert max(calls.depths) == 60
    assert calls.depths[-1] == 0


async def test_the_depth_ends_at_nought_after_an_error_too() -> None:
    calls = Calls(most=1)
    calls.error = TypeError("a bug")
    await asyncio.gather(*(calls.lane.ask(HERE, key) for key in "abc"), return_exceptions=True)
    assert calls.depths[-1] == 0


async def test_closing_sends_what_waits_without_pausing() -> None:
    calls = Calls(seconds=0.001)
    await calls.ask("a")
    late = asyncio.create_task(calls.ask("b"))
    await asyncio.sleep(0.001)
    assert calls.keys == [("a",)]
    await calls.lane.close(5)
    assert await late == ["B"]
    assert now() <= FIRST_PAUSE / 2


async def test_closing_is_bounded_and_answers_everybody() -> None:
    calls = Calls(seconds=60.0)
    asking = [asyncio.create_task(calls.lane.ask(HERE, key)) for key in ids(120)]
    await asyncio.sleep(1)
    await calls.lane.close(5)
    assert await asyncio.gather(*asking) == ["closed"] * 120
    assert now() == pytest.approx(6.0, abs=0.1)
    assert calls.depths[-1] == 0


async def test_stopping_answers_who_waits_at_once_and_lets_calls_under_way_end() -> None:
    calls = Calls(seconds=2.0, admission=1.0)
    under_way = asyncio.create_task(calls.ask("a"))
    await asyncio.sleep(1.5)
    waiting = [asyncio.create_task(calls.ask("b", group=group)) for group in (HERE, ("eu-west-1", "other"))]
    await asyncio.sleep(0.1)
    calls.lane.stop()
    assert await asyncio.gather(*waiting, calls.ask("c")) == [["closed"]] * 3
    assert now() == pytest.approx(1.6, abs=SOON)
    assert calls.depths[-1] == 0
    assert await under_way == ["A"]
    await calls.lane.close(5)
    assert calls.keys == [("a",)]


async def test_after_closing_nothing_is_sent() -> None:
    calls = Calls()
    await calls.lane.close(5)
    assert await calls.ask("a") == ["closed"]
    assert calls.made == []


async def test_nothing_is_kept_of_a_group_that_is_done() -> None:
    calls = Calls()
    await asyncio.gather(*(calls.ask("j", group=("eu-west-1", f"r{number}")) for number in range(100)))
    await asyncio.sleep(1)
    assert (calls.lane._groups, calls.lane._tasks) == ({}, set())
