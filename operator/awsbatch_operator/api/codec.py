"""Decodes and encodes JSON objects by their declared types. Decoding is lenient: only what does not fit is absent.

Anybody with the right may have written a status, also another version of the operator. No value raises an exception.
"""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from types import UnionType
from typing import Annotated, Any, Final, NamedTuple, Self, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from awsbatch_operator.api import timestamps
from awsbatch_operator.api.timestamps import Millis


class Value(Struct, frozen=True, gc=False):
    """An immutable value; to create one takes a tenth of the time of a frozen dataclass.

    Nothing in it refers to another object that could refer back, so the garbage collector need not visit it.
    """

    def replace(self, **changes: Any) -> Self:
        """Return a copy with these fields changed."""
        return msgspec.structs.replace(self, **changes)


class Object(Value, frozen=True, rename="camel"):
    """A JSON object. A field whose value is None, or an empty tuple or dict, is absent in JSON."""


class StrictObject(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A JSON object of a spec, decoded by msgspec itself: what it does not declare makes the whole invalid."""


T = TypeVar("T", bound=Object)


class _Codec(NamedTuple):
    """`decode` returns None for what has no value of the type, `encode` for what is absent in JSON.

    Without `encode`, the value is valid JSON as it is.
    """

    decode: Callable[[Any], Any]
    encode: Callable[[Any], object] | None = None


def _time(encode: Callable[[Millis], str]) -> Meta:
    return Meta(extra_json_schema={"format": "date-time"}, extra={"codec": _Codec(timestamps.parse, encode)})


Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
DateTime = Annotated[Millis, _time(timestamps.date_time)]
MetaTime = Annotated[Millis, _time(timestamps.meta_time)]
"""A metav1.Time: JSON has whole seconds only."""

SHARED: Final = Meta(extra={"shared": True})
"""Equal values are stored once: ten thousand objects have few different ones."""
INLINE: Final = Meta(extra={"inline": True})
"""The members of this object are members of the containing one."""
NOT_IN_JSON: Final = Meta(extra={"not_in_json": True})


class _Field(NamedTuple):
    name: str
    attribute: str
    inline: bool
    decode: Callable[[Any], Any]
    encode: Callable[[Any], object] | None


def decode(raw: object, kind: type[T]) -> T | None:
    """Return the object; None if nothing that it declares can be decoded, or not all that it requires."""
    if not isinstance(raw, dict):
        return None
    table, required = _table(kind)
    values = {}
    for name, attribute, inline, decode_member, _ in table:
        given = raw if inline else raw.get(name)
        if given is not None and (value := decode_member(given)) is not None:
            values[attribute] = value
    return kind(**values) if values and required <= values.keys() else None


def encode(value: Object) -> dict[str, Any]:
    """Return the JSON object."""
    raw: dict[str, Any] = {}
    for name, attribute, inline, _, encode_member in _table(type(value))[0]:
        member = getattr(value, attribute)
        if member is None:
            continue
        if inline:
            raw |= encode(member)
        elif (encoded := member if encode_member is None else encode_member(member)) is not None:
            raw[name] = encoded
    return raw


def changes(wanted: Object, shown: Mapping[str, object]) -> dict[str, object]:
    """Return the JSON merge patch from a raw object without nested objects to the wanted one; {}: none.

    It leaves members alone that the type does not declare: they belong to a newer version.
    """
    raw = encode(wanted)
    return {name: raw.get(name) for name in field_names(type(wanted)) if raw.get(name) != shown.get(name)}


def field_names(kind: type[Object]) -> tuple[str, ...]:
    """Return the names of the fields in JSON, without those of an inline object."""
    return tuple(field.name for field in _table(kind)[0] if not field.inline)


@cache
def _table(kind: type[Object]) -> tuple[tuple[_Field, ...], frozenset[str]]:
    """Return the fields of a type, and the attributes without a default."""
    declared = [(field, _unwrap(field.type)[1]) for field in msgspec.structs.fields(kind)]
    table = tuple(
        _Field(field.encode_name, field.name, "inline" in extras, *_codec(field.type))
        for field, extras in declared
        if "not_in_json" not in extras
    )
    return table, frozenset(field.name for field, _ in declared if field.required)


@cache
def _codec(declared: Any) -> _Codec:
    kind, extras = _unwrap(declared)
    found: _Codec
    if "codec" in extras:
        found = extras["codec"]
    elif isinstance(kind, type) and issubclass(kind, Object):
        found = _Codec(lambda raw: decode(raw, kind), encode)
    elif get_origin(kind) is tuple:
        one = _codec(get_args(kind)[0])
        found = _Codec(lambda raw: _list(raw, one.decode), lambda items: [*map(one.encode or _same, items)] or None)
    elif get_origin(kind) is dict:
        one = _codec(get_args(kind)[1])
        found = _Codec(lambda raw: _map(raw, one.decode), lambda entries: entries or None)
    elif declared in (str, str | None):
        found = _Codec(lambda raw: raw if isinstance(raw, str) else None)
    else:
        # msgspec prepares a struct once, but any other type with each call.
        holder = msgspec.defstruct("Holder", [("value", declared)], array_like=True)
        found = _Codec(lambda raw: _scalar(raw, holder))
    return _Codec(lambda raw: _shared(found.decode(raw)), found.encode) if "shared" in extras else found


def _unwrap(kind: Any) -> tuple[Any, dict[str, Any]]:
    """Return a type without `Annotated` and `| None`, and what is annotated for this module."""
    extras: dict[str, Any] = {}
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind, *others = get_args(kind)
        for meta in others:
            extras |= (isinstance(meta, Meta) and meta.extra) or {}
    return kind, extras


def _scalar(raw: object, holder: Any) -> Any:
    try:
        return msgspec.convert((raw,), holder).value
    except msgspec.ValidationError:
        return None


def _list(raw: object, decode_one: Callable[[object], Any]) -> tuple[Any, ...] | None:
    if not isinstance(raw, list):
        return None
    return tuple(value for item in raw if (value := decode_one(item)) is not None)


def _map(raw: object, decode_one: Callable[[object], Any]) -> dict[str, Any] | None:
    if not isinstance(raw, dict):
        return None
    return {key: value for key, item in raw.items() if (value := decode_one(item)) is not None}


def _same(value: Any) -> Any:
    return value


_shared = lru_cache(maxsize=4096)(_same)
