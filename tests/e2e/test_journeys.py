"""What users do with kubectl, and what they see; the same on every control plane."""

import json
from typing import Any

import pytest

from awsbatch_sandbox.cluster import Cluster, KubectlError, batch_job, condition
from awsbatch_sandbox.world import World

pytestmark = pytest.mark.usefixtures("operator")

REASON = "INC-4711: runaway cost"
STOP = ["--type=merge", "-p", json.dumps({"spec": {"terminate": {"reason": REASON}}})]
JOB_ID = "61e743ed-35e4-48da-b2de-5c8333821c84"


def create(cluster: Cluster, name: str, job_id: str, **spec: Any) -> str:
    return cluster.kubectl("create", "--filename=-", stdin=json.dumps(batch_job(name, job_id, **spec)))


def wait(cluster: Cluster, name: str, what: str) -> str:
    return cluster.kubectl("wait", f"batchjob/{name}", f"--for={what}", "--timeout=20s")


def refused(cluster: Cluster, *arguments: str, stdin: str | None = None) -> str:
    """Return the error of kubectl for a rejected request."""
    with pytest.raises(KubectlError) as refusal:
        cluster.kubectl(*arguments, stdin=stdin)
    return str(refusal.value)


def cells(table: str) -> list[dict[str, str]]:
    """The rows of a kubectl table, by column; columns begin where their heading does."""
    heading, *rows = table.splitlines()
    names = heading.split()
    starts = [heading.index(f" {name}") + 1 if heading.index(name) else 0 for name in names]
    ends = [*starts[1:], None]
    return [
        {name: row[begin:end].strip() for name, begin, end in zip(names, starts, ends, strict=True)} for row in rows
    ]


def test_the_definition_is_established_and_explains_itself(cluster: Cluster) -> None:
    reported = cluster.kubectl("get", "crd", "batchjobs.awsbatch.dev", "-o", "jsonpath={.status.conditions[*].type}")
    assert "Established" in reported
    assert "awsbatch.dev/v1alpha1" in cluster.kubectl("api-resources", "--api-group=awsbatch.dev")
    explained = cluster.kubectl("explain", "batchjob.spec.terminate.reason")
    assert "sends it unchanged" in " ".join(explained.split())


