"""Decodes JSON of AWS into declared types. Fields that are not declared never become Python objects.

`decode` first decodes the whole body. If that does not fit the type, it decodes field by field, and only the fields
that do not fit are absent. No content of a body raises an exception.
"""

import re
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, get_args, get_origin

import msgspec
from msgspec import Raw, Struct

S = TypeVar("S", bound=Struct)

_FAULTS: Final = (msgspec.DecodeError, RecursionError)
_NULL: Final = Raw(b"null")

REPLACED: Final = "\ufffd"
"""Replaces half a surrogate pair and bytes that are not UTF-8. Kubernetes refuses a status with either."""

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|-?Infinity|NaN', re.DOTALL)
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


@cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)


def decode(body: bytes | Raw, kind: type[S]) -> S | None:
    """Returns the declared fields of a JSON object; None if it is no JSON object."""
    decoded: S | None
    try:
        decoded = _decoder(kind).decode(body)
    except msgspec.ValidationError:
        decoded = _lenient(body, kind)
    except _FAULTS:
        decoded = None
    if decoded is None:
        # Perhaps valid for Python's json: half of a surrogate pair in one job must not cost the other 99.
        decoded = _lenient(_repaired(bytes(body)), kind)
    return decoded


def _lenient(raw: bytes | Raw, kind: Any) -> Any:
    """Returns None for what has no value of the type."""
    kind = _without_none(kind)
    try:
        if isinstance(kind, type) and issubclass(kind, Struct):
            return _lenient_struct(raw, kind)
        if get_origin(kind) is list:
            (entry,) = get_args(kind)
            return [_lenient(one, entry) for one in _decoder(list[Raw]).decode(raw)]
        if get_origin(kind) is dict:
            return _lenient_map(raw, get_args(kind)[1])
        return raw if kind is Raw else _lenient_scalar(raw, kind)
    except _FAULTS:
        return None


def _lenient_struct(raw: bytes | Raw, kind: type[Struct]) -> Struct | None:
    twin = _decoder(_raw_twin(kind)).decode(raw)
    values = {}
    for field in msgspec.structs.fields(kind):
        given = getattr(twin, field.name)
        value = None if given is _NULL else _lenient(given, field.type)
        if value is not None:
            values[field.name] = value
    return kind(**values)


@cache
def _raw_twin(kind: type[Struct]) -> type[Struct]:
    """The same fields, each not decoded yet."""
    fields = msgspec.structs.fields(kind)
    names = {field.name: field.encode_name for field in fields}
    return msgspec.defstruct(f"Raw{kind.__name__}", [(field.name, Raw, _NULL) for field in fields], rename=names)


def _lenient_map(raw: bytes | Raw, kind: Any) -> dict[str, Any]:
    values = {key: _lenient(value, kind) for key, value in _decoder(dict[str, Raw]).decode(raw).items()}
    return {key: value for key, value in values.items() if value is not None}


def _lenient_scalar(raw: bytes | Raw, kind: Any) -> Any:
    """A number that came as 137.0 is an int; a text that is not UTF-8 is one with REPLACED in it."""
    if kind is int:
        number = _decoder(int | float).decode(raw)
        return int(number) if number == int(number) else None
    if kind is str:
        return _decoder(str).decode(bytes(raw).decode(errors="replace").encode())
    return _decoder(kind).decode(raw)


def _without_none(kind: Any) -> Any:
    if isinstance(kind, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
    return kind


def _repaired(body: bytes) -> bytes:
    """Makes JSON of what Python's json would write: halves of surrogate pairs, and numbers that are none."""

    def repair(token: re.Match[bytes]) -> bytes:
        text = token[0]
        if not text.startswith(b'"'):
            return b"null"
        return _ESCAPE.sub(lambda escape: b"\\ufffd" if escape[1] else escape[0], text) if b"\\u" in text else text

    return _TOKEN.sub(repair, body)
