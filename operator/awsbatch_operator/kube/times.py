"""Epoch milliseconds and the three ways in which Kubernetes writes a moment."""

from datetime import UTC, datetime, timedelta
from typing import Final

from awsbatch_operator.domain.job import Millis

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH: Final = _EPOCH.replace(tzinfo=None)
_MILLI: Final = timedelta(milliseconds=1)
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLI
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLI


def _utc(at: Millis, timespec: str) -> str:
    # Years outside 1..9999 can't be written in RFC 3339; the nearest that can is better than a status never written.
    if not _FIRST <= at <= _LAST:
        at = min(max(at, _FIRST), _LAST)
    # Without a zone it takes half the time; nine of these go into one status.
    return (_NAIVE_EPOCH + timedelta(0, at // 1000, at % 1000 * 1000)).isoformat("T", timespec) + "Z"


def date_time(at: Millis) -> str:
    """RFC 3339 in UTC with milliseconds, `2026-11-23T10:00:00.123Z`: what Batch's own times are exact to."""
    return _utc(at, "milliseconds")


def meta_time(at: Millis) -> str:
    """A metav1.Time, `2026-11-23T10:00:00Z`: whole seconds, rounded down; clients refuse a fraction."""
    return _utc(at, "seconds")


def micro_time(at: Millis) -> str:
    """A metav1.MicroTime, `2026-11-23T10:00:00.123000Z`, as Events and Leases want it."""
    return _utc(at, "microseconds")


def parse(text: object) -> Millis | None:
    """Milliseconds of any RFC 3339 text, finer fractions cut off; None for everything else, a time without zone too."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return None if moment.tzinfo is None else (moment - _EPOCH) // _MILLI
