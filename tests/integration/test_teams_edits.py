"""Policies, labels and tags change under way: what is not granted any more is neither done nor shown."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from integration.scenario import SOON, claim, phase, reasons_sent, says
from integration.teams import FLAGS, Stage, Status, Team

REASON = "INC-4711: runaway cost"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")
MIRRORED = {*("jobName", "jobArn", "jobQueue", "jobDefinition", "jobStatus", "createdAt", "startedAt", "access")}


def test_tightening_a_policy_stops_terminations_that_wait_for_throttling(stage: Stage) -> None:
    assert stage.operator.running
    edits: list[tuple[Callable[[Team], None], tuple[str, str]]] = [
        (lambda team: team.policies.edit(team.name, allow=["Observe"]), ("Running", "TerminationNotAllowed")),
        (lambda team: team.policies.edit(team.name, jobs={"queues": ["other-*"]}), ("Denied", "JobNotAllowed")),
        (lambda team: team.policies.edit(team.name, jobs={"tags": {"cleared": "yes"}}), ("Denied", "JobNotAllowed")),
        (lambda team: team.policies.delete(team.name), ("Denied", "NoAccessPolicy")),
    ]
    with stage.teams(len(edits) + 1) as teams:
        *tightened, untouched = teams
        jobs = []
        for team in teams:
            team.grant()
            jobs.append(team.job("job"))
            team.cluster.wait_for("job", phase("Running"), timeout=SOON)
        stage.world.batch.fault("TerminateJob", kind="throttle_429", times=None)
        for team in teams:
            team.cluster.terminate("job", REASON)
        for team in teams:
            wait_for(lambda team=team: team.calls(ending=True), timeout=SOON, what="a call that is throttled")  # type: ignore[misc]
        for team, (edit, (reported, reason)) in zip(tightened, edits, strict=True):
            edit(team)
            status = team.soon("job", says("Terminated", "False", reason))
            assert (status["phase"], MIRRORED & set(status) == set()) == (reported, reported == "Denied")
        tried = [len(team.calls(ending=True)) for team in tightened]
        stage.world.batch.clear_faults()
        untouched.cluster.wait_for("job", BY_REQUEST, timeout=SOON)
        assert [len(team.calls(ending=True)) for team in tightened] == tried
        assert [reasons_sent(stage.world, job_id) for job_id in jobs] == [[]] * len(tightened) + [[REASON]]


def test_a_tag_removed_since_an_old_poll_is_noticed_before_a_termination(stage: Stage, tmp_path: Path) -> None:
    stage.pause()
    flags = [flag for flag in FLAGS if not flag.startswith("--poll")]
    program = (sys.executable, Path(__file__).with_name("clocked.py"))
    operator = OperatorProcess(stage.world.environment, tmp_path, [*flags, "--poll-running=1h"], program)
    with stage.teams(1) as (team,):
        team.grant()
        jobs = {name: team.job(name) for name in ("kept", "removed")}
        operator.start()
        try:
            for name in jobs:
                team.cluster.wait_for(name, phase("Running"), timeout=SOON)
            team.untag(jobs["removed"], "k8s-namespace")
            operator.signal(signal.SIGUSR1)
            before = team.latest()
            for name in jobs:
                team.cluster.terminate(name, REASON)
            team.cluster.wait_for("kept", BY_REQUEST, timeout=SOON)
            status = team.cluster.wait_for("removed", says("Terminated", "False", "JobNotAllowed"), timeout=SOON)
        finally:
            operator.stop()
        calls = team.calls(before)
        assert calls[0]["operation"] == "DescribeJobs"
        assert [call["job_ids"] for call in calls if call["operation"].startswith("Terminate")] == [[jobs["kept"]]]
        assert not MIRRORED & set(status["status"])


def test_a_tag_removed_since_a_recent_poll_is_denied_by_the_role(stage: Stage, teams: list[Team]) -> None:
    team = teams[0]
    stage.world.batch.deny("TerminateJob", job_tag="k8s-namespace", principal_tag="kubernetes-namespace")
    team.grant()
    job_id = team.job("job")
    team.cluster.wait_for("job", phase("Running"), timeout=SOON)
    stage.world.batch.fault("DescribeJobs", kind="slow", times=None, role=team.role, seconds=3.0)
    wait_for(lambda: team.calls(team.latest() - 1), timeout=SOON, what="a poll is under way")
    team.untag(job_id, "k8s-namespace")
    team.cluster.terminate("job", REASON)
    wait_for(lambda: team.calls(ending=True), timeout=SOON, what="the call that the poll before allows")
    stage.world.batch.clear_faults()
    team.cluster.wait_for("job", says("Terminated", "False", "JobNotAllowed"), timeout=SOON)
    assert reasons_sent(stage.world, job_id) == []
    assert stage.world.batch.job(job_id)["status"] == "RUNNING"


def test_a_namespace_relabelled_loses_its_details_and_relabelled_back_gets_them_again(
    stage: Stage, teams: list[Team]
) -> None:
    team = teams[0]
    team.grant()
    job_id = team.job("job")
    before = team.cluster.wait_for("job", phase("Running"), timeout=SOON)["status"]
    team.cluster.label_namespace(team=None)
    status = team.soon("job", says("Stalled", "True", "NoAccessPolicy"))
    assert (status["phase"], MIRRORED & set(status)) == ("Denied", set())
    latest = team.latest()
    team.cluster.terminate("job", REASON)
    team.soon("job", says("Terminated", "False", "NoAccessPolicy"))
    team.cluster.patch("job", {"spec": {"terminate": None}})
    team.soon("job", lambda status: claim(status, "Terminated") is None)
    assert team.calls(latest) == []
    team.cluster.label_namespace(team=team.name)
    after = team.soon("job", phase("Running"))
    assert {key: after[key] for key in MIRRORED} == {key: before[key] for key in MIRRORED}
    assert reasons_sent(stage.world, job_id) == []


def test_a_namespace_relabelled_to_another_team_is_polled_by_that_teams_role_only(
    stage: Stage, teams: list[Team]
) -> None:
    team, other = teams
    for one in teams:
        one.grant()
    job_id = team.job("job")
    team.cluster.wait_for("job", phase("Running"), timeout=SOON)
    team.cluster.label_namespace(team=other.name)
    status = team.soon("job", lambda status: not MIRRORED & set(status))
    latest = team.latest()
    team.cluster.terminate("job", REASON)
    status = team.cluster.wait_for("job", says("Terminated", "False", "AccountChanged"), timeout=SOON)["status"]
    assert (status["phase"], team.calls(latest)) == ("Denied", [])
    assert reasons_sent(stage.world, job_id) == []


def test_a_second_match_stops_all_calls_for_the_namespace_until_it_is_gone(stage: Stage, teams: list[Team]) -> None:
    team, other = teams
    team.grant()
    names = ["one", "two", "three"]
    for name in names:
        team.job(name)
    for name in names:
        team.cluster.wait_for(name, phase("Running"), timeout=SOON)
    other.grant(namespaceSelector=team.selector)
    began = time.monotonic()
    for name in names:
        status = team.soon(name, says("Stalled", "True", "AmbiguousPolicy"))
        assert (status["phase"], MIRRORED & set(status)) == ("Denied", set())
        assert team.name in _message(status)
        assert other.name in _message(status)
    assert time.monotonic() - began < 2.0
    latest = team.latest()
    team.cluster.terminate("one", REASON)
    team.soon("one", says("Terminated", "False", "AmbiguousPolicy"))
    for policy in (team, other):
        policy.policies.wait_for(policy.name, says("Ready", "False", "AmbiguousPolicy"), timeout=SOON)
    assert [*team.calls(latest), *other.calls()] == []
    other.policies.delete(other.name)
    for name in names[1:]:
        team.soon(name, phase("Running"))
    team.cluster.wait_for("one", BY_REQUEST, timeout=SOON)


def _message(status: Status) -> str:
    return next(str(one["message"]) for one in status["conditions"] if one["type"] == "Stalled")
