"""Installs the chart on a control plane that records the requests of the operator."""

import os
import secrets
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import helm_python as helm
import yaml

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.controlplane import ASSETS
from awsbatch_sandbox.envtest import Envtest
from awsbatch_sandbox.kubeconfig import write_private
from awsbatch_sandbox.operator_process import OperatorProcess, operator_environment, sandbox_aws
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from deploy.charts import NAME, Object, container_of, loaded, objects
from deploy.record import AUDIT_POLICY, AuditLog, Record, RequestLog

Values = Mapping[str, Any]
QUICK: Final[Values] = {"pollInterval": {"running": "500ms", "pending": "500ms"}, "missingGrace": "600ms"}
MODES: Final[Mapping[str, Values]] = {
    "cluster-wide": {},
    "namespaced": {"watchNamespaces": True},
    "without-policies": {"watchNamespaces": True, "accessPolicy": {"mode": "disabled"}},
    # Its hook would run a pod, and there is no node here.
    "on-delete": {"onDelete": {"enabled": True, "uninstallHook": False}},
}
"""Values of the chart that grant different rights; watchNamespaces stands for those of a test."""
ACCOUNT: Final = f"system:serviceaccount:{NAME}:{NAME}"


def values_of(mode: str, watched: Sequence[str]) -> Values:
    """Those of a key of MODES, with short intervals."""
    values = {**QUICK, **MODES[mode]}
    return {**values, "watchNamespaces": list(watched)} if "watchNamespaces" in values else values


def flags(release: Iterable[Object]) -> list[str]:
    """Those that the Deployment runs the operator with, for a process outside of the cluster."""
    command, *given = container_of(release)["args"]
    assert command == "run"
    # Outside there is no pod whose namespace the Lease would be in.
    return [*(flag for flag in given if not flag.startswith("--http-address")), f"--lease-namespace={NAME}"]


@contextmanager
def namespaces(cluster: Cluster, *teams: str) -> Iterator[list[Cluster]]:
    """New ones, whose names begin like that; at the end they are gone, and the objects in them."""
    made = [cluster.within(f"{team}-{secrets.token_hex(4)}") for team in teams]
    for one in made:
        one.create_namespace()
    yield made
    for one in made:
        one.delete_all()
        one.delete_namespace()
        one.close()


class Stage(ABC):
    def __init__(self, world: World, record: Record) -> None:
        self.world, self.record = world, record

    @contextmanager
    def operator(self, values: Values, aws: Mapping[str, str] | None = None) -> Iterator[OperatorProcess]:
        """The one of the chart with these values, its flags and its rights, in a process here; not started yet.

        `aws`: its variables instead of those that lead to the world's Batch.
        """
        with self._installed(values) as kubeconfig, self.process(kubeconfig, flags(objects(values)), aws) as operator:
            self.record.clear()
            yield operator

    @contextmanager
    def process(
        self, kubeconfig: Path, flags: Sequence[str], aws: Mapping[str, str] | None = None
    ) -> Iterator[OperatorProcess]:
        """One that is not started yet, and ended with the block."""
        with tempfile.TemporaryDirectory() as directory:
            url = self.world.batch.url
            environment = operator_environment(kubeconfig, self.world.cache, url)
            if aws is not None:
                ours = sandbox_aws(url)
                environment = {name: value for name, value in environment.items() if name not in ours} | dict(aws)
            operator = OperatorProcess(environment, Path(directory), flags)
            try:
                yield operator
            finally:
                if operator.running:
                    operator.kill9()

    @contextmanager
    def running(self, kubeconfig: Path, flags: Sequence[str]) -> Iterator[OperatorProcess]:
        """One that is ready, and ends well with the block."""
        with self.process(kubeconfig, flags) as operator:
            operator.start()
            yield operator
            assert operator.stop() == 0

    @abstractmethod
    def _installed(self, values: Values) -> AbstractContextManager[Path]:
        """The release is there inside of the block; gives the kubeconfig of its service account."""


class EmbeddedStage(Stage):
    """The embedded API server asks nobody for rights, and so takes no RBAC objects: there is nothing to install."""

    def __init__(self, world: World) -> None:
        if world.operator.running:
            world.operator.stop()
        super().__init__(world, RequestLog(world.control_plane.kubeconfig))

    @contextmanager
    def _installed(self, values: Values) -> Iterator[Path]:
        namespace = self.world.cluster.within(NAME)
        namespace.create_namespace()
        try:
            yield self.world.control_plane.kubeconfig
        finally:
            namespace.delete_namespace()
            namespace.close()


class RealStage(Stage):
    """kube-apiserver, with RBAC and an audit log, and Helm."""

    def __init__(self, plane: Envtest, world: World, audit_log: Path) -> None:
        super().__init__(world, AuditLog(audit_log, ACCOUNT))
        self.plane, self.audit_log = plane, audit_log

    @contextmanager
    def _installed(self, values: Values) -> Iterator[Path]:
        with helm.Config(kubeconfig_path=self.plane.kubeconfig, namespace=NAME) as release:
            release.install(loaded(), NAME, dict(values), create_namespace=True)
            try:
                # Helm brings the CRD too, when it is not there; it is not served at once.
                wait_for(self.world.cluster.serves, timeout=30, what="the API server serves BatchJobs")
                yield self.kubeconfig_of(NAME)
            finally:
                release.uninstall(NAME)
                # The operator made it, so Helm knows nothing of it.
                self.world.cluster.kubectl("delete", "leases", "--all", f"--namespace={NAME}")

    def kubeconfig_of(self, account: str, namespace: str = NAME) -> Path:
        """A login as that service account, by a token as a pod gets one."""
        token = self.world.cluster.kubectl("create", "token", account, f"--namespace={namespace}").strip()
        config = yaml.load(self.plane.kubeconfig.read_text("utf-8"), yaml.CSafeLoader)
        config["users"][0]["user"] = {"token": token}
        path = self.world.directory / f"{namespace}-{account}.kubeconfig"
        write_private(path, yaml.safe_dump(config).encode())
        return path


@contextmanager
def real_stage(directory: Path, *, grace: float) -> Iterator[RealStage]:
    policy, audit_log = directory / "audit-policy.yaml", directory / "audit.log"
    policy.write_text(yaml.safe_dump(AUDIT_POLICY), "utf-8")
    plane = Envtest(
        directory, os.environ.get(ASSETS), [f"--audit-policy-file={policy}", f"--audit-log-path={audit_log}"]
    )
    with ExitStack() as ends:
        ends.callback(plane.stop)
        plane.knows_batch_jobs = True  # from the first install on
        plane.launch()
        world = ends.enter_context(World(plane, grace=grace))
        yield RealStage(plane, world, audit_log)
