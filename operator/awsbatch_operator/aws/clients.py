"""boto3 clients of one set of credentials: one for each lane and region, made on demand, anew when those failed."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import boto3
from botocore.exceptions import BotoCoreError

THREADS: Final = 4
"""Calls at once of one lane of one role's place; threads and connections exist only once they are needed."""

OWN_THREADS: Final = 16
"""The same with the operator's own credentials, in all regions together."""

RENEW_EVERY: Final = 10.0
"""Seconds between two renewals of session and clients, each of which asks for credentials anew."""


class SettingsError(ValueError):
    """The AWS settings of this process cannot be understood; says which variable to mend."""


class BatchClient(Protocol):
    """What is used of boto3's client."""

    def describe_jobs(self, *, jobs: Sequence[str]) -> Mapping[str, Any]: ...
    def terminate_job(self, *, jobId: str, reason: str) -> Mapping[str, Any]: ...  # noqa: N803 (the SDK's own spelling)
    def terminate_jobs(self, *, jobs: Sequence[str], reason: str) -> Mapping[str, Any]: ...
    def close(self) -> None: ...


MakeClient = Callable[[str], BatchClient]
"""From a region to a client of its own connections."""


class Renewals:
    """Of what is made anew when its credentials failed, at most once in RENEW_EVERY seconds. Its owner holds a lock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic, self._latest = monotonic, float("-inf")
        self.count = 0

    def once(self, failed: int, renew: Callable[[], None], *, made_at: float = float("-inf")) -> bool:
        """Whether there is something new to try with; False when that was made a moment ago, as at `made_at`.

        `failed`: the count at which what failed was taken. When it is past already, there is nothing to do.
        """
        if failed != self.count:
            return True
        now = self._monotonic()
        if now - max(self._latest, made_at) < RENEW_EVERY:
            return False
        self._latest = now
        self.count += 1
        renew()
        return True


class Clients:
    """Clients by lane and region. For worker threads: making a client blocks, and may ask for credentials."""

    def __init__(self, connect: Callable[[], MakeClient], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._connect, self._renewals = connect, Renewals(monotonic)
        # boto3 clients may be shared by threads; making sessions and clients may not.
        self._lock = threading.Lock()
        self._make: MakeClient | None = None
        self._clients: dict[tuple[str, str], BatchClient] = {}
        self._old: list[BatchClient] = []

    @property
    def generation(self) -> int:
        """Counts renewals."""
        return self._renewals.count

    def get(self, lane: str, region: str) -> BatchClient:
        """Raises what boto3 raises when it cannot make a client."""
        known = self._clients.get((lane, region))
        if known is not None:
            return known
        with self._lock:
            if self._make is None:
                self._make = self._connect()
            if (lane, region) not in self._clients:
                self._clients[lane, region] = self._make(region)
            return self._clients[lane, region]

    def renew(self, generation: int) -> bool:
        """Forget session and clients after a fault of credentials; False when that was done a moment ago.

        `generation` is the one that failed: when it is past already, there is nothing to do but to try again.
        """
        with self._lock:
            return self._renewals.once(generation, self._drop)

    def _drop(self) -> None:
        self._make = None
        # Calls may be under way with the old clients: they are closed with the next renewal.
        self._close(self._old)
        # A new dict, as `get` reads without the lock.
        self._old, self._clients = list(self._clients.values()), {}

    def forget(self, region: str) -> None:
        """Close the clients of a region, in which no call is under way."""
        with self._lock:
            gone = [client for (_, where), client in self._clients.items() if where == region]
            # A new dict, as above.
            self._clients = {name: client for name, client in self._clients.items() if name[1] != region}
            self._close(gone)

    def close(self) -> None:
        with self._lock:
            self._close([*self._old, *self._clients.values()])
            self._old, self._clients = [], {}

    def _close(self, clients: Iterable[BatchClient]) -> None:
        for client in clients:
            client.close()


def default_region() -> str | None:
    """The region of AWS_REGION, AWS_DEFAULT_REGION or the profile; None when none says. Raises SettingsError."""
    named = os.environ.get("AWS_REGION")
    if named:
        # boto3 itself knows only AWS_DEFAULT_REGION; EKS and every other SDK say AWS_REGION.
        return named
    try:
        return boto3.session.Session().region_name or None
    except BotoCoreError as error:
        raise SettingsError(f"{error}; check AWS_PROFILE, AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE") from error
