"""Objects in memory with one resourceVersion counter, a watch history per collection and live watchers.

A stored body is never changed in place: a write stores a new body, so that readers, lists and watchers share one dict
and one serialised form per change.
"""

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from awsbatch_sandbox.apiserver.errors import ApiError, expired, too_old

Body = dict[str, Any]
Key = tuple[str, str]
"""Namespace ("" for cluster-scoped objects) and name."""

_SNAPSHOTS_KEPT: Final = 32


def dumps(body: Any) -> bytes:
    """Compact UTF-8 JSON."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


@dataclass(slots=True)
class Entry:
    """One version of one object; `encoded` caches its bytes per representation."""

    body: Body
    version: int
    encoded: dict[str, bytes] = field(default_factory=dict)

    def bytes_as(self, form: str, render: Callable[[Body], Body]) -> bytes:
        """The JSON of this version in the representation called `form`, made at most once."""
        found = self.encoded.get(form)
        if found is None:
            found = self.encoded[form] = dumps(render(self.body))
        return found


@dataclass(frozen=True, slots=True)
class Change:
    """One step in a collection's history; `before` is None for an object that is new."""

    version: int
    key: Key
    after: Entry
    before: Entry | None
    removed: bool


class Watcher:
    """Changes that a watch has not sent yet."""

    def __init__(self, backlog: list[Change], since: int) -> None:
        self.since = since
        """As in kube-apiserver, changes up to this version are not sent: none at all after a restore, for a while."""
        self._pending = deque(backlog)
        self._wake = asyncio.Event()
        self._wake.set()
        self.closed = False
        self.error: ApiError | None = None

    def push(self, change: Change) -> None:
        if change.version > self.since:
            self._pending.append(change)
            self._wake.set()

    def close(self, error: ApiError | None = None) -> None:
        """The watch ends, with `error` as its last event if there is one."""
        self.closed, self.error = True, error
        self._wake.set()

    async def take(self) -> list[Change]:
        """Everything that has happened since the last call, waiting for at least one change or the end."""
        await self._wake.wait()
        self._wake.clear()
        changes = list(self._pending)
        self._pending.clear()
        return changes


class Store:
    """All collections, and the counter that orders their changes."""

    def __init__(self, history: int, start: int = 1) -> None:
        """`history` is how many changes each collection keeps, `start` the first resourceVersion."""
        self.version = start
        self._history = history
        self._collections: dict[str, Collection] = {}
        self._saved: tuple[int, dict[str, dict[Key, Entry]]] = start, {}

    def collection(self, name: str) -> "Collection":
        """The collection called `name`, such as `batchjobs.awsbatch.dev`; made at its first use."""
        if name not in self._collections:
            self._collections[name] = Collection(self, self._history)
        return self._collections[name]

    def drop(self, name: str) -> None:
        """Drop a collection and end its watches."""
        dropped = self._collections.pop(name, None)
        # An empty collection is false, but may be watched.
        if dropped is not None:
            dropped.cut()

    def next_version(self) -> int:
        self.version += 1
        return self.version

    def save(self) -> None:
        """Save a copy of everything for `restore`; it replaces an earlier copy."""
        self._saved = self.version, {name: one.entries() for name, one in self._collections.items()}

    def restore(self) -> None:
        """Return to the saved copy, as after the restore of an etcd backup: versions go back, and watches end."""
        self.version, saved = self._saved
        for name, collection in self._collections.items():
            collection.restore(saved.get(name, {}))

    def expire(self) -> None:
        """Drop every history: a watch or a page that names an older version gets 410."""
        for collection in self._collections.values():
            collection.expire()

    def cut(self, *, expired: bool = False) -> None:
        """End every open watch; `expired`: with a 410, as for a watch that fell behind the history."""
        for collection in self._collections.values():
            collection.cut(expired=expired)


class Collection:
    """The objects of one resource."""

    def __init__(self, store: Store, history: int) -> None:
        self._store = store
        self._entries: dict[Key, Entry] = {}
        self._sorted: list[Key] | None = []
        self._history: deque[Change] = deque(maxlen=history)
        self._forgotten = store.version
        self._watchers: set[Watcher] = set()
        self._snapshots: OrderedDict[int, list[tuple[Key, Entry]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        return self._entries.get(key)

    def items(self) -> Iterator[tuple[Key, Entry]]:
        """Everything, ordered by namespace and name as etcd's keys are."""
        if self._sorted is None:
            self._sorted = sorted(self._entries)
        return ((key, self._entries[key]) for key in self._sorted)

    def commit(self, key: Key, body: Body) -> Entry:
        """Store `body` under a new resourceVersion, which it gets, and notify the watchers."""
        before = self._entries.get(key)
        entry = self._stamped(body)
        self._entries[key] = entry
        if before is None:
            self._sorted = None
        self._tell(Change(entry.version, key, entry, before, removed=False))
        return entry

    def remove(self, key: Key, body: Body) -> Entry:
        """Delete the object; `body` is its last state, sent to watchers with the version of the deletion."""
        before = self._entries.pop(key)
        self._sorted = None
        entry = self._stamped(body)
        self._tell(Change(entry.version, key, entry, before, removed=True))
        return entry

    def _stamped(self, body: Body) -> Entry:
        version = self._store.next_version()
        metadata = body["metadata"] | {"resourceVersion": str(version)}
        return Entry(body | {"metadata": metadata}, version)

    def _tell(self, change: Change) -> None:
        if self._history.maxlen and len(self._history) == self._history.maxlen:
            self._forgotten = self._history[0].version
        self._history.append(change)
        for watcher in self._watchers:
            watcher.push(change)

    def watch(self, since: int | None) -> Watcher:
        """A watcher of the changes after version `since`, or of everything from now on with None."""
        backlog: list[Change] = []
        if since is not None:
            if since < self._forgotten:
                raise too_old(since, self._forgotten)
            backlog = [change for change in self._history if change.version > since]
        watcher = Watcher(backlog, since or 0)
        self._watchers.add(watcher)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    def snapshot(self, version: int | None) -> tuple[int, list[tuple[Key, Entry]]]:
        """A consistent snapshot that later pages of a list read: a new one, or that of `version` (410 when gone)."""
        if version is None:
            version = self._store.version
            self._snapshots[version] = list(self.items())
            while len(self._snapshots) > _SNAPSHOTS_KEPT:
                self._snapshots.popitem(last=False)
        elif version not in self._snapshots:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new "
                "list without the continue parameter, or use the continue token in this response to retrieve the "
                "remainder of the results. Continuing with the provided token results in an inconsistent list."
            )
        return version, self._snapshots[version]

    def entries(self) -> dict[Key, Entry]:
        """A copy: stored bodies are never changed in place."""
        return dict(self._entries)

    def restore(self, entries: dict[Key, Entry]) -> None:
        self._entries, self._sorted = dict(entries), None
        self._history.clear()
        self._snapshots.clear()
        self._forgotten = self._store.version
        self.cut()

    def expire(self) -> None:
        self._history.clear()
        self._snapshots.clear()
        self._forgotten = self._store.next_version()

    def cut(self, *, expired: bool = False) -> None:
        error = too_old(self._store.version, self._store.version) if expired else None
        for watcher in self._watchers:
            watcher.close(error)
