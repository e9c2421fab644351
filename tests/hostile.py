"""What a broken or hostile AWS Batch may answer: JobDetails by botocore's own shapes, with anything in any place.

Every text in a place that must never be shown is SECRET, names of unknown fields included; so is every text that
stands where no text belongs.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import botocore.session
from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape
from hypothesis import strategies as st

SECRET: Final = "hunter2"
MANY: Final = 10_000

Path = tuple[str, ...]
"""Names of members; `*` for an entry of a list or a map."""

_CONTAINERS: Final[tuple[Path, ...]] = (
    ("container",),
    ("attempts", "*", "container"),
    ("ecsProperties", "taskProperties", "*", "containers", "*"),
    ("attempts", "*", "taskProperties", "*", "containers", "*"),
    ("eksProperties", "podProperties", "containers", "*"),
    ("eksAttempts", "*", "containers", "*"),
)
PUBLIC: Final[frozenset[Path]] = frozenset(
    {
        *((name,) for name in ("jobId", "jobName", "jobArn", "jobQueue", "jobDefinition", "status", "statusReason")),
        *((*place, name) for place in _CONTAINERS for name in ("reason", "logStreamName")),
        ("arrayProperties", "statusSummary"),
    }
)
"""The texts that users may see: of the last one, the keys."""


def job_detail() -> StructureShape:
    shape = botocore.session.get_session().get_service_model("batch").shape_for("JobDetail")
    assert isinstance(shape, StructureShape)
    return shape


_SHAPE: Final = job_detail()

TEXTS: Final = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(), max_size=8),  # lone surrogates among them
    st.sampled_from(
        ["", " ", "\0", "\ud83d", "a\udca9b", "💸" * 2000, "x" * 20_000, "</status>\r\n\x1b[31m", "\u202e"]
    ),
)
NUMBERS: Final = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, -(10**400), 1e308, 253_402_300_800_000]),
)


_DEEP: Final = json.loads('[{"containers":' * 200 + f'"{SECRET}"' + "}]" * 200)
_MANY_ENTRIES: Final = [{"exitCode": 1, SECRET: SECRET}] * MANY
_MANY_MEMBERS: Final = {f"{SECRET}-{n}": n for n in range(MANY)}


@cache
def rubbish(*, public: bool) -> st.SearchStrategy[Any]:
    """Of any type. A text only where texts are public, else SECRET."""
    return st.one_of(
        st.none(),
        st.booleans(),
        NUMBERS,
        TEXTS if public else st.just(SECRET),
        st.sampled_from(
            [[], {}, [None], [SECRET], {SECRET: SECRET}, {"reason": [SECRET]}, _DEEP, _MANY_ENTRIES, _MANY_MEMBERS]
        ),
    )


@cache
def of_shape(shape: Shape, path: Path) -> st.SearchStrategy[Any]:
    """What the shape allows, with any part missing, null, of another type, or beside a member that nobody knows."""
    return st.one_of(_plain(shape, path), _plain(shape, path), _plain(shape, path), rubbish(public=path in PUBLIC))


def _plain(shape: Shape, path: Path) -> st.SearchStrategy[Any]:
    match shape:
        case StructureShape():
            members = {name: of_shape(member, (*path, name)) for name, member in _members(shape)}
            return st.fixed_dictionaries({}, optional={**members, "somethingNew": rubbish(public=False)})
        case ListShape():
            return st.lists(of_shape(shape.member, (*path, "*")), max_size=3)
        case MapShape():
            keys = TEXTS | st.sampled_from(["RUNNING", "PENDING"]) if path in PUBLIC else st.just(SECRET)
            return st.dictionaries(keys, of_shape(shape.value, (*path, "*")), max_size=4)
        case StringShape() if path in PUBLIC:
            return TEXTS | st.sampled_from([*shape.enum, "HIBERNATING"])
        case StringShape():
            return st.just(SECRET)
        case Shape(type_name="boolean"):
            return st.booleans()
        case _:
            return NUMBERS


def _members(shape: StructureShape) -> Iterator[tuple[str, Shape]]:
    yield from shape.members.items()


def whole(shape: Shape = _SHAPE, path: Path = ()) -> Any:
    """Every member of the shape, each list and map with one entry."""
    match shape:
        case StructureShape():
            return {name: whole(member, (*path, name)) for name, member in _members(shape)}
        case ListShape():
            return [whole(shape.member, (*path, "*"))]
        case MapShape():
            return {"RUNNING" if path in PUBLIC else SECRET: whole(shape.value, (*path, "*"))}
        case StringShape():
            return (shape.enum[0] if shape.enum else "public") if path in PUBLIC else SECRET
        case Shape(type_name="boolean"):
            return False
        case _:
            return 1


def _places(shape: Shape, path: Path = ()) -> Iterator[tuple[Path, Shape]]:
    yield path, shape
    match shape:
        case StructureShape():
            for name, member in _members(shape):
                yield from _places(member, (*path, name))
        case ListShape():
            yield from _places(shape.member, (*path, "*"))
        case MapShape():
            yield from _places(shape.value, (*path, "*"))


PLACES: Final = dict(_places(_SHAPE))
_READ: Final = sorted(PLACES.keys() & {place[:length] for place in PUBLIC for length in range(1, len(place) + 1)})
_OTHERS: Final = sorted(PLACES.keys() - set(_READ) - {()})
_WHOLE: Final = json.dumps(whole())


@st.composite
def details(draw: st.DrawFn) -> Any:
    """A JobDetail in which every member stands, but for a few places that were broken. Its jobId may be anything."""
    detail = json.loads(_WHOLE)
    detail["status"] = draw(st.sampled_from(["SUBMITTED", "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "HIBERNATING"]))
    detail["isTerminated"], detail["isCancelled"] = draw(st.booleans()), draw(st.booleans())
    for path in draw(st.lists(st.sampled_from(_READ) | st.sampled_from(_OTHERS), max_size=5)):
        value = json.dumps(draw(st.none() | of_shape(PLACES[path], path)))
        break_at(detail, path, json.loads(value), gone=draw(st.booleans()))
    return detail


def break_at(body: Any, path: Path, value: Any, *, gone: bool) -> None:
    """Put the value where the path leads, if it leads somewhere; `gone` takes a member away instead."""
    place = body
    for step in path[:-1]:
        place = _step(place, step)
    last: Any = path[-1]
    if isinstance(place, list) and place:
        place[0] = value
    elif isinstance(place, dict) and last == "*":
        place.update(dict.fromkeys(place, value))
    elif isinstance(place, dict) and gone:
        place.pop(last, None)
    elif isinstance(place, dict):
        place[last] = value


def _step(place: Any, step: str) -> Any:
    match place:
        case [first, *_]:
            return first
        case dict():
            return next(iter(place.values()), None) if step == "*" else place.get(step)
        case _:
            return None
