"""Two teams with an AWS account each: their namespaces, roles and policies, as deploy/iam/spoke sets them up."""

from typing import Final

from awsbatch_sandbox.cluster import Body, Cluster
from awsbatch_sandbox.policies import access_policy
from awsbatch_sandbox.world import World

ACCOUNTS: Final = {"team-a": "111122223333", "team-b": "444455556666"}
"""Accounts by team. The namespace and the policy have the name of the team."""


def role(team: str) -> str:
    return f"arn:aws:iam::{ACCOUNTS[team]}:role/batch-{team}"


def policy(team: str, events_queue: str | None = None) -> Body:
    """`events_queue`: the URL of one of the team's account, which the operator reads by the team's role."""
    letter = team[-1]
    events = {} if events_queue is None else {"eventsQueue": events_queue}
    return access_policy(
        team,
        namespaceSelector={"matchLabels": {"team": letter}},
        role={"arn": role(team), **events},
        regions=["eu-west-1"],
        jobs={"queues": [f"{team}-*"], "tags": {"team": letter, "k8s-namespace": "${namespace}"}},
    )


def create_teams(world: World, cluster_name: str) -> dict[str, Cluster]:
    """Create namespaces and roles in a world with roles; return the namespaces by team. The caller closes them."""
    found = {team: world.cluster.within(team) for team in ACCOUNTS}
    for team, cluster in found.items():
        cluster.create_namespace(team=team[-1])
        world.sts.trust(role(team), external_id=f"awsbatch-operator/{cluster_name}/{team}")
        # What deploy/iam/spoke grants: TerminateJob on jobs that carry the namespace of the session as a tag.
        world.batch.deny("TerminateJob", role=role(team), job_tag="k8s-namespace", principal_tag="kubernetes-namespace")
    return found


def seed(world: World, team: str, name: str, queue: str) -> str:
    """Create a job in a team's account; return its id."""
    tags = {"team": team[-1], "k8s-namespace": team}
    return world.batch.seed(name=name, queue=queue, account=ACCOUNTS[team], tags=tags)
