"""Builders of policies, scopes and job attributes for the tests of access."""

from collections.abc import Mapping
from typing import Any

from awsbatch_operator.api.access_policy import InvalidPolicy, Policy, parse_policy
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.policy.authorizer import JobAttributes
from awsbatch_operator.policy.resolution import Mode, Scope, resolve_scope, select_policy
from builders import JOB_ID, NOW, REGION

ROLE = "arn:aws:iam::111122223333:role/batch-team-a"
QUEUE = "arn:aws:batch:eu-west-1:111122223333:job-queue/team-a-gpu"
MINE = {"team": "a", "k8s-namespace": "train", "run": "17"}


def a_policy(name: str = "team-a", **spec: Any) -> Policy:
    """A policy for namespaces with team=a and jobs in queues team-a-*, unless the spec says otherwise."""
    whole = {"namespaceSelector": {"matchLabels": {"team": "a"}}, "jobs": {"queues": ["team-a-*"]}, **spec}
    policy = parse_policy(name, whole)
    assert isinstance(policy, Policy), policy
    return policy


def an_invalid_policy(name: str, **spec: Any) -> InvalidPolicy:
    policy = parse_policy(name, {"namespaceSelector": {"matchLabels": {"team": "a"}}, **spec})
    assert isinstance(policy, InvalidPolicy)
    return policy


def a_scope(namespace: str = "train", **spec: Any) -> Scope:
    """The scope that this policy gives in the operator's region."""
    found = resolve_scope(select_policy([a_policy(**spec)], {"team": "a"}), Mode.REQUIRED, namespace, None, REGION)
    assert isinstance(found, Scope)
    return found


def unrestricted() -> Scope:
    """The scope where no policy selects the namespace, and none is required."""
    found = resolve_scope(None, Mode.OPTIONAL, "train", None, REGION)
    assert isinstance(found, Scope)
    return found


def attributes(
    job_id: str = JOB_ID, queue: str | None = QUEUE, tags: Mapping[str, str] | None = MINE, at: Millis = NOW
) -> JobAttributes:
    return JobAttributes(job_id, queue, tags, at)
