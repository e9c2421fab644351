"""The breakable way between a replica and the API server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chaos.links import Link, Network


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that says back what it hears."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(100):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def link(echo: int) -> AsyncIterator[Link]:
    link = Link("127.0.0.1", echo)
    await link.open()
    yield link
    await link.close()


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    @classmethod
    async def of(cls, link: Link) -> "Caller":
        return cls(*await asyncio.open_connection("127.0.0.1", link.port))

    async def ask(self) -> bytes:
        self.writer.write(b"x")
        return await asyncio.wait_for(self._reader.read(1), 5)

    async def is_cut(self) -> bool:
        try:
            return await self.ask() == b""
        except ConnectionError:
            return True

    async def hears(self, seconds: float) -> bool:
        try:
            return await asyncio.wait_for(self._reader.read(1), seconds) != b""
        except TimeoutError:
            return False


async def test_what_is_said_arrives_and_comes_back(link: Link) -> None:
    caller = await Caller.of(link)
    assert await caller.ask() == b"x"
    caller.writer.close()


async def test_while_it_hangs_it_accepts_and_never_answers_and_then_everything_flows(link: Link) -> None:
    before = await Caller.of(link)
    assert await before.ask() == b"x"
    await link.hang()
    late = await Caller.of(link)
    for caller in (before, late):
        caller.writer.write(b"x")
        assert not await caller.hears(0.05)
    await link.open()
    for caller in (before, late):
        assert await caller.hears(5)
        caller.writer.close()


async def test_a_cut_ends_connections_and_welcomes_new_ones(link: Link) -> None:
    caller = await Caller.of(link)
    assert await caller.ask() == b"x"
    await link.cut()
    assert await caller.is_cut()
    caller.writer.close()
    again = await Caller.of(link)
    assert await again.ask() == b"x"
    again.writer.close()


async def test_while_it_refuses_nobody_gets_in_and_afterwards_on_the_same_port(link: Link) -> None:
    port = link.port
    await link.refuse()
    with pytest.raises(ConnectionRefusedError):
        await Caller.of(link)
    await link.open()
    assert link.port == port
    caller = await Caller.of(link)
    assert await caller.ask() == b"x"
    caller.writer.close()


async def test_a_target_that_is_away_looks_like_a_cut() -> None:
    link = Link("127.0.0.1", 1)
    await link.open()
    caller = await Caller.of(link)
    assert await caller.is_cut()
    caller.writer.close()
    await link.close()


def test_a_network_is_driven_from_another_thread_and_ends_with_its_block() -> None:
    with Network() as network:
        link = network.link("127.0.0.1", 1)
        assert link.port > 0
        network.do(link.refuse())
        network.do(link.open())
