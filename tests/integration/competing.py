"""Two namespaces of one operator: what a quiet one waits for while a noisy one loads or breaks the operator."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.controlplane import Embedded
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, accepted, phase, reasons_sent

_BUSY_MACHINE: Final = 3.0
SENT_WITHIN: Final = 2.0 * _BUSY_MACHINE
"""Seconds from the statement of a termination to TerminateJob, whatever another namespace does."""
WRITTEN_WITHIN: Final = 3.0 * _BUSY_MACHINE
"""Seconds from the statement of a termination to the status that records it."""
TERMINATE_RATE: Final = 5
"""Termination calls a second of the operator: the least that the bounds above ask of AWS."""
FOREVER: Final = 1_000_000
_LONGEST: Final = 60.0


@dataclass(frozen=True)
class Namespaces:
    """`noisy` and `quiet` have no policy and share one AWS account; the operator is up."""

    world: World
    noisy: Cluster
    quiet: Cluster

    @property
    def api_server(self) -> Embedded:
        plane = self.world.control_plane
        assert isinstance(plane, Embedded)
        return plane

    def running(self, cluster: Cluster, count: int) -> dict[str, str]:
        """Ids of new jobs by the names of their objects, which show them running."""
        jobs = {f"job-{number}": job_id for number, job_id in enumerate(self.world.batch.seed_many(count))}
        for name, job_id in jobs.items():
            cluster.create(name, job_id)
        for name in jobs:
            cluster.wait_for(name, phase("Running"), timeout=SOON)
        return jobs

    def sent_after(self, job_id: str, state: Callable[[], Any]) -> float:
        """Seconds from the call of `state`, which states a termination of the job, until Batch receives it."""
        return self._after(state, lambda: reasons_sent(self.world, job_id), f"TerminateJob for {job_id}")

    def written_after(self, name: str, state: Callable[[], Any]) -> float:
        """Seconds from the call of `state` until the status of that object in `quiet` records the request."""
        return self._after(state, lambda: accepted(self.quiet.get(name).get("status", {})), f"the status of {name}")

    def _after(self, state: Callable[[], Any], done: Callable[[], Any], what: str) -> float:
        began = time.monotonic()
        state()
        wait_for(done, timeout=_LONGEST, what=what)
        return time.monotonic() - began

    def slow_status_writes(self, **fault: Any) -> None:
        """Apply a fault of the API server to each status write in `noisy`."""
        path = f"/namespaces/{self.noisy.namespace}/batchjobs/[^/]+/status$"
        self.api_server.order("fault", method="PATCH", path_regex=path, times=FOREVER, **fault)


@contextmanager
def namespaces_in(world: World) -> Iterator[Namespaces]:
    """A fresh pair under a fresh operator; nothing of it is left afterwards."""
    suffix = secrets.token_hex(4)
    both = Namespaces(world, world.cluster.within(f"noisy-{suffix}"), world.cluster.within(f"quiet-{suffix}"))
    for cluster in (both.noisy, both.quiet):
        cluster.create_namespace()
    world.batch.clear_calls()
    world.operator.start()
    try:
        yield both
    finally:
        world.operator.kill9()
        world.batch.clear_faults()
        both.api_server.order("clear_faults")
        for cluster in (both.noisy, both.quiet):
            cluster.delete_all()
            cluster.delete_namespace()
            cluster.close()
