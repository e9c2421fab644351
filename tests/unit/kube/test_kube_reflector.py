"""The reflector on virtual time: what it reports, when it asks, and since when it is stale."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.kube.client import ApiError, Response, WatchEvent
from awsbatch_operator.kube.reflector import NOT_SERVED_RETRY, RELIST_INTERVAL, WATCH_SECONDS, Reflector
from unit.kube import scripted_watch
from unit.kube.scripted_watch import AWAY, GONE, Collection

pytestmark = pytest.mark.looptime(start=1_000)

Body = dict[str, Any]


class Handler:
    """What it was calls: a dict of names and specs for the whole, a name and a spec for one."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.objects: dict[str, Any] = {}

    def on_relist(self, bodies: Mapping[str, Body]) -> None:
        self.objects = {name: body["spec"] for name, body in bodies.items()}
        self.calls.append(dict(self.objects))

    def on_upsert(self, name: str, body: Body) -> None:
        self.objects = {**self.objects, name: body["spec"]}
        self.calls.append((name, body["spec"]))

    def on_delete(self, name: str) -> None:
        self.objects = {other: spec for other, spec in self.objects.items() if other != name}
        self.calls.append((name, None))


class Running:
    def __init__(self, collection: Collection, *, optional: bool = False) -> None:
        self.api, self.handler, self.stale_changes = collection, Handler(), list[float | None]()
        self.reflector = Reflector(
            collection,
            "/apis/x/things",
            self.handler,
            optional=optional,
            on_stale_change=lambda: self.stale_changes.append(self.reflector.stale_since),
            jitter=lambda _low, high: high,
        )


@asynccontextmanager
async def running(collection: Collection, **options: Any) -> AsyncIterator[Running]:
    """After the first tenth of a second."""
    one = Running(collection, **options)
    task = asyncio.ensure_future(one.reflector.run())
    try:
        await asyncio.sleep(0.1)
        yield one
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_whole_is_calls_at_once_from_all_pages_and_then_each_change() -> None:
    api = Collection(page=2)
    for name in "abcde":
        api.make(name, n=1)
    async with running(api) as one:
        assert one.handler.calls == [{name: {"n": 1} for name in "abcde"}]
        assert api.verbs == ["list", "list", "list", "watch"]
        api.send("ADDED", api.make("f", n=2))
        api.send("MODIFIED", api.make("a", n=3))
        api.send("DELETED", api.objects.pop("b"))
        api.send("BOOKMARK", {"metadata": {"resourceVersion": "99"}})
        await asyncio.sleep(0.1)
        assert one.handler.calls[1:] == [("f", {"n": 2}), ("a", {"n": 3}), ("b", None)]


async def test_a_watch_begins_where_the_list_or_the_watch_before_it_ended() -> None:
    api = Collection()
    api.make("a")
    async with running(api) as one:
        api.send("BOOKMARK", {"metadata": {"resourceVersion": "99"}})
        await asyncio.sleep(WATCH_SECONDS)
        assert api.verbs == ["list", "watch", "watch"]
        assert [params["resourceVersion"] for _, verb, params in api.calls if verb == "watch"] == ["2", "99"]
        assert {(params["allowWatchBookmarks"], params["timeoutSeconds"]) for _, _, params in api.calls[1:]} == {
            ("true", "30")
        }
        assert len(one.handler.calls) == 1


@pytest.mark.parametrize("error", [GONE, AWAY], ids=["410", "cut"])
async def test_after_an_error_the_collection_is_listed_again_at_once(error: ApiError) -> None:
    api = Collection()
    api.make("a"), api.make("b")
    async with running(api) as one:
        await asyncio.sleep(5)
        del api.objects["a"]
        api.make("c")
        api.end(error)
        await asyncio.sleep(0.01)
        assert one.handler.calls == [{"a": {}, "b": {}}, {"b": {}, "c": {}}]
        assert one.reflector.stale_since is None


async def test_a_version_that_is_gone_when_the_watch_goes_on_leads_to_a_list() -> None:
    api = Collection()
    api.make("a")
    async with running(api) as one:
        await asyncio.sleep(5)
        del api.objects["a"]
        api.refusals.append(GONE)
        api.end()
        await asyncio.sleep(0.2)
        assert api.verbs == ["list", "watch", "watch", "list", "watch"]
        assert one.handler.calls == [{"a": {}}, {}]


async def test_the_collection_is_listed_regularly_without_failures() -> None:
    api = Collection()
    api.make("a")
    async with running(api) as one:
        await asyncio.sleep(RELIST_INTERVAL + WATCH_SECONDS)
        assert api.verbs.count("list") == 2
        assert len(one.handler.calls) == 2


