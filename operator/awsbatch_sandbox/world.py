"""A sandbox on this machine: a control plane, a simulated AWS Batch, the operator, and jobs with their objects."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from awsbatch_sandbox.batch.remote import RemoteBatch
from awsbatch_sandbox.batch.settings import DEFAULT_ACCOUNT
from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.controlplane import ControlPlane, choose, crd_files
from awsbatch_sandbox.operator_process import REGION, OperatorProcess, operator_environment
from awsbatch_sandbox.processes import Child, wait_for
from awsbatch_sandbox.sts.remote import RemoteSts

QUICK: Final = (
    "--poll-running=500ms",
    "--poll-pending=500ms",
    "--poll-with-events=500ms",
    "--missing-grace=1s",
)
"""Intervals for interactive use: the defaults are made for thousands of jobs."""
BY_EVENTS: Final = ("--missing-grace=1s",)
"""The default intervals, but for jobs that do not exist: an event shows a change long before the next poll."""
_BATCH_TIMEOUT: Final = 20.0


class World:
    """Inside the `with` block everything runs and the CRDs are established; the caller starts the operator.

    `control_plane` as of --control-plane, or a control plane that already runs and keeps running. `grace`: seconds
    from TerminateJob to the end of the job. `flags` and `environment` are those of the operator. With `roles`
    there is STS too, as `sts`, and the operator uses it. With `events`, it reads the queue `events_queue`, which gets
    the events of its own account in all regions.
    """

    batch: RemoteBatch
    sts: RemoteSts
    cluster: Cluster
    operator: OperatorProcess
    events_queue: str

    def __init__(
        self,
        control_plane: str | ControlPlane = "auto",
        *,
        grace: float,
        flags: Sequence[str] = (),
        roles: bool = False,
        events: bool = False,
    ) -> None:
        self._asked, self._grace, self._flags = control_plane, grace, tuple(flags)
        self._roles, self._events = roles, events
        self._ends = ExitStack()
        self.control_plane: ControlPlane

    def __enter__(self) -> Self:
        with self._ends:
            self._build()
            self._ends = self._ends.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ends.close()

    def seed(self, name: str, **job: Any) -> str:
        """Create a job in Batch and the object that names it (and `region`, if given); return the job's id."""
        job_id = self.batch.seed(name=name, **job)
        self.cluster.create(name, job_id, **({"region": job["region"]} if "region" in job else {}))
        return job_id

    @contextmanager
    def api_server_away(self, seconds: float) -> Iterator[None]:
        """Refuse connections from the start of the block until `seconds` later; serve again at the end."""
        with self.control_plane.away(seconds):
            yield
        wait_for(self.cluster.serves, timeout=30, what="the API server serves BatchJobs again")

    def _build(self) -> None:
        self.directory = Path(self._ends.enter_context(tempfile.TemporaryDirectory(prefix="awsbatch-sandbox-")))
        plane = self._plane()
        batch = self._launch_batch()
        plane.ready()
        batch_url = batch.ready(self._announced, timeout=_BATCH_TIMEOUT)
        self.batch = self._ends.enter_context(RemoteBatch(batch_url))
        self.cache = self.directory / "kubectl-cache"
        self.cluster = Cluster(plane.kubeconfig, self.cache)
        self._ends.callback(self.cluster.close)
        if not plane.knows_batch_jobs:
            establish(self.cluster)
        self.environment = operator_environment(plane.kubeconfig, self.cache, batch_url)
        if self._roles:
            # Available by now: STS is announced before Batch.
            sts_url = self._sts_announcement.read_text("utf-8").strip()
            self.sts = self._ends.enter_context(RemoteSts(sts_url))
            self.environment["AWS_ENDPOINT_URL_STS"] = sts_url
        if self._events:
            self.events_queue = self.batch.create_queue(sources=[{"account": DEFAULT_ACCOUNT}])
            self._flags += (f"--events-queue={self.events_queue}",)
        self.operator = OperatorProcess(self.environment, self.directory, self._flags)
        self._ends.callback(self._stop_operator)

    def _plane(self) -> ControlPlane:
        if isinstance(self._asked, ControlPlane):
            self.control_plane = self._asked
            return self._asked
        self.control_plane = plane = choose(self._asked, self.directory)
        self._ends.callback(plane.stop)
        plane.launch()
        return plane

    def _launch_batch(self) -> Child:
        module = [sys.executable, "-m", "awsbatch_sandbox.batch"]
        flags = [f"--announce={self._announcement}", f"--grace={self._grace}", f"--region={REGION}"]
        if self._roles:
            flags.append(f"--sts-announce={self._sts_announcement}")
        batch = Child("Batch simulator", [*module, *flags], log=self.directory / "batch.log")
        batch.start()
        self._ends.callback(batch.stop)
        return batch

    @property
    def _announcement(self) -> Path:
        return self.directory / "batch.url"

    def _announced(self) -> str | None:
        return self._announcement.read_text("utf-8").strip() if self._announcement.exists() else None

    @property
    def _sts_announcement(self) -> Path:
        return self.directory / "sts.url"

    def _stop_operator(self) -> None:
        if self.operator.running:
            self.operator.stop()


def establish(cluster: Cluster) -> None:
    """Apply the CRDs unless the same ones exist, and wait until they are served."""
    crds = crd_files()
    cluster.kubectl("apply", *(f"--filename={crd}" for crd in crds))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{crd.stem}" for crd in crds))
    for plural in (crd.stem.partition(".")[0] for crd in crds):
        wait_for(partial(cluster.serves, plural), timeout=30, what=f"the API server serves {plural}")
