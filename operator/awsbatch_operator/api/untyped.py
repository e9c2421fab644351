"""Reads JSON of an unknown shape: an unexpected value becomes a fault, never an exception.

A fault names a field and what is wrong with it. It does not quote the value: that may be long.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

Faults = list[str]


def fields(raw: object, path: str, known: AbstractSet[str], faults: Faults) -> Mapping[str, Any]:
    """Return an object. A field that is not `known` is a fault: it could be a condition of a later version."""
    if not isinstance(raw, Mapping):
        faults.append(f"{path} is missing or not an object")
        return {}
    faults += [f"{path}.{name} is not known to this version" for name in sorted(map(str, raw)) if name not in known]
    return raw


def entries(raw: object, path: str, faults: Faults) -> Mapping[str, str]:
    """Return a map of strings to strings; empty if it is missing."""
    if raw is None:
        return {}
    if isinstance(raw, Mapping) and all(isinstance(part, str) for entry in raw.items() for part in entry):
        return raw
    faults.append(f"{path} is not a map of strings")
    return {}


def items(raw: object, path: str, faults: Faults) -> list[object]:
    """Return a list; empty if it is missing."""
    if raw is None:
        return []
    if isinstance(raw, list):
        return raw
    faults.append(f"{path} is not a list")
    return []


def text(raw: object, path: str, faults: Faults) -> str:
    """Return a string; empty, with a fault, if it is missing."""
    if isinstance(raw, str):
        return raw
    faults.append(f"{path} is missing or not a string")
    return ""
