"""Writes the status of BatchAccessPolicies when it has changed."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from awsbatch_operator.api import names
from awsbatch_operator.api.access_policy import BatchAccessPolicyStatus
from awsbatch_operator.api.batchjob import Condition, condition, with_conditions
from awsbatch_operator.api.codec import changes, decode
from awsbatch_operator.api.conditions import FALSE, READY, STALLED, TRUE
from awsbatch_operator.api.decoding import parse_metadata, raw_status_of, resource_version_of
from awsbatch_operator.api.interfaces import PolicyStatus
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.kube.reflector import Body
from awsbatch_operator.workqueue.backoff import backoff
from awsbatch_operator.workqueue.log_once import LogOnce

INTERVAL: Final = 1.0
"""Seconds between two comparisons of the statuses."""
JOBS_INTERVAL: Final = 10.0
"""Seconds between two writes of one policy that change only its number of jobs: it changes all the time."""

_LONGEST_PAUSE: Final = 60.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Policy:
    """A policy as the watch, or the answer to the last write, shows it. `failures`: failed writes in a row."""

    generation: int
    resource_version: str
    shown: Mapping[str, object]
    counted_at: float = float("-inf")
    not_before: float = float("-inf")
    failures: int = 0


def _utc_millis() -> Millis:
    return time.time_ns() // 1_000_000


class PolicyStatusWriter:
    """Receives the policies from their reflector (a `ResourceHandler`); writes while `is_leader` returns True.

    `policy_statuses` returns the wanted statuses by name. A policy that it does not name, or that the reflector did not
    show, is not written.
    """

    def __init__(
        self,
        client: KubeClient,
        policy_statuses: Callable[[], Mapping[str, PolicyStatus]],
        is_leader: Callable[[], bool],
        *,
        now: Callable[[], Millis] = _utc_millis,
    ) -> None:
        self._client, self._policy_statuses, self._is_leader, self._now = client, policy_statuses, is_leader, now
        self._policies: dict[str, _Policy] = {}
        self._problem = LogOnce()

    def on_relist(self, bodies: Mapping[str, Body]) -> None:
        self._policies = {name: policy for name, policy in self._policies.items() if name in bodies}
        for name, body in bodies.items():
            self.on_upsert(name, body)

    def on_upsert(self, name: str, body: Body) -> None:
        policy = self._policies.setdefault(name, _Policy(0, "", {}))
        metadata = parse_metadata(body)
        policy.generation, policy.resource_version = metadata.generation, metadata.resource_version
        policy.shown = raw_status_of(body)

    def on_delete(self, name: str) -> None:
        self._policies.pop(name, None)

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            if self._is_leader():
                await self.write_due()
            await asyncio.sleep(INTERVAL)

    async def write_due(self) -> None:
        """Write the statuses that differ and are due."""
        loop = asyncio.get_running_loop()
        for name, wanted in self._policy_statuses().items():
            policy = self._policies.get(name)
            if policy is None or loop.time() < policy.not_before:
                continue
            change = difference(wanted, policy.generation, policy.shown, self._now())
            if not change or (change.keys() == {"jobs"} and loop.time() < policy.counted_at + JOBS_INTERVAL):
                continue
            # The previous call may have been slow: check again before each.
            if not self._is_leader():
                return
            await self._write(name, policy, change)

    async def _write(self, name: str, policy: _Policy, change: Mapping[str, object]) -> None:
        loop = asyncio.get_running_loop()
        # The version guards what the change rests on: the generation, and the object's identity.
        guarded = {"metadata": {"resourceVersion": policy.resource_version}, "status": change}
        try:
            _, body = await self._client.patch(f"{_PATH}/{name}/status", guarded)
        except ApiError as error:
            # After a conflict the watch delivers the newer version.
            if error.status != 409:
                policy.failures += 1
                policy.not_before = loop.time() + backoff(policy.failures, INTERVAL, _LONGEST_PAUSE)
                self._log_failure(name, error)
            return
        policy.resource_version, policy.shown = resource_version_of(body), raw_status_of(body)
        policy.failures, policy.counted_at = 0, loop.time()
        self._problem.report("")

    def _log_failure(self, name: str, error: ApiError) -> None:
        # A missing permission fails every policy alike: one line until a write succeeds again.
        remedy = {"remedy": _REMEDY} if error.status == 403 else {}
        if self._problem.report(remedy.get("remedy", error.message)):
            log.warning("policy status update failed; retrying", policy=name, error=error.message, **remedy)


_PATH: Final = f"/apis/{names.API_VERSION}/{names.POLICY_PLURAL}"
_REMEDY: Final = (
    f"grant patch on {names.POLICY_PLURAL}/status (apiGroups: [{names.GROUP}]) by a ClusterRole to the operator's "
    "service account"
)


def difference(wanted: PolicyStatus, generation: int, shown: Mapping[str, object], now: Millis) -> dict[str, object]:
    """Return the JSON merge patch from the shown `.status` to the wanted one; {} if there is nothing to write."""
    before = decode(shown, BatchAccessPolicyStatus) or BatchAccessPolicyStatus()
    status = BatchAccessPolicyStatus(
        observed_generation=generation,
        namespaces=wanted.namespaces,
        # Several operators may watch some namespaces each: none of them can count the jobs of the policy.
        jobs=before.jobs if wanted.jobs is None else wanted.jobs,
        account_id=wanted.account_id,
        conditions=with_conditions(before.conditions, _conditions(wanted, generation, now)),
    )
    return changes(status, shown)


def _conditions(wanted: PolicyStatus, generation: int, now: Millis) -> Iterator[Condition]:
    ready = wanted.ready
    yield condition(READY, ready.status, ready.reason, now, ready.message, generation)
    if ready.status == FALSE:
        yield condition(STALLED, TRUE, ready.reason, now, ready.message, generation)
