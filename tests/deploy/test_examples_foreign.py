"""An API server with the CRDs of Argo, Flux and Tekton accepts the objects of these projects in the examples.

FOREIGN_CRDS names the directory with the CRDs; `make foreign-crds` downloads them.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster, KubectlError
from awsbatch_sandbox.world import World
from deploy.examples import Body, bodies, is_kubernetes, is_ours
from deploy.places import EXAMPLES

VARIABLE: Final = "FOREIGN_CRDS"
FILES: Final = (
    "gitops/argocd-application-jobs.yaml",
    "gitops/argocd-application-operator.yaml",
    "gitops/flux-kustomization.yaml",
    "gitops/flux-operator.yaml",
    "guide/argo-workflow.yaml",
    "guide/tekton-task.yaml",
    "guide/tekton-taskrun.yaml",
)


def foreign(name: str) -> list[Body]:
    """The objects whose kinds are neither ours nor those of Kubernetes."""
    return [body for body in bodies(name) if not is_ours(body) and not is_kubernetes(body)]


def test_the_files_with_foreign_objects_are_these() -> None:
    paths = [str(path.relative_to(EXAMPLES)) for path in sorted(EXAMPLES.rglob("*.yaml"))]
    assert [name for name in paths if "values" not in name and foreign(name)] == [*FILES]


@pytest.fixture(scope="module")
def crds(world: World) -> Iterator[None]:
    """The CRDs, served."""
    directory = os.environ.get(VARIABLE)
    if not directory:
        pytest.skip(f"{VARIABLE} is not set: make foreign-crds downloads the CRDs of Argo, Flux and Tekton")
    # They are too large for the annotation of a client-side apply.
    files = [f"--filename={path}" for path in sorted(Path(directory).glob("*.yaml"))]
    world.cluster.kubectl("apply", "--server-side", *files)
    world.cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *files)
    yield
    world.cluster.kubectl("delete", *files)


@pytest.mark.real
@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize("name", FILES)
def test_their_api_accepts_the_objects_and_no_unknown_field(name: str, cluster: Cluster) -> None:
    for body in foreign(name):
        body["metadata"]["namespace"] = cluster.namespace
        create_dry(cluster, body)
        with pytest.raises(KubectlError, match=r'unknown field "spec\.nonsense"'):
            create_dry(cluster, {**body, "spec": {**body["spec"], "nonsense": "one"}})


def create_dry(cluster: Cluster, body: Body) -> None:
    stdin = yaml.safe_dump(body)
    cluster.kubectl("create", "--dry-run=server", "--validate=strict", "--filename=-", stdin=stdin)
