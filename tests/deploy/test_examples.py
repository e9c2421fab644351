"""examples/guide/cron-terminate-old-jobs.yaml: its objects are accepted, and its script does what the comment says."""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from awsbatch_operator.api.batchtermination import parse_termination
from awsbatch_sandbox.cluster import Cluster, KubectlError, kubectl_environment, kubectl_program
from awsbatch_sandbox.policies import Policies
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from deploy.places import DEPLOY, EXAMPLES
from integration.scenario import SOON, reasons_sent

EXAMPLE: Final = EXAMPLES / "guide/cron-terminate-old-jobs.yaml"
NAME: Final = "terminate-old-jobs"
OBJECTS: Final[dict[str, dict[str, Any]]] = {
    body["kind"]: body for body in yaml.safe_load_all(EXAMPLE.read_text("utf-8"))
}
CONTAINER: Final = OBJECTS["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
HOUR: Final = 3_600_000
BUSYBOX: Final = shutil.which("busybox")
PROGRAMS: Final = ("awk", "date")
"""What the script calls beside kubectl."""
SHELLS: Final = [
    pytest.param("busybox", marks=pytest.mark.skipif(BUSYBOX is None, reason="no busybox: apt-get install busybox")),
    "sh",
]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], str]:
    """The command of the container with this shell, and the PATH with its programs."""
    (tmp_path / "kubectl").symlink_to(kubectl_program())
    _, *flags = CONTAINER["command"]
    if request.param == "sh":
        return ["/bin/sh", *flags], f"{tmp_path}:{os.environ['PATH']}"
    for program in PROGRAMS:
        (tmp_path / program).symlink_to(str(BUSYBOX))
    return [str(BUSYBOX), "sh", *flags], str(tmp_path)


class Script:
    """The script of the container, for one login."""

    def __init__(self, shell: tuple[list[str], str], kubeconfig: Path, cache: Path) -> None:
        self._command, path = shell
        given = {one["name"]: one["value"] for one in CONTAINER["env"]}
        self._environment = {"PATH": path, **given, **kubectl_environment(kubeconfig, cache)}

    def run(self, **changes: str) -> None:
        subprocess.run(
            [*self._command, *CONTAINER["args"]],
            env=self._environment | changes,
            check=True,
            timeout=60,
            capture_output=True,
            text=True,
        )


def login(directory: Path, world: World, cluster: Cluster, account: str = "") -> Path:
    """A kubeconfig with this namespace, as in a pod, and the token of a service account; without one, an admin's."""
    config = yaml.safe_load(world.control_plane.kubeconfig.read_text("utf-8"))
    for context in config["contexts"]:
        context["context"]["namespace"] = cluster.namespace
    if account:
        config["users"][0]["user"] = {"token": cluster.kubectl("create", "token", account).strip()}
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(config), "utf-8")
    path.chmod(0o600)
    return path


