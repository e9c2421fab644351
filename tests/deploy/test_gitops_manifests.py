"""The objects of Argo CD and Flux in the examples work together, and neither deletes the CRDs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from awsbatch_operator.api import names
from deploy.examples import bodies, one
from deploy.places import CRDS


def test_batch_jobs_have_annotations_for_both_controllers_and_no_others() -> None:
    files = ("gitops/terminate.yaml", "gitops/patched-by-hand.yaml", "gitops/waves.yaml")
    found = {key for name in files for body in bodies(name) for key in body["metadata"].get("annotations", {})}
    assert found == {
        "argocd.argoproj.io/sync-wave",
        "awsbatch.dev/wait-for",
        "kustomize.toolkit.fluxcd.io/ssa",
    }


def test_argo_cd_keeps_a_patched_termination_and_syncs_the_jobs_last() -> None:
    operator = one("gitops/argocd-application-operator.yaml", "Application")
    jobs = one("gitops/argocd-application-jobs.yaml", "Application")
    waves = [int(app["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]) for app in (operator, jobs)]
    assert waves[0] < waves[1]
    assert jobs["spec"]["ignoreDifferences"] == [
        {"group": names.GROUP, "kind": names.KIND, "jsonPointers": ["/spec/terminate"]}
    ]
    assert "RespectIgnoreDifferences=true" in jobs["spec"]["syncPolicy"]["syncOptions"]
    assert operator["spec"]["destination"]["namespace"] == "awsbatch-operator"


def test_flux_waits_for_the_operator_and_then_for_the_jobs() -> None:
    operator, jobs = (one(f"gitops/flux-{name}.yaml", "Kustomization") for name in ("operator", "kustomization"))
    assert jobs["spec"]["dependsOn"] == [{"name": operator["metadata"]["name"]}]
    assert operator["spec"]["wait"]
    assert jobs["spec"]["wait"]
    (exprs,) = jobs["spec"]["healthCheckExprs"]
    assert (exprs["apiVersion"], exprs["kind"]) == (names.API_VERSION, names.KIND)
    for name, kustomization in (("operator", operator), ("kustomization", jobs)):
        repository = one(f"gitops/flux-{name}.yaml", "GitRepository")
        assert kustomization["spec"]["sourceRef"]["name"] == repository["metadata"]["name"]


@pytest.mark.parametrize("crd", CRDS, ids=lambda crd: crd.stem)
def test_neither_deletes_a_definition_and_all_objects_with_it_when_the_operator_goes(crd: Path) -> None:
    annotations: Any = yaml.load(crd.read_text("utf-8"), yaml.CSafeLoader)["metadata"]["annotations"]
    assert set(annotations["argocd.argoproj.io/sync-options"].split(",")) == {"Prune=false", "Delete=false"}
    assert annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled"
