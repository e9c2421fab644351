"""The embedded API server: HTTP, start and stop, and its input files."""

import asyncio
import datetime as dt
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from aiohttp import web

from awsbatch_sandbox.apiserver import crds, discovery, errors, openapi
from awsbatch_sandbox.apiserver.builtin import BUILTIN, NAMESPACES, REFUSED, REVIEWS
from awsbatch_sandbox.apiserver.controls import PREFIX, Controls
from awsbatch_sandbox.apiserver.decoding import Write
from awsbatch_sandbox.apiserver.deletion import Deleter
from awsbatch_sandbox.apiserver.handlers import Handlers
from awsbatch_sandbox.apiserver.objects import Objects, timestamp
from awsbatch_sandbox.apiserver.resources import Catalog, Resource
from awsbatch_sandbox.apiserver.responses import json_response, to_yaml
from awsbatch_sandbox.apiserver.routes import discovery_version, parse_path, wants_yaml
from awsbatch_sandbox.apiserver.storage import Body, Store
from awsbatch_sandbox.apiserver.watching import BeforeWrite

_HEALTH: Final = frozenset({"/healthz", "/livez", "/readyz"})
_INITIAL_NAMESPACES: Final = ("default", "kube-node-lease", "kube-public", "kube-system")
_SETUP: Final = Write(manager="awsbatch-sandbox")
_BODY_LIMIT: Final = 3 * 1024 * 1024
_ANSWER_FIRST: Final = 0.02
"""Seconds between an answer to /_sandbox/away and the outage, so that the answer gets out."""


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class ApiServer:
    """A Kubernetes API server in memory; it must be made inside a running event loop.

    `history` is how many changes a collection keeps for watches, `bookmark_every` the seconds between bookmarks.
    """

    def __init__(
        self, definitions: Iterable[Body] = (), *, history: int = 20_000, bookmark_every: float = 60.0
    ) -> None:
        # Milliseconds since 1970, so that a client of an earlier server gets 410 and lists again.
        self.store = Store(history, start=int(_utc_now().timestamp() * 1000))
        self._crds = crds.definition_resource(lambda: timestamp(_utc_now()))
        self.catalog = Catalog((*BUILTIN, self._crds, *REVIEWS, *REFUSED))
        self.objects = Objects(self.store, _utc_now, self._written)
        self._deleter = Deleter(self.objects, self.catalog)
        self._definitions: dict[str, Any] = {}
        self._listener: Listener | None = None
        self.controls = Controls(self.store, self._away)
        self._handlers = Handlers(
            self.objects, self.catalog, self._deleter, self.controls, now=_utc_now, bookmark_every=bookmark_every
        )
        for resource in self.catalog.by_storage():
            self.store.collection(resource.storage)
        for name in _INITIAL_NAMESPACES:
            self._seed(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for definition in definitions:
            self._seed(self._crds, definition)

    def _seed(self, resource: Resource, body: Body) -> None:
        self.objects.create(resource, "", body, _SETUP)

    def attach(self, listener: "Listener") -> None:
        """The listener that /_sandbox/away stops."""
        self._listener = listener

    def _away(self, seconds: float) -> None:
        if self._listener is not None:
            self._listener.go_away(seconds)

    def _written(self, resource: Resource, body: Body, removed: bool) -> None:
        name = body["metadata"]["name"]
        if resource.storage == crds.STORAGE:
            self._define(name, None if removed else body["spec"])
        if removed and resource.namespaced:
            self._deleter.finish(NAMESPACES, ("", body["metadata"]["namespace"]))
        if removed and resource.custom:
            self._deleter.finish(self._crds, ("", resource.storage))

    def _define(self, name: str, spec: Body | None) -> None:
        """Serve, change or stop serving the resource of a CRD; watches of the old one end."""
        if spec == self._definitions.get(name):
            return
        self.catalog.forget(name)
        if spec is None:
            del self._definitions[name]
            self.store.drop(name)
            return
        self._definitions[name] = spec
        for resource in crds.served({"spec": spec}):
            self.catalog.add(resource)
        self.store.collection(name).cut()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request; every refusal becomes a `Status`."""
        if request.path.startswith(PREFIX):
            try:
                return await self.controls.handle(request)
            except errors.ApiError as error:
                return json_response(error.body(), error.code)
        await self.controls.wait_while_hung()
        try:
            before_write = await self.controls.fault(request)
            response = await self._route(request, before_write)
        except errors.ApiError as error:
            response = json_response(error.body(), error.code)
        except errors.NotServedError:
            response = web.Response(status=404, text="404 page not found\n")
        except web.HTTPRequestEntityTooLarge:
            too_large = errors.ApiError(413, "RequestEntityTooLarge", f"the limit is {_BODY_LIMIT} bytes")
            response = json_response(too_large.body(), 413)
        if not response.prepared:
            if isinstance(response, web.Response) and wants_yaml(request):
                to_yaml(response)
            self.controls.record(request, response.status)
        return response

    async def _route(self, request: web.Request, before_write: BeforeWrite) -> web.StreamResponse:
        path = request.path.rstrip("/") or "/"
        if path in _HEALTH:
            return web.Response(text="ok")
        document = self._document(request, path)
        if document is not None:
            return document
        target = parse_path(path)
        if target is None:
            raise errors.NotServedError
        if target.plural:
            return await self._handlers.handle(request, target, before_write)
        if target.version in self.catalog.groups().get(target.group, []):
            return json_response(discovery.resource_list(self.catalog, target.group, target.version))
        raise errors.NotServedError

    def _document(self, request: web.Request, path: str) -> web.Response | None:
        groups = self.catalog.groups()
        match path.strip("/").split("/"):
            case [""]:
                return json_response(discovery.root())
            case ["version"]:
                return json_response(discovery.VERSION)
            case ["api" | "apis" as root]:
                if version := discovery_version(request):
                    media = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                    body = discovery.aggregated(self.catalog, version, core=root == "api")
                    return web.Response(body=json.dumps(body).encode(), headers={"Content-Type": media})
                legacy = discovery.core_versions(request.host) if root == "api" else discovery.group_list(self.catalog)
                return json_response(legacy)
            case ["apis", group] if group in groups:
                return json_response(discovery.group(self.catalog, group))
            case ["openapi", "v2"] if openapi.V2_ACCEPT in request.headers.get("Accept", ""):
                return web.Response(body=openapi.v2_document(), headers={"Content-Type": openapi.V2_CONTENT_TYPE})
            case ["openapi", "v3"]:
                return json_response(openapi.index(self.catalog))
            case ["openapi", "v3", "api", version] if version in groups.get("", []):
                return json_response(openapi.document(self.catalog, "", version))
            case ["openapi", "v3", "apis", group, version] if version in groups.get(group, []):
                return json_response(openapi.document(self.catalog, group, version))
        return None


class Listener:
    """The open port of one ApiServer."""

    def __init__(self, server: ApiServer, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._server = server
        self._tls = tls
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        self._back: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    async def open(self) -> None:
        app = web.Application(client_max_size=_BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._server.handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        listening = socket.create_server((self._host, self._port), backlog=1024)
        self._port = listening.getsockname()[1]
        await web.SockSite(runner, listening, ssl_context=self._tls).start()
        self._runner = runner

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._back and self._back is not asyncio.current_task():
            self._back.cancel()
        runner, self._runner = self._runner, None
        if runner is not None:
            for connection in runner.server.connections if runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()

    def go_away(self, seconds: float) -> None:
        """Stop listening for `seconds`, after a short delay, and listen on the same port again."""
        self._back = asyncio.get_running_loop().create_task(self._absence(seconds))

    async def _absence(self, seconds: float) -> None:
        await asyncio.sleep(_ANSWER_FIRST)
        await self.close()
        await asyncio.sleep(seconds)
        await self.open()


@asynccontextmanager
async def serve(
    server: ApiServer, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve on `host` and `port` (0: any free one) while the context is open; yields the URL. Without `tls`: HTTP."""
    listener = Listener(server, host, port, tls)
    await listener.open()
    server.attach(listener)
    try:
        yield listener.url
    finally:
        server.controls.close()
        await listener.close()


def load_definitions(paths: Iterable[Path]) -> list[Body]:
    """The CRDs in YAML files, or in the *.yaml files of directories; documents of other kinds are left out."""
    files = [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    documents = [document for file in files for document in yaml.safe_load_all(file.read_text("utf-8"))]
    return [item for item in documents if item and item.get("kind") == "CustomResourceDefinition"]
