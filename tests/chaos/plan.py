"""The plan: who does what, and when. Drawn from a seed alone, so that the same seed gives the same plan."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from chaos import bulks, events
from chaos.actors import Actors

T = TypeVar("T")

BOTH: Final = "both"
LEADER: Final = "leader"
OTHER: Final = "other"
_BEFORE: Final = 20.0
"""Seconds between the first objects and the storm: an earlier limit is overdue when the operator first sees it."""
LONGER_THAN_THE_LEASE: Final = 17.0
"""Seconds; and than the 10 in which a leader must renew it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`at`: seconds from the begin of its storm. `target`: a replica's role, or the name of an object."""

    at: float
    kind: str
    target: str = ""
    seconds: float = 0.0
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = (self.target, f"{self.seconds:.1f} s" if self.seconds else "", str(dict(self.detail) or ""))
        return " ".join((f"{self.at:6.2f}", self.kind, *filter(None, parts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The size of a run, in seconds. `pace`: actions of actors a second; `patience`: longest calm period."""

    objects: int
    storms: int
    storm: float
    pace: float
    patience: float
    ignoring: bool
    """Whether some jobs ignore their first termination: the operator sends it again after a minute."""
    with_events: int
    """Between two polls of a job while events arrive; without them it is one second."""
    lasts: float = math.inf
    """Seconds after which no new storm begins."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    shape: Shape
    opening: Sequence[Step]
    """The objects that are there before the first storm."""
    storms: Sequence[Sequence[Step]]


SHORT: Final = Shape(objects=60, storms=1, storm=18.0, pace=6.0, patience=45.0, ignoring=False, with_events=5)


def long_shape(minutes: float) -> Shape:
    """Storms of 100 s, as many as begin within that time: the calm after each takes from 5 to 90 s."""
    storms = max(1, math.ceil(minutes * 60 / 100))
    # A job may ignore one call, and a 200 without effect may follow: sent again after 60 s, and after 120 more.
    times: dict[str, float] = {"storm": 100.0, "pace": 6.0, "patience": 240.0, "lasts": minutes * 60}
    return Shape(objects=520, storms=storms, ignoring=True, with_events=20, **times)


def make_plan(seed: int, shape: Shape) -> Plan:
    dice = random.Random(seed)
    actors = Actors(dice, ignoring=shape.ignoring, longest=shape.storm + _BEFORE)
    opening = [
        Step(at=0.0, kind=kind, target=name, detail=detail) for kind, name, detail in actors.arrive(shape.objects)
    ]
    storms = [_storm(dice, actors, shape, number) for number in range(shape.storms)]
    return Plan(seed, shape, opening, storms)


def _storm(dice: random.Random, actors: Actors, shape: Shape, number: int) -> list[Step]:
    actions = [action for _ in range(int(shape.storm * shape.pace)) for action in actors.action(shape.objects)]
    # What actors do has an order: an object is created before it is patched.
    times = sorted(dice.uniform(0, shape.storm) for _ in actions)
    steps = [
        Step(at=at, kind=kind, target=name, detail=detail)
        for at, (kind, name, detail) in zip(times, actions, strict=True)
    ]
    steps += [Step(at=at, kind=kind, target=name) for at, kind, name in bulks.plan(dice, shape.storm, number)]
    steps += [
        Step(at=at, kind=kind, seconds=seconds, detail=detail)
        for at, kind, seconds, detail in events.plan(dice, shape.storm)
    ]
    steps += _major_faults(dice, shape.storm)
    steps += _minor_faults(dice, shape.storm, ignoring=shape.ignoring)
    return sorted(steps, key=lambda step: step.at)


# -- major faults, which cost a leader its Lease. One at a time: after most of them nobody acts for 15 s ---------------


def _major_faults(dice: random.Random, storm: float) -> Iterator[Step]:
    """One in each 20 s, in the middle of its slot; a SIGTERM, which costs 2 s, before it."""
    slots = max(1, round(storm / _SLOT))
    chosen = _shuffled(dice, _MAJOR_FAULTS, slots)
    for number in range(slots):
        begin, length = number * storm / slots, storm / slots
        yield Step(at=begin + dice.uniform(0.05, 0.25) * length, kind="term", target=dice.choice((LEADER, OTHER)))
        fault, target, seconds = chosen[number]
        yield Step(
            at=begin + dice.uniform(0.55, 0.7) * length,
            kind=fault,
            target=target,
            seconds=seconds * dice.uniform(1.0, 1.2),
        )


_MAJOR_FAULTS: Final = (
    ("kill", LEADER, 0.0),
    ("freeze", LEADER, LONGER_THAN_THE_LEASE),
    ("crash_in_call", LEADER, 0.0),
    ("hang", LEADER, LONGER_THAN_THE_LEASE),
    ("kill", BOTH, 0.0),
    ("lost_in_call", LEADER, 12.0),
    ("refuse", LEADER, LONGER_THAN_THE_LEASE),
    ("term", BOTH, 0.0),
    ("freeze", BOTH, 12.0),
)

# -- minor faults, which a leader should survive -----------------------------------------------------------------------


def _minor_faults(dice: random.Random, storm: float, *, ignoring: bool) -> Iterator[Step]:
    # Early, while there is a leader, and more of it than boto3's own attempts survive.
    refusal = {"operation": "TerminateJob", "kind": dice.choice(_REFUSALS[:4]), "times": 30}
    yield Step(at=dice.uniform(0.02, 0.06) * storm, kind="fault", detail=refusal)
    faults = (*_MINOR_FAULTS, *_LOST_CALLS) if ignoring else _MINOR_FAULTS
    for kind, target, (least, most), detail in _shuffled(dice, faults, max(len(faults), int(storm / 1.5))):
        # A short storm has time for one major fault, which needs a leader: what ends replicas comes before.
        latest = 0.3 if kind in _CROWDING and storm < 2 * _SLOT else 0.98
        yield Step(
            at=dice.uniform(0.02, latest) * storm,
            kind=kind,
            target=target,
            seconds=dice.uniform(least, most),
            detail={key: dice.choice(value) if isinstance(value, tuple) else value for key, value in detail.items()},
        )


_REFUSALS: Final = ("throttle_429", "bare_429", "limit_429", "throttle_400", "server_500", "html_502", "empty_503")
_SLOT: Final = 20.0
_CROWDING: Final = frozenset({"kill", "freeze", "hang", "refuse", "restart", "gone_on_watch"})
_TIMES: Final = (1, 2, 3, 4, 6, 9)
_LIST_FAULTS: Final = ("server_500", "html_502", "throttle_429", "reset", "cut_200", "repeat_page", "slow")
_ENDS: Final = ("TerminateJob", "TerminateJobs", "*")
_Fault = tuple[str, str, tuple[float, float], Mapping[str, Any]]
"""Kind, target, between how many seconds, details; a tuple among these is a choice."""
_MINOR_FAULTS: Final[tuple[_Fault, ...]] = (
    ("kill", OTHER, (0, 0), {}),
    ("freeze", LEADER, (1, 5), {}),
    ("freeze", OTHER, (2, 10), {}),
    ("restart", "", (0.3, 2), {}),
    ("hang", BOTH, (1, 4), {"cut": (True, False)}),
    ("hang", OTHER, (2, 10), {"cut": (True, False)}),
    ("refuse", OTHER, (2, 8), {}),
    ("refuse", LEADER, (0.5, 4), {}),
    ("cut", BOTH, (0, 0), {}),
    ("cut", LEADER, (0, 0), {}),
    ("watches_cut", "", (0, 0), {}),
    ("gone_in_stream", "", (0, 0), {}),
    ("gone_on_watch", "", (0, 0), {}),
    ("gone_on_page", "", (0, 0), {}),
    ("fault", "", (0, 0), {"operation": _ENDS, "kind": _REFUSALS, "times": _TIMES}),
    ("fault", "", (0, 0), {"operation": "DescribeJobs", "kind": _REFUSALS, "times": _TIMES}),
    ("fault", "", (0, 0), {"operation": _ENDS, "kind": ("reset", "empty_504"), "times": _TIMES, "act_then": True}),
    ("fault", "", (0, 0), {"operation": _ENDS, "kind": _REFUSALS, "times": (1, 2, 3), "act_then": True}),
    ("fault", "", (0, 0), {"operation": "DescribeJobs", "kind": ("cut_200", "empty_200", "reset"), "times": _TIMES}),
    ("fault", "", (0, 0), {"operation": "*", "kind": "slow", "times": _TIMES, "seconds": (0.3, 1.0, 2.5)}),
    ("fault", "", (0, 0), {"operation": _ENDS, "kind": "slow", "times": 2, "seconds": (1.0, 4.0), "act_then": True}),
    ("fault", "", (0, 0), {"operation": _ENDS, "kind": "slow", "times": 1, "seconds": 11.0, "act_then": (True, False)}),
    ("limit", "", (1, 5), {"rate": (1, 3, 5)}),
    ("jump", "", (1, 30), {}),
    # Lists of a queue stand for polls. Those of BatchTerminations have the same faults, so there are few of them.
    ("fault", "", (0, 0), {"operation": "ListJobs", "kind": _LIST_FAULTS, "times": (1, 2, 3)}),
    ("expire_tokens", "", (0, 0), {}),
)
_LOST_CALLS: Final[tuple[_Fault, ...]] = (
    # Taken for an acceptance, since TerminateJob's answer is empty anyway; only time shows that nothing came of it.
    ("fault", "", (0, 0), {"operation": "TerminateJob", "kind": ("cut_200", "empty_200"), "times": 1}),
)


def _shuffled(dice: random.Random, faults: Sequence[T], count: int) -> list[T]:
    """`count` of them, each once before any comes again."""
    found: list[T] = []
    while len(found) < count:
        found += dice.sample(faults, len(faults))
    return found[:count]
