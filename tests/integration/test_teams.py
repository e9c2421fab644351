"""What a team may see and terminate under its policy, and what its statuses show of other jobs."""

from typing import Any

import pytest

from awsbatch_sandbox.operator_process import REGION
from integration.scenario import SOON, accepted, claim, phase, reasons_sent, says
from integration.teams import CLUSTER, Stage, Team

REASON = "INC-4711: runaway cost"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")
DENIED = says("Stalled", "True", "JobNotAllowed")
IN_FORCE = says("Ready", "True", "InForce")
TAG = "kubernetes-namespace"


def test_each_team_terminates_its_own_job_by_its_role_and_does_not_see_the_other(
    stage: Stage, teams: list[Team]
) -> None:
    jobs = {}
    for team in teams:
        # What deploy/iam asks for: the ExternalId of the policy, and the namespace of the session as a tag of the job.
        stage.world.sts.trust(team.role, external_id=f"awsbatch-operator/{CLUSTER}/{team.name}")
        stage.world.batch.deny("TerminateJob", role=team.role, job_tag="k8s-namespace", principal_tag=TAG)
        team.grant()
        jobs[team.name] = team.job("own")
    for team, other in zip(teams, reversed(teams), strict=True):
        team.cluster.create("theirs", jobs[other.name], terminate={"reason": "mine now"})
        team.cluster.wait_for("theirs", DENIED, timeout=SOON)
    for team in teams:
        team.cluster.terminate("own", REASON)
        status = team.cluster.wait_for("own", BY_REQUEST, timeout=SOON)["status"]
        assert status["accountId"] == team.account
        assert status["jobArn"] == f"arn:aws:batch:{REGION}:{team.account}:job/{jobs[team.name]}"
    sessions = {call["issued"]: call for call in stage.world.sts.calls("AssumeRole")}
    requests = stage.world.batch.terminate_requests()
    assert sorted(one["job_id"] for one in requests) == sorted(jobs.values())
    for team in teams:
        (request,) = [one for one in requests if one["job_id"] == jobs[team.name]]
        session = sessions[request["access_key"]]
        assert (request["account"], request["role"], request["region"]) == (team.account, team.role, REGION)
        assert session["tags"] == {TAG: team.name, "kubernetes-cluster": CLUSTER}
        assert session["external_id"] == f"awsbatch-operator/{CLUSTER}/{team.name}"
        polls = [sessions[call["access_key"]] for call in team.calls() if call["operation"] == "DescribeJobs"]
        assert {tuple(poll["tags"].items()) for poll in polls} == {(("kubernetes-cluster", CLUSTER),)}
        status = team.policies.wait_for(team.name, IN_FORCE, timeout=SOON)["status"]
        assert (status["namespaces"], status["accountId"]) == (1, team.account)


def test_a_job_that_is_not_admitted_looks_like_a_missing_one(stage: Stage, teams: list[Team]) -> None:
    team = teams[0]
    team.grant()
    team.wait_until_known()
    ids = {"is-there": team.seed(queue="finance", name="payroll"), "is-not": "00000000-0000-4000-8000-000000000001"}
    for name, job_id in ids.items():
        team.cluster.create(name, job_id)
    for name in ids:
        team.cluster.wait_for(name, phase("Denied"), timeout=SOON)
        team.cluster.terminate(name, REASON)
    for name in ids:
        team.cluster.wait_for(name, says("Terminated", "False", "JobNotAllowed"), timeout=SOON)
    there, not_there = (_traces(stage, team, name, job_id) for name, job_id in ids.items())
    assert there == not_there
    assert there["events"] == [("Warning", "JobNotAllowed", there["events"][0][2])]
    assert {call["operation"] for call in stage.world.batch.calls()} == {"DescribeJobs"}
    # How many polls, and when, is drawn for each: test_red_team.py holds twenty of the one against twenty of the other.
    assert all(sum(job_id in call["job_ids"] for call in team.calls()) >= 3 for job_id in ids.values())
    assert not [line for line in stage.operator.output().splitlines() if "payroll" in line or "finance" in line]


