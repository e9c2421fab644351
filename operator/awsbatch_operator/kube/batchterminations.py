"""Watches BatchTerminations for the controller."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog

from awsbatch_operator.api import names
from awsbatch_operator.api.batchtermination import BulkSnapshot, parse_termination
from awsbatch_operator.kube.access_review import ResourceAttributes, missing_permissions
from awsbatch_operator.kube.batchjobs import collection_path
from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.kube.preflight import explain_missing
from awsbatch_operator.kube.reflector import Body, Reflector
from awsbatch_operator.workqueue.log_once import LogOnce

RBAC_RETRY: Final = 60.0
"""Seconds between two reviews of permissions that are missing."""
_NEEDED: Final = (("list", ""), ("watch", ""), ("patch", "/status"))

log = structlog.get_logger(__name__)


class BatchTerminationHandler(Protocol):
    """Receives the objects, by uid."""

    def on_upsert(self, snapshot: BulkSnapshot) -> None:
        """Handle a new or changed object."""

    def on_delete(self, uid: str) -> None:
        """Handle the deletion of an object."""

    def on_stale_since(self, since: float | None) -> None:
        """Handle the failure of a watch: since when (loop time); None: all work."""


class BatchTerminationInformer:
    """Watches these namespaces, or the whole cluster if none is given. Create it on the loop on which it runs."""

    def __init__(self, client: KubeClient, handler: BatchTerminationHandler, namespaces: Sequence[str] = ()) -> None:
        self._client, self._handler = client, handler
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._reflectors = [
            Reflector(
                client,
                collection_path(namespace, names.TERMINATION_PLURAL),
                _Objects(handler),
                # An upgrade by Helm does not install new CRDs.
                optional=True,
                on_stale_change=self._on_stale_change,
            )
            for namespace in self._namespaces
        ]

    async def run(self) -> None:
        """Run until cancelled. BatchTerminations are ignored as long as the permissions are missing."""
        problem = LogOnce()
        while missing := await self._missing():
            error = explain_missing(missing)
            if problem.report(error):
                log.warning("BatchTerminations are ignored (RBAC); everything else keeps working", error=error)
            await asyncio.sleep(RBAC_RETRY)
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())

    async def _missing(self) -> list[ResourceAttributes]:
        try:
            found = [await missing_permissions(self._client, _needed(namespace)) for namespace in self._namespaces]
        except ApiError:
            # The watch logs its own errors, and goes on.
            return []
        return next(filter(None, found), [])

    def relist(self) -> None:
        """List all objects again; until then the handler has stale ones."""
        for reflector in self._reflectors:
            reflector.relist()

    def _on_stale_change(self) -> None:
        since = (reflector.stale_since for reflector in self._reflectors)
        self._handler.on_stale_since(min((one for one in since if one is not None), default=None))


def _needed(namespace: str | None) -> list[ResourceAttributes]:
    plural = names.TERMINATION_PLURAL
    return [ResourceAttributes(verb, names.GROUP, f"{plural}{part}", namespace) for verb, part in _NEEDED]


class _Objects:
    """The objects of one collection: a ResourceHandler."""

    def __init__(self, handler: BatchTerminationHandler) -> None:
        self._handler = handler
        self._uids: dict[str, str] = {}

    def on_relist(self, bodies: Mapping[str, Body]) -> None:
        for name in self._uids.keys() - bodies.keys():
            self.on_delete(name)
        for name, body in bodies.items():
            self.on_upsert(name, body)

    def on_upsert(self, name: str, body: Body) -> None:
        snapshot = parse_termination(body)
        if self._uids.get(name, snapshot.ref.uid) != snapshot.ref.uid:
            # It was deleted and created again, and the watch has missed that.
            self.on_delete(name)
        self._uids[name] = snapshot.ref.uid
        self._handler.on_upsert(snapshot)

    def on_delete(self, name: str) -> None:
        if name in self._uids:
            self._handler.on_delete(self._uids.pop(name))
