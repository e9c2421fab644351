import random
from collections.abc import Callable
from dataclasses import replace

from bench.leak_check import Outcome, Sample, kept_up, outcomes

MINUTES = 40


def samples(memory: Callable[[float], float], threads: Callable[[float], int] = lambda _: 12) -> list[Sample]:
    """One every 10 s; `memory` and `threads` by the part of the time that has passed."""
    moments = [10.0 * number for number in range(6 * MINUTES + 1)]
    parts = [(at, at / moments[-1]) for at in moments]
    return [Sample(at, memory(part), 90.0, 20, threads(part), 2000, 0, 0) for at, part in parts]


def outcome(figure: str, found: list[Sample]) -> Outcome:
    return next(one for one in outcomes(found) if one.figure == figure)


def test_growth_is_counted_from_the_end_of_the_first_quarter() -> None:
    found = outcome("memory, resident", samples(lambda part: 100 + 8 * part))
    assert round(found.level, 1) == 102.0
    assert round(100 * found.growth / 6 * 1.02) == 100, "6 MiB on 102"
    assert not found.flat


def test_warming_up_is_no_growth() -> None:
    found = outcome("memory, resident", samples(lambda part: 60 + 200 * min(part, 0.2)))
    assert found.flat
    assert abs(found.growth) < 0.1


def test_noise_and_spikes_are_no_growth() -> None:
    chance = random.Random(3)
    noisy = samples(lambda part: chance.uniform(98, 102) + (80 if part > 0.97 or chance.random() < 0.05 else 0))
    assert outcome("memory, resident", noisy).flat
    assert abs(outcome("memory, resident", noisy).growth) < 1


def test_a_slow_leak_shows_through_noise() -> None:
    chance = random.Random(3)
    assert not outcome("memory, resident", samples(lambda part: chance.uniform(97, 103) + 9 * part)).flat


def test_steps_are_growth_too() -> None:
    stairs = samples(lambda part: 100 + 2 * int(6 * part))
    assert not outcome("memory, resident", stairs).flat


def test_one_thread_more_each_while_is_not_flat() -> None:
    leaking = samples(lambda _: 100.0, threads=lambda part: 12 + int(4 * part))
    assert [one.figure for one in outcomes(leaking) if not one.flat] == ["threads"]


def test_a_shrinking_figure_is_flat() -> None:
    assert all(one.flat for one in outcomes(samples(lambda part: 120 - 10 * part)))


def test_too_few_samples_prove_nothing() -> None:
    assert not any(one.flat for one in outcomes(samples(lambda _: 100.0)[:20]))
    assert not any(one.flat for one in outcomes([]))


def test_an_operator_that_does_not_write_what_ended_shows_nothing() -> None:
    last = replace(samples(lambda _: 100.0)[-1], ended=24_000)
    assert kept_up(replace(last, writes=2000 + 2 * 23_550), lingering=450)
    assert not kept_up(replace(last, writes=2000 + 23_550), lingering=450), "the first status of each alone"


def test_a_result_is_one_line() -> None:
    assert str(Outcome("threads", "", 12.0, 8.333)) == (
        "threads: 12.0 after the first quarter, +8.3 % at the end - NOT FLAT"
    )
