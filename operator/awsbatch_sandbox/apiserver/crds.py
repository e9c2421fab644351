"""CustomResourceDefinitions: checked lightly, marked Established, and turned into served resources."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from awsbatch_sandbox.apiserver.cel import RuleError, Rules
from awsbatch_sandbox.apiserver.errors import FieldError, FieldPath
from awsbatch_sandbox.apiserver.jsonpath import compile_path
from awsbatch_sandbox.apiserver.resources import Resource
from awsbatch_sandbox.apiserver.storage import Body
from awsbatch_sandbox.apiserver.table import AGE, NAME, Column, custom_column
from awsbatch_sandbox.apiserver.validation import Validator

STORAGE: Final = "customresourcedefinitions.apiextensions.k8s.io"
FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"


def definition_resource(now: Callable[[], str]) -> Resource:
    """The resource of CRDs themselves; `now` gives RFC 3339."""

    def prepare(new: Body, old: Body | None) -> Body:
        return _prepared(new, old, now())

    return Resource(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        STORAGE,
        namespaced=False,
        singular="customresourcedefinition",
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        has_status=True,
        unconditional_update=False,
        prepare=prepare,
        faults=_faults,
        columns=(NAME, Column("Created At", lambda body: body["metadata"]["creationTimestamp"], type="date")),
    )


def _prepared(new: Body, old: Body | None, now: str) -> Body:
    spec = dict(new.get("spec") or {})
    names = dict(spec.get("names") or {})
    kind = str(names.get("kind", ""))
    names.setdefault("singular", kind.lower())
    names.setdefault("listKind", f"{kind}List")
    spec["names"] = names
    spec.setdefault("conversion", {"strategy": "None"})
    status = {
        "conditions": [
            _condition("NamesAccepted", "NoConflicts", "no conflicts found", now),
            _condition("Established", "InitialNamesAccepted", "the initial names have been accepted", now),
        ],
        "acceptedNames": names,
        "storedVersions": [version.get("name") for version in spec.get("versions") or [] if version.get("storage")],
    }
    if old is not None:
        status = old.get("status", status) | {"acceptedNames": names}
    return new | {"spec": spec, "status": status}


def _condition(kind: str, reason: str, message: str, now: str) -> Body:
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now}


def _faults(new: Body, old: Body | None) -> list[FieldError]:
    del old
    spec = new["spec"]
    group, names, versions = spec.get("group", ""), spec["names"], spec.get("versions") or []
    faults = []
    if new["metadata"]["name"] != f"{names.get('plural')}.{group}":
        detail = 'must be spec.names.plural+"."+spec.group'
        faults.append(FieldError("FieldValueInvalid", ("metadata", "name"), new["metadata"]["name"], detail))
    faults += [
        FieldError("FieldValueRequired", path)
        for path, value in (
            (("spec", "group"), group),
            (("spec", "names", "plural"), names.get("plural")),
            (("spec", "names", "kind"), names.get("kind")),
            (("spec", "scope"), spec.get("scope")),
        )
        if not value
    ]
    if spec.get("scope") not in {None, "", "Namespaced", "Cluster"}:
        detail = 'supported values: "Cluster", "Namespaced"'
        faults.append(FieldError("FieldValueNotSupported", ("spec", "scope"), spec["scope"], detail))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        faults.append(FieldError("FieldValueInvalid", ("spec", "versions"), versions, detail))
    for index, version in enumerate(versions):
        faults += _version_faults(version, ("spec", "versions", index))
    return faults


def _version_faults(version: Body, path: FieldPath) -> list[FieldError]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    where: FieldPath = (*path, "schema", "openAPIV3Schema")
    if not isinstance(schema, dict):
        return [FieldError("FieldValueRequired", where, detail="schemas are required")]
    faults = []
    if schema.get("type") != "object":
        detail = "must be object at the root"
        faults.append(FieldError("FieldValueInvalid", (*where, "type"), schema.get("type"), detail))
    try:
        Rules(schema)
    except RuleError as error:
        faults.append(FieldError("FieldValueInvalid", (*where, *error.path), error.expression, str(error)))
    paths = [*version.get("additionalPrinterColumns", []), *version.get("selectableFields", [])]
    for found in paths:
        try:
            compile_path(found.get("jsonPath", ""))
        except ValueError as error:
            faults.append(FieldError("FieldValueInvalid", path, found.get("jsonPath"), str(error)))
    return faults


def served(definition: Body) -> list[Resource]:
    """The resources that a checked CRD adds, the storage version first."""
    versions = [version for version in definition["spec"]["versions"] if version.get("served")]
    return [_resource(definition["spec"], version) for version in sorted(versions, key=_storage_first)]


def _storage_first(version: Body) -> bool:
    return not version.get("storage")


def _resource(spec: Body, version: Body) -> Resource:
    names, schema = spec["names"], version["schema"]["openAPIV3Schema"]
    columns = tuple(custom_column(column) for column in version.get("additionalPrinterColumns", []))
    api_version = f"{spec['group']}/{version['name']}"
    stored = next(item["name"] for item in spec["versions"] if item.get("storage"))
    return Resource(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        storage=f"{names['plural']}.{spec['group']}",
        namespaced=spec["scope"] == "Namespaced",
        singular=names["singular"],
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        has_status="status" in (version.get("subresources") or {}),
        custom=True,
        unconditional_update=False,
        schema=schema,
        validator=Validator(schema),
        rules=Rules(schema),
        columns=(NAME, *columns) if columns else (NAME, replace(AGE, type="date")),
        fields={
            item["jsonPath"].removeprefix("."): _selectable(item["jsonPath"])
            for item in version.get("selectableFields", [])
        },
        to_wire=lambda body: body if body["apiVersion"] == api_version else body | {"apiVersion": api_version},
        from_wire=lambda body: body | {"apiVersion": f"{spec['group']}/{stored}"},
    )


def _selectable(path: str) -> Callable[[Body], str]:
    find = compile_path(path)

    def read(body: Body) -> str:
        value: Any = next(find(body), None)
        if isinstance(value, bool):
            return "true" if value else "false"
        return "" if value is None else str(value)

    return read
