"""Tests what is published: the packaged chart, install.yaml and the kustomization."""

import json
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import helm_python as helm
import pytest
import yaml
from helm_chart import CHART

from awsbatch_sandbox.cluster import kubectl_program
from contract.schema import assert_valid_object
from deploy import kubernetes_schemas
from deploy.charts import NAME, Object, container_of, loaded, objects, only
from deploy.places import CRDS, DEPLOY, ROOT

LINKS: Final = {
    **{f"crds/{crd.name}": crd for crd in CRDS},
    "files/alerts.yaml": DEPLOY / "monitoring/alerts.yaml",
    "files/dashboard.json": DEPLOY / "monitoring/dashboard.json",
}


def test_files_from_elsewhere_in_the_repository_are_links_and_not_copies() -> None:
    links = {str(path.relative_to(CHART)): path.resolve() for path in CHART.rglob("*") if path.is_symlink()}
    assert links == LINKS
    found = sorted(crd["filename"] for crd in loaded().crds)
    assert found == [f"{NAME}/crds/{crd.name}" for crd in CRDS], "examples are no CRDs"


def test_the_package_contains_the_linked_files(tmp_path: Path) -> None:
    archive = helm.package(CHART, destination=tmp_path)
    assert Path(archive).name == f"{NAME}-{loaded().version}.tgz"
    with tarfile.open(archive) as package:
        assert all(member.isfile() for member in package.getmembers())
        for link, source in LINKS.items():
            file = package.extractfile(f"{NAME}/{link}")
            assert file is not None
            assert file.read() == source.read_bytes()
    with helm.Chart.load(archive) as chart:
        assert chart.render(name="a", namespace="b") == loaded().render(name="a", namespace="b")


def test_the_example_that_a_catalogue_shows_is_a_batch_job() -> None:
    (example,) = yaml.safe_load(loaded().metadata["annotations"]["artifacthub.io/crdsExamples"])
    assert_valid_object(example)


def test_a_catalogue_scans_the_image_that_the_chart_runs_and_shows_an_icon_of_this_repository() -> None:
    [image] = yaml.safe_load(loaded().metadata["annotations"]["artifacthub.io/images"])
    assert image["image"] == container_of(objects())["image"]
    _, _, path = loaded().metadata["icon"].partition("/main/")
    assert (ROOT / path).is_file()


def test_artifact_hub_accepts_the_annotations() -> None:
    """By https://artifacthub.io/docs/topics/annotations/helm; it does not list a chart with an invalid one."""
    found = {
        name.removeprefix("artifacthub.io/"): yaml.load(text, yaml.CSafeLoader)
        for name, text in loaded().metadata["annotations"].items()
    }
    assert found["category"] in {"integration-delivery", "monitoring-logging", "networking", "security", "storage"}
    capabilities = {"Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"}
    assert found["operatorCapabilities"] in capabilities
    assert {type(found["operator"]), type(found["prerelease"])} == {bool}
    assert all(link.keys() == {"name", "url"} for link in found["links"])
    assert all(crd.keys() == {"kind", "version", "name", "displayName", "description"} for crd in found["crds"])


def _install_yaml(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools/install_yaml.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _installed() -> Sequence[Object]:
    return list(yaml.load_all((DEPLOY / "install.yaml").read_text("utf-8"), yaml.CSafeLoader))


def test_install_yaml_is_what_the_chart_renders() -> None:
    check = _install_yaml("--check")
    assert check.returncode == 0, check.stderr
    assert _install_yaml().stdout == (DEPLOY / "install.yaml").read_text("utf-8")


def test_an_outdated_install_yaml_is_reported_with_its_diff_and_the_remedy(tmp_path: Path) -> None:
    old = tmp_path / "install.yaml"
    old.write_text((DEPLOY / "install.yaml").read_text("utf-8").replace("replicas: 2", "replicas: 7"))
    check = _install_yaml("--check", str(old))
    assert check.returncode == 1
    assert "-  replicas: 7" in check.stderr
    assert "run: python tools/install_yaml.py > deploy/install.yaml" in check.stderr


def test_the_catalogue_and_the_kustomization_of_the_definitions_name_each_of_them() -> None:
    reported = yaml.safe_load(loaded().metadata["annotations"]["artifacthub.io/crds"])
    definitions = [yaml.load(crd.read_text("utf-8"), yaml.CSafeLoader) for crd in CRDS]
    assert sorted((one["name"], one["kind"], one["version"]) for one in reported) == [
        (body["metadata"]["name"], body["spec"]["names"]["kind"], body["spec"]["versions"][0]["name"])
        for body in definitions
    ]
    assert kustomize(ROOT / "crds") == definitions


def test_install_yaml_makes_its_namespace_and_the_crds_before_what_needs_them() -> None:
    namespace, *others = _installed()
    crds, others = others[: len(CRDS)], others[len(CRDS) :]
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", NAME)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert crds == [yaml.load(crd.read_text("utf-8"), yaml.CSafeLoader) for crd in CRDS]
    assert others[-1]["kind"] == "Deployment"
    for body in _installed():
        kubernetes_schemas.validate(body, "1.31")


def _without_helm(body: Object) -> Object:
    labels = {
        key: label
        for key, label in body["metadata"]["labels"].items()
        if key not in ("helm.sh/chart", "app.kubernetes.io/managed-by")
    }
    return {**body, "metadata": {**body["metadata"], "labels": labels}}


def test_install_yaml_has_all_objects_of_the_chart_without_labels_of_helm() -> None:
    def order(body: Object) -> tuple[str, str]:
        return body["kind"], body["metadata"]["name"]

    assert sorted(_installed()[1 + len(CRDS) :], key=order) == sorted(map(_without_helm, objects()), key=order)
    assert "Helm" not in json.dumps(_installed())


def kustomize(folder: Path) -> Sequence[Object]:
    command = [kubectl_program(), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


def test_the_kustomization_gives_install_yaml() -> None:
    def keyed(all_objects: Sequence[Object]) -> dict[tuple[str, str], Any]:
        return {(body["kind"], body["metadata"]["name"]): body for body in all_objects}

    assert keyed(kustomize(DEPLOY)) == keyed(_installed())


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """The one that stands in the kustomization's comment, on top of this working copy."""
    comment = (DEPLOY / "kustomization.yaml").read_text("utf-8").partition("\napiVersion:")[0]
    lines = [
        line.removeprefix("#").removeprefix("   ") for line in comment.splitlines() if line.startswith(("#   ", "#\n"))
    ]
    text = "\n".join(lines)
    remote = f"https://github.com/awsbatch-operator/awsbatch-operator//deploy?ref=v{loaded().version}"
    assert remote in text
    (tmp_path / "overlay").mkdir()
    (tmp_path / "deploy").symlink_to(DEPLOY)
    (tmp_path / "overlay/kustomization.yaml").write_text(text.replace(remote, "../deploy"))
    return tmp_path / "overlay"


def test_the_overlay_in_its_comment_sets_replicas_region_and_role(overlay: Path) -> None:
    all_objects = kustomize(overlay)
    deployment = only(all_objects, "Deployment")["spec"]
    assert deployment["replicas"] == 3
    assert deployment["template"]["spec"]["containers"][0]["args"][-1] == "--region=eu-west-1"
    annotations = only(all_objects, "ServiceAccount")["metadata"]["annotations"]
    assert annotations == {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/awsbatch-operator"}
