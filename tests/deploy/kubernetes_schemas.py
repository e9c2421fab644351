"""Kubernetes' own schemas, as the package kubernetes-validate brings them, kept once they are read."""

import functools
import re
from typing import Any

import jsonschema
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource


def validate(body: dict[str, Any], version: str) -> None:
    """Raise jsonschema.ValidationError unless Kubernetes of that version ("1.31") knows each field of the object."""
    _validator(body["apiVersion"], body["kind"], version).validate(body)


@functools.cache
def _validator(api_version: str, kind: str, version: str) -> jsonschema.Draft202012Validator:
    # rbac.authorization.k8s.io/v1 is in files called …-rbac-v1.json.
    group = re.sub(r"^([^./]*)(\.[^/]*)?/", r"\1-", api_version)
    schema = _read(f"{kind.lower()}-{group}.json", version)
    return jsonschema.Draft202012Validator(schema, registry=_definitions(version))


@functools.cache
def _definitions(version: str) -> Registry[Any]:
    return Resource.from_contents(_read("_definitions.json", version)) @ Registry()


def _read(name: str, version: str) -> Any:
    return schema_contents(f"kubernetes-json-schema/v{version}.0-local-strict/{name}", version)
