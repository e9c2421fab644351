"""The reflector on virtual time: what it tells, when it asks, and since when it knows that it hears nothing."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.kube.client import Answer, ApiError, Told
from awsbatch_operator.kube.reflector import LASTS, LIST_EVERY, UNSERVED, Reflector
from unit.kube import scripted_watch
from unit.kube.scripted_watch import AWAY, GONE, Collection

pytestmark = pytest.mark.looptime(start=1_000)

Body = dict[str, Any]


class Listener:
    """What it was told: a dict of names and specs for the whole, a name and a spec for one."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.holds: dict[str, Any] = {}

    def all_are(self, bodies: Mapping[str, Body]) -> None:
        self.holds = {name: body["spec"] for name, body in bodies.items()}
        self.told.append(dict(self.holds))

    def one_is(self, name: str, body: Body | None) -> None:
        self.holds = {other: spec for other, spec in self.holds.items() if other != name}
        if body is not None:
            self.holds[name] = body["spec"]
        self.told.append((name, body and body["spec"]))


class Running:
    def __init__(self, collection: Collection, *, may_lack: bool = False) -> None:
        self.api, self.listener, self.sight = collection, Listener(), list[float | None]()
        self.reflector = Reflector(
            collection,
            "/apis/x/things",
            self.listener,
            may_lack=may_lack,
            on_sight=lambda: self.sight.append(self.reflector.blind_since),
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


async def test_the_whole_is_told_at_once_from_all_pages_and_then_each_change() -> None:
    api = Collection(page=2)
    for name in "abcde":
        api.make(name, n=1)
    async with running(api) as one:
        assert one.listener.told == [{name: {"n": 1} for name in "abcde"}]
        assert api.verbs == ["list", "list", "list", "watch"]
        api.tell("ADDED", api.make("f", n=2))
        api.tell("MODIFIED", api.make("a", n=3))
        api.tell("DELETED", api.objects.pop("b"))
        api.tell("BOOKMARK", {"metadata": {"resourceVersion": "99"}})
        await asyncio.sleep(0.1)
        assert one.listener.told[1:] == [("f", {"n": 2}), ("a", {"n": 3}), ("b", None)]


async def test_a_watch_begins_where_the_list_or_the_watch_before_it_ended() -> None:
    api = Collection()
    api.make("a")
    async with running(api) as one:
        api.tell("BOOKMARK", {"metadata": {"resourceVersion": "99"}})
        await asyncio.sleep(LASTS)
        assert api.verbs == ["list", "watch", "watch"]
        assert [params["resourceVersion"] for _, verb, params in api.calls if verb == "watch"] == ["2", "99"]
        assert {(params["allowWatchBookmarks"], params["timeoutSeconds"]) for _, _, params in api.calls[1:]} == {
            ("true", "30")
        }
        assert len(one.listener.told) == 1


@pytest.mark.parametrize("error", [GONE, AWAY], ids=["410", "cut"])
async def test_after_a_break_the_whole_is_told_anew_at_once(error: ApiError) -> None:
    api = Collection()
    api.make("a"), api.make("b")
    async with running(api) as one:
        await asyncio.sleep(5)
        del api.objects["a"]
        api.make("c")
        api.end(error)
        await asyncio.sleep(0.01)
        assert one.listener.told == [{"a": {}, "b": {}}, {"b": {}, "c": {}}]
        assert one.reflector.blind_since is None


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
        assert one.listener.told == [{"a": {}}, {}]


async def test_the_whole_is_told_now_and_then_although_nothing_broke() -> None:
    api = Collection()
    api.make("a")
    async with running(api) as one:
        await asyncio.sleep(LIST_EVERY + LASTS)
        assert api.verbs.count("list") == 2
        assert len(one.listener.told) == 2


async def test_while_the_server_is_away_it_asks_often_enough_and_not_too_often() -> None:
    api = Collection()
    api.make("a")
    async with running(api) as one:
        await asyncio.sleep(5)
        api.trouble = AWAY
        api.end(AWAY)
        await asyncio.sleep(60)
        api.trouble = None
        api.make("b")
        await asyncio.sleep(2)
        assert "b" in one.listener.holds
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
        async def watch(self, *arguments: Any, **options: Any) -> AsyncIterator[AsyncIterator[Told]]:
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


async def test_it_knows_since_when_it_is_blind() -> None:
    api = Collection()
    api.make("a")
    one = Running(api)
    assert one.reflector.blind_since == 1_000, "it has heard nothing yet"
    async with running(api) as one:
        assert one.sight == [None]
        await asyncio.sleep(9.9)
        api.tell("MODIFIED", api.make("a"))
        await asyncio.sleep(5)
        api.trouble = AWAY
        api.end(AWAY)
        await asyncio.sleep(3)
        # Nobody can say how long the connection had been dead: the last word counts.
        assert one.reflector.blind_since == pytest.approx(1_010, abs=0.01)
        api.trouble = None
        await asyncio.sleep(2)
        assert one.reflector.blind_since is None
        assert one.sight == [None, pytest.approx(1_010, abs=0.01), None]


async def test_it_is_not_blind_before_what_it_heard_was_told() -> None:
    api = Collection()
    seen: list[tuple[float | None, int]] = []
    one = Running(api)
    one.reflector = Reflector(
        api, "/x", one.listener, on_sight=lambda: seen.append((one.reflector.blind_since, len(one.listener.told)))
    )
    task = asyncio.ensure_future(one.reflector.run())
    await asyncio.sleep(0.1)
    task.cancel()
    assert seen == [(None, 1)]


async def test_a_watch_that_said_goodbye_was_heard_until_then() -> None:
    api = Collection()
    async with running(api) as one:
        await asyncio.sleep(20)
        api.trouble = AWAY
        api.end()
        await asyncio.sleep(3)
        assert one.reflector.blind_since == pytest.approx(1_020.1, abs=0.01)


async def test_the_server_ends_a_watch_before_it_is_taken_for_dead() -> None:
    api = Collection()
    async with running(api):
        _, _, params = api.calls[-1]
        assert LASTS < api.silence <= 60
        assert float(params["timeoutSeconds"]) == LASTS


async def test_an_empty_list_may_be_null() -> None:
    class Null(Collection):
        async def get(self, *_arguments: object, **_options: object) -> Answer:
            return Answer(200, {"items": None, "metadata": {"resourceVersion": "3"}})

    async with running(Null()) as one:
        assert one.listener.told == [{}]


async def test_what_is_not_served_yet_is_none_if_it_may_lack() -> None:
    api = Collection()
    api.trouble = scripted_watch.UNSERVED
    async with running(api, may_lack=True) as one:
        await asyncio.sleep(12)
        assert one.listener.told == [{}]
        assert (one.reflector.blind_since, one.reflector.served) == (None, False)
        assert len(api.calls) == 3
        api.trouble = None
        api.make("a")
        await asyncio.sleep(UNSERVED)
        assert one.listener.told == [{}, {"a": {}}]
        assert one.reflector.served


@pytest.mark.parametrize("may_lack", [True, False])
async def test_what_was_served_once_is_unknown_afterwards_and_never_none(may_lack: bool) -> None:
    api = Collection()
    api.make("a")
    async with running(api, may_lack=may_lack) as one:
        await asyncio.sleep(5)
        api.trouble = scripted_watch.UNSERVED
        api.end()
        await asyncio.sleep(20)
        assert one.listener.told == [{"a": {}}]
        assert one.reflector.blind_since == pytest.approx(1_005.1, abs=0.01)


async def test_what_must_not_lack_is_unknown_from_the_first() -> None:
    api = Collection()
    api.trouble = scripted_watch.UNSERVED
    async with running(api) as one:
        await asyncio.sleep(5)
        assert one.listener.told == []
        assert one.reflector.blind_since == 1_000


async def test_another_refusal_is_not_the_news_that_there_is_none() -> None:
    api = Collection()
    api.trouble = ApiError(403, "forbidden")
    async with running(api, may_lack=True) as one:
        await asyncio.sleep(5)
        assert one.listener.told == []
        assert one.reflector.blind_since == 1_000


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
async def test_an_answer_that_is_no_list_is_not_the_news_that_there_is_none(page: Body) -> None:
    class Odd(Collection):
        async def get(self, *_arguments: object, **_options: object) -> Answer:
            return Answer(200, page)

    async with running(Odd(), may_lack=True) as one:
        await asyncio.sleep(5)
        assert one.listener.told == []
        assert one.reflector.blind_since == 1_000


async def test_trouble_is_told_when_it_lasts_and_once() -> None:
    api = Collection()
    with capture_logs() as logs:
        async with running(api):
            await asyncio.sleep(5)
            api.end(AWAY)
            await asyncio.sleep(5)
            assert logs == []
            api.trouble = AWAY
            api.end(AWAY)
            await asyncio.sleep(60)
            api.trouble = None
            await asyncio.sleep(5)
    said = [(line["log_level"], line["event"], line["of"], line.get("error")) for line in logs]
    assert said == [("warning", "not heard", "things", AWAY.message), ("info", "heard again", "things", None)]
