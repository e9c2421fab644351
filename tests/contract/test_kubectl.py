"""The real kubectl against the embedded API server."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CRDS = Path(__file__).parents[2] / "crds"
JOB = """
apiVersion: awsbatch.dev/v1alpha1
kind: BatchJob
metadata: {{name: {name}}}
spec: {{jobId: {job_id}}}
"""
EVENT = """
apiVersion: events.k8s.io/v1
kind: Event
metadata: {name: stopped}
regarding: {apiVersion: awsbatch.dev/v1alpha1, kind: BatchJob, namespace: default, name: described, uid: UID}
eventTime: "2026-01-01T00:00:00.000000Z"
reportingController: example.com/tester
reportingInstance: tester-1
action: Stop
reason: Stopped
type: Normal
note: It stopped.
"""
READY = """{"status": {"phase": "Running", "jobStatus": "RUNNING", "conditions": [{"type": "Ready", "status": "True",
"reason": "Observed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}]}}"""


@dataclass(frozen=True)
class Kubectl:
    binary: str
    environment: dict[str, str]

    def run(self, *arguments: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
        command = [self.binary, "--request-timeout=10s", *arguments]
        return subprocess.run(
            command, input=text, env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )

    def __call__(self, *arguments: str, text: str | None = None) -> str:
        """Return the output of a command that must succeed."""
        done = self.run(*arguments, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str, text: str | None = None) -> str:
        """Return the error output of a command that must fail."""
        done = self.run(*arguments, text=text)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def create(self, name: str, job_id: str = "job-1") -> None:
        self("create", "-f", "-", text=JOB.format(name=name, job_id=job_id))


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    binary = shutil.which("kubectl", path=Path(sys.executable).parent)
    assert binary, "install the extra `sandbox`: it brings kubectl"
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "kubeconfig")
        command = [sys.executable, "-m", "awsbatch_sandbox.apiserver", "--crd", str(CRDS), "--kubeconfig", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            assert server.stdout.readline().startswith("https://127.0.0.1:")
            yield Kubectl(binary, {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": str(file)})
            server.send_signal(signal.SIGTERM)
            assert server.wait(10) == 0


def test_get_prints_the_columns_and_wide_prints_more(kubectl: Kubectl) -> None:
    kubectl.create("shown", "job-shown")
    kubectl("patch", "bj", "shown", "--subresource=status", "--type=merge", "-p", READY)
    header, row = kubectl("get", "bj", "shown").splitlines()
    assert header.split() == ["NAME", "PHASE", "READY", "STATUS", "JOB", "TERMINATION", "AGE"]
    assert row.split()[:4] == ["shown", "Running", "True", "RUNNING"]
    assert "job-shown" in kubectl("get", "batchjob", "shown", "-o", "wide")


def test_get_prints_yaml_without_managed_fields_and_selects(kubectl: Kubectl) -> None:
    kubectl.create("selected", "job-selected")
    yaml = kubectl("get", "bj", "selected", "-o", "yaml")
    assert "jobId: job-selected" in yaml
    assert "managedFields" not in yaml
    assert "managedFields" in kubectl("get", "bj", "selected", "-o", "yaml", "--show-managed-fields")
    by_id = kubectl("get", "bj", "--field-selector=spec.jobId=job-selected", "-o", "name")
    assert by_id == "batchjob.awsbatch.dev/selected\n"
    assert "selected" in kubectl("get", "aws", "-A")


def test_a_watch_prints_changes(kubectl: Kubectl) -> None:
    kubectl.create("watched")
    command = [kubectl.binary, "--request-timeout=20s", "get", "bj", "-w", "--field-selector=metadata.name=watched"]
    with subprocess.Popen(command, env=kubectl.environment, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout
        assert watch.stdout.readline().startswith("NAME")
        assert watch.stdout.readline().startswith("watched")
        kubectl("patch", "bj", "watched", "--subresource=status", "--type=merge", "-p", READY)
        assert "RUNNING" in watch.stdout.readline()
        watch.terminate()


def test_client_side_apply_creates_leaves_alone_and_configures(kubectl: Kubectl) -> None:
    first = JOB.format(name="applied", job_id="job-1")
    assert kubectl("apply", "-f", "-", text=first) == "batchjob.awsbatch.dev/applied created\n"
    assert kubectl("apply", "-f", "-", text=first) == "batchjob.awsbatch.dev/applied unchanged\n"
    second = first.replace("job-1}", "job-1, terminate: {reason: enough}}")
    assert kubectl("apply", "-f", "-", text=second) == "batchjob.awsbatch.dev/applied configured\n"
    kubectl("apply", "-f", "-", text=first)
    assert kubectl("get", "bj", "applied", "-o", "jsonpath={.spec}") == '{"jobId":"job-1"}'


def test_apply_rejects_unknown_fields(kubectl: Kubectl) -> None:
    text = JOB.format(name="unknown", job_id="job-1, jobName: x")
    assert 'strict decoding error: unknown field "spec.jobName"' in kubectl.refused("apply", "-f", "-", text=text)


def test_server_side_apply_names_the_way_out(kubectl: Kubectl) -> None:
    text = JOB.format(name="server-side", job_id="job-1")
    assert "--control-plane=envtest" in kubectl.refused("apply", "--server-side", "-f", "-", text=text)


def test_replace_follows_the_version(kubectl: Kubectl) -> None:
    kubectl.create("replaced")
    stale = kubectl("get", "bj", "replaced", "-o", "json")
    kubectl("label", "bj", "replaced", "team=a")
    kubectl("annotate", "bj", "replaced", "note=b")
    assert "the object has been modified" in kubectl.refused("replace", "-f", "-", text=stale)
    fresh = kubectl("get", "bj", "-l", "team=a", "-o", "json")
    kubectl("replace", "-f", "-", text=fresh.replace('"b"', '"c"'))
    assert kubectl("get", "bj", "replaced", "-o", "jsonpath={.metadata.annotations.note}") == "c"


def test_patches_change_the_spec_and_rules_reject_invalid_ones(kubectl: Kubectl) -> None:
    kubectl.create("patched")
    kubectl("patch", "bj", "patched", "--type=merge", "-p", '{"spec":{"terminate":{"reason":"one"}}}')
    replace = '[{"op":"replace","path":"/spec/terminate/reason","value":"two"}]'
    kubectl("patch", "bj", "patched", "--type=json", "-p", replace)
    assert kubectl("get", "bj", "patched", "-o", "jsonpath={.spec.terminate.reason}") == "two"
    message = kubectl.refused("patch", "bj", "patched", "--type=merge", "-p", '{"spec":{"jobId":"another"}}')
    assert message.startswith('The BatchJob "patched" is invalid: spec.jobId: Invalid value: ')


def test_wait_sees_conditions_fields_and_deletion(kubectl: Kubectl) -> None:
    kubectl.create("awaited")
    waiting = [kubectl.binary, "wait", "bj/awaited", "--timeout=10s", "--for=condition=Ready"]
    with subprocess.Popen(waiting, env=kubectl.environment, stdout=subprocess.PIPE, text=True) as wait:
        kubectl("patch", "bj", "awaited", "--subresource=status", "--type=merge", "-p", READY)
        assert wait.communicate(timeout=15)[0] == "batchjob.awsbatch.dev/awaited condition met\n"
    kubectl("wait", "bj/awaited", "--timeout=5s", "--for=jsonpath={.status.phase}=Running")
    deleted = kubectl("delete", "bj", "awaited")
    assert deleted.startswith('batchjob.awsbatch.dev "awaited" deleted')
    kubectl("wait", "bj/awaited", "--timeout=5s", "--for=delete")
    assert "(NotFound)" in kubectl.refused("get", "bj", "awaited")


def test_explain_and_api_resources_describe_the_crd(kubectl: Kubectl) -> None:
    explained = kubectl("explain", "batchjob.spec.terminate")
    assert "KIND:       BatchJob" in explained
    assert "reason\t<string>" in explained
    (line,) = (line for line in kubectl("api-resources").splitlines() if line.startswith("batchjobs"))
    assert line.split() == ["batchjobs", "bj", "awsbatch.dev/v1alpha1", "true", "BatchJob"]


def test_describe_and_events_show_what_happened(kubectl: Kubectl) -> None:
    kubectl.create("described")
    uid = kubectl("get", "bj", "described", "-o", "jsonpath={.metadata.uid}")
    kubectl("create", "-f", "-", text=EVENT.replace("UID", uid))
    described = kubectl("describe", "bj", "described")
    assert "Job Id:  job-1" in described
    assert "It stopped." in described
    assert "It stopped." in kubectl("events", "--for=batchjob/described")
    assert "batchjob/described" in kubectl("get", "events")


def test_built_in_kinds_can_be_created_by_command(kubectl: Kubectl) -> None:
    assert kubectl("create", "namespace", "team-a") == "namespace/team-a created\n"
    kubectl("create", "configmap", "settings", "--from-literal=a=b", "-n", "team-a")
    assert kubectl("get", "configmap", "settings", "-n", "team-a", "-o", "jsonpath={.data.a}") == "b"
    kubectl("delete", "namespace", "team-a")
    assert "team-a" not in kubectl("get", "namespaces")
    assert kubectl("auth", "can-i", "create", "batchjobs") == "yes\n"
