"""Many teams on one cluster: their namespaces, their policies, and the accounts of their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Final, NamedTuple

from awsbatch_operator.api.names import API_VERSION, POLICY_KIND
from bench.kube import CONNECTIONS, Kube, in_parallel

OWN_ACCOUNT: Final = "123456789012"
"""The account of the operator's own credentials, in the sandbox."""
ACCOUNTS: Final = ("111111111111", "222222222222", "333333333333")
"""The accounts of the roles."""
LABEL: Final = "team"
FEWEST_POLICIES: Final = 4
"""Two with a role, two without."""


class Where(NamedTuple):
    """The account and the role's ARN (if any) of calls: only calls of the same pair can be shared."""

    account: str
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Home:
    """A namespace, the team that owns it, and the properties of its jobs as arguments of `seed`."""

    namespace: str
    where: Where
    team: str | None = None
    job: dict[str, Any] = field(default_factory=dict)


ALONE: Final = (Home("default", Where(OWN_ACCOUNT)),)
"""The only home if there are no policies."""


@dataclass(frozen=True)
class Tenants:
    """`policies` teams with `namespaces` in all, assigned in turn. Every other team has a role of its own."""

    policies: int
    namespaces: int

    @cached_property
    def homes(self) -> Sequence[Home]:
        return [home(_team(number % self.policies), number) for number in range(self.namespaces)]

    @cached_property
    def teams(self) -> dict[str, Where]:
        return {_team(number): _where(number) for number in range(self.policies)}

    async def settle(self, kube: Kube) -> None:
        """Create policies first: no namespace is ever without one."""
        for team, where in self.teams.items():
            await kube.create_policy(policy(team, where.role))
        made = (partial(kube.create_namespace, one.namespace, {LABEL: one.team or ""}) for one in self.homes)
        await in_parallel(CONNECTIONS, made)


def _team(number: int) -> str:
    return f"team-{number:02}"


def _where(number: int) -> Where:
    if number % 2:
        return Where(OWN_ACCOUNT)
    account = ACCOUNTS[number // 2 % len(ACCOUNTS)]
    return Where(account, f"arn:aws:iam::{account}:role/batch-{_team(number)}")


def home(team: str, number: int, where: Where | None = None) -> Home:
    """A namespace of the team: its jobs match the rules of the team's policy."""
    namespace = f"{team}-{number:03}"
    at = where or _where(int(team.rpartition("-")[2]))
    tags = {LABEL: team, "k8s-namespace": namespace, "cost-center": "4711"}
    return Home(namespace, at, team, {"account": at.account, "queue": f"{team}-training", "tags": tags})


def policy(team: str, role: str | None) -> dict[str, Any]:
    """It admits by queue and by tags, one of them the namespace's name."""
    spec: dict[str, Any] = {
        "namespaceSelector": {"matchLabels": {LABEL: team}},
        "jobs": {"queues": [queues_of(team)], "tags": {LABEL: team, "k8s-namespace": "${namespace}"}},
    }
    if role is not None:
        spec["role"] = {"arn": role}
    return {"apiVersion": API_VERSION, "kind": POLICY_KIND, "metadata": {"name": team}, "spec": spec}


def queues_of(team: str) -> str:
    return f"{team}-*"
