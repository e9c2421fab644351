"""What tests order of the embedded API server beyond outages: slow and refused answers, silent watches, a restore."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from unit.sandbox.apiserver_client import MERGE, WIDGETS, Client, running, widget

W = f"{WIDGETS}/w"


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Client]:
    async with running() as client:
        yield client


async def test_a_refusal_carries_the_message_of_the_fault(api: Client) -> None:
    await api.create(widget())
    await api.order("fault", method="PATCH", path_regex="/w/status$", status=400, message="the webhook denied it")
    refused = await api.patch(f"{W}/status", {"status": {"phase": "Up"}})
    assert (refused.status, refused.message) == (400, "the webhook denied it")
    assert (await api.patch(f"{W}/status", {"status": {"phase": "Up"}})).status == 200


async def test_a_slow_answer_is_given_once_the_faults_are_cleared(api: Client) -> None:
    await api.order("fault", method="GET", path_regex="widgets$", seconds=60)
    slow = asyncio.create_task(api.get(WIDGETS))
    assert (await api.create(widget())).status == 201
    assert not slow.done()
    await api.order("clear_faults")
    assert len((await slow).body["items"]) == 1


async def test_a_silent_watch_is_accepted_and_sends_nothing(api: Client) -> None:
    await api.order("fault", query_regex="watch=", silent=True)
    async with api.watch("") as silent, api.watch("") as other:
        await api.create(widget())
        assert await other.names(1) == [("ADDED", "w")]
        reading = asyncio.create_task(silent.names(1))
        await api.get(W)
        assert not reading.done()
        await api.order("clear_faults")
        assert await reading == [("ADDED", "w")]


async def test_a_restore_brings_back_objects_and_versions(api: Client) -> None:
    before = (await api.create(widget(n=1))).version
    await api.order("snapshot")
    await api.patch(W, {"spec": {"n": 2}}, MERGE)
    await api.create(widget("later"))
    assert (await api.order("restore")).status == 200
    restored = await api.get(WIDGETS)
    assert [one["metadata"]["name"] for one in restored.body["items"]] == ["w"]
    assert (restored.body["items"][0]["spec"]["n"], (await api.get(W)).version) == (1, before)


async def test_after_a_restore_a_watch_from_a_later_version_shows_nothing_until_versions_pass_it(api: Client) -> None:
    await api.create(widget())
    await api.order("snapshot")
    later = int((await api.patch(W, {"spec": {"n": 2}}, MERGE)).version)
    await api.order("restore")
    async with api.watch(f"resourceVersion={later}") as stream:
        assert int((await api.patch(W, {"spec": {"n": 5}}, MERGE)).version) <= later
        await api.patch(W, {"spec": {"n": 4}}, MERGE)
        assert (await stream.next())["object"]["spec"]["n"] == 4
