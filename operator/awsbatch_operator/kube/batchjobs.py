"""BatchJob objects by the Kubernetes API: implements the interface `BatchJobClient`."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import structlog

from awsbatch_operator.api import names
from awsbatch_operator.api.batchjob import ObjectRef, Status
from awsbatch_operator.api.decoding import (
    Snapshot,
    parse_metadata,
    parse_object,
    parse_ref,
    raw_status_of,
    resource_version_of,
)
from awsbatch_operator.api.events import Event
from awsbatch_operator.api.interfaces import Conflict, Gone, ListError, NotWritten, Written
from awsbatch_operator.api.status_codec import diff
from awsbatch_operator.kube.access_review import ResourceAttributes, missing_permissions
from awsbatch_operator.kube.client import METADATA, METADATA_LIST, ApiError, KubeClient
from awsbatch_operator.kube.events import EVENT_PERMISSIONS, EventPoster
from awsbatch_operator.kube.paging import list_pages, metadata_of
from awsbatch_operator.kube.preflight import PreflightError, explain_error, explain_missing

WRITE_TIMEOUT: Final = 10.0
"""Seconds for one status write, a renewal of the credentials included. An admission webhook may hang for longer."""

_CRD_PATH: Final = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{names.CRD_NAME}"
_GROUP_PATH: Final = f"/apis/{names.API_VERSION}"
_NEEDED: Final = (
    *((verb, names.GROUP, names.PLURAL) for verb in ("list", "watch", "get")),
    ("patch", names.GROUP, f"{names.PLURAL}/status"),
)
_NEEDED_ON_DELETE: Final = (("patch", names.GROUP, names.PLURAL),)
_NOT_ABOUT_THE_WRITE: Final = frozenset({401, 404, 408, 429})
"""4xx answers that do not concern this object's content or permissions: credentials, a kind that is not served,
a slow or overloaded API server."""

__all__ = ["KubeBatchJobClient", "PreflightError"]

log = structlog.get_logger(__name__)


def collection_path(namespace: str | None, plural: str = names.PLURAL) -> str:
    return f"{_GROUP_PATH}/{plural}" if namespace is None else f"{_GROUP_PATH}/namespaces/{namespace}/{plural}"


def object_path(ref: ObjectRef) -> str:
    plural = names.TERMINATION_PLURAL if ref.kind == names.TERMINATION_KIND else names.PLURAL
    return f"{collection_path(ref.namespace, plural)}/{ref.name}"


class KubeBatchJobClient:
    """The BatchJobs of the given namespaces; of the whole cluster if none is given.

    `on_delete`: whether the operator needs the permission to write its finalizer.
    """

    def __init__(
        self, client: KubeClient, events: EventPoster, namespaces: Sequence[str] = (), *, on_delete: bool = False
    ) -> None:
        self._client, self._events = client, events
        self._on_delete = on_delete
        self._needed = (*_NEEDED, *(_NEEDED_ON_DELETE if on_delete else ()))
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)

    def change(self, wanted: Status, shown: Status | Mapping[str, object]) -> Mapping[str, object]:
        return diff(wanted, shown)

    async def write_status(
        self, ref: ObjectRef, change: Mapping[str, object], resource_version: str
    ) -> Written | Conflict | Gone | NotWritten:
        # The version guards the object's identity too: an object that was re-created under the name has another. A uid
        # would add nothing: the API server ignores it in a write to /status.
        guarded = {"metadata": {"resourceVersion": resource_version}, "status": change}
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                _, body = await self._client.patch(f"{object_path(ref)}/status", guarded)
        except TimeoutError:
            return NotWritten(f"the Kubernetes API did not answer within {WRITE_TIMEOUT:g} s", refused=False)
        except ApiError as error:
            return Conflict() if error.status == 409 else _failure(error)
        return Written(resource_version_of(body), raw_status_of(body))

    async def write_finalizer(
        self, ref: ObjectRef, finalizers: Sequence[str], resource_version: str, *, add: bool
    ) -> Written | Conflict | Gone | NotWritten:
        # Never a merge of the list, which would drop what another writer added meanwhile.
        operations = finalizer_patch(finalizers, resource_version, add=add)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                _, body = await self._client.json_patch(object_path(ref), operations)
        except TimeoutError:
            return NotWritten(f"the Kubernetes API did not answer within {WRITE_TIMEOUT:g} s", refused=False)
        except ApiError as error:
            # A failed test is 422, too, and names no object.
            failed_test = error.status == 422 and not error.details.get("name")
            return Conflict() if error.status == 409 or failed_test else _failure(error)
        return Written(resource_version_of(body), raw_status_of(body), parse_metadata(body).finalizers or ())

    async def crd_deleted(self) -> bool | NotWritten:
        try:
            _, body = await self._client.get(_CRD_PATH, accept=METADATA)
        except ApiError as error:
            return True if error.status == 404 else NotWritten(error.message)
        if metadata_of(body).get("name") != names.CRD_NAME:
            return NotWritten("the response of the Kubernetes API is not the CRD")
        return metadata_of(body).get("deletionTimestamp") is not None

    async def read(self, ref: ObjectRef) -> Snapshot | Gone | NotWritten:
        try:
            _, body = await self._client.get(object_path(ref))
        except ApiError as error:
            return _failure(error)
        snapshot = parse_object(body)
        return snapshot if snapshot.ref.uid == ref.uid else Gone()

    async def versions(self) -> AsyncIterator[tuple[ObjectRef, str]]:
        """See the interface. After an expired page the namespace is listed again, so an object may come twice."""
        for namespace in self._namespaces:
            async for ref, version in self._list(collection_path(namespace)):
                yield ref, version

    async def _list(self, path: str) -> AsyncIterator[tuple[ObjectRef, str]]:
        for last in (False, True):
            try:
                async for page in list_pages(self._client, path, METADATA_LIST):
                    for item in page.items:
                        yield parse_ref(metadata_of(item)), resource_version_of(item)
            except ApiError as error:
                if last or error.status != 410:
                    raise ListError(error.message) from error
            else:
                return

    def post_event(self, ref: ObjectRef, event: Event) -> None:
        self._events.post(ref, event)

    async def preflight(self) -> None:
        """Raise PreflightError unless the cluster answers, serves BatchJobs and grants what the operator needs."""
        for namespace in self._namespaces:
            try:
                await self._client.get(collection_path(namespace), {"limit": "1"}, METADATA_LIST)
            except ApiError as error:
                if error.status == 403:
                    await self._check_permissions(namespace)
                raise PreflightError(explain_error(error)) from error
            await self._check_permissions(namespace)
        if self._on_delete and isinstance(unread := await self.crd_deleted(), NotWritten):
            raise PreflightError(
                f"--on-delete=enabled must read the CRD {names.CRD_NAME}: {unread.message}; grant get on this "
                "customresourcedefinition (apiGroups: [apiextensions.k8s.io]) by a ClusterRole"
            )

    async def _check_permissions(self, namespace: str | None) -> None:
        try:
            missing = await self._missing(self._needed, namespace)
            missing_for_events = await self._missing(EVENT_PERMISSIONS, namespace)
        except ApiError as error:
            raise PreflightError(explain_error(error)) from error
        if missing:
            raise PreflightError(explain_missing(missing) + ", or watch other namespaces (--namespace)")
        if missing_for_events:
            log.warning(
                "cannot create Events (RBAC); everything else keeps working", error=explain_missing(missing_for_events)
            )

    async def _missing(self, needed: Sequence[tuple[str, str, str]], namespace: str | None) -> list[ResourceAttributes]:
        return await missing_permissions(self._client, [ResourceAttributes(*need, namespace) for need in needed])


def finalizer_patch(finalizers: Sequence[str], resource_version: str, *, add: bool) -> list[dict[str, object]]:
    """Return the JSON patch that adds the operator's finalizer to these, or removes it. It changes nothing else.

    The version is tested, which guards the object's identity too. Raises ValueError if there is nothing to remove.
    """
    test: dict[str, object] = {"op": "test", "path": "/metadata/resourceVersion", "value": resource_version}
    if not add:
        path = f"/metadata/finalizers/{list(finalizers).index(names.FINALIZER)}"
        return [test, {"op": "test", "path": path, "value": names.FINALIZER}, {"op": "remove", "path": path}]
    if finalizers:
        return [test, {"op": "add", "path": "/metadata/finalizers/-", "value": names.FINALIZER}]
    return [test, {"op": "add", "path": "/metadata/finalizers", "value": [names.FINALIZER]}]


def _failure(error: ApiError) -> Gone | NotWritten:
    # An API server that does not serve the kind (yet, or for a moment) answers 404 too, but without naming an object.
    if error.status == 404 and error.details.get("name"):
        return Gone()
    refused = 400 <= error.status < 500 and error.status not in _NOT_ABOUT_THE_WRITE
    return NotWritten(error.message, refused=refused)
