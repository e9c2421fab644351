"""The dependencies of the controller; in tests, fakes on virtual time."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from awsbatch_operator.api.interfaces import BatchJobClient, BatchProvider, EventSource, Telemetry
from awsbatch_operator.api.timestamps import Millis


def wall_clock() -> Millis:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Dependencies:
    """`is_leader` reads the elector's clock: it is False even before the elector has reported the loss.

    None: there is no election.
    """

    provider: BatchProvider
    client: BatchJobClient
    telemetry: Telemetry
    events: EventSource
    now: Callable[[], Millis] = wall_clock
    jitter: Callable[[float, float], float] = random.uniform
    is_leader: Callable[[], bool] | None = None


class Leadership:
    """`is_leading`: between the elector's start and stop of the leadership. `is_leader`: see Dependencies."""

    def __init__(self, is_leader: Callable[[], bool] | None) -> None:
        self._is_leader = is_leader
        self.is_leading = False

    def may_act(self) -> bool:
        """Checked right before each call and write: a process that was frozen learns late that it lost the Lease."""
        return self.is_leading and (self._is_leader is None or self._is_leader())
