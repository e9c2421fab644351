"""Epoch milliseconds and the three formats in which Kubernetes writes a time."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

Millis = int
"""A time: milliseconds since the Unix epoch, UTC, as in AWS Batch. Or a duration in milliseconds."""

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

_DURATION: Final = re.compile(r"(?:([0-9]{1,5})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,7})s)?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH: Final = _EPOCH.replace(tzinfo=None)
_MILLI: Final = timedelta(milliseconds=1)
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLI
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLI


def _utc(at: Millis, timespec: str) -> str:
    # RFC 3339 can't express years outside 1..9999; the nearest year is better than a status that is never written.
    if not _FIRST <= at <= _LAST:
        at = min(max(at, _FIRST), _LAST)
    # Formatting without a zone is twice as fast; one status has nine of these.
    return (_NAIVE_EPOCH + timedelta(0, at // 1000, at % 1000 * 1000)).isoformat("T", timespec) + "Z"


# A status is compared with what is shown before and after its write, and its conditions often have one time.
@lru_cache(maxsize=256)
def date_time(at: Millis) -> str:
    """Format as RFC 3339 in UTC with milliseconds, `2026-11-23T10:00:00.123Z`: the resolution of AWS Batch."""
    return _utc(at, "milliseconds")


@lru_cache(maxsize=256)
def meta_time(at: Millis) -> str:
    """Format as metav1.Time, `2026-11-23T10:00:00Z`: whole seconds, rounded down; clients reject a fraction."""
    return _utc(at, "seconds")


def micro_time(at: Millis) -> str:
    """Format as metav1.MicroTime, `2026-11-23T10:00:00.123000Z`, as Events and Leases need it."""
    return _utc(at, "microseconds")


def parse(text: object) -> Millis | None:
    """Parse RFC 3339 to milliseconds, rounded down; None for everything else, also for a time without a zone."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return None if time.tzinfo is None else (time - _EPOCH) // _MILLI


def parse_duration(text: str) -> Millis | None:
    """Parse hours, minutes and seconds such as `1h30m`; None for everything else, and for zero."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return (hours * HOUR + minutes * MINUTE + seconds * SECOND) or None
