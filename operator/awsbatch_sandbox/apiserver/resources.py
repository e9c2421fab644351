"""Served resources: the description of a kind, and the catalogue that CRDs extend."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from awsbatch_sandbox.apiserver.cel import Rules
from awsbatch_sandbox.apiserver.errors import FieldError
from awsbatch_sandbox.apiserver.storage import Body
from awsbatch_sandbox.apiserver.table import AGE, NAME, Column
from awsbatch_sandbox.apiserver.validation import Validator

VERBS: Final = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")


def _same(body: Body) -> Body:
    return body


def _no_faults(new: Body, old: Body | None) -> list[FieldError]:
    del new, old
    return []


def _as_sent(new: Body, old: Body | None) -> Body:
    del old
    return new


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind in one version of its group; `storage` names the collection that its versions share."""

    group: str
    version: str
    kind: str
    plural: str
    storage: str
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    has_status: bool = False
    custom: bool = False
    schema: dict[str, Any] = field(default_factory=dict)
    validator: Validator | None = None
    rules: Rules | None = None
    columns: tuple[Column, ...] = (NAME, AGE)
    fields: Mapping[str, Callable[[Body], str]] = field(default_factory=dict)
    to_wire: Callable[[Body], Body] = _same
    from_wire: Callable[[Body], Body] = _same
    faults: Callable[[Body, Body | None], list[FieldError]] = _no_faults
    prepare: Callable[[Body, Body | None], Body] = _as_sent
    unconditional_update: bool = True
    refusal: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List"

    @property
    def has_generation(self) -> bool:
        return self.custom or self.plural == "customresourcedefinitions"

    def readers(self) -> dict[str, Callable[[Body], str]]:
        """The fields that a field selector may name."""
        readers: dict[str, Callable[[Body], str]] = {"metadata.name": lambda body: str(body["metadata"]["name"])}
        if self.namespaced:
            readers["metadata.namespace"] = lambda body: str(body["metadata"]["namespace"])
        return readers | dict(self.fields)


class Catalog:
    """Everything that is served, by group, version and plural; built-in groups first, as they were added."""

    def __init__(self, resources: tuple[Resource, ...]) -> None:
        self._served: dict[tuple[str, str, str], Resource] = {}
        for resource in resources:
            self.add(resource)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._served.values())

    def add(self, resource: Resource) -> None:
        self._served[resource.group, resource.version, resource.plural] = resource

    def forget(self, storage: str) -> None:
        """Stop serving the resources of the collection `storage`."""
        self._served = {key: value for key, value in self._served.items() if value.storage != storage}

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._served.get((group, version, plural))

    def by_storage(self) -> list[Resource]:
        """One resource per collection of objects."""
        unique = {resource.storage: resource for resource in self if "list" in resource.verbs}
        return list(unique.values())

    def groups(self) -> dict[str, list[str]]:
        """The versions of each group ("" is core), in order of preference."""
        found: dict[str, list[str]] = {}
        for resource in self:
            versions = found.setdefault(resource.group, [])
            if resource.version not in versions:
                versions.append(resource.version)
        return found

    def of(self, group: str, version: str) -> list[Resource]:
        return [resource for resource in self if (resource.group, resource.version) == (group, version)]
