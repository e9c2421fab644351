"""Sends every example of the CRDs, and each BatchJob in the pages, to an API server, and compares what it answers.

By default to the embedded API server; to a real one if AWSBATCH_OPERATOR_TEST_KUBECONFIG names a kubeconfig. The CRDs
are applied there and stay; the namespace of the examples and the policies are deleted at the end.
"""

import json
import os
import re
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

from contract.servers import embedded_api_server

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "crds"
JOBS, POLICIES, BULK = (
    CRDS / f"{plural}.awsbatch.dev.yaml" for plural in ("batchjobs", "batchaccesspolicies", "batchterminations")
)
RULES = {JOBS: 13, POLICIES: 25, BULK: 8}

Body = dict[str, Any]
Answer = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Example:
    """`documents`: what is sent, one after another; each replaces the one before. `message`: of the rejection."""

    name: str
    documents: tuple[str, ...]
    message: str = ""

    @property
    def last(self) -> Body:
        return dict(yaml.load(self.documents[-1], yaml.CSafeLoader))


def valid_examples() -> Iterator[Example]:
    for path in sorted((CRDS / "examples" / "valid").glob("*.yaml")):
        yield Example(path.stem, tuple(path.read_text(encoding="utf-8").split("\n---\n")))


def page_examples() -> Iterator[Example]:
    """The BatchJobs in README.md and docs/, without their metadata."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        documents = [document for block in blocks for document in yaml.load_all(block, yaml.CSafeLoader)]
        for number, body in enumerate(document for document in documents if document.get("kind") == "BatchJob"):
            name = f"page-{page.stem.lower()}-{number}"
            yield Example(name, (json.dumps(body | {"metadata": {"name": name}}),))


def invalid_examples() -> Iterator[Example]:
    for entry in yaml.load((CRDS / "examples" / "invalid.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader):
        head = {"apiVersion": "awsbatch.dev/v1alpha1", "metadata": {"name": entry["name"]}}
        bodies = [head | entry[key] for key in ("before", "object") if key in entry]
        yield Example(entry["name"], tuple(map(json.dumps, bodies)), entry["message"])


PAGES = [*page_examples()]
VALID, INVALID = [*valid_examples(), *PAGES], [*invalid_examples()]
POLICY_EXAMPLES = [example for example in (*VALID, *INVALID) if example.name.startswith("policy-")]


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
    directory = tmp_path_factory.mktemp("crd")
    if existing := os.environ.get("AWSBATCH_OPERATOR_TEST_KUBECONFIG"):
        yield Path(shutil.copy(existing, directory / "kubeconfig"))
        return
    with embedded_api_server(directory) as path:
        yield path


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path) -> Iterator[Kubectl]:
    namespace = f"examples-{uuid.uuid4().hex[:8]}"
    run = Kubectl(kubeconfig, namespace)
    for crd in RULES:
        run.must("apply", "-f", str(crd))
        run.must("wait", "--for=condition=Established", "--timeout=20s", f"crd/{crd.stem}")
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    run.must("create", "-f", "-", stdin=json.dumps(body))
    yield run
    run.must("delete", "namespace", namespace, "--wait=false")
    ours = {example.name for example in POLICY_EXAMPLES}
    left = [name for line in run.must("get", "bap", "-o", "name").split() if (name := line.partition("/")[2]) in ours]
    run.must("delete", "bap", "--wait=false", *left)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Responses of the API server: errors by example and step, stored objects by kind and name."""

    errors: dict[Example, dict[str, str]]
    stored: dict[tuple[str, str], Body]


STEPS = {
    "create": ("create",),
    "replace": ("replace",),
    # As the operator sends it; in other requests the API server ignores a status.
    "status": ("replace", "--subresource=status"),
}


def steps_of(example: Example) -> Iterator[tuple[str, str]]:
    """Requests of an example in their order: the first document is created, the next one replaces it."""
    for number, document in enumerate(example.documents):
        has_status = "status" in yaml.load(document, yaml.CSafeLoader)
        if number == 0:
            yield "create", document
        elif not has_status:
            yield "replace", document
        if has_status:
            yield "status", document


