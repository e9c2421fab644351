"""The result of a login to a cluster."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

FILE_LIFETIME: Final = timedelta(minutes=10)
"""Time for which credentials from a file are used before the file is read again: the kubelet renews it in time."""


class NoClusterError(Exception):
    """No usable credentials. Each fault names the file and the field, and the remedy where it is not obvious."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class Faults(list[str]):
    """The faults of several steps, which are reported together."""

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Add the faults of the NoClusterError that ends the block, if one does."""
        try:
            yield
        except NoClusterError as error:
            self += error.faults

    def raise_found(self) -> None:
        if self:
            raise NoClusterError(*self)


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """One API server and its credentials. `tls`: None for plain HTTP; `proxy` is a URL; reload at `expires_at` (UTC).

    `headers` identify the client: Authorization, and whom it impersonates. A name may occur several times.
    """

    server: str
    namespace: str = "default"
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    proxy: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
