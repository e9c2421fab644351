"""Figures, kept as a list."""

from collections import Counter

from awsbatch_operator.api.interfaces import CallLabels, EventResult


class FakeTelemetry:
    """Implements `Telemetry`."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.describe_sizes: list[int] = []
        self.terminate_sizes: list[int] = []
        self.labels: list[CallLabels] = []
        self.polls: list[tuple[str, float]] = []
        self.polled_at: dict[CallLabels, float] = {}
        self.forgotten_of: list[CallLabels] = []
        self.accepted: list[float] = []
        self.completed: list[float] = []
        self.writes: Counter[str] = Counter()
        self.events: Counter[EventResult] = Counter()
        self.event_delays: list[float] = []
        self.is_leader = False
        self.orphans = 0
        self.depths: dict[str, int] = {}

    def aws_request(self, operation: str, code: str, seconds: float, labels: CallLabels) -> None:
        assert seconds >= 0
        self.requests.append((operation, code))
        self.labels.append(labels)

    def describe_batch(self, size: int) -> None:
        self.describe_sizes.append(size)

    def terminate_batch(self, size: int) -> None:
        self.terminate_sizes.append(size)

    def polled(self, at: float, labels: CallLabels) -> None:
        self.polls.append((labels.region, at))
        self.polled_at[labels] = at

    def forget(self, labels: CallLabels) -> None:
        self.forget_polls(labels)
        self.forgotten_of.append(labels)

    def forget_polls(self, labels: CallLabels) -> None:
        self.polled_at.pop(labels, None)

    def termination_accepted(self, seconds: float) -> None:
        self.accepted.append(seconds)

    def termination_completed(self, seconds: float) -> None:
        self.completed.append(seconds)

    def status_write(self, result: str) -> None:
        self.writes[result] += 1

    def orphaned(self) -> None:
        self.orphans += 1

    def event_received(self, result: EventResult) -> None:
        self.events[result] += 1

    def event_delay(self, seconds: float) -> None:
        self.event_delays.append(seconds)

    def leading(self, *, yes: bool) -> None:
        self.is_leader = yes
