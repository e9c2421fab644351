"""Every example beside the CRD gets its verdict from an API server, over kubectl, as a user would get it.

The embedded API server judges by default, a real one when AWSBATCH_OPERATOR_TEST_KUBECONFIG names a kubeconfig: the CRD
is applied there and stays, the examples go to a namespace of their own that is deleted at the end.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

CRDS = Path(__file__).parents[2] / "crds"
CRD = CRDS / "batchjobs.awsbatch.dev.yaml"
VALID = sorted((CRDS / "examples" / "valid").glob("*.yaml"))
INVALID = sorted((CRDS / "examples" / "invalid").glob("*.yaml"))
WANT = "# want: "

Body = dict[str, Any]
Answer = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Kubectl:
    kubeconfig: Path
    namespace: str

    def __call__(self, *arguments: str, stdin: str = "") -> Answer:
        binary = shutil.which("kubectl", path=Path(sys.executable).parent)
        assert binary is not None, "kubectl is missing beside python; install the extra `sandbox`"
        command = [binary, f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *arguments]
        environ = {**os.environ, "KUBECACHEDIR": str(self.kubeconfig.with_suffix(".cache"))}
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=30, env=environ
        )

    def must(self, *arguments: str, stdin: str = "") -> str:
        answer = self(*arguments, stdin=stdin)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("crd") / "kubeconfig"
    if existing := os.environ.get("AWSBATCH_OPERATOR_TEST_KUBECONFIG"):
        path.write_bytes(Path(existing).read_bytes())
        yield path
        return
    options = ["--port", "0", "--crd", str(CRD), "--kubeconfig", str(path)]
    command = [sys.executable, "-m", "awsbatch_sandbox.apiserver", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline(), "the API server ended before it was up; its words are above"
        yield path
        server.terminate()
        server.communicate(timeout=10)


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path) -> Iterator[Kubectl]:
    namespace = f"examples-{uuid.uuid4().hex[:8]}"
    run = Kubectl(kubeconfig, namespace)
    run.must("apply", "-f", str(CRD))
    run.must("wait", "--for=condition=Established", "--timeout=20s", f"crd/{CRD.stem}")
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    run.must("create", "-f", "-", stdin=json.dumps(body))
    yield run
    run.must("delete", "namespace", namespace, "--wait=false")


def send(kubectl: Kubectl, example: Path) -> Iterator[Answer]:
    """The answers to an example's documents, sent one after another: the first is created, the next one replaces it.

    A status is sent to its subresource, as the operator does; elsewhere the API server ignores it.
    """
    documents = example.read_text(encoding="utf-8").split("\n---\n")
    for number, document in enumerate(documents):
        has_status = "status" in yaml.safe_load(document)
        if number == 0:
            yield kubectl("create", "-f", "-", stdin=document)
        elif not has_status:
            yield kubectl("replace", "-f", "-", stdin=document)
        if has_status:
            yield kubectl("replace", "--subresource=status", "-f", "-", stdin=document)


def wanted(example: Path) -> str:
    first = example.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(WANT), f"{example.name} must begin with {WANT!r} and a part of the message"
    return first.removeprefix(WANT)


def validations(schema: Body) -> Iterator[Body]:
    yield from schema.get("x-kubernetes-validations", ())
    for child in schema.get("properties", {}).values():
        yield from validations(child)


def undescribed(schema: Body, path: str) -> Iterator[str]:
    """Paths of all fields, items and map values without a description; the API server forbids one on ``metadata``."""
    if "description" not in schema and path != ".metadata":
        yield path
    for name, child in schema.get("properties", {}).items():
        yield from undescribed(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from undescribed(schema[name], f"{path}[{name}]")


@pytest.fixture(scope="module")
def version() -> Body:
    (version,) = yaml.safe_load(CRD.read_text(encoding="utf-8"))["spec"]["versions"]
    return dict(version)


@pytest.mark.parametrize("example", VALID, ids=lambda path: path.stem)
def test_a_valid_example_is_accepted_and_stored_as_written(kubectl: Kubectl, example: Path) -> None:
    answers = list(send(kubectl, example))
    assert [answer.stderr for answer in answers if answer.returncode] == []
    *_, last = yaml.safe_load_all(example.read_text(encoding="utf-8"))
    name = last["metadata"]["name"]
    stored = json.loads(kubectl.must("get", "batchjob", name, "-o", "json", "--show-managed-fields"))
    assert stored["spec"] == {field: value for field, value in last["spec"].items() if value is not None}
    assert stored["status"] == last.get("status", {"observedGeneration": 0})
    owned = any("f:status" in entry["fieldsV1"] for entry in stored["metadata"]["managedFields"])
    assert owned == ("status" in last), "the status that a new object has by default belongs to nobody"


@pytest.mark.parametrize("example", INVALID, ids=lambda path: path.stem)
def test_an_invalid_example_is_refused_with_a_message_that_says_what_to_do(kubectl: Kubectl, example: Path) -> None:
    *before, last = send(kubectl, example)
    assert [answer.stderr for answer in before if answer.returncode] == []
    assert last.returncode != 0
    assert wanted(example) in last.stderr


def test_every_rule_is_shown_by_an_invalid_example(version: Body) -> None:
    messages = [rule["message"] for rule in validations(version["schema"]["openAPIV3Schema"])]
    wants = [wanted(example) for example in INVALID]
    assert len(messages) == 6
    assert [message for message in messages if not any(want in message for want in wants)] == []


def test_every_field_is_described(version: Body) -> None:
    assert list(undescribed(version["schema"]["openAPIV3Schema"], "")) == []


def test_the_columns_are_those_that_scripts_and_people_know(version: Body) -> None:
    columns = version["additionalPrinterColumns"]
    always = {column["name"].upper(): column["jsonPath"] for column in columns if not column.get("priority")}
    wide = [column["name"].upper() for column in columns if column.get("priority") == 1]
    assert always == {
        "PHASE": ".status.phase",
        "STATUS": ".status.jobStatus",
        "JOB": ".status.jobName",
        "TERMINATE": ".spec.terminate.reason",
        "AGE": ".metadata.creationTimestamp",
    }
    assert wide == ["JOB-ID", "QUEUE", "EXIT", "STARTED", "STOPPED", "REGION"]


def test_objects_are_found_by_the_id_of_their_job(kubectl: Kubectl) -> None:
    body = {"apiVersion": "awsbatch.dev/v1alpha1", "kind": "BatchJob", "metadata": {"name": "by-id"}}
    kubectl.must("create", "-f", "-", stdin=json.dumps({**body, "spec": {"jobId": "only-this-one"}}))
    found = kubectl.must("get", "bj", "--field-selector=spec.jobId=only-this-one", "-o", "name")
    assert found.split() == ["batchjob.awsbatch.dev/by-id"]
