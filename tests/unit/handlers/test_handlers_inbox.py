"""From Kopf's thread to the engine's loop: everything, in order, and no more wake-ups than needed."""

import asyncio
import threading
from itertools import count as count_from
from typing import Any

from awsbatch_operator.domain.record import Snapshot
from awsbatch_operator.handlers.watch import Inbox


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.known: dict[str, str] = {}
        self.thread: int | None = None

    def listed(self, uid: str) -> None:
        self.told.append((uid, "listed"))

    def knows(self, uid: str, resource_version: str) -> bool:
        return self.known.get(uid) == resource_version

    def seen(self, snapshot: Snapshot) -> None:
        self.thread = threading.get_ident()
        self.told.append((snapshot.ref.uid, snapshot.resource_version))

    def gone(self, uid: str) -> None:
        self.told.append((uid, "gone"))


class CountingLoop:
    """The one method that another thread may use of a loop, counted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self.woken = loop, 0

    def call_soon_threadsafe(self, *what: Any) -> asyncio.Handle:
        self.woken += 1
        return self._loop.call_soon_threadsafe(*what)

    def call_soon(self, *what: Any) -> asyncio.Handle:
        return self._loop.call_soon(*what)


def body(uid: str, version: int) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "name": uid, "resourceVersion": str(version)}, "spec": {"jobId": "j"}}


async def until_delivered(listener: Listener, count: int) -> int:
    """After how many turns of the loop."""
    for turn in count_from(0):
        if len(listener.told) >= count:
            return turn
        await asyncio.sleep(0)
    raise AssertionError("unreachable")


async def test_events_come_in_order_on_the_loop_of_the_listener() -> None:
    listener = Listener()
    inbox = Inbox(asyncio.get_running_loop(), listener)

    def kopf() -> None:
        for version in range(1_000):
            inbox.put("MODIFIED", body("u", version))
        inbox.put("DELETED", body("u", 1_000))

    thread = threading.Thread(target=kopf)
    thread.start()
    await until_delivered(listener, 1_001)
    thread.join()
    assert listener.told == [*(("u", str(version)) for version in range(1_000)), ("u", "gone")]
    assert listener.thread == threading.get_ident()


async def test_a_version_that_is_known_is_not_read() -> None:
    listener = Listener()
    listener.known["u"] = "7"
    inbox = Inbox(asyncio.get_running_loop(), listener)
    inbox.put("MODIFIED", body("u", 7))
    inbox.put("MODIFIED", body("u", 8))
    await until_delivered(listener, 1)
    assert listener.told == [("u", "8")]


async def test_a_loop_that_is_behind_is_woken_once_and_others_get_their_turn() -> None:
    listener = Listener()
    loop = CountingLoop(asyncio.get_running_loop())
    inbox = Inbox(loop, listener)  # type: ignore[arg-type]
    for version in range(500):
        inbox.put("MODIFIED", body("u", version))
    assert await until_delivered(listener, 500) > 5
    await asyncio.sleep(0)
    assert loop.woken == 1
    inbox.put("MODIFIED", body("u", 500))
    await until_delivered(listener, 501)
    assert loop.woken == 2


async def test_an_object_that_a_list_shows_is_told_apart_also_when_its_version_is_known() -> None:
    listener = Listener()
    listener.known["u"] = "7"
    inbox = Inbox(asyncio.get_running_loop(), listener)
    inbox.put(None, body("u", 7))
    inbox.put(None, body("v", 8))
    await until_delivered(listener, 3)
    assert listener.told == [("u", "listed"), ("v", "listed"), ("v", "8")]
