"""Validation of custom resources by jsonschema, with kube-openapi's messages."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import jsonschema

from awsbatch_sandbox.apiserver.errors import OMIT, FieldError, FieldPath, render_path
from awsbatch_sandbox.apiserver.schema import Schema, child_schema

_RFC3339: Final = re.compile(r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$")
_HEAD: Final = frozenset({"apiVersion", "kind", "metadata"})
_FORMATS: Final = jsonschema.FormatChecker(formats=())
_BLOCKING: Final = frozenset(
    {
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    }
)
RULES_NOT_CHECKED: Final = FieldError(
    "FieldValueInvalid",
    (),
    None,
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation",
)


@_FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    if not _RFC3339.match(value):
        return False
    dt.datetime.fromisoformat(value.upper())
    return True


@_FORMATS.checks("date", raises=ValueError)
def _is_date(value: object) -> bool:
    return not isinstance(value, str) or bool(dt.date.fromisoformat(value))


class Validator:
    """Checks objects of one schema; unchanged parts of an update are not validated (CRD ratcheting)."""

    def __init__(self, schema: Schema) -> None:
        properties = {key: child for key, child in schema.get("properties", {}).items() if key not in _HEAD}
        root = {key: value for key, value in schema.items() if key != "type"}
        self._root = _node(root | {"properties": properties})

    def faults(self, new: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
        """Everything wrong with `new`; `old` is the stored object that it replaces."""
        return sorted(_faults(self._root, new, old, ()), key=lambda fault: fault.field)


@dataclass(frozen=True, slots=True)
class _Node:
    """One schema: its own keywords, and its properties apart, so that unchanged fields are passed over."""

    schema: Schema
    own: jsonschema.Draft4Validator
    properties: "dict[str, _Node]"


def _node(schema: Schema) -> _Node:
    own = {key: value for key, value in schema.items() if key != "properties"}
    properties = {key: _node(child) for key, child in schema.get("properties", {}).items()}
    return _Node(schema, jsonschema.Draft4Validator(_as_draft4(own), format_checker=_FORMATS), properties)


def _faults(node: _Node, new: Any, old: Any, path: FieldPath) -> Iterator[FieldError]:
    for error in node.own.iter_errors(new):
        if not _unchanged(error, old):
            yield _field_error(error, path)
    if isinstance(new, dict):
        before = old if isinstance(old, dict) else {}
        for key, child in node.properties.items():
            if key in new and not (key in before and before[key] == new[key]):
                yield from _faults(child, new[key], before.get(key), (*path, key))
    elif isinstance(new, list):
        yield from _duplicates(new, node.schema, path)


def blocks_rules(faults: list[FieldError]) -> bool:
    """Whether kube-apiserver would skip the CEL rules of an object with these faults."""
    return any(fault.reason in _BLOCKING for fault in faults)


def _unchanged(error: jsonschema.ValidationError, old: Any) -> bool:
    for step in error.absolute_path:
        if isinstance(old, dict) and step in old:
            old = old[step]
        else:
            return False
    return old is not None and bool(old == error.instance)


def _as_draft4(schema: Any) -> Any:
    """OpenAPI v3 `nullable` and Kubernetes' int-or-string in plain JSON Schema."""
    if isinstance(schema, list):
        return [_as_draft4(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {
        key: value if key in {"enum", "default"} else _as_draft4(value)
        for key, value in schema.items()
        if not key.startswith("x-") and key not in {"nullable", "description", "default"}
    }
    if schema.get("x-kubernetes-int-or-string") is True:
        result["type"] = ["integer", "string"]
        result.pop("anyOf", None)
    if schema.get("nullable") is True and isinstance(result.get("type"), str):
        result["type"] = [result["type"], "null"]
        if "enum" in result:
            result["enum"] = [*result["enum"], None]
    return result


def _duplicates(value: Any, schema: Schema, path: FieldPath) -> Iterator[FieldError]:
    """Faults of lists that x-kubernetes-list-type makes maps or sets, in `value` and below."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _duplicates(item, child_schema(schema, key) or {}, (*path, key))
    elif isinstance(value, list):
        seen: set[str] = set()
        keys, kind = schema.get("x-kubernetes-list-map-keys", []), schema.get("x-kubernetes-list-type")
        for index, item in enumerate(value):
            identity = {key: item.get(key) for key in keys} if kind == "map" and isinstance(item, dict) else item
            text = json.dumps(identity, sort_keys=True)
            if kind in {"map", "set"} and text in seen:
                yield FieldError("FieldValueDuplicate", (*path, index), identity)
            seen.add(text)
            yield from _duplicates(item, schema.get("items", {}), (*path, index))


_JSON_TYPES: Final[dict[type, str]] = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
}


def _field_error(error: jsonschema.ValidationError, prefix: FieldPath) -> FieldError:
    path: FieldPath = (*prefix, *error.absolute_path)
    value: Any = error.instance
    wanted: Any = error.validator_value
    where = render_path(path) + " in body"
    match error.validator:
        case "required":
            missing = next(name for name in wanted if name not in value and error.message.startswith(repr(name)))
            return FieldError("FieldValueRequired", (*path, missing))
        case "enum":
            names = [item if isinstance(item, str) else json.dumps(item) for item in wanted]
            listing = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
            return FieldError("FieldValueNotSupported", path, value, f"supported values: {listing}")
        case "maxLength":
            unit = "byte" if wanted == 1 else "bytes"
            return FieldError("FieldValueTooLong", path, OMIT, f"may not be more than {wanted} {unit}")
        case "maxItems" | "maxProperties":
            unit = "item" if wanted == 1 else "items"
            return FieldError("FieldValueTooMany", path, len(value), f"must have at most {wanted} {unit}")
        case "type":
            found = "null" if value is None else _JSON_TYPES[type(value)]
            types = wanted if isinstance(wanted, str) else wanted[0]
            detail = f'{where} must be of type {types}: "{found}"'
            return FieldError("FieldValueTypeInvalid", path, found, detail)
        case "format":
            detail = f"{where} must be of type {wanted}: {json.dumps(value, ensure_ascii=False)}"
            return FieldError("FieldValueTypeInvalid", path, value, detail)
    shown = len(value) if error.validator in {"minItems", "minProperties"} else value
    return FieldError("FieldValueInvalid", path, shown, _detail(error, where, render_path(path)))


def _detail(error: jsonschema.ValidationError, where: str, path: str) -> str:
    wanted: Any = error.validator_value
    parent = error.schema if isinstance(error.schema, dict) else {}
    match error.validator:
        case "pattern":
            return f"{where} should match '{wanted}'"
        case "minLength":
            return f"{where} should be at least {wanted} chars long"
        case "minItems":
            return f"{where} should have at least {wanted} items"
        case "minProperties":
            return f"{where} should have at least {wanted} properties"
        case "minimum":
            bound = "greater than" if parent.get("exclusiveMinimum") else "greater than or equal to"
            return f"{where} should be {bound} {wanted}"
        case "maximum":
            bound = "less than" if parent.get("exclusiveMaximum") else "less than or equal to"
            return f"{where} should be {bound} {wanted}"
        case "multipleOf":
            return f"{where} should be a multiple of {wanted}"
        case "oneOf":
            return f'"{path}" must validate one and only one schema (oneOf). Found none valid'
        case "anyOf":
            return f'"{path}" must validate at least one schema (anyOf)'
        case "not":
            return f'"{path}" must not validate the schema (not)'
    return error.message
