"""`stop` of several BatchJobs; a script stands for kubectl and answers each change as the test says."""

import json
import os
import sys
from pathlib import Path

import pytest

from kubectl_awsbatch import cli
from unit.plugin.bodies import job

VIEW = {"contexts": [{"name": "test", "context": {"namespace": "team-a"}}], "clusters": []}
FORBIDDEN = "Error from server (Forbidden): batchjobs.awsbatch.dev is forbidden: User 'u' cannot patch"
GONE = "Error from server (NotFound): batchjobs.awsbatch.dev not found"
INVALID = "The BatchJob is invalid: spec.terminate"
UNREACHABLE = "Unable to connect to the server: dial tcp: no route to host"
KUBECTL = """#!/bin/bash
case "$1 $2" in
  "config view") cat {home}/view ;;
  "get batchjobs.awsbatch.dev") cat {home}/jobs ;;
  "patch batchjobs.awsbatch.dev")
    if grep -q NotFound {home}/$3; then : > {home}/jobs; fi
    if [ -s {home}/$3 ]; then cat {home}/$3 >&2; exit 1; fi
    echo '{job}' ;;
  *) exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"a": "", "b": ""}, 0),
        ({"a": FORBIDDEN, "b": FORBIDDEN, "c": ""}, 77),
        ({"a": GONE, "b": ""}, 3),
        ({"a": UNREACHABLE}, 69),
        ({"a": INVALID, "b": ""}, 1),
        ({"a": FORBIDDEN, "b": GONE}, 1),
    ],
)
def test_one_cause_of_all_failures_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: dict[str, str], code: int
) -> None:
    bodies = [job(name) for name in answers]
    for body in bodies:
        body["metadata"]["resourceVersion"] = "1"
    (tmp_path / "view").write_text(json.dumps(VIEW))
    (tmp_path / "jobs").write_text(json.dumps({"items": bodies}))
    for name, answer in answers.items():
        (tmp_path / name).write_text(answer)
    (tmp_path / "kubectl").write_text(KUBECTL.format(home=tmp_path, job=json.dumps(job())))
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", ["kubectl-awsbatch", "stop", *answers, "--reason", "INC-1"])
    assert cli.main() == code
