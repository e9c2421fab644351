"""When a job is looked at again. All times in milliseconds; jitter is the engine's."""

from dataclasses import dataclass

from awsbatch_operator.domain.errors import Fate
from awsbatch_operator.domain.job import Millis

SECOND = 1_000
MINUTE = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Cadence:
    """The waits that users may set, with their defaults."""

    running: Millis = 30 * SECOND
    pending: Millis = 60 * SECOND
    absence_grace: Millis = 2 * MINUTE
    resend_after: Millis = 60 * SECOND

    def alive(self, *, running: bool) -> Millis:
        return self.running if running else self.pending

    def absence(self, age: Millis) -> Millis:
        """Until the next look at a job that is absent for `age`: four looks spread over the grace."""
        return max(min(self.absence_grace // 3, self.absence_grace - age), SECOND)

    def resend(self, requests: int) -> Millis:
        """How long Batch may show no sign of the latest of so many accepted requests."""
        return min(self.resend_after << min(max(requests - 1, 0), 10), max(RESEND_MAX, self.resend_after))

    @property
    def longest(self) -> Millis:
        """No wait is longer than this one."""
        return max(self.running, self.pending, self.absence_grace // 3, MISSING, REFUSED)


LOOKS_TO_BELIEVE_ABSENCE = 3
MISSING = 5 * MINUTE
REFUSED = 5 * MINUTE
RESEND_MAX = 15 * MINUTE
DELAYED_AFTER = 10 * MINUTE
STUCK_AFTER = 30 * MINUTE
TERMINATING_MAX = 15 * SECOND
_BACKOFF_MAX = 60 * SECOND


def terminating(age: Millis) -> Millis:
    """Until the next look after a request of this age: 1, 2, 4 and 8 s, then every 15 s."""
    return min(age + SECOND, TERMINATING_MAX)


def look_backoff(fate: Fate, failures: int) -> Millis:
    """Until the next look after so many failed ones in a row."""
    if fate in (Fate.DENIED, Fate.REJECTED):
        return REFUSED
    cap = REFUSED if fate is Fate.CREDENTIALS else _BACKOFF_MAX
    return min(SECOND << min(failures - 1, 10), cap)


def call_backoff(fate: Fate, refusals: int) -> Millis:
    """Until TerminateJob is tried again after so many refusals in a row: a job that burns money waits at most 15 s."""
    if fate.passes:
        return min(SECOND << min(refusals - 1, 10), TERMINATING_MAX)
    return look_backoff(fate, refusals)
