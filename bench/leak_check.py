"""Whether a figure of a process stays flat: a robust line through the samples after the first quarter."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import median
from typing import Final

ALLOWED: Final = 5.0
"""Per cent by which a figure may grow from the end of the first quarter to the end."""
_WINDOWS: Final = 9
_FIRST_QUARTER: Final = 0.25


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment, `at` seconds after the start. MiB, and counts.

    By the operator's own metrics: `tracked` objects, and `writes` of a status since it started. `ended` jobs so far.
    """

    at: float
    resident: float
    proportional: float
    files: int
    threads: int
    tracked: int
    writes: int
    ended: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """`level`: at the end of the first quarter. `growth`: per cent of it until the end; NaN without enough samples."""

    figure: str
    unit: str
    level: float
    growth: float

    @property
    def flat(self) -> bool:
        return self.growth <= ALLOWED

    def __str__(self) -> str:
        found = f"{self.figure}: {self.level:,.1f}{self.unit} after the first quarter, {self.growth:+.1f} % at the end"
        return f"{found} - {'flat' if self.flat else 'NOT FLAT'}"


# Proportional memory is shown but not judged: it grows when another process that shared pages ends.
_FIGURES: Final[Sequence[tuple[str, str, Callable[[Sample], float]]]] = (
    ("memory, resident", " MiB", lambda sample: sample.resident),
    ("open files", "", lambda sample: sample.files),
    ("threads", "", lambda sample: sample.threads),
    ("objects tracked", "", lambda sample: sample.tracked),
)


def outcomes(samples: Sequence[Sample]) -> list[Outcome]:
    """One for each figure."""
    end = max((sample.at for sample in samples), default=0.0)
    later = [sample for sample in samples if sample.at >= _FIRST_QUARTER * end]
    return [
        Outcome(figure, unit, *_line([sample.at for sample in later], [value(sample) for sample in later]))
        for figure, unit, value in _FIGURES
    ]


def kept_up(last: Sample, *, lingering: float) -> bool:
    """Whether both statuses of each deleted object were written, active and ended: an idle operator is flat too."""
    return last.writes >= 2 * (last.ended - lingering)


def _line(moments: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Level at the first moment, and growth until the last in per cent.

    The median of all slopes between medians of windows: neither a spike nor a lucky last sample decides.
    """
    if len(moments) < 2 * _WINDOWS:
        return math.nan, math.nan
    bounds = [round(number * len(moments) / _WINDOWS) for number in range(_WINDOWS + 1)]
    windows = [slice(start, stop) for start, stop in pairwise(bounds)]
    dots = [(median(moments[window]), median(values[window])) for window in windows]
    slope = median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(dots, 2))
    level = median(y - slope * (x - moments[0]) for x, y in dots)
    return level, 100 * slope * (moments[-1] - moments[0]) / level
