"""The watch: Kopf in a thread and loop of its own, one handler that passes each version of an object on.

Its own thread because Kopf takes the signal handlers of the main one, and because what runs on its loop it cancels
when it ends.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, Protocol

import kopf
import structlog

from awsbatch_operator.domain.record import Snapshot
from awsbatch_operator.handlers.settings import make_settings
from awsbatch_operator.kube.credentials import Access
from awsbatch_operator.kube.names import GROUP, PLURAL, VERSION
from awsbatch_operator.kube.objects import parse_object, parse_ref, version_of

_A_TURN: Final = 50
"""Events handed on before others get their turn of the loop: a first list holds thousands."""

log = structlog.get_logger(__name__)


class Listener(Protocol):
    """Who is told of objects, on one loop."""

    def listed(self, uid: str) -> None: ...
    def knows(self, uid: str, resource_version: str) -> bool: ...
    def seen(self, snapshot: Snapshot) -> None: ...
    def gone(self, uid: str) -> None: ...


class Inbox:
    """From Kopf's thread to the listener's loop, in order. A loop that is behind is not woken for each event anew.

    To wake it is a system call, and each of them makes two threads wait for each other.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        self._loop, self._listener = loop, listener
        self._events: deque[tuple[str | None, Mapping[str, Any]]] = deque()
        self._woken = False

    def put(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """For Kopf's thread. `kind` is that of the watch; None: a list showed the object."""
        self._events.append((kind, body))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # First of all: what is put from here on either wakes again or is still met below.
        self._woken = False
        for _ in range(_A_TURN):
            if not self._events:
                return
            self._tell(*self._events.popleft())
        self._woken = True
        self._loop.call_soon(self._deliver)

    def _tell(self, kind: str | None, body: Mapping[str, Any]) -> None:
        ref = parse_ref(body.get("metadata") or {})
        if kind == "DELETED":
            self._listener.gone(ref.uid)
            return
        if kind is None:
            self._listener.listed(ref.uid)
        if not self._listener.knows(ref.uid, version_of(body)):
            # Half of all events are the echo of our own writes: those need not even be read.
            self._listener.seen(parse_object(body))


def make_registry(login: Callable[[], Access], inbox: Inbox) -> kopf.OperatorRegistry:
    """The two handlers. Neither returns a value to Kopf's on.event or touches `patch`: either would be written."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**_: Any) -> kopf.ConnectionInfo:
        return _connection(login())

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def tell(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - Kopf's keyword
        inbox.put(type, _plain(body))

    return registry


def _plain(body: kopf.Body) -> Mapping[str, Any]:
    """The dict inside Kopf's view, which is slow to walk and keeps nothing that we need."""
    return dict(body)


def _connection(access: Access) -> kopf.ConnectionInfo:
    return kopf.ConnectionInfo(
        server=access.server,
        ca_path=access.ca_path,
        insecure=access.insecure,
        scheme=access.scheme,
        token=access.token,
        certificate_path=access.certificate_path,
        private_key_path=access.private_key_path,
        default_namespace=access.namespace,
        proxy_url=access.proxy,
        # Kopf logs in anew at the first request after it: a token file is re-read, an exec plugin asked again.
        expiration=access.expires_at,
    )


class Watch:
    """`ended` resolves when Kopf does, with its error if it had one: without the watch the operator is blind."""

    def __init__(self, registry: kopf.OperatorRegistry, namespaces: tuple[str, ...]) -> None:
        self._registry, self._namespaces = registry, namespaces
        self._stop = threading.Event()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> "asyncio.Future[None]":
        self._thread.start()
        return asyncio.wrap_future(self._ended)

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._operate())
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which ends the process with it
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _operate(self) -> None:
        try:
            await kopf.operator(
                registry=self._registry,
                settings=make_settings(),
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                # Only peering reads it. Kopf's own holds the user's name, and a uid that a platform chose has none.
                identity="",  # type: ignore[arg-type]
                stop_flag=self._stop,
            )
        finally:
            # Kopf waits for the flag in a thread, and closing the loop waits for that thread: if Kopf ended by itself,
            # on a 410 to its watch request, say, nobody would ever hear of it.
            self._stop.set()
