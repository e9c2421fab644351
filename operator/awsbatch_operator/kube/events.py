"""Kubernetes Events: one per transition; a repeated Event increases its count. A background task posts them."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import structlog

from awsbatch_operator.api import names, timestamps
from awsbatch_operator.api.batchjob import ObjectRef
from awsbatch_operator.api.events import Event
from awsbatch_operator.api.timestamps import MINUTE, Millis
from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.workqueue.log_once import LogOnce

MIN_INTERVAL: Final = {"Throttled": 10 * MINUTE}
"""Milliseconds between two Events of one object, by reason."""

_GROUP: Final = "events.k8s.io"
_API_VERSION: Final = f"{_GROUP}/v1"

EVENT_PERMISSIONS: Final = tuple((verb, _GROUP, "events") for verb in ("create", "get", "patch"))
"""Verb, group and resource of all calls here: `get` reads the count that an earlier process left."""

_REMEDY: Final = f"grant create, get and patch on events (apiGroups: [{_GROUP}]) to the operator's service account"
_NAMESPACE_DELETED: Final = "because it is being terminated"
"""Part of the API server's message: a namespace that is being deleted accepts no more Events."""
_NOTE_BYTES: Final = 1024
_NAME_LENGTH: Final = 253
_INSTANCE_LENGTH: Final = 128
_RETRY_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class _LruDict(Generic[_Key, _Value]):
    """A dict of at most `limit` items; it drops the one that was put first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._items = limit, OrderedDict[_Key, _Value]()

    def get(self, key: _Key) -> _Value | None:
        return self._items.get(key)

    def put(self, key: _Key, value: _Value) -> None:
        self._items[key] = value
        self._items.move_to_end(key)
        if len(self._items) > self._limit:
            self._items.popitem(last=False)


def _utc_millis() -> Millis:
    return time.time_ns() // 1_000_000


class EventPoster:
    """Use as `async with EventPoster(client, instance) as events`; on exit it posts what waits, for at most 2 s.

    `instance` names this process: its pod or host name. At most `waiting` Events wait: the oldest are dropped, since
    the object's status says the same. The counts of the latest `remembered` Events need no request.
    """

    def __init__(
        self,
        client: KubeClient,
        instance: str,
        *,
        waiting: int = 2_000,
        remembered: int = 10_000,
        now: Callable[[], Millis] = _utc_millis,
    ) -> None:
        self._client, self._instance, self._now = client, instance[:_INSTANCE_LENGTH], now
        self._queue: asyncio.Queue[tuple[ObjectRef, Event, Millis]] = asyncio.Queue(waiting)
        self._counts: _LruDict[str, int] = _LruDict(remembered)
        self._posted_at: _LruDict[tuple[str, str], Millis] = _LruDict(remembered)
        self._dropped = 0
        self._problem = LogOnce()
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # One worker: Events arrive in order, and no two requests increase the same count at once.
        self._worker = asyncio.create_task(self._work(), name="events")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker is None:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self.idle(), _CLOSE_SECONDS)
        self._worker.cancel()
        await asyncio.wait([self._worker])

    def post(self, ref: ObjectRef, event: Event) -> None:
        """Queue the Event and return at once. The caller does not learn whether it was posted."""
        now, key = self._now(), (ref.uid, event.reason)
        interval, posted_at = MIN_INTERVAL.get(event.reason), self._posted_at.get(key)
        if interval is not None:
            if posted_at is not None and now - posted_at < interval:
                return
            self._posted_at.put(key, now)
        if self._queue.full():
            self._queue.get_nowait()
            self._queue.task_done()
            self._dropped += 1
        self._queue.put_nowait((ref, event, now))

    async def idle(self) -> None:
        """Wait until every Event queued so far was posted or lost."""
        await self._queue.join()

    async def _work(self) -> None:
        while True:
            ref, event, at = await self._queue.get()
            try:
                await self._deliver(ref, event, at)
            finally:
                self._queue.task_done()
            if self._dropped and self._queue.empty():
                log.warning("Events dropped: the Kubernetes API does not accept them fast enough", count=self._dropped)
                self._dropped = 0

    async def _deliver(self, ref: ObjectRef, event: Event, at: Millis) -> None:
        try:
            try:
                await self._create_or_increase(ref, event, at)
            except ApiError as error:
                if not error.transient:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
                await self._create_or_increase(ref, event, at)
        except ApiError as error:
            self._log_lost(ref, event, error)
        else:
            self._problem.report("")

    def _log_lost(self, ref: ObjectRef, event: Event, error: ApiError) -> None:
        if error.status == 403 and _NAMESPACE_DELETED in error.message:
            return  # nobody can change that, and the log has the Event
        # An API server that is away, or a missing permission, fails all Events alike: one line until one succeeds.
        remedy = {"remedy": _REMEDY} if error.status == 403 else {}
        if self._problem.report(remedy.get("remedy", error.message)):
            log.warning("cannot create Event", object=ref, reason=event.reason, error=error.message, **remedy)

    async def _create_or_increase(self, ref: ObjectRef, event: Event, at: Millis) -> None:
        name = event_name(ref, event)
        count = self._counts.get(name)
        if count is not None and await self._increase(ref, name, count + 1, at):
            return
        try:
            await self._client.post(_path(ref), _body(ref, event, at, name, self._instance))
            self._counts.put(name, 1)
        except ApiError as error:
            if error.status != 409:
                raise
            # An earlier process has posted the same Event.
            _, posted = await self._client.get(f"{_path(ref)}/{name}")
            await self._increase(ref, name, ((posted.get("series") or {}).get("count") or 1) + 1, at)

    async def _increase(self, ref: ObjectRef, name: str, count: int, at: Millis) -> bool:
        """Return False if the Event does not exist any more: the API server deletes Events after an hour."""
        series = {"count": count, "lastObservedTime": timestamps.micro_time(at)}
        try:
            await self._client.patch(f"{_path(ref)}/{name}", {"series": series})
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        self._counts.put(name, count)
        return True


def event_name(ref: ObjectRef, event: Event) -> str:
    """Return a name that is the same in every process for the same Event of the same object."""
    content = f"{ref.uid}\0{event.reason}\0{event.note}".encode(errors="replace")
    digest = hashlib.blake2b(content, digest_size=8).hexdigest()
    return f"{ref.name[: _NAME_LENGTH - len(digest) - 1].rstrip('.-')}.{digest}"


def _path(ref: ObjectRef) -> str:
    return f"/apis/{_API_VERSION}/namespaces/{ref.namespace}/events"


def _body(ref: ObjectRef, event: Event, at: Millis, name: str, instance: str) -> dict[str, Any]:
    return {
        "apiVersion": _API_VERSION,
        "kind": "Event",
        "metadata": {"name": name, "namespace": ref.namespace},
        "eventTime": timestamps.micro_time(at),
        "reportingController": names.REPORTING_CONTROLLER,
        "reportingInstance": instance,
        "action": "Terminate" if event.reason.startswith("Terminat") else "Observe",
        "reason": event.reason,
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": ref.kind,
            "namespace": ref.namespace,
            "name": ref.name,
            "uid": ref.uid,
        },
        "note": _shorten(event.note),
        "type": "Warning" if event.warning else "Normal",
    }


def _shorten(note: str) -> str:
    """Shorten to at most 1024 bytes of UTF-8, whole characters."""
    raw = note.encode(errors="replace")
    if len(raw) <= _NOTE_BYTES:
        return raw.decode()
    ellipsis = "…"
    return raw[: _NOTE_BYTES - len(ellipsis.encode())].decode(errors="ignore") + ellipsis
