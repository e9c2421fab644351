"""The scripts of the examples do what their comments say, with exactly the permissions of their Role."""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from awsbatch_operator.api.batchtermination import parse_termination
from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.policies import Policies
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from deploy.examples import Script, Shell, apply, assert_minimal, login, moved, one, script
from deploy.places import EXAMPLES
from integration.scenario import SOON, phase, reasons_sent

TERMINATE: Final = "guide/cron-terminate-old-jobs.yaml"
DELETE: Final = "guide/cron-delete-finished.yaml"
WAIT: Final = "guide/wait.sh"
HOUR: Final = 3_600_000
IN_ONE_SHELL: Final = pytest.mark.parametrize("shell", ["sh"], indirect=True)


def container_script(name: str, shell: Shell, kubeconfig: Path, world: World, cluster: Cluster) -> Script:
    """That of the container of a CronJob."""
    template = one(name, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    program, *flags = container["command"]
    assert program == "/bin/sh"
    given = {one["name"]: one.get("value", cluster.namespace) for one in container["env"]}
    return script(shell, kubeconfig, world.cache, *flags, *container["args"], **given)


# -- terminate old jobs -----------------------------------------------------------------------------------------------


@pytest.fixture
def team(examples_world: World, cluster: Cluster) -> Iterator[Cluster]:
    """A namespace whose policy allows List and Terminate."""
    name = f"bulk-{secrets.token_hex(3)}"
    cluster.label_namespace(team=name)
    with Policies(examples_world.control_plane.kubeconfig) as policies:
        policies.create(
            name,
            namespaceSelector={"matchLabels": {"team": name}},
            jobs={"queues": ["*"]},
            allow=["Observe", "Terminate", "List"],
        )
        yield cluster
        cluster.kubectl("delete", "batchterminations", "--all")
        policies.delete(name)


def terminations(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", "batchterminations", "-o=json"))["items"]
    return found


def names(cluster: Cluster) -> set[str]:
    return {one["metadata"]["name"] for one in terminations(cluster)}


def the_phase(cluster: Cluster) -> str:
    (one,) = terminations(cluster)
    return str(one["status"].get("phase"))


def seeded(world: World, queue: str, **names_and_hours: float) -> Mapping[str, str]:
    now = int(time.time() * 1000)
    return {
        name: world.batch.seed(name=name.replace("_", "-"), queue=queue, created_at=int(now - hours * HOUR))
        for name, hours in names_and_hours.items()
    }


@IN_ONE_SHELL
def test_old_jobs_are_terminated_and_finished_objects_kept_for_a_week(
    shell: Shell, examples_world: World, team: Cluster, tmp_path: Path
) -> None:
    queue = f"tmp-{secrets.token_hex(3)}"
    jobs = seeded(examples_world, queue, tmp_old=25, tmp_older=24 * 20, tmp_young=23, other_old=25)
    every_night = container_script(TERMINATE, shell, login(tmp_path, examples_world, team), examples_world, team)
    every_night.run(QUEUE=queue)
    (first,) = terminations(team)
    wait_for(lambda: the_phase(team) == "Finished", timeout=60, what="the termination is finished")
    shown = {name: examples_world.batch.job(job_id) for name, job_id in jobs.items()}
    assert {name for name, job in shown.items() if job["status"] == "FAILED"} == {"tmp_old", "tmp_older"}
    assert reasons_sent(examples_world, jobs["tmp_old"]) == ["terminate-old-jobs: older than 24 h"]
    every_night.run(QUEUE=queue)
    assert len(terminations(team)) == 2
    every_night.run(QUEUE=queue, KEEP_DAYS="0")
    assert first["metadata"]["name"] not in names(team)


def test_the_script_states_a_time_and_replaces_what_is_not_finished(
    shell: Shell, examples_world: World, team: Cluster, tmp_path: Path
) -> None:
    every_night = container_script(TERMINATE, shell, login(tmp_path, examples_world, team), examples_world, team)
    every_night.run(QUEUE="nobodys")
    (first,) = terminations(team)
    snapshot = parse_termination(first)
    assert snapshot.spec is not None
    assert snapshot.spec.approved
    assert abs(snapshot.created_at - 24 * HOUR - snapshot.spec.created_before) <= 5_000
    every_night.run(QUEUE="nobodys")
    (second,) = names(team)
    assert second != first["metadata"]["name"]
    # Nothing is deleted when nothing can be created, or nothing can be listed.
    assert every_night.run(check=False, QUEUE="not a queue").returncode != 0
    assert every_night.run(check=False, KUBECONFIG=os.devnull).returncode != 0
    assert names(team) == {second}


# -- delete finished objects ------------------------------------------------------------------------------------------


def finished_long_ago(cluster: Cluster, name: str) -> None:
    """The operator, which is not running, saw the end of the job long ago."""
    conditions = cluster.get(name)["status"]["conditions"]
    old = [{**one, "lastTransitionTime": "2026-01-01T00:00:00Z"} for one in conditions]
    cluster.patch_status(name, {"conditions": old})


def objects_of(cluster: Cluster) -> set[str]:
    return {body["metadata"]["name"] for body in cluster.objects()}


@pytest.fixture
def ended(examples_world: World, cluster: Cluster) -> Iterator[Cluster]:
    """Three jobs that ended long ago, one that has just ended and one that runs; the operator does not run."""
    jobs = {"succeeded": "SUCCEEDED", "failed": "FAILED", "terminated": "RUNNING", "recent": "SUCCEEDED"}
    for name, status in {**jobs, "running": "RUNNING"}.items():
        cluster.create(name, examples_world.batch.seed(status=status))
    cluster.create("unknown", "no-such-job")
    cluster.terminate("terminated", "by hand")
    for name, outcome in {"succeeded": "Succeeded", "failed": "Failed", "terminated": "Terminated"}.items():
        cluster.wait_for(name, phase(outcome), timeout=SOON)
    cluster.wait_for("recent", phase("Succeeded"), timeout=SOON)
    cluster.wait_for("running", phase("Running"), timeout=SOON)
    cluster.wait_for("unknown", phase("Missing"), timeout=SOON)
    examples_world.operator.stop()
    for name in ("succeeded", "failed", "terminated"):
        finished_long_ago(cluster, name)
    yield cluster
    examples_world.operator.start()


def test_the_objects_of_jobs_that_ended_long_ago_are_deleted(
    shell: Shell, examples_world: World, ended: Cluster, tmp_path: Path
) -> None:
    kubeconfig = login(tmp_path, examples_world, ended)
    every_night = container_script(DELETE, shell, kubeconfig, examples_world, ended)
    every_night.run()
    assert objects_of(ended) == {"recent", "running", "unknown"}
    every_night.run(KEEP_DAYS="-1")
    assert objects_of(ended) == {"running", "unknown"}
    every_night.run(KEEP_DAYS="-1")
    with pytest.raises(subprocess.CalledProcessError):
        every_night.run(KUBECONFIG=os.devnull)


@IN_ONE_SHELL
def test_an_object_that_has_changed_since_the_list_stays(
    shell: Shell, examples_world: World, ended: Cluster, tmp_path: Path
) -> None:
    kubectl = Path(shell.path) / "kubectl"
    program = kubectl.resolve()
    kubectl.unlink()
    # Somebody changes each object that was listed.
    change = f'"{program}" label batchjobs --all again=yes'
    kubectl.write_text(f'#!/bin/sh\n"{program}" "$@" || exit\n[ "$1" = delete ] || {change} >/dev/null\n')
    kubectl.chmod(0o755)
    kubeconfig = login(tmp_path, examples_world, ended)
    done = container_script(DELETE, shell, kubeconfig, examples_world, ended).run(check=False)
    assert "precondition" in done.stderr
    assert objects_of(ended) >= {"succeeded", "failed", "terminated"}


# -- wait.sh ----------------------------------------------------------------------------------------------------------


def waiting(shell: Shell, kubeconfig: Path, world: World, *arguments: str) -> Script:
    return script(shell, kubeconfig, world.cache, str(EXAMPLES / WAIT), *arguments)


def test_wait_exits_by_the_outcome(shell: Shell, examples_world: World, cluster: Cluster, tmp_path: Path) -> None:
    wait = waiting(shell, login(tmp_path, examples_world, cluster), examples_world)
    for name, status in {"good": "SUCCEEDED", "bad": "FAILED", "active": "RUNNING"}.items():
        cluster.create(name, examples_world.batch.seed(status=status))
    cluster.create("unknown", "no-such-job")
    # Before that, the script would look again after a minute.
    cluster.wait_for("unknown", phase("Missing"), timeout=SOON)
    codes = [wait.run(name, check=False).returncode for name in ("good", "bad", "unknown")]
    assert codes == [0, 1, 3]
    late = wait.run("active", "1", check=False)
    assert (late.returncode, late.stderr) == (4, "the job of batchjob/active has not ended; its phase is Running\n")
    nowhere = wait.run("nowhere", check=False)
    assert (nowhere.returncode, "NotFound" in nowhere.stderr) == (3, True)


@IN_ONE_SHELL
def test_wait_returns_when_the_job_ends(shell: Shell, examples_world: World, cluster: Cluster, tmp_path: Path) -> None:
    job_id = examples_world.batch.seed()
    cluster.create("one", job_id)
    cluster.wait_for("one", phase("Running"), timeout=SOON)
    with waiting(shell, login(tmp_path, examples_world, cluster), examples_world, "one").start() as process:
        time.sleep(1)
        assert process.poll() is None
        cluster.terminate("one", "INC-4711")
        assert process.wait(SOON) == 2


# -- permissions, on a control plane that checks them ------------------------------------------------------------------


@pytest.mark.real
@IN_ONE_SHELL
@pytest.mark.parametrize("name", [TERMINATE, DELETE])
def test_the_role_suffices_for_the_script_and_has_nothing_to_spare(
    name: str, shell: Shell, examples_world: World, guarded: Cluster, tmp_path: Path
) -> None:
    account = one(name, "ServiceAccount")["metadata"]["name"]
    # The CronJob itself is accepted elsewhere.
    apply(guarded, *(body for body in moved(name, guarded.namespace) if body["kind"] != "CronJob"))
    every_night = container_script(
        name, shell, login(tmp_path, examples_world, guarded, account), examples_world, guarded
    )

    def run() -> subprocess.CompletedProcess[str]:
        guarded.kubectl("delete", "batchjobs", "--all")
        guarded.create("done", examples_world.batch.seed(status="SUCCEEDED"))
        guarded.wait_for("done", phase("Succeeded"), timeout=SOON)
        return every_night.run(check=False, KEEP_DAYS="-1")

    assert_minimal(guarded, name, run)
