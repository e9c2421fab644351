"""Two policies with a role each, in one account: what becomes of the one's jobs while the other's role is broken."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster, condition
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import QUICK, World
from integration.scenario import SOON, accepted

ACCOUNT = "222222222222"
JOBS = 10
COUNTED_FOR = 3.0
"""Seconds in which polls are counted: six rounds."""
HANGS = 60.0
"""Seconds; the operator waits for STS no longer than three."""


@dataclass
class Team:
    """A namespace with jobs, and the policy that governs it by a role of its own."""

    world: World
    cluster: Cluster
    role: str

    @property
    def policy(self) -> str:
        return self.cluster.namespace

    def govern(self) -> None:
        spec = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.cluster.namespace}},
            "role": {"arn": self.role},
            "jobs": {"queues": ["default"]},
        }
        body = {"apiVersion": "awsbatch.dev/v1alpha1", "kind": "BatchAccessPolicy", "metadata": {"name": self.policy}}
        self.cluster.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(body | {"spec": spec}))

    def fill(self) -> None:
        for number, job_id in enumerate(self.world.batch.seed_many(JOBS, account=ACCOUNT)):
            self.cluster.create(f"job-{number}", job_id)

    def all_running(self) -> None:
        def phases() -> set[str | None]:
            return {body.get("status", {}).get("phase") for body in self.cluster.objects()}

        wait_for(lambda: phases() == {"Running"}, timeout=SOON, what=f"all jobs of {self.policy} are shown", every=0.1)

    def terminate(self, count: int) -> None:
        for number in range(count):
            self.cluster.terminate(f"job-{number}", f"reason {number}")

    def ready(self) -> dict[str, Any]:
        """The policy's condition; {} where it has none yet."""
        body = yaml.safe_load(self.cluster.kubectl("get", "batchaccesspolicy", self.policy, "--output=yaml"))
        return condition(body.get("status", {}), "Ready")

    def polls(self) -> int:
        """Count the polls of single jobs since the record was cleared."""
        calls = self.world.batch.calls("DescribeJobs")
        return sum(len(call["job_ids"]) for call in calls if call["role"] == self.role)

    def ended(self) -> list[dict[str, Any]]:
        return [one for one in self.world.batch.terminate_requests() if one["role"] == self.role]


@pytest.fixture(scope="module")
def aws(world: World) -> Iterator[World]:
    """A Batch with STS beside it, on the control plane that is there."""
    with World(world.control_plane, grace=0.2, roles=True) as aws:
        yield aws


@pytest.fixture
def teams(world: World, aws: World, cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Team, Team, OperatorProcess]]:
    """Two teams with a few jobs each, of which only the first is governed yet, and an operator that requires it."""
    if world.operator.running:
        world.operator.stop()
    with ExitStack() as ends:
        other = cluster.within(f"{cluster.namespace}-broken")
        other.create_namespace()
        for end in (other.close, other.delete_namespace, other.delete_all, aws.sts.clear_trust):
            ends.callback(end)
        healthy, broken = (Team(aws, one, f"arn:aws:iam::{ACCOUNT}:role/{one.namespace}") for one in (cluster, other))
        policies = (healthy.policy, broken.policy)
        ends.callback(cluster.kubectl, "delete", "batchaccesspolicy", "--ignore-not-found", *policies)
        healthy.govern()
        for team in (healthy, broken):
            team.fill()
        flags = (*QUICK, "--access-policy=required", f"--namespace={healthy.policy},{broken.policy}")
        operator = OperatorProcess(aws.environment, tmp_path, flags)
        operator.start()
        ends.callback(operator.stop)
        healthy.all_running()
        yield healthy, broken, operator


def counted(team: Team) -> int:
    """Count the polls of the team's jobs from now on, for some rounds."""
    team.world.batch.clear_calls()
    time.sleep(COUNTED_FOR)
    return team.polls()


def test_polls_of_others_continue_while_sts_hangs_for_a_role(teams: tuple[Team, Team, OperatorProcess]) -> None:
    healthy, broken, _ = teams
    before = counted(healthy)
    broken.world.sts.trust(broken.role, latency=HANGS)
    broken.govern()
    beside = counted(healthy)
    # The machine may be busy, but a role that waited for the other role would have been polled once or twice.
    assert beside >= 0.7 * before
    healthy.terminate(5)
    for number in range(5):
        healthy.cluster.wait_for(f"job-{number}", accepted, timeout=SOON)
    assert broken.polls() == 0
    wait_for(lambda: broken.ready().get("reason") == "AWSUnavailable", timeout=SOON, what="the policy tells of it")
    assert healthy.ready()["reason"] == "InForce"


def test_terminations_of_others_are_accepted_while_those_by_a_hanging_role_wait(
    teams: tuple[Team, Team, OperatorProcess],
) -> None:
    healthy, broken, operator = teams
    broken.govern()
    broken.all_running()
    # Its polls have a valid session; terminations need a separate one for their namespace.
    broken.world.sts.trust(broken.role, latency=HANGS)
    broken.terminate(5)
    healthy.terminate(5)
    for number in range(5):
        healthy.cluster.wait_for(f"job-{number}", accepted, timeout=SOON)
    failures = [line for line in operator.logs() if line["message"] == "AWS request failed"]
    assert failures == [], "all were accepted before the first call with the other role failed"
    assert broken.ended() == []
    broken.world.sts.clear_trust()
    wait_for(lambda: len(broken.ended()) == 5, timeout=SOON, what="the others are accepted once STS answers")
