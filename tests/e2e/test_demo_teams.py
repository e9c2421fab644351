"""`awsbatch-operator demo-teams`, as a reader of the README runs it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from awsbatch_sandbox import demo_teams
from awsbatch_sandbox.demo import StoryError
from awsbatch_sandbox.world import QUICK

STEPS = (
    *("$ kubectl apply -f -", "batchaccesspolicy.awsbatch.dev/team-b created", "$ kubectl get bap", "True"),
    *("$ kubectl get batchjobs -A", "team-a      train      Running", "team-b      theirs     Denied"),
    *("$ kubectl patch batchjob theirs -n team-b", "$ kubectl describe batchjob theirs -n team-b", "JobNotAllowed"),
    *("their statuses are equal", "AWS Batch got no TerminateJob; the job of team a is RUNNING"),
    *("team-a      train      Terminated", "team-b      render     Terminated", "team-b      theirs     Denied"),
    *("TerminateJob of train in account 111122223333", "ExternalId awsbatch-operator/demo/team-a"),
    *("kubernetes-namespace=team-a", "TerminateJob of render in account 444455556666", "role/batch-team-b"),
    *("kubernetes-namespace=team-b", "no other TerminateJob was sent", "All stopped"),
)


@pytest.fixture
def control_plane(request: pytest.FixtureRequest) -> str:
    asked: str = request.config.getoption("--control-plane")
    if asked == "existing":
        pytest.skip("the command brings its own control plane")
    return asked


def test_it_tells_how_one_team_could_not_end_a_job_of_the_other_and_leaves_nothing(
    control_plane: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    told = subprocess.run(
        [sys.executable, "-m", "awsbatch_operator", "demo-teams", f"--control-plane={control_plane}"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert time.monotonic() - began < 40
    places = [0]
    for step in STEPS:
        places.append(told.stdout.find(step, places[-1]))
        assert places[-1] >= 0, f"{step!r} is not told, or too early, in\n{told.stdout}"
    assert len(re.findall(r"TerminateJob of ", told.stdout)) == 2
    assert "\x1b" not in told.stdout
    assert list(tmp_path.iterdir()) == []


def test_where_no_policy_is_required_it_does_not_come_as_told_and_says_so() -> None:
    flags = (*QUICK, "--absence-grace=500ms", f"--cluster-name={demo_teams.CLUSTER}")
    with pytest.raises(StoryError, match=r"(?s)BatchJob theirs; its status is .*Missing.*last words"):
        demo_teams.play("embedded", flags=flags, timeout=4.0)
