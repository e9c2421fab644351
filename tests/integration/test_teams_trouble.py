"""Roles that can't be assumed, accounts that change, an operator that is killed: with policies required."""

import pytest

from awsbatch_sandbox.processes import wait_for
from integration.scenario import SOON, accepted, claim, phase, reasons_sent, says, terminations_tried
from integration.teams import ACCOUNTS, CLUSTER, Stage, Team

REASON = "INC-4711: runaway cost"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")
OUR_KEY = "sandbox"


def test_a_role_that_cannot_be_assumed_stalls_only_its_objects_until_its_trust_is_fixed(
    stage: Stage, teams: list[Team]
) -> None:
    broken, sound = teams
    stage.world.sts.trust(broken.role, refuses="AccessDenied")
    for team in teams:
        team.grant()
        team.job("job")
    sound.cluster.wait_for("job", phase("Running"), timeout=SOON)
    status = broken.cluster.wait_for("job", says("Stalled", "True", "AccessDenied"), timeout=SOON)["status"]
    assert not {"jobName", "jobArn", "accountId"} & set(status)
    policy = broken.policies.wait_for(broken.name, says("Ready", "False", "AccessDenied"), timeout=SOON)
    (message,) = [one["message"] for one in policy["status"]["conditions"] if one["type"] == "Ready"]
    assert f"is not authorized to perform: sts:AssumeRole on resource: {broken.role}" in message
    broken.cluster.terminate("job", REASON)
    sound.cluster.terminate("job", REASON)
    sound.cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    assert broken.calls() == []
    stage.world.sts.trust(broken.role, external_id=f"awsbatch-operator/{CLUSTER}/{broken.name}")
    broken.policies.edit(broken.name, jobs={"queues": ["*"]})
    broken.cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    broken.policies.wait_for(broken.name, says("Ready", "True", "InForce"), timeout=SOON)


def test_own_credentials_of_another_account_are_not_used_for_old_jobs(stage: Stage, teams: list[Team]) -> None:
    team = teams[0]
    team.grant(role=None)
    default = stage.world.batch.settings()["account"]
    for account in (default, ACCOUNTS[1]):
        stage.world.batch.seed(job_id=f"same-{team.name}", queue=f"{team.name}-spot", account=account, tags=_tags(team))
    team.cluster.create("job", f"same-{team.name}")
    status = team.cluster.wait_for("job", phase("Running"), timeout=SOON)["status"]
    assert status["accountId"] == default
    stage.operator.stop()
    stage.world.batch.settings(accounts={OUR_KEY: ACCOUNTS[1]})
    try:
        team.cluster.terminate("job", REASON)
        assert stage.operator.running
        changed = team.cluster.wait_for("job", says("Stalled", "True", "AccountChanged"), timeout=SOON)["status"]
        assert (changed["accountId"], claim(changed, "Terminated")) == (default, ("False", "AccountChanged"))
        assert stage.world.batch.terminate_requests() == []
        stage.operator.stop()
    finally:
        stage.world.batch.settings(accounts={})
    assert stage.operator.running
    team.cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    assert {one["account"] for one in stage.world.batch.terminate_requests()} == {default}


def _tags(team: Team) -> dict[str, str]:
    return {"k8s-namespace": team.name}


@pytest.mark.parametrize("killed", ["while it waits", "before the status write"])
def test_a_kill_during_terminations_loses_and_repeats_none(stage: Stage, teams: list[Team], killed: str) -> None:
    team, other = teams
    for one in teams:
        one.grant()
    job_id = team.job("job", grace=3.0)
    other.cluster.create("theirs", job_id, terminate={"reason": "not mine"})
    team.cluster.wait_for("job", phase("Running"), timeout=SOON)
    waits = killed == "while it waits"
    fault = {"kind": "throttle_429", "times": None} if waits else {"kind": "slow", "seconds": 1.0, "act_then": True}
    stage.world.batch.fault("TerminateJob", role=team.role, **fault)
    team.cluster.terminate("job", REASON)
    wait_for(lambda: team.calls(ending=True), timeout=SOON, what="the call is under way")
    stage.operator.kill9()
    assert not accepted(team.cluster.get("job")["status"])
    stage.world.batch.clear_faults()
    assert stage.operator.running
    team.cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    other.cluster.wait_for("theirs", says("Terminated", "False", "JobNotAllowed"), timeout=SOON)
    assert reasons_sent(stage.world, job_id) == [REASON]
    assert {call["role"] for call in terminations_tried(stage.world)} == {team.role}
