"""OpenAPI: v3 as much as `kubectl explain` and kubectl's field-validation check read, v2 only in form."""

import hashlib
from typing import Any, Final

from awsbatch_sandbox.apiserver.discovery import VERSION
from awsbatch_sandbox.apiserver.resources import Catalog, Resource
from awsbatch_sandbox.apiserver.storage import Body, dumps

_TITLE: Final = "awsbatch-operator sandbox"
_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_TIME: Final = {"type": "string", "format": "date-time"}
_STRINGS: Final = {"type": "object", "additionalProperties": {"type": "string", "default": ""}}
_OBJECT_META: Final[Body] = {
    "description": "ObjectMeta is metadata that all persisted resources must have.",
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "Name must be unique within a namespace."},
        "generateName": {"type": "string", "description": "A prefix for a name that the server makes."},
        "namespace": {"type": "string", "description": "Namespace within which each name must be unique."},
        "labels": _STRINGS | {"description": "Keys and values to organise and select objects by."},
        "annotations": _STRINGS | {"description": "Keys and values that tools store with an object."},
        "finalizers": {
            "type": "array",
            "items": {"type": "string", "default": ""},
            "description": "Must be empty before the object is deleted from the registry.",
        },
        "ownerReferences": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Objects this one depends on.",
        },
        "uid": {"type": "string", "description": "UID is the unique in time and space value for this object."},
        "resourceVersion": {"type": "string", "description": "An opaque value that changes with the object."},
        "generation": {"type": "integer", "format": "int64", "description": "Counts the desired states."},
        "creationTimestamp": _TIME | {"description": "When the object was created."},
        "deletionTimestamp": _TIME | {"description": "When the deletion of the object was requested."},
        "deletionGracePeriodSeconds": {"type": "integer", "format": "int64"},
        "managedFields": {"type": "array", "items": {"type": "object"}, "description": "Who set which fields."},
        "selfLink": {"type": "string"},
    },
}
_API_VERSION: Final = {
    "type": "string",
    "description": "APIVersion defines the versioned schema of this representation of an object.",
}
_KIND: Final = {
    "type": "string",
    "description": "Kind is a string value representing the REST resource this object represents.",
}
_PARAMETERS: Final = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]


V2_ACCEPT: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V2_CONTENT_TYPE: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Clients request an invalid media type, so the answer has another one."""


def v2_document() -> bytes:
    """GET /openapi/v2 in protobuf: a gnostic Document without definitions.

    kubectl reads it before it sends a `List`, and the server checks the kinds that it doesn't find.
    """
    info = _text(1, _TITLE) + _text(2, VERSION["gitVersion"])
    return _text(1, "2.0") + bytes([2 << 3 | 2, len(info)]) + info


def _text(number: int, text: str) -> bytes:
    return bytes([number << 3 | 2, len(text)]) + text.encode()


def index(catalog: Catalog) -> Body:
    """GET /openapi/v3: where the document of each group version is."""
    paths = {}
    for group, versions in catalog.groups().items():
        for version in versions:
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            digest = hashlib.sha256(dumps(document(catalog, group, version))).hexdigest()
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def document(catalog: Catalog, group: str, version: str) -> Body:
    """GET /openapi/v3/apis/{group}/{version}."""
    paths: Body = {}
    schemas: Body = {_META: _OBJECT_META}
    for resource in catalog.of(group, version):
        schemas[_schema_name(resource)] = _schema(resource)
        paths.update(_paths(resource))
    info = {"title": _TITLE, "version": VERSION["gitVersion"]}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _schema_name(resource: Resource) -> str:
    reversed_group = ".".join(reversed((resource.group or "core.api.k8s.io").split(".")))
    return f"{reversed_group}.{resource.version}.{resource.kind}"


def _kind(resource: Resource) -> Body:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _schema(resource: Resource) -> Body:
    described: Body = _plain(resource.schema) if resource.custom else {"type": "object"}
    metadata = {"allOf": [{"$ref": f"#/components/schemas/{_META}"}], "description": "Standard object's metadata."}
    properties = described.get("properties", {})
    head = {"apiVersion": _API_VERSION, "kind": _KIND, "metadata": metadata}
    rest = {name: value for name, value in properties.items() if name not in head}
    return described | {"properties": head | rest, "x-kubernetes-group-version-kind": [_kind(resource)]}


def _plain(schema: Any) -> Any:
    """A schema without CEL rules, which OpenAPI readers do not know."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key != "x-kubernetes-validations"}
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema


def _paths(resource: Resource) -> Body:
    prefix = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    if resource.namespaced:
        prefix += "/namespaces/{namespace}"
    collection, single = f"{prefix}/{resource.plural}", f"{prefix}/{resource.plural}/{{name}}"
    paths = {
        collection: {"get": _operation(resource, "list"), "post": _operation(resource, "post")},
        single: {verb: _operation(resource, verb) for verb in ("get", "put", "patch", "delete")},
    }
    if resource.has_status:
        paths[f"{single}/status"] = {verb: _operation(resource, verb) for verb in ("get", "put", "patch")}
    return paths


def _operation(resource: Resource, action: str) -> Body:
    reference = {"$ref": f"#/components/schemas/{_schema_name(resource)}"}
    answer = {"description": "OK", "content": {"application/json": {"schema": reference}}}
    return {
        "parameters": _PARAMETERS if action in {"post", "put", "patch"} else [],
        "responses": {"200": answer},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _kind(resource),
    }
