"""CloudFormation's intrinsic functions, as far as the templates of deploy/ use them; another one raises KeyError."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

NO_VALUE = object()


class _Loader(yaml.CSafeLoader):
    """Reads `!Sub x` as `{"Fn::Sub": x}`, as CloudFormation does."""


def _function(loader: yaml.CSafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_scalar(node)  # type: ignore[arg-type]
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _function)


def load(path: Path) -> dict[str, Any]:
    template: dict[str, Any] = yaml.load(path.read_text(), _Loader)
    return template


class Stack:
    """A template with its parameters. `pseudo` gives AWS::Partition, AWS::AccountId and AWS::Region.

    `made`: what Ref (`Queue`) and GetAtt (`Queue.Arn`) return for a resource that AWS has created.
    """

    def __init__(
        self,
        template: Mapping[str, Any],
        parameters: Mapping[str, Any],
        pseudo: Mapping[str, str],
        made: Mapping[str, str] | None = None,
    ) -> None:
        unknown = set(parameters) - set(template["Parameters"])
        assert not unknown, f"the template has no parameter {unknown}"
        defaults = {
            name: parameter["Default"] for name, parameter in template["Parameters"].items() if "Default" in parameter
        }
        self._template = template
        self._values: dict[str, Any] = defaults | dict(parameters) | dict(pseudo) | {"AWS::NoValue": NO_VALUE}
        self._values |= made or {}
        for name, parameter in template["Parameters"].items():
            if parameter["Type"] == "CommaDelimitedList":
                self._values[name] = self._values[name].split(",")
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": lambda name: self._values[name],
            "Fn::Sub": self._sub,
            "Fn::Join": lambda parts: parts[0].join(self.resolve(parts[1])),
            "Fn::If": lambda parts: self.resolve(parts[1 if self.holds(parts[0]) else 2]),
            "Fn::Equals": lambda two: self.resolve(two[0]) == self.resolve(two[1]),
            "Fn::Not": lambda one: not self.resolve(one[0]),
            "Condition": self.holds,
            "Fn::Or": lambda several: any(self.resolve(one) for one in several),
            "Fn::And": lambda several: all(self.resolve(one) for one in several),
            "Fn::GetAtt": lambda path: self._values.get(path, f"<{path}>"),
        }

    def holds(self, condition: str) -> bool:
        return bool(self.resolve(self._template["Conditions"][condition]))

    def properties(self, resource: str) -> Any:
        """None when the resource's condition does not hold."""
        body = self._template["Resources"][resource]
        if "Condition" in body and not self.holds(body["Condition"]):
            return None
        return self.resolve(body["Properties"])

    def refusals(self) -> list[str]:
        """Return the violated Rules of the template for these parameters."""
        broken = [
            assertion["AssertDescription"]
            for rule in self._template["Rules"].values()
            if self.resolve(rule["RuleCondition"])
            for assertion in rule["Assertions"]
            if not self.resolve(assertion["Assert"])
        ]
        return [str(one) for one in broken]

    def resolve(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for value in map(self.resolve, node) if value is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            name, argument = next(iter(node.items()))
            if name in ("Ref", "Condition") or name.startswith("Fn::"):
                return self._functions[name](argument)
        resolved = {key: self.resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not NO_VALUE}

    def _sub(self, argument: Any) -> str:
        text, extra = argument if isinstance(argument, list) else (argument, {})
        values = self._values | {key: self.resolve(value) for key, value in extra.items()}
        return re.sub(r"\$\{([^!}]+)\}", lambda match: str(values[match[1]]), text)


def document(value: Any) -> Any:
    """A property of type Json, given as an object or as its text."""
    return json.loads(value) if isinstance(value, str) else value
