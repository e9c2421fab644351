"""The manifests under examples/gitops are what they say: BatchJobs by our schema, the rest by its kinds and keys."""

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from awsbatch_operator.api import names
from contract.schema import assert_valid_object
from deploy.places import CRDS, EXAMPLES

FILES: Final = sorted((EXAMPLES / "gitops").glob("*.yaml"))
KEYS: Final[dict[tuple[str, str], set[str]]] = {
    ("argoproj.io/v1alpha1", "Application"): {"project", "source", "destination", "ignoreDifferences", "syncPolicy"},
    ("source.toolkit.fluxcd.io/v1", "GitRepository"): {"interval", "url", "ref"},
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"): {
        *("interval", "retryInterval", "timeout", "sourceRef", "path", "targetNamespace", "prune", "wait"),
        *("dependsOn", "healthCheckExprs"),
    },
}
"""Fields of spec that these kinds have, as far as they are used here."""


def bodies(kind: str) -> list[dict[str, Any]]:
    found = [body for file in FILES for body in yaml.safe_load_all(file.read_text("utf-8"))]
    return [body for body in found if body["kind"] == kind]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_manifest_has_a_known_kind_and_only_fields_that_it_knows(file: Path) -> None:
    for body in yaml.safe_load_all(file.read_text("utf-8")):
        assert body["metadata"]["name"]
        assert body["metadata"]["namespace"]
        if body["kind"] == names.KIND:
            assert_valid_object(body)
        else:
            assert set(body["spec"]) <= KEYS[body["apiVersion"], body["kind"]]


def test_batch_jobs_in_the_examples_work_with_both_controllers() -> None:
    annotations = [body["metadata"].get("annotations", {}) for body in bodies(names.KIND)]
    assert {key for found in annotations for key in found} == {
        "argocd.argoproj.io/sync-wave",
        "awsbatch.dev/wait-for",
        "kustomize.toolkit.fluxcd.io/ssa",
    }
    assert all(isinstance(value, str) for found in annotations for value in found.values())


def test_argo_cd_keeps_a_patched_termination_and_syncs_the_jobs_last() -> None:
    operator, jobs = sorted(bodies("Application"), key=lambda body: str(body["metadata"]["name"]))
    waves = [int(app["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]) for app in (operator, jobs)]
    assert waves[0] < waves[1]
    assert jobs["spec"]["ignoreDifferences"] == [
        {"group": names.GROUP, "kind": names.KIND, "jsonPointers": ["/spec/terminate"]}
    ]
    assert "RespectIgnoreDifferences=true" in jobs["spec"]["syncPolicy"]["syncOptions"]
    assert operator["spec"]["destination"]["namespace"] == "awsbatch-operator"


def test_flux_waits_for_the_operator_and_then_for_the_jobs() -> None:
    jobs, operator = bodies("Kustomization")
    assert jobs["spec"]["dependsOn"] == [{"name": operator["metadata"]["name"]}]
    assert operator["spec"]["wait"]
    assert jobs["spec"]["wait"]
    (exprs,) = jobs["spec"]["healthCheckExprs"]
    assert (exprs["apiVersion"], exprs["kind"]) == (names.API_VERSION, names.KIND)
    repositories = {body["metadata"]["name"] for body in bodies("GitRepository")}
    assert {body["spec"]["sourceRef"]["name"] for body in (operator, jobs)} == repositories


@pytest.mark.parametrize("crd", CRDS, ids=lambda crd: crd.stem)
def test_neither_deletes_a_definition_and_all_objects_with_it_when_the_operator_goes(crd: Path) -> None:
    annotations = yaml.safe_load(crd.read_text("utf-8"))["metadata"]["annotations"]
    assert set(annotations["argocd.argoproj.io/sync-options"].split(",")) == {"Prune=false", "Delete=false"}
    assert annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled"
