"""Kubernetes Events: one per transition, counted up when the same is said again, posted beside the engine's work."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import structlog

from awsbatch_operator.domain.cadence import MINUTE
from awsbatch_operator.domain.events import Event
from awsbatch_operator.domain.job import Millis
from awsbatch_operator.domain.record import ObjectRef
from awsbatch_operator.kube import names, times
from awsbatch_operator.kube.client import ApiError, KubeClient

QUIET: Final = {"Throttled": 10 * MINUTE}
"""Reasons that are told at most once per object and so many milliseconds."""

_GROUP: Final = "events.k8s.io"
_API_VERSION: Final = f"{_GROUP}/v1"

EVENT_RIGHTS: Final = tuple((verb, _GROUP, "events") for verb in ("create", "get", "patch"))
"""Verb, group and resource of all that is asked here: `get` tells how often an earlier process has said the same."""

_REMEDY: Final = f"grant create, get and patch on events (apiGroups: [{_GROUP}]) to the operator's service account"
_NOTE_BYTES: Final = 1024
_NAME_LENGTH: Final = 253
_INSTANCE_LENGTH: Final = 128
_RETRY_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class _Latest(Generic[_Key, _Value]):
    """A dict that forgets what was put longest ago."""

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
    """Use as `async with EventPoster(client, instance) as events`; leaving it posts what waits, for at most 2 s.

    `instance` is this process, its pod or host name. At most `waiting` Events wait: older ones give way, as their
    object's status says the same. The counts of the latest `remembered` ones are known without asking.
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
        self._counts: _Latest[str, int] = _Latest(remembered)
        self._told: _Latest[tuple[str, str], Millis] = _Latest(remembered)
        self._dropped = 0
        self._failure = ""
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # One worker: Events arrive in order, and no two of them count the same one up at once.
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
        """Returns at once; whether the Event arrives is never told to the caller."""
        now, key = self._now(), (ref.uid, event.reason)
        quiet, told = QUIET.get(event.reason), self._told.get(key)
        if quiet is not None:
            if told is not None and now - told < quiet:
                return
            self._told.put(key, now)
        if self._queue.full():
            self._queue.get_nowait()
            self._queue.task_done()
            self._dropped += 1
        self._queue.put_nowait((ref, event, now))

    async def idle(self) -> None:
        """Until every Event posted so far has arrived or is lost."""
        await self._queue.join()

    async def _work(self) -> None:
        while True:
            ref, event, at = await self._queue.get()
            try:
                await self._tell(ref, event, at)
            finally:
                self._queue.task_done()
            if self._dropped and self._queue.empty():
                log.warning("events were dropped: more of them than the Kubernetes API took", count=self._dropped)
                self._dropped = 0

    async def _tell(self, ref: ObjectRef, event: Event, at: Millis) -> None:
        try:
            try:
                await self._count_or_create(ref, event, at)
            except ApiError as error:
                if not error.transient:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
                await self._count_or_create(ref, event, at)
        except ApiError as error:
            # An API server that is away, or refuses, fails every Event alike: said once, until one goes through again.
            failure = _REMEDY if error.status == 403 else error.message
            if failure != self._failure:
                remedy = {"remedy": _REMEDY} if error.status == 403 else {}
                log.warning("an event was lost", object=ref, reason=event.reason, error=error.message, **remedy)
            self._failure = failure
        else:
            self._failure = ""

    async def _count_or_create(self, ref: ObjectRef, event: Event, at: Millis) -> None:
        name = event_name(ref, event)
        count = self._counts.get(name)
        if count is not None and await self._count_up(ref, name, count + 1, at):
            return
        try:
            await self._client.post(_path(ref), _body(ref, event, at, name, self._instance))
            self._counts.put(name, 1)
        except ApiError as error:
            if error.status != 409:
                raise
            # An earlier process has said the same.
            _, posted = await self._client.get(f"{_path(ref)}/{name}")
            await self._count_up(ref, name, ((posted.get("series") or {}).get("count") or 1) + 1, at)

    async def _count_up(self, ref: ObjectRef, name: str, count: int, at: Millis) -> bool:
        """False when the Event is no more: the API server forgets them after an hour."""
        series = {"count": count, "lastObservedTime": times.micro_time(at)}
        try:
            await self._client.patch(f"{_path(ref)}/{name}", {"series": series})
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        self._counts.put(name, count)
        return True


def event_name(ref: ObjectRef, event: Event) -> str:
    """The same for the same statement about the same object, whichever process makes it."""
    said = f"{ref.uid}\0{event.reason}\0{event.note}".encode(errors="replace")
    digest = hashlib.blake2b(said, digest_size=8).hexdigest()
    return f"{ref.name[: _NAME_LENGTH - len(digest) - 1].rstrip('.-')}.{digest}"


def _path(ref: ObjectRef) -> str:
    return f"/apis/{_API_VERSION}/namespaces/{ref.namespace}/events"


def _body(ref: ObjectRef, event: Event, at: Millis, name: str, instance: str) -> dict[str, Any]:
    return {
        "apiVersion": _API_VERSION,
        "kind": "Event",
        "metadata": {"name": name, "namespace": ref.namespace},
        "eventTime": times.micro_time(at),
        "reportingController": names.REPORTING_CONTROLLER,
        "reportingInstance": instance,
        "action": "Terminate" if event.reason.startswith("Terminat") else "Observe",
        "reason": event.reason,
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "namespace": ref.namespace,
            "name": ref.name,
            "uid": ref.uid,
        },
        "note": _cut(event.note),
        "type": "Warning" if event.warning else "Normal",
    }


def _cut(note: str) -> str:
    """At most 1024 bytes of UTF-8, whole characters."""
    raw = note.encode(errors="replace")
    if len(raw) <= _NOTE_BYTES:
        return raw.decode()
    ellipsis = "…"
    return raw[: _NOTE_BYTES - len(ellipsis.encode())].decode(errors="ignore") + ellipsis
