"""The chart's hook before `helm uninstall`, with its flags and its rights, on a real control plane."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import operator_environment
from awsbatch_sandbox.processes import wait_for
from deploy.charts import NAME, Object, objects, of_kind, only
from deploy.stage import RealStage, namespaces, values_of
from integration.scenario import SOON, reasons_sent

pytestmark = pytest.mark.real

COUNT = 100
FINALIZER = "awsbatch.dev/terminate-on-delete"
ON_DELETE = {"terminate": {"reason": "its object was deleted"}}


@contextmanager
def hook_running(real: RealStage) -> Iterator["subprocess.Popen[str]"]:
    """The hook, as Helm runs it, but without a kubelet: its Role, its RoleBinding, and its command as a process."""
    release = objects({"onDelete": {"enabled": True}})
    rights = [body for body in of_kind(release, "Role", "RoleBinding") if _is_hook(body)]
    manifests = yaml.safe_dump_all(rights)
    real.world.cluster.kubectl("create", "--namespace=", "--filename=-", stdin=manifests)
    (container,) = only(release, "Job")["spec"]["template"]["spec"]["containers"]
    command = [sys.executable, "-m", "awsbatch_operator", *container["args"], f"--lease-namespace={NAME}"]
    environment = operator_environment(real.kubeconfig_of(NAME), real.world.cache, real.world.batch.url)
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8") as process:
        try:
            yield process
        finally:
            process.kill()
            real.world.cluster.kubectl("delete", "--namespace=", "--filename=-", stdin=manifests)


def _is_hook(body: Object) -> bool:
    return "helm.sh/hook" in body["metadata"].get("annotations", {})


def replicas(real: RealStage) -> str:
    where = ("deployment", NAME, f"--namespace={NAME}")
    return real.world.cluster.kubectl("get", *where, "-o=jsonpath={.spec.replicas}")


def held(cluster: Cluster) -> int:
    return sum(FINALIZER in body["metadata"].get("finalizers", []) for body in cluster.objects())


def test_the_hook_waits_for_the_operator_and_removes_every_finalizer(real: RealStage) -> None:
    with namespaces(real.world.cluster, "team") as (team,), real.operator(values_of("on-delete", [])) as operator:
        jobs = [real.world.batch.seed() for _ in range(COUNT)]
        for number, job_id in enumerate(jobs):
            team.create(f"job-{number}", job_id, onDelete=ON_DELETE)
        operator.start()
        wait_for(lambda: held(team) == COUNT, timeout=SOON, what="each object has the finalizer")
        with hook_running(real) as hook:
            wait_for(lambda: replicas(real) == "0", timeout=SOON, what="the Deployment is scaled to 0")
            assert held(team) == COUNT, "it waits for the Lease"
            assert operator.stop() == 0  # what the kubelet does then
            _, errors = hook.communicate(timeout=SOON)
            assert hook.returncode == 0, errors
        assert held(team) == 0
        team.delete_all()
        wait_for(lambda: team.objects() == [], timeout=SOON, what="no object hangs")
        assert [job_id for job_id in jobs if reasons_sent(real.world, job_id)] == []
