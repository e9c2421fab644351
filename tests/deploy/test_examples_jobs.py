"""The objects of the examples do what their files say, with a simulated AWS Batch and STS."""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.policies import Policies
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from deploy.examples import Body, apply, moved
from deploy.places import EXAMPLES
from integration.scenario import SOON, phase, reasons_sent, says

HOUR: Final = 3_600_000
"""In milliseconds."""


def seeded(world: World, body: Body, **job: Any) -> tuple[Body, str]:
    """The BatchJob, for a running job of its own: files share ids, and a job is seeded once."""
    job_id = world.batch.seed(**{"region": body["spec"].get("region", "eu-west-1"), **job})
    return {**body, "spec": {**body["spec"], "jobId": job_id}}, job_id


@pytest.mark.parametrize("name", ["quickstart/job.yaml", "gitops/patched-by-hand.yaml"])
def test_a_job_is_observed_and_keeps_running(name: str, examples_world: World, cluster: Cluster) -> None:
    (body,) = moved(name, cluster.namespace)
    body, job_id = seeded(examples_world, body)
    apply(cluster, body)
    cluster.wait_for(body["metadata"]["name"], phase("Running"), timeout=SOON)
    assert reasons_sent(examples_world, job_id) == []
    cluster.delete_all()


@pytest.mark.parametrize("name", ["guide/terminate.yaml", "gitops/terminate.yaml"])
def test_a_job_is_terminated_with_the_reason(name: str, examples_world: World, cluster: Cluster) -> None:
    (body,) = moved(name, cluster.namespace)
    body, job_id = seeded(examples_world, body)
    apply(cluster, body)
    cluster.wait_for(body["metadata"]["name"], phase("Terminated"), timeout=SOON)
    assert reasons_sent(examples_world, job_id) == [body["spec"]["terminate"]["reason"]]


@pytest.mark.parametrize(("status", "limit", "hours"), [("RUNNABLE", "waiting", 2), ("RUNNING", "running", 8)])
def test_a_deadline_falls_due_when_the_file_says(
    status: str, limit: str, hours: int, examples_world: World, cluster: Cluster
) -> None:
    (body,) = moved("guide/deadline.yaml", cluster.namespace)
    began = int(time.time() * 1000) - HOUR
    times = {"created_at": began, **({"started_at": began} if status == "RUNNING" else {})}
    body, _ = seeded(examples_world, body, status=status, **times)
    apply(cluster, body)
    found = cluster.wait_for(body["metadata"]["name"], lambda shown: "deadline" in shown, timeout=SOON)
    due = datetime.fromisoformat(found["status"]["deadline"]["time"]).timestamp() * 1000
    assert (found["status"]["deadline"]["limit"], round(due - began)) == (limit.capitalize(), hours * HOUR)


def test_the_job_of_a_preview_environment_is_terminated_with_it(examples_world: World, cluster: Cluster) -> None:
    preview = cluster.within(f"preview-{secrets.token_hex(3)}")
    namespace, body = moved("guide/on-delete.yaml", preview.namespace)
    body, job_id = seeded(examples_world, body)
    apply(preview, namespace, body)
    preview.wait_for("index", phase("Running"), timeout=SOON)
    # No garbage collector and no controller of namespaces runs beside kube-apiserver: this deletes what those would.
    preview.delete("index")
    wait_for(lambda: preview.objects() == [], timeout=SOON, what="the object is gone")
    assert reasons_sent(examples_world, job_id) == [body["spec"]["onDelete"]["terminate"]["reason"]]
    preview.delete_namespace()
    preview.close()


def test_all_jobs_of_a_team_are_terminated_once_approved(examples_world: World, cluster: Cluster) -> None:
    policy, body = moved("guide/bulk-termination.yaml", cluster.namespace)
    policy["spec"]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] = cluster.namespace
    now = datetime.now(UTC)
    body["spec"]["createdBefore"] = now.isoformat(timespec="seconds")
    hour_ago = int((now - timedelta(hours=1)).timestamp() * 1000)
    queues = (*body["spec"]["select"]["queues"], "team-b-gpu")
    of_a, of_a_too, of_b = (examples_world.batch.seed(queue=queue, created_at=hour_ago) for queue in queues)
    with applied(examples_world, cluster, policy):
        apply(cluster, body)
        bulk = f"bt/{body['metadata']['name']}"
        cluster.kubectl("wait", bulk, f"--timeout={SOON}s", "--for=jsonpath={.status.phase}=AwaitingApproval")
        assert cluster.kubectl("get", bulk, "-o=jsonpath={.status.matched}") == "2"
        cluster.kubectl("patch", bulk, "--type=merge", '--patch={"spec":{"approved":true}}')
        sent = [body["spec"]["reason"]]
        for job in (of_a, of_a_too):
            wait_for(lambda job=job: reasons_sent(examples_world, job) == sent, timeout=SOON, what="the job ends")  # type: ignore[misc]
        assert reasons_sent(examples_world, of_b) == []
        cluster.kubectl("delete", bulk)


