"""Whether an operator finds another one that acts on the same cluster, on an API server."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from awsbatch_operator.kube import credentials
from awsbatch_operator.kube.client import KubeClient
from awsbatch_operator.kube.lease import LeaderElector, Timing
from awsbatch_operator.kube.second_operator import HeldLease, held_leases
from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.world import World

NAME = "its-release"


class Leases:
    """Those of the test's namespace; others' operators may hold one too."""

    def __init__(self, world: World, cluster: Cluster) -> None:
        self._kubeconfig = str(world.control_plane.kubeconfig)
        self._cluster = cluster

    def held(self) -> list[HeldLease]:
        return asyncio.run(self._held())

    def held_after_election(self, identity: str, *, release: bool) -> list[HeldLease]:
        """Those that are held after an operator became leader, and after it released the Lease or crashed."""
        return asyncio.run(self._elect(identity, release=release))

    def create(self, **changes: Any) -> None:
        labels = changes.pop("labels", {"app.kubernetes.io/name": "awsbatch-operator"})
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NAME, "namespace": self._cluster.namespace, "labels": labels},
            "spec": {"holderIdentity": "pod-1", "leaseDurationSeconds": 15, **changes},
        }
        self._cluster.kubectl("create", "--filename=-", stdin=json.dumps(lease))

    def delete(self) -> None:
        self._cluster.kubectl("delete", "lease", NAME, "--ignore-not-found")

    async def _held(self) -> list[HeldLease]:
        async with self._client() as client:
            return [lease for lease in await held_leases(client) if lease.namespace == self._cluster.namespace]

    async def _elect(self, identity: str, *, release: bool) -> list[HeldLease]:
        async with self._client() as client:
            timing = Timing(lease=9, renew_deadline=6, retry=0.2)
            elector = LeaderElector(client, self._cluster.namespace, NAME, identity, timing=timing)
            leads = asyncio.Event()
            run = asyncio.ensure_future(elector.run(_set(leads), lambda: None, lambda: None, lambda _: None))
            async with asyncio.timeout(10):
                await leads.wait()
            run.cancel()
            await asyncio.wait([run])
            if release:
                await elector.release()
        return await self._held()

    def _client(self) -> KubeClient:
        return KubeClient(credentials.Login(self._kubeconfig))


def _set(event: asyncio.Event) -> Any:
    async def lead() -> None:
        event.set()

    return lead


@pytest.fixture
def leases(world: World, cluster: Cluster) -> Iterator[Leases]:
    leases = Leases(world, cluster)
    yield leases
    leases.delete()


def test_the_leader_is_found_by_a_lease_of_any_name(leases: Leases, cluster: Cluster) -> None:
    assert leases.held() == []
    found = leases.held_after_election("pod-1_abcd", release=False)
    assert found == [HeldLease(cluster.namespace, NAME, "pod-1_abcd")]


def test_a_released_lease_is_free(leases: Leases) -> None:
    assert leases.held_after_election("pod-1_abcd", release=True) == []


def test_a_leader_is_found_by_a_lease_that_somebody_else_created(leases: Leases, cluster: Cluster) -> None:
    leases.create(labels={"team": "platform"}, holderIdentity="", leaseDurationSeconds=1)
    found = leases.held_after_election("pod-1_abcd", release=False)
    assert found == [HeldLease(cluster.namespace, NAME, "pod-1_abcd")]


def test_the_lease_of_a_crashed_operator_is_free_once_it_expired(leases: Leases) -> None:
    leases.create(renewTime="2026-01-01T00:00:00.000000Z")
    assert leases.held() == []


def test_other_components_leases_are_none_of_ours(leases: Leases) -> None:
    leases.create(labels={"app.kubernetes.io/name": "another"}, renewTime="2199-01-01T00:00:00.000000Z")
    assert leases.held() == []
