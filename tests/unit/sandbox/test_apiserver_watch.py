"""Watches of the embedded API server, and what tests can do to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from awsbatch_sandbox.apiserver.storage import Store
from unit.sandbox.apiserver_client import METADATA, METADATA_OF_ONE, TABLE, WIDGETS, Client, running, widget

W = f"{WIDGETS}/w"


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Client]:
    async with running() as client:
        yield client


async def latest(api: Client) -> str:
    return (await api.get(f"{WIDGETS}?limit=1")).version


async def status_once_back(api: Client) -> int:
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectorError):
                return (await api.get(W)).status
            await asyncio.sleep(0.02)


async def test_a_watch_shows_changes_after_its_version(api: Client) -> None:
    await api.create(widget("old"))
    version = await latest(api)
    await api.create(widget())
    async with api.watch(f"resourceVersion={version}") as stream:
        await api.patch(W, {"spec": {"text": "x"}})
        deleted = await api.delete(W)
        assert await stream.names(2) == [("ADDED", "w"), ("MODIFIED", "w")]
        last = await stream.next()
    assert last["type"] == "DELETED"
    assert int(last["object"]["metadata"]["resourceVersion"]) > int(version) + 2
    assert deleted.status == 200


async def test_a_watch_without_a_version_begins_with_what_is_there(api: Client) -> None:
    await api.create(widget("there"))
    async with api.watch("") as stream:
        await api.create(widget("later"))
        assert await stream.names(2) == [("ADDED", "there"), ("ADDED", "later")]


async def test_initial_events_end_with_a_marked_bookmark(api: Client) -> None:
    await api.create(widget())
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with api.watch(query) as stream:
        assert (await stream.next())["type"] == "ADDED"
        bookmark = await stream.next()
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    async with api.watch("sendInitialEvents=true") as refused:
        assert refused.response.status == 422


async def test_a_watcher_gets_each_change_once_and_in_order() -> None:
    store = Store(history=10)
    things = store.collection("things")
    things.commit(("", "x"), {"metadata": {}, "n": 1})
    watcher = things.watch(store.version)
    things.commit(("", "x"), {"metadata": {}, "n": 2})
    things.remove(("", "x"), {"metadata": {}, "n": 2})
    changes = await watcher.take()
    assert [(change.removed, change.before is not None) for change in changes] == [(False, True), (True, True)]
    assert [change.version for change in changes] == [3, 4]


async def test_a_selector_turns_leaving_and_entering_into_deleted_and_added(api: Client) -> None:
    await api.create(widget())
    async with api.watch(f"resourceVersion={await latest(api)}&labelSelector=x") as stream:
        await api.create(widget("never"))
        await api.patch(W, {"metadata": {"labels": {"x": "1"}}})
        await api.patch(W, {"metadata": {"labels": {"x": "2"}}})
        await api.patch(W, {"metadata": {"labels": None}})
        assert await stream.names(3) == [("ADDED", "w"), ("MODIFIED", "w"), ("DELETED", "w")]


async def test_one_object_can_be_watched_by_its_name(api: Client) -> None:
    async with api.watch(f"resourceVersion={await latest(api)}&fieldSelector=metadata.name%3Dw") as stream:
        await api.create(widget("other"))
        await api.create(widget())
        assert await stream.names(1) == [("ADDED", "w")]


async def test_a_write_that_changes_nothing_is_no_event(api: Client) -> None:
    await api.create(widget())
    async with api.watch(f"resourceVersion={await latest(api)}") as stream:
        await api.patch(W, {"spec": {"id": "abc"}})
        await api.create(widget("next"))
        assert await stream.names(1) == [("ADDED", "next")]


async def test_bookmarks_come_regularly_and_carry_the_version_only() -> None:
    since = "resourceVersion={}&allowWatchBookmarks=true"
    async with running(bookmark_every=0.01) as api, api.watch(since.format(await latest(api))) as stream:
        event = await stream.next()
    assert event["type"] == "BOOKMARK"
    assert event["object"].keys() == {"kind", "apiVersion", "metadata"}
    assert event["object"]["metadata"].keys() == {"resourceVersion"}


async def test_a_watch_ends_after_its_timeout(api: Client) -> None:
    async with api.watch("timeoutSeconds=1") as stream:
        assert await stream.rest() == []


async def test_a_version_before_the_history_is_gone() -> None:
    async with running(history=2) as api:
        version = await latest(api)
        for name in ("a", "b", "c"):
            await api.create(widget(name))
        async with api.watch(f"resourceVersion={version}") as stream:
            (event,) = await stream.rest()
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_a_version_of_an_earlier_server_is_gone(api: Client) -> None:
    async with api.watch("resourceVersion=1") as stream:
        (event,) = await stream.rest()
    assert event["object"]["message"].startswith("too old resource version: 1 (")


async def test_watches_can_request_tables_and_metadata(api: Client) -> None:
    await api.create(widget("a"))
    await api.create(widget("b"))
    async with api.watch("", **TABLE) as stream:
        first, second = await stream.next(), await stream.next()
    assert first["object"]["kind"] == "Table"
    assert first["object"]["columnDefinitions"][0]["name"] == "Name"
    assert second["object"]["columnDefinitions"] is None
    assert second["object"]["rows"][0]["cells"][0] == "b"
    async with api.watch("", **METADATA_OF_ONE) as stream:
        assert (await stream.next())["object"]["kind"] == "PartialObjectMetadata"


async def test_expire_forgets_the_history(api: Client) -> None:
    version = await latest(api)
    await api.order("expire")
    async with api.watch(f"resourceVersion={version}") as stream:
        assert (await stream.next())["object"]["code"] == 410
    async with api.watch(f"resourceVersion={await latest(api)}") as stream:
        await api.create(widget())
        assert await stream.names(1) == [("ADDED", "w")]


async def test_cut_ends_open_watches(api: Client) -> None:
    async with api.watch("") as stream:
        await api.order("cut")
        assert await stream.rest() == []


@pytest.mark.parametrize("names", [(), ("w",)], ids=["empty", "one"])
async def test_a_watch_of_what_is_no_longer_served_ends(api: Client, names: tuple[str, ...]) -> None:
    for name in names:
        await api.create(widget(name))
    async with api.watch(f"resourceVersion={await latest(api)}") as stream:
        await api.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com")
        assert [event["type"] for event in await stream.rest()] == ["DELETED"] * len(names)


async def test_metadata_has_one_form_for_lists_and_another_for_objects(api: Client) -> None:
    await api.create(widget())
    answers = [await api.get(WIDGETS, **METADATA_OF_ONE), await api.get(W, **METADATA)]
    assert [(answer.status, answer.body["reason"]) for answer in answers] == [(406, "NotAcceptable")] * 2
    assert answers[0].message == (
        "you requested PartialObjectMetadata, but the requested object is a list (*WidgetList)"
    )


async def test_cut_may_end_open_watches_by_a_410_in_the_stream(api: Client) -> None:
    async with api.watch(f"resourceVersion={await latest(api)}") as stream:
        await api.create(widget())
        await api.order("cut", expired=True)
        added, error = await stream.rest()
    assert added["object"]["metadata"]["name"] == "w"
    assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_a_fault_may_hit_watches_only_or_later_pages_only(api: Client) -> None:
    for name in ("a", "b"):
        await api.create(widget(name))
    await api.order("fault", method="GET", path_regex="widgets$", query_regex="watch=", status=410)
    await api.order("fault", method="GET", path_regex="widgets$", query_regex="continue=", status=410)
    first = await api.get(f"{WIDGETS}?limit=1")
    token = first.body["metadata"]["continue"]
    assert (await api.get(f"{WIDGETS}?limit=1&continue={token}")).status == 410
    assert (await api.get(f"{WIDGETS}?limit=1&continue={token}")).status == 200
    async with api.watch("") as stream:
        assert stream.response.status == 410
    async with api.watch("") as stream:
        assert await stream.names(1) == [("ADDED", "a")]


async def test_a_fault_applies_as_often_as_requested(api: Client) -> None:
    await api.order("fault", method="GET", path_regex="widgets$", status=503, times=2)
    statuses = [(await api.get(WIDGETS)).status for _ in range(3)]
    assert statuses == [503, 503, 200]
    assert (await api.order("fault", path_regex="(")).status == 400


async def test_while_it_hangs_nothing_is_answered_and_afterwards_everything(api: Client) -> None:
    async with api.watch("") as stream:
        await api.order("hang", seconds=0.2)
        slow = asyncio.create_task(api.create(widget()))
        done, _pending = await asyncio.wait([slow], timeout=0.05)
        assert not done
        assert (await slow).status == 201
        assert await stream.names(1) == [("ADDED", "w")]


async def test_away_cuts_everything_and_comes_back_with_its_state(api: Client) -> None:
    await api.create(widget())
    async with api.watch(f"resourceVersion={await latest(api)}") as stream:
        await api.order("away", seconds=0.2)
        with pytest.raises((aiohttp.ClientError, AssertionError)):
            await stream.next()
    with pytest.raises(aiohttp.ClientConnectorError):
        await api.get(W)
    assert await status_once_back(api) == 200


async def test_the_request_log_counts_and_can_be_cleared(api: Client) -> None:
    await api.call("DELETE", "/_sandbox/requests")
    for _ in range(2):
        await api.get(f"{W}?x=1")
    (item,) = (await api.get("/_sandbox/requests")).body["items"]
    assert item == {
        "method": "GET",
        "path": W,
        "query": "x=1",
        "userAgent": "tester/1.0 (test)",
        "status": 404,
        "count": 2,
    }


async def test_an_unknown_control_is_rejected(api: Client) -> None:
    assert (await api.order("dance")).status == 400
    assert (await api.order("away", seconds="soon")).status == 400
