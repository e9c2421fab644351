"""Teams with an AWS account and an access policy each, under one operator that requires policies."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import boto3

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import REGION, OperatorProcess
from awsbatch_sandbox.policies import Policies
from awsbatch_sandbox.world import World
from integration.scenario import SOON
from ownership_checks import assert_observe_only

ACCOUNTS = ("111122223333", "444455556666")
CLUSTER = "prod"
FLAGS = (
    *("--poll-running=500ms", "--poll-pending=500ms", "--missing-grace=600ms"),
    *("--access-policy=required", f"--cluster-name={CLUSTER}"),
)
IN_TIME = 2.0
"""Seconds within which an edit of a policy or of a label must have its effect."""

Status = dict[str, Any]


@dataclass(frozen=True)
class Team:
    """A namespace, labelled `team`, and the policy of the same name that selects it."""

    name: str
    account: str
    cluster: Cluster
    world: World
    policies: Policies

    @property
    def role(self) -> str:
        return f"arn:aws:iam::{self.account}:role/batch-{self.name}"

    @property
    def selector(self) -> dict[str, Any]:
        return {"matchLabels": {"team": self.name}}

    @property
    def rules(self) -> dict[str, Any]:
        return {"queues": [f"{self.name}-*"], "tags": {"k8s-namespace": "${namespace}"}}

    def grant(self, **spec: Any) -> None:
        """Create its policy, with these fields instead of the defaults; a role of None: none."""
        defaults = {
            "namespaceSelector": self.selector,
            "role": {"arn": self.role},
            "regions": [REGION],
            "jobs": self.rules,
        }
        wanted = {key: value for key, value in {**defaults, **spec}.items() if value is not None}
        self.policies.create(self.name, **wanted)

    def wait_until_known(self) -> None:
        """Return once the operator has the policy: before, it reports to the namespace that there is none."""
        self.policies.wait_for(self.name, lambda status: status["observedGeneration"], timeout=SOON)

    def seed(self, **job: Any) -> str:
        """A job that the default policy admits, except for the fields that are given."""
        defaults = {"queue": f"{self.name}-spot", "account": self.account, "tags": {"k8s-namespace": self.name}}
        return self.world.batch.seed(**{**defaults, **job})

    def job(self, name: str, **job: Any) -> str:
        """The same, with a BatchJob of that name."""
        job_id = self.seed(name=name, **job)
        self.cluster.create(name, job_id)
        return job_id

    def tag(self, job_id: str, tags: dict[str, str]) -> None:
        """What somebody with the right to TagResource does."""
        with self._tagger() as client:
            client.tag_resource(resourceArn=self._arn(job_id), tags=tags)

    def untag(self, job_id: str, *keys: str) -> None:
        with self._tagger() as client:
            client.untag_resource(resourceArn=self._arn(job_id), tagKeys=list(keys))

    def _arn(self, job_id: str) -> str:
        return f"arn:aws:batch:{REGION}:{self.account}:job/{job_id}"

    @contextmanager
    def _tagger(self) -> Iterator[Any]:
        """A user of the account, who is not the operator."""
        self.world.batch.settings(accounts={self.account: self.account})
        session = boto3.Session(self.account, "sandbox", region_name=REGION)
        with closing(session.client("batch", endpoint_url=self.world.batch.url)) as client:
            yield client
        self.world.batch.settings(accounts={})

    def soon(self, name: str, holds: Callable[[Status], Any]) -> Status:
        """The status, once that holds: within the time that an edit may take."""
        status: Status = self.cluster.wait_for(name, holds, timeout=IN_TIME)["status"]
        return status

    def calls(self, since: int = 0, *, ending: bool = False) -> list[dict[str, Any]]:
        """Those that came by the role; `ending`: those alone that end jobs."""
        own = [call for call in self.world.batch.calls(since=since) if call["role"] == self.role]
        return [call for call in own if not ending or call["operation"].startswith("Terminate")]

    def latest(self) -> int:
        """The number of the latest call of anybody."""
        return max((call["n"] for call in self.world.batch.calls()), default=0)


class Stage:
    """A Batch with STS, and an operator in mode required; on it, teams that are gone with the block of each."""

    def __init__(self, world: World, policies: Policies) -> None:
        self.world, self.policies = world, policies

    @property
    def operator(self) -> OperatorProcess:
        """Up and ready; started anew after a test that ended it."""
        if not self.world.operator.running:
            self.world.operator.launch()
        self.world.operator.wait_ready()
        return self.world.operator

    def pause(self) -> None:
        """The operator is down until it is asked for."""
        if self.world.operator.running:
            self.world.operator.stop()

    @contextmanager
    def teams(self, count: int) -> Iterator[list[Team]]:
        """The first in the one account, the others in the other."""
        suffix = secrets.token_hex(3)
        names = [f"{letter}-{suffix}" for letter in "abcdefgh"[:count]]
        teams = [
            Team(name, ACCOUNTS[number > 0], self.world.cluster.within(name), self.world, self.policies)
            for number, name in enumerate(names)
        ]
        for team in teams:
            team.cluster.create_namespace(team=team.name)
        self.world.batch.clear_calls()
        try:
            yield teams
            for team in teams:
                for body in team.cluster.objects():
                    assert_observe_only(body)
        finally:
            self._forget(teams)

    def _forget(self, teams: list[Team]) -> None:
        self.world.batch.clear_faults()
        self.world.batch.clear_denials()
        self.world.sts.clear_trust()
        self.policies.delete_all()
        for team in teams:
            team.cluster.delete_all()
            team.cluster.delete_namespace()
            team.cluster.close()


@contextmanager
def stage_on(world: World, *flags: str) -> Iterator[Stage]:
    """On the control plane that is there, which no other operator watches meanwhile."""
    if world.operator.running:
        world.operator.stop()
    with (
        World(world.control_plane, grace=0.2, roles=True, flags=(*FLAGS, *flags)) as own,
        Policies(own.control_plane.kubeconfig) as policies,
    ):
        yield Stage(own, policies)
