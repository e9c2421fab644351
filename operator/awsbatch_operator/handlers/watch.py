"""The watch of BatchJobs: Kopf in its own thread and loop, with one handler that forwards each version of an object.

Kopf has its own thread because it would replace the signal handlers of the main thread, and because it cancels every
task of its loop when it ends.
"""

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Final, Protocol

import aiohttp
import kopf
import structlog
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from awsbatch_operator.api.decoding import Snapshot, parse_object
from awsbatch_operator.api.names import GROUP, PLURAL, VERSION
from awsbatch_operator.kube.credentials import ClusterConfig, NoClusterError, Renewal
from awsbatch_operator.kube.preflight import explain_error
from awsbatch_operator.kube.responses import ApiError

_EVENTS_PER_TURN: Final = 50
"""Events that are delivered before other tasks of the loop run: a first list holds thousands."""
_LOGIN_PAUSE: Final = 5.0
"""Seconds between logins: a server that rejects fresh credentials must not be asked in a tight loop."""

log = structlog.get_logger(__name__)


class WatchError(Exception):
    """Why the Kubernetes API ended the watch; the message is one line and names the remedy if there is one."""


class Listener(Protocol):
    """Receives watch events, on one loop."""

    def on_relist(self, uid: str) -> None:
        """Note that a list of the watch shows the object. `on_upsert` follows."""

    def on_upsert(self, snapshot: Snapshot) -> None:
        """Handle a version of an object, maybe one that is known already."""

    def on_delete(self, uid: str) -> None:
        """Handle the deletion of an object."""


class EventBuffer:
    """Passes events from Kopf's thread to the listener's loop, in order.

    It wakes a loop that is behind only once: each wake-up is a system call, in which two threads wait for each other.

    `last_event_at`: loop time (seconds) at which the loop last received an event; None before the first.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        self._loop, self._listener = loop, listener
        self._events: deque[tuple[str | None, Mapping[str, Any]]] = deque()
        self._woken = False
        self.last_event_at: float | None = None

    def put(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """Add an event; for Kopf's thread. `kind` is the type of the watch event; None: a list shows the object."""
        self._events.append((kind, body))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # First: an event that is added from here on either wakes the loop again or is delivered below.
        self._woken = False
        self.last_event_at = self._loop.time()
        for _ in range(_EVENTS_PER_TURN):
            if not self._events:
                return
            self._dispatch(*self._events.popleft())
        self._woken = True
        self._loop.call_soon(self._deliver)

    def _dispatch(self, kind: str | None, body: Mapping[str, Any]) -> None:
        snapshot = parse_object(body)
        if kind == "DELETED":
            self._listener.on_delete(snapshot.ref.uid)
            return
        if kind is None:
            self._listener.on_relist(snapshot.ref.uid)
        self._listener.on_upsert(snapshot)


class EndlessBackoffs:
    """1, 2 and then 4 s without end: an upgrade of the control plane must not end the operator, nor delay it for long.

    Iterable several times: Kopf shares the object among all its requests.
    """

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 2), itertools.repeat(4))


class NoDiffBase(kopf.DiffBaseStorage):
    """Stores no last-handled state of an object: nothing here needs it.

    Kopf would build it for every event by copies of the whole object, a third of the cost of an event.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Store nothing in objects."""


class NoProgress(kopf.ProgressStorage):
    """Stores no progress of handlers: Kopf never retries an event handler."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Store nothing in objects."""

    purge = touch = store

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


class NoMemories(ResourceMemories):
    """Keeps no record of an object: only daemons, indices and handlers of changes need one.

    Kopf would keep 0.9 KiB for each object, also for one whose deletion the watch missed.
    """

    async def recall(self, raw_body: Any, **options: Any) -> ResourceMemory:
        return await super().recall(raw_body, **options | {"ephemeral": True})


