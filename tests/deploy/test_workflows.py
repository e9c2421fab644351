"""Tests the workflows: all actions are pinned, and no job has unnecessary permissions."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from awsbatch_operator import __version__
from deploy.places import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
PINNED = re.compile(r"[a-z-]+/[a-z-]+(?:/[a-z-]+)?@[0-9a-f]{40} # v\d+\.\d+\.\d+")
WEEKLY = ROOT / ".github" / "workflows" / "weekly.yaml"
PUBLISHERS: dict[str, set[str]] = {
    "image": {"packages", "id-token", "attestations"},
    "chart": {"packages", "id-token", "attestations"},
    "pypi": {"id-token"},
    "github": {"contents"},
}
WRITERS = {"Release": PUBLISHERS, "Security": {"codeql": {"security-events"}}}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(request.param.read_text(encoding="utf-8"), yaml.CSafeLoader)
    return loaded


def jobs(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    assert workflow["jobs"]
    return dict(workflow["jobs"])


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in jobs(workflow).values() for step in job.get("steps", [])]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_action_is_pinned_to_a_commit_with_its_version_in_a_comment(path: Path) -> None:
    used = re.findall(r"uses: (.+)", path.read_text(encoding="utf-8"))
    assert used
    assert [each for each in used if not PINNED.fullmatch(each) and not each.startswith("./")] == []


def test_one_action_is_of_one_commit_everywhere() -> None:
    used = {
        each for path in FILES for each in re.findall(r"uses: ([^/]+/[^/@]+).*?(@.+)", path.read_text(encoding="utf-8"))
    }
    assert len(used) == len({repository for repository, _ in used})


def test_permissions_are_set_by_job_and_few_jobs_may_write(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {}
    for name, job in jobs(workflow).items():
        writes = {scope for scope, level in job["permissions"].items() if level == "write"}
        assert writes == WRITERS.get(workflow["name"], {}).get(name, set()), name


def test_every_job_has_a_timeout_and_no_checkout_keeps_a_token(workflow: dict[str, Any]) -> None:
    assert [name for name, job in jobs(workflow).items() if "steps" in job and job["timeout-minutes"] > 60] == []
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_user_input_reaches_a_shell_only_as_a_variable(workflow: dict[str, Any]) -> None:
    assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []


def test_no_workflow_has_a_secret(workflow: dict[str, Any]) -> None:
    assert "secrets." not in yaml.safe_dump(workflow)


@pytest.mark.parametrize(
    ("name", "job"), yaml.load(WEEKLY.read_text(encoding="utf-8"), yaml.CSafeLoader)["jobs"].items()
)
def test_a_weekly_job_runs_its_make_target_and_keeps_its_report_when_it_fails(name: str, job: dict[str, Any]) -> None:
    *_, run, upload = job["steps"]
    directory = upload["with"]["path"]
    assert re.fullmatch(
        rf"mkdir {directory[:-1]}\nmake PYTHON=python {name} .*\| tee {directory}report.txt\n", run["run"]
    )
    assert upload["if"] == "always()"
    assert re.search(rf"^{name}: ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert (
        yaml.load(WEEKLY.read_text(encoding="utf-8"), yaml.CSafeLoader)["defaults"]["run"]["shell"] == "bash"
    )  # with pipefail


def test_publishing_needs_a_valid_tag_and_passing_tests() -> None:
    release = jobs(
        yaml.load((ROOT / ".github" / "workflows" / "release.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    )
    for name in PUBLISHERS:
        assert {"version", "ci"} <= _needs(release, name), name


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of the source tree as the check of a release reads, at a version that all files state."""
    packages = ("operator/awsbatch_operator/__init__.py", "operator/kubectl_awsbatch/__init__.py")
    for name in ("pyproject.toml", *packages, "tools/release.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    chart = tmp_path / "deploy" / "helm" / "awsbatch-operator" / "Chart.yaml"
    chart.parent.mkdir(parents=True)
    chart.write_text(f'name: x\nversion: {__version__}\nappVersion: "{__version__}"\n', encoding="utf-8")
    changelog = (
        f"# Changelog\n\n## [Unreleased]\n\n- to come\n\n## [{__version__}] - 2026-12-01\n\n### Added\n\n- all\n\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(changelog + "## [0.0.1]\n\n- old\n", encoding="utf-8")
    return tmp_path


def test_a_tag_that_all_files_agree_with_is_released(checkout: Path) -> None:
    assert _release(checkout, "check", f"v{__version__}") == (0, f"{__version__}\n", "")
    assert _release(checkout, "notes", f"v{__version__}") == (0, "### Added\n\n- all\n", "")


@pytest.mark.parametrize(
    ("file", "old", "new", "printed"),
    [
        ("pyproject.toml", f'version = "{__version__}"', 'version = "7.0.0"', "pyproject.toml: version is '7.0.0'"),
        ("operator/awsbatch_operator/__init__.py", __version__, "7.0.0", "__init__.py: __version__ is '7.0.0'"),
        ("operator/kubectl_awsbatch/__init__.py", __version__, "7.0.0", "__init__.py: __version__ is '7.0.0'"),
        ("deploy/helm/awsbatch-operator/Chart.yaml", f"\nversion: {__version__}", "", "Chart.yaml: version is ''"),
        ("deploy/helm/awsbatch-operator/Chart.yaml", f'"{__version__}"', "7.0.0", "Chart.yaml: appVersion is '7.0.0'"),
        ("CHANGELOG.md", f"## [{__version__}]", "## [7.0.0]", f"CHANGELOG.md has no section [{__version__}]"),
        ("CHANGELOG.md", "2026-12-01", "unreleased", f"CHANGELOG.md has no section [{__version__}] with a date"),
    ],
)
def test_a_tag_that_one_file_disagrees_with_is_not(checkout: Path, file: str, old: str, new: str, printed: str) -> None:
    text = (checkout / file).read_text(encoding="utf-8")
    assert old in text
    (checkout / file).write_text(text.replace(old, new), encoding="utf-8")
    code, output, errors = _release(checkout, "check", f"v{__version__}")
    assert (code, output) == (1, "")
    assert printed in errors
    assert len(errors.splitlines()) == 1


def test_between_releases_all_files_have_one_version() -> None:
    _, _, errors = _release(ROOT, "check", f"v{__version__}")
    assert [line for line in errors.splitlines() if "CHANGELOG" not in line] == []


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("deploy/kustomization.yaml", r"//deploy\?ref=v(\S+)"),
        ("examples/gitops/argocd-application-operator.yaml", r"targetRevision: (\S+)"),
        ("examples/gitops/flux-operator.yaml", r"tag: v(\S+)"),
    ],
)
def test_manifests_to_copy_name_this_version(file: str, named: str) -> None:
    assert re.findall(named, (ROOT / file).read_text(encoding="utf-8")) == [__version__]


def test_another_tag_is_not_released(checkout: Path) -> None:
    code, _, errors = _release(checkout, "check", "nightly")
    assert code == 1
    assert errors.startswith("nightly is not a tag like v1.2.3\n")


def _release(checkout: Path, *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "tools/release.py", *arguments]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout, done.stderr


def _needs(release: dict[str, dict[str, Any]], name: str) -> set[str]:
    """All jobs that come before it."""
    direct = set(release[name].get("needs", []))
    return direct.union(*(_needs(release, each) for each in direct))
