"""The Argo workflow and the Tekton Task of the examples, with the parts of those controllers that touch our objects."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
import yaml

from awsbatch_operator.api.batchjob import Phase
from awsbatch_sandbox.cluster import Cluster, kubectl_environment, kubectl_program
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from deploy.examples import Body, Done, Script, Shell, apply, assert_minimal, login, moved, one, script
from integration.scenario import SOON, phase, reasons_sent

ARGO: Final = "guide/argo-workflow.yaml"
TEKTON: Final = "guide/tekton-task.yaml"
TASK_RUN: Final = "guide/tekton-taskrun.yaml"
WORKFLOW: Final = "follow-x7k2p"
POD: Final = "follow-batch-job-x7k2p-pod"
UID: Final = "1f0a9c1e-0000-4000-8000-000000000000"
IN_ONE_SHELL: Final = pytest.mark.parametrize("shell", ["sh"], indirect=True)


# -- Argo Workflows ---------------------------------------------------------------------------------------------------


def template(name: str) -> Body:
    (found,) = [one for one in one_template()["templates"] if one["name"] == name]
    return dict(found)


def one_template() -> Body:
    return dict(one(ARGO, "WorkflowTemplate")["spec"])


def manifest(name: str, job_id: str) -> Body:
    """What Argo sends for a resource template: parameters filled in, and the workflow as the owner."""
    resource = template(name)["resource"]
    values = {"workflow.name": WORKFLOW, "workflow.parameters.job-id": job_id}
    body: Body = yaml.safe_load(re.sub(r"\{\{(.+?)}}", lambda tag: values[tag[1]], resource["manifest"]))
    if resource.get("setOwnerReference"):
        owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": WORKFLOW, "uid": UID}
        body["metadata"]["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": True}]
    return body


@dataclass(frozen=True)
class Executor:
    """The kubectl calls of Argo's executor, in a namespace."""

    namespace: str
    environment: Mapping[str, str]
    file: Path

    def run(self, name: str, job_id: str) -> Done:
        resource = template(name)["resource"]
        self.file.write_text(yaml.safe_dump(manifest(name, job_id)), "utf-8")
        patch = ["--type", resource["mergeStrategy"], "--patch-file", str(self.file)] if name == "terminate" else []
        return self.kubectl(resource["action"], *patch, "-f", str(self.file), "-o", "json")

    def state(self) -> Done:
        return self.kubectl(
            "get", "--raw", f"/apis/awsbatch.dev/v1alpha1/namespaces/{self.namespace}/batchjobs/{WORKFLOW}"
        )

    def kubectl(self, *arguments: str) -> Done:
        command = [kubectl_program(), *arguments]
        return subprocess.run(command, env=self.environment, check=False, timeout=60, capture_output=True, text=True)