def terminations(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", "batchterminations", "-o=json"))["items"]
    return found


def names(cluster: Cluster) -> set[str]:
    return {one["metadata"]["name"] for one in terminations(cluster)}


def the_phase(cluster: Cluster) -> str:
    (one,) = terminations(cluster)
    return str(one["status"].get("phase"))


# -- what the script does ---------------------------------------------------------------------------------------------


@pytest.fixture
def team(world: World, cluster: Cluster) -> Iterator[Cluster]:
    """A namespace whose policy allows List and Terminate."""
    name = f"bulk-{secrets.token_hex(3)}"
    cluster.label_namespace(team=name)
    with Policies(world.control_plane.kubeconfig) as policies:
        policies.create(
            name,
            namespaceSelector={"matchLabels": {"team": name}},
            jobs={"queues": ["*"]},
            allow=["Observe", "Terminate", "List"],
        )
        yield cluster
        cluster.kubectl("delete", "batchterminations", "--all")
        policies.delete(name)


def seeded(world: World, queue: str, **names_and_hours: float) -> Mapping[str, str]:
    now = int(time.time() * 1000)
    return {
        name: world.batch.seed(name=name.replace("_", "-"), queue=queue, created_at=int(now - hours * HOUR))
        for name, hours in names_and_hours.items()
    }


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("shell", ["sh" if BUSYBOX is None else "busybox"], indirect=True)
def test_the_script_terminates_old_jobs_and_keeps_finished_objects_for_a_week(
    shell: tuple[list[str], str], world: World, team: Cluster, tmp_path: Path
) -> None:
    queue = f"tmp-{secrets.token_hex(3)}"
    jobs = seeded(world, queue, tmp_old=25, tmp_older=24 * 20, tmp_young=23, other_old=25)
    script = Script(shell, login(tmp_path, world, team), world.cache)
    script.run(QUEUE=queue)
    (first,) = terminations(team)
    wait_for(lambda: the_phase(team) == "Finished", timeout=60, what="the termination is finished")
    shown = {name: world.batch.job(job_id) for name, job_id in jobs.items()}
    assert {name for name, job in shown.items() if job["status"] == "FAILED"} == {"tmp_old", "tmp_older"}
    assert reasons_sent(world, jobs["tmp_old"]) == ["terminate-old-jobs: older than 24 h"]
    script.run(QUEUE=queue)
    assert len(terminations(team)) == 2
    script.run(QUEUE=queue, KEEP_DAYS="0")
    assert first["metadata"]["name"] not in names(team)


def test_the_script_states_a_time_and_replaces_what_is_not_finished(
    shell: tuple[list[str], str], world: World, team: Cluster, tmp_path: Path
) -> None:
    script = Script(shell, login(tmp_path, world, team), world.cache)
    script.run(QUEUE="nobodys")
    (first,) = terminations(team)
    snapshot = parse_termination(first)
    assert snapshot.spec is not None
    assert snapshot.spec.approved
    assert abs(snapshot.created_at - 24 * HOUR - snapshot.spec.created_before) <= 5_000
    script.run(QUEUE="nobodys")
    (second,) = names(team)
    assert second != first["metadata"]["name"]
    # Nothing is deleted when nothing can be created, or nothing can be listed.
    for wrong in ({"QUEUE": "not a queue"}, {"KUBECONFIG": os.devnull}):
        with pytest.raises(subprocess.CalledProcessError):
            script.run(**wrong)
        assert names(team) == {second}


# -- its objects and permissions --------------------------------------------------------------------------------------


@pytest.fixture
def installed(world: World, cluster: Cluster) -> Iterator[Cluster]:
    """A namespace with the example, beside the admission policy."""
    admission = str(DEPLOY / "admission/terminate-verb.yaml")
    world.cluster.kubectl("apply", "-f", admission)
    text = EXAMPLE.read_text("utf-8").replace("namespace: team-a", f"namespace: {cluster.namespace}")
    cluster.kubectl("apply", "-f", "-", stdin=text)
    yield cluster
    cluster.kubectl("delete", "batchterminations", "--all")
    cluster.kubectl("delete", "-f", "-", stdin=text)
    world.cluster.kubectl("delete", "-f", admission)


@pytest.mark.real
def test_the_role_suffices_for_the_script(
    shell: tuple[list[str], str], installed: Cluster, world: World, tmp_path: Path
) -> None:
    script = Script(shell, login(tmp_path, world, installed, NAME), world.cache)
    script.run()
    first = names(installed)
    script.run()
    assert len(names(installed)) == 1
    assert names(installed) != first
    # The admission policy needs a moment to be in force, and RBAC one to know a change.
    rules = OBJECTS["Role"]["rules"]
    set_rules(installed, rules[:1])
    wait_for(lambda: _is_forbidden(script), timeout=SOON, what="the admission policy asks for the verb")
    set_rules(installed, rules)
    wait_for(lambda: not _is_forbidden(script), timeout=SOON, what="the role has the verb again")


def set_rules(cluster: Cluster, rules: list[dict[str, Any]]) -> None:
    cluster.kubectl("patch", "role", NAME, "--type=merge", f"--patch={json.dumps({'rules': rules})}")


def _is_forbidden(script: Script) -> bool:
    try:
        script.run()
    except subprocess.CalledProcessError as error:
        return "needs the verb terminate" in error.stderr
    return False


@pytest.mark.real
def test_the_pod_meets_the_restricted_pod_security_standard(installed: Cluster) -> None:
    installed.label_namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
    template = OBJECTS["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": template["spec"]}
    installed.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    pod["spec"] = {**template["spec"], "securityContext": {}}
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        installed.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
