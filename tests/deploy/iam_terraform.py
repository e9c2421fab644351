"""Terraform's expressions, as far as the modules of deploy/ use them; anything else raises KeyError.

No Terraform is at hand on a fresh machine: python-hcl2 gives the syntax tree, this reads it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
from lark import Token, Tree

Node = Tree[Token] | Token

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "concat": lambda *lists: [value for one in lists for value in one],
    "jsonencode": json.dumps,
    "length": len,
    "merge": lambda *maps: {key: value for one in maps for key, value in one.items()},
    "split": lambda separator, text: text.split(separator),
}
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "&&": lambda one, other: one and other,
    ">": lambda one, other: one > other,
    "||": lambda one, other: one or other,
}
LITERALS: dict[str, Any] = {"null": None, "true": True, "false": False}


class Block:
    """A block with its labels, its attributes (expressions, not yet evaluated) and the blocks inside."""

    def __init__(self, tree: Tree[Token]) -> None:
        *head, body = (child for child in _parts(tree) if isinstance(child, Tree))
        self.kind, *self.labels = ["".join(_tokens(one)).strip('"') for one in head]
        self.attributes = {"".join(_tokens(_parts(one)[0])): _parts(one)[-1] for one in _children(body, "attribute")}
        self.blocks = [Block(one) for one in _children(body, "block")]

    def text(self, attribute: str) -> str:
        return "".join(_tokens(self.attributes[attribute]))


@cache
def read(folder: Path) -> list[Block]:
    """Once for all tests: the parser takes its time."""
    return [
        Block(one)
        for path in sorted(folder.glob("*.tf"))
        for body in _children(hcl2.parses_to_tree(path.read_text()), "body")
        for one in _children(body, "block")
    ]


class Module:
    """All .tf files of a folder. `variables` and `data` (type to attributes) are what a caller and AWS would give.

    `made`: type, then name, to the attributes of a resource that AWS has created; a list of them where it has a count.
    """

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, Any],
        data: Mapping[str, Mapping[str, str]],
        made: Mapping[str, Any] | None = None,
    ) -> None:
        self.blocks = read(folder)
        self._locals = {name: value for one in self.of("locals") for name, value in one.attributes.items()}
        self._made = dict(made or {})
        self._data = {kind: {"current": values} for kind, values in data.items()}
        declared = {one.labels[0]: one for one in self.of("variable")}
        assert not set(variables) - set(declared), f"the module has no variable {set(variables) - set(declared)}"
        self._variables = {
            name: variables[name] if name in variables else self.evaluate(one.attributes["default"])
            for name, one in declared.items()
        }

    def of(self, kind: str) -> list[Block]:
        return [one for one in self.blocks if one.kind == kind]

    def resource(self, kind: str, name: str = "operator") -> Block:
        (block,) = [one for one in self.of("resource") if one.labels == [kind, name]]
        return block

    def value(self, block: Block, attribute: str) -> Any:
        return self.evaluate(block.attributes[attribute])

    def refusals(self, resource: str) -> list[str]:
        """Return the violated preconditions of a resource for these variables."""
        conditions = [one for life in self.resource(resource).blocks for one in life.blocks]
        return [self.value(one, "error_message") for one in conditions if not self.value(one, "condition")]

    def evaluate(self, node: Node) -> Any:
        parts = _parts(node)
        kind = node.data if isinstance(node, Tree) else node.type
        match kind:
            case "expr_term":
                return self.evaluate(parts[1] if len(parts) == 3 else parts[0])
            case "literal_value":
                return LITERALS[str(parts[0])]
            case "int_lit":
                return int(str(parts[0]))
            case "identifier":
                return self._root(str(parts[0]))
            case "get_attr_expr_term":
                return self._attribute(self.evaluate(parts[0]), "".join(_tokens(parts[1])).lstrip("."))
            case "index_expr_term":
                return self.evaluate(parts[0])[self.evaluate(_parts(parts[1])[1])]
            case "string":
                return "".join(self._text(_parts(part)[0]) for part in parts[1:-1])
            case "tuple":
                return [self.evaluate(part) for part in parts if isinstance(part, Tree)]
            case "object":
                elements = [_parts(part) for part in parts if isinstance(part, Tree)]
                return {self._key(_parts(one[0])[0]): self.evaluate(one[-1]) for one in elements}
            case "conditional":
                requested, chosen, other = (part for part in parts if isinstance(part, Tree))
                return self.evaluate(chosen if self.evaluate(requested) else other)
            case "binary_op" | "unary_op":
                return self._operation(parts)
            case "function_call":
                arguments = [one for part in parts[1:] if isinstance(part, Tree) for one in _parts(part)]
                values = [self.evaluate(one) for one in arguments if isinstance(one, Tree)]
                return FUNCTIONS["".join(_tokens(parts[0]))](*values)
        raise KeyError(kind)

    def _operation(self, parts: list[Any]) -> Any:
        if isinstance(parts[0], Token):
            assert str(parts[0]) == "!", f"not read here: {parts[0]}"
            return not self.evaluate(parts[1])
        operator, right = _parts(parts[1])
        return OPERATORS["".join(_tokens(operator))](self.evaluate(parts[0]), self.evaluate(right))

    def _root(self, name: str) -> Any:
        return {"var": self._variables, "local": self._locals, "data": self._data, **self._made}[name]

    def _attribute(self, holder: Any, name: str) -> Any:
        return self.evaluate(holder[name]) if holder is self._locals else holder[name]

    def _text(self, part: Node) -> str:
        if isinstance(part, Token):
            return re.sub(r'\\(["\\])', r"\1", str(part)).replace("$${", "${")
        return str(self.evaluate(_parts(part)[1]))

    def _key(self, node: Node) -> str:
        inner = _parts(node)[0]
        if isinstance(inner, Tree) and inner.data == "identifier":
            return "".join(_tokens(inner))
        return str(self.evaluate(node))


def _parts(node: Node) -> list[Any]:
    if isinstance(node, Token):
        return []
    return [one for one in node.children if isinstance(one, Token) or one.data != "new_line_or_comment"]


def _children(node: Any, kind: str) -> list[Any]:
    return [one for one in node.children if isinstance(one, Tree) and one.data == kind]


def _tokens(node: Node) -> Iterator[str]:
    if isinstance(node, Token):
        yield str(node)
        return
    for one in node.children:
        yield from _tokens(one)
