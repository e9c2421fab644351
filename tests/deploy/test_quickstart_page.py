"""docs/quickstart.md on kind: its commands print what it shows, with the manifest and the values that it names."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from awsbatch_sandbox.cluster import KubectlError, kubectl_environment, kubectl_program
from awsbatch_sandbox.kubeconfig import direct
from awsbatch_sandbox.processes import Child, free_port
from deploy.charts import container_of, objects, only, render
from deploy.page_commands import Step, steps
from deploy.places import ROOT
from deploy.stage import RealStage, Stage

STEPS: Final = list(steps((ROOT / "docs/quickstart.md").read_text("utf-8")))
VALUES: Final[dict[str, Any]] = yaml.load(
    (ROOT / "examples/quickstart/values-kind.yaml").read_text("utf-8"), yaml.CSafeLoader
)
MANIFEST: Final = (ROOT / "examples/quickstart/simulated-batch.yaml").read_text("utf-8")
OBJECTS: Final[list[dict[str, Any]]] = list(yaml.load_all(MANIFEST, yaml.CSafeLoader))
FORWARDED: Final = "http://127.0.0.1:18080"
"""Where `kubectl port-forward` of the page offers the simulated Batch."""


def of(heading: str) -> list[Step]:
    return [step for step in STEPS if step.heading == heading]


def batch_container() -> dict[str, Any]:
    (container,) = only(OBJECTS, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def comparable(text: str) -> list[str]:
    """The lines without ages and the width of columns."""
    return [" ".join(re.sub(r"\b\d+s\b", "*", line).split()) for line in text.splitlines()]


@pytest.fixture
def batch_url(tmp_path: Path) -> Iterator[str]:
    """The program of the manifest with its arguments, but on loopback, and without a wait for the end of a job."""
    container = batch_container()
    _, *module = container["command"]
    port = free_port()
    changes = ["--host=127.0.0.1", f"--port={port}", "--grace=0.2"]
    url = f"http://127.0.0.1:{port}"
    health = f"{url}{container['readinessProbe']['httpGet']['path']}"
    program = [sys.executable, *module, *container["args"], *changes]
    batch = Child("batch", program, log=tmp_path / "batch.log", environment=os.environ)
    batch.start()
    batch.ready(lambda: _answers(health), timeout=20)
    yield url
    batch.stop()


def _answers(url: str) -> bool:
    try:
        with direct.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:  # not listening yet
        return False


def variables(url: str) -> dict[str, str]:
    """Those of the chart's container; the name of the Service stands for the URL."""
    service = only(OBJECTS, "Service")["metadata"]
    name = f"http://{service['name']}.{service['namespace']}.svc"
    given = {one["name"]: one["value"] for one in container_of(objects(VALUES))["env"]}
    assert name in given.values()
    return {key: value.replace(name, url) for key, value in given.items()}


def test_the_commands_print_what_the_page_shows(stage: Stage, batch_url: str, tmp_path: Path) -> None:
    (tmp_path / "kubectl").symlink_to(kubectl_program())
    environment = os.environ | kubectl_environment(stage.world.control_plane.kubeconfig, stage.world.cache)
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1"}

    def run(command: str) -> str:
        arguments = ["/bin/sh", "-euc", command.replace(FORWARDED, batch_url)]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=90)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout

    with stage.operator(VALUES, variables(batch_url)) as operator:
        operator.start()
        forward, *commands = of("Terminate a job")
        delete, _ = of("Clean up")
        assert "port-forward" in forward.command
        for step in commands:
            assert comparable(run(step.command)) == comparable(step.printed), step.command
        run(delete.command)
        assert operator.stop() == 0


@pytest.mark.real
def test_kubernetes_prints_what_the_page_shows_for_the_simulated_batch(real: RealStage) -> None:
    (step,) = [step for step in of("Install the operator") if step.command.startswith("kubectl apply")]
    kubectl = real.world.cluster.kubectl
    try:
        printed = kubectl("--namespace=", "apply", "--validate=strict", "-f", str(ROOT / shlex.split(step.command)[-1]))
        assert printed == step.printed
        # Pod Security is enforced in its namespace.
        template = only(OBJECTS, "Deployment")["spec"]["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "batch"}, "spec": template["spec"]}
        create = ("create", "--namespace=simulated-batch", "--dry-run=server", "-f", "-")
        kubectl(*create, stdin=yaml.safe_dump(pod))
        pod["spec"] = {**template["spec"], "securityContext": {}}
        with pytest.raises(KubectlError, match="violates PodSecurity"):
            kubectl(*create, stdin=yaml.safe_dump(pod))
    finally:
        kubectl("--namespace=", "delete", "-f", "-", "--wait=false", stdin=MANIFEST)


@pytest.mark.parametrize(
    ("heading", "values"),
    [
        ("Install the operator", VALUES),
        ("On EKS with IRSA", {"aws": {"region": "eu-west-1", "roleArn": "arn:aws:iam::111122223333:role/batch"}}),
        ("On EKS with Pod Identity", {"aws": {"region": "eu-west-1"}}),
    ],
)
def test_helm_prints_the_notes_that_the_page_shows(heading: str, values: Mapping[str, Any]) -> None:
    (step,) = [step for step in of(heading) if step.command.startswith("helm install")]
    notes = render(values)["NOTES.txt"]
    shown = [line for line in step.printed.splitlines() if line != "…"]
    assert shown
    assert [line for line in shown if line not in notes.splitlines()] == []
    assert ("no AWS role is set" in step.printed) == ("no AWS role is set" in notes)


def test_the_image_that_is_built_is_the_one_that_runs() -> None:
    built, loaded, *_ = of("Install the operator")
    image = built.command.split("--tag ")[1].split()[0]
    assert image in loaded.command
    assert container_of(objects(VALUES))["image"] == batch_container()["image"] == image
    # Not from a registry.
    assert VALUES["image"]["pullPolicy"] == batch_container()["imagePullPolicy"] == "Never"


def test_nothing_leads_to_aws() -> None:
    named = {service for service in variables("http://batch") if service.startswith("AWS_ENDPOINT_URL_")}
    assert named == {"AWS_ENDPOINT_URL_BATCH", "AWS_ENDPOINT_URL_STS"}
    assert "eventsQueues" not in VALUES


def test_ci_runs_the_commands_of_the_page() -> None:
    workflow = yaml.load((ROOT / ".github/workflows/ci.yaml").read_text("utf-8"), yaml.CSafeLoader)
    scripts = "\n".join(step.get("run", "") for step in workflow["jobs"]["kind"]["steps"])
    (headings,) = re.findall(r"page_commands\.py docs/quickstart\.md (.+) > (?:\S+)\n", scripts)
    assert shlex.split(headings) == ["Install the operator", "Terminate a job"]
    name, _, reason = re.findall(r"batchjob/(\S+) --for=jsonpath='{(.+)}'=\"(.+)\"\n", scripts)[0]
    patch = json.dumps({"spec": {"terminate": {"reason": reason}}}, separators=(",", ":"))
    assert f"kubectl patch batchjob {name} --type=merge -p '{patch}'" in [step.command for step in STEPS]
