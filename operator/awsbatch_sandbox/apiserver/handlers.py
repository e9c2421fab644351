"""The verbs on resources, from a request to its answer."""

import datetime as dt
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from awsbatch_sandbox.apiserver import errors, patch
from awsbatch_sandbox.apiserver.controls import Controls
from awsbatch_sandbox.apiserver.decoding import Write
from awsbatch_sandbox.apiserver.deletion import Deleter
from awsbatch_sandbox.apiserver.objects import Objects
from awsbatch_sandbox.apiserver.reading import Lister, encode, selection
from awsbatch_sandbox.apiserver.resources import Catalog, Resource
from awsbatch_sandbox.apiserver.responses import json_response
from awsbatch_sandbox.apiserver.routes import YAML, Target, check_form, decode, flag, media_type, negotiate, read_object
from awsbatch_sandbox.apiserver.storage import Body, Entry, dumps
from awsbatch_sandbox.apiserver.watching import BeforeWrite, Watch

_APPLY: Final = (
    "the embedded API server has no server-side apply: run kubectl apply without --server-side, "
    "or start the sandbox with --control-plane=envtest"
)
_PATCH_FORMATS: Final = ("application/json-patch+json", "application/merge-patch+json")
_STRATEGIC: Final = "application/strategic-merge-patch+json"


class Handlers:
    """The verbs of all resources; `bookmark_every` is in seconds."""

    def __init__(
        self,
        objects: Objects,
        catalog: Catalog,
        deleter: Deleter,
        controls: Controls,
        *,
        now: Callable[[], dt.datetime],
        bookmark_every: float,
    ) -> None:
        self._objects = objects
        self._catalog = catalog
        self._deleter = deleter
        self._controls = controls
        self._lister = Lister(objects.store, now)
        self._now = now
        self._bookmark_every = bookmark_every

    async def handle(self, request: web.Request, target: Target, before_write: BeforeWrite) -> web.StreamResponse:
        """Answer a request about `target`; raises ApiError for every answer but success."""
        resource = self._catalog.find(target.group, target.version, target.plural)
        if resource is None or (target.namespace and not resource.namespaced):
            raise self._nothing_at(target)
        if resource.refusal:
            raise errors.method_not_allowed(resource.refusal)
        if "list" not in resource.verbs:
            return await self._review(request, resource)
        if target.subresource and not (resource.has_status and target.subresource == "status"):
            raise self._nothing_at(target)
        if not target.name:
            return await self._on_collection(request, resource, target, before_write)
        if resource.namespaced and not target.namespace:
            raise self._nothing_at(target)
        return await self._on_object(request, resource, target, before_write)

    def _nothing_at(self, target: Target) -> Exception:
        """Built-in groups answer with a Status, custom and unknown ones with plain text."""
        known = self._catalog.of(target.group, target.version)
        return errors.NotServedError() if not known or known[0].custom else errors.no_such_path()

    async def _on_collection(
        self, request: web.Request, resource: Resource, target: Target, before_write: BeforeWrite
    ) -> web.StreamResponse:
        if request.method == "GET" and flag(request.query, "watch"):
            return await self._watch(request, resource, target, before_write)
        if request.method == "GET":
            matches = selection(resource, target.namespace, "", request.query)
            form = negotiate(request)
            check_form(form, resource.kind, listed=True)
            return json_response(self._lister.list(resource, matches, request.query, form))
        if request.method == "POST" and (target.namespace or not resource.namespaced):
            write = _write(request, target)
            entry = self._objects.create(resource, target.namespace, await read_object(request), write)
            return self._object(request, resource, entry, write, 201)
        if request.method == "DELETE" and "deletecollection" in resource.verbs:
            return await self._delete_collection(request, resource, target)
        if resource.custom:
            raise errors.NotServedError
        raise errors.method_not_allowed()

    async def _on_object(
        self, request: web.Request, resource: Resource, target: Target, before_write: BeforeWrite
    ) -> web.StreamResponse:
        key = (target.namespace, target.name)
        write = _write(request, target)
        match request.method:
            case "GET" if flag(request.query, "watch"):
                return await self._watch(request, resource, target, before_write)
            case "GET":
                check_form(negotiate(request), resource.kind, listed=False)
                return self._object(request, resource, self._objects.find(resource, key), write)
            case "PUT":
                sent = await read_object(request)
                entry = self._objects.update(resource, self._objects.find(resource, key), sent, write)
                return self._object(request, resource, entry, write)
            case "PATCH":
                media = _patch_format(request, resource)
                body = decode(await request.read(), media)
                entry = self._objects.find(resource, key)
                patched = _patched(media, resource.to_wire(entry.body), body)
                return self._object(request, resource, self._objects.update(resource, entry, patched, write), write)
            case "DELETE" if not target.subresource:
                options = await _delete_options(request)
                entry, gone = self._deleter.delete(resource, key, options)
                return self._deleted(request, resource, entry, gone=gone)
        raise errors.method_not_allowed()

    async def _watch(
        self, request: web.Request, resource: Resource, target: Target, before_write: BeforeWrite
    ) -> web.StreamResponse:
        matches = selection(resource, target.namespace, target.name, request.query)
        form = negotiate(request)
        # Kubernetes answers 200 without a body.
        check_form(form, resource.kind, listed=False)
        if form.media == YAML:
            raise errors.not_acceptable("application/json;stream=watch")
        watch = Watch(self._objects.store, resource, matches, request.query, form, now=self._now)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        self._controls.record(request, 200)
        try:
            await watch.run(response, self._bookmark_every, before_write)
            await response.write_eof()
        except ConnectionError:  # the client went away in the middle of a write
            response.force_close()
        return response

    async def _delete_collection(self, request: web.Request, resource: Resource, target: Target) -> web.Response:
        matches = selection(resource, target.namespace, "", request.query)
        options = await _delete_options(request)
        listed = self._lister.list(resource, matches, {}, negotiate(request))
        for key, entry in list(self._objects.collection(resource).items()):
            if matches is None or matches(key, entry.body):
                self._deleter.delete(resource, key, options)
        return json_response(listed)

    async def _review(self, request: web.Request, resource: Resource) -> web.Response:
        """A SelfSubject(Access)Review: everyone may do everything."""
        if request.method != "POST":
            raise errors.method_not_allowed()
        sent = await read_object(request)
        status: Body = {"allowed": True}
        if resource.kind == "SelfSubjectReview":
            status = {"userInfo": {"username": "sandbox", "groups": ["system:masters", "system:authenticated"]}}
        head = {"kind": resource.kind, "apiVersion": resource.api_version}
        return json_response(dumps(head | sent | {"status": status}), 201)

    def _object(
        self, request: web.Request, resource: Resource, entry: Entry, write: Write, status: int = 200
    ) -> web.Response:
        response = json_response(encode(resource, entry, negotiate(request), self._now()), status)
        for warning in write.warnings:
            text = warning.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{text}"')
        return response

    def _deleted(self, request: web.Request, resource: Resource, entry: Entry, *, gone: bool) -> web.Response:
        if not gone:
            return json_response(encode(resource, entry, negotiate(request), self._now()))
        metadata = entry.body["metadata"]
        details = {"name": metadata["name"], "group": resource.group, "kind": resource.plural, "uid": metadata["uid"]}
        kept = {name: value for name, value in details.items() if value}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": kept}
        return json_response(dumps(status))


