"""The query protocol of STS: forms in, XML out; and the constraints of its service model."""

import datetime as dt
import itertools
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import botocore.session
from botocore.model import OperationModel, Shape, StructureShape

from awsbatch_sandbox.batch.credentials import Caller, Credential
from awsbatch_sandbox.batch.identity import NAMESPACE
from awsbatch_sandbox.batch.identity import error as refusal
from awsbatch_sandbox.batch.identity import identity as named

ASSUME_ROLE: Final = "AssumeRole"

Form = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    error: str | None = None


class RefusedError(Exception):
    """STS refuses the call."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.reply = _error(status, code, message)


def form_of(body: bytes) -> Form:
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def tags_of(form: Form) -> dict[str, str]:
    return {form[f"{entry}.Key"]: form.get(f"{entry}.Value", "") for entry in _entries(form, "Tags", ".Key")}


def transitive_of(form: Form) -> list[str]:
    return [form[entry] for entry in _entries(form, "TransitiveTagKeys", "")]


def _entries(form: Form, name: str, end: str) -> Iterator[str]:
    """The members of a list, from 1 on, as far as they go."""
    numbered = (f"{name}.member.{number}" for number in itertools.count(1))
    return itertools.takewhile(lambda entry: f"{entry}{end}" in form, numbered)


def check(form: Form) -> None:
    """AssumeRole's parameters by the service model: lengths, ranges and patterns, which boto3 itself does not check."""
    shape = _operation().input_shape
    assert isinstance(shape, StructureShape)
    tag = shape.members["Tags"].member.members  # type: ignore[attr-defined]
    given = [(name, member, form.get(name)) for name, member in shape.members.items() if member.type_name != "list"]
    given += [("tags.member.key", tag["Key"], key) for key in (*tags_of(form), *transitive_of(form))]
    given += [("tags.member.value", tag["Value"], value) for value in tags_of(form).values()]
    for name, member, value in given:
        if value is None and name in shape.required_members:
            raise _invalid("null", name, "Member must not be null")
        if value is not None and (demand := _unmet(member, value)):
            raise _invalid(value, name, demand)


def _unmet(shape: Shape, value: str) -> str:
    if shape.type_name == "integer":
        return _beyond(shape, int(value) if value.isdecimal() else -1, "value")
    pattern = shape.metadata.get("pattern")
    if demand := _beyond(shape, len(value), "length"):
        return demand
    if pattern is not None and not _compiled(pattern).fullmatch(value):
        return f"Member must satisfy regular expression pattern: {pattern}"
    return ""


def _beyond(shape: Shape, number: int, what: str) -> str:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and number < least:
        return f"Member must have {what} greater than or equal to {least}"
    if most is not None and number > most:
        return f"Member must have {what} less than or equal to {most}"
    return ""


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    r"""Translates Java's dialect: there \w is ASCII only, and \p{L}\p{Z}\p{N} are all letters, blanks and digits."""
    ours = pattern.replace(r"\p{L}\p{Z}\p{N}", r"\w\s")
    return re.compile(ours, re.NOFLAG if ours != pattern else re.ASCII)


def _invalid(value: str, name: str, demand: str) -> RefusedError:
    where = f"Value '{value}' at '{name[0].lower()}{name[1:]}'"
    message = f"1 validation error detected: {where} failed to satisfy constraint: {demand}"
    return RefusedError(400, "ValidationError", message)


@cache
def _operation() -> OperationModel:
    return botocore.session.get_session().get_service_model("sts").operation_model(ASSUME_ROLE)


def assumed(issued: Credential) -> Reply:
    """AssumeRole's answer with these credentials of a role session."""
    expires = dt.datetime.fromtimestamp(issued.expires_at or 0, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    given = {
        "AccessKeyId": issued.access_key,
        "SecretAccessKey": issued.secret,
        "SessionToken": issued.token,
        "Expiration": expires,
    }
    arn = Caller.of(issued, "").arn
    user = {"AssumedRoleId": f"AROASANDBOX:{issued.role_session}", "Arn": arn}
    result = f"<Credentials>{_elements(given)}</Credentials><AssumedRoleUser>{_elements(user)}</AssumedRoleUser>"
    metadata = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
    body = f"<AssumeRoleResult>{result}</AssumeRoleResult>{metadata}"
    return Reply(200, f'<AssumeRoleResponse xmlns="{NAMESPACE}">{body}</AssumeRoleResponse>'.encode())


def _elements(values: Mapping[str, str | None]) -> str:
    return "".join(f"<{name}>{escape(value or '')}</{name}>" for name, value in values.items())


def identity(account: str, arn: str) -> Reply:
    """GetCallerIdentity's answer."""
    return Reply(200, named(account, arn))


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, refusal(status, code, message), code)
