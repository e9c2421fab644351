"""Deletes: preconditions, finalizers, and the two kinds that contain others (namespaces and CRDs)."""

from typing import Final

from awsbatch_sandbox.apiserver import crds, errors
from awsbatch_sandbox.apiserver.objects import Objects
from awsbatch_sandbox.apiserver.resources import Catalog, Resource
from awsbatch_sandbox.apiserver.storage import Body, Entry, Key

_UNDELETABLE: Final = frozenset({"default", "kube-system", "kube-public"})


class Deleter:
    """Removes objects, or marks them while finalizers or contents keep them."""

    def __init__(self, objects: Objects, catalog: Catalog) -> None:
        self._objects = objects
        self._catalog = catalog

    def delete(self, resource: Resource, key: Key, options: Body) -> tuple[Entry, bool]:
        """The object's last state, and whether it is gone; `options` is a metav1.DeleteOptions."""
        entry = self._objects.find(resource, key)
        self._check_preconditions(resource, entry.body, options.get("preconditions") or {})
        if resource.storage == "namespaces" and key[1] in _UNDELETABLE:
            raise errors.forbidden("", "namespaces", key[1], "this namespace may not be deleted")
        if options.get("dryRun"):
            return entry, True
        metadata = entry.body["metadata"]
        held = bool(metadata.get("finalizers")) or resource.storage in {"namespaces", crds.STORAGE}
        if not held:
            return self._objects.remove(resource, key, entry.body), True
        if metadata.get("deletionTimestamp"):
            return entry, False
        body = entry.body
        if resource.storage == "namespaces":
            body = body | {"status": {"phase": "Terminating"}}
        marked = self._objects.mark_deleted(resource, key, body)
        for held_resource, held_key in self._content(resource, marked.body):
            self.delete(held_resource, held_key, {})
        self.finish(resource, key)
        return marked, False

    def finish(self, resource: Resource, key: Key) -> None:
        """Remove a namespace or CRD that is being deleted and is empty."""
        entry = self._objects.collection(resource).get(key)
        if entry is None or not entry.body["metadata"].get("deletionTimestamp"):
            return
        if not entry.body["metadata"].get("finalizers") and not self._content(resource, entry.body):
            self._objects.remove(resource, key, entry.body)

    def _content(self, resource: Resource, body: Body) -> list[tuple[Resource, Key]]:
        name = body["metadata"]["name"]
        if resource.storage == "namespaces":
            return [
                (held, key)
                for held in self._catalog.by_storage()
                if held.namespaced
                for key, _ in self._objects.collection(held).items()
                if key[0] == name
            ]
        held = next((found for found in self._catalog.by_storage() if found.storage == name), None)
        if resource.storage != crds.STORAGE or held is None:
            return []
        return [(held, key) for key, _ in self._objects.collection(held).items()]

    def _check_preconditions(self, resource: Resource, body: Body, wanted: Body) -> None:
        metadata = body["metadata"]
        for field, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            if wanted.get(field) and wanted[field] != metadata[field]:
                why = (
                    f"the {label} in the precondition ({wanted[field]}) does not match the {label} in record "
                    f"({metadata[field]}). The object might have been deleted and then recreated"
                )
                raise errors.conflict(resource.group, resource.kind, metadata["name"], why)