@pytest.fixture
def executor(examples_world: World, cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Executor:
    """With the token of the service account where the control plane checks permissions."""
    account = "" if request.config.getoption("--control-plane") == "embedded" else installed(cluster, ARGO)
    environment = kubectl_environment(login(tmp_path, examples_world, cluster, account), examples_world.cache)
    return Executor(cluster.namespace, environment, tmp_path / "manifest.yaml")


def installed(cluster: Cluster, name: str) -> str:
    """The name of the file's service account, which has its role in the namespace."""
    apply(cluster, *moved(name, cluster.namespace))
    return str(one(name, "ServiceAccount")["metadata"]["name"])


def conditions() -> tuple[set[str], set[str]]:
    """The phases with which the step succeeds and fails."""
    resource = template("follow")["resource"]
    success = re.fullmatch(r"status\.phase == (\w+)", resource["successCondition"])
    failure = re.fullmatch(r"status\.phase in \((.+)\)", resource["failureCondition"])
    assert success
    assert failure
    return {success[1]}, set(failure[1].split(", "))


def test_a_step_ends_with_each_phase_of_a_job_that_has_ended_or_cannot_be_followed() -> None:
    succeeds, fails = conditions()
    assert (succeeds, fails) == (
        {Phase.SUCCEEDED},
        {Phase.FAILED, Phase.TERMINATED, Phase.MISSING, Phase.DENIED},
    )


def test_a_workflow_that_is_deleted_terminates_its_job(
    examples_world: World, cluster: Cluster, executor: Executor
) -> None:
    job_id = examples_world.batch.seed()
    done = executor.run("follow", job_id)
    assert done.returncode == 0, done.stderr
    cluster.wait_for(WORKFLOW, phase("Running"), timeout=SOON)
    assert json.loads(executor.state().stdout)["status"]["phase"] == "Running"
    # What the garbage collector does when the workflow is deleted.
    cluster.delete(WORKFLOW)
    wait_for(lambda: cluster.objects() == [], timeout=SOON, what="the object is gone")
    assert reasons_sent(examples_world, job_id) == [f"workflow {WORKFLOW} was deleted"]


def test_a_workflow_that_is_stopped_terminates_its_job(
    examples_world: World, cluster: Cluster, executor: Executor
) -> None:
    spec = one_template()
    ((exit_step,),) = template(spec["onExit"])["steps"]
    assert (exit_step["template"], exit_step["when"]) == ("terminate", "{{workflow.status}} != Succeeded")
    job_id = examples_world.batch.seed()
    executor.run("follow", job_id)
    done = executor.run(exit_step["template"], job_id)
    assert done.returncode == 0, done.stderr
    cluster.wait_for(WORKFLOW, phase("Terminated"), timeout=SOON)
    assert reasons_sent(examples_world, job_id) == [f"workflow {WORKFLOW} was stopped"]
    gone(cluster)


@pytest.mark.real
def test_the_role_of_the_workflow_suffices_and_has_nothing_to_spare(
    examples_world: World, guarded: Cluster, executor: Executor
) -> None:
    def run() -> Done:
        gone(guarded)
        job_id = examples_world.batch.seed()
        done = executor.run("follow", job_id)
        for call in (executor.state, lambda: executor.run("terminate", job_id)):
            done = done if done.returncode else call()
        return done

    # A pod of a workflow also writes its result, an object of Argo.
    assert_minimal(guarded, ARGO, run, foreign="argoproj.io")
    gone(guarded)


def gone(cluster: Cluster) -> None:
    """The objects are deleted, and the operator has removed its finalizer."""
    cluster.delete_all()
    wait_for(lambda: cluster.objects() == [], timeout=SOON, what="the objects are gone")


# -- Tekton -----------------------------------------------------------------------------------------------------------


def step(shell: Shell, kubeconfig: Path, world: World, directory: Path, job_id: str) -> Script:
    """That of the Task, as Tekton runs it in the pod of the TaskRun."""
    spec, run = one(TEKTON, "Task")["spec"], one(TASK_RUN, "TaskRun")["spec"]
    (given,) = spec["steps"]
    params = {param["name"]: param["default"] for param in spec["params"] if "default" in param}
    params |= {param["name"]: param["value"] for param in run["params"]} | {"job-id": job_id}
    values = {f"params.{name}": value for name, value in params.items()}
    values |= {f"results.{result['name']}.path": str(directory / result["name"]) for result in spec["results"]}
    pod = {"metadata.name": POD, "metadata.uid": UID}
    environment = {
        entry["name"]: filled_in(entry["value"], values)
        if "value" in entry
        else pod[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        for entry in given["env"]
    }
    file = directory / "script"
    file.write_text(filled_in(given["script"], values), "utf-8")
    return script(shell, kubeconfig, world.cache, str(file), **environment)


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """Tekton replaces the variables that it knows, and leaves those of the shell."""
    for name, value in values.items():
        text = text.replace(f"$({name})", value)
    assert not re.search(r"\$\((params|results|context|tasks|workspaces)\.", text)
    return text


@pytest.fixture
def account(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    return "" if request.config.getoption("--control-plane") == "embedded" else installed(cluster, TEKTON)


def test_the_taskrun_runs_the_task_as_its_service_account() -> None:
    run = one(TASK_RUN, "TaskRun")
    task = one(TEKTON, "Task")
    assert run["spec"]["taskRef"]["name"] == task["metadata"]["name"]
    assert run["spec"]["serviceAccountName"] == one(TEKTON, "ServiceAccount")["metadata"]["name"]
    assert run["metadata"]["namespace"] == task["metadata"]["namespace"]


def test_a_task_ends_as_its_job(
    shell: Shell, account: str, examples_world: World, cluster: Cluster, tmp_path: Path
) -> None:
    kubeconfig = login(tmp_path, examples_world, cluster, account)
    for status, code, outcome in (("SUCCEEDED", 0, "Succeeded"), ("FAILED", 1, "Failed")):
        job_id = examples_world.batch.seed(status=status)
        done = step(shell, kubeconfig, examples_world, tmp_path, job_id).run(check=False)
        assert (done.returncode, (tmp_path / "phase").read_text("utf-8")) == (code, outcome), done.stderr
        gone(cluster)


@IN_ONE_SHELL
def test_a_task_that_is_cancelled_terminates_its_job(
    shell: Shell, account: str, examples_world: World, cluster: Cluster, tmp_path: Path
) -> None:
    job_id = examples_world.batch.seed()
    kubeconfig = login(tmp_path, examples_world, cluster, account)
    with step(shell, kubeconfig, examples_world, tmp_path, job_id).start() as process:
        wait_for(cluster.objects, timeout=SOON, what="the object is there")
        cluster.wait_for(POD, phase("Running"), timeout=SOON)
        assert process.poll() is None
        process.terminate()
    (owner,) = cluster.get(POD)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", POD, UID)
    # What the garbage collector does when Tekton has deleted the pod.
    cluster.delete(POD)
    wait_for(lambda: cluster.objects() == [], timeout=SOON, what="the object is gone")
    assert reasons_sent(examples_world, job_id) == [f"its TaskRun ended: pod {POD} was deleted"]


@pytest.mark.real
@IN_ONE_SHELL
def test_the_role_of_the_task_suffices_and_has_nothing_to_spare(
    shell: Shell, account: str, examples_world: World, guarded: Cluster, tmp_path: Path
) -> None:
    kubeconfig = login(tmp_path, examples_world, guarded, account)

    def run() -> Done:
        gone(guarded)
        job_id = examples_world.batch.seed(natural=True, run_for=1)
        follow = step(shell, kubeconfig, examples_world, tmp_path, job_id)
        # Without a permission to read or watch the object, it does not see the end in time.
        return replace(follow, command=("timeout", "5", *follow.command)).run(check=False)

    assert_minimal(guarded, TEKTON, run)
    gone(guarded)
