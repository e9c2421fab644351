"""The sessions of policies' roles that are kept: one for the looks of a place, one for each namespace that ended jobs.

A session costs a few kilobytes here and no client: requests are signed by whichever theirs is.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials

from awsbatch_operator.aws.clients import Renewals
from awsbatch_operator.aws.wire import namespace_of_call
from awsbatch_operator.domain import assumed
from awsbatch_operator.domain.assumed import Session
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.job import Place

MOST_SESSIONS: Final = 1000
"""Sessions that are kept, of all places: those that were unused for longest go first."""

UNUSED_FOR: Final = 3600.0
"""Seconds without a call after which a session is forgotten: its credentials have ended."""

TRIED_WITHIN: Final = 400.0
"""Seconds within which a session that was refused is tried again, if anybody still asks: each 5 minutes and a tenth."""

MakeCredentials = Callable[[Session, str], RefreshableCredentials]
"""From a session and the region in which STS is asked for it to its credentials; asks for nothing yet."""


class Key:
    """To one session. `trouble`: why it could not be assumed, the last time that it was tried. For any thread."""

    def __init__(self, session: Session, region: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.session, self.region, self._monotonic = session, region, monotonic
        self.trouble: Fault | None = None
        self.used_at = monotonic()
        self._lock = threading.Lock()
        self._renewals = Renewals(monotonic)
        self._credentials: RefreshableCredentials | None = None
        self._made_at = float("-inf")

    @property
    def generation(self) -> int:
        """Counts renewals."""
        return self._renewals.count

    def frozen(self, make: MakeCredentials) -> ReadOnlyCredentials:
        """Those to sign a request with. Assumes the role if need be; raises NotAssumedError."""
        with self._lock:
            if self._credentials is None:
                self._credentials, self._made_at = make(self.session, self.region), self._monotonic()
            credentials = self._credentials
        return credentials.get_frozen_credentials()

    def renew(self, generation: int, *, unless_new: bool = False) -> bool:
        """As Clients.renew, of this session alone.

        `unless_new`: there is nothing to be had of another when this one was made a moment ago.
        """
        with self._lock:
            made_at = self._made_at if unless_new else float("-inf")
            return self._renewals.once(generation, self._drop, made_at=made_at)

    def _drop(self) -> None:
        self._credentials = None


PickKey = Callable[[], Key]
"""That of the call which the asking thread is about."""


class Keyring:
    """Keys by place and namespace, made on demand. Who has a key that is forgotten uses it on. For any thread."""

    def __init__(self, cluster: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._cluster, self._monotonic = cluster, monotonic
        self._lock = threading.Lock()
        self._keys: OrderedDict[tuple[Place, str | None], Key] = OrderedDict()

    def looking(self, place: Place) -> Key:
        return self._key(place, None)

    def ending(self, place: Place) -> Key:
        """Of the namespace that this thread ends jobs for: IAM may hold its name against the tags of the job.

        Raises UnsignedError if there is none, or more than one.
        """
        return self._key(place, namespace_of_call(place))

    def trouble(self, place: Place) -> Fault | None:
        """That of looks first. Not of a session that nobody tries any more: it may be mended, and none would tell."""
        with self._lock:
            since = self._monotonic() - TRIED_WITHIN
            asked = {name: key for (where, name), key in self._keys.items() if where == place and key.used_at >= since}
        found = {name: key.trouble for name, key in asked.items() if key.trouble}
        return found.get(None) or next(iter(found.values()), None)

    def forget(self, place: Place) -> None:
        with self._lock:
            for name in [name for name in self._keys if name[0] == place]:
                del self._keys[name]

    def _key(self, place: Place, namespace: str | None) -> Key:
        name = place, namespace
        with self._lock:
            if name not in self._keys:
                self._keys[name] = Key(self._session(place, namespace), place.region, self._monotonic)
            key = self._keys[name]
            self._keys.move_to_end(name)
            key.used_at = self._monotonic()
            self._forget_unused(key.used_at)
        return key

    def _forget_unused(self, now: float) -> None:
        while len(self._keys) > MOST_SESSIONS or now - next(iter(self._keys.values())).used_at > UNUSED_FOR:
            self._keys.popitem(last=False)

    def _session(self, place: Place, namespace: str | None) -> Session:
        assert place.role is not None
        assert place.policy is not None
        if namespace is None:
            return assumed.looking(place.role, self._cluster, place.policy)
        return assumed.ending(place.role, self._cluster, place.policy, namespace)
