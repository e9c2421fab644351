"""Table output (meta.k8s.io/v1): printer columns, and ages in readable form."""

import datetime as dt
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from awsbatch_sandbox.apiserver.jsonpath import compile_path
from awsbatch_sandbox.apiserver.storage import Body

_NAME_DESCRIPTION = "Name must be unique within a namespace."


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `read` gets its value out of a stored body, None when there is none; `ages` makes a time an age."""

    name: str
    read: Callable[[Body], Any]
    type: str = "string"
    ages: bool = False
    format: str = ""
    priority: int = 0
    description: str = ""

    def definition(self) -> Body:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }

    def cell(self, body: Body, now: dt.datetime) -> Any:
        value = self.read(body)
        if value is None:
            return None
        if self.ages:
            return age(value, now)
        match self.type:
            case "integer":
                return int(value) if isinstance(value, int | float) else None
            case "number":
                return float(value) if isinstance(value, int | float) else None
            case "boolean":
                return value if isinstance(value, bool) else None
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def custom_column(definition: Body) -> Column:
    """A column of a CRD's additionalPrinterColumns; ValueError when its JSONPath is not understood."""
    path = definition["jsonPath"]
    find = compile_path(path)
    return Column(
        name=definition["name"],
        read=lambda body: next(find(body), None),
        type=definition["type"],
        ages=definition["type"] == "date",
        format=definition.get("format", ""),
        priority=definition.get("priority", 0),
        description=definition.get("description") or f"Custom resource definition column (in JSONPath format): {path}",
    )


NAME = Column("Name", lambda body: body["metadata"]["name"], format="name", description=_NAME_DESCRIPTION)
AGE = Column("Age", lambda body: body["metadata"].get("creationTimestamp"), ages=True)


def parse_time(text: str) -> dt.datetime:
    """RFC 3339 to an aware time; ValueError when it is not."""
    return dt.datetime.fromisoformat(text)


def age(text: str, now: dt.datetime) -> str:
    """Return the age of `text` (RFC 3339) in the format of kubectl's HumanDuration."""
    try:
        seconds = int((now - parse_time(text)).total_seconds())
    except (ValueError, TypeError):
        return "<invalid>"
    return "<invalid>" if seconds < -1 else human_duration(max(seconds, 0))


def human_duration(seconds: int) -> str:
    """Two or three significant figures (apimachinery util/duration.HumanDuration)."""
    minutes, hours = seconds // 60, seconds // 3600
    days, years = hours // 24, hours // (24 * 365)
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def table(
    columns: tuple[Column, ...], rows: Iterable[tuple[Body, Body | None]], metadata: Body, now: dt.datetime
) -> Body:
    """A Table of `rows`: each a stored body and the object to embed (None for none); no columns means no header."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [column.definition() for column in columns],
        "rows": [row(columns, body, embedded, now) for body, embedded in rows],
    }


def row(columns: tuple[Column, ...], body: Body, embedded: Body | None, now: dt.datetime) -> Body:
    cells = [column.cell(body, now) for column in columns]
    return {"cells": cells, "object": embedded}


def partial(body: Body) -> Body:
    """The PartialObjectMetadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}
