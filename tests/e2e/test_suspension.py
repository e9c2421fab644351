"""Terminations are suspended and resumed with the commands of docs/operations.md, on every control plane."""

import json
import re
import secrets
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from awsbatch_operator.api.names import SUSPEND_ANNOTATION
from awsbatch_sandbox.cluster import Cluster, KubectlError, condition
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.policies import Policies
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.replicas import ON_ITS_WAY, Pair, running_jobs, two_replicas
from integration.scenario import SOON, accepted, has_events, phase, reasons_sent, says, terminations_tried

HELD: Final = says("Terminated", "Unknown", "TerminationHeld")
WITHIN: Final = 5.0
"""Seconds within which a suspension holds."""
PAGE: Final = (Path(__file__).parents[2] / "docs/operations.md").read_text("utf-8")
WHY: Final = "INC-4711: wrong jobs"


def documented(*words: str) -> list[str]:
    """The arguments of the one kubectl command of the page that has these words."""
    commands = re.findall(r"^\$ kubectl (.+)$", PAGE, flags=re.MULTILINE)
    (found,) = (command for command in commands if all(word in command for word in words))
    return shlex.split(found)


def annotate(cluster: Cluster, *, suspend: bool) -> None:
    command = documented("annotate lease", f'="{WHY}"' if suspend else "terminations-")
    command[command.index("-n") + 1] = cluster.namespace
    cluster.kubectl(*command)


def patch_policy(cluster: Cluster, policy: str, *, suspend: bool) -> None:
    command = documented("patch bap", "true" if suspend else "null")
    cluster.kubectl(*(policy if part == "POLICY" else part for part in command))


def sample(operator: OperatorProcess, name: str, **labels: str) -> float | None:
    found = operator.metrics().get(f"awsbatch_operator_{name}", [])
    return next((value for shown, value in found if shown == labels), None)


def logged(operator: OperatorProcess, event: str) -> list[dict[str, Any]]:
    return [line for line in operator.logs() if line["message"].startswith(event)]


@pytest.fixture
def pair(world: World, cluster: Cluster, tmp_path: Path) -> Iterator[Pair]:
    with two_replicas(world, cluster, tmp_path) as pair:
        yield pair


def test_the_annotation_of_the_lease_holds_all_terminations_across_a_failover(
    world: World, cluster: Cluster, pair: Pair
) -> None:
    jobs = running_jobs(world, cluster, 3)
    annotate(cluster, suspend=True)
    began = time.monotonic()
    wait_for(
        lambda: sample(pair.leader, "terminations_suspended", policy="") == 1, timeout=WITHIN, what="the leader knows"
    )
    print(f"the leader knew {time.monotonic() - began:.1f} s after the annotation")
    for name in jobs:
        cluster.terminate(name, "stop it")
    for name in jobs:
        status = cluster.wait_for(name, HELD, timeout=WITHIN)["status"]
        assert condition(status, "Ready")["reason"] == condition(status, "Reconciling")["reason"] == "TerminationHeld"
        for words in (f"Lease {cluster.namespace}/awsbatch-operator", WHY, f"{SUSPEND_ANNOTATION}-"):
            assert words in condition(status, "Reconciling")["message"]
    assert sample(pair.leader, "terminations_held", cause="suspended_operator") == 3
    # The status still follows the job.
    world.batch.move(jobs["job-2"], "SUCCEEDED")
    cluster.wait_for("job-2", phase("Succeeded"), timeout=SOON)
    # So does the next leader's, and it holds too. After a crash it would first wait until the Lease expires.
    pair.leader.signal(signal.SIGTERM)
    wait_for(pair.follower.is_leader, timeout=SOON, what="the other leads")
    lease = json.loads(cluster.kubectl("get", "lease", "awsbatch-operator", "-o", "json"))
    assert lease["metadata"]["annotations"][SUSPEND_ANNOTATION] == WHY
    cluster.create("late", world.batch.seed(), terminate={"reason": "stop it"})
    cluster.wait_for("late", HELD, timeout=SOON)
    assert terminations_tried(world) == []
    assert has_events(cluster, "job-0", "TerminationHeld"), "one Event, however many leaders"
    (line,) = logged(pair.follower, "terminations suspended by an annotation")
    assert line["text"] == WHY
    annotate(cluster, suspend=False)
    for name in ("job-0", "job-1", "late"):
        cluster.wait_for(name, accepted, timeout=WITHIN)
    assert reasons_sent(world, jobs["job-0"]) == ["stop it"]
    assert reasons_sent(world, jobs["job-2"]) == []
    assert logged(pair.follower, "terminations resumed")


