"""Intervals of polls and retries, in milliseconds; the controller adds jitter."""

from dataclasses import dataclass, field
from typing import Final

from awsbatch_operator.api.errors import ErrorClass
from awsbatch_operator.api.timestamps import MINUTE, SECOND, Millis
from awsbatch_operator.workqueue.backoff import backoff

POLLS_UNTIL_MISSING: Final = 3
MISSING_INTERVAL: Final = 5 * MINUTE
REFUSED_INTERVAL: Final = 5 * MINUTE
RESEND_LONGEST: Final = 15 * MINUTE
DELAYED_AFTER: Final = 10 * MINUTE
STUCK_AFTER: Final = 30 * MINUTE
TERMINATING_LONGEST: Final = 15 * SECOND
_TRANSIENT_LONGEST: Final = 60 * SECOND


@dataclass(frozen=True, slots=True)
class PollIntervals:
    """The times that users can set, with their defaults.

    `on_delete_timeout`: how long the finalizer holds an object; None: spec.onDelete is disabled. `with_events`: between
    two polls of a job of which events report each change.
    """

    running: Millis = 30 * SECOND
    pending: Millis = 60 * SECOND
    missing_grace: Millis = 2 * MINUTE
    resend_after: Millis = 60 * SECOND
    on_delete_timeout: Millis | None = None
    with_events: Millis = 5 * MINUTE
    longest: Millis = field(init=False)
    """No interval is longer."""

    def __post_init__(self) -> None:
        longest = max(self.running, self.pending, self.missing_grace // 3, MISSING_INTERVAL, REFUSED_INTERVAL)
        object.__setattr__(self, "longest", longest)

    def missing(self, age: Millis) -> Millis:
        """Until the next poll of a job that has been missing for `age`: four polls within the grace."""
        return max(min(self.missing_grace // 3, self.missing_grace - age), SECOND)

    def resend(self, requests: int) -> Millis:
        """Return the delay until the next request after so many accepted ones, if the job does not show them."""
        return int(backoff(max(requests, 1), self.resend_after, max(RESEND_LONGEST, self.resend_after)))


def terminating(age: Millis) -> Millis:
    """Until the next poll after a request of this age: 1, 2, 4 and 8 s, then every 15 s."""
    return min(age + SECOND, TERMINATING_LONGEST)


def poll_backoff(error_class: ErrorClass, failures: int) -> Millis:
    """Until the next poll after so many failed ones in a row."""
    if error_class in (ErrorClass.DENIED, ErrorClass.REJECTED):
        return REFUSED_INTERVAL
    longest = REFUSED_INTERVAL if error_class is ErrorClass.CREDENTIALS else _TRANSIENT_LONGEST
    return int(backoff(failures, SECOND, longest))


def terminate_backoff(error_class: ErrorClass, failures: int) -> Millis:
    """Until TerminateJob is sent again after so many failures in a row: after a transient error at most 15 s."""
    if error_class.transient:
        return int(backoff(failures, SECOND, TERMINATING_LONGEST))
    return poll_backoff(error_class, failures)
