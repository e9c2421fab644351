"""`awsbatch-operator demo-bulk`, as a reader of the README runs it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from awsbatch_sandbox import demo_bulk
from awsbatch_sandbox.demo import DemoError
from awsbatch_sandbox.world import QUICK

STEPS = (
    *("300 jobs in the queue gpu", "$ kubectl apply -f -", "List", "batchaccesspolicy.awsbatch.dev/team-a created"),
    *("$ kubectl create -n team-a -f -", "maxJobs: 200", "batchtermination.awsbatch.dev/inc-4711 created"),
    *("$ kubectl wait bt inc-4711", "AwaitingApproval", "$ kubectl get bt inc-4711", "200", "examples", "train-"),
    *("AWS Batch has received no TerminateJobs", "$ kubectl patch bt inc-4711", '{"spec":{"approved":true}}'),
    *("AWS Batch receives TerminateJobs of 50 jobs", "200 jobs in all", "AWS Batch has stopped the 200 jobs: FAILED"),
    *("--for=condition=Finished", "condition met", "Finished", "$ kubectl describe bt inc-4711", "AllRequested"),
    *("TerminationAccepted", "train-gpu   160 FAILED", "train-cpu   40 FAILED", "render      60 RUNNING"),
    *("report      40 RUNNABLE", "train-late  1 RUNNING", "the other 100 jobs are active", "All stopped"),
)


@pytest.fixture
def control_plane(request: pytest.FixtureRequest) -> str:
    requested: str = request.config.getoption("--control-plane")
    if requested == "existing":
        pytest.skip("the command brings its own control plane")
    return requested


def test_it_terminates_what_was_counted_and_approved_and_cleans_up(control_plane: str, tmp_path: Path) -> None:
    began = time.monotonic()
    reported = subprocess.run(
        [sys.executable, "-m", "awsbatch_operator", "demo-bulk", f"--control-plane={control_plane}"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert reported.returncode == 0, reported.stderr
    assert time.monotonic() - began < 60
    places = [0]
    for step in STEPS:
        places.append(reported.stdout.find(step, places[-1]))
        assert places[-1] >= 0, f"{step!r} is missing, or too early, in\n{reported.stdout}"
    assert "\x1b" not in reported.stdout
    assert list(tmp_path.iterdir()) == []


def test_without_an_operator_of_that_namespace_the_demo_fails_with_the_status() -> None:
    flags = (*QUICK, "--namespace=elsewhere")
    with pytest.raises(DemoError, match=r"(?s)BatchTermination inc-4711.*timed out.*observedGeneration.*last lines"):
        demo_bulk.play("embedded", flags=flags, timeout=1.0)
