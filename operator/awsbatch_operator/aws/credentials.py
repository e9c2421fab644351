"""The credentials of one session of a role: had anew ahead of their end, and used on while STS is away."""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.credentials import RefreshableCredentials

from awsbatch_operator.aws.errors import NotAssumedError
from awsbatch_operator.domain.errors import Fate, Fault

REFRESH_AHEAD: Final = 600
"""Seconds before their end from which credentials of a role are to be had anew, with the next call."""

FAILED_FOR: Final = 30.0
"""Seconds for which a refresh that failed is not tried again while the credentials live."""

_TOGETHER: Final = 1.0
"""Seconds within which calls that waited for the same attempt are answered by it."""

_ENOUGH: Final = dt.timedelta(seconds=30)
"""What credentials must have left to be used."""

_NEVER: Final = dt.datetime.fromtimestamp(0, dt.UTC)

Now = Callable[[], dt.datetime]


class AssumedRole:
    """Where the credentials of one session come from: what botocore's RefreshableCredentials call to have new ones.

    While those that are known live, a refresh that fails for a reason which may pass changes nothing.
    """

    def __init__(self, assume: Callable[[], Mapping[str, Any]], now: Now, monotonic: Callable[[], float]) -> None:
        self._assume, self._now, self._monotonic = assume, now, monotonic
        self._given: dict[str, str] | None = None
        self._ends = _NEVER
        self._failed: tuple[Fault, float] | None = None

    def __call__(self) -> dict[str, str]:
        """Raises NotAssumedError. botocore lets one thread in at a time."""
        living = self._given if self._ends - self._now() > _ENOUGH else None
        fault = self._still_failing(FAILED_FOR if living else _TOGETHER) or self._fetch()
        if fault is not None:
            if living is None or fault.fate is Fate.DENIED:
                raise NotAssumedError(fault)
            return living
        assert self._given is not None
        return self._given

    def credentials(self, method: str) -> RefreshableCredentials:
        """Those of the session: none yet, they are asked for when the first request is signed."""
        return RefreshableCredentials(
            *("", "", "", _NEVER, self, method, self._now),
            advisory_timeout=REFRESH_AHEAD,
            mandatory_timeout=REFRESH_AHEAD,
        )

    def _still_failing(self, seconds: float) -> Fault | None:
        if self._failed is None or self._monotonic() - self._failed[1] >= seconds:
            return None
        return self._failed[0]

    def _fetch(self) -> Fault | None:
        try:
            given, ends = _read(self._assume(), self._now())
        except NotAssumedError as error:
            self._failed = error.fault, self._monotonic()
            return error.fault
        self._given, self._ends, self._failed = given, ends, None
        return None


def _read(answer: Mapping[str, Any], now: dt.datetime) -> tuple[dict[str, str], dt.datetime]:
    given = answer.get("Credentials") or {}
    ends = given.get("Expiration")
    keys = {"access_key": "AccessKeyId", "secret_key": "SecretAccessKey", "token": "SessionToken"}
    read = {ours: str(given.get(theirs) or "") for ours, theirs in keys.items()}
    if not all(read.values()) or not isinstance(ends, dt.datetime):
        raise NotAssumedError(unreadable("no credentials in it"))
    if ends <= now:
        raise NotAssumedError(unreadable("its credentials have ended already; check this machine's clock"))
    return read | {"expiry_time": ends.isoformat()}, ends


def unreadable(why: str) -> Fault:
    return Fault(Fate.UNAVAILABLE, f"AssumeRole gave an answer that can't be used: {why}", "UnreadableAnswer")
