"""The rules of `x-kubernetes-validations`, evaluated by cel-python in kube-apiserver's order and with its messages."""

import datetime as dt
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import celpy
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError

from awsbatch_sandbox.apiserver.errors import OMIT, FieldError, FieldPath

_ENVIRONMENT: Final = celpy.Environment()
_EXTENSIONS: Final[dict[str, Callable[..., Any]]] = {
    "trim": lambda text: celtypes.StringType(text.strip()),
    "lowerAscii": lambda text: celtypes.StringType(text.lower()),
    "upperAscii": lambda text: celtypes.StringType(text.upper()),
    "replace": lambda text, old, new: celtypes.StringType(text.replace(old, new)),
    "split": lambda text, separator: celtypes.ListType(map(celtypes.StringType, text.split(separator))),
    "find": lambda text, pattern: celtypes.StringType(found[0] if (found := re.search(pattern, text)) else ""),
}
_REASONS: Final = {
    "FieldValueInvalid": "FieldValueInvalid",
    "FieldValueForbidden": "FieldValueForbidden",
    "FieldValueRequired": "FieldValueRequired",
    "FieldValueDuplicate": "FieldValueDuplicate",
}
_USES_OLD_SELF: Final = re.compile(r"\boldSelf\b")


class RuleError(ValueError):
    """A rule that is not CEL; `path` leads to it from the schema's root."""

    def __init__(self, path: FieldPath, expression: str, why: str) -> None:
        super().__init__(why)
        self.path = path
        self.expression = expression


@dataclass(frozen=True, slots=True)
class _Rule:
    expression: str
    program: Any
    uses_old: bool
    message: str
    message_program: Any
    reason: str
    field: FieldPath


@dataclass(frozen=True, slots=True)
class _Node:
    """The rules of one schema and of the schemas below it; only what has rules somewhere is kept."""

    schema: dict[str, Any]
    rules: tuple[_Rule, ...]
    properties: dict[str, "_Node"]
    items: "_Node | None"
    values: "_Node | None"
    map_keys: tuple[str, ...]


class Rules:
    """All rules of one structural schema; raises RuleError for one that does not parse."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = _compile(schema, ())

    def faults(self, new: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
        """Broken rules of `new`; transition rules use `old`. Unchanged parts are not evaluated again."""
        return list(_walk(self._root, new, old, ())) if self._root else []


def _compile(schema: dict[str, Any], path: FieldPath) -> _Node | None:
    properties = {
        key: node
        for key, child in schema.get("properties", {}).items()
        if (node := _compile(child, (*path, "properties", key)))
    }
    items, additional = schema.get("items"), schema.get("additionalProperties")
    node = _Node(
        schema=schema,
        rules=tuple(
            _compile_rule(rule, (*path, "x-kubernetes-validations", index))
            for index, rule in enumerate(schema.get("x-kubernetes-validations", []))
        ),
        properties=properties,
        items=_compile(items, (*path, "items")) if isinstance(items, dict) else None,
        values=_compile(additional, (*path, "additionalProperties")) if isinstance(additional, dict) else None,
        map_keys=tuple(schema.get("x-kubernetes-list-map-keys", ())),
    )
    return node if node.rules or node.properties or node.items or node.values else None


def _compile_rule(rule: dict[str, Any], path: FieldPath) -> _Rule:
    expression = rule.get("rule", "")
    message_expression = rule.get("messageExpression")
    return _Rule(
        expression=expression,
        program=_program(expression, (*path, "rule")),
        uses_old=bool(_USES_OLD_SELF.search(expression)),
        message=rule.get("message", "").strip() or f"failed rule: {expression}",
        message_program=_program(message_expression, (*path, "messageExpression")) if message_expression else None,
        reason=_REASONS[rule.get("reason", "FieldValueInvalid")],
        field=tuple(step for step in rule.get("fieldPath", "").split(".") if step),
    )


def _program(expression: str, path: FieldPath) -> Any:
    try:
        return _ENVIRONMENT.program(_ENVIRONMENT.compile(expression), functions=_EXTENSIONS)
    except CELParseError as error:
        raise RuleError(path, expression, f"compilation failed: {error}") from error


def _walk(node: _Node, new: Any, old: Any, path: FieldPath) -> Iterator[FieldError]:
    if new is None or new == old:
        return
    if node.rules:
        yield from _evaluate(node, new, old, path)
    if isinstance(new, dict):
        before = old if isinstance(old, dict) else {}
        for key, value in new.items():
            if child := node.properties.get(key, node.values):
                yield from _walk(child, value, before.get(key), (*path, key))
    elif isinstance(new, list) and node.items:
        by_key = {_identity(item, node): item for item in old or []} if node.map_keys else {}
        for index, item in enumerate(new):
            yield from _walk(node.items, item, by_key.get(_identity(item, node)), (*path, index))


def _identity(item: Any, node: _Node) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in node.map_keys) if isinstance(item, dict) else ()


def _evaluate(node: _Node, new: Any, old: Any, path: FieldPath) -> Iterator[FieldError]:
    values = {"self": json_to_cel(_typed(new, node.schema))}
    if old is not None:
        values["oldSelf"] = json_to_cel(_typed(old, node.schema))
    shown = OMIT if isinstance(new, dict | list) else new
    for rule in node.rules:
        if rule.uses_old and old is None:
            continue
        try:
            holds = bool(rule.program.evaluate(values))
        except CELEvalError as error:
            yield FieldError("FieldValueInvalid", path, shown, f"{error.args[0]} evaluating rule: {rule.expression}")
            continue
        if not holds:
            yield FieldError(rule.reason, (*path, *rule.field), shown, _message(rule, values))


def _typed(value: Any, schema: dict[str, Any]) -> Any:
    """`value` with its strings of format date-time as times: to CEL, two spellings of one time are equal."""
    match value:
        case dict():
            properties, other = schema.get("properties", {}), schema.get("additionalProperties")
            others = other if isinstance(other, dict) else {}
            return {key: _typed(item, properties.get(key, others)) for key, item in value.items()}
        case list():
            return [_typed(item, schema.get("items", {})) for item in value]
        case str() if schema.get("format") == "date-time":
            return dt.datetime.fromisoformat(value.upper())
    return value


def _message(rule: _Rule, values: dict[str, Any]) -> str:
    if rule.message_program is None:
        return rule.message
    try:
        return str(rule.message_program.evaluate(values))
    except CELEvalError:  # kube-apiserver falls back to the plain message too
        return rule.message
