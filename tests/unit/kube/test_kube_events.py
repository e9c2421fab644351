import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api.batchjob import ObjectRef
from awsbatch_operator.api.conditions import Reason
from awsbatch_operator.api.events import Event, EventReason
from awsbatch_operator.kube.client import ApiError
from awsbatch_operator.kube.events import EventPoster, event_name
from unit.kube.scripted_client import Reply, ScriptedClient, not_found

pytestmark = pytest.mark.looptime(start=0)

REF = ObjectRef("team-a", "train-42", "u-1")
FAILED = Event(EventReason.JOB_FAILED, "exit 1", warning=True)
THROTTLED = Event(Reason.THROTTLED, "AWS slows down", warning=True)
EVENTS = "/apis/events.k8s.io/v1/namespaces/team-a/events"
MINUTE = 60


def event(reason: str, number: int) -> Event:
    return Event(EventReason(reason), f"note {number}")


class ApiServer:
    """Keeps Events by path, and answers the next requests with `refusals`."""

    def __init__(self, latency: float = 0.0) -> None:
        self.client = ScriptedClient(self._reply, latency)
        self.kept: dict[str, dict[str, Any]] = {}
        self.refusals: list[ApiError] = []

    def _reply(self, verb: str, path: str, sent: Mapping[str, Any]) -> Reply:
        if self.refusals:
            return self.refusals.pop(0)
        if verb == "post":
            path = f"{path}/{sent['metadata']['name']}"
            if path in self.kept:
                return ApiError(409, "exists", "AlreadyExists")
            self.kept[path] = dict(sent)
        elif path not in self.kept:
            return not_found(path)
        elif verb == "patch":
            self.kept[path] |= sent
        return self.kept[path]

    def poster(self, **options: Any) -> EventPoster:
        return EventPoster(self.client, "pod-1", now=lambda: int(asyncio.get_running_loop().time() * 1000), **options)

    def counts(self) -> list[int]:
        return [kept.get("series", {}).get("count", 1) for kept in self.kept.values()]


async def test_an_event_has_object_reason_and_reporter() -> None:
    server = ApiServer()
    async with server.poster() as events:
        events.post(REF, FAILED)
    name = event_name(REF, FAILED)
    assert server.client.calls == [
        (
            "post",
            EVENTS,
            {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": "team-a"},
                "eventTime": "1970-01-01T00:00:00.000000Z",
                "reportingController": "awsbatch.dev/awsbatch-operator",
                "reportingInstance": "pod-1",
                "action": "Observe",
                "reason": "JobFailed",
                "regarding": {
                    "apiVersion": "awsbatch.dev/v1alpha1",
                    "kind": "BatchJob",
                    "namespace": "team-a",
                    "name": "train-42",
                    "uid": "u-1",
                },
                "note": "exit 1",
                "type": "Warning",
            },
        )
    ]


async def test_a_repeated_event_increases_its_count() -> None:
    server = ApiServer()
    async with server.poster() as events:
        events.post(REF, FAILED)
        await asyncio.sleep(5)
        events.post(REF, FAILED)
        events.post(REF, FAILED)
    assert server.client.verbs == ["post", "patch", "patch"]
    (kept,) = server.kept.values()
    assert kept["series"] == {"count": 3, "lastObservedTime": "1970-01-01T00:00:05.000000Z"}


async def test_an_event_of_an_earlier_process_is_increased_too() -> None:
    server = ApiServer()
    for _ in range(3):
        async with server.poster() as events:
            events.post(REF, FAILED)
    assert server.counts() == [3]


async def test_an_event_that_the_api_server_deleted_is_created_again() -> None:
    server = ApiServer()
    async with server.poster() as events:
        events.post(REF, FAILED)
        await asyncio.sleep(1)
        server.kept.clear()
        events.post(REF, FAILED)
    assert server.counts() == [1]


async def test_other_notes_and_other_objects_are_separate_events() -> None:
    server = ApiServer()
    async with server.poster() as events:
        for printed in (FAILED, Event(EventReason.JOB_FAILED, "exit 2"), Event(Reason.JOB_NOT_FOUND, "exit 1")):
            events.post(REF, printed)
            events.post(ObjectRef("team-a", "train-42", "u-2"), printed)
    assert server.counts() == [1] * 6