def test_an_annotation_survives_that_the_leader_releases_the_lease(cluster: Cluster, pair: Pair) -> None:
    annotate(cluster, suspend=True)
    # At once: the leader has a copy from before.
    pair.leader.signal(signal.SIGTERM)
    wait_for(pair.follower.is_leader, timeout=SOON, what="the other leads")
    lease = json.loads(cluster.kubectl("get", "lease", "awsbatch-operator", "-o", "json"))
    assert lease["metadata"]["annotations"] == {SUSPEND_ANNOTATION: WHY}
    assert sample(pair.follower, "terminations_suspended", policy="") == 1


def test_nothing_leaves_once_the_operator_knows_not_even_what_it_is_sending(
    world: World, cluster: Cluster, pair: Pair
) -> None:
    jobs = running_jobs(world, cluster, 10)
    for operation in ("TerminateJob", "TerminateJobs"):
        world.batch.fault(operation, kind="empty_503", times=None)
    for number, name in enumerate(jobs):
        cluster.terminate(name, f"stop it, {number}")
    wait_for(lambda: terminations_tried(world), timeout=SOON, what="the leader tries, again and again")
    annotate(cluster, suspend=True)
    wait_for(
        lambda: sample(pair.leader, "terminations_suspended", policy="") == 1, timeout=WITHIN, what="the leader knows"
    )
    known_at = time.time()
    world.batch.clear_faults()
    for name in jobs:
        cluster.wait_for(name, HELD, timeout=WITHIN)
    time.sleep(3)
    assert [call for call in terminations_tried(world) if call["at"] > known_at + ON_ITS_WAY] == []
    assert [reasons_sent(world, job_id) for job_id in jobs.values()] == [[]] * len(jobs)
    annotate(cluster, suspend=False)
    for name in jobs:
        cluster.wait_for(name, accepted, timeout=SOON)


def test_a_policy_holds_the_terminations_of_its_namespaces_only(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    name = f"held-{secrets.token_hex(3)}"
    other = cluster.within(f"{cluster.namespace}-other")
    other.create_namespace()
    cluster.label_namespace(team=name)
    with Policies(world.control_plane.kubeconfig) as policies:
        try:
            policies.create(name, namespaceSelector={"matchLabels": {"team": name}}, jobs={"queues": ["*"]})
            jobs = running_jobs(world, cluster, 1), running_jobs(world, other, 1)
            patch_policy(cluster, name, suspend=True)
            wait_for(
                lambda: sample(operator, "terminations_suspended", policy=name) == 1, timeout=WITHIN, what="it is known"
            )
            for one in (cluster, other):
                one.terminate("job-0", "stop it")
            other.wait_for("job-0", accepted, timeout=SOON)
            status = cluster.wait_for("job-0", HELD, timeout=WITHIN)["status"]
            assert f"BatchAccessPolicy {name}" in condition(status, "Reconciling")["message"]
            assert reasons_sent(world, jobs[0]["job-0"]) == []
            heading, row = cluster.kubectl("get", "bap", name).splitlines()
            assert row[heading.index("SUSPENDED") :].startswith("true")
            policies.wait_for(
                name, lambda shown: "spec.suspend" in condition(shown, "Ready").get("message", ""), timeout=SOON
            )
            patch_policy(cluster, name, suspend=False)
            cluster.wait_for("job-0", accepted, timeout=WITHIN)
        finally:
            policies.delete_all()
            other.delete_all()
            other.delete_namespace()
            other.close()


def test_without_leader_election_the_lease_of_the_page_suspends_too(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    (manifest,) = re.findall(r"kubectl apply -f - <<EOF\n(apiVersion: coordination[^$]+?)\nEOF", PAGE)
    job_id = world.batch.seed()
    cluster.create("job", job_id)
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    with pytest.raises(KubectlError, match="not found"):
        cluster.kubectl("get", "lease", "awsbatch-operator", "--namespace=default")
    default = cluster.within("default")
    try:
        default.kubectl("apply", "--filename=-", stdin=manifest)
        wait_for(lambda: sample(operator, "terminations_suspended", policy="") == 1, timeout=WITHIN, what="it is known")
        cluster.terminate("job", "stop it")
        cluster.wait_for("job", HELD, timeout=WITHIN)
        assert reasons_sent(world, job_id) == []
        annotate(default, suspend=False)
        cluster.wait_for("job", accepted, timeout=WITHIN)
    finally:
        default.kubectl("delete", "lease", "awsbatch-operator", "--ignore-not-found")
        default.close()