def make_settings() -> kopf.OperatorSettings:
    """Kopf's settings, each with its reason. The figures were measured on a real API server."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True  # peering is not a lock; the Lease decides which replica acts
    settings.scanning.disabled = True  # one known resource: no watch on CRDs and namespaces, no right to list them
    settings.posting.enabled = False  # the operator posts its own Events: one per transition
    settings.queueing.worker_limit = None  # a limit makes throughput limit/idle_timeout: minutes for 10,000 objects
    # Seconds that two tasks live on after an object's last event: with 0.5 s most tasks of a first list of 10,000 exist
    # at once, 8 MiB that are never returned, and it saves nothing.
    settings.queueing.idle_timeout = 0.05
    settings.queueing.exit_timeout = 1.0
    settings.watching.server_timeout = 300  # seconds; a watch ends in time for new credentials
    settings.watching.client_timeout = 330
    # A list in pages: 10,000 objects at once are 60 MiB that are never returned. A page that has expired (410) ends
    # Kopf and the process, which restarts; but a page lives for five minutes, and the whole list takes seconds.
    settings.watching.chunk_size = 500
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = EndlessBackoffs()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    # No handler here needs a finalizer, and Kopf removes its own one in that case: use a name that nobody else uses.
    settings.persistence.finalizer = f"{GROUP}/kopf-unused"
    return settings


def make_registry(login: Callable[[], ClusterConfig], buffer: EventBuffer) -> kopf.OperatorRegistry:
    """Return the two handlers. Kopf would write a returned value, or a change of `patch`, to the object."""
    registry, renew, next_login_at = kopf.OperatorRegistry(), Renewal(login), 0.0

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        nonlocal next_login_at
        await asyncio.sleep(max(next_login_at - time.monotonic(), 0))
        next_login_at = time.monotonic() + _LOGIN_PAUSE
        try:
            return open_session(await renew())
        except NoClusterError as error:
            raise kopf.TemporaryError(str(error), delay=_LOGIN_PAUSE) from error

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def forward(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - Kopf's keyword
        # As a dict: Kopf's view of the body is slow to traverse.
        buffer.put(type, dict(body))

    return registry


def open_session(config: ClusterConfig) -> kopf.AiohttpSession:
    """Return a session with the same TLS settings, headers and proxy as the operator's own client."""
    connector = aiohttp.TCPConnector(limit=0, ssl=config.tls or True)
    return kopf.AiohttpSession(
        server=config.server,
        default_namespace=config.namespace,
        # Kopf logs in again at the first request after it: it re-reads a token file and runs an exec plugin again.
        expiration=config.expires_at,
        aiohttp_session=aiohttp.ClientSession(connector=connector, headers=config.headers, proxy=config.proxy),
    )


def on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # At the end asyncio closes the generators of the watch, also one that is still reading, which refuses it.
    if "asyncgen" in context:
        log.debug("Kopf's watch was closed while it was reading", error=str(context.get("exception")))
    else:
        loop.default_exception_handler(context)


def _explained(error: BaseException) -> BaseException:
    """Return a WatchError for an HTTP status that Kopf does not retry, such as 404 after the CRD was deleted."""
    status = getattr(error, "status", None)
    if not isinstance(status, int):
        return error
    ended = WatchError(explain_error(ApiError(status, str(error))))
    ended.__cause__ = error
    return ended


class Watch:
    """Runs Kopf. `start` returns a future that resolves when Kopf ends by itself, with its error if it had one."""

    def __init__(self, registry: kopf.OperatorRegistry, namespaces: tuple[str, ...]) -> None:
        self._registry, self._namespaces = registry, namespaces
        self._stop = threading.Event()
        self._stopped = self._again = False
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> "asyncio.Future[None]":
        self._thread.start()
        return asyncio.wrap_future(self._ended)

    def stop(self) -> None:
        self._stopped = True
        self._stop.set()

    def restart(self) -> None:
        """End Kopf and run it again: it lists all objects and watches from there."""
        self._again = True
        self._stop.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._operate())
            while self._again:
                # A thread of the last run may still wait for its flag: never clear it.
                self._again, self._stop = False, threading.Event()
                if not self._stopped:
                    asyncio.run(self._operate())
        except BaseException as error:  # noqa: BLE001 - passed to the main thread, which ends the process with it
            self._ended.set_exception(_explained(error))
        else:
            self._ended.set_result(None)

    async def _operate(self) -> None:
        asyncio.get_running_loop().set_exception_handler(on_loop_error)
        settings = make_settings()
        try:
            await kopf.operator(
                registry=self._registry,
                settings=settings,
                memories=NoMemories(),
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                # Only peering reads it. Kopf's default contains the user's name, and an arbitrary uid has none.
                identity="",  # type: ignore[arg-type]
                stop_flag=self._stop,
            )
        finally:
            # Kopf waits for the flag in a thread, and closing the loop waits for that thread: without this, the end of
            # Kopf by itself (on a 410 to its watch request, for example) would stay unnoticed.
            self._stop.set()
            settings.execution.executor.shutdown(wait=False)
            # Kopf closed its session: the end of a TLS connection takes some turns of the loop.
            await asyncio.sleep(0.05)
