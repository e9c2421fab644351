"""A LabelSelector and the labels that it selects, by Kubernetes' own rules."""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, field

from awsbatch_operator.api.codec import StrictObject

Labels = Mapping[str, str]

_KEY: Final = re.compile(
    # A prefix has at most 253 characters.
    r"(?![^/]{254})([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class Operator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


_WITH_VALUES: Final = frozenset({Operator.IN, Operator.NOT_IN})

_Value = Annotated[str, Meta(max_length=256)]


class Requirement(StrictObject, frozen=True):
    """`values` are those of In and NotIn."""

    key: Annotated[str, Meta(max_length=512)]
    operator: Operator
    values: Annotated[frozenset[_Value], Meta(max_length=64)] = frozenset()

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


class Selector(StrictObject, frozen=True):
    """All labels and requirements must be met; without any, everything is selected."""

    match_labels: Annotated[dict[str, _Value], Meta(max_length=32)] = field(default_factory=dict)
    match_expressions: Annotated[tuple[Requirement, ...], Meta(max_length=32)] = ()

    def selects(self, labels: Labels) -> bool:
        return self.match_labels.items() <= labels.items() and all(one.met(labels) for one in self.match_expressions)


def faults(selector: Selector, path: str) -> Iterator[str]:
    """Yield each rule of Kubernetes that a decoded selector breaks. `path` is its place in the object."""
    yield from _label_faults(f"{path}.matchLabels", selector.match_labels, selector.match_labels.values())
    for index, one in enumerate(selector.match_expressions):
        place = f"{path}.matchExpressions[{index}]"
        yield from _label_faults(place, [one.key], one.values)
        needs_values = one.operator in _WITH_VALUES
        if needs_values != bool(one.values):
            yield f"{place}.values must be {'set' if needs_values else 'omitted'} for {one.operator}"


def _label_faults(path: str, keys: Iterable[str], values: Iterable[str]) -> Iterator[str]:
    if not all(map(_KEY.fullmatch, keys)):
        yield f"{path} has a key that no label can have"
    if not all(map(_VALUE.fullmatch, values)):
        yield f"{path} has a value that no label can have"
