"""Reading JSON of an unknown shape: what is not as expected becomes a fault, and never an exception.

Faults name fields and say what is wrong with them. They repeat no values: those may be long.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

Faults = list[str]


def fields(raw: object, path: str, known: AbstractSet[str], faults: Faults) -> Mapping[str, Any]:
    """An object with no other fields than those that are known: another could be a condition of a later version."""
    if not isinstance(raw, Mapping):
        faults.append(f"{path} is missing, or no object")
        return {}
    faults += [f"{path}.{name} is not known to this version" for name in sorted(map(str, raw)) if name not in known]
    return raw


def entries(raw: object, path: str, faults: Faults) -> Mapping[str, str]:
    """A map of strings to strings; empty when it is not there."""
    if raw is None:
        return {}
    if isinstance(raw, Mapping) and all(isinstance(part, str) for entry in raw.items() for part in entry):
        return raw
    faults.append(f"{path} is no map of strings")
    return {}


def items(raw: object, path: str, faults: Faults) -> list[object]:
    """A list; empty when it is not there."""
    if raw is None:
        return []
    if isinstance(raw, list):
        return raw
    faults.append(f"{path} is no list")
    return []


def text(raw: object, path: str, faults: Faults) -> str:
    if isinstance(raw, str):
        return raw
    faults.append(f"{path} is missing, or no string")
    return ""
