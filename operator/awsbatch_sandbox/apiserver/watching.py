"""Watch: a stream of JSON lines, each change serialised once for all of its watchers."""

import asyncio
import datetime as dt
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from awsbatch_sandbox.apiserver.errors import ApiError, list_options
from awsbatch_sandbox.apiserver.reading import Matches, encode
from awsbatch_sandbox.apiserver.resources import Resource
from awsbatch_sandbox.apiserver.routes import Form, flag, number
from awsbatch_sandbox.apiserver.storage import Body, Change, Entry, Store, Watcher, dumps
from awsbatch_sandbox.apiserver.table import row

BeforeWrite = Callable[[], Awaitable[object]]
"""Awaited before each write of a watch."""
_DEFAULT_TIMEOUT: Final = (1800.0, 3600.0)
"""Seconds that a watch without timeoutSeconds lasts (kube-apiserver's --min-request-timeout and twice that)."""


class Watch:
    """One open watch."""

    def __init__(
        self,
        store: Store,
        resource: Resource,
        matches: Matches | None,
        query: Mapping[str, str],
        form: Form,
        *,
        now: Callable[[], dt.datetime],
    ) -> None:
        self._store = store
        self._resource = resource
        self._matches = matches or (lambda _key, _body: True)
        self._form = form
        self._now = now
        self._headers_sent = False
        self._bookmarks = bool(flag(query, "allowWatchBookmarks"))
        self._timeout = float(number(query, "timeoutSeconds") or random.uniform(*_DEFAULT_TIMEOUT))
        version = number(query, "resourceVersion") or 0
        _check_options(query)
        wants_initial = flag(query, "sendInitialEvents")
        self._initial = wants_initial if wants_initial is not None else version == 0
        self._marks_end = self._initial and self._bookmarks
        self._since = None if wants_initial is not None or version == 0 else version

    async def run(self, response: web.StreamResponse, bookmark_every: float, before_write: BeforeWrite) -> None:
        """Send until the time is over or the watch is cut."""
        collection = self._store.collection(self._resource.storage)
        try:
            watcher = collection.watch(self._since)
        except ApiError as error:
            await response.write(_line(b"ERROR", dumps(error.body())))
            return
        try:
            first = self._initial_lines() if self._initial else b""
            if first:
                await before_write()
                await response.write(first)
            await self._follow(response, watcher, bookmark_every, before_write)
        finally:
            collection.unwatch(watcher)

    async def _follow(
        self, response: web.StreamResponse, watcher: Watcher, bookmark_every: float, before_write: BeforeWrite
    ) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + self._timeout
        while not watcher.closed and clock() < end:
            try:
                async with asyncio.timeout(min(end - clock(), bookmark_every if self._bookmarks else self._timeout)):
                    changes = await watcher.take()
            except TimeoutError:
                lines = self._bookmark() if self._bookmarks and watcher.since <= self._store.version else b""
            else:
                lines = b"".join(map(self._change, changes))
            if watcher.error is not None:
                lines += _line(b"ERROR", dumps(watcher.error.body()))
            await before_write()
            if lines:
                await response.write(lines)

    def _initial_lines(self) -> bytes:
        items = self._store.collection(self._resource.storage).items()
        lines = [self._event(b"ADDED", entry) for key, entry in items if self._matches(key, entry.body)]
        if self._marks_end:
            lines.append(self._bookmark({"k8s.io/initial-events-end": "true"}))
        return b"".join(lines)

    def _change(self, change: Change) -> bytes:
        was = change.before is not None and self._matches(change.key, change.before.body)
        now = not change.removed and self._matches(change.key, change.after.body)
        if now:
            return self._event(b"MODIFIED" if was else b"ADDED", change.after)
        if not was or change.before is None:
            return b""
        if change.removed:
            return self._event(b"DELETED", change.after)
        metadata = change.before.body["metadata"] | {"resourceVersion": str(change.version)}
        return self._event(b"DELETED", Entry(change.before.body | {"metadata": metadata}, change.version))

    def _event(self, kind: bytes, entry: Entry) -> bytes:
        if self._form.as_ == "Table":
            return _line(kind, self._table(entry))
        return _line(kind, encode(self._resource, entry, self._form, self._now()))

    def _table(self, entry: Entry) -> bytes:
        """A Table of one row; only the first has the column definitions."""
        encoded = encode(self._resource, entry, self._form, self._now())
        if not self._headers_sent:
            self._headers_sent = True
            return encoded
        start = encoded.index(b'"columnDefinitions":')
        rows = encoded.index(b',"rows":', start)
        return encoded[:start] + b'"columnDefinitions":null' + encoded[rows:]

    def _bookmark(self, annotations: Body | None = None) -> bytes:
        metadata: Body = {
            "resourceVersion": str(self._store.version),
        }
        if annotations:
            metadata["annotations"] = annotations
        body = {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": metadata}
        if self._form.as_ == "PartialObjectMetadata":
            body |= {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        elif self._form.as_ == "Table":
            only = row((), body, body, self._now())
            head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": None}
            table: Body = head | {"metadata": {"resourceVersion": str(self._store.version)}, "rows": [only]}
            return _line(b"BOOKMARK", dumps(table))
        return _line(b"BOOKMARK", dumps(body))


def _check_options(query: Mapping[str, str]) -> None:
    match = query.get("resourceVersionMatch")
    if flag(query, "sendInitialEvents") is None:
        if match:
            raise list_options(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
    elif match != "NotOlderThan":
        raise list_options(
            "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        )


def _line(kind: bytes, body: bytes) -> bytes:
    return b'{"type":"' + kind + b'","object":' + body + b"}\n"
