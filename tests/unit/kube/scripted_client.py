"""A client of the Kubernetes API that answers from a script and remembers what it was asked."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from awsbatch_operator.kube.client import JSON, ApiError, KubeClient, Response
from awsbatch_operator.kube.credentials import ClusterConfig

Reply = dict[str, Any] | ApiError
Script = Callable[[str, str, Mapping[str, Any]], Reply]
"""(verb, path, parameters or body) -> body of the answer, or the error."""


class ScriptedClient(KubeClient):
    def __init__(self, script: Script, latency: float = 0.0) -> None:
        super().__init__(lambda: ClusterConfig("http://nobody.example"))
        self.script, self.latency = script, latency
        self.calls: list[tuple[str, str, dict[str, Any]]] = []

    async def get(self, path: str, params: Mapping[str, str] | None = None, accept: str = JSON) -> Response:
        return await self._reply("get", path, params or {})

    async def post(self, path: str, body: Mapping[str, Any]) -> Response:
        return await self._reply("post", path, body)

    async def patch(self, path: str, body: Mapping[str, Any]) -> Response:
        return await self._reply("patch", path, body)

    async def json_patch(self, path: str, operations: Sequence[Mapping[str, Any]]) -> Response:
        return await self._reply("json patch", path, {"operations": list(operations)})

    async def _reply(self, verb: str, path: str, sent: Mapping[str, Any]) -> Response:
        self.calls.append((verb, path, dict(sent)))
        await asyncio.sleep(self.latency)
        reply = self.script(verb, path, sent)
        if isinstance(reply, ApiError):
            raise reply
        return Response(200, reply)

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, _, _ in self.calls]


def not_found(name: str = "") -> ApiError:
    """Without a name: the API server does not serve the kind."""
    return ApiError(404, "not found", "NotFound", {"name": name} if name else {})
