"""Turns a client's body into one that can be stored: kind, unknown fields, pruning, defaults."""

import json
from dataclasses import dataclass, field
from typing import Final

from awsbatch_sandbox.apiserver import errors, schema
from awsbatch_sandbox.apiserver.errors import FieldError
from awsbatch_sandbox.apiserver.protobuf import known_fields
from awsbatch_sandbox.apiserver.resources import Resource
from awsbatch_sandbox.apiserver.storage import Body

_OBJECT_META: Final = frozenset(
    {
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
        "selfLink",
    }
)


@dataclass(frozen=True, slots=True)
class Write:
    """Options of a write; `warnings` collects the warnings of the response."""

    manager: str
    subresource: str = ""
    dry_run: bool = False
    patch: bool = False
    field_validation: str = "Warn"
    warnings: list[str] = field(default_factory=list)


def decoded(resource: Resource, sent: Body, write: Write, old: Body | None = None) -> Body:
    """A fresh body in its stored shape: pruned, defaulted, metadata reduced to what ObjectMeta has.

    Parts that it shares with `old`, the stored body, are not pruned again.
    """
    if not resource.custom:
        # As in kube-apiserver: a built-in type is known from the path, a custom object must say what it is.
        named = {name: sent[name] for name in ("apiVersion", "kind") if sent.get(name)}
        sent = {**sent, "apiVersion": resource.api_version, "kind": resource.kind, **named}
    if (sent.get("apiVersion"), sent.get("kind")) != (resource.api_version, resource.kind):
        raise _wrong_kind(resource, sent)
    unknown: list[str] = []
    sent_metadata = sent.get("metadata") or {}
    unknown += [f"metadata.{name}" for name in sent_metadata if name not in _OBJECT_META]
    metadata = {name: value for name, value in sent_metadata.items() if name in _OBJECT_META and value}
    body = {name: value for name, value in sent.items() if name not in {"apiVersion", "kind", "metadata"}}
    if resource.custom:
        known = {name: value for name, value in resource.schema.items() if name != "x-kubernetes-embedded-resource"}
        shared = {name: value for name, value in body.items() if old is not None and old.get(name) is value}
        fresh = {name: value for name, value in body.items() if name not in shared}
        body = schema.with_defaults(schema.prune(fresh, known, (), unknown) | shared, known)
    else:
        body = _known_only(body, resource.api_version, resource.kind, "", unknown)
    if unknown:
        _report_unknown(resource, sent, sorted(unknown), write)
    head = {"apiVersion": sent["apiVersion"], "kind": sent["kind"], "metadata": metadata}
    return resource.from_wire({**head, **body})


def _known_only(body: Body, api_version: str, kind: str, path: str, unknown: list[str]) -> Body:
    """A built-in object without the fields that its kind does not have; their paths are added to `unknown`."""
    known = known_fields(api_version, kind)
    if known is None:
        return body
    kept = {}
    for name, value in body.items():
        if name not in known:
            unknown.append(f"{path}{name}")
        elif isinstance(value, dict):
            kept[name] = _known_only(value, "", known[name], f"{path}{name}.", unknown)
        else:
            kept[name] = value
    return kept


def _wrong_kind(resource: Resource, sent: Body) -> errors.ApiError:
    if not sent.get("kind") or not sent.get("apiVersion"):
        missing = "Kind" if not sent.get("kind") else "apiVersion"
        text = json.dumps(sent, separators=(",", ":"), ensure_ascii=False)
        return errors.bad_request(
            f"the object provided is unrecognized (must be of type {resource.kind}): "
            f"Object '{missing}' is missing in '{text}'"
        )
    if sent["apiVersion"] != resource.api_version:
        return errors.bad_request(
            f"the API version in the data ({sent['apiVersion']}) does not match the expected API version "
            f"({resource.api_version})"
        )
    fault = FieldError("FieldValueInvalid", ("kind",), sent["kind"], f"must be {resource.kind}")
    return errors.invalid(resource.group, sent["kind"], (sent.get("metadata") or {}).get("name", ""), [fault])


def _report_unknown(resource: Resource, sent: Body, unknown: list[str], write: Write) -> None:
    texts = [f'unknown field "{path}"' for path in unknown]
    if write.field_validation == "Warn":
        write.warnings.extend(texts)
    elif write.field_validation == "Strict":
        listing = f"strict decoding error: {', '.join(texts)}"
        if write.patch:
            patched = json.dumps(sent, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
            fault = FieldError("FieldValueInvalid", ("patch",), patched, listing)
            raise errors.invalid("", "", "", [fault])
        raise errors.bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {listing}'
        )
