"""Label and field selectors: the text of a query becomes a predicate."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from awsbatch_sandbox.apiserver.errors import bad_request

Labels = Mapping[str, str]
Requirement = Callable[[Labels], bool]

_SET = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<op>==|!=|=)\s*(?P<value>[^\s!=,()]*)$")
_EXISTS = re.compile(r"^(?P<not>!?)\s*(?P<key>[^\s!=,()]+)$")
_COMMA_OUTSIDE_PARENTHESES = re.compile(r",(?![^(]*\))")


def label_selector(text: str) -> Callable[[Labels], bool] | None:
    """None when `text` selects everything; raises ApiError 400 when it is no selector."""
    requirements = [_requirement(part.strip()) for part in _COMMA_OUTSIDE_PARENTHESES.split(text) if part.strip()]
    if not requirements:
        return None
    return lambda labels: all(requirement(labels) for requirement in requirements)


def _requirement(text: str) -> Requirement:
    if match := _SET.match(text):
        key = match["key"]
        values = frozenset(value.strip() for value in match["values"].split(","))
        if match["op"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUAL.match(text):
        key, wanted = match["key"], match["value"]
        if match["op"] == "!=":
            return lambda labels: labels.get(key) != wanted
        return lambda labels: labels.get(key) == wanted
    if match := _EXISTS.match(text):
        key = match["key"]
        if match["not"]:
            return lambda labels: key not in labels
        return lambda labels: key in labels
    raise bad_request(f'unable to parse requirement: found {text!r}, expected: a label key, "=", "!=", in or notin')


def field_selector(text: str, readers: Mapping[str, Callable[[Any], str]]) -> Callable[[Any], bool] | None:
    """A predicate over stored bodies; `readers` are the fields that can be selected by."""
    terms = list(_field_terms(text, readers))
    if not terms:
        return None
    return lambda body: all((read(body) == wanted) is equal for read, equal, wanted in terms)


def _field_terms(
    text: str, readers: Mapping[str, Callable[[Any], str]]
) -> Iterable[tuple[Callable[[Any], str], bool, str]]:
    for part in filter(None, re.split(r"(?<!\\),", text)):
        match = re.match(r"^(?P<key>[^=!]+?)(?P<op>==|!=|=)(?P<value>.*)$", part.strip())
        if match is None:
            raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
        if match["key"] not in readers:
            raise bad_request(f"field label not supported: {match['key']}")
        yield readers[match["key"]], match["op"] != "!=", re.sub(r"\\(.)", r"\1", match["value"])
