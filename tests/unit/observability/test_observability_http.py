from collections.abc import AsyncIterator

import aiohttp
import pytest

from awsbatch_operator.observability.http import Check, ListenError, fresh, make_app, serve
from awsbatch_operator.observability.metrics import Metrics


class Pages:
    """A server with settable checks, and a client of it."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.faults: dict[str, str | None] = {"heartbeat": None, "synced": None, "batch": None}
        self.app = make_app(
            self.metrics.registry,
            live={"heartbeat": self.check("heartbeat")},
            ready={"synced": self.check("synced"), "batch": self.check("batch")},
        )
        self.url = ""

    def check(self, name: str) -> Check:
        return lambda: self.faults[name]

    async def fetch(self, path: str, method: str = "GET", accept: str = "*/*") -> tuple[int, str, str]:
        async with (
            aiohttp.ClientSession(headers={"Accept": accept}) as session,
            session.request(method, self.url + path) as response,
        ):
            return response.status, response.headers["Content-Type"], await response.text()


@pytest.fixture
async def pages() -> AsyncIterator[Pages]:
    pages = Pages()
    async with serve(pages.app, "127.0.0.1", 0) as port:
        pages.url = f"http://127.0.0.1:{port}"
        yield pages


async def test_all_is_well_until_a_check_says_otherwise(pages: Pages) -> None:
    assert (await pages.fetch("/livez"))[0] == 200
    assert await pages.fetch("/readyz") == (200, "text/plain; charset=utf-8", "[+]synced ok\n[+]batch ok\nok\n")


async def test_an_unready_operator_says_which_check_fails_and_is_alive_all_the_same(pages: Pages) -> None:
    pages.faults["batch"] = "last answer 300 s ago"
    status, _, text = await pages.fetch("/readyz")
    assert (status, text) == (503, "[+]synced ok\n[-]batch failed: last answer 300 s ago\nnot ok\n")
    assert (await pages.fetch("/livez"))[0] == 200


async def test_a_hanging_engine_is_not_alive(pages: Pages) -> None:
    pages.faults["heartbeat"] = "last 60 s ago"
    assert (await pages.fetch("/livez"))[0] == 503


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics"])
async def test_head_is_answered_like_get(pages: Pages, path: str) -> None:
    status, _, text = await pages.fetch(path, "HEAD")
    assert (status, text) == (200, "")


async def test_the_root_lists_the_pages(pages: Pages) -> None:
    _, _, text = await pages.fetch("/")
    assert all(path in text for path in ("/livez", "/readyz", "/metrics"))


async def test_metrics_come_in_the_format_that_the_scraper_asks_for(pages: Pages) -> None:
    pages.metrics.status_write("written")
    status, plain, text = await pages.fetch("/metrics")
    assert (status, plain.split(";")[0]) == (200, "text/plain")
    assert 'awsbatch_operator_status_writes_total{result="written"} 1.0' in text
    _, openmetrics, text = await pages.fetch("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert openmetrics.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_a_port_in_use_is_one_error_that_names_the_flag(pages: Pages) -> None:
    port = int(pages.url.rpartition(":")[2])
    with pytest.raises(
        ListenError, match=rf"127\.0\.0\.1:{port} \(Address already in use\): set another --http-address"
    ):
        async with serve(Pages().app, "127.0.0.1", port):
            pass


async def test_an_address_of_another_machine_is_one_error_too() -> None:
    with pytest.raises(ListenError, match="--http-address"):
        async with serve(Pages().app, "192.0.2.1", 0):
            pass


async def test_after_the_end_nobody_listens() -> None:
    pages = Pages()
    async with serve(pages.app, "127.0.0.1", 0) as port:
        pages.url = f"http://127.0.0.1:{port}"
    with pytest.raises(aiohttp.ClientConnectorError):
        await pages.fetch("/livez")


@pytest.mark.parametrize(
    ("last", "fault"), [(None, "not yet"), (95.0, None), (90.0, None), (70.0, "last 30 s ago, at most 10 s are normal")]
)
def test_fresh_is_what_happened_lately(last: float | None, fault: str | None) -> None:
    assert fresh(lambda: last, 10, lambda: 100.0)() == fault
