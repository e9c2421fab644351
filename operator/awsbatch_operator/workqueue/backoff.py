"""The one back-off formula of the project."""

from typing import Final

_MOST_DOUBLINGS: Final = 64
"""2**64 exceeds any delay; larger powers of two do not fit into a float."""


def backoff(failures: int, first: float, longest: float) -> float:
    """Return the seconds to wait after so many failures in a row: `first`, doubled with each failure, up to `longest`.

    Without a failure there is nothing to wait for: 0.
    """
    if failures <= 0:
        return 0.0
    return min(first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), longest)
