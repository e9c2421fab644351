"""Structural schemas of custom resources: pruning and defaulting."""

import copy
from typing import Any

from awsbatch_sandbox.apiserver.errors import FieldPath, render_path

Schema = dict[str, Any]


def prune(value: Any, schema: Schema, path: FieldPath, unknown: list[str]) -> Any:
    """`value` without fields that the schema does not know and without nulls that it does not allow.

    The dotted paths of unknown fields are added to `unknown`. What needs no change is returned as it is, not copied.
    """
    if isinstance(value, list):
        items = schema.get("items", {})
        pruned = [prune(item, items, (*path, index), unknown) for index, item in enumerate(value)]
        return value if all(new is old for new, old in zip(pruned, value, strict=True)) else pruned
    if not isinstance(value, dict):
        return value
    kept: dict[str, Any] = {}
    for key, item in value.items():
        child = child_schema(schema, key)
        if child is None:
            unknown.append(render_path((*path, key)))
        elif item is not None or child.get("nullable") or not child:
            kept[key] = prune(item, child, (*path, key), unknown)
    same = len(kept) == len(value) and all(kept[key] is value[key] for key in kept)
    return value if same else kept


def child_schema(schema: Schema, key: str) -> Schema | None:
    """The schema of field `key`; an empty one where anything goes, None where it is unknown."""
    properties: dict[str, Schema] = schema.get("properties", {})
    if key in properties:
        return properties[key]
    if schema.get("x-kubernetes-embedded-resource") and key in {"apiVersion", "kind", "metadata"}:
        return {"x-kubernetes-preserve-unknown-fields": True}
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        return additional
    if additional is True or schema.get("x-kubernetes-preserve-unknown-fields") or not schema:
        return {"x-kubernetes-preserve-unknown-fields": True}
    return None


def with_defaults(value: Any, schema: Schema) -> Any:
    """`value` with the schema's defaults filled in; the same object when there is nothing to fill in."""
    if isinstance(value, list):
        filled = [with_defaults(item, schema.get("items", {})) for item in value]
        return value if all(new is old for new, old in zip(filled, value, strict=True)) else filled
    if not isinstance(value, dict):
        return value
    result = value
    for key, child in schema.get("properties", {}).items():
        if key not in value and "default" in child:
            result = result | {key: copy.deepcopy(child["default"])}
    additional = schema.get("additionalProperties")
    for key, item in list(result.items()):
        child = schema.get("properties", {}).get(key, additional if isinstance(additional, dict) else {})
        filled_item = with_defaults(item, child)
        if filled_item is not item:
            result = result | {key: filled_item}
    return result
