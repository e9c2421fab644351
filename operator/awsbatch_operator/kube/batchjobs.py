"""BatchJob objects by the Kubernetes API: the engine's port `Objects`."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import structlog

from awsbatch_operator.domain.events import Event
from awsbatch_operator.domain.ports import Conflict, Gone, ListError, NotWritten, Written
from awsbatch_operator.domain.record import ObjectRef, Snapshot, Status
from awsbatch_operator.kube import names
from awsbatch_operator.kube.client import METADATA_LIST, ApiError, KubeClient
from awsbatch_operator.kube.events import EVENT_RIGHTS, EventPoster
from awsbatch_operator.kube.objects import parse_object, parse_ref, shown_of, version_of
from awsbatch_operator.kube.preflight import PreflightError, diagnosis, forbidden
from awsbatch_operator.kube.rights import Right, lacking
from awsbatch_operator.kube.status import diff

_GROUP_PATH: Final = f"/apis/{names.API_VERSION}"
_PAGE: Final = 500
_NEEDED: Final = (
    *((verb, names.GROUP, names.PLURAL) for verb in ("list", "watch", "get")),
    ("patch", names.GROUP, f"{names.PLURAL}/status"),
)

__all__ = ["BatchJobs", "PreflightError"]

log = structlog.get_logger(__name__)


def collection_path(namespace: str | None) -> str:
    return (
        f"{_GROUP_PATH}/{names.PLURAL}" if namespace is None else f"{_GROUP_PATH}/namespaces/{namespace}/{names.PLURAL}"
    )


def object_path(ref: ObjectRef) -> str:
    return f"{collection_path(ref.namespace)}/{ref.name}"


class BatchJobs:
    """The objects of the given namespaces; of the whole cluster when there are none."""

    def __init__(self, client: KubeClient, events: EventPoster, namespaces: Sequence[str] = ()) -> None:
        self._client, self._events = client, events
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)

    def change(self, wanted: Status, shown: Status | Mapping[str, object]) -> Mapping[str, object]:
        return diff(wanted, shown)

    async def write_status(
        self, ref: ObjectRef, change: Mapping[str, object], resource_version: str
    ) -> Written | Conflict | Gone | NotWritten:
        # The version guards the object's identity too: one that was created anew under the name has another. A uid
        # would add nothing, for the API server ignores it in a write to /status.
        guarded = {"metadata": {"resourceVersion": resource_version}, "status": change}
        try:
            _, body = await self._client.patch(f"{object_path(ref)}/status", guarded)
        except ApiError as error:
            return _not_written(error)
        return Written(version_of(body), shown_of(body))

    async def read(self, ref: ObjectRef) -> Snapshot | Gone | NotWritten:
        try:
            _, body = await self._client.get(object_path(ref))
        except ApiError as error:
            return Gone() if _is_gone(error) else _failure(error)
        snapshot = parse_object(body)
        return snapshot if snapshot.ref.uid == ref.uid else Gone()

    async def refs(self) -> AsyncIterator[ObjectRef]:
        """As the port has it. After an expired page the namespace is listed anew, so that some refs may come twice."""
        for namespace in self._namespaces:
            async for ref in self._listed(collection_path(namespace)):
                yield ref

    async def _listed(self, path: str) -> AsyncIterator[ObjectRef]:
        for last in (False, True):
            try:
                async for ref in self._pages(path):
                    yield ref
            except ApiError as error:
                if last or error.status != 410:
                    raise ListError(error.message) from error
            else:
                return

    async def _pages(self, path: str) -> AsyncIterator[ObjectRef]:
        token = ""
        while True:
            params = {"limit": str(_PAGE)} | ({"continue": token} if token else {})
            _, page = await self._client.get(path, params, METADATA_LIST)
            for item in page.get("items") or ():
                yield parse_ref(item.get("metadata") or {})
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    async def post_event(self, ref: ObjectRef, event: Event) -> None:
        self._events.post(ref, event)

    async def preflight(self) -> None:
        """Raise PreflightError unless the cluster answers, serves BatchJobs and permits what the operator needs."""
        for namespace in self._namespaces:
            try:
                await self._client.get(collection_path(namespace), {"limit": "1"}, METADATA_LIST)
            except ApiError as error:
                if error.status == 403:
                    await self._check_rights(namespace)
                raise PreflightError(diagnosis(error)) from error
            await self._check_rights(namespace)

    async def _check_rights(self, namespace: str | None) -> None:
        try:
            missing = await lacking(self._client, [Right(*need, namespace) for need in _NEEDED])
            untold = await lacking(self._client, [Right(*need, namespace) for need in EVENT_RIGHTS])
        except ApiError as error:
            raise PreflightError(diagnosis(error)) from error
        if missing:
            raise PreflightError(forbidden(missing) + ", or watch other namespaces (--namespace)")
        if untold:
            log.warning("Events will be lost, and nothing else", error=forbidden(untold))


def _is_gone(error: ApiError) -> bool:
    # An API server that does not serve the kind (yet, or for a moment) answers 404 too, but without naming an object.
    return error.status == 404 and bool(error.details.get("name"))


def _not_written(error: ApiError) -> Conflict | Gone | NotWritten:
    if error.status == 409:
        return Conflict()
    if _is_gone(error):
        return Gone()
    return _failure(error)


def _failure(error: ApiError) -> NotWritten:
    forbidden = error.status == 403 or _denied_by_policy(error)
    return NotWritten(error.message, error.again or forbidden, forbidden)


def _denied_by_policy(error: ApiError) -> bool:
    # What a ValidatingAdmissionPolicy denies is 422 too, unless it says otherwise; but what is wrong names its field.
    causes = error.details.get("causes") or ()
    return error.status == 422 and bool(causes) and not any("field" in cause for cause in causes)
