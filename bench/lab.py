"""What every measure is taken in."""

from dataclasses import dataclass

from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.world import World
from bench.contenders import ours
from bench.fleet import Fleet
from bench.kube import Kube
from bench.tenants import Tenants


@dataclass(frozen=True, slots=True)
class Lab:
    """One control plane, one Batch, the objects; `tenants`: whose they are, where policies govern them."""

    world: World
    kube: Kube
    fleet: Fleet
    tenants: Tenants | None = None

    def operator(self, *flags: str) -> OperatorProcess:
        """Ours, with its defaults but for these flags; a policy is required where there are some."""
        required = () if self.tenants is None else ("--access-policy=required",)
        return ours(self.world, (*required, *flags))

    @property
    def size(self) -> int:
        return len(self.fleet.live)

    @property
    def patience(self) -> float:
        """Seconds for what concerns every object; whoever needs longer has failed."""
        return 60 + self.size / 20
