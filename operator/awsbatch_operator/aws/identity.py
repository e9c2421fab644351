"""Whose account the operator's own credentials are of."""

import time
from collections.abc import Callable
from typing import Final

from awsbatch_operator.aws.errors import AWS_ERRORS

AGAIN_AFTER: Final = 300.0
"""Seconds from a question that got no answer to the next: where STS can't be reached, each costs a look two seconds."""


Identify = Callable[[str, str | None, bool], str | None]
"""As Connector.account: from a region, what an answer from there showed, and whether STS may be asked."""


def by_what_is_shown(_region: str, shown: str | None, _ask: bool) -> str | None:
    return shown


class Identity:
    """`account` is None while it is not known; `named` is the last that was. Learns in worker threads."""

    def __init__(self, identify: Identify, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._identify, self._monotonic = identify, monotonic
        self._failed_at = float("-inf")
        self.account: str | None = None
        self.named = ""

    def learn(self, region: str, shown: str | None = None, *, needed: bool = False) -> None:
        """`shown`: by an answer to a call with these credentials. `needed`: it is worth a call of its own."""
        ask = needed and self._monotonic() - self._failed_at >= AGAIN_AFTER
        try:
            account = self._identify(region, shown, ask)
        except AWS_ERRORS:
            account, self._failed_at = None, self._monotonic()
        if account or needed:
            self.account = account
        self.named = account or self.named