def test_the_first_wave_terminates_the_old_job_and_the_second_observes_the_new_one(
    examples_world: World, cluster: Cluster
) -> None:
    old, new = (seeded(examples_world, body) for body in moved("gitops/waves.yaml", cluster.namespace))
    apply(cluster, old[0], new[0])
    cluster.wait_for("export-old", phase("Terminated"), timeout=SOON)
    cluster.wait_for("export-new", phase("Running"), timeout=SOON)
    assert reasons_sent(examples_world, new[1]) == []
    cluster.delete_all()


# -- policies ---------------------------------------------------------------------------------------------------------


@contextmanager
def applied(world: World, cluster: Cluster, *policies: Body) -> Iterator[None]:
    """The policies, in force."""
    apply(cluster, *policies)
    with Policies(world.control_plane.kubeconfig) as known:
        for policy in policies:
            known.wait_for(policy["metadata"]["name"], says("Ready", "True", "InForce"), timeout=SOON)
        yield
        for policy in policies:
            known.delete(policy["metadata"]["name"])


def policies_of(name: str, suffix: str) -> list[Body]:
    """Those of the file, with names of teams that no other test uses: a namespace can take long to go."""
    return list(yaml.safe_load_all((EXAMPLES / name).read_text("utf-8").replace("team-", f"team-{suffix}-")))


@contextmanager
def namespaces(cluster: Cluster, *names: str) -> Iterator[Mapping[str, Cluster]]:
    """These, which the policies name."""
    found = {name: cluster.within(name) for name in names}
    for team in found.values():
        team.create_namespace()
    try:
        yield found
    finally:
        for team in found.values():
            team.delete_all()
            team.delete_namespace()
            team.close()


def observed(team: Cluster, name: str, job_id: str, **spec: Any) -> Any:
    """The phase of the job, as the namespace sees it."""
    team.create(name, job_id, **spec)
    shown = team.wait_for(name, lambda status: status.get("phase") not in (None, "Unknown", "Pending"), timeout=SOON)
    return shown["status"]["phase"]


def test_two_teams_of_one_account_see_their_own_jobs_only(examples_world: World, cluster: Cluster) -> None:
    seed = examples_world.batch.seed
    jobs = {
        "of-a": seed(queue="team-one-a-gpu"),
        "of-b": seed(queue="shared", tags={"team": "b"}),
        "of-nobody": seed(queue="shared", tags={"team": "c"}),
    }
    policies = policies_of("multi-account/policies-one-account.yaml", "one")
    with (
        namespaces(cluster, "team-one-a", "team-one-b") as teams,
        applied(examples_world, cluster, *policies),
    ):
        for team, own in (("team-one-a", "of-a"), ("team-one-b", "of-b")):
            seen = {name: observed(teams[team], name, job_id) for name, job_id in jobs.items()}
            assert seen == {name: "Running" if name == own else "Denied" for name in jobs}
        teams["team-one-a"].terminate("of-b", "mine?")
        teams["team-one-b"].terminate("of-b", "INC-4711")
        teams["team-one-b"].wait_for("of-b", phase("Terminated"), timeout=SOON)
        assert reasons_sent(examples_world, jobs["of-b"]) == ["INC-4711"]


def test_two_teams_with_an_account_each_see_the_jobs_of_their_namespace(
    examples_world: World, cluster: Cluster
) -> None:
    policies = policies_of("multi-account/policies-two-teams.yaml", "two")
    roles = {policy["metadata"]["name"]: policy["spec"]["role"]["arn"] for policy in policies}
    for name, role in roles.items():
        examples_world.sts.trust(role, external_id=f"awsbatch-operator/my-cluster/{name}")
    jobs = {
        namespace: examples_world.batch.seed(
            queue=f"{team}-gpu", account=roles[team].split(":")[4], tags={"k8s-namespace": namespace}
        )
        for team, names in {"team-two-a": ("team-two-a-dev", "team-two-a-prod"), "team-two-b": ("team-two-b",)}.items()
        for namespace in names
    }
    with namespaces(cluster, *jobs) as teams, applied(examples_world, cluster, *policies):
        for namespace, team in teams.items():
            seen = {of: observed(team, f"of-{of}", job_id, region="eu-west-1") for of, job_id in jobs.items()}
            # A job in another account is not there at all; one of another namespace in the same account is not allowed.
            assert {of for of, shown in seen.items() if shown == "Running"} == {namespace}
            assert set(seen.values()) <= {"Running", "Denied", "Missing"}
    examples_world.sts.clear_trust()