def _traces(stage: Stage, team: Team, name: str, job_id: str) -> dict[str, Any]:
    """All that is left of an object's job: status, Events, log lines and metrics, without names and times."""
    body = team.cluster.get(name)

    def plain(value: object) -> str:
        return str(value).replace(body["metadata"]["uid"], "UID").replace(job_id, "ID").replace(name, "NAME")

    status = body["status"]
    conditions = [{**one, "lastTransitionTime": "-", "message": plain(one["message"])} for one in status["conditions"]]
    events = [(one["type"], one["reason"], plain(one["note"])) for one in team.cluster.events(name)]
    volatile = ("timestamp", "resourceVersion", "seconds")
    lines = [line for line in stage.operator.logs() if job_id in str(line) or body["metadata"]["uid"] in str(line)]
    logs = [plain({key: value for key, value in line.items() if key not in volatile}) for line in lines]
    samples = [f"{metric}{labels}" for metric, all_ in stage.operator.metrics().items() for labels, _ in all_]
    metrics = [sample for sample in samples if job_id in sample or name in sample]
    return {"status": {**status, "conditions": conditions}, "events": events, "logs": logs, "metrics": metrics}


def test_a_policy_without_terminate_lets_a_job_be_observed_only(stage: Stage, teams: list[Team]) -> None:
    team = teams[0]
    team.grant(allow=["Observe"])
    team.job("job")
    team.cluster.wait_for("job", phase("Running"), timeout=SOON)
    team.cluster.terminate("job", REASON)
    status = team.cluster.wait_for("job", says("Terminated", "False", "TerminationNotAllowed"), timeout=SOON)["status"]
    assert (status["phase"], status["jobStatus"], claim(status, "Succeeded")) == (
        *("Running", "RUNNING"),
        ("Unknown", "JobActive"),
    )
    assert team.calls(ending=True) == []
    team.policies.edit(team.name, allow=["Observe", "Terminate"])
    team.cluster.wait_for("job", BY_REQUEST, timeout=SOON)


def test_an_accepted_termination_stays_recorded_while_its_job_is_denied(stage: Stage, teams: list[Team]) -> None:
    team = teams[0]
    team.grant()
    job_id = team.job("job", grace=60.0)
    team.cluster.wait_for("job", phase("Running"), timeout=SOON)
    team.cluster.terminate("job", REASON)
    reported = team.cluster.wait_for("job", accepted, timeout=SOON)["status"]["termination"]
    team.policies.delete(team.name)
    status = team.soon("job", phase("Denied"))
    assert status["termination"] == reported
    assert claim(status, "Terminated") == ("Unknown", "NoAccessPolicy")
    assert set(status) == {*("observedGeneration", "phase", "region", "termination", "conditions", "accountId")}
    stage.world.batch.move(job_id, "FAILED", reason=REASON, is_terminated=True)
    team.grant()
    status = team.cluster.wait_for("job", BY_REQUEST, timeout=SOON)["status"]
    assert {key: status["termination"][key] for key in reported} == reported
    assert "completedAt" in status["termination"]
    assert reasons_sent(stage.world, job_id) == [REASON]


@pytest.mark.parametrize("parent", ["own", "foreign"])
def test_a_child_of_an_array_is_admitted_by_the_tags_of_its_parent(
    stage: Stage, teams: list[Team], parent: str
) -> None:
    team, other = teams
    team.grant()
    tags = {"k8s-namespace": team.name if parent == "own" else other.name}
    array = team.seed(children=["RUNNING", "RUNNING"], tags=tags)
    team.cluster.create("child", f"{array}:1", terminate={"reason": REASON})
    if parent == "own":
        team.cluster.wait_for("child", BY_REQUEST, timeout=SOON)
        assert stage.world.batch.job(f"{array}:0")["status"] == "RUNNING"
    else:
        team.cluster.wait_for("child", DENIED, timeout=SOON)
    assert [one["job_id"] for one in stage.world.batch.terminate_requests()] == [f"{array}:1"] * (parent == "own")
