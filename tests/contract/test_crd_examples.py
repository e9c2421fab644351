"""Every example beside the CRD gets its verdict from an API server, over kubectl, as a user would get it.

The embedded API server judges by default, a real one when AWSBATCH_OPERATOR_TEST_KUBECONFIG names a kubeconfig: the two
CRDs are applied there and stay, the examples go to a namespace that is deleted at the end, and so are the policies.
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
JOBS, POLICIES = CRDS / "batchjobs.awsbatch.dev.yaml", CRDS / "batchaccesspolicies.awsbatch.dev.yaml"
VALID = sorted((CRDS / "examples" / "valid").glob("*.yaml"))
INVALID = sorted((CRDS / "examples" / "invalid").glob("*.yaml"))
POLICY_RULES = 24
POLICY_EXAMPLES = [path for path in (*VALID, *INVALID) if path.stem.startswith("policy-")]
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
    options = ["--port", "0", "--crd", str(JOBS), "--kubeconfig", str(path)]
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
    for crd in (JOBS, POLICIES):
        run.must("apply", "-f", str(crd))
        run.must("wait", "--for=condition=Established", "--timeout=20s", f"crd/{crd.stem}")
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    run.must("create", "-f", "-", stdin=json.dumps(body))
    yield run
    run.must("delete", "namespace", namespace, "--wait=false")
    ours = {path.stem for path in POLICY_EXAMPLES}
    left = [name for line in run.must("get", "bap", "-o", "name").split() if (name := line.partition("/")[2]) in ours]
    run.must("delete", "bap", "--wait=false", *left)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the API server made of the examples: errors by example and step, and objects by kind and name."""

    errors: dict[Path, dict[str, str]]
    stored: dict[tuple[str, str], Body]


STEPS = {
    "create": ("create",),
    "replace": ("replace",),
    # As the operator sends it; elsewhere the API server ignores a status.
    "status": ("replace", "--subresource=status"),
}


def steps_of(example: Path) -> Iterator[tuple[str, str]]:
    """What is sent of an example, one after another: the first document is created, the next one replaces it."""
    for number, document in enumerate(example.read_text(encoding="utf-8").split("\n---\n")):
        has_status = "status" in yaml.safe_load(document)
        if number == 0:
            yield "create", document
        elif not has_status:
            yield "replace", document
        if has_status:
            yield "status", document


