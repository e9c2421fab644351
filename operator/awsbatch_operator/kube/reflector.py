"""List and watch of one collection of the Kubernetes API, as client-go's Reflector.

Kopf's watch does not report a deletion that it missed, nor when a list is complete. That is enough for objects that a
resync covers, but not for policies, whose deletion must take effect.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import structlog

from awsbatch_operator.kube.client import JSON, ApiError, KubeClient
from awsbatch_operator.kube.paging import list_pages, metadata_of, resource_of
from awsbatch_operator.workqueue.backoff import backoff
from awsbatch_operator.workqueue.log_once import Change, LogOnce

WATCH_SECONDS: Final = 30.0
"""Seconds after which the server ends a watch and the next one begins where it ended. An unreported dead
connection is noticed by then; the price is two requests a minute."""
IDLE_TIMEOUT: Final = 40.0
"""Seconds of silence after which a watch counts as broken."""
RELIST_INTERVAL: Final = 300.0
"""Seconds between two lists although nothing broke: a watch from a version that is ahead of the API server's own, as
after the restore of an etcd backup, would report nothing."""
NOT_SERVED_RETRY: Final = 5.0
"""Seconds between two requests for a collection that the cluster does not serve yet."""

_STABLE: Final = 1.0
"""Seconds that a watch must last to count as one that works."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.5
_JITTER: Final = (0.7, 1.0)

Body = dict[str, Any]

log = structlog.get_logger(__name__)


class ResourceHandler(Protocol):
    """Receives the objects. `name`: the object's, after its namespace and a slash if it has one."""

    def on_relist(self, bodies: Mapping[str, Body]) -> None:
        """Handle a complete list, by name: an object that is not in it does not exist."""

    def on_upsert(self, name: str, body: Body) -> None:
        """Handle a new or changed object."""

    def on_delete(self, name: str) -> None:
        """Handle the deletion of an object."""


class Reflector:
    """The collection at `path`. Create it on the loop on which it runs. `accept`: media types of lists and watches.

    `stale_since`: loop time of the last news, while there is neither a list nor an open watch; None otherwise.
    `served`: whether this process has seen the collection. Until then a 404 means, if the collection is `optional`,
    that it is empty; afterwards it means, like every other error, that nothing is known.
    """

    def __init__(
        self,
        client: KubeClient,
        path: str,
        handler: ResourceHandler,
        *,
        accept: tuple[str, str] = (JSON, JSON),
        optional: bool = False,
        on_stale_change: Callable[[], None] = lambda: None,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._client, self._path, self._handler, self._accept = client, path, handler, accept
        self._optional, self._on_stale_change, self._jitter = optional, on_stale_change, jitter
        self._loop = asyncio.get_running_loop()
        self.stale_since: float | None = self._loop.time()
        self.served = False
        self._version, self._listed_at, self._last_news_at = "", 0.0, self._loop.time()
        self._relist_wanted = False
        self._failures = 0
        self._problem = LogOnce()
        self._watching: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                while self._must_list():
                    await self._list()
                await self._watch_until_relist()
            except ApiError as error:
                await self._on_error(error)

    def relist(self) -> None:
        """List again at once: the watch may have missed changes, or does not know yet that it is dead."""
        self._relist_wanted = True
        self._set_stale()
        if self._watching is not None and not self._watching.expired():
            self._watching.reschedule(self._loop.time())

    def _must_list(self) -> bool:
        old = self._loop.time() - self._listed_at >= RELIST_INTERVAL
        return not self._version or self._relist_wanted or old

    async def _watch_until_relist(self) -> None:
        try:
            async with asyncio.timeout(None) as self._watching:
                await self._watch()
        except TimeoutError:
            if self._watching is None or not self._watching.expired():
                raise
        finally:
            self._watching = None

    # -- list ---------------------------------------------------------------------------------------------------------

    async def _list(self) -> None:
        # A list that is under way when another one is wanted may be older than what it is wanted for.
        self._relist_wanted = False
        bodies: dict[str, Body] = {}
        version = ""
        async for page in list_pages(self._client, self._path, self._accept[0]):
            bodies |= {_name(item): item for item in page.items}
            version = page.resource_version
        self.served = True
        self._version, self._listed_at = version, self._loop.time()
        self._handler.on_relist(bodies)
        self._set_fresh()

    # -- watch --------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        params = {
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": f"{WATCH_SECONDS:.0f}",
        }
        async with self._client.watch(self._path, params, self._accept[1], idle_timeout=IDLE_TIMEOUT) as events:
            self._set_fresh()
            stable = self._loop.call_later(_STABLE, self._on_stable)
            try:
                async for kind, body in events:
                    self._on_event(kind, body)
            finally:
                stable.cancel()
        # The server ended the watch: nothing was missed until now, and the next watch continues from here.
        self._last_news_at = self._loop.time()
        self._set_stale()
        await self._pause()

    def _on_event(self, kind: str, body: Body) -> None:
        self._last_news_at = self._loop.time()
        if kind == "DELETED":
            self._handler.on_delete(_name(body))
        elif kind != "BOOKMARK":
            self._handler.on_upsert(_name(body), body)
        self._version = metadata_of(body).get("resourceVersion") or self._version

    # -- health -------------------------------------------------------------------------------------------------------

    async def _on_error(self, error: ApiError) -> None:
        self._version = ""
        if error.status == 404 and self._optional and not self.served:
            if self.stale_since is not None:
                self._handler.on_relist({})
            self._set_fresh()
            await asyncio.sleep(NOT_SERVED_RETRY)
            return
        self._set_stale()
        # A single failure is normal. Log it when it lasts and when it changes: it may last for days.
        if self._failures and self._problem.report(error.message):
            log.warning("watch failed", resource=resource_of(self._path), error=error.message)
        await self._pause()

    async def _pause(self) -> None:
        """Wait before the next attempt: not before the first, and never so long that changes arrive late."""
        pause = backoff(self._failures, _FIRST_PAUSE, _LONGEST_PAUSE)
        self._failures += 1
        await asyncio.sleep(pause * self._jitter(*_JITTER))

    def _on_stable(self) -> None:
        self._failures = 0
        if self._problem.report("") is Change.ENDED:
            log.info("watch restored", resource=resource_of(self._path))

    def _set_fresh(self) -> None:
        self._last_news_at = self._loop.time()
        if self.stale_since is not None and not self._relist_wanted:
            self.stale_since = None
            self._on_stale_change()

    def _set_stale(self) -> None:
        if self.stale_since is None:
            self.stale_since = self._last_news_at
            self._on_stale_change()


def _name(body: object) -> str:
    metadata = metadata_of(body)
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not name:
        raise ApiError(0, "the Kubernetes API shows an object without a name")
    return f"{namespace}/{name}" if namespace else name
