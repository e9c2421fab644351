"""A release on a cluster: installed, upgraded from the version before, uninstalled. BatchJobs outlive it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml
from helm_chart import CHART

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.controlplane import crd_file
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from deploy.charts import NAME, loaded, objects
from deploy.places import CRDS, DEPLOY
from deploy.rights import rights_of
from deploy.scenario import REASON
from deploy.stage import QUICK, RealStage, flags
from integration.scenario import SOON, phase, reasons_sent, says

pytestmark = pytest.mark.real

CRD = f"customresourcedefinition.apiextensions.k8s.io/{crd_file().stem}"
CRD_KIND = "CustomResourceDefinition"
DEFINITIONS = [f"customresourcedefinition.apiextensions.k8s.io/{crd.stem}" for crd in CRDS]
RBAC = "clusterroles,clusterrolebindings,roles,rolebindings"
OURS = f"app.kubernetes.io/name={NAME}"
GONE_SINCE = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "of-the-version-before"}}


@pytest.fixture
def cluster(real: RealStage) -> Iterator[Cluster]:
    """A namespace of a cluster that never had the operator."""
    cluster = real.world.cluster.within("default")
    _forget_definitions(cluster)
    yield cluster
    _forget_definitions(cluster)
    cluster.kubectl("delete", "leases", "--all", f"--namespace={NAME}")
    cluster.close()


def _forget_definitions(cluster: Cluster) -> None:
    cluster.kubectl("delete", *DEFINITIONS, "--ignore-not-found", "--wait=false")
    # Not by kubectl's own wait: on a busy machine the API server may take more than a minute to let go of a definition.
    left = ("get", *DEFINITIONS, "--ignore-not-found", "-o", "name")
    wait_for(lambda: not cluster.kubectl(*left), timeout=180, every=0.5, what="the definitions are gone")


@pytest.fixture
def release(real: RealStage) -> Iterator[helm.Config]:
    with helm.Config(kubeconfig_path=real.plane.kubeconfig, namespace=NAME) as release:
        yield release
        release.uninstall(NAME, ignore_not_found=True)


@pytest.fixture
def version_before(tmp_path: Path) -> Path:
    """The chart as an archive of a version before this one: an object less, one more, and one CRD, an older one."""
    folder = Path(shutil.copytree(CHART, tmp_path / "chart"))
    (folder / "templates/gone-since.yaml").write_text(yaml.safe_dump(GONE_SINCE), "utf-8")
    (folder / "templates/poddisruptionbudget.yaml").unlink()
    path = folder / "crds" / crd_file().name
    for newer in {*(folder / "crds").iterdir()} - {path}:
        newer.unlink()
    definition = yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)
    definition["spec"]["versions"][0]["additionalPrinterColumns"].pop()
    path.write_text(yaml.safe_dump(definition), "utf-8")
    return Path(helm.package(folder, destination=tmp_path, version="0.0.9", app_version="0.0.9"))


def everything(cluster: Cluster) -> set[str]:
    """All objects of the cluster, as namespace/kind/name, but Events, and what follows from the definitions."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    lasting = ",".join(kind for kind in kinds if not kind.startswith(("events", "apiservices")))
    found = json.loads(cluster.kubectl("get", lasting, "--all-namespaces", "-o", "json"))["items"]
    return {"/".join((o["metadata"].get("namespace", ""), o["kind"], o["metadata"]["name"])) for o in found}


def columns(cluster: Cluster) -> int:
    """Return the number of printer columns in the definition."""
    definition = json.loads(cluster.kubectl("get", CRD, "-o", "json"))
    return len(definition["spec"]["versions"][0]["additionalPrinterColumns"])


def installed(cluster: Cluster, release: helm.Config, chart: Path | helm.Chart, **values: Any) -> None:
    release.install(chart, NAME, {**QUICK, **values}, create_namespace=True)
    wait_for(cluster.serves, timeout=SOON, what="the API server serves BatchJobs")


def running(real: RealStage, **values: Any) -> AbstractContextManager[OperatorProcess]:
    """The operator, as the account of the release."""
    return real.running(real.kubeconfig_of(NAME), flags(objects({**QUICK, **values})))


def observed(real: RealStage, cluster: Cluster) -> list[dict[str, Any]]:
    """Objects of two jobs, one of them running, with their status; and no operator any more."""
    cluster.create("train", real.world.batch.seed())
    cluster.create("done", real.world.batch.seed(status="SUCCEEDED"))
    with running(real):
        cluster.wait_for("train", phase("Running"), timeout=SOON)
        cluster.wait_for("done", phase("Succeeded"), timeout=SOON)
    return cluster.objects()


