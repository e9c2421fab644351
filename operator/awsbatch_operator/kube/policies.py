"""The status of BatchAccessPolicies: shown as the engine has it, when it says something new."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from awsbatch_operator.domain.conditions import FALSE, READY, STALLED, TRUE
from awsbatch_operator.domain.job import Millis
from awsbatch_operator.domain.ports import PolicyStanding
from awsbatch_operator.domain.record import Condition, condition, with_conditions
from awsbatch_operator.kube import names
from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.kube.objects import shown_of, version_of
from awsbatch_operator.kube.reflector import Body
from awsbatch_operator.kube.status import count_of, parse_conditions, render_condition

EVERY: Final = 1.0
"""Seconds between two looks at where the policies stand."""
JOBS_EVERY: Final = 10.0
"""Seconds between two writes of one policy that only count its jobs anew: they come and go all the time."""

_LONGEST_PAUSE: Final = 60.0
_MOST_FAILURES: Final = 10
_FIELDS: Final = ("observedGeneration", "namespaces", "jobs", "accountId", "conditions")
"""The fields of `.status` that this version answers for. Others are a newer version's."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Policy:
    """As the watch, or the answer to the last write, shows it. `failures`: writes in a row that were not taken."""

    generation: int
    version: str
    shown: Mapping[str, object]
    counted_at: float = float("-inf")
    not_before: float = float("-inf")
    failures: int = field(default=0)


def _utc_millis() -> Millis:
    return time.time_ns() // 1_000_000


class PolicyStatuses:
    """Listens to the policies' reflector; writes while `acting` says that this process may.

    `standings` by name. A policy that it does not name, or that was not heard of here, is left as it is.
    """

    def __init__(
        self,
        client: KubeClient,
        standings: Callable[[], Mapping[str, PolicyStanding]],
        acting: Callable[[], bool],
        *,
        now: Callable[[], Millis] = _utc_millis,
    ) -> None:
        self._client, self._standings, self._acting, self._now = client, standings, acting, now
        self._known: dict[str, _Policy] = {}
        self._trouble = ""

    def all_are(self, bodies: Mapping[str, Body]) -> None:
        self._known = {name: known for name, known in self._known.items() if name in bodies}
        for name, body in bodies.items():
            self.one_is(name, body)

    def one_is(self, name: str, body: Body | None) -> None:
        if body is None:
            self._known.pop(name, None)
            return
        generation = count_of((body.get("metadata") or {}).get("generation")) or 0
        known = self._known.setdefault(name, _Policy(0, "", {}))
        known.generation, known.version, known.shown = generation, version_of(body), shown_of(body)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if self._acting():
                await self.once()
            await asyncio.sleep(EVERY)

    async def once(self) -> None:
        """Write what differs and is due."""
        loop = asyncio.get_running_loop()
        for name, standing in self._standings().items():
            known = self._known.get(name)
            if known is None or loop.time() < known.not_before:
                continue
            change = difference(standing, known.generation, known.shown, self._now())
            if not change or (change.keys() == {"jobs"} and loop.time() < known.counted_at + JOBS_EVERY):
                continue
            # A call may have taken its time: asked anew before each.
            if not self._acting():
                return
            await self._write(name, known, change)

    async def _write(self, name: str, known: _Policy, change: Mapping[str, object]) -> None:
        loop = asyncio.get_running_loop()
        # The version guards what was decided on: the generation, and the object's identity.
        guarded = {"metadata": {"resourceVersion": known.version}, "status": change}
        try:
            _, body = await self._client.patch(f"{_PATH}/{name}/status", guarded)
        except ApiError as error:
            if error.status != 409:
                known.not_before = loop.time() + min(EVERY * 2.0**known.failures, _LONGEST_PAUSE)
                known.failures = min(known.failures + 1, _MOST_FAILURES)
                self._refused(name, error)
            # Somebody wrote first: the watch will tell.
            return
        known.version, known.shown, known.failures, known.counted_at = version_of(body), shown_of(body), 0, loop.time()
        self._trouble = ""

    def _refused(self, name: str, error: ApiError) -> None:
        remedy = {"remedy": _REMEDY} if error.status == 403 else {}
        # A right that is missing fails each policy alike: said once, until a write goes through again.
        trouble = _REMEDY if error.status == 403 else error.message
        if trouble != self._trouble:
            log.warning("the status of an access policy is not written", policy=name, error=error.message, **remedy)
        self._trouble = trouble


_PATH: Final = f"/apis/{names.API_VERSION}/{names.POLICY_PLURAL}"
_REMEDY: Final = (
    f"grant patch on {names.POLICY_PLURAL}/status (apiGroups: [{names.GROUP}]) by a ClusterRole to the operator's "
    "service account"
)


def difference(
    standing: PolicyStanding, generation: int, shown: Mapping[str, object], now: Millis
) -> dict[str, object]:
    """JSON merge patch that turns the shown `.status` into what it should be; empty when nothing is to be written."""
    wanted: dict[str, Any] = {
        "observedGeneration": generation,
        "namespaces": standing.namespaces,
        # Several operators may watch some namespaces each: the counts of none are those of the policy.
        **({} if standing.jobs is None else {"jobs": standing.jobs}),
        "accountId": standing.account_id,
    }
    conditions = with_conditions(parse_conditions(shown.get("conditions")), _conditions(standing, generation, now))
    wanted["conditions"] = [render_condition(one) for one in conditions]
    return {name: wanted[name] for name in _FIELDS if name in wanted and wanted[name] != shown.get(name)}


def _conditions(standing: PolicyStanding, generation: int, now: Millis) -> Iterator[Condition]:
    ready = standing.ready
    yield condition(READY, ready.status, ready.reason, ready.message, now, generation)
    if ready.status == FALSE:
        yield condition(STALLED, TRUE, ready.reason, ready.message, now, generation)
