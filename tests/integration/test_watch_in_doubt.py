"""The watch of BatchJobs says nothing, or the API server was restored: lists find what it misses, and readyz tells.

Each case has a namespace and an operator of its own, and all wait at the same time: the list that finds it comes once
a minute.
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
from integration.scenario import SOON, accepted, phase, reasons_sent

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

    def left(self) -> float:
        """Seconds of the time that it has."""
        return max(self.stated_at + RESYNCED_WITHIN - time.monotonic(), 1.0)


@pytest.fixture(scope="module")
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
        restored.wait_for("job", lambda status: status.get("observedGeneration"), timeout=SOON)
        for name, fault in WATCHES.items():
            path = f"/namespaces/watch-{name}/batchjobs$"
            plane.order("fault", method="GET", path_regex=path, query_regex="watch=", times=FOREVER, **fault)
        # It ends the watches too; they begin anew under the faults.
        plane.order("restore")
        time.sleep(2)
        stated_at = time.monotonic()
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


@pytest.mark.parametrize("name", WATCHES)
def test_a_list_finds_a_termination_that_the_watch_does_not_show(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    wait_for(lambda: reasons_sent(case.world, case.job_id), timeout=case.left(), what="TerminateJob", every=0.2)
    case.cluster.wait_for("job", accepted, timeout=SOON)


@pytest.mark.parametrize("name", WATCHES)
def test_readyz_fails_while_the_watch_delivers_nothing(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    wait_for(lambda: case.operator.get("/readyz")[0] == 503, timeout=case.left(), what="readyz fails", every=0.2)
    assert case.operator.get("/livez")[0] == 200


def test_after_a_restore_of_etcd_the_cache_follows_the_list(cases: dict[str, Case]) -> None:
    case = cases["restored"]
    wait_for(lambda: reasons_sent(case.world, case.job_id), timeout=case.left(), what="TerminateJob", every=0.2)
    case.cluster.wait_for("job", accepted, timeout=SOON)
