"""Values in an answer of AWS Batch, as far as a status can keep them: None for what it can't."""

import re
import sys
from functools import lru_cache
from typing import Final

from awsbatch_operator.api.timestamps import Millis

MAX_TEXT: Final = 1024
"""Characters of a text that are kept: a termination's reason, the longest text that AWS accepts, stays whole."""

UNKNOWN: Final = "UNKNOWN"
"""The status of a job in an answer without one."""

_LAST_MILLI: Final = 253_402_300_799_999
"""The end of the year 9999: no later moment can be written in RFC 3339."""

_ARN: Final = re.compile(r"arn:[a-z-]+:batch:([a-z0-9-]+):([0-9]{12}):")


def is_foreign(arn: str | None, region: str, account: str | None) -> bool:
    """Return False for an ARN that can't be parsed: the request was signed with the right credentials."""
    found = _origin(arn.partition("/")[0]) if arn else None
    return found is not None and (found[0] != region or account not in (None, found[1]))


@lru_cache(maxsize=512)
def _origin(arn: str) -> tuple[str, str] | None:
    """Returns region and account of a job's ARN without its id."""
    found = _ARN.match(arn)
    return (found[1], found[2]) if found else None


def text(value: str | None) -> str | None:
    """Returns at most MAX_TEXT characters; None for an empty text."""
    if not value:
        return None
    return value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"


def shared(value: str | None) -> str | None:
    """A text that many jobs have in common is kept once: ten thousand jobs are in few queues."""
    kept = text(value)
    return None if kept is None else sys.intern(kept)


def int64(number: int | None) -> int | None:
    return number if number is not None and -(2**63) <= number < 2**63 else None


def count(number: int | None) -> int | None:
    return number if number is not None and 0 <= number < 2**63 else None


def moment(number: int | None) -> Millis | None:
    return number if number is not None and 0 < number <= _LAST_MILLI else None
