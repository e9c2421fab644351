"""A small CRD and a client for the embedded API server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from awsbatch_sandbox.apiserver.server import ApiServer, serve

WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
CORE_EVENTS = "/api/v1/namespaces/default/events"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
METADATA = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"}
METADATA_OF_ONE = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"}

CONDITION = {
    "type": "object",
    "required": ["type", "status"],
    "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["id"],
            "x-kubernetes-validations": [
                {"rule": "self.id == oldSelf.id", "message": "id can't change", "fieldPath": ".id"},
                {
                    "rule": "!has(self.max) || self.n <= self.max",
                    "messageExpression": "'n must not exceed ' + string(self.max)",
                },
            ],
            "properties": {
                "id": {"type": "string", "pattern": "^[a-z]*$", "minLength": 1, "maxLength": 8},
                "n": {"type": "integer", "minimum": 0, "maximum": 10, "default": 3},
                "max": {"type": "integer"},
                "text": {"type": "string"},
                "kept": {"type": "string", "nullable": True},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "list": {
                    "type": "array",
                    "maxItems": 2,
                    "minItems": 1,
                    "items": {"type": "object", "properties": {"a": {"type": "string"}}},
                },
                "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "phase": {"type": "string", "enum": ["Up", "Down"]},
                "when": {"type": "string", "format": "date-time"},
                "conditions": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["type"],
                    "items": CONDITION,
                },
            },
        },
    },
}


def definition(**version: Any) -> dict[str, Any]:
    """The CRD of widgets.example.com; `version` changes its only version."""
    columns = [
        {"name": "ID", "type": "string", "jsonPath": ".spec.id"},
        {"name": "N", "type": "integer", "jsonPath": ".spec.n"},
        {"name": "Phase", "type": "string", "jsonPath": ".status.phase", "priority": 1},
        {"name": "When", "type": "date", "jsonPath": ".status.when"},
    ]
    served = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": ".spec.id"}],
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": SCHEMA},
    }
    names = {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["things"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [served | version]},
    }


def widget(name: str = "w", *, metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    head = {"apiVersion": "example.com/v1", "kind": "Widget"}
    return head | {"metadata": {"name": name} | (metadata or {}), "spec": {"id": "abc"} | spec}


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    warnings: list[str]
    content_type: str

    @property
    def message(self) -> str:
        return str(self.body["message"])

    @property
    def version(self) -> str:
        return str(self.body["metadata"]["resourceVersion"])


@dataclass(frozen=True)
class Client:
    """Speaks to one server; the manager of its writes is `tester`."""

    session: aiohttp.ClientSession
    url: str

    async def call(
        self, method: str, path: str, body: Any = None, media: str = "application/json", **headers: str
    ) -> Answer:
        sent = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
        if sent is not None:
            headers["Content-Type"] = media
        async with self.session.request(method, self.url + path, data=sent, headers=headers) as response:
            text = await response.text()
            received = json.loads(text) if response.content_type == "application/json" else text
            warnings = response.headers.getall("Warning", [])
            return Answer(response.status, received, warnings, response.headers["Content-Type"])

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.call("GET", path, **headers)

    async def create(self, body: Any, path: str = WIDGETS) -> Answer:
        return await self.call("POST", path, body)

    async def patch(self, path: str, body: Any, media: str = MERGE) -> Answer:
        return await self.call("PATCH", path, body, media)

    async def delete(self, path: str, options: Any = None) -> Answer:
        return await self.call("DELETE", path, options)

    async def order(self, action: str, **body: Any) -> Answer:
        return await self.call("POST", f"/_sandbox/{action}", body)

    @asynccontextmanager
    async def watch(self, query: str, path: str = WIDGETS, **headers: str) -> AsyncIterator["Stream"]:
        async with self.session.get(f"{self.url}{path}?watch=1&{query}", headers=headers) as response:
            yield Stream(response)


@dataclass(frozen=True)
class Stream:
    """An open watch."""

    response: aiohttp.ClientResponse

    async def next(self) -> dict[str, Any]:
        """The next event; fails after 5 s without one or when the stream has ended."""
        line = await asyncio.wait_for(self.response.content.readline(), 5)
        assert line, "the watch ended"
        event: dict[str, Any] = json.loads(line)
        return event

    async def names(self, count: int) -> list[tuple[str, str]]:
        """Type and object name of the next `count` events."""
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]

    async def rest(self) -> list[dict[str, Any]]:
        """Everything until the stream ends."""
        text = await asyncio.wait_for(self.response.text(), 5)
        return [json.loads(line) for line in text.splitlines()]


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Client]:
    """A client of a new server that serves widgets."""
    headers = {"User-Agent": "tester/1.0 (test)"}
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        serve(ApiServer([definition()], **settings)) as url,
        aiohttp.ClientSession(headers=headers, connector=connector) as session,
    ):
        yield Client(session, url)
