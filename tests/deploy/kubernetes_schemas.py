"""Kubernetes' own schemas, as the package kubernetes-validate brings them, kept once they are read."""

import functools
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import jsonschema
from referencing import Registry, Resource

_FILES: Final = Path(sys.prefix) / "schemas/kubernetes_validate/kubernetes-json-schema"
"""Directory in which `make setup` installs the schemas."""


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
    return json.loads((_FILES / f"v{version}.0-local-strict/{name}").read_text(encoding="utf-8"))
