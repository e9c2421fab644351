"""What a collection of the Kubernetes API holds, told as a whole and then change by change, come what may.

Kopf's watch tells of no deletion that it missed, and not when a list is complete: good enough for objects that a sweep
looks after, not for rules whose deletion must be obeyed.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import structlog

from awsbatch_operator.kube.client import JSON, ApiError, KubeClient

LASTS: Final = 30.0
"""Seconds after which a watch is asked for anew, where it ended. A connection that is dead, and nobody said so, is
noticed by then; the price are two requests a minute."""
SILENCE: Final = 40.0
"""Seconds without a word after which a watch counts as broken."""
LIST_EVERY: Final = 300.0
"""Seconds after which the whole is told anew in any case: a version that is ahead of the API server's own, as after a
backup was played back to etcd, would hear of nothing."""
UNSERVED: Final = 5.0
"""Seconds between two questions for a collection that the cluster does not know yet."""

_PAGE: Final = 500
_CALM: Final = 1.0
"""Seconds that a watch must last to count as one that worked."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.5
_MOST_FAILURES: Final = 10
_JITTER: Final = (0.7, 1.0)

Body = dict[str, Any]

log = structlog.get_logger(__name__)


class Listener(Protocol):
    """Who is told. `name` is the object's: the collection is cluster-scoped, or of one namespace."""

    def all_are(self, bodies: Mapping[str, Body]) -> None:
        """All there are: what is not named is gone."""

    def one_is(self, name: str, body: Body | None) -> None:
        """One of them; None: it is gone."""


class Reflector:
    """The collection at `path`. Make it on the loop on which it runs. `form`: how lists and watches are asked for.

    `blind_since`: loop time at which it last heard, while there is neither a list nor an open watch; None otherwise.
    `served`: whether this process has seen the collection. Until then a 404 means that there is none of it, if
    `may_lack`; afterwards it means, as every other refusal, that nothing is known.
    """

    def __init__(
        self,
        client: KubeClient,
        path: str,
        listener: Listener,
        *,
        form: tuple[str, str] = (JSON, JSON),
        may_lack: bool = False,
        on_sight: Callable[[], None] = lambda: None,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._client, self._path, self._listener, self._form = client, path, listener, form
        self._may_lack, self._on_sight, self._jitter = may_lack, on_sight, jitter
        self._what = path.rpartition("/")[2]
        self._loop = asyncio.get_running_loop()
        self.blind_since: float | None = self._loop.time()
        self.served = False
        self._version, self._listed_at, self._heard_at = "", 0.0, self._loop.time()
        self._failures = 0
        self._trouble = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if not self._version or self._loop.time() - self._listed_at >= LIST_EVERY:
                    await self._list()
                await self._watch()
            except ApiError as error:
                await self._failed(error)

    # -- a list -------------------------------------------------------------------------------------------------------

    async def _list(self) -> None:
        bodies: dict[str, Body] = {}
        token = ""
        while True:
            params = {"limit": str(_PAGE)} | ({"continue": token} if token else {})
            _, page = await self._client.get(self._path, params, self._form[0])
            metadata = _metadata(page)
            if "items" not in page or not metadata.get("resourceVersion"):
                # Whatever that is, it is not the news that there is nothing.
                raise ApiError(0, f"the Kubernetes API answers with something that is no list of {self._what}")
            # Go writes some empty lists as null.
            bodies |= {_name(item): item for item in page["items"] or ()}
            token = metadata.get("continue") or ""
            if not token:
                break
        self.served = True
        self._version, self._listed_at = metadata["resourceVersion"], self._loop.time()
        self._listener.all_are(bodies)
        self._hears()

    # -- a watch ------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        params = {
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": f"{LASTS:.0f}",
        }
        async with self._client.watch(self._path, params, self._form[1], silence=SILENCE) as events:
            self._hears()
            calm = self._loop.call_later(_CALM, self._works)
            try:
                async for kind, body in events:
                    self._take(kind, body)
            finally:
                calm.cancel()
        # It said goodbye: until now nothing was missed, and the next one goes on from here.
        self._heard_at = self._loop.time()
        self._lost()
        await self._rest()

    def _take(self, kind: str, body: Body) -> None:
        self._heard_at = self._loop.time()
        if kind != "BOOKMARK":
            self._listener.one_is(_name(body), None if kind == "DELETED" else body)
        self._version = _metadata(body).get("resourceVersion") or self._version

    # -- sight --------------------------------------------------------------------------------------------------------

    async def _failed(self, error: ApiError) -> None:
        self._version = ""
        if error.status == 404 and self._may_lack and not self.served:
            if self.blind_since is not None:
                self._listener.all_are({})
            self._hears()
            await asyncio.sleep(UNSERVED)
            return
        self._lost()
        # A break is a matter of course. Told when it lasts and when it changes: it may be so for days.
        if self._failures and error.message != self._trouble:
            log.warning("not heard", of=self._what, error=error.message)
            self._trouble = error.message
        await self._rest()

    async def _rest(self) -> None:
        """Not at all before the first try; then longer and longer, but never so long that news come late."""
        pause = min(_FIRST_PAUSE * 2.0 ** (self._failures - 1), _LONGEST_PAUSE) if self._failures else 0.0
        self._failures = min(self._failures + 1, _MOST_FAILURES)
        await asyncio.sleep(pause * self._jitter(*_JITTER))

    def _works(self) -> None:
        self._failures = 0
        if self._trouble:
            log.info("heard again", of=self._what)
        self._trouble = ""

    def _hears(self) -> None:
        self._heard_at = self._loop.time()
        if self.blind_since is not None:
            self.blind_since = None
            self._on_sight()

    def _lost(self) -> None:
        if self.blind_since is None:
            self.blind_since = self._heard_at
            self._on_sight()


def _metadata(body: object) -> Body:
    metadata = body.get("metadata") if isinstance(body, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def _name(body: object) -> str:
    name = _metadata(body).get("name")
    if not isinstance(name, str) or not name:
        raise ApiError(0, "the Kubernetes API shows an object without a name")
    return name
