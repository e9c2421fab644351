"""Before an uninstallation the operator is stopped: its Deployment scaled to 0, its Lease free."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from awsbatch_operator.kube.client import ApiError
from awsbatch_operator.kube.stop_operator import NotStoppedError, stop_operator
from unit.kube.scripted_client import Reply, ScriptedClient, not_found

pytestmark = pytest.mark.looptime

SCALE = "/apis/apps/v1/namespaces/ns/deployments/op/scale"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/lock"
FREE: Reply = {"spec": {"holderIdentity": "", "leaseDurationSeconds": 15}}
FORBIDDEN = ApiError(403, "cannot patch")


def held(renewed: int = 0) -> Reply:
    return {"spec": {"holderIdentity": "pod-1", "leaseDurationSeconds": 15, "renewTime": str(renewed)}}


class Cluster(ScriptedClient):
    """`scaled` and `lease` are the answers now."""

    def __init__(self, lease: Reply) -> None:
        super().__init__(self._answer)
        self.lease = lease
        self.scaled: Reply = {}

    def _answer(self, verb: str, path: str, _: Mapping[str, Any]) -> Reply:
        assert (verb, path) in {("patch", SCALE), ("get", LEASE)}
        return self.scaled if verb == "patch" else self.lease

    async def stop(self, within: float = 60) -> float:
        """Seconds that it took."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await stop_operator(self, "ns", "op", "lock", within)
        return loop.time() - begin

    def change(self, after: float, **values: Reply) -> None:
        asyncio.get_running_loop().call_later(after, lambda: vars(self).update(values))


@pytest.mark.parametrize("lease", [FREE, not_found("lock"), {"metadata": {}}], ids=["released", "none", "empty"])
async def test_it_scales_the_deployment_to_0_and_waits_until_the_lease_was_free_for_5_s(lease: Reply) -> None:
    cluster = Cluster(lease)
    assert await cluster.stop() == 5
    assert cluster.calls[0] == ("patch", SCALE, {"spec": {"replicas": 0}})
    assert cluster.verbs.count("patch") == 1


async def test_a_replica_that_takes_the_lease_meanwhile_is_waited_for() -> None:
    cluster = Cluster(FREE)
    cluster.change(2.5, lease=held())
    cluster.change(8.5, lease=FREE)
    assert await cluster.stop() == 9 + 5


async def test_a_lease_whose_holder_died_is_free_when_it_was_not_renewed_for_its_duration() -> None:
    cluster = Cluster(held())
    cluster.change(9.5, lease=held(renewed=1))
    assert await cluster.stop() == 10 + 15


async def test_a_holder_that_goes_on_renewing_is_reported() -> None:
    cluster = Cluster(held())
    for second in range(60):
        cluster.change(second + 0.5, lease=held(renewed=second))
    with pytest.raises(NotStoppedError, match=r"did not stop within 60 s: the Lease ns/lock is held"):
        await cluster.stop()


async def test_failed_calls_are_repeated() -> None:
    cluster = Cluster(ApiError(500, "broken"))
    cluster.scaled = ApiError(503, "busy")
    cluster.change(3.5, scaled={})
    cluster.change(6.5, lease=FREE)
    assert await cluster.stop() == 7 + 5


async def test_a_deployment_that_does_not_exist_needs_no_scaling() -> None:
    cluster = Cluster(FREE)
    cluster.scaled = not_found("op")
    assert await cluster.stop() == 5


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"scaled": FORBIDDEN}, "the Deployment ns/op cannot be scaled to 0: cannot patch"),
        ({"lease": FORBIDDEN}, "the Lease ns/lock is held, or cannot be read: cannot patch"),
    ],
)
async def test_a_missing_permission_is_reported_at_once(answers: dict[str, Reply], message: str) -> None:
    cluster = Cluster(FREE)
    vars(cluster).update(answers)
    with pytest.raises(NotStoppedError, match=message):
        await cluster.stop()
    assert asyncio.get_running_loop().time() < 1
