"""Owners of fields: `metadata.managedFields` for the operation Update, as server-side apply would see it.

A field set is a frozenset of paths; a path is a tuple of fieldsV1 steps (`f:spec`, `k:{"type":"Ready"}`, `v:"x"`), and
one that ends in `.` is the map or list item itself.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from awsbatch_sandbox.apiserver.decoding import Write
from awsbatch_sandbox.apiserver.storage import Body

Leaves = dict[tuple[str, ...], Any]

_SYSTEM_METADATA: Final = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
    }
)
_BUILTIN_MAPS: Final = frozenset(
    {"f:labels", "f:annotations", "f:finalizers", "f:ownerReferences", "f:data", "f:binaryData", "f:stringData"}
)
_BUILTIN_KEYS: Final = {"conditions": ["type"], "ownerReferences": ["uid"], "secrets": ["name"]}


def updated(old: Body | None, new: Body, schema: dict[str, Any], write: Write, now: str) -> list[Body]:
    """The managedFields of `new`, which `write` stores instead of `old` at time `now` (RFC 3339)."""
    stored = old or {}
    shared = {key for key, value in new.items() if stored.get(key) is value}
    before = _leaves_of(stored, schema, shared)
    after = _leaves_of(new, schema, shared)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    removed = before.keys() - after.keys()
    entries: list[Body] = []
    mine: Body | None = None
    for entry in stored.get("metadata", {}).get("managedFields", []):
        if _is_writers(entry, write):
            mine = entry
            continue
        if left := _paths(entry["fieldsV1"]) - removed - changed:
            entries.append(entry | {"fieldsV1": _tree(left)})
    owned = (_paths(mine["fieldsV1"]) if mine else set()) - removed | changed
    if owned:
        fresh: Body = {"manager": write.manager, "operation": "Update", "apiVersion": new["apiVersion"], "time": now}
        fresh |= {"fieldsType": "FieldsV1", "fieldsV1": _tree(owned)}
        entries.append(fresh | ({"subresource": write.subresource} if write.subresource else {}))
    return sorted(entries, key=lambda entry: (entry["time"], entry["manager"], entry.get("subresource", "")))


def _is_writers(entry: Body, write: Write) -> bool:
    return (entry["manager"], entry.get("subresource", "")) == (write.manager, write.subresource)


def _leaves_of(body: Body, schema: dict[str, Any], shared: set[str]) -> Leaves:
    """The fields of `body` and their values, but those of the top-level fields that both versions share."""
    leaves: Leaves = {}
    for key, value in body.items():
        if key in {"apiVersion", "kind"} or key in shared:
            continue
        known = schema.get("properties", {}).get(key, {})
        if key == "metadata":
            kept = {name: item for name, item in value.items() if name not in _SYSTEM_METADATA}
            for name, item in kept.items():
                leaves.update(_leaves(item, {}, ("f:metadata", f"f:{name}"), name))
        else:
            leaves.update(_leaves(value, known, (f"f:{key}",), key))
    if schema:
        return leaves
    return {path: value for path, value in leaves.items() if path[-1] != "." or _is_map(path)}


def _is_map(path: tuple[str, ...]) -> bool:
    """Whether a built-in kind has a map, set or keyed item at `path`; structs have no mark of their own."""
    return path[-2].partition(":")[0] == "k" or path[-2] in _BUILTIN_MAPS


def _leaves(
    value: Any, schema: dict[str, Any], path: tuple[str, ...], name: str
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value and schema.get("x-kubernetes-map-type") != "atomic":
        yield (*path, "."), True
        properties, additional = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            child = properties.get(key, additional if isinstance(additional, dict) else {})
            yield from _leaves(item, child, (*path, f"f:{key}"), key)
        return
    keys = schema.get("x-kubernetes-list-map-keys") or (not schema and _BUILTIN_KEYS.get(name))
    if isinstance(value, list) and keys and all(isinstance(item, dict) for item in value):
        yield (*path, "."), True
        for item in value:
            step = "k:" + json.dumps({key: item.get(key) for key in keys}, separators=(",", ":"))
            yield from _leaves(item, schema.get("items", {}), (*path, step), "")
    elif isinstance(value, list) and (schema.get("x-kubernetes-list-type") == "set" or name == "finalizers"):
        yield (*path, "."), True
        for item in value:
            yield (*path, "v:" + json.dumps(item)), True
    else:
        yield path, value


def _tree(paths: set[tuple[str, ...]]) -> Body:
    root: Body = {}
    for path in sorted(paths):
        node = root
        for step in path:
            node = node.setdefault(step, {})
    return root


def _paths(tree: Body, prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for step, below in tree.items():
        found |= _paths(below, (*prefix, step)) if below else {(*prefix, step)}
    return found
