"""The environment of every measurement."""

from dataclasses import dataclass

from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.world import World
from bench.fleet import Fleet
from bench.kube import Kube
from bench.subjects import ours
from bench.tenants import Tenants


@dataclass(frozen=True, slots=True)
class Harness:
    """One control plane, one Batch, the objects; `tenants`: their teams, where policies govern them."""

    world: World
    kube: Kube
    fleet: Fleet
    tenants: Tenants | None = None

    def operator(self, *flags: str) -> OperatorProcess:
        """The operator with its defaults and these flags; policies are required if there are any."""
        required = () if self.tenants is None else ("--access-policy=required",)
        return ours(self.world, (*required, *flags))

    @property
    def size(self) -> int:
        return len(self.fleet.live)

    @property
    def patience(self) -> float:
        """Seconds for a step that concerns every object; a slower one has failed."""
        return 60 + self.size / 20
