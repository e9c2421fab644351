"""A team that tries to see or terminate jobs of another team."""

from typing import Any

import pytest
from kubernetes.client import ApiException

from awsbatch_sandbox.processes import wait_for
from integration.scenario import SOON, claim, phase, reasons_sent, says
from integration.teams import Stage, Team

REASON = "INC-4711: runaway cost"
BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")
NO_LEAVE = says("Terminated", "False", "JobNotAllowed")
ALL_OF_A_DENIAL = {"observedGeneration", "phase", "region", "conditions"}


def test_a_region_that_the_policy_does_not_name_gets_no_call(stage: Stage, teams: list[Team]) -> None:
    team = teams[0]
    team.grant()
    job_id = team.seed(region="us-east-1")
    team.cluster.create("spoofed", job_id, region="us-east-1", terminate={"reason": REASON})
    status = team.cluster.wait_for("spoofed", NO_LEAVE, timeout=SOON)["status"]
    assert set(status) == ALL_OF_A_DENIAL
    assert stage.world.batch.calls(region="us-east-1") == []


def test_an_id_that_is_more_than_an_id_is_refused_by_the_api_server(teams: list[Team]) -> None:
    job_id = teams[1].seed()
    for spelled in (
        *("arn:aws:batch:eu-west-1:444455556666:job/{}", "444455556666/{}", "../{}", "{}\n", " {}", "{}?", "{}%3A0"),
        *("{}:0:0", "{}:0#0", "{},{}", "{}:٣", "job/{}"),
    ):
        with pytest.raises(ApiException) as refusal:
            teams[0].cluster.create("spelled", spelled.format(job_id, job_id))
        assert refusal.value.status == 422, spelled


def test_a_child_with_tags_of_another_team_is_not_admitted_by_its_parent(stage: Stage, teams: list[Team]) -> None:
    team, other = teams
    team.grant()
    parent = team.seed(children=["RUNNING", "RUNNING"])
    team.tag(f"{parent}:1", {"k8s-namespace": other.name})
    for index in (0, 1):
        team.cluster.create(f"child-{index}", f"{parent}:{index}", terminate={"reason": REASON})
    team.cluster.wait_for("child-1", NO_LEAVE, timeout=SOON)
    team.cluster.wait_for("child-0", BY_REQUEST, timeout=SOON)
    assert reasons_sent(stage.world, f"{parent}:1") == []


def test_a_child_with_the_tags_of_the_team_is_not_admitted_if_its_parent_is_not(
    stage: Stage, teams: list[Team]
) -> None:
    team, other = teams
    team.grant()
    parent = team.seed(children=["RUNNING", "RUNNING"], tags={"k8s-namespace": other.name})
    team.tag(f"{parent}:0", {"k8s-namespace": team.name})
    team.cluster.create("child", f"{parent}:0", terminate={"reason": REASON})
    team.cluster.wait_for("child", NO_LEAVE, timeout=SOON)
    assert stage.world.batch.terminate_requests() == []


def test_a_namespace_with_the_label_of_another_gets_the_policy_but_none_of_the_jobs(
    stage: Stage, teams: list[Team]
) -> None:
    team, thief = teams
    team.grant()
    job_id = team.job("own")
    team.cluster.wait_for("own", phase("Running"), timeout=SOON)
    thief.cluster.label_namespace(team=team.name)
    thief.cluster.create("theirs", job_id, terminate={"reason": "mine now"})
    thief.cluster.wait_for("theirs", NO_LEAVE, timeout=SOON)
    assert reasons_sent(stage.world, job_id) == []


def test_a_label_that_is_nearly_that_of_another_selects_nothing(teams: list[Team]) -> None:
    team, thief = teams
    team.grant(namespaceSelector={"matchLabels": {"team": team.name.upper()}})
    job_id = team.seed()
    for number, label in enumerate(("{}-x", "x-{}", "{}.0", "", "{}")):
        thief.cluster.label_namespace(team=label.format(team.name))
        thief.cluster.create(f"theirs-{number}", job_id, terminate={"reason": "mine now"})
        status = thief.cluster.wait_for(f"theirs-{number}", phase("Denied"), timeout=SOON)["status"]
        assert claim(status, "Stalled") == ("True", "NoAccessPolicy"), label


def test_the_name_label_of_a_namespace_cannot_be_forged(stage: Stage, teams: list[Team]) -> None:
    team, thief = teams
    team.grant(namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": team.name}}, jobs={"queues": ["*"]})
    team.job("own")
    team.cluster.wait_for("own", phase("Running"), timeout=SOON)
    thief.cluster.label_namespace(**{"kubernetes.io/metadata.name": team.name})
    thief.cluster.create("theirs", team.seed(), terminate={"reason": "mine now"})
    thief.cluster.wait_for("theirs", says("Terminated", "False", "NoAccessPolicy"), timeout=SOON)
    assert stage.world.batch.terminate_requests() == []


def test_queues_and_tags_similar_to_those_of_the_team_do_not_match(stage: Stage, teams: list[Team]) -> None:
    team = teams[0]
    name, key = team.name, "k8s-namespace"
    team.grant(jobs={"queues": [f"{name}-*"], "tags": {key: "${namespace}", "owner": "*", "stage": "Zoë"}})
    good = {key: name, "owner": "*", "stage": "Zoë"}
    values = (f"{name} ", name.upper(), "\u0430" + name[1:], f"{name}\u200b", "*", "${namespace}", "", f"{name},{name}")
    tags = [good | {key: odd} for odd in values]
    tags += [good | {"owner": "team-a"}, good | {"stage": "Zoe\u0308"}, {**good, key: "", key.upper(): name}]
    queues = (name, f"x{name}-spot", f"{name}-spot".upper(), f"{name}\uff0dspot", f"{name}-spot\n", f"{name}-x/y", "*")
    jobs = [{"tags": odd} for odd in tags] + [{"tags": good, "queue": odd} for odd in queues]
    for number, job in enumerate(jobs):
        team.cluster.create(f"odd-{number}", team.seed(**job), terminate={"reason": "mine now"})
    team.job("good", tags=good)
    team.cluster.wait_for("good", phase("Running"), timeout=SOON)
    for number, job in enumerate(jobs):
        team.cluster.wait_for(f"odd-{number}", NO_LEAVE, timeout=SOON, what=str(job))
    assert stage.world.batch.terminate_requests() == []


def test_an_object_created_again_shows_nothing_of_the_earlier_job(stage: Stage, teams: list[Team]) -> None:
    team, other = teams
    team.grant()
    job_id, theirs = team.job("job"), other.seed(account=team.account)
    team.cluster.wait_for("job", phase("Running"), timeout=SOON)
    team.cluster.delete("job")
    team.cluster.create("job", theirs, terminate={"reason": REASON})
    seen: list[dict[str, Any]] = []

    def denied() -> bool:
        seen.append(team.cluster.get("job").get("status", {}))
        return NO_LEAVE(seen[-1])

    wait_for(denied, timeout=SOON, what="the new one is denied")
    assert not [status for status in seen if "jobName" in status or "accountId" in status]
    assert (reasons_sent(stage.world, job_id), reasons_sent(stage.world, theirs)) == ([], [])
