"""The default event buses of EventBridge: rules, their targets, and how reliably they deliver."""

import datetime as dt
import json
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from awsbatch_sandbox.events.queue import Queue

JSON = dict[str, Any]
JOB_STATE_CHANGE: Final = "Batch Job State Change"
JOB_QUEUE_BLOCKED: Final = "Batch Job Queue Blocked"
PATTERN: Final[JSON] = {
    "source": ["aws.batch", "awsbatch.dev"],
    "detail-type": [JOB_STATE_CHANGE, JOB_QUEUE_BLOCKED, "awsbatch-operator canary"],
}
"""The event pattern that the operator's documentation states."""


@dataclass(frozen=True, slots=True)
class Event:
    """`at`: epoch milliseconds. `detail` makes the detail: most rules need no more of it than `ids` has.

    `ids`: jobId, jobQueue and status of the detail.
    """

    source: str
    detail_type: str
    account: str
    region: str
    at: int
    resources: Sequence[str]
    ids: Mapping[str, Any]
    detail: Callable[[], JSON]

    @property
    def time(self) -> str:
        """In whole seconds, as on AWS."""
        return dt.datetime.fromtimestamp(self.at // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def envelope(self) -> JSON:
        """The whole event but for its detail."""
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": self.detail_type,
            "source": self.source,
            "account": self.account,
            "time": self.time,
            "region": self.region,
            "resources": list(self.resources),
        }

    def transformed(self) -> JSON:
        """The output of the input transformer that the operator's documentation states."""
        return {**self.ids, "time": self.time, "region": self.region, "account": self.account}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Delivery of events to a queue. Probabilities are 0 to 1, durations seconds.

    `duplicates`: that an event is delivered twice. `disorder`: that one comes up to `late` seconds after its turn.
    `losses`: that one is never delivered. `delay`: of every event. `seed`: of the dice.
    """

    duplicates: float = 0.0
    disorder: float = 0.0
    losses: float = 0.0
    delay: float = 0.0
    late: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("duplicates", "disorder", "losses"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability, 0 to 1, got {getattr(self, name)}")
        for name in ("delay", "late"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(slots=True, eq=False)
class Rule:
    """Delivers the events of `sources` (account and region, each None for any) that match `pattern` to a queue.

    `transformed`: only ids reach the queue, else the whole event.
    """

    queue: Queue
    sources: Sequence[tuple[str | None, str | None]]
    pattern: Mapping[str, Any] = field(default_factory=lambda: PATTERN)
    transformed: bool = True
    enabled: bool = True
    delivery: Delivery = field(default_factory=Delivery)
    dice: random.Random = field(default_factory=lambda: random.Random(0))

    def deliver_by(self, delivery: Delivery) -> None:
        self.delivery, self.dice = delivery, random.Random(delivery.seed)

    def matches(self, event: Event) -> bool:
        here = any(a in (None, event.account) and r in (None, event.region) for a, r in self.sources)
        return self.enabled and here and _matches(self.pattern, event)

    def deliver(self, event: Event) -> None:
        chance, how = self.dice.random, self.delivery
        if chance() < how.losses:
            return
        body = event.transformed() if self.transformed else event.envelope() | {"detail": event.detail()}
        text = json.dumps(body, separators=(",", ":"))
        self.queue.send(text, delay=how.delay + (how.late * chance() if chance() < how.disorder else 0.0))
        if chance() < how.duplicates:
            self.queue.send(text, delay=how.delay + how.late * chance())


class EventBus:
    """The default event bus of every account and region."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def publish(self, event: Event) -> None:
        for rule in self.rules:
            if rule.matches(event):
                rule.deliver(event)


def _matches(pattern: Mapping[str, Any], event: Event) -> bool:
    shown: JSON = {"source": event.source, "detail-type": event.detail_type}
    if not all(shown[name] in pattern[name] for name in shown if name in pattern):
        return False
    rest = {name: wanted for name, wanted in pattern.items() if name not in shown}
    return not rest or _within(rest, event.envelope() | {"detail": event.detail()})


def _within(pattern: Mapping[str, Any], value: Any) -> bool:
    """Whether each field of the pattern has one of its values: of the forms of EventBridge, exact matching only."""
    if not isinstance(value, Mapping):
        return False
    for name, wanted in pattern.items():
        found = value.get(name)
        if isinstance(wanted, Mapping):
            if not _within(wanted, found):
                return False
        elif not set(wanted).intersection(found if isinstance(found, list) else [found]):
            return False
    return True