def test_an_upgrade_keeps_the_objects_and_applies_the_new_values(
    real: RealStage, cluster: Cluster, release: helm.Config, version_before: Path
) -> None:
    installed(cluster, release, version_before)
    before, jobs = everything(cluster), observed(real, cluster)
    values = {"replicas": 3, "watchNamespaces": ["default"]}
    assert release.upgrade(loaded(), NAME, {**QUICK, **values})["status"] == "deployed"
    assert cluster.objects() == jobs
    after = everything(cluster)
    assert f"{NAME}/ConfigMap/of-the-version-before" in before - after
    assert {f"{NAME}/PodDisruptionBudget/{NAME}", f"default/Role/{NAME}"} <= after - before
    assert {f"/ClusterRole/{NAME}", f"/ClusterRoleBinding/{NAME}"} <= before - after
    replicas = cluster.kubectl("get", "deployment", NAME, f"--namespace={NAME}", "-o=jsonpath={.spec.replicas}")
    assert replicas == "3"
    with running(real, **values):
        cluster.terminate("train", REASON)
        cluster.wait_for("train", says("Terminated", "True", "TerminatedByRequest"), timeout=SOON)
    assert reasons_sent(real.world, jobs[1]["spec"]["jobId"]) == [REASON]


def test_a_rollback_keeps_the_objects_too(
    real: RealStage, cluster: Cluster, release: helm.Config, version_before: Path
) -> None:
    installed(cluster, release, version_before)
    jobs = observed(real, cluster)
    release.upgrade(loaded(), NAME, dict(QUICK))
    release.rollback(NAME)
    assert release.status(NAME)["chart_version"] == "0.0.9"
    assert cluster.objects() == jobs


@pytest.mark.parametrize("how", [(), ("--server-side", "--force-conflicts")], ids=["plain", "server-side"])
def test_the_definition_is_upgraded_by_kubectl(
    real: RealStage, cluster: Cluster, release: helm.Config, version_before: Path, how: tuple[str, ...]
) -> None:
    """Helm brings what stands in crds/ at the first install, and never touches it again."""
    installed(cluster, release, version_before)
    older, jobs = columns(cluster), observed(real, cluster)
    release.upgrade(loaded(), NAME, dict(QUICK))
    assert columns(cluster) == older
    with running(real):
        cluster.kubectl("apply", *how, *(f"--filename={crd}" for crd in CRDS))
        wait_for(cluster.serves, timeout=SOON, what="the API server serves BatchJobs by the new definition")
        assert columns(cluster) == older + 1
        assert cluster.objects() == jobs
        cluster.terminate("train", REASON)
        cluster.wait_for("train", says("Terminated", "True", "TerminatedByRequest"), timeout=SOON)


def test_an_uninstall_leaves_the_definition_the_objects_and_the_jobs(
    real: RealStage, cluster: Cluster, release: helm.Config
) -> None:
    before = everything(cluster)
    installed(cluster, release, loaded())
    jobs = observed(real, cluster)
    release.uninstall(NAME)
    left = {*(f"/{CRD_KIND}/{crd.stem}" for crd in CRDS), "default/BatchJob/train", "default/BatchJob/done"}
    # The Lease is the operator's own; the next release takes it over.
    assert everything(cluster) - before - {f"/Namespace/{NAME}"} == left | {f"{NAME}/Lease/{NAME}"}
    assert before - everything(cluster) == set()
    assert cluster.objects() == jobs
    assert real.world.batch.job(jobs[1]["spec"]["jobId"])["status"] == "RUNNING"
    installed(cluster, release, loaded())
    with running(real):
        cluster.terminate("train", REASON)
        cluster.wait_for("train", says("Terminated", "True", "TerminatedByRequest"), timeout=SOON)
    assert cluster.get("done") == jobs[0]


def test_kubectl_alone_installs_the_same_permissions(cluster: Cluster) -> None:
    before = everything(cluster)
    cluster.within(NAME).kubectl("apply", "--server-side", f"--kustomize={DEPLOY}")
    listed = json.loads(cluster.kubectl("get", RBAC, "--all-namespaces", f"--selector={OURS}", "-o", "json"))["items"]
    assert rights_of(NAME, NAME, listed) == rights_of(NAME, NAME, objects({}))
    made = everything(cluster) - before
    for one in sorted(made - {f"/Namespace/{NAME}"}):
        namespace, kind, name = one.split("/")
        cluster.kubectl("delete", kind, name, f"--namespace={namespace or 'default'}")
