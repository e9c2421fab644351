"""An API server that accepts connections and never answers, for longer than the leader may go without renewing."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.replicas import (
    CRASH_TAKEOVER,
    FENCED_AFTER,
    ON_ITS_WAY,
    Pair,
    calls_between,
    first_call,
    running_jobs,
    two_replicas,
)
from integration.scenario import SOON, reasons_sent, says, terminations_tried
from proxy import Network

REASON = "INC-4711: runaway cost"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")


@pytest.fixture(autouse=True)
def _hangs_are_possible(world: World) -> None:
    if not world.control_plane.can_go_away:
        pytest.skip("this control plane belongs to others")


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def owed(world: World, cluster: Cluster, jobs: Mapping[str, str]) -> None:
    """Terminations that Batch does not take for now: whoever acts goes on trying."""
    for operation in ("TerminateJob", "TerminateJobs"):
        world.batch.fault(operation, kind="empty_503", times=None)
    for name in jobs:
        cluster.terminate(name, REASON)
    wait_for(lambda: terminations_tried(world), timeout=SOON, what="the leader tries")


def assert_each_was_sent_once(world: World, cluster: Cluster, jobs: Mapping[str, str]) -> None:
    for name, job_id in jobs.items():
        cluster.wait_for(name, BY_REQUEST, timeout=SOON)
        assert reasons_sent(world, job_id) == [REASON]


def test_during_a_hang_no_replica_acts_longer_than_the_renew_deadline(
    world: World, cluster: Cluster, pair: Pair
) -> None:
    jobs = running_jobs(world, cluster, 10)
    *before, late = jobs
    owed(world, cluster, {name: jobs[name] for name in before})
    with ThreadPoolExecutor(1) as somebody:
        with world.control_plane.hanging():
            hung_at = time.time()
            stated = somebody.submit(cluster.terminate, late, REASON)
            time.sleep(FENCED_AFTER + ON_ITS_WAY)
            # From here on Batch would take each.
            world.batch.clear_faults()
            time.sleep(2)
        resumed_at = time.time()
        stated.result(SOON)
    assert_each_was_sent_once(world, cluster, jobs)
    last = max(call["at"] for call in world.batch.calls() if call["at"] < resumed_at)
    print(f"the last call came {last - hung_at:.1f} s after the hang began")
    assert FENCED_AFTER / 2 < last - hung_at < FENCED_AFTER + ON_ITS_WAY
    after = {str(call["access_key"]) for call in calls_between(world, resumed_at, time.time())}
    assert len(after) == 1
    pair.assert_one_acted_at_a_time(*dict.fromkeys(("first", *after)))


def test_when_only_the_leaders_connection_hangs_the_other_takes_over_and_never_do_both_act(
    world: World, cluster: Cluster, tmp_path: Path, network: Network
) -> None:
    proxy = network.before(world.control_plane.kubeconfig, tmp_path / "proxied")
    with two_replicas(world, cluster, tmp_path, leaders_kubeconfig=tmp_path / "proxied") as pair:
        jobs = running_jobs(world, cluster, 10)
        *before, late = jobs
        owed(world, cluster, {name: jobs[name] for name in before})
        with network.hanging(proxy):
            hung_at = time.time()
            cluster.terminate(late, REASON)
            taken_over_at = wait_for(
                lambda: first_call(world, "second"), timeout=CRASH_TAKEOVER, what="the other calls AWS"
            )
            world.batch.clear_faults()
            assert_each_was_sent_once(world, cluster, jobs)
        pair.leader.wait_ready()
        assert not pair.leader.is_leader()
        (later,) = running_jobs(world, cluster, 1, prefix="later").items()
        cluster.terminate(later[0], REASON)
        assert_each_was_sent_once(world, cluster, dict([later]))
        fenced, other = pair.assert_one_acted_at_a_time("first", "second")
        print(f"fenced {fenced.ended - hung_at:.1f} s, taken over {taken_over_at - hung_at:.1f} s after the hang began")
        assert fenced.ended - hung_at < FENCED_AFTER + ON_ITS_WAY
        assert other.began - hung_at < CRASH_TAKEOVER
