"""Two replicas, of which the holder of the Lease acts: what the one leaves undone the other does, and nothing twice."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import OperatorProcess, operator_environment
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, phase, reasons_sent, says, terminations_tried

REASON = "INC-4711: runaway cost"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")
CRASH_TAKEOVER = 20.0
"""Seconds: 15 of the Lease, 2 of a retry, and those of a busy machine. The command line sets none of them."""
GRACEFUL_TAKEOVER = 3.0


class Replica(OperatorProcess):
    def leads(self) -> bool:
        return self.total("leader") == 1

    def total(self, metric: str) -> float:
        return sum(value for _, value in self.metrics().get(f"awsbatch_operator_{metric}", []))

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> None:
        if self.running:
            self.kill9()


@pytest.fixture
def replicas(world: World, cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Replica, Replica]]:
    """The leader and the follower, both ready, for the test's own namespace. The operator of the others rests."""
    if world.operator.running:
        world.operator.stop()
    flags = (
        *(f"--namespace={cluster.namespace}", "--leader-elect", f"--lease-namespace={cluster.namespace}"),
        *("--look-running=500ms", "--look-pending=500ms"),
    )
    environment = operator_environment(world.control_plane.kubeconfig, world.cache, world.batch.url)
    with ExitStack() as ends:
        pair = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            replica = Replica(environment, tmp_path / name, flags)
            replica.launch()
            ends.callback(replica.end)
            replica.wait_ready()
            pair.append(replica)
            wait_for(pair[0].leads, timeout=SOON, what="the first replica leads")
        leader, follower = pair
        assert not follower.leads()
        yield leader, follower


def running_job(world: World, cluster: Cluster, name: str, **job: object) -> str:
    job_id = world.batch.seed(**job)
    cluster.create(name, job_id)
    cluster.wait_for(name, phase("Running"), timeout=SOON)
    return job_id


def test_only_the_leader_acts(world: World, cluster: Cluster, replicas: tuple[Replica, Replica]) -> None:
    leader, follower = replicas
    job_id = running_job(world, cluster, "job")
    cluster.terminate("job", REASON)
    cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, job_id) == [REASON]
    assert (leader.leads(), follower.leads()) == (True, False)
    for metric in ("status_writes_total", "aws_requests_total"):
        assert leader.total(metric) > 0
        assert follower.total(metric) == 0


def test_after_sigterm_the_other_leads_within_3_seconds(
    world: World, cluster: Cluster, replicas: tuple[Replica, Replica]
) -> None:
    leader, follower = replicas
    meanwhile, later = (running_job(world, cluster, name) for name in ("meanwhile", "later"))
    began = time.monotonic()
    leader.signal(signal.SIGTERM)
    cluster.terminate("meanwhile", REASON)
    wait_for(follower.leads, timeout=SOON, what="the other leads")
    took = time.monotonic() - began
    print(f"the other led {took:.2f} s after SIGTERM")
    assert took <= GRACEFUL_TAKEOVER
    cluster.terminate("later", REASON)
    for name, job_id in (("meanwhile", meanwhile), ("later", later)):
        cluster.wait_for(name, BY_REQUEST, timeout=SOON)
        assert reasons_sent(world, job_id) == [REASON]
    assert leader.stop() == 0


# The two below take the 17 seconds for which the Lease outlives its holder.


def test_after_kill_9_the_other_ends_a_newly_patched_job_within_20_seconds(
    world: World, cluster: Cluster, replicas: tuple[Replica, Replica]
) -> None:
    leader, follower = replicas
    job_id = running_job(world, cluster, "job")
    leader.kill9()
    began = time.monotonic()
    cluster.terminate("job", REASON)
    wait_for(lambda: reasons_sent(world, job_id), timeout=CRASH_TAKEOVER, what="the other sends TerminateJob")
    print(f"TerminateJob came {time.monotonic() - began:.1f} s after kill -9")
    cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, job_id) == [REASON]
    assert follower.leads()


def test_a_leader_that_was_frozen_for_longer_than_its_lease_wakes_up_as_a_follower(
    world: World, cluster: Cluster, replicas: tuple[Replica, Replica]
) -> None:
    leader, follower = replicas
    job_id = running_job(world, cluster, "job", stuck=True)
    leader.signal(signal.SIGSTOP)
    # What the frozen one finds when it wakes up: a termination that, for all it knows, is its own to send.
    cluster.terminate("job", REASON)
    wait_for(lambda: reasons_sent(world, job_id), timeout=CRASH_TAKEOVER, what="the other sends TerminateJob")
    leader.signal(signal.SIGCONT)
    wait_for(lambda: not leader.leads(), timeout=SOON, what="the frozen one follows")
    leader.wait_ready()
    assert follower.leads()
    assert len(terminations_tried(world)) == 1
