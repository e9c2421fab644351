"""Parses a request: its path, its Accept header, its body."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from aiohttp import web

from awsbatch_sandbox.apiserver import protobuf
from awsbatch_sandbox.apiserver.errors import ApiError, bad_request, not_acceptable, unsupported_media_type
from awsbatch_sandbox.apiserver.storage import Body

_NAMESPACE_PARTS: Final = frozenset({"status", "finalize"})
_JSON: Final = frozenset({"", "application/json", "application/octet-stream"})
YAML: Final = "application/yaml"
_YAML: Final = frozenset({YAML, "application/vnd.yaml", "text/yaml"})


@dataclass(frozen=True, slots=True)
class Target:
    """The resource that a path names; empty strings for absent parts."""

    group: str
    version: str
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse_path(path: str) -> Target | None:
    """None when `path` is not below /api or /apis."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) >= 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) >= 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) >= 3 and rest[2] not in _NAMESPACE_PARTS:
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        return None
    plural, name, subresource = (*rest, "", "", "")[:3]
    return Target(group, version, plural, namespace, name, subresource)


@dataclass(frozen=True, slots=True)
class Form:
    """A representation: `as_` is "", "Table" or "PartialObjectMetadata"; `embed` is a Table's includeObject.

    `of_list` where the name of the form is that for lists. `media`: application/json or application/yaml.
    """

    as_: str = ""
    embed: str = "Metadata"
    of_list: bool = False
    media: str = "application/json"


def negotiate(request: web.Request) -> Form:
    """The first representation of the Accept header that is served here; ApiError 406 without one."""
    accepted = request.headers.get("Accept") or "*/*"
    for item in accepted.split(","):
        media, parameters = parse_media(item)
        if media not in {"application/json", "application/*", "*/*", YAML}:
            continue
        media = YAML if media == YAML else "application/json"
        wanted = parameters.get("as", "")
        if not wanted:
            return Form(media=media)
        if parameters.get("g") == "meta.k8s.io" and parameters.get("v") == "v1":
            if wanted == "Table":
                return Form("Table", request.query.get("includeObject") or "Metadata", media=media)
            if wanted in {"PartialObjectMetadata", "PartialObjectMetadataList"}:
                return Form("PartialObjectMetadata", of_list=wanted.endswith("List"), media=media)
    raise not_acceptable("application/json, application/yaml")


def wants_yaml(request: web.Request) -> bool:
    """Whether the first representation of the Accept header that is served here is YAML."""
    if YAML not in request.headers.get("Accept", ""):
        return False
    try:
        return negotiate(request).media == YAML
    except ApiError:
        return False


def check_form(form: Form, kind: str, *, listed: bool) -> None:
    """ApiError 406 for metadata that is requested as one object of a list, or as a list of one object."""
    if form.as_ != "PartialObjectMetadata" or form.of_list == listed:
        return
    requested = form.as_ + ("List" if form.of_list else "")
    what = f"a list (*{kind}List)" if listed else f"not a list (*{kind})"
    raise ApiError(406, "NotAcceptable", f"you requested {requested}, but the requested object is {what}")


def parse_media(text: str) -> tuple[str, Mapping[str, str]]:
    """`application/json;as=Table;v=v1` as the type and its parameters."""
    media, *parameters = (part.strip() for part in text.split(";"))
    return media, dict(part.partition("=")[::2] for part in parameters)


def discovery_version(request: web.Request) -> str:
    """The apidiscovery.k8s.io version that the client accepts an aggregated document in; "" for the legacy one."""
    for item in (request.headers.get("Accept") or "").split(","):
        media, parameters = parse_media(item)
        if media == "application/json" and parameters.get("as") == "APIGroupDiscoveryList":
            version = parameters.get("v", "")
            if version in {"v2", "v2beta1"}:
                return version
        elif media in {"application/json", "*/*"}:
            return ""
    return ""


async def read_object(request: web.Request) -> Body:
    """The request's JSON or YAML object; ApiError 400 or 415."""
    body = decode(await request.read(), media_type(request))
    if not isinstance(body, dict):
        raise bad_request("the request body must be an object")
    return body


def media_type(request: web.Request) -> str:
    """The Content-Type without parameters."""
    return parse_media(request.headers.get("Content-Type", ""))[0]


def decode(raw: bytes, media: str) -> Any:
    """JSON or YAML; ApiError 400 when it can't be read, 415 when it is something else."""
    if media == protobuf.MEDIA_TYPE:
        return protobuf.decode(raw)
    try:
        if media in _YAML:
            return yaml.safe_load(raw)
        if media in _JSON or media.endswith("+json"):
            return json.loads(raw)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"the object provided is unrecognized (must be of type JSON or YAML): {error}") from error
    raise unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: application/json, "
        "application/yaml, application/vnd.kubernetes.protobuf"
    )


def flag(query: Mapping[str, str], name: str) -> bool | None:
    """A boolean of a query; None when it isn't there."""
    text = query.get(name)
    return None if text is None else text.lower() in {"", "1", "true", "t"}


def number(query: Mapping[str, str], name: str) -> int | None:
    """A whole number of a query; None when it isn't there, ApiError 400 when it is none."""
    text = query.get(name, "")
    if text and not text.isdecimal():
        what = "invalid resource version: " if name == "resourceVersion" else ""
        raise bad_request(f'{what}{name}: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text) if text else None
