"""What the engine is given of the world outside; in tests, fakes on virtual time."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from awsbatch_operator.domain.job import Millis
from awsbatch_operator.domain.ports import Batch, Objects, Telemetry


def wall_clock() -> Millis:
    return time.time_ns() // 1_000_000


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Ports:
    """The world outside. `acting` is the elector's clock: it says no even before `follow` was told."""

    batch: Batch
    objects: Objects
    telemetry: Telemetry
    now: Callable[[], Millis] = wall_clock
    jitter: Callable[[float, float], float] = random.uniform
    acting: Callable[[], bool] = _always
