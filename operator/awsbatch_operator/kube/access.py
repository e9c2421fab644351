"""BatchAccessPolicies and the labels of namespaces, as the API server has them now: the port `Rulebook` is told."""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from awsbatch_operator.domain.access import Mode
from awsbatch_operator.domain.labels import Labels
from awsbatch_operator.domain.policy import parse_policy
from awsbatch_operator.domain.ports import Rulebook
from awsbatch_operator.kube import names
from awsbatch_operator.kube.client import JSON, METADATA, METADATA_LIST, ApiError, KubeClient
from awsbatch_operator.kube.policies import PolicyStatuses
from awsbatch_operator.kube.preflight import PreflightError, diagnosis, forbidden
from awsbatch_operator.kube.reflector import Body, Reflector
from awsbatch_operator.kube.rights import Right, lacking

POLICIES: Final = f"/apis/{names.API_VERSION}/{names.POLICY_PLURAL}"
NAMESPACES: Final = "/api/v1/namespaces"

_NEEDED: Final = tuple(
    Right(verb, group, plural)
    for group, plural in ((names.GROUP, names.POLICY_PLURAL), ("", "namespaces"))
    for verb in ("list", "watch")
)
_FOR_STATUS: Final = Right("patch", names.GROUP, f"{names.POLICY_PLURAL}/status")

log = structlog.get_logger(__name__)


class AccessRules:
    """Make it on the loop on which it runs; `preflight` once, then `run`.

    What tells the rulebook nothing new is not told: a policy's status, a namespace's annotation. What is being deleted
    is in force until it is gone.
    """

    def __init__(
        self,
        client: KubeClient,
        book: Rulebook,
        statuses: PolicyStatuses,
        mode: Mode,
        *,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._client, self._book, self._mode = client, book, mode
        self._policies = Reflector(
            client,
            POLICIES,
            _Policies(book, statuses),
            # Helm installs definitions but never upgrades to more of them: an upgraded operator may lack this one.
            may_lack=mode is Mode.OPTIONAL,
            on_sight=self._sight,
            jitter=jitter,
        )
        self._namespaces = Reflector(
            client, NAMESPACES, _Namespaces(book), form=(METADATA_LIST, METADATA), on_sight=self._sight, jitter=jitter
        )
        self._told_blind: float | None = None

    async def run(self) -> None:
        """Until cancelled."""
        self._sight()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._policies.run())
            tasks.create_task(self._namespaces.run())

    def _sight(self) -> None:
        blind = [one.blind_since for one in (self._policies, self._namespaces) if one.blind_since is not None]
        since = min(blind, default=None)
        if since != self._told_blind:
            self._told_blind = since
            self._book.blind(since)

    # -- preflight ----------------------------------------------------------------------------------------------------

    async def preflight(self) -> None:
        """Raise PreflightError unless rules can be read; in both modes, for to go on without would be to grant all."""
        try:
            await self._check_rights()
            await self._client.get(NAMESPACES, {"limit": "1"}, METADATA_LIST)
            await self._check_served()
        except ApiError as error:
            raise PreflightError(diagnosis(error, names.POLICY_KIND, names.POLICY_PLURAL)) from error

    async def _check_rights(self) -> None:
        missing = await lacking(self._client, _NEEDED)
        if missing:
            raise PreflightError(
                f"{forbidden(missing)}, with --namespace too: without these rights it can't be known what access "
                "policies forbid"
            )
        if await lacking(self._client, [_FOR_STATUS]):
            log.warning("the status of access policies stays empty, and nothing else", error=forbidden([_FOR_STATUS]))

    async def _check_served(self) -> None:
        try:
            await self._client.get(POLICIES, {"limit": "1"}, JSON)
        except ApiError as error:
            if error.status != 404 or self._mode is Mode.REQUIRED:
                raise
            log.warning("no access policies until then", error=diagnosis(error, names.POLICY_KIND, names.POLICY_PLURAL))
        else:
            self._policies.served = True


class _Policies:
    def __init__(self, book: Rulebook, statuses: PolicyStatuses) -> None:
        self._book, self._statuses = book, statuses
        self._said: dict[str, tuple[object, object]] = {}

    def all_are(self, bodies: Mapping[str, Body]) -> None:
        self._said = {name: _said(body) for name, body in bodies.items()}
        self._statuses.all_are(bodies)
        self._book.policies_are({name: parse_policy(name, body.get("spec")) for name, body in bodies.items()})

    def one_is(self, name: str, body: Body | None) -> None:
        self._statuses.one_is(name, body)
        if body is None:
            self._said.pop(name, None)
            self._book.policy_is(name, None)
        elif (said := _said(body)) != self._said.get(name):
            self._said[name] = said
            self._book.policy_is(name, parse_policy(name, body.get("spec")))


def _said(body: Mapping[str, Any]) -> tuple[object, object]:
    """What must differ for a policy to be told anew."""
    return (body.get("metadata") or {}).get("generation"), body.get("spec")


class _Namespaces:
    def __init__(self, book: Rulebook) -> None:
        self._book = book
        self._labels: dict[str, Labels] = {}

    def all_are(self, bodies: Mapping[str, Body]) -> None:
        self._labels = {name: _labels(body) for name, body in bodies.items()}
        self._book.namespaces_are(dict(self._labels))

    def one_is(self, name: str, body: Body | None) -> None:
        if body is None:
            self._labels.pop(name, None)
            self._book.namespace_is(name, None)
        elif (labels := _labels(body)) != self._labels.get(name):
            self._labels[name] = labels
            self._book.namespace_is(name, labels)


def _labels(body: Mapping[str, Any]) -> Labels:
    return dict((body.get("metadata") or {}).get("labels") or {})
