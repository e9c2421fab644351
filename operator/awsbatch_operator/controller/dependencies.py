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
