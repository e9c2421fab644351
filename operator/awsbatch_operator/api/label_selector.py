"""A LabelSelector and the labels that it selects, by Kubernetes' own rules."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from awsbatch_operator.api.untyped import Faults, entries, fields, items, text

Labels = Mapping[str, str]

_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_LONGEST_PREFIX: Final = 253
_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class Operator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


_WITH_VALUES: Final = frozenset({Operator.IN, Operator.NOT_IN})


@dataclass(frozen=True, slots=True)
class Requirement:
    """`values` are those of In and NotIn."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def met(self, labels: Labels) -> bool:
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                # A label that is not there has none of the values.
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must be met; without any, everything is selected."""

    requirements: tuple[Requirement, ...]

    def selects(self, labels: Labels) -> bool:
        return all(requirement.met(labels) for requirement in self.requirements)


def parse_selector(raw: object, path: str, faults: Faults) -> Selector:
    """Decode a selector. The result is valid only if no fault was added."""
    found = fields(raw, path, {"matchLabels", "matchExpressions"}, faults)
    labels = entries(found.get("matchLabels"), f"{path}.matchLabels", faults)
    for key, value in labels.items():
        _check_key(key, f"{path}.matchLabels", faults)
        _check_value(value, f"{path}.matchLabels", faults)
    expressions = items(found.get("matchExpressions"), f"{path}.matchExpressions", faults)
    return Selector(
        (
            *(Requirement(key, Operator.IN, frozenset({value})) for key, value in labels.items()),
            *(_requirement(one, f"{path}.matchExpressions[{index}]", faults) for index, one in enumerate(expressions)),
        )
    )


def _requirement(raw: object, path: str, faults: Faults) -> Requirement:
    found = fields(raw, path, {"key", "operator", "values"}, faults)
    key, word = text(found.get("key"), f"{path}.key", faults), text(found.get("operator"), f"{path}.operator", faults)
    listed = items(found.get("values"), f"{path}.values", faults)
    values = [text(one, f"{path}.values", faults) for one in listed]
    _check_key(key, path, faults)
    for value in values:
        _check_value(value, f"{path}.values", faults)
    try:
        operator = Operator(word)
    except ValueError:
        faults.append(f"{path}.operator is none of {', '.join(Operator)}")
        # Never used, as there is a fault; and if it were, it would select nothing.
        return Requirement(key, Operator.IN)
    if (operator in _WITH_VALUES) != bool(values):
        faults.append(f"{path}.values must be {'given' if operator in _WITH_VALUES else 'left out'} for {operator}")
    return Requirement(key, operator, frozenset(values))


def _check_key(key: str, path: str, faults: Faults) -> None:
    if not _KEY.fullmatch(key) or len(key.rpartition("/")[0]) > _LONGEST_PREFIX:
        faults.append(f"{path} has a key that no label can have")


def _check_value(value: str, path: str, faults: Faults) -> None:
    if not _VALUE.fullmatch(value):
        faults.append(f"{path} has a value that no label can have")
