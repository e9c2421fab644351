"""`awsbatch-operator demo-teams`, as a reader of the README runs it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from awsbatch_sandbox import demo_teams
from awsbatch_sandbox.demo import DemoError
from awsbatch_sandbox.world import QUICK

STEPS = (
    *("$ kubectl apply -f -", "batchaccesspolicy.awsbatch.dev/team-b created", "$ kubectl get bap", "True"),
    *("$ kubectl get batchjobs -A", "team-a      train      Running", "team-b      theirs     Denied"),
    *("$ kubectl patch batchjob theirs -n team-b", "$ kubectl describe batchjob theirs -n team-b", "JobNotAllowed"),
    *("their statuses are equal", "AWS Batch received no TerminateJob; the job of team a is RUNNING"),
    *("team-a      train      Terminated", "team-b      render     Terminated", "team-b      theirs     Denied"),
    *("TerminateJob of train in account 111122223333", "ExternalId awsbatch-operator/demo/team-a"),
    *("kubernetes-namespace=team-a", "TerminateJob of render in account 444455556666", "role/batch-team-b"),
    *("kubernetes-namespace=team-b", "no other TerminateJob was sent", "All stopped"),
)


@pytest.fixture
def control_plane(request: pytest.FixtureRequest) -> str:
    requested: str = request.config.getoption("--control-plane")
    if requested == "existing":
        pytest.skip("the command brings its own control plane")
    return requested


def test_it_shows_that_one_team_cannot_terminate_a_job_of_the_other_and_cleans_up(
    control_plane: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    reported = subprocess.run(
        [sys.executable, "-m", "awsbatch_operator", "demo-teams", f"--control-plane={control_plane}"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert reported.returncode == 0, reported.stderr
    assert time.monotonic() - began < 40
    places = [0]
    for step in STEPS:
        places.append(reported.stdout.find(step, places[-1]))
        assert places[-1] >= 0, f"{step!r} is missing, or too early, in\n{reported.stdout}"
    assert len(re.findall(r"TerminateJob of ", reported.stdout)) == 2
    assert "\x1b" not in reported.stdout
    assert list(tmp_path.iterdir()) == []


def test_without_required_policies_the_demo_fails_with_the_difference() -> None:
    flags = (*QUICK, f"--cluster-name={demo_teams.CLUSTER}")
    with pytest.raises(DemoError, match=r"(?s)BatchJob theirs; its status is .*Missing.*last lines"):
        demo_teams.play("embedded", flags=flags, timeout=4.0)