def _write(request: web.Request, target: Target) -> Write:
    query = request.query
    agent = request.headers.get("User-Agent", "").partition("/")[0].partition(" ")[0]
    return Write(
        manager=query.get("fieldManager") or agent or "unknown",
        subresource=target.subresource,
        dry_run=query.get("dryRun") == "All",
        patch=request.method == "PATCH",
        field_validation=query.get("fieldValidation") or "Warn",
    )


def _patch_format(request: web.Request, resource: Resource) -> str:
    media = media_type(request)
    if media.startswith("application/apply-patch"):
        raise errors.unsupported_media_type(_APPLY)
    formats = _PATCH_FORMATS if resource.custom else (*_PATCH_FORMATS, _STRATEGIC)
    if media not in formats:
        listing = ", ".join((*formats, "application/apply-patch+yaml"))
        raise errors.unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {listing}"
        )
    return media


def _patched(media: str, current: Body, body: Any) -> Body:
    if media == "application/json-patch+json":
        patched = patch.apply_json_patch(current, body)
    elif not isinstance(body, dict):
        raise errors.bad_request(
            "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}"
        )
    else:
        patched = patch.merge(current, body) if media == "application/merge-patch+json" else _strategic(current, body)
    if not isinstance(patched, dict):
        raise errors.bad_request("the patch must leave an object")
    return patched


def _strategic(current: Body, body: Body) -> Body:
    merged: Body = patch.strategic_merge(current, body)
    return merged


async def _delete_options(request: web.Request) -> Body:
    options = await read_object(request) if request.can_read_body else {}
    if request.query.get("dryRun"):
        options["dryRun"] = [request.query["dryRun"]]
    return options
