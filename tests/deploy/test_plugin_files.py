"""kubectl awsbatch as a release has it: one executable file, an archive, and the manifest for krew."""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from awsbatch_operator import __version__
from deploy.places import ROOT

TOOL = ROOT / "tools" / "plugin.py"


def build(directory: Path, **variables: str) -> Path:
    command = [sys.executable, str(TOOL), str(directory)]
    subprocess.run(command, check=True, capture_output=True, timeout=60, env=os.environ | variables)
    return directory


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("plugin"))


def run(program: Path, *words: str, path: str = "/nonexistent") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-S", str(program), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={"PATH": path})


def test_one_file_is_the_whole_plugin(built: Path) -> None:
    program = built / "kubectl-awsbatch"
    assert program.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert os.access(program, os.X_OK)
    assert "kubectl is not on PATH" in run(program, "ls").stderr
    assert [run(program, *words).returncode for words in (["ls"], ["ls", "--bogus"], ["--help"])] == [69, 64, 0]


def test_by_another_name_it_completes(built: Path, tmp_path: Path) -> None:
    completer = tmp_path / "kubectl_complete-awsbatch"
    completer.symlink_to(built / "kubectl-awsbatch")
    assert run(completer, "w").stdout == "wait\nwhy\n:4\n"


def test_another_build_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = build(tmp_path, TZ="Asia/Tokyo")
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in built.iterdir()
    }
    assert len(list(again.iterdir())) == 3


def test_the_manifest_follows_the_rules_of_krew(built: Path) -> None:
    """By krew's developer guide: https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest."""
    text = (built / "awsbatch.yaml").read_text("utf-8")
    manifest = yaml.load(text, yaml.CSafeLoader)
    spec = manifest["spec"]
    assert (manifest["apiVersion"], manifest["kind"]) == ("krew.googlecontainertools.github.com/v1alpha2", "Plugin")
    assert manifest["metadata"] == {"name": "awsbatch"}  # as the file is named
    assert re.fullmatch(r"v\d+\.\d+\.\d+", spec["version"])
    assert len(spec["shortDescription"]) <= 50
    assert not spec["shortDescription"].endswith(".")
    assert max(map(len, spec["description"].splitlines())) <= 80
    (platform,) = spec["platforms"]
    archive = built / platform["uri"].rpartition("/")[2]
    assert platform["uri"].split("/")[-2:] == [spec["version"], f"kubectl-awsbatch-{spec['version']}.tar.gz"]
    assert platform["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    with tarfile.open(archive) as tar:
        assert sorted(tar.getnames()) == sorted(one["from"] for one in platform["files"])
        assert {"LICENSE", platform["bin"]} == {*tar.getnames()}
        assert tar.getmember(platform["bin"]).mode == 0o755


def test_its_versions_are_those_of_the_operator(built: Path) -> None:
    assert {*re.findall(r"v(\d+\.\d+\.\d+)", (built / "awsbatch.yaml").read_text("utf-8"))} == {__version__}


def test_a_release_has_the_files_and_pypi_does_not_get_them() -> None:
    release = yaml.load((ROOT / ".github" / "workflows" / "release.yaml").read_text("utf-8"), yaml.CSafeLoader)["jobs"]
    steps = release["package"]["steps"]
    assert any(step.get("run", "").endswith("python tools/plugin.py plugin\n") for step in steps)
    assert [step["with"]["path"] for step in steps if "upload-artifact" in step.get("uses", "")] == ["dist/", "plugin/"]
    (download, _publish) = release["pypi"]["steps"]
    assert download["with"] == {"name": "dist", "path": "dist/"}
