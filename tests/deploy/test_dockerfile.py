"""Tests the Dockerfile without building it; CI builds the image."""

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.dockerfile import admitted, arguments, copied, stages
from deploy.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_it_runs_as_a_numeric_user_that_is_not_root() -> None:
    assert arguments(stages()["final"], "USER") == ["65532:65532"]


def test_the_arguments_of_the_container_are_those_of_the_command_line() -> None:
    final = stages()["final"]
    (entrypoint,) = arguments(final, "ENTRYPOINT")
    (script,) = (name for name, code in PROJECT["scripts"].items() if code.startswith("awsbatch_operator."))
    assert json.loads(entrypoint) == [f"/opt/awsbatch-operator/bin/{script}"]
    assert arguments(final, "COPY") == ["--from=build /opt/awsbatch-operator /opt/awsbatch-operator"]


def test_the_final_stage_needs_no_shell_and_kubernetes_does_the_probing() -> None:
    names = {instruction.name for stage in stages().values() for instruction in stage}
    assert "HEALTHCHECK" not in names
    assert "RUN" not in {instruction.name for instruction in stages()["final"]}


def test_both_bases_can_be_given_and_have_the_same_python() -> None:
    assert arguments(stages()[""], "ARG") == ["BUILD_IMAGE=python", "RUNTIME_IMAGE=distroless"]
    assert {name: arguments(stage, "FROM") for name, stage in stages().items() if name} == {
        # trixie is Debian 13, whose Python is 3.13.
        "python": ["docker.io/library/python:3.13-slim-trixie AS python"],
        "distroless": ["gcr.io/distroless/python3-debian13:nonroot AS distroless"],
        "build": ["${BUILD_IMAGE} AS build"],
        "final": ["${RUNTIME_IMAGE}"],
    }
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"python(3\.\d+)", text)) == {"3.13"}


def test_every_package_is_installed_by_its_hash_or_built_here() -> None:
    installs = re.findall(
        r"pip (?:--python \S+ )?(?:install|wheel)[^&]*", " && ".join(arguments(stages()["build"], "RUN"))
    )
    assert len(installs) == 4
    for command in installs:
        locked = "--require-hashes" in command and "--only-binary :all:" in command
        own = "--no-deps" in command and "--no-index" in command
        assert locked != own, command


def test_the_labels_describe_the_image() -> None:
    final = stages()["final"]
    (text,) = arguments(final, "LABEL")
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', text))
    assert {name: labels[name] for name in ("title", "description", "licenses")} == {
        "title": PROJECT["name"],
        "description": PROJECT["description"],
        "licenses": PROJECT["license"],
    }
    assert labels["source"] == "https://github.com/awsbatch-operator/awsbatch-operator"
    assert (labels["version"], labels["revision"]) == ("${VERSION}", "${REVISION}")
    # An argument is known only in the stage that declares it.
    assert arguments(final, "ARG") == ["VERSION=dev", "REVISION=unknown"]


def test_the_build_context_contains_the_copied_files() -> None:
    assert copied() == {path for path in copied() if (ROOT / path).exists()}
    assert {path for path in copied() if not admitted(path)} == set()


def test_and_nothing_else() -> None:
    let_in = {path for path in _files(ROOT) if admitted(path)}
    assert {
        path for path in let_in if not any(path == each or path.startswith(f"{each}/") for each in copied())
    } == set()
    assert "operator/awsbatch_operator/cli.py" in let_in


@pytest.mark.parametrize(
    "path", [".git/config", ".env", "operator/x/__pycache__/y.pyc", "operator/x.egg-info/PKG-INFO"]
)
def test_a_checkout_has_more_that_stays_out(path: str) -> None:
    assert not admitted(path)


def _files(root: Path) -> Iterator[str]:
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        yield from (Path(place, name).relative_to(root).as_posix() for name in names)
