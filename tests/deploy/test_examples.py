"""Each file of examples/ is listed, explained, tested and accepted by Kubernetes."""

import json
import re
from pathlib import Path
from typing import Final

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster, KubectlError
from deploy import kubernetes_schemas
from deploy.examples import Body, bodies, is_kubernetes, is_ours, moved, one
from deploy.places import EXAMPLES

FILES: Final = sorted(
    str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.suffix in (".yaml", ".sh")
)
VALUES: Final = "quickstart/values-kind.yaml"
MANIFESTS: Final = [name for name in FILES if name.endswith(".yaml") and name != VALUES]
OLDEST: Final = "1.31"
NEWEST: Final = "1.37"


@pytest.mark.parametrize("name", FILES)
def test_a_file_begins_with_what_it_does_what_to_change_and_its_page(name: str) -> None:
    lines = (EXAMPLES / name).read_text("utf-8").removeprefix("#!/bin/sh\n").splitlines()
    head = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    assert 3 <= len(head) <= 8
    assert all(len(line) <= 120 for line in head)
    assert f"xplained in docs/{name.partition('/')[0]}.md" in " ".join(line[2:] for line in head)


def test_the_readme_lists_each_file() -> None:
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \|", (EXAMPLES / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    assert sorted(rows) == [(name, name) for name in FILES]


def test_a_test_names_each_file() -> None:
    tests = Path(__file__).parent
    own = [*tests.glob("test_examples_*.py"), Path(__file__)]
    text = "".join(path.read_text("utf-8") for path in own)
    assert [name for name in FILES if f'"{name}"' not in text] == []


# -- what Kubernetes says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MANIFESTS if any(map(is_kubernetes, bodies(name)))])
def test_kubernetes_knows_each_field(name: str) -> None:
    for body in filter(is_kubernetes, bodies(name)):
        for version in (OLDEST, NEWEST):
            kubernetes_schemas.validate(body, version)


@pytest.mark.parametrize("name", [name for name in MANIFESTS if any(map(is_ours, bodies(name)))])
def test_an_api_server_accepts_our_objects(name: str, cluster: Cluster) -> None:
    apply_dry(cluster, *filter(is_ours, moved(name, cluster.namespace)))


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in MANIFESTS if moved(name, "any")])
def test_kubernetes_accepts_all_objects_of_a_file(name: str, cluster: Cluster) -> None:
    apply_dry(cluster, *moved(name, cluster.namespace))


def apply_dry(cluster: Cluster, *manifests: Body) -> None:
    stdin = yaml.safe_dump_all(manifests)
    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=stdin)


def test_the_service_reaches_the_simulated_batch() -> None:
    deployment = one("quickstart/simulated-batch.yaml", "Deployment")["spec"]
    service = one("quickstart/simulated-batch.yaml", "Service")["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert service["selector"] == deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
    assert [one["targetPort"] for one in service["ports"]] == [port["name"]]
    assert f"--port={port['containerPort']}" in container["args"]


# -- pods -------------------------------------------------------------------------------------------------------------


def pod_of(name: str) -> Body:
    """The spec of the pod that the file's CronJob or Task runs."""
    (body,) = [body for body in bodies(name) if body["kind"] in ("CronJob", "Task")]
    spec: Body = body["spec"]
    if body["kind"] == "Task":
        # A pod of Tekton has one container for each step.
        fields = ("name", "image", "securityContext")
        return {"containers": [{field: step[field] for field in fields} for step in spec["steps"]]}
    return dict(spec["jobTemplate"]["spec"]["template"]["spec"])


PODS: Final = [name for name in MANIFESTS if any(body["kind"] in ("CronJob", "Task") for body in bodies(name))]


@pytest.mark.real
@pytest.mark.parametrize("name", PODS)
def test_a_pod_meets_the_restricted_pod_security_standard(name: str, cluster: Cluster) -> None:
    cluster.label_namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
    spec = {key: value for key, value in pod_of(name).items() if key != "serviceAccountName"}
    create_dry(cluster, spec)
    unsafe = [{**container, "securityContext": {}} for container in spec["containers"]]
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        create_dry(cluster, {**spec, "containers": unsafe})


def create_dry(cluster: Cluster, spec: Body) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}
    cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
