"""A BatchTermination is withdrawn, or the operator is disturbed, while thousands of jobs are being terminated."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from awsbatch_operator.api.names import SUSPEND_ANNOTATION
from awsbatch_sandbox.batch.settings import DEFAULT_ACCOUNT
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.bulk import FULL, LONG, NAME, ON_ITS_WAY, Bulk, bulk_of, bulk_on
from integration.replicas import GRACEFUL_TAKEOVER, first_call, two_replicas
from integration.scenario import SOON, phase, says
from integration.teams import FLAGS, IN_TIME, Stage, Team, stage_on
from proxy import Network

JOBS: Final = 2_000
MANY_JOBS: Final = 4_000
SUSPENDED_WITHIN: Final = 5.0
"""Seconds within which a suspension holds."""
STALE: Final = 15.0
"""Seconds for which an operator that is cut off may act on what it knew."""
CUT_OFF: Final = 30.0
LEASE: Final = "bulk"
OF_LEASE: Final = (f"--lease-name={LEASE}", "--lease-namespace=default")

held = says("Reconciling", "True", "TerminationHeld")


@pytest.fixture(scope="module")
def stage(world: World) -> Iterator[Stage]:
    # Several teams begin at the same time.
    with stage_on(world, *OF_LEASE, "--describe-rate=50") as stage:
        yield stage


def slow_terminations(stage: Stage, seconds: float) -> None:
    """Let each call of TerminateJobs take so long; an operator makes four at once for each role."""
    stage.world.batch.fault("TerminateJobs", kind="slow", seconds=seconds, times=None)


def midway(*bulks: Bulk, count: int = JOBS) -> list[list[str]]:
    """The jobs of each, which live on after their termination. Some are terminated by now, and most are not."""
    jobs = [bulk.seed(count, grace=600) for bulk in bulks]
    for bulk in bulks:
        bulk.state()
    for bulk in bulks:
        bulk.counted(count, timeout=LONG)
    for bulk in bulks:
        bulk.terminations.approve(NAME)
    for bulk in bulks:
        wait_for(lambda bulk=bulk: bulk.sent(), timeout=LONG, what="it terminates")  # type: ignore[misc]
    return jobs


# -- what stops it -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stop:
    """`shown`: what the status says afterwards; None: there is no object any more."""

    do: Callable[[Bulk], Any]
    undo: Callable[[Bulk], Any]
    shown: Callable[[dict[str, Any]], bool] | None


STOPS: Final = {
    "withdrawn": Stop(
        lambda bulk: bulk.terminations.approve(NAME, approved=False),
        lambda bulk: bulk.terminations.approve(NAME),
        phase("AwaitingApproval"),
    ),
    "deleted": Stop(lambda bulk: bulk.terminations.delete(NAME), lambda bulk: bulk.state(approved=True), None),
    "policy without Terminate": Stop(
        lambda bulk: bulk.team.policies.edit(bulk.team.name, allow=["Observe", "List"]),
        lambda bulk: bulk.team.policies.edit(bulk.team.name, allow=list(FULL)),
        says("Stalled", "True", "TerminationNotAllowed"),
    ),
    "policy of other queues": Stop(
        lambda bulk: bulk.team.policies.edit(bulk.team.name, jobs={"queues": ["other-*"]}),
        lambda bulk: bulk.team.policies.edit(bulk.team.name, jobs={"queues": [bulk.queue]}),
        says("Stalled", "True", "ListNotAllowed"),
    ),
    "policy deleted": Stop(
        lambda bulk: bulk.team.policies.delete(bulk.team.name), Bulk.grant, says("Stalled", "True", "NoAccessPolicy")
    ),
    "namespace relabelled": Stop(
        lambda bulk: bulk.team.cluster.label_namespace(team=None),
        lambda bulk: bulk.team.cluster.label_namespace(team=bulk.team.name),
        says("Stalled", "True", "NoAccessPolicy"),
    ),
    "policy suspended": Stop(
        lambda bulk: bulk.team.policies.edit(bulk.team.name, suspend=True),
        lambda bulk: bulk.team.policies.edit(bulk.team.name, suspend=None),
        held,
    ),
}


def reported(bulk: Bulk) -> bool:
    reasons = {event["reason"] for event in bulk.team.cluster.events(NAME)}
    return reasons >= {"TerminationWithdrawn", "TerminationAccepted"}


def test_each_stop_prevents_further_requests_and_can_be_undone(stage: Stage) -> None:
    assert stage.operator.running
    with stage.teams(len(STOPS)) as teams, ExitStack() as ends:
        bulks = {name: ends.enter_context(bulk_of(team)) for name, team in zip(STOPS, teams, strict=True)}
        slow_terminations(stage, 0.5)
        for bulk in bulks.values():
            bulk.grant()
        jobs = dict(zip(bulks, midway(*bulks.values()), strict=True))
        stopped: dict[str, float] = {}
        for name, stop in STOPS.items():
            stop.do(bulks[name])
            stopped[name] = time.time()
        for name, stop in STOPS.items():
            if stop.shown is not None:
                bulks[name].wait_for(stop.shown, timeout=LONG)
        for name in ("withdrawn", "deleted"):
            # What was sent is reported once the call that is under way has its answer, or before if a sweep just ended.
            wait_for(partial(reported, bulks[name]), timeout=10, what=f"the Events of what is {name}")
        time.sleep(IN_TIME)
        left = {}
        for name, bulk in bulks.items():
            bulk.assert_quiet_after(stopped[name] + IN_TIME + ON_ITS_WAY)
            left[name] = JOBS - len(bulk.sent())
        print(f"left when it was stopped: {left}")
        assert all(left.values())
        stage.world.batch.clear_faults()
        for name, stop in STOPS.items():
            stop.undo(bulks[name])
        for name, bulk in bulks.items():
            wait_for(lambda bulk=bulk: len(bulk.sent()) == JOBS, timeout=LONG, what=f"the rest after {name}")  # type: ignore[misc]
            bulk.assert_each_once(jobs[name])


def test_the_annotation_of_the_lease_holds_it(stage: Stage) -> None:
    with bulk_on(stage) as bulk, ExitStack() as ends:
        bulk.grant()
        lease = bulk.team.world.cluster
        lease.kubectl("apply", "--filename=-", stdin=MANIFEST)
        ends.callback(lease.kubectl, "annotate", "lease", LEASE, f"{SUSPEND_ANNOTATION}-")
        slow_terminations(stage, 0.5)
        (jobs,) = midway(bulk)
        lease.kubectl("annotate", "lease", LEASE, f"{SUSPEND_ANNOTATION}=INC-4711: wrong jobs")
        suspended = time.time()
        status = bulk.wait_for(held)
        assert "INC-4711: wrong jobs" in next(one["message"] for one in status["conditions"] if one["type"] == "Ready")
        time.sleep(max(0.0, suspended + SUSPENDED_WITHIN + IN_TIME - time.time()))
        bulk.assert_quiet_after(suspended + SUSPENDED_WITHIN)
        assert len(bulk.sent()) < JOBS
        # A call that was under way is reported after the hold.
        wait_for(
            lambda: (
                {"TerminationAccepted", "TerminationHeld"} <= {one["reason"] for one in bulk.team.cluster.events(NAME)}
            ),
            timeout=SOON,
            what="Events of what was accepted and of the hold",
        )
        stage.world.batch.clear_faults()
        lease.kubectl("annotate", "lease", LEASE, f"{SUSPEND_ANNOTATION}-")
        bulk.requested(JOBS)
        bulk.assert_each_once(jobs)


MANIFEST: Final = f"""
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {{name: {LEASE}}}
"""


# -- what disturbs the operator ----------------------------------------------------------------------------------------


def test_killed_and_started_again_it_asks_for_each_job_once(stage: Stage) -> None:
    with bulk_on(stage) as bulk:
        bulk.grant()
        slow_terminations(stage, 0.2)
        (jobs,) = midway(bulk)
        stage.operator.kill9()
        stage.world.operator.start()
        status = bulk.wait_for(lambda status: status.get("matched") == 0, timeout=LONG)
        bulk.assert_each_once(jobs)
        # What the killed process did not write down is not counted: four calls, and those of the second before.
        assert JOBS - 24 * 50 <= status["requested"] <= JOBS


def test_another_replica_goes_on_where_the_first_ended(stage: Stage, tmp_path: Path) -> None:
    stage.pause()
    with stage.teams(1) as (team,):
        own = Team(team.name, DEFAULT_ACCOUNT, team.cluster, team.world, team.policies)
        with bulk_of(own) as bulk, two_replicas(team.world, team.cluster, tmp_path, "--access-policy=required") as pair:
            bulk.grant(role=None)
            slow_terminations(stage, 0.2)
            (jobs,) = midway(bulk)
            began = time.time()
            pair.leader.signal(signal.SIGTERM)
            took = wait_for(lambda: first_call(team.world, "second"), timeout=SOON, what="the other calls") - began
            print(f"the other acted {took:.2f} s after SIGTERM, {len(bulk.sent())} were terminated")
            assert took <= GRACEFUL_TAKEOVER
            wait_for(lambda: len(bulk.sent()) == JOBS, timeout=LONG, what="all are terminated")
            bulk.assert_each_once(jobs)
            pair.assert_one_acted_at_a_time("first", "second")
            assert pair.leader.exit_code == 0


@dataclass(frozen=True)
class Cut:
    """How an operator loses the API server, and how it gets it back; `acts_for`: seconds for which it may act on."""

    begin: Callable[[], Any]
    end: Callable[[], Any]
    acts_for: float


def test_a_withdrawal_during_an_outage_is_respected(stage: Stage, tmp_path: Path) -> None:
    stage.pause()
    with stage.teams(3) as teams, Network() as network, ExitStack() as ends:
        bulks = [ends.enter_context(bulk_of(team)) for team in teams]
        slow_terminations(stage, 1.5)
        cuts = []
        for number, bulk in enumerate(bulks):
            kubeconfig = tmp_path / f"{bulk.team.name}.yaml"
            proxy = network.before(bulk.team.world.control_plane.kubeconfig, kubeconfig)
            operator = _operator(bulk, kubeconfig, tmp_path / bulk.team.name)
            operator.start()
            ends.callback(operator.kill9)
            bulk.grant()
            cuts.append(
                (
                    Cut(lambda p=proxy: network.do(p.refuse()), lambda p=proxy: network.do(p.open()), STALE),  # type: ignore[misc]
                    Cut(lambda p=proxy: network.do(p.hang()), lambda p=proxy: network.do(p.open()), STALE),  # type: ignore[misc]
                    Cut(
                        lambda o=operator: o.signal(signal.SIGSTOP),  # type: ignore[misc]
                        lambda o=operator: o.signal(signal.SIGCONT),  # type: ignore[misc]
                        0.0,
                    ),
                )[number]
            )
        midway(*bulks, count=MANY_JOBS)
        began = time.time()
        for cut in cuts:
            cut.begin()
        for bulk in bulks:
            bulk.terminations.approve(NAME, approved=False)
        withdrawn = time.time()
        time.sleep(CUT_OFF)
        for cut in cuts:
            cut.end()
        for bulk, cut in zip(bulks, cuts, strict=True):
            bulk.wait_for(phase("AwaitingApproval"), timeout=LONG)
            late = [call["at"] - began for call in bulk.calls() if call["at"] > began]
            sent = len(bulk.sent())
            print(f"the last of {len(late)} calls {max(late, default=0):.1f} s after the cut, {sent} were terminated")
            bulk.assert_quiet_after(withdrawn + cut.acts_for + ON_ITS_WAY)
            assert sent < MANY_JOBS
            bulk.wait_for(lambda status: (status["matched"], status["requested"]) == (MANY_JOBS - sent, sent))  # noqa: B023


def _operator(bulk: Bulk, kubeconfig: Path, directory: Path) -> OperatorProcess:
    directory.mkdir()
    environment = bulk.team.world.environment | {"KUBECONFIG": str(kubeconfig)}
    return OperatorProcess(environment, directory, (*FLAGS, *OF_LEASE, f"--namespace={bulk.team.name}"))