@pytest.fixture(scope="module")
def verdicts(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """One kubectl for all examples at each step: a process for each would take half a minute."""
    root = tmp_path_factory.mktemp("examples")
    errors: dict[Path, dict[str, str]] = {example: {} for example in (*VALID, *INVALID)}
    for step, command in STEPS.items():
        files = {}
        for example in errors:
            for document in (document for name, document in steps_of(example) if name == step):
                files[example] = root / f"{step}-{example.parent.name}-{example.name}"
                files[example].write_text(document, encoding="utf-8")
        said = kubectl(*command, *(f"--filename={file}" for file in files.values())).stderr.splitlines()
        for example, file in files.items():
            if found := [line for line in said if f'"{file}"' in line]:
                errors[example][step] = "\n".join(found)
        assert [line for line in said if not any(f'"{file}"' in line for file in files.values())] == []
    listed = json.loads(kubectl.must("get", "batchjobs,bap", "-o", "json", "--show-managed-fields"))["items"]
    return Verdicts(errors, {(body["kind"], body["metadata"]["name"]): body for body in listed})


def last_of(example: Path) -> Body:
    *_, last = yaml.safe_load_all(example.read_text(encoding="utf-8"))
    return dict(last)


def wanted(example: Path) -> str:
    first = example.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(WANT), f"{example.name} must begin with {WANT!r} and a part of the message"
    return first.removeprefix(WANT)


def validations(schema: Body) -> Iterator[Body]:
    yield from schema.get("x-kubernetes-validations", ())
    below = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for child in filter(None, below):
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


def version(crd: Path) -> Body:
    (only,) = yaml.safe_load(crd.read_text(encoding="utf-8"))["spec"]["versions"]
    return dict(only)


def columns(crd: Path) -> tuple[dict[str, str], list[str]]:
    """Those that are always shown, with their paths, and the names of those that `-o wide` adds."""
    found = version(crd)["additionalPrinterColumns"]
    always = {column["name"].upper(): column["jsonPath"] for column in found if not column.get("priority")}
    return always, [column["name"].upper() for column in found if column.get("priority") == 1]


@pytest.mark.parametrize("example", VALID, ids=lambda path: path.stem)
def test_a_valid_example_is_accepted_and_stored_as_written(verdicts: Verdicts, example: Path) -> None:
    assert verdicts.errors[example] == {}
    last = last_of(example)
    stored = verdicts.stored[last["kind"], last["metadata"]["name"]]
    assert stored["spec"] == {field: value for field, value in last["spec"].items() if value is not None}
    assert stored["status"] == last.get("status", {"observedGeneration": 0})
    owned = any("f:status" in entry["fieldsV1"] for entry in stored["metadata"]["managedFields"])
    assert owned == ("status" in last), "the status that a new object has by default belongs to nobody"


@pytest.mark.parametrize("example", INVALID, ids=lambda path: path.stem)
def test_an_invalid_example_is_refused_with_a_message_that_says_what_to_do(verdicts: Verdicts, example: Path) -> None:
    *_, (last, _) = steps_of(example)
    assert verdicts.errors[example].keys() == {last}, "it is the last document that is refused, and no other"
    assert wanted(example) in verdicts.errors[example][last]


@pytest.mark.parametrize("example", POLICY_EXAMPLES, ids=lambda path: path.stem)
def test_an_example_of_a_policy_is_named_like_its_file(example: Path) -> None:
    assert last_of(example)["metadata"]["name"] == example.stem, "by these names they are deleted at the end"


@pytest.mark.parametrize(("crd", "count"), [(JOBS, 6), (POLICIES, POLICY_RULES)], ids=["jobs", "policies"])
def test_every_rule_is_shown_by_an_invalid_example(crd: Path, count: int) -> None:
    messages = [rule["message"] for rule in validations(version(crd)["schema"]["openAPIV3Schema"])]
    kind = yaml.safe_load(crd.read_text(encoding="utf-8"))["spec"]["names"]["kind"]
    wants = [wanted(example) for example in INVALID if last_of(example)["kind"] == kind]
    assert len(messages) == count
    assert [message for message in messages if not any(want in message for want in wants)] == []


@pytest.mark.parametrize("crd", [JOBS, POLICIES], ids=["jobs", "policies"])
def test_every_field_is_described(crd: Path) -> None:
    assert list(undescribed(version(crd)["schema"]["openAPIV3Schema"], "")) == []


def test_the_columns_are_those_that_scripts_and_people_know() -> None:
    always, wide = columns(JOBS)
    assert always == {
        "PHASE": ".status.phase",
        "STATUS": ".status.jobStatus",
        "JOB": ".status.jobName",
        "TERMINATE": ".spec.terminate.reason",
        "AGE": ".metadata.creationTimestamp",
    }
    assert wide == ["JOB-ID", "QUEUE", "EXIT", "STARTED", "STOPPED", "REGION"]


def test_the_columns_of_a_policy() -> None:
    always, wide = columns(POLICIES)
    assert always == {
        "ROLE": ".spec.role.arn",
        "REGIONS": ".spec.regions",
        "NAMESPACES": ".status.namespaces",
        "JOBS": ".status.jobs",
        "READY": '.status.conditions[?(@.type=="Ready")].status',
        "AGE": ".metadata.creationTimestamp",
    }
    assert wide == ["REASON", "ACCOUNT", "QUEUES", "ALLOW"]


def test_a_policy_is_shown_on_one_line_and_found_by_its_short_name(kubectl: Kubectl) -> None:
    kubectl.must("delete", "bap", "shown", "--ignore-not-found")
    body = last_of(CRDS / "examples" / "valid" / "policy-team.yaml") | {"metadata": {"name": "shown"}}
    body["status"] = last_of(CRDS / "examples" / "valid" / "policy-status-in-force.yaml")["status"]
    kubectl.must("create", "-f", "-", stdin=json.dumps(body))
    kubectl.must("replace", "--subresource=status", "-f", "-", stdin=json.dumps(body))
    line = kubectl.must("get", "bap", "shown", "--no-headers", "-o", "wide").split()
    kubectl.must("delete", "bap", "shown")
    role, regions = "arn:aws:iam::111122223333:role/batch-team-a", '["eu-west-1","us-east-1"]'
    assert line[:6] == ["shown", role, regions, "3", "812", "True"]
    assert line[7:] == ["InForce", "111122223333", '["team-a-*"]', '["Observe","Terminate"]']


def test_what_a_policy_allows_when_it_does_not_say(kubectl: Kubectl) -> None:
    body = last_of(CRDS / "examples" / "valid" / "policy-least.yaml") | {"metadata": {"name": "policy-default"}}
    del body["spec"]["allow"]
    answer = kubectl.must("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(body))
    assert json.loads(answer)["spec"]["allow"] == ["Observe", "Terminate"]


def test_a_policy_belongs_to_no_namespace(kubectl: Kubectl) -> None:
    kubectl.must("delete", "bap", "everywhere", "--ignore-not-found")
    body = last_of(CRDS / "examples" / "valid" / "policy-least.yaml") | {"metadata": {"name": "everywhere"}}
    kubectl.must("create", "-f", "-", stdin=json.dumps(body))
    found = kubectl.must("get", "bap", "everywhere", "--namespace=default", "-o", "json")
    kubectl.must("delete", "bap", "everywhere")
    assert "namespace" not in json.loads(found)["metadata"]


def test_objects_are_found_by_the_id_of_their_job(kubectl: Kubectl) -> None:
    body = {"apiVersion": "awsbatch.dev/v1alpha1", "kind": "BatchJob", "metadata": {"name": "by-id"}}
    kubectl.must("create", "-f", "-", stdin=json.dumps({**body, "spec": {"jobId": "only-this-one"}}))
    found = kubectl.must("get", "bj", "--field-selector=spec.jobId=only-this-one", "-o", "name")
    assert found.split() == ["batchjob.awsbatch.dev/by-id"]
