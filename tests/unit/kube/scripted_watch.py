"""A collection of the Kubernetes API on virtual time: lists and watches answer as the test has it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from awsbatch_operator.kube.client import JSON, ApiError, KubeClient, Response, WatchEvent
from awsbatch_operator.kube.credentials import ClusterConfig

GONE = ApiError(410, "too old resource version", "Expired")
AWAY = ApiError(0, "can't be reached")
UNSERVED = ApiError(404, "HTTP 404: 404 page not found")


class Collection(KubeClient):
    """`objects` are listed; `send` reaches the open watch. `refusals` are the answers to the next calls, in order.

    While `error` is set every call gets it. `latency`: seconds of a call; `closing`: seconds until a watch has ended.
    """

    def __init__(self, page: int = 100) -> None:
        super().__init__(lambda: ClusterConfig("http://nobody.example"))
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 1
        self.page = page
        self.error: ApiError | None = None
        self.refusals: list[ApiError] = []
        self.calls: list[tuple[float, str, dict[str, str]]] = []
        self.idle_timeout = self.closing = 0.0
        self.latency = 0.001
        self._sent: asyncio.Queue[WatchEvent | ApiError | None] | None = None

    def make(self, name: str, **spec: Any) -> dict[str, Any]:
        """Return the object as it now is; no watch event is sent."""
        self.version += 1
        metadata = {"name": name, "resourceVersion": str(self.version), "generation": self.version}
        self.objects[name] = {"metadata": metadata, "spec": spec}
        return self.objects[name]

    def send(self, kind: str, body: dict[str, Any]) -> None:
        assert self._sent is not None, "no watch is open"
        self._sent.put_nowait(WatchEvent(kind, body))

    def end(self, error: ApiError | None = None) -> None:
        """The open watch ends, by itself or by an error."""
        assert self._sent is not None, "no watch is open"
        self._sent.put_nowait(error)

    @property
    def verbs(self) -> list[str]:
        return [verb for _, verb, _ in self.calls]

    async def get(self, path: str, params: Mapping[str, str] | None = None, accept: str = JSON) -> Response:
        del path, accept
        self._called("list", params or {})
        listed = dict(self.objects)
        await asyncio.sleep(self.latency)
        start = int((params or {}).get("continue", 0))
        items = [listed[name] for name in sorted(listed)]
        metadata = {"resourceVersion": str(self.version)}
        if start + self.page < len(items):
            metadata["continue"] = str(start + self.page)
        return Response(200, {"metadata": metadata, "items": items[start : start + self.page]})

    @asynccontextmanager
    async def watch(
        self, path: str, params: Mapping[str, str], accept: str = JSON, *, idle_timeout: float = 75.0
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        del path, accept
        self.idle_timeout = idle_timeout
        self._called("watch", params)
        await asyncio.sleep(self.latency)
        reported = self._sent = asyncio.Queue()
        try:
            yield self._events(reported, float(params["timeoutSeconds"]))
        finally:
            self._sent = None
            await asyncio.sleep(self.closing)

    async def _events(
        self, reported: asyncio.Queue[WatchEvent | ApiError | None], lasts: float
    ) -> AsyncIterator[WatchEvent]:
        end = asyncio.get_running_loop().time() + lasts
        while True:
            try:
                async with asyncio.timeout_at(end):
                    event = await reported.get()
            except TimeoutError:
                return
            if event is None:
                return
            if isinstance(event, ApiError):
                raise event
            yield event

    def _called(self, verb: str, params: Mapping[str, str]) -> None:
        self.calls.append((asyncio.get_running_loop().time(), verb, dict(params)))
        if self.refusals:
            raise self.refusals.pop(0)
        if self.error is not None:
            raise self.error
