"""The elector on an API server: what it writes is accepted, kept and distinguished as it needs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api import timestamps as times
from awsbatch_operator.kube import credentials
from awsbatch_operator.kube.client import ApiError, KubeClient
from awsbatch_operator.kube.lease import LeaderElector, Timing
from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.world import World

QUICK = Timing(lease=3, renew_deadline=2.4, retry=0.2)
SOON = 10.0


class Electorate:
    """Electors of one Lease, `lock` in the namespace of `cluster`."""

    def __init__(self, client: KubeClient, cluster: Cluster) -> None:
        self.client, self.cluster = client, cluster
        self.path = f"/apis/coordination.k8s.io/v1/namespaces/{cluster.namespace}/leases/lock"

    def elector(self, identity: str) -> LeaderElector:
        return LeaderElector(self.client, self.cluster.namespace, "lock", identity, timing=QUICK)

    @asynccontextmanager
    async def running(self, identity: str) -> AsyncIterator[LeaderElector]:
        """Ends as by a crash: nothing is released."""
        elector = self.elector(identity)
        run = asyncio.ensure_future(elector.run(_nothing, lambda: None, lambda: None, lambda _: None))
        try:
            yield elector
        finally:
            run.cancel()
            await asyncio.wait([run])

    async def record(self) -> dict[str, Any]:
        spec: dict[str, Any] = (await self.client.get(self.path)).body["spec"]
        return spec


async def _nothing() -> None:
    """Leads at once."""


async def eventually(holds: Callable[[], bool | Awaitable[bool]]) -> float:
    """Seconds until then."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(SOON):
        while True:
            answer = holds()
            if answer if isinstance(answer, bool) else await answer:
                return loop.time() - began
            await asyncio.sleep(0.01)


@pytest.fixture
async def electorate(world: World, cluster: Cluster) -> AsyncIterator[Electorate]:
    kubeconfig = str(world.control_plane.kubeconfig)
    async with KubeClient(credentials.Login(kubeconfig)) as client:
        yield Electorate(client, cluster)


async def test_the_api_server_accepts_and_keeps_the_record(electorate: Electorate) -> None:
    async with electorate.running("pod-1") as elector:
        await eventually(lambda: elector.is_leader)
        first = await electorate.record()
        assert {key: first[key] for key in ("holderIdentity", "leaseDurationSeconds", "leaseTransitions")} == {
            "holderIdentity": "pod-1",
            "leaseDurationSeconds": 3,
            "leaseTransitions": 0,
        }
        assert first["acquireTime"].endswith("000Z")
        assert times.parse(first["acquireTime"]) is not None

        async def renewed() -> bool:
            return bool((await electorate.record())["renewTime"] > first["renewTime"])

        await eventually(renewed)
        later = await electorate.record()
        assert later == {**first, "renewTime": later["renewTime"]}
        table = await asyncio.to_thread(electorate.cluster.kubectl, "get", "lease", "lock", "--no-headers")
        assert table.split()[:2] == ["lock", "pod-1"]


async def test_one_of_many_concurrent_replicas_becomes_leader(electorate: Electorate) -> None:
    async with (
        electorate.running("a") as a,
        electorate.running("b") as b,
        electorate.running("c") as c,
    ):
        await eventually(lambda: a.is_leader or b.is_leader or c.is_leader)
        await asyncio.sleep(5 * QUICK.retry)
        assert [a.is_leader, b.is_leader, c.is_leader].count(True) == 1
        assert (await electorate.record())["leaseTransitions"] == 0


async def test_a_released_lease_is_acquired_at_once(electorate: Electorate) -> None:
    async with electorate.running("a") as first:
        await eventually(lambda: first.is_leader)
    await first.release()
    record = await electorate.record()
    assert (record.get("holderIdentity", ""), record["leaseDurationSeconds"]) == ("", 1)
    async with electorate.running("b") as second:
        assert await eventually(lambda: second.is_leader) < QUICK.lease
    record = await electorate.record()
    assert (record["holderIdentity"], record["leaseTransitions"], record["leaseDurationSeconds"]) == ("b", 1, 3)


async def test_after_a_crash_the_lease_is_acquired_once_it_has_expired(electorate: Electorate) -> None:
    async with electorate.running("a") as first:
        await eventually(lambda: first.is_leader)
    async with electorate.running("b") as second:
        assert await eventually(lambda: second.is_leader) >= QUICK.lease
        assert not first.is_leader


async def test_a_replica_that_lost_the_lease_stops_leading(electorate: Electorate) -> None:
    async with electorate.running("a") as elector:
        await eventually(lambda: elector.is_leader)
        rival = '{"spec": {"holderIdentity": "rival", "leaseDurationSeconds": 1}}'
        await asyncio.to_thread(electorate.cluster.kubectl, "patch", "lease", "lock", "--type=merge", "--patch", rival)
        await eventually(lambda: not elector.is_leader)
        await eventually(lambda: elector.is_leader)
        assert (await electorate.record())["leaseTransitions"] == 1


async def test_a_deleted_lease_is_created_again(electorate: Electorate) -> None:
    async with electorate.running("a") as elector:
        await eventually(lambda: elector.is_leader)
        await electorate.client.delete(electorate.path)

        async def there() -> bool:
            try:
                return bool((await electorate.record())["holderIdentity"] == "a")
            except ApiError:
                return False

        await eventually(there)
        await eventually(lambda: elector.is_leader)


async def test_a_missing_namespace_is_reported(electorate: Electorate) -> None:
    elector = LeaderElector(electorate.client, "nowhere", "lock", "a", timing=QUICK)
    await elector.check()
    with capture_logs() as logs:
        run = asyncio.ensure_future(elector.run(_nothing, lambda: None, lambda: None, lambda _: None))
        await eventually(lambda: bool(logs))
        run.cancel()
        await asyncio.wait([run])
    assert [line["error"] for line in logs] == ['namespaces "nowhere" not found']
    assert not elector.is_leader