def test_kubectl_patch_terminates_a_running_job(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(name="train-llm")
    create(cluster, "train", job_id)
    wait(cluster, "train", "jsonpath={.status.phase}=Running")
    assert "patched" in cluster.kubectl("patch", "bj", "train", *STOP)
    assert "condition met" in wait(cluster, "train", "condition=Terminated")
    [request] = [one for one in world.batch.terminate_requests() if one["job_id"] == job_id]
    assert request["reason"] == REASON
    termination = cluster.get("train")["status"]["termination"]
    assert (termination["cause"], len(termination["requestId"])) == ("Terminate", 36)
    described = cluster.kubectl("describe", "batchjob", "train")
    for words in (job_id, "TerminatedByRequest", "TerminationAccepted", REASON, "Exit Code:"):
        assert words in described
    assert "Annotations:  <none>" in described


def test_the_columns_show_the_most_needed_fields(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(name="nightly", queue="night", status="FAILED", exit_code=3)
    create(cluster, "job", job_id, terminate={"reason": "enough"})
    wait(cluster, "job", "jsonpath={.status.phase}=Failed")
    [row] = cells(cluster.kubectl("get", "bj"))
    assert list(row) == ["NAME", "PHASE", "READY", "STATUS", "JOB", "TERMINATION", "AGE"]
    assert (row["PHASE"], row["READY"], row["STATUS"], row["JOB"]) == ("Failed", "True", "FAILED", "nightly")
    assert row["TERMINATION"] == "AlreadyFinished"
    [wide] = cells(cluster.kubectl("get", "batchjobs", "-o", "wide"))
    assert list(wide)[-8:] == ["REASON", "DEADLINE", "JOB-ID", "QUEUE", "EXIT", "STARTED", "STOPPED", "REGION"]
    assert wide["REASON"] == "AlreadyFinished"
    assert (wide["JOB-ID"], wide["EXIT"], wide["REGION"]) == (job_id, "3", "eu-west-1")
    assert wide["QUEUE"].endswith("job-queue/night")
    assert "batchjob.awsbatch.dev/job" in cluster.kubectl("get", "aws", "-o", "name")


def test_objects_are_found_by_job_region_phase_and_queue(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(queue="gpu")
    create(cluster, "this", job_id)
    create(cluster, "that", world.batch.seed(status="SUCCEEDED", queue="night"))
    create(cluster, "elsewhere", "nobody-knows-it", region="us-east-1")
    wait(cluster, "this", "jsonpath={.status.phase}=Running")
    wait(cluster, "that", "condition=Finished")
    wait(cluster, "elsewhere", "condition=Stalled")
    queue = cluster.get("this")["status"]["jobQueue"]
    for selector in (
        f"spec.jobId={job_id}",
        "status.phase=Running",
        f"status.jobQueue={queue}",
        "status.region=eu-west-1,status.phase!=Succeeded",
    ):
        found = cluster.kubectl("get", "bj", "--field-selector", selector, "-o", "name")
        assert found.split() == ["batchjob.awsbatch.dev/this"], selector


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ({"status": "SUCCEEDED"}, "JobSucceeded"),
        ({"status": "FAILED", "exit_code": 3}, "JobFailed"),
        ({"status": "FAILED", "is_terminated": True, "status_reason": "by another"}, "JobTerminated"),
        ({"status": "RUNNING"}, "JobTerminated"),
    ],
    ids=["succeeded", "failed", "terminated by another", "terminated by request"],
)
def test_a_script_that_waits_returns_however_the_job_ends(
    world: World, cluster: Cluster, end: dict[str, Any], reason: str
) -> None:
    create(cluster, "job", world.batch.seed(**end), terminate={"reason": REASON})
    assert "condition met" in wait(cluster, "job", "condition=Finished")
    assert condition(cluster.get("job")["status"], "Finished")["reason"] == reason


def test_conditions_follow_what_kubectl_wait_understands(world: World, cluster: Cluster) -> None:
    create(cluster, "good", world.batch.seed(status="SUCCEEDED"))
    create(cluster, "typo", "11111111-1111-4111-8111-111111111111")
    wait(cluster, "good", "condition=Succeeded")
    wait(cluster, "good", "condition=Ready")
    wait(cluster, "typo", "condition=Stalled")
    wait(cluster, "typo", "condition=Ready=false")


def test_events_name_each_transition(world: World, cluster: Cluster) -> None:
    create(cluster, "job", world.batch.seed())
    cluster.kubectl("patch", "bj", "job", *STOP)
    wait(cluster, "job", "condition=Terminated")
    reported = cluster.kubectl("events", "--for=batchjob/job")
    for words in ("TerminationAccepted", "Terminated", REASON):
        assert words in reported
    # A time that no Event of ours has: kubectl sorts by it only if the API server shows it as null.
    assert "TerminationAccepted" in cluster.kubectl("get", "events", "--sort-by=.lastTimestamp")


def test_errors_of_a_manifest_are_reported_with_the_remedy(cluster: Cluster) -> None:
    arn = json.dumps(batch_job("arn", f"arn:aws:batch:eu-west-1:123456789012:job/{JOB_ID}"))
    assert "It is not an ARN (use what follows its last '/')" in refused(cluster, "create", "-f", "-", stdin=arn)
    blank = json.dumps(batch_job("blank", JOB_ID, terminate={"reason": "   "}))
    assert "must say why the job is terminated" in refused(cluster, "create", "-f", "-", stdin=blank)
    misspelt = json.dumps(batch_job("misspelt", JOB_ID, terminate={"reasn": "x"}))
    assert 'unknown field "spec.terminate.reasn"' in refused(cluster, "create", "-f", "-", stdin=misspelt)
    assert cluster.kubectl("get", "bj", "-o", "name") == ""


def test_job_and_region_are_immutable(world: World, cluster: Cluster) -> None:
    create(cluster, "job", world.batch.seed(), region="eu-west-1")
    other = json.dumps({"spec": {"jobId": JOB_ID}})
    assert "jobId is immutable" in refused(cluster, "patch", "bj", "job", "--type=merge", "-p", other)
    for region in ("us-east-1", None):
        moved = json.dumps({"spec": {"region": region}})
        assert "region is immutable" in refused(cluster, "patch", "bj", "job", "--type=merge", "-p", moved)


def test_a_manifest_may_be_applied_again_and_again(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed()
    manifest = json.dumps(batch_job("gitops", job_id, terminate={"reason": REASON}))
    assert "created" in cluster.kubectl("apply", "--filename=-", stdin=manifest)
    wait(cluster, "gitops", "condition=Terminated")
    assert "unchanged" in cluster.kubectl("apply", "--filename=-", stdin=manifest)
    assert [one["reason"] for one in world.batch.terminate_requests() if one["job_id"] == job_id] == [REASON]


def test_delete_is_immediate_and_does_not_affect_the_job(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed()
    create(cluster, "job", job_id)
    wait(cluster, "job", "jsonpath={.status.phase}=Running")
    assert "deleted" in cluster.kubectl("delete", "bj", "job", "--timeout=5s")
    assert "not found" in refused(cluster, "get", "bj", "job")
    assert world.batch.job(job_id)["status"] == "RUNNING"


def test_a_watch_shows_the_phases_as_they_pass(world: World, cluster: Cluster) -> None:
    create(cluster, "job", world.batch.seed())
    wait(cluster, "job", "jsonpath={.status.phase}=Running")
    watching = cluster.kubectl_process("get", "bj", "job", "--watch", "-o", "jsonpath={.status.phase}{'\\n'}")
    try:
        assert watching.stdout is not None
        seen = [watching.stdout.readline().strip()]
        cluster.kubectl("patch", "bj", "job", *STOP)
        while seen[-1] != "Terminated":
            seen.append(watching.stdout.readline().strip())
    finally:
        watching.kill()
        watching.communicate()
    assert list(dict.fromkeys(seen)) == ["Running", "Terminating", "Terminated"]