@pytest.fixture(scope="module")
def outcomes(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """One kubectl for all examples of each step: one process per example would take half a minute."""
    root = tmp_path_factory.mktemp("examples")
    errors: dict[Example, dict[str, str]] = {example: {} for example in (*VALID, *INVALID)}
    for step, command in STEPS.items():
        files = {}
        for example in errors:
            for document in (document for name, document in steps_of(example) if name == step):
                files[example] = root / f"{step}-{example.name}.yaml"
                files[example].write_text(document, encoding="utf-8")
        printed = kubectl(*command, *(f"--filename={file}" for file in files.values())).stderr.splitlines()
        for example, file in files.items():
            if found := [line for line in printed if f'"{file}"' in line]:
                errors[example][step] = "\n".join(found)
        assert [line for line in printed if not any(f'"{file}"' in line for file in files.values())] == []
    listed = json.loads(kubectl.must("get", "batchjobs,bap,bt", "-o", "json", "--show-managed-fields"))["items"]
    return Outcomes(errors, {(body["kind"], body["metadata"]["name"]): body for body in listed})


def valid(name: str) -> Body:
    (example,) = (one for one in VALID if one.name == name)
    return example.last


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
    (only,) = yaml.load(crd.read_text(encoding="utf-8"), yaml.CSafeLoader)["spec"]["versions"]
    return dict(only)


def columns(crd: Path) -> tuple[dict[str, str], list[str]]:
    """Those that are always shown, with their paths, and the names of those that `-o wide` adds."""
    found = version(crd)["additionalPrinterColumns"]
    always = {column["name"].upper(): column["jsonPath"] for column in found if not column.get("priority")}
    return always, [column["name"].upper() for column in found if column.get("priority") == 1]


@pytest.mark.parametrize("example", VALID, ids=lambda example: example.name)
def test_a_valid_example_is_accepted_and_stored_as_written(outcomes: Outcomes, example: Example) -> None:
    assert outcomes.errors[example] == {}
    last = example.last
    stored = outcomes.stored[last["kind"], last["metadata"]["name"]]
    assert stored["spec"] == {field: value for field, value in last["spec"].items() if value is not None}
    assert stored["status"] == last.get("status", {"observedGeneration": 0})
    owned = any("f:status" in entry["fieldsV1"] for entry in stored["metadata"]["managedFields"])
    assert owned == ("status" in last), "the default status has no manager"


def test_the_guide_has_a_manifest_with_a_deadline_and_one_with_on_delete() -> None:
    shown = [example.last["spec"] for example in PAGES if example.name.startswith("page-guide-")]
    assert [sorted(set(spec) & {"deadline", "onDelete"}) for spec in shown] == [["deadline"], ["onDelete"]]


@pytest.mark.parametrize("example", INVALID, ids=lambda example: example.name)
def test_an_invalid_example_is_rejected_with_its_message(outcomes: Outcomes, example: Example) -> None:
    *_, (last, _) = steps_of(example)
    assert outcomes.errors[example].keys() == {last}, "only the last document is rejected"
    assert example.message in outcomes.errors[example][last]


@pytest.mark.parametrize("example", POLICY_EXAMPLES, ids=lambda example: example.name)
def test_an_example_of_a_policy_has_its_name(example: Example) -> None:
    assert example.last["metadata"]["name"] == example.name, "the fixture deletes them by these names"


@pytest.mark.parametrize(("crd", "count"), RULES.items(), ids=lambda value: getattr(value, "stem", ""))
def test_every_rule_has_an_invalid_example(crd: Path, count: int) -> None:
    messages = [rule["message"] for rule in validations(version(crd)["schema"]["openAPIV3Schema"])]
    kind = yaml.load(crd.read_text(encoding="utf-8"), yaml.CSafeLoader)["spec"]["names"]["kind"]
    parts = [example.message for example in INVALID if example.last["kind"] == kind]
    assert len(messages) == count
    assert [message for message in messages if not any(part in message for part in parts)] == []


@pytest.mark.parametrize("crd", RULES, ids=lambda crd: crd.stem)
def test_every_field_is_described(crd: Path) -> None:
    assert list(undescribed(version(crd)["schema"]["openAPIV3Schema"], "")) == []


def shared_maps(schema: Body, path: str) -> Iterator[str]:
    """Paths of objects of which two managers could each own a part."""
    if schema["type"] == "object" and schema.get("x-kubernetes-map-type") != "atomic":
        yield path
        for name, child in schema.get("properties", {}).items():
            yield from shared_maps(child, f"{path}.{name}")


@pytest.mark.parametrize("crd", RULES, ids=lambda crd: crd.stem)
def test_no_two_managers_can_leave_an_empty_map_in_a_spec(crd: Path) -> None:
    assert list(shared_maps(version(crd)["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec")) == ["spec"]


def test_one_manager_owns_a_whole_termination(outcomes: Outcomes) -> None:
    (manager,) = outcomes.stored["BatchJob", "train-42"]["metadata"]["managedFields"]
    assert manager["fieldsV1"]["f:spec"]["f:terminate"] == {}


def test_the_columns_of_a_batchjob() -> None:
    always, wide = columns(JOBS)
    assert always == {
        "PHASE": ".status.phase",
        "READY": '.status.conditions[?(@.type=="Ready")].status',
        "STATUS": ".status.jobStatus",
        "JOB": ".status.jobName",
        "TERMINATION": '.status.conditions[?(@.type=="Terminated")].reason',
        "AGE": ".metadata.creationTimestamp",
    }
    assert list(always) == ["PHASE", "READY", "STATUS", "JOB", "TERMINATION", "AGE"]
    assert wide == ["REASON", "DEADLINE", "JOB-ID", "QUEUE", "EXIT", "STARTED", "STOPPED", "REGION"]


def test_the_columns_of_a_policy() -> None:
    always, wide = columns(POLICIES)
    assert always == {
        "ROLE": ".spec.role.arn",
        "REGIONS": ".spec.regions",
        "NAMESPACES": ".status.namespaces",
        "JOBS": ".status.jobs",
        "READY": '.status.conditions[?(@.type=="Ready")].status',
        "SUSPENDED": ".spec.suspend",
        "AGE": ".metadata.creationTimestamp",
    }
    assert wide == ["REASON", "ACCOUNT", "QUEUES", "ALLOW"]


def test_the_columns_of_a_bulk_termination() -> None:
    always, wide = columns(BULK)
    assert always == {
        "PHASE": ".status.phase",
        "APPROVED": ".spec.approved",
        "MATCHED": ".status.matched",
        "MAX": ".spec.maxJobs",
        "REQUESTED": ".status.requested",
        "FAILED": ".status.failed",
        "AGE": ".metadata.creationTimestamp",
    }
    assert wide == ["REASON", "REGION"]


def test_a_bulk_termination_is_shown_on_one_line_and_found_by_what_needs_approval(
    kubectl: Kubectl, outcomes: Outcomes
) -> None:
    assert ("BatchTermination", "bulk-status-awaiting-approval") in outcomes.stored
    selector = "--field-selector=spec.approved=false,status.phase=AwaitingApproval"
    (line,) = kubectl.must("get", "bt", selector, "--no-headers", "-o", "wide").splitlines()
    name, phase, approved, matched, most, requested, failed, _, *reason, region = line.split()
    assert (name, phase, approved) == ("bulk-status-awaiting-approval", "AwaitingApproval", "false")
    assert (matched, most, requested, failed, region) == ("37", "200", "0", "0", "eu-west-1")
    assert " ".join(reason) == "INC-4711: runaway cost"


def test_a_bulk_termination_is_not_approved_unless_it_says_so(kubectl: Kubectl) -> None:
    body = valid("bulk")
    del body["spec"]["approved"]
    answer = kubectl.must("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(renamed(body)))
    assert json.loads(answer)["spec"]["approved"] is False


def test_one_manager_owns_a_whole_selection(outcomes: Outcomes) -> None:
    (manager,) = outcomes.stored["BatchTermination", "stop-run-42"]["metadata"]["managedFields"]
    assert manager["fieldsV1"]["f:spec"]["f:select"] == {}


def test_the_status_of_a_bulk_termination_is_not_written_with_its_spec(kubectl: Kubectl) -> None:
    forged = renamed(valid("bulk-status-finished"), "forged")
    kubectl.must("create", "-f", "-", stdin=json.dumps(forged))
    answer = json.loads(kubectl.must("get", "bt", "forged", "-o", "json"))
    assert answer["status"] == {"observedGeneration": 0}
    patch = json.dumps({"spec": {"approved": False}, "status": {"phase": "Planning"}})
    kubectl.must("patch", "bt", "forged", "--subresource=status", "--type=merge", f"--patch={patch}")
    answer = json.loads(kubectl.must("get", "bt", "forged", "-o", "json"))
    assert (answer["spec"]["approved"], answer["status"]["phase"]) == (True, "Planning")


def test_kubectl_explains_a_bulk_termination(kubectl: Kubectl) -> None:
    text = " ".join(kubectl.must("explain", "bt.spec.createdBefore").split())
    assert "KIND: BatchTermination" in text
    assert "Only jobs that were submitted before this time" in text


def renamed(body: Body, name: str = "another") -> Body:
    return body | {"metadata": {"name": name}}


def test_a_policy_is_shown_on_one_line_and_found_by_its_short_name(kubectl: Kubectl) -> None:
    kubectl.must("delete", "bap", "shown", "--ignore-not-found")
    body = valid("policy-team") | {"metadata": {"name": "shown"}}
    body["status"] = valid("policy-status-in-force")["status"]
    kubectl.must("create", "-f", "-", stdin=json.dumps(body))
    kubectl.must("replace", "--subresource=status", "-f", "-", stdin=json.dumps(body))
    line = kubectl.must("get", "bap", "shown", "--no-headers", "-o", "wide").split()
    kubectl.must("delete", "bap", "shown")
    role, regions = "arn:aws:iam::111122223333:role/batch-team-a", '["eu-west-1","us-east-1"]'
    assert line[:6] == ["shown", role, regions, "3", "812", "True"]
    assert line[7:] == ["InForce", "111122223333", '["team-a-*"]', '["Observe","Terminate"]']


def test_the_default_of_allow(kubectl: Kubectl) -> None:
    body = valid("policy-least") | {"metadata": {"name": "policy-default"}}
    del body["spec"]["allow"]
    answer = kubectl.must("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(body))
    assert json.loads(answer)["spec"]["allow"] == ["Observe", "Terminate"]


def test_a_policy_is_cluster_scoped(kubectl: Kubectl) -> None:
    kubectl.must("delete", "bap", "everywhere", "--ignore-not-found")
    body = valid("policy-least") | {"metadata": {"name": "everywhere"}}
    kubectl.must("create", "-f", "-", stdin=json.dumps(body))
    found = kubectl.must("get", "bap", "everywhere", "--namespace=default", "-o", "json")
    kubectl.must("delete", "bap", "everywhere")
    assert "namespace" not in json.loads(found)["metadata"]


def test_objects_are_found_by_the_id_of_their_job(kubectl: Kubectl) -> None:
    body = {"apiVersion": "awsbatch.dev/v1alpha1", "kind": "BatchJob", "metadata": {"name": "by-id"}}
    kubectl.must("create", "-f", "-", stdin=json.dumps({**body, "spec": {"jobId": "only-this-one"}}))
    found = kubectl.must("get", "bj", "--field-selector=spec.jobId=only-this-one", "-o", "name")
    assert found.split() == ["batchjob.awsbatch.dev/by-id"]
