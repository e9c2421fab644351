"""Compares the decoded fields of responses with botocore's service model."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

import botocore.session
import msgspec
from botocore.model import ListShape, MapShape, Shape, StructureShape

from awsbatch_operator.aws import answers


def declared(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every field that is declared, in a struct, a list or a map of them."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            yield (*path, field.encode_name)
            yield from declared(field.type, (*path, field.encode_name))
    elif get_origin(kind) is not dict:
        for part in get_args(kind):
            yield from declared(part, path)


def member(shape: Shape, path: tuple[str, ...]) -> Shape | None:
    for name in path:
        while isinstance(shape, ListShape):
            shape = shape.member
        if isinstance(shape, MapShape):
            return shape.value
        if not isinstance(shape, StructureShape) or name not in shape.members:
            return None
        shape = shape.members[name]
    return shape


FORBIDDEN = {"environment", "env", "command", "args", "parameters", "secrets", "volumes", "mountPoints"}


def test_every_declared_field_of_a_summary_is_in_the_service_model() -> None:
    model = botocore.session.get_session().get_service_model("batch").shape_for("JobSummary")
    paths = list(declared(answers.JobSummary))
    assert [path for path in paths if member(model, path) is None] == []
    assert len(paths) >= 10


def test_every_declared_field_is_in_the_service_model_and_none_is_forbidden() -> None:
    model = botocore.session.get_session().get_service_model("batch").shape_for("JobDetail")
    # Containers are declared alike wherever they stand; those of EKS have no log, those of attempts none configured.
    lacking = {"eksProperties": "log", "eksAttempts": "log", "attempts": "logConfiguration"}
    paths = [
        path
        for path in declared(answers.JobDetail)
        if path[0] not in lacking or not any(name.startswith(lacking[path[0]]) for name in path[1:])
    ]
    for path in paths:
        assert member(model, path) is not None, f"botocore's JobDetail has no {'.'.join(path)}"
        assert not FORBIDDEN.intersection(path)
    assert len(paths) >= 40
    assert isinstance(member(model, ("arrayProperties", "statusSummary")), MapShape)
