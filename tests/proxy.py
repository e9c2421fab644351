"""TCP proxies between one client and the API server, which can be broken: bytes pass through, TLS is not read."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import yaml

from awsbatch_sandbox.kubeconfig import write_private
from awsbatch_sandbox.processes import ProcessError

T = TypeVar("T")
_CHUNK: Final = 65_536


class Proxy:
    """A loopback port that leads to `host` and `port`. Its methods are for the network's loop."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._target = host, port
        self.port = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.WriteTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Serve again, whatever was broken."""
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accepted, self._host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def hang(self) -> None:
        """Accept, and never answer: nothing flows, on old connections neither."""
        self._flows.clear()

    async def cut(self) -> None:
        """End every connection; new ones are welcome."""
        for transport in list(self._transports):
            transport.abort()

    async def refuse(self) -> None:
        """End every connection, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def close(self) -> None:
        await self.refuse()
        self._flows.set()
        # Not cancelled: what is written to them is gone already, and they end of that.
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._transports.add(writer.transport)
        try:
            await self._connect(reader, writer)
        finally:
            self._transports.discard(writer.transport)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(self._host, self._target)
        except OSError:
            return
        self._transports.add(back.transport)
        pumps = [asyncio.ensure_future(self._pump(reader, back)), asyncio.ensure_future(self._pump(there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._transports.discard(back.transport)
            back.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(_CHUNK):
                await self._flows.wait()
                sink.write(chunk)
                await sink.drain()
        except ConnectionError:
            return


class Network:
    """The loop on which proxies live, in a thread of its own; everything is closed at the end of the `with` block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._proxies: list[Proxy] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for proxy in self._proxies:
            self.do(proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def proxy(self, host: str, port: int) -> Proxy:
        """A new one, open."""

        async def make() -> Proxy:
            proxy = Proxy(host, port)
            await proxy.open()
            return proxy

        made = self.do(make())
        self._proxies.append(made)
        return made

    def before(self, kubeconfig: Path, proxied: Path) -> Proxy:
        """A new proxy before the server of `kubeconfig`; writes `proxied`, a kubeconfig that leads through it."""
        settings = yaml.safe_load(kubeconfig.read_text("utf-8"))
        cluster = settings["clusters"][0]["cluster"]
        address = urlsplit(cluster["server"])
        if address.hostname is None or address.port is None:
            raise ProcessError(f"{kubeconfig} names no port: {cluster['server']}")
        proxy = self.proxy(address.hostname, address.port)
        cluster["server"] = f"{address.scheme}://{address.hostname}:{proxy.port}"
        write_private(proxied, yaml.safe_dump(settings).encode())
        return proxy

    @contextmanager
    def hanging(self, proxy: Proxy) -> Iterator[None]:
        """Delay all data during the block, and deliver it afterwards."""
        self.do(proxy.hang())
        try:
            yield
        finally:
            self.do(proxy.open())

    def do(self, deed: Coroutine[Any, Any, T]) -> T:
        """The outcome of a proxy's coroutine, for the player's thread."""
        return asyncio.run_coroutine_threadsafe(deed, self._loop).result(10)
