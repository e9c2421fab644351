"""Watches BatchAccessPolicies and the labels of namespaces for a `PolicyEventHandler`."""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from awsbatch_operator.api import names
from awsbatch_operator.api.access_policy import parse_policy
from awsbatch_operator.api.interfaces import PolicyEventHandler
from awsbatch_operator.api.label_selector import Labels
from awsbatch_operator.kube.access_review import ResourceAttributes, missing_permissions
from awsbatch_operator.kube.client import JSON, METADATA, METADATA_LIST, ApiError, KubeClient
from awsbatch_operator.kube.paging import metadata_of
from awsbatch_operator.kube.policy_status import PolicyStatusWriter
from awsbatch_operator.kube.preflight import PreflightError, explain_error, explain_missing
from awsbatch_operator.kube.reflector import Body, Reflector
from awsbatch_operator.policy.resolution import Mode

POLICIES: Final = f"/apis/{names.API_VERSION}/{names.POLICY_PLURAL}"
NAMESPACES: Final = "/api/v1/namespaces"

_NEEDED: Final = tuple(
    ResourceAttributes(verb, group, plural)
    for group, plural in ((names.GROUP, names.POLICY_PLURAL), ("", "namespaces"))
    for verb in ("list", "watch")
)
_FOR_STATUS: Final = ResourceAttributes("patch", names.GROUP, f"{names.POLICY_PLURAL}/status")

log = structlog.get_logger(__name__)


class PolicyInformer:
    """Create it on the loop on which it runs; call `preflight` once, then `run`.

    The handler does not receive changes that mean nothing to it: a policy's status, a namespace's annotation. A policy
    that is being deleted stays in force until it is gone.
    """

    def __init__(
        self,
        client: KubeClient,
        handler: PolicyEventHandler,
        statuses: PolicyStatusWriter,
        mode: Mode,
        *,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._client, self._handler, self._mode = client, handler, mode
        self._policies = Reflector(
            client,
            POLICIES,
            _PolicyResourceHandler(handler, statuses),
            # Helm installs CRDs but does not add new ones on an upgrade: an upgraded operator may lack this one.
            optional=mode is Mode.OPTIONAL,
            on_stale_change=self._on_stale_change,
            jitter=jitter,
        )
        self._namespaces = Reflector(
            client,
            NAMESPACES,
            _NamespaceResourceHandler(handler),
            accept=(METADATA_LIST, METADATA),
            on_stale_change=self._on_stale_change,
            jitter=jitter,
        )
        self._reported: tuple[float | None, str] = (None, "")

    async def run(self) -> None:
        """Run until cancelled."""
        self._on_stale_change()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._policies.run())
            tasks.create_task(self._namespaces.run())

    def _on_stale_change(self) -> None:
        watches = {names.POLICY_PLURAL: self._policies.stale_since, "namespaces": self._namespaces.stale_since}
        stale = {name: since for name, since in watches.items() if since is not None}
        report = min(stale.values(), default=None), " and ".join(stale)
        if report != self._reported:
            self._reported = report
            self._handler.on_stale_since(*report)

    # -- preflight ----------------------------------------------------------------------------------------------------

    async def preflight(self) -> None:
        """Raise PreflightError unless policies can be read; in both modes: without them everything would be allowed."""
        try:
            await self._check_permissions()
            await self._client.get(NAMESPACES, {"limit": "1"}, METADATA_LIST)
            await self._check_served()
        except ApiError as error:
            raise PreflightError(explain_error(error, names.POLICY_KIND, names.POLICY_PLURAL)) from error

    async def _check_permissions(self) -> None:
        missing = await missing_permissions(self._client, _NEEDED)
        if missing:
            raise PreflightError(
                f"{explain_missing(missing)}, even with --namespace: without these permissions the operator does "
                "not know what access policies forbid"
            )
        if await missing_permissions(self._client, [_FOR_STATUS]):
            log.warning(
                "cannot write the status of access policies (RBAC); everything else keeps working",
                error=explain_missing([_FOR_STATUS]),
            )

    async def _check_served(self) -> None:
        try:
            await self._client.get(POLICIES, {"limit": "1"}, JSON)
        except ApiError as error:
            if error.status != 404 or self._mode is Mode.REQUIRED:
                raise
            log.warning(
                "the CRD of access policies is not installed; no policy applies until it is",
                error=explain_error(error, names.POLICY_KIND, names.POLICY_PLURAL),
            )
        else:
            self._policies.served = True


class _PolicyResourceHandler:
    def __init__(self, handler: PolicyEventHandler, statuses: PolicyStatusWriter) -> None:
        self._handler, self._statuses = handler, statuses
        self._last: dict[str, tuple[object, object]] = {}

    def on_relist(self, bodies: Mapping[str, Body]) -> None:
        self._last = {name: _content(body) for name, body in bodies.items()}
        self._statuses.on_relist(bodies)
        self._handler.on_policies({name: parse_policy(name, body.get("spec")) for name, body in bodies.items()})

    def on_upsert(self, name: str, body: Body) -> None:
        self._statuses.on_upsert(name, body)
        content = _content(body)
        if content != self._last.get(name):
            self._last[name] = content
            self._handler.on_policy(name, parse_policy(name, body.get("spec")))

    def on_delete(self, name: str) -> None:
        self._statuses.on_delete(name)
        self._last.pop(name, None)
        self._handler.on_policy(name, None)


def _content(body: Mapping[str, Any]) -> tuple[object, object]:
    """Return what must differ for the handler to receive a policy again."""
    return metadata_of(body).get("generation"), body.get("spec")


class _NamespaceResourceHandler:
    def __init__(self, handler: PolicyEventHandler) -> None:
        self._handler = handler
        self._labels: dict[str, Labels] = {}

    def on_relist(self, bodies: Mapping[str, Body]) -> None:
        self._labels = {name: _labels(body) for name, body in bodies.items()}
        self._handler.on_namespaces(dict(self._labels))

    def on_upsert(self, name: str, body: Body) -> None:
        labels = _labels(body)
        if labels != self._labels.get(name):
            self._labels[name] = labels
            self._handler.on_namespace(name, labels)

    def on_delete(self, name: str) -> None:
        self._labels.pop(name, None)
        self._handler.on_namespace(name, None)


def _labels(body: Mapping[str, Any]) -> Labels:
    return dict(metadata_of(body).get("labels") or {})
