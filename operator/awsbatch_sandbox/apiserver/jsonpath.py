"""The part of Kubernetes' JSONPath that printer columns and selectable fields may use."""

import re
from collections.abc import Callable, Iterator
from typing import Any

_STEP = re.compile(
    r"\.(?P<name>(?:[^.\[\]\\]|\\.)+)"
    r"|\[\?\(@\.(?P<key>[\w./-]+)\s*==\s*(?P<quote>[\"'])(?P<value>.*?)(?P=quote)\)\]"
    r"|\[(?P<index>-?\d+)\]"
    r"|\[(?P<all>\*)\]"
    r"|\[['\"](?P<quoted>[^'\"]+)['\"]\]"
)


def compile_path(text: str) -> Callable[[Any], Iterator[Any]]:
    """A function that yields what `.status.conditions[?(@.type=="Ready")].status` and the like find; or ValueError."""
    steps: list[re.Match[str]] = []
    position = 0
    path = text.strip().removeprefix("{").removesuffix("}")
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise ValueError(f"unrecognized column definition {text!r}")
        steps.append(match)
        position = match.end()

    def find(body: Any) -> Iterator[Any]:
        found = [body]
        for step in steps:
            found = [value for node in found for value in _follow(node, step)]
        yield from found

    return find


def _follow(node: Any, step: re.Match[str]) -> Iterator[Any]:
    name = step["name"] or step["quoted"]
    if name is not None:
        key = re.sub(r"\\(.)", r"\1", name)
        if isinstance(node, dict) and key in node:
            yield node[key]
    elif step["key"] is not None:
        yield from (item for item in _items(node) if isinstance(item, dict) and item.get(step["key"]) == step["value"])
    elif step["index"] is not None:
        items, index = _items(node), int(step["index"])
        if -len(items) <= index < len(items):
            yield items[index]
    else:
        yield from _items(node)


def _items(node: Any) -> list[Any]:
    return node if isinstance(node, list) else []
