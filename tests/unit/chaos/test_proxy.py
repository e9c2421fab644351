"""The breakable proxy between a replica and the API server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy import Network, Proxy


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that sends back what it receives."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(100):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def proxy(echo: int) -> AsyncIterator[Proxy]:
    proxy = Proxy("127.0.0.1", echo)
    await proxy.open()
    yield proxy
    await proxy.close()


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    @classmethod
    async def of(cls, proxy: Proxy) -> "Caller":
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self) -> bytes:
        self.writer.write(b"x")
        return await asyncio.wait_for(self._reader.read(1), 5)

    async def is_cut(self) -> bool:
        try:
            return await self.ask() == b""
        except ConnectionError:
            return True

    async def receives(self, seconds: float) -> bool:
        try:
            return await asyncio.wait_for(self._reader.read(1), seconds) != b""
        except TimeoutError:
            return False


async def test_data_passes_in_both_directions(proxy: Proxy) -> None:
    caller = await Caller.of(proxy)
    assert await caller.ask() == b"x"
    caller.writer.close()


async def test_while_it_hangs_it_accepts_and_never_answers_and_then_everything_flows(proxy: Proxy) -> None:
    before = await Caller.of(proxy)
    assert await before.ask() == b"x"
    await proxy.hang()
    late = await Caller.of(proxy)
    for caller in (before, late):
        caller.writer.write(b"x")
        assert not await caller.receives(0.05)
    await proxy.open()
    for caller in (before, late):
        assert await caller.receives(5)
        caller.writer.close()


async def test_a_cut_ends_connections_and_welcomes_new_ones(proxy: Proxy) -> None:
    caller = await Caller.of(proxy)
    assert await caller.ask() == b"x"
    await proxy.cut()
    assert await caller.is_cut()
    caller.writer.close()
    again = await Caller.of(proxy)
    assert await again.ask() == b"x"
    again.writer.close()


async def test_during_a_refusal_no_connection_succeeds_and_the_port_stays(proxy: Proxy) -> None:
    port = proxy.port
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await Caller.of(proxy)
    await proxy.open()
    assert proxy.port == port
    caller = await Caller.of(proxy)
    assert await caller.ask() == b"x"
    caller.writer.close()


async def test_a_target_that_is_away_looks_like_a_cut() -> None:
    proxy = Proxy("127.0.0.1", 1)
    await proxy.open()
    caller = await Caller.of(proxy)
    assert await caller.is_cut()
    caller.writer.close()
    await proxy.close()


def test_a_network_is_driven_from_another_thread_and_ends_with_its_block() -> None:
    with Network() as network:
        proxy = network.proxy("127.0.0.1", 1)
        assert proxy.port > 0
        network.do(proxy.refuse())
        network.do(proxy.open())
