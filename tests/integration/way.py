"""A way to the API server of one replica alone, which can be made to hang."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import yaml

_CHUNK = 64 * 1024


class Way:
    """A loopback proxy of TCP connections to the server of a kubeconfig; `kubeconfig` leads through it."""

    def __init__(self, kubeconfig: Path, directory: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text("utf-8"))
        cluster = config["clusters"][0]["cluster"]
        there = urlsplit(cluster["server"])
        assert there.hostname == "127.0.0.1", "only that name stands in the certificate of a loopback server"
        assert there.port is not None
        self._there = (there.hostname, there.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        cluster["server"] = f"{there.scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.kubeconfig = directory / "way.kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(config), "utf-8")
        self._passes = threading.Event()
        self._passes.set()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="way")]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._passes.set()
        _shut(self._listener)
        self._threads[0].join()
        for end in self._sockets:
            _shut(end)
        for thread in self._threads[1:]:
            thread.join()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Connections are accepted and nothing comes through; afterwards all that was sent meanwhile does."""
        self._passes.clear()
        try:
            yield
        finally:
            self._passes.set()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was shut
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._there)
                self._sockets += (near, far)
                for source, sink in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._pump, args=(source, sink), name="way")
                    self._threads.append(thread)
                    thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # either end was shut
            while data := source.recv(_CHUNK):
                self._passes.wait()
                sink.sendall(data)
        for end in (source, sink):
            _shut(end)


def _shut(end: socket.socket) -> None:
    # Alone, close would leave a thread that waits in accept or recv where it is.
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
