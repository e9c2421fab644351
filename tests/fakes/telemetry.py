"""Figures, kept as a list."""

from collections import Counter

from awsbatch_operator.domain.ports import Whose


class FakeTelemetry:
    """Implements `domain.ports.Telemetry`."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.describe_sizes: list[int] = []
        self.terminate_sizes: list[int] = []
        self.whose: list[Whose] = []
        self.looks: list[tuple[str, float]] = []
        self.looked_at: dict[Whose, float] = {}
        self.forgotten_of: list[Whose] = []
        self.accepted: list[float] = []
        self.completed: list[float] = []
        self.writes: Counter[str] = Counter()
        self.leads = False
        self.depths: dict[str, int] = {}

    def aws_request(self, operation: str, code: str, seconds: float, whose: Whose) -> None:
        assert seconds >= 0
        self.requests.append((operation, code))
        self.whose.append(whose)

    def describe_batch(self, size: int) -> None:
        self.describe_sizes.append(size)

    def terminate_batch(self, size: int) -> None:
        self.terminate_sizes.append(size)

    def looked(self, at: float, whose: Whose) -> None:
        self.looks.append((whose.region, at))
        self.looked_at[whose] = at

    def forgotten(self, whose: Whose) -> None:
        self.unused(whose)
        self.forgotten_of.append(whose)

    def unused(self, whose: Whose) -> None:
        self.looked_at.pop(whose, None)

    def termination_accepted(self, seconds: float) -> None:
        self.accepted.append(seconds)

    def termination_completed(self, seconds: float) -> None:
        self.completed.append(seconds)

    def status_write(self, result: str) -> None:
        self.writes[result] += 1

    def leading(self, *, yes: bool) -> None:
        self.leads = yes

    def queue_depth(self, lane: str, depth: int) -> None:
        self.depths[lane] = depth
