"""The event buffer between Kopf's thread and the controller's loop: complete, in order, with few wake-ups."""

import asyncio
import threading
from itertools import count as count_from
from typing import Any

import pytest

from awsbatch_operator.api.decoding import Snapshot
from awsbatch_operator.handlers.watch import EventBuffer


class Listener:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.thread: int | None = None

    def on_relist(self, uid: str) -> None:
        self.calls.append((uid, "listed"))

    def on_upsert(self, snapshot: Snapshot) -> None:
        self.thread = threading.get_ident()
        self.calls.append((snapshot.ref.uid, snapshot.resource_version))

    def on_delete(self, uid: str) -> None:
        self.calls.append((uid, "gone"))


class CountingLoop:
    """A loop that counts its wake-ups by another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self.woken = loop, 0

    def call_soon_threadsafe(self, *what: Any) -> asyncio.Handle:
        self.woken += 1
        return self._loop.call_soon_threadsafe(*what)

    def time(self) -> float:
        return self._loop.time()

    def call_soon(self, *what: Any) -> asyncio.Handle:
        return self._loop.call_soon(*what)


def body(uid: str, version: int) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "name": uid, "resourceVersion": str(version)}, "spec": {"jobId": "j"}}


async def until_delivered(listener: Listener, count: int) -> int:
    """After how many turns of the loop."""
    for turn in count_from(0):
        if len(listener.calls) >= count:
            return turn
        await asyncio.sleep(0)
    raise AssertionError("unreachable")


async def test_events_come_in_order_on_the_loop_of_the_listener() -> None:
    listener = Listener()
    buffer = EventBuffer(asyncio.get_running_loop(), listener)

    def kopf() -> None:
        for version in range(1_000):
            buffer.put("MODIFIED", body("u", version))
        buffer.put("DELETED", body("u", 1_000))

    thread = threading.Thread(target=kopf)
    thread.start()
    await until_delivered(listener, 1_001)
    thread.join()
    assert listener.calls == [*(("u", str(version)) for version in range(1_000)), ("u", "gone")]
    assert listener.thread == threading.get_ident()
    assert buffer.last_event_at == pytest.approx(asyncio.get_running_loop().time(), abs=5)


async def test_a_loop_that_is_behind_is_woken_once_and_other_tasks_run() -> None:
    listener = Listener()
    loop = CountingLoop(asyncio.get_running_loop())
    buffer = EventBuffer(loop, listener)  # type: ignore[arg-type]
    for version in range(500):
        buffer.put("MODIFIED", body("u", version))
    assert await until_delivered(listener, 500) > 5
    await asyncio.sleep(0)
    assert loop.woken == 1
    buffer.put("MODIFIED", body("u", 500))
    await until_delivered(listener, 501)
    assert loop.woken == 2


async def test_a_listed_object_is_reported_as_such() -> None:
    listener = Listener()
    buffer = EventBuffer(asyncio.get_running_loop(), listener)
    buffer.put(None, body("u", 7))
    buffer.put("ADDED", body("v", 8))
    await until_delivered(listener, 3)
    assert listener.calls == [("u", "listed"), ("u", "7"), ("v", "8")]