async def test_throttling_is_posted_once_per_object_and_ten_minutes() -> None:
    server = ApiServer()
    async with server.poster() as events:
        for _ in range(25):
            events.post(REF, THROTTLED)
            events.post(ObjectRef("team-a", "b", "u-2"), THROTTLED)
            await asyncio.sleep(MINUTE)
    assert server.counts() == [3, 3]


async def test_a_note_is_cut_at_a_character_to_1024_bytes() -> None:
    server = ApiServer()
    async with server.poster() as events:
        events.post(REF, Event(EventReason.JOB_FAILED, "a" + "é" * 600))
        events.post(REF, Event(EventReason.JOB_FAILED, "é" * 512))
        events.post(REF, Event(EventReason.JOB_FAILED, "half a pair \ud83d"))
    cut, whole, repaired = (kept["note"] for kept in server.kept.values())
    assert (len(cut.encode()), cut[-2:]) == (1024, "é…")
    assert whole == "é" * 512
    assert repaired == "half a pair ?"


async def test_a_burst_neither_waits_nor_grows_and_the_oldest_give_way() -> None:
    server = ApiServer(latency=0.01)
    with capture_logs() as logs:
        async with server.poster(waiting=100) as events:
            before = asyncio.get_running_loop().time()
            for number in range(10_000):
                events.post(REF, event("JobFailed", number))
            assert asyncio.get_running_loop().time() == before
            await asyncio.sleep(60)
    assert [kept["note"] for kept in server.kept.values()] == [f"note {number}" for number in range(9_900, 10_000)]
    assert [(line["log_level"], line["count"]) for line in logs] == [("warning", 9_900)]


async def test_memory_of_counts_is_bounded() -> None:
    server = ApiServer()
    async with server.poster(remembered=10) as events:
        for number in range(50):
            events.post(REF, event("JobFailed", number))
        await asyncio.sleep(1)
        server.client.calls.clear()
        events.post(REF, event("JobFailed", 49))
        events.post(REF, event("JobFailed", 0))
    assert server.client.verbs == ["patch", "post", "get", "patch"]


async def test_a_passing_fault_is_tried_once_more() -> None:
    server = ApiServer()
    server.refusals = [ApiError(503, "away")]
    with capture_logs() as logs:
        async with server.poster() as events:
            events.post(REF, FAILED)
    assert server.counts() == [1]
    assert logs == []


async def test_a_lost_event_is_logged_once_until_one_goes_through() -> None:
    server = ApiServer()
    server.refusals = [ApiError(403, "forbidden")] * 3
    with capture_logs() as logs:
        async with server.poster() as events:
            for number in range(4):
                events.post(REF, event("JobFailed", number))
            await asyncio.sleep(1)
            server.refusals = [ApiError(403, "forbidden")]
            events.post(REF, FAILED)
    assert [(line["event"], line["object"], line["error"]) for line in logs] == [
        ("cannot create Event", REF, "forbidden"),
        ("cannot create Event", REF, "forbidden"),
    ]
    assert "grant create, get and patch on events" in logs[0]["remedy"]
    assert server.counts() == [1]


async def test_errors_that_differ_only_in_the_event_name_are_logged_once() -> None:
    server = ApiServer()
    server.refusals = [ApiError(403, f'events.events.k8s.io "e{n}" is forbidden') for n in range(3)]
    with capture_logs() as logs:
        async with server.poster() as events:
            for number in range(3):
                events.post(REF, event("JobFailed", number))
    assert len(logs) == 1


async def test_a_namespace_that_is_being_deleted_gets_no_event_and_nobody_is_told_to_grant_anything() -> None:
    server = ApiServer()
    ended = "unable to create new content in namespace ns because it is being terminated"
    server.refusals = [ApiError(403, f'events.events.k8s.io "e" is forbidden: {ended}')]
    with capture_logs() as logs:
        async with server.poster() as events:
            events.post(REF, event("JobFailed", 1))
    assert logs == []
    assert server.refusals == []


async def test_the_end_does_not_wait_for_an_api_server_that_hangs() -> None:
    server = ApiServer(latency=3_600)
    async with server.poster() as events:
        events.post(REF, FAILED)
    assert asyncio.get_running_loop().time() == pytest.approx(2, abs=0.1)


def test_a_name_is_the_same_in_every_process_and_fits_into_253_characters() -> None:
    assert event_name(REF, FAILED) == "train-42.cc7e0ab92fc8b6ea"
    longest = event_name(ObjectRef("n", "a" * 235 + "." + "b" * 17, "u"), FAILED)
    assert len(longest) <= 253
    assert ".." not in longest
