"""The operator dies, is asked to stop, or loses the API server or its watch: no termination is lost or doubled.

The watch of BatchJobs says nothing, or the API server was restored: lists find what it misses, and readyz tells. Each
of these cases has a namespace and an operator of its own, and all wait while the other tests run: the list that finds
it comes once a minute.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.controlplane import Embedded
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.competing import FOREVER
from integration.scenario import SOON, accepted, phase, reasons_sent, says, terminations_tried

REASON = "INC-4711: runaway cost"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")
RESYNCED_WITHIN = 90.0
"""Seconds: 60 between two lists, ten for the watch to catch up, and the rest for a busy machine."""
WATCHES: Mapping[str, Mapping[str, Any]] = {
    "refused": {"status": 403},
    "hanging": {"seconds": 3600},
    "silent": {"silent": True},
}
FLAGS = ("--poll-running=2s", "--poll-pending=2s")


@dataclass(frozen=True)
class Case:
    """One operator for one namespace with a job whose termination was stated while its watch said nothing."""

    world: World
    cluster: Cluster
    operator: OperatorProcess
    job_id: str
    stated_at: float
    """Epoch seconds."""

    def left(self) -> float:
        """Seconds of the time that it has."""
        return max(self.stated_at + RESYNCED_WITHIN - time.time(), 1.0)

    def assert_sent_in_time(self) -> None:
        wait_for(lambda: reasons_sent(self.world, self.job_id), timeout=self.left(), what="TerminateJob", every=0.2)
        (sent,) = (one for one in self.world.batch.terminate_requests() if one["job_id"] == self.job_id)
        assert sent["at"] - self.stated_at < RESYNCED_WITHIN
        self.cluster.wait_for("job", accepted, timeout=SOON)


@pytest.fixture(scope="module", autouse=True)
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    with World("embedded", grace=60.0) as world, ExitStack() as ends:
        plane = world.control_plane
        assert isinstance(plane, Embedded)
        started = {
            name: start(world, ends, f"watch-{name}", tmp_path_factory.mktemp(name)) for name in ("restored", *WATCHES)
        }
        job_ids = {name: observed(world, cluster) for name, (cluster, _) in started.items()}
        plane.order("snapshot")
        restored, _ = started["restored"]
        for number in range(50):
            restored.patch("job", {"metadata": {"annotations": {"example.com/edit": str(number)}}})
        # The operator knows them all once it shows an edit that came after them.
        restored.patch("job", {"spec": {"deadline": {"reason": "too long", "running": "8h"}}})
        restored.wait_for("job", lambda status: "deadline" in status, timeout=SOON)
        for name, fault in WATCHES.items():
            path = f"/namespaces/watch-{name}/batchjobs$"
            plane.order("fault", method="GET", path_regex=path, query_regex="watch=", times=FOREVER, **fault)
        # It ends the watches too; they begin anew under the faults.
        plane.order("restore")
        time.sleep(2)
        stated_at = time.time()
        for cluster, _ in started.values():
            cluster.terminate("job", "stated unseen")
        yield {
            name: Case(world, cluster, operator, job_ids[name], stated_at)
            for name, (cluster, operator) in started.items()
        }


def start(world: World, ends: ExitStack, namespace: str, directory: Path) -> tuple[Cluster, OperatorProcess]:
    cluster = world.cluster.within(namespace)
    ends.callback(cluster.close)
    cluster.create_namespace()
    operator = OperatorProcess(world.environment, directory, (f"--namespace={namespace}", "--no-leader-elect", *FLAGS))
    operator.start()
    ends.callback(operator.kill9)
    return cluster, operator


def observed(world: World, cluster: Cluster) -> str:
    job_id = world.batch.seed()
    cluster.create("job", job_id)
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    return job_id


@pytest.fixture(autouse=True)
def _outages_are_possible(request: pytest.FixtureRequest, world: World) -> None:
    if "away" in request.node.name and not world.control_plane.can_go_away:
        pytest.skip("this control plane belongs to others")


@pytest.mark.parametrize("grace", [0.0, 3.5], ids=["ended meanwhile", "still alive"])
def test_killed_while_the_api_server_is_away_between_call_and_status_write(
    world: World, cluster: Cluster, operator: OperatorProcess, grace: float
) -> None:
    job_id = world.batch.seed(grace=grace)
    cluster.create("job", job_id)
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    world.batch.fault("TerminateJob", kind="slow", seconds=0.6)
    cluster.terminate("job", REASON)
    wait_for(lambda: terminations_tried(world), timeout=SOON, what="the call is under way")
    with world.api_server_away(1.0):
        wait_for(lambda: reasons_sent(world, job_id), timeout=SOON, what="Batch accepts")
        operator.kill9()
    assert not accepted(cluster.get("job")["status"])
    operator.start()
    status = cluster.wait_for("job", BY_REQUEST, timeout=SOON)["status"]
    assert status["statusReason"] == REASON
    assert reasons_sent(world, job_id) == [REASON]
    assert len(terminations_tried(world)) == 1


def test_killed_after_the_status_write_it_follows_the_job_to_its_end(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    job_id = world.batch.seed(grace=2.0)
    cluster.create("job", job_id, terminate={"reason": REASON})
    reported = cluster.wait_for("job", accepted, timeout=SOON)["status"]["termination"]
    operator.kill9()
    operator.start()
    termination = cluster.wait_for("job", BY_REQUEST, timeout=SOON)["status"]["termination"]
    assert {key: termination[key] for key in reported} == reported
    assert reasons_sent(world, job_id) == [REASON]


def test_a_termination_stated_while_no_operator_runs_is_not_lost(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    job_id = world.batch.seed()
    cluster.create("job", job_id)
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    operator.kill9()
    cluster.terminate("job", REASON)
    operator.start()
    cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, job_id) == [REASON]


def test_a_termination_completes_although_the_api_server_is_unavailable_for_20_seconds(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    requested, moved = world.batch.seed(grace=3.0), world.batch.seed(status="RUNNABLE")
    cluster.create("asked", requested)
    cluster.create("moved", moved)
    cluster.wait_for("moved", phase("Pending"), timeout=SOON)
    cluster.wait_for("asked", phase("Running"), timeout=SOON)
    world.batch.fault("TerminateJob", kind="slow", seconds=1.0)
    cluster.terminate("asked", REASON)
    wait_for(lambda: terminations_tried(world), timeout=SOON, what="the call is under way")
    pid = operator.pid
    with world.api_server_away(20.0):
        world.batch.move(moved, "RUNNING")
        wait_for(lambda: world.batch.job(requested)["status"] == "FAILED", timeout=SOON, what="the job ends meanwhile")
    cluster.wait_for("asked", BY_REQUEST, timeout=SOON)
    cluster.wait_for("moved", phase("Running"), timeout=SOON)
    cluster.terminate("moved", "after the outage")
    cluster.wait_for("moved", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, requested) == [REASON]
    assert reasons_sent(world, moved) == ["after the outage"]
    assert operator.pid == pid
    assert operator.running


def test_sigterm_finishes_the_call_in_flight_and_its_write_and_exits_0_within_10_s(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    job_id = world.batch.seed(grace=30.0)
    cluster.create("job", job_id)
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    world.batch.fault("TerminateJob", kind="slow", seconds=2.0)
    cluster.terminate("job", REASON)
    wait_for(lambda: terminations_tried(world), timeout=SOON, what="the call is under way")
    began = time.monotonic()
    assert operator.stop() == 0
    assert time.monotonic() - began < 10
    assert accepted(cluster.get("job")["status"])
    assert reasons_sent(world, job_id) == [REASON]


def test_sigterm_ends_it_within_10_s_although_nothing_answers(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    world.batch.fault("DescribeJobs", kind="slow", seconds=30, times=None)
    polls = len(world.batch.calls("DescribeJobs"))
    cluster.create("job", world.batch.seed())
    wait_for(lambda: len(world.batch.calls("DescribeJobs")) > polls, timeout=SOON, what="a poll that hangs")
    began = time.monotonic()
    assert operator.stop() == 0
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", WATCHES)
def test_a_list_finds_a_termination_that_the_watch_does_not_show(cases: dict[str, Case], name: str) -> None:
    cases[name].assert_sent_in_time()


@pytest.mark.parametrize("name", WATCHES)
def test_readyz_fails_while_the_watch_delivers_nothing(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    wait_for(lambda: case.operator.get("/readyz")[0] == 503, timeout=case.left(), what="readyz fails", every=0.2)
    assert case.operator.get("/livez")[0] == 200


def test_after_a_restore_of_etcd_the_cache_follows_the_list(cases: dict[str, Case]) -> None:
    cases["restored"].assert_sent_in_time()
