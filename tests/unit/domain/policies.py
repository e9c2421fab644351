"""Builders of policies, grants and facts for the tests of access."""

from collections.abc import Mapping
from typing import Any

from awsbatch_operator.domain.access import Grant, Mode, choose, grant
from awsbatch_operator.domain.admission import Facts
from awsbatch_operator.domain.job import Millis
from awsbatch_operator.domain.policy import Policy, Unreadable, parse_policy
from builders import JOB_ID, NOW, REGION

ROLE = "arn:aws:iam::111122223333:role/batch-team-a"
QUEUE = "arn:aws:batch:eu-west-1:111122223333:job-queue/team-a-gpu"
MINE = {"team": "a", "k8s-namespace": "train", "run": "17"}


def a_policy(name: str = "team-a", **spec: Any) -> Policy:
    """Of namespaces with team=a, for jobs in queues team-a-*, unless the spec says otherwise."""
    whole = {"namespaceSelector": {"matchLabels": {"team": "a"}}, "jobs": {"queues": ["team-a-*"]}, **spec}
    policy = parse_policy(name, whole)
    assert isinstance(policy, Policy), policy
    return policy


def unreadable(name: str, **spec: Any) -> Unreadable:
    policy = parse_policy(name, {"namespaceSelector": {"matchLabels": {"team": "a"}}, **spec})
    assert isinstance(policy, Unreadable)
    return policy


def a_grant(namespace: str = "train", **spec: Any) -> Grant:
    """What that policy grants in the operator's region."""
    found = grant(choose([a_policy(**spec)], {"team": "a"}), Mode.REQUIRED, namespace, None, REGION)
    assert isinstance(found, Grant)
    return found


def everything() -> Grant:
    """What holds where no policy selects the namespace, and none is required."""
    found = grant(choose([], {}), Mode.OPTIONAL, "train", None, REGION)
    assert isinstance(found, Grant)
    return found


def facts(
    job_id: str = JOB_ID, queue: str | None = QUEUE, tags: Mapping[str, str] | None = MINE, at: Millis = NOW
) -> Facts:
    return Facts(job_id, queue, tags, at)
