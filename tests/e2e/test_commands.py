"""`awsbatch-operator demo` and `awsbatch-operator sandbox`, as a newcomer runs them."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pictures import PICTURES, Line, comparable, demo_excerpt, shown

from awsbatch_sandbox import demo
from awsbatch_sandbox.cluster import batch_job
from awsbatch_sandbox.controlplane import ControlPlaneError, choose, listens
from awsbatch_sandbox.kubeconfig import direct
from awsbatch_sandbox.processes import ProcessError, wait_for

OPERATOR = (sys.executable, "-m", "awsbatch_operator")


@pytest.fixture
def control_plane(request: pytest.FixtureRequest) -> str:
    requested: str = request.config.getoption("--control-plane")
    if requested == "existing":
        pytest.skip("these commands bring their own control plane")
    return requested


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a directory of its own for temporary files, so that what stays behind can be seen."""
    (tmp_path / "temporary").mkdir()
    return os.environ | {"TMPDIR": str(tmp_path / "temporary")}


def left_behind(environment: dict[str, str]) -> list[str]:
    return [found.name for found in Path(environment["TMPDIR"]).iterdir()]


def test_the_demo_shows_the_termination_of_a_running_job_and_cleans_up(
    control_plane: str, environment: dict[str, str]
) -> None:
    began = time.monotonic()
    reported = subprocess.run(
        [*OPERATOR, "demo", f"--control-plane={control_plane}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert reported.returncode == 0, reported.stderr
    assert time.monotonic() - began < 30
    steps = (
        *("$ kubectl get batchjobs", "$ kubectl patch batchjob train", "batchjob.awsbatch.dev/train patched"),
        *("the API server accepts the patch", "AWS Batch receives TerminateJob", "the request is accepted"),
        *("AWS Batch stops the job: FAILED", "the operator gets the event of it from SQS", "status: Terminated=True"),
        *(
            "$ kubectl get batchjobs",
            "train      Terminated",
            "$ kubectl describe batchjob train",
            "TerminatedByRequest",
            "All stopped",
        ),
    )
    places = [0]
    for step in steps:
        places.append(reported.stdout.find(step, places[-1]))
        assert places[-1] >= 0, f"{step!r} is missing, or too early, in\n{reported.stdout}"
    assert "\x1b" not in reported.stdout
    assert left_behind(environment) == []
    printed = demo_excerpt([Line(line) for line in reported.stdout.splitlines()])
    picture = comparable(shown(PICTURES / "demo.svg"))
    assert picture == ["$ make demo", *comparable(line.plain for line in printed)], "run: python tools/pictures.py demo"


def test_a_demo_whose_operator_does_not_start_reports_the_cause() -> None:
    with pytest.raises(ProcessError, match=r"(?s)operator ended with exit code 2:.*--poll-running"):
        demo.play("embedded", flags=["--poll-running=soon"])


def test_a_stuck_demo_reports_the_missing_step_and_the_operators_output() -> None:
    with pytest.raises(demo.DemoError, match=r"(?s)every BatchJob has a phase.*last lines.*:.*operator starts"):
        demo.play("embedded", flags=["--namespace=elsewhere"], timeout=0.5)


def test_without_its_binaries_envtest_explains_how_to_install_them(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "KUBEBUILDER_ASSETS"}
    for variable in ({}, {"KUBEBUILDER_ASSETS": str(tmp_path)}):
        reported = subprocess.run(
            [*OPERATOR, "demo", "--control-plane=envtest"],
            env=environment | variable,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert reported.returncode == 1
        assert "KUBEBUILDER_ASSETS" in reported.stderr
        assert "setup-envtest" in reported.stderr
        assert "Traceback" not in reported.stderr


def test_an_unknown_control_plane_is_rejected_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ControlPlaneError, match="auto, embedded, envtest, existing"):
        choose("minikube", tmp_path)


@contextmanager
def sandbox(
    control_plane: str, directory: Path, environment: dict[str, str], *flags: str
) -> Iterator[subprocess.Popen[str]]:
    """Up and running; killed at the end if it still is."""
    argv = [*OPERATOR, "sandbox", f"--control-plane={control_plane}", f"--dir={directory}", "--jobs=3", *flags]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_for((directory / "env").exists, timeout=60, what="the sandbox writes its files")
            yield process
        finally:
            process.kill()


def shell(directory: Path, script: str, *, path: str = f"{Path(sys.executable).parent}:$PATH") -> str:
    """Return the output of a script in another terminal."""
    program = f"PATH={path}; source {directory}/env; {script}"
    return subprocess.run(["bash", "-ec", program], capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_printed_commands_of_the_sandbox_work_and_ctrl_c_ends_it(
    control_plane: str, environment: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "sandbox"
    with sandbox(control_plane, directory, environment, "--polls=default") as process:
        assert "train" in shell(directory, "kubectl get batchjobs")
        assert "train" in shell(directory, "kubectl awsbatch ls", path="/usr/bin:/bin")
        assert "slow" in shell(directory, "awsbatch-operator sandbox slow --seconds 1 --times 1", path="/usr/bin:/bin")
        second = [*OPERATOR, "sandbox", f"--dir={directory}"]
        refused = subprocess.run(second, env=environment, capture_output=True, text=True, timeout=30, check=False)
        assert refused.returncode == 1
        assert f"a sandbox that uses {directory} is running" in refused.stderr
        describe = "import boto3; print(len(boto3.client('batch').list_jobs(jobQueue='batch')['jobSummaryList']))"
        assert int(shell(directory, f'{sys.executable} -c "{describe}"')) >= 1
        shell(directory, """kubectl patch bj train --type=merge -p '{"spec":{"terminate":{"reason":"enough"}}}'""")
        shell(directory, "kubectl wait bj/train --for=condition=Finished --timeout=30s")
        resize = shell(directory, "kubectl get bj resize -o jsonpath='{.spec.jobId}'")
        terminate = f"import boto3; boto3.client('batch').terminate_job(jobId='{resize}', reason='by another client')"
        # Long before the next poll, by its event.
        wait = "kubectl wait bj/resize --for=condition=Finished --timeout=15s"
        shell(directory, f'{sys.executable} -c "{terminate}"; {wait}')
        process.send_signal(signal.SIGINT)
        reported, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    recipe = "kubectl wait batchjob/train --for=condition=Finished"
    for words in (
        f"source {directory}/env",
        "kubectl patch batchjob train",
        recipe,
        "kubectl awsbatch ls\n",
        "awsbatch-operator sandbox deny TerminateJob\n",
        "Ctrl-C",
    ):
        assert words in reported
    if control_plane == "embedded":
        assert "it is not Kubernetes" in reported
    assert not directory.exists()
    assert left_behind(environment) == []


def test_with_on_delete_the_sandbox_terminates_the_job_of_a_deleted_object(
    control_plane: str, environment: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "sandbox"
    with sandbox(control_plane, directory, environment, "--on-delete=enabled"):
        change = """kubectl patch bj train --type=merge -p '{"spec":{"onDelete":{"terminate":{"reason":"deleted"}}}}'"""
        held = "kubectl wait bj/train --for=jsonpath='{.metadata.finalizers}' --timeout=30s"
        shell(directory, f"{change}; {held}; kubectl delete bj train --timeout=30s")
        jobs = "import boto3; print(boto3.client('batch').list_jobs(jobQueue='batch', jobStatus='FAILED'))"
        wait_for(lambda: "train" in shell(directory, f'{sys.executable} -c "{jobs}"'), timeout=20, what="the job ends")


def test_the_sandbox_has_roles_injects_faults_outlives_the_deletion_of_its_crd_and_leaves_no_process_behind(
    control_plane: str, environment: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "sandbox"
    patch = """kubectl patch bj train -n team-a --type=merge -p '{"spec":{"terminate":{"reason":"enough"}}}'"""
    command = f"{shlex.join(OPERATOR)} sandbox"
    with sandbox(control_plane, directory, environment, "--roles") as process:
        shell(directory, "kubectl wait bj/train -n team-a --for=jsonpath='{.status.phase}'=Running --timeout=20s")
        assert "batch-team-b" in shell(directory, "kubectl get bap")
        assert process.stdout is not None
        printed = "".join(iter(process.stdout.readline, "Press Ctrl-C to stop.\n"))
        for line in re.findall(r"^  (kubectl -n team-[ab] get .*)$", printed, re.MULTILINE):
            assert "RUNNING" in shell(directory, line)
        # The operator's own role may terminate jobs without the tag that the roles of teams require.
        for line in re.findall(r"^  (kubectl (?:patch|wait) batchjob.*)$", printed, re.MULTILINE):
            assert "batchjob.awsbatch.dev/train" in shell(directory, line)
        assert "kubectl -n team-b describe batchjob theirs" in printed
        metrics = re.search(r"^Metrics +(http://\S+)$", printed, re.MULTILINE)
        assert metrics is not None

        def shown() -> str:
            with direct.open(metrics[1], timeout=5) as response:
                return str(response.read(), "utf-8")

        assert "awsbatch_operator_jobs" in shown()
        alive = 'awsbatch_operator_events_queue_alive{account="111122223333",region="eu-west-1"} 1.0'
        wait_for(lambda: alive in shown(), timeout=20, what="events of team-a arrive in the queue of its account")
        for flag, known in (
            ("--role arn:aws:iam::111122223333:role/other", "batch-team-a"),
            ("--account 1", "4444555"),
        ):
            refused = shell(directory, f"{command} deny {flag} 2>&1 || true")
            assert "the sandbox has no such" in refused
            assert known in refused
        assert "for role" in shell(directory, f"{command} deny --role arn:aws:iam::111122223333:role/batch-team-a")
        shell(directory, f"{command} clear")
        assert "TerminateJob is denied" in shell(directory, f"{command} deny TerminateJob")
        shell(directory, patch)
        refused = "kubectl wait bj/train -n team-a --for=condition=Stalled --timeout=20s"
        shell(directory, refused)
        assert "No call is denied" in shell(directory, f"{command} clear")

        job_id = shell(directory, "kubectl get bj train -o jsonpath='{.spec.jobId}'")
        shell(directory, "kubectl delete crd batchjobs.awsbatch.dev")
        hint = next(line for line in process.stdout if line.startswith("The operator exited with code 1"))
        log = re.search(r"^Operator .*, log (\S+)$", printed, re.MULTILINE)
        assert log is not None
        logged = Path(log[1]).read_text("utf-8")
        assert "Traceback" not in logged
        assert logged.count("the cluster does not serve BatchJob: install the custom resource definition") >= 1
        shell(directory, hint.partition("not served: ")[2])
        shell(directory, "kubectl wait crd/batchjobs.awsbatch.dev --for=condition=Established --timeout=20s")
        again = f"kubectl create -f - <<< '{json.dumps(batch_job('again', job_id))}'"
        shell(directory, again)
        shell(directory, "kubectl wait bj/again --for=jsonpath='{.status.phase}'=Terminated --timeout=40s")

        files = (directory / "env").read_text(), (directory / "kubeconfig").read_text()
        urls = [urlsplit(found) for text in files for found in re.findall(r"https?://127\.0\.0\.1:\d+", text)]
        servers = {(url.hostname or "", url.port or 0) for url in urls}
        assert {listens(*server) for server in servers} == {True}
        process.kill()
        process.wait()
        if sys.platform == "linux":  # it alone tells children of their parent's death
            wait_for(lambda: not any(listens(*one) for one in servers), timeout=10, what="the servers end")
