"""The semantics of writes: metadata, status subresource, generation, validation, finalizers, as in kube-apiserver.

There is no garbage collector here: ownerReferences are stored, and deleting an owner leaves its dependents.
"""

import datetime as dt
import json
import random
import uuid
from collections.abc import Callable
from typing import Final

from awsbatch_sandbox.apiserver import errors, managedfields, validation
from awsbatch_sandbox.apiserver.decoding import Write, decoded
from awsbatch_sandbox.apiserver.errors import FieldError
from awsbatch_sandbox.apiserver.naming import annotation_faults, label_faults, name_faults
from awsbatch_sandbox.apiserver.resources import Resource
from awsbatch_sandbox.apiserver.schema import with_defaults
from awsbatch_sandbox.apiserver.storage import Body, Collection, Entry, Key, Store

_GENERATED: Final = "bcdfghjklmnpqrstvwxz2456789"
_KEPT_ON_UPDATE: Final = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "resourceVersion",
    "generateName",
)


def timestamp(now: dt.datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as metav1.Time is written."""
    return now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Objects:
    """The writes of all resources; `now` is the clock, and `written` is called for every object stored or removed."""

    def __init__(
        self,
        store: Store,
        now: Callable[[], dt.datetime],
        written: Callable[[Resource, Body, bool], None],
    ) -> None:
        self.store = store
        self._now = now
        self._written = written

    def collection(self, resource: Resource) -> Collection:
        return self.store.collection(resource.storage)

    def find(self, resource: Resource, key: Key) -> Entry:
        """The stored object, or ApiError 404."""
        entry = self.collection(resource).get(key)
        if entry is None:
            raise errors.not_found(resource.group, resource.plural, key[1])
        return entry

    def create(self, resource: Resource, namespace: str, sent: Body, write: Write) -> Entry:
        """Store a new object, given in the shape of `resource`'s version."""
        body = decoded(resource, sent, write)
        metadata = body["metadata"]
        if metadata.get("resourceVersion"):
            raise errors.ApiError(500, "", "resourceVersion should not be set on objects to be created")
        if not metadata.get("name") and metadata.get("generateName"):
            suffix = "".join(random.choices(_GENERATED, k=5))
            metadata["name"] = metadata["generateName"] + suffix
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": timestamp(self._now())}
        if resource.namespaced:
            self._check_namespace(resource, namespace, metadata)
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "generation"):
            metadata.pop(key, None)
        if resource.has_status:
            body.pop("status", None)
            body = with_defaults(body, resource.schema)
        if resource.has_generation:
            metadata["generation"] = 1
        body = resource.prepare(body, None)
        self._check(resource, body, None)
        stored_at = (namespace, metadata["name"])
        if self.collection(resource).get(stored_at):
            raise errors.already_exists(resource.group, resource.plural, metadata["name"])
        return self._store(resource, stored_at, body, None, write)

    def update(self, resource: Resource, entry: Entry, sent: Body, write: Write) -> Entry:
        """Replace the object of `entry` by `sent`, or only its status when `write` goes to that subresource."""
        old = entry.body
        key = (old["metadata"].get("namespace", ""), old["metadata"]["name"])
        body = decoded(resource, sent, write, old)
        self._check_versions(resource, key, body["metadata"], old["metadata"], write)
        if write.subresource == "status":
            body = {name: value for name, value in old.items() if name != "status"} | _only(body, "status")
        else:
            body["metadata"] |= _only(old["metadata"], *_KEPT_ON_UPDATE)
            if resource.has_status:
                body = {name: value for name, value in body.items() if name != "status"} | _only(old, "status")
            body = resource.prepare(body, old)
            if resource.has_generation and _without_metadata(body) != _without_metadata(old):
                body["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if body == old:
            return entry
        self._check(resource, body, old)
        if old["metadata"].get("deletionTimestamp") and not body["metadata"].get("finalizers"):
            return entry if write.dry_run else self.remove(resource, key, body)
        return self._store(resource, key, body, old, write)

    def remove(self, resource: Resource, key: Key, body: Body) -> Entry:
        """Remove the object from its collection, regardless of finalizers."""
        entry = self.collection(resource).remove(key, body)
        self._written(resource, entry.body, True)
        return entry

    def mark_deleted(self, resource: Resource, key: Key, body: Body) -> Entry:
        """Set the object's deletionTimestamp: finalizers or contents still keep it."""
        metadata = body["metadata"] | {"deletionTimestamp": timestamp(self._now()), "deletionGracePeriodSeconds": 0}
        if "generation" in metadata:
            metadata["generation"] += 1
        entry = self.collection(resource).commit(key, body | {"metadata": metadata})
        self._written(resource, entry.body, False)
        return entry

    def _store(self, resource: Resource, key: Key, body: Body, old: Body | None, write: Write) -> Entry:
        now = timestamp(self._now())
        after = resource.to_wire(body)
        # A status from a default, at an object's creation, has no owner.
        before = resource.to_wire(old) if old else _only(after, "status") if resource.has_status else None
        fields = managedfields.updated(before, after, resource.schema, write, now)
        body = body | {"metadata": body["metadata"] | {"managedFields": fields}}
        if write.dry_run:
            return Entry(body, self.store.version)
        entry = self.collection(resource).commit(key, body)
        self._written(resource, entry.body, False)
        return entry

    def _check_namespace(self, resource: Resource, namespace: str, metadata: Body) -> None:
        if metadata.setdefault("namespace", namespace) != namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        home = self.store.collection("namespaces").get(("", namespace))
        if home is None:
            raise errors.not_found("", "namespaces", namespace)
        if home.body["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise errors.forbidden(resource.group, resource.plural, metadata.get("name", ""), why)

    def _check_versions(self, resource: Resource, key: Key, new: Body, old: Body, write: Write) -> None:
        if new.setdefault("name", key[1]) != key[1]:
            raise errors.bad_request(
                f"the name of the object ({new['name']}) does not match the name on the URL ({key[1]})"
            )
        if resource.namespaced and new.setdefault("namespace", key[0]) != key[0]:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if new.get("resourceVersion", old["resourceVersion"]) != old["resourceVersion"]:
            raise errors.conflict(resource.group, resource.plural, key[1])
        if new.get("uid", old["uid"]) != old["uid"]:
            fault = FieldError("FieldValueInvalid", ("metadata", "uid"), new["uid"], "field is immutable")
            raise errors.invalid(resource.group, resource.kind, key[1], [fault])
        if "resourceVersion" not in new and not resource.unconditional_update and not write.patch:
            path, detail = ("metadata", "resourceVersion"), "must be specified for an update"
            fault = FieldError("FieldValueInvalid", path, 0, detail)
            raise errors.invalid(resource.group, resource.plural, key[1], [fault])

    def _check(self, resource: Resource, new: Body, old: Body | None) -> None:
        faults = _metadata_faults(new["metadata"], old["metadata"] if old else None)
        if not faults:
            faults += resource.faults(new, old)
        if resource.validator is not None:
            faults += resource.validator.faults(new, old)
        if resource.rules is not None:
            if validation.blocks_rules(faults):
                faults.append(validation.RULES_NOT_CHECKED)
            else:
                faults += resource.rules.faults(new, old)
        if faults:
            group = "" if resource.kind == "Event" else resource.group  # as in kube-apiserver's message
            raise errors.invalid(group, resource.kind, new["metadata"].get("name", ""), faults)


def _only(body: Body, *names: str) -> Body:
    return {name: body[name] for name in names if name in body}


def _without_metadata(body: Body) -> Body:
    return {name: value for name, value in body.items() if name not in {"metadata", "status"}}


def _metadata_faults(new: Body, old: Body | None) -> list[FieldError]:
    name = new.get("name", "")
    if not name:
        return [FieldError("FieldValueRequired", ("metadata", "name"), detail="name or generateName is required")]
    faults = name_faults(name) if old is None else []
    faults += [*label_faults(new.get("labels") or {}), *annotation_faults(new.get("annotations") or {})]
    if old and old.get("deletionTimestamp"):
        added = [item for item in new.get("finalizers", []) if item not in old.get("finalizers", [])]
        if added:
            quoted = ", ".join(json.dumps(item) for item in added)
            detail = (
                "no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{quoted}}}"
            )
            faults.append(FieldError("FieldValueForbidden", ("metadata", "finalizers"), detail=detail))
    return faults