async def test_requests_to_an_unavailable_server_have_a_bounded_rate() -> None:
    api = Collection()
    api.make("a")
    async with running(api) as one:
        await asyncio.sleep(5)
        api.error = AWAY
        api.end(AWAY)
        await asyncio.sleep(60)
        api.error = None
        api.make("b")
        await asyncio.sleep(2)
        assert "b" in one.handler.objects
        asked_at = [at for at, _, _ in api.calls if at >= 1_005]
        gaps = [later - before for before, later in pairwise(asked_at)]
        assert max(gaps) <= 1.5
        assert len(asked_at) < 60
        assert asked_at[0] == pytest.approx(1_005.1, abs=0.01)
        assert gaps[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.01)


@pytest.mark.parametrize("error", [None, GONE, AWAY], ids=["ended", "410", "cut"])
async def test_a_watch_that_always_ends_at_once_does_not_spin(error: ApiError | None) -> None:
    class Short(Collection):
        @asynccontextmanager
        async def watch(self, *arguments: Any, **options: Any) -> AsyncIterator[AsyncIterator[WatchEvent]]:
            async with super().watch(*arguments, **options) as events:
                self.end(error)
                yield events

    api = Short()
    async with running(api):
        await asyncio.sleep(60)
    assert 40 < len(api.calls) < 120


async def test_after_calm_a_break_is_the_first_again() -> None:
    api = Collection()
    async with running(api):
        for _ in range(8):
            api.end(AWAY)
            await asyncio.sleep(2)
        await asyncio.sleep(5)
        broke_at = now()
        api.end(AWAY)
        await asyncio.sleep(0.05)
        assert api.calls[-2][1] == "list"
        assert api.calls[-2][0] == pytest.approx(broke_at, abs=0.01)


async def test_stale_since_is_the_time_of_the_last_update() -> None:
    api = Collection()
    api.make("a")
    one = Running(api)
    assert one.reflector.stale_since == 1_000, "it has received nothing yet"
    async with running(api) as one:
        assert one.stale_changes == [None]
        await asyncio.sleep(9.9)
        api.send("MODIFIED", api.make("a"))
        await asyncio.sleep(5)
        api.error = AWAY
        api.end(AWAY)
        await asyncio.sleep(3)
        # It is unknown how long the connection had been dead: the last event counts.
        assert one.reflector.stale_since == pytest.approx(1_010, abs=0.01)
        api.error = None
        await asyncio.sleep(2)
        assert one.reflector.stale_since is None
        assert one.stale_changes == [None, pytest.approx(1_010, abs=0.01), None]


async def test_it_becomes_fresh_after_the_handler_has_the_list() -> None:
    api = Collection()
    seen: list[tuple[float | None, int]] = []
    one = Running(api)
    one.reflector = Reflector(
        api, "/x", one.handler, on_stale_change=lambda: seen.append((one.reflector.stale_since, len(one.handler.calls)))
    )
    task = asyncio.ensure_future(one.reflector.run())
    await asyncio.sleep(0.1)
    task.cancel()
    assert seen == [(None, 1)]


async def test_a_watch_that_the_server_ends_is_fresh_until_its_end() -> None:
    api = Collection()
    async with running(api) as one:
        await asyncio.sleep(20)
        api.error = AWAY
        api.end()
        await asyncio.sleep(3)
        assert one.reflector.stale_since == pytest.approx(1_020.1, abs=0.01)


async def test_the_server_ends_a_watch_before_its_idle_timeout() -> None:
    api = Collection()
    async with running(api):
        _, _, params = api.calls[-1]
        assert WATCH_SECONDS < api.idle_timeout <= 60
        assert float(params["timeoutSeconds"]) == WATCH_SECONDS


async def test_an_empty_list_may_be_null() -> None:
    class Null(Collection):
        async def get(self, *_arguments: object, **_options: object) -> Response:
            return Response(200, {"items": None, "metadata": {"resourceVersion": "3"}})

    async with running(Null()) as one:
        assert one.handler.calls == [{}]


async def test_an_unserved_optional_collection_is_empty() -> None:
    api = Collection()
    api.error = scripted_watch.UNSERVED
    async with running(api, optional=True) as one:
        await asyncio.sleep(12)
        assert one.handler.calls == [{}]
        assert (one.reflector.stale_since, one.reflector.served) == (None, False)
        assert len(api.calls) == 3
        api.error = None
        api.make("a")
        await asyncio.sleep(NOT_SERVED_RETRY)
        assert one.handler.calls == [{}, {"a": {}}]
        assert one.reflector.served


