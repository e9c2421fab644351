"""Parameters of AssumeRole: exact where AWS accepts them, and never the same for two."""

import re

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.policy.role_session import Session, external_id, for_describe, for_terminate
from unit.policy.policies import ROLE

CLUSTER = ("kubernetes-cluster", "prod")


def test_the_session_for_polls() -> None:
    assert for_describe(ROLE, "prod", "team-a") == Session(
        ROLE, "awsbatch-operator/prod/team-a", "policy,team-a@prod", (CLUSTER,)
    )


def test_the_session_for_terminations() -> None:
    assert for_terminate(ROLE, "prod", "team-a", "train") == Session(
        ROLE, "awsbatch-operator/prod/team-a", "ns,train@prod", (("kubernetes-namespace", "train"), CLUSTER)
    )


@pytest.mark.parametrize(
    ("cluster", "reported"),
    [
        ("prod", "prod"),
        ("Prod_1", "Prod_1"),
        ("arn:aws:eks:eu-west-1:111122223333:cluster", "arn:aws:eks:eu-west-1:111122223333:cluster"),
        ("a/b", r"a-b=[0-9a-f]{16}"),
        ("München", r"M-nchen=[0-9a-f]{16}"),
        ("a=b", r"a-b=[0-9a-f]{16}"),
        ("", r"=[0-9a-f]{16}"),
        ("c" * 700, r"c{585}=[0-9a-f]{16}"),
    ],
)
def test_the_external_id_has_the_name_of_the_cluster_or_a_cleaned_one(cluster: str, reported: str) -> None:
    assert re.fullmatch(f"awsbatch-operator/{reported}/team-a", external_id(cluster, "team-a"))


def test_a_long_name_of_a_session_begins_with_the_namespace() -> None:
    name = for_terminate(ROLE, "a-cluster-of-a-very-very-very-long-name", "team-a", "a-namespace-of-a-long-name").name
    assert re.fullmatch(r"ns,a-namespace-of-a-long-name@a-cluster-of-a-ve=[0-9a-f]{16}", name)
    assert len(name) == 64


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
CLUSTERS = st.text(max_size=12) | st.text("ab/=@,:-", max_size=4) | st.just("c" * 2000) | NAMES


def shape(member: str) -> tuple[re.Pattern[str], int, int]:
    """Pattern and lengths of a parameter of AssumeRole, as the SDK's model of STS has them."""
    members = boto3.client("sts", "eu-west-1").meta.service_model.operation_model("AssumeRole").input_shape.members
    found = members["Tags"].member.members[member] if member in ("Key", "Value") else members[member]
    pattern = found.metadata["pattern"].replace(r"\p{L}\p{Z}\p{N}", r"\w ")
    return re.compile(pattern, re.ASCII), found.metadata.get("min", 0), found.metadata["max"]


SHAPES = {member: shape(member) for member in ("ExternalId", "RoleSessionName", "Key", "Value")}


@given(cluster=CLUSTERS, policy=NAMES | st.just("p." * 126 + "p"), namespace=NAMES)
def test_sts_takes_it_all(cluster: str, policy: str, namespace: str) -> None:
    for session in (for_describe(ROLE, cluster, policy), for_terminate(ROLE, cluster, policy, namespace)):
        given = [("ExternalId", session.external_id), ("RoleSessionName", session.name)]
        given += [pair for key, value in session.tags for pair in (("Key", key), ("Value", value))]
        for member, value in given:
            pattern, least, most = SHAPES[member]
            assert pattern.fullmatch(value), (member, value)
            assert least <= len(value) <= most
    assert dict(session.tags)["kubernetes-namespace"] == namespace, "IAM holds it against a tag of the job"


@given(one=st.tuples(CLUSTERS, NAMES, NAMES), other=st.tuples(CLUSTERS, NAMES, NAMES))
def test_different_inputs_give_different_sessions(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    (cluster, policy, namespace), (cluster2, policy2, namespace2) = one, other
    first, second = for_terminate(ROLE, *one), for_terminate(ROLE, *other)
    assert (first.external_id == second.external_id) is ((cluster, policy) == (cluster2, policy2))
    assert (first.name == second.name) is ((cluster, namespace) == (cluster2, namespace2))
    assert (first.tags == second.tags) is ((cluster, namespace) == (cluster2, namespace2))
    assert for_describe(ROLE, cluster, policy).name != first.name
