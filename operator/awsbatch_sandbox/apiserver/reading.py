"""Get and list: selectors, pages and representations."""

import base64
import binascii
import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping

from awsbatch_sandbox.apiserver.errors import ApiError, bad_request, expired, too_large_version
from awsbatch_sandbox.apiserver.resources import Resource
from awsbatch_sandbox.apiserver.routes import Form, number
from awsbatch_sandbox.apiserver.selectors import field_selector, label_selector
from awsbatch_sandbox.apiserver.storage import Body, Entry, Key, Store, dumps
from awsbatch_sandbox.apiserver.table import partial, table

Matches = Callable[[Key, Body], bool]


def selection(resource: Resource, namespace: str, name: str, query: Mapping[str, str]) -> Matches | None:
    """The selection of the request; None: everything."""
    labels = label_selector(query.get("labelSelector", ""))
    fields = field_selector(query.get("fieldSelector", ""), resource.readers())
    if not (labels or fields or namespace or name):
        return None

    def matches(key: Key, body: Body) -> bool:
        return (
            (not namespace or key[0] == namespace)
            and (not name or key[1] == name)
            and (labels is None or labels(body["metadata"].get("labels") or {}))
            and (fields is None or fields(body))
        )

    return matches


def encode(resource: Resource, entry: Entry, form: Form, now: dt.datetime) -> bytes:
    """One object in the requested representation."""
    if form.as_ == "Table":
        metadata = {"resourceVersion": entry.body["metadata"]["resourceVersion"]}
        rows = [(entry.body, _embedded(resource, entry.body, form.embed))]
        return dumps(table(resource.columns, rows, metadata, now))
    return _bytes(resource, entry, form)


def _bytes(resource: Resource, entry: Entry, form: Form) -> bytes:
    if form.as_ == "PartialObjectMetadata":
        return entry.bytes_as(f"{resource.api_version};partial", partial)
    return entry.bytes_as(resource.api_version, resource.to_wire)


def _embedded(resource: Resource, body: Body, embed: str) -> Body | None:
    if embed == "None":
        return None
    return resource.to_wire(body) if embed == "Object" else partial(body)


class Lister:
    """Lists of one store."""

    def __init__(self, store: Store, now: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._now = now

    def list(self, resource: Resource, matches: Matches | None, query: Mapping[str, str], form: Form) -> bytes:
        """The answer to a list request, one page of it when the query has `limit`."""
        limit = number(query, "limit") or 0
        token = query.get("continue", "")
        self._check_version(query)
        version: int | None
        version, start = _decode_token(token) if token else (None, 0)
        collection = self._store.collection(resource.storage)
        if limit or token:
            version, pages = collection.snapshot(version)
            pages = pages[start:]
        else:
            version, pages = self._store.version, list(collection.items())
        metadata: Body = {"resourceVersion": str(version)}
        chosen: list[Entry] = []
        for index, (key, entry) in enumerate(pages, start):
            if matches is not None and not matches(key, entry.body):
                continue
            if limit and len(chosen) == limit:
                metadata["continue"] = _encode_token(version, index)
                if not (query.get("labelSelector") or query.get("fieldSelector")):
                    rest = _bodies(pages[index - start :])
                    metadata["remainingItemCount"] = sum(matches is None or matches(*item) for item in rest)
                break
            chosen.append(entry)
        return self._encode(resource, chosen, metadata, form)

    def _check_version(self, query: Mapping[str, str]) -> None:
        wanted = number(query, "resourceVersion") or 0
        if wanted > self._store.version:
            raise too_large_version(wanted, self._store.version)
        if query.get("resourceVersionMatch") == "Exact" and 0 < wanted < self._store.version:
            raise expired(f"The resourceVersion for the provided list is too old: {wanted}")

    def _encode(self, resource: Resource, entries: Iterable[Entry], metadata: Body, form: Form) -> bytes:
        if form.as_ == "Table":
            rows = ((entry.body, _embedded(resource, entry.body, form.embed)) for entry in entries)
            return dumps(table(resource.columns, rows, metadata, self._now()))
        head: Body = {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata}
        if form.as_ == "PartialObjectMetadata":
            head |= {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        items = b",".join(_bytes(resource, entry, form) for entry in entries)
        return dumps(head)[:-1] + b',"items":[' + items + b"]}"


def _bodies(items: Iterable[tuple[Key, Entry]]) -> Iterable[tuple[Key, Body]]:
    return ((key, entry.body) for key, entry in items)


def _encode_token(version: int, index: int) -> str:
    token = {"v": "meta.k8s.io/v1", "rv": version, "start": index}
    return base64.urlsafe_b64encode(dumps(token)).decode().rstrip("=")


def _decode_token(text: str) -> tuple[int, int]:
    try:
        token = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return int(token["rv"]), int(token["start"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise _bad_token() from error


def _bad_token() -> ApiError:
    return bad_request("invalid continue token: continue key is not valid: take it from an earlier list as it is")