@pytest.mark.parametrize("optional", [True, False])
async def test_a_collection_that_was_served_is_never_empty_by_a_404(optional: bool) -> None:
    api = Collection()
    api.make("a")
    async with running(api, optional=optional) as one:
        await asyncio.sleep(5)
        api.error = scripted_watch.UNSERVED
        api.end()
        await asyncio.sleep(20)
        assert one.handler.calls == [{"a": {}}]
        assert one.reflector.stale_since == pytest.approx(1_005.1, abs=0.01)


async def test_required_collections_start_as_unknown() -> None:
    api = Collection()
    api.error = scripted_watch.UNSERVED
    async with running(api) as one:
        await asyncio.sleep(5)
        assert one.handler.calls == []
        assert one.reflector.stale_since == 1_000


async def test_another_error_does_not_mean_empty() -> None:
    api = Collection()
    api.error = ApiError(403, "forbidden")
    async with running(api, optional=True) as one:
        await asyncio.sleep(5)
        assert one.handler.calls == []
        assert one.reflector.stale_since == 1_000


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"items": [], "metadata": {}},
        {"metadata": {"resourceVersion": "3"}},
        {"items": [{"metadata": {}}], "metadata": {"resourceVersion": "3"}},
        {"items": ["a"], "metadata": {"resourceVersion": "3"}},
    ],
)
async def test_an_answer_that_is_no_list_does_not_mean_empty(page: Body) -> None:
    class Odd(Collection):
        async def get(self, *_arguments: object, **_options: object) -> Response:
            return Response(200, page)

    async with running(Odd(), optional=True) as one:
        await asyncio.sleep(5)
        assert one.handler.calls == []
        assert one.reflector.stale_since == 1_000


async def test_a_lasting_failure_is_logged_once() -> None:
    api = Collection()
    with capture_logs() as logs:
        async with running(api):
            await asyncio.sleep(5)
            api.end(AWAY)
            await asyncio.sleep(5)
            assert logs == []
            api.error = AWAY
            api.end(AWAY)
            await asyncio.sleep(60)
            api.error = None
            await asyncio.sleep(5)
    printed = [(line["log_level"], line["event"], line["resource"], line.get("error")) for line in logs]
    assert printed == [("warning", "watch failed", "things", AWAY.message), ("info", "watch restored", "things", None)]


# -- relist ----------------------------------------------------------------------------------------------------------


async def _during_the_list(api: Collection) -> None:
    api.latency = 2.0
    api.end(AWAY)
    await asyncio.sleep(1)


async def _during_the_watch(_: Collection) -> None:
    await asyncio.sleep(1)


async def _during_the_pause(api: Collection) -> None:
    api.end()
    await asyncio.sleep(0.05)


async def _during_a_failure(api: Collection) -> None:
    api.error = AWAY
    api.end(AWAY)
    await asyncio.sleep(3)
    api.error = None


async def _while_the_watch_opens(api: Collection) -> None:
    api.latency = 1.0
    api.end()
    await asyncio.sleep(1.0)


async def _while_the_watch_closes(api: Collection) -> None:
    api.closing = 1.0
    await asyncio.sleep(1)


@pytest.mark.parametrize(
    "when",
    [
        _during_the_list,
        _during_the_watch,
        _during_the_pause,
        _during_a_failure,
        _while_the_watch_opens,
        _while_the_watch_closes,
    ],
)
async def test_a_relist_is_stale_until_a_list_that_began_after_it(
    when: Callable[[Collection], Awaitable[None]],
) -> None:
    """Watch events before it may be lost; what it shows is complete, and the watch goes on from there."""
    api = Collection()
    api.make("a"), api.make("b")
    async with running(api) as one:
        await asyncio.sleep(5)
        await when(api)
        wanted_at = now()
        one.reflector.relist()
        await asyncio.sleep(0)
        one.reflector.relist()
        del api.objects["a"]
        api.make("c")
        assert one.reflector.stale_since is not None
        while one.reflector.stale_since is not None:  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.001)
        assert one.handler.calls[-1] == {"b": {}, "c": {}}
        assert [at for at, verb, _ in api.calls if verb == "list"][-1] >= wanted_at
        assert now() - wanted_at < 5
        await asyncio.sleep(3)
        api.send("ADDED", api.make("d"))
        await asyncio.sleep(0.1)
        assert one.handler.objects.keys() == {"b", "c", "d"}
        lists = api.verbs.count("list")
        await asyncio.sleep(60)
        assert api.verbs.count("list") == lists
