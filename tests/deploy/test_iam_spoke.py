"""The roles of BatchAccessPolicies: who may take them, and what IAM would answer to the operator's sessions."""

import copy
import json
import re
from dataclasses import replace
from typing import Any, Final

import pytest

from awsbatch_operator.api.access_policy import NAMESPACE
from awsbatch_operator.policy.role_session import Session, for_describe, for_terminate
from deploy.iam_decision import Document, Request, allows
from deploy.iam_forms import assert_checked_alike, joined, normal
from deploy.iam_mutants import mutants
from deploy.iam_spoke_forms import FORMS, SPOKE, TEMPLATE, WISHES, SpokeWish, module, stack
from deploy.iam_terraform import read

IN_EACH_FORM = pytest.mark.parametrize("form", FORMS)
EVERY = pytest.mark.parametrize("wish", WISHES.values(), ids=list(WISHES))
ROLE: Final = "arn:aws:iam::222233334444:role/batch-team-a"
AS_IT_STANDS: Final = SpokeWish()
Who = tuple[str, str]
HUB: Final = ("AWS", AS_IT_STANDS.hub)
POLLS: Final = for_describe(ROLE, "my-cluster", "team-a")
ENDING: Final = for_terminate(ROLE, "my-cluster", "team-a", "team-a-dev")


@pytest.mark.parametrize("form", ["CloudFormation", "Terraform"])
@EVERY
def test_cloudformation_and_terraform_have_the_same_documents(form: str, wish: SpokeWish) -> None:
    found, expected = FORMS[form](wish), FORMS["JSON"](wish)
    assert normal(found.trust) == normal(expected.trust)
    assert normal(found.policy) == normal(expected.policy)


def test_a_role_is_under_the_path_that_the_hub_names() -> None:
    wish = WISHES["one StackSet"]
    one = module(wish)
    assert stack(wish).properties("Role")["Path"] == "/awsbatch/my-cluster/"
    assert one.value(one.resource("aws_iam_role", "spoke"), "path") == "/awsbatch/my-cluster/"


def taken(trust: Document, session: Session, principal: Who = HUB, *, external_id: bool = True) -> bool:
    """Whether AssumeRole succeeds: with tags it needs the right to each of two actions.

    sts:ExternalId is known to be there for AssumeRole alone, so no other statement may lean on it.
    """
    tags: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in session.tags}
    if session.tags:
        tags["aws:TagKeys"] = tuple(key for key, _ in session.tags)
    proof = {"sts:ExternalId": session.external_id} if external_id else {}
    return allows(trust, Request("sts:AssumeRole", "*", tags | proof, principal)) and (
        not session.tags or allows(trust, Request("sts:TagSession", "*", tags, principal))
    )


def tagged(session: Session, **more: str) -> Session:
    return replace(session, tags=(*session.tags, *more.items()))


INHERITED: Final = ("eks-cluster-arn", "eks-cluster-name", "kubernetes-service-account", "kubernetes-pod-name")
TAKERS: Final[dict[str, tuple[Session, Who, bool]]] = {
    "polls": (POLLS, HUB, True),
    "terminations": (ENDING, HUB, True),
    "terminations of another namespace": (for_terminate(ROLE, "my-cluster", "team-a", "team-a-prod"), HUB, True),
    "polls of another policy": (for_describe(ROLE, "my-cluster", "team-b"), HUB, False),
    "terminations of another policy": (for_terminate(ROLE, "my-cluster", "team-b", "team-a-dev"), HUB, False),
    "another cluster": (for_describe(ROLE, "my-cluster-2", "team-a"), HUB, False),
    "another cluster, for a termination": (for_terminate(ROLE, "my-cluster-2", "team-a", "team-a-dev"), HUB, False),
    "the ExternalId with another cluster's tag": (
        replace(POLLS, tags=(("kubernetes-cluster", "my-cluster-2"),)),
        HUB,
        False,
    ),
    "an ExternalId in capitals": (replace(POLLS, external_id=POLLS.external_id.upper()), HUB, False),
    "an ExternalId that goes on": (replace(POLLS, external_id=f"{POLLS.external_id}2"), HUB, False),
    "no tags": (replace(POLLS, tags=()), HUB, False),
    "the namespace's tag alone": (replace(ENDING, tags=ENDING.tags[:1]), HUB, False),
    "one tag more": (tagged(ENDING, team="a"), HUB, False),
    "one tag more on a poll": (tagged(POLLS, team="a"), HUB, False),
    "a key in another case": (tagged(POLLS, **{"Kubernetes-Namespace": "team-a-dev"}), HUB, False),
    "what Pod Identity hands on": (tagged(POLLS, **dict.fromkeys(INHERITED, "x")), HUB, False),
    "another role of the hub's account": (POLLS, ("AWS", f"{AS_IT_STANDS.hub}-2"), False),
    "a role of that name in a third account": (POLLS, ("AWS", AS_IT_STANDS.hub.replace("1111", "9999")), False),
    "everybody in the hub's account": (POLLS, ("AWS", "arn:aws:iam::111122223333:root"), False),
    "somebody of its own account": (POLLS, ("AWS", "arn:aws:iam::222233334444:role/admin"), False),
    "a service": (POLLS, ("Service", "batch.amazonaws.com"), False),
    "pods": (POLLS, ("Service", "pods.eks.amazonaws.com"), False),
}


@IN_EACH_FORM
@pytest.mark.parametrize("taker", TAKERS)
def test_the_operator_of_one_cluster_assumes_the_role_for_one_policy(form: str, taker: str) -> None:
    session, principal, answer = TAKERS[taker]
    assert taken(FORMS[form](AS_IT_STANDS).trust, session, principal) is answer


@IN_EACH_FORM
@pytest.mark.parametrize("session", [POLLS, ENDING], ids=["poll", "termination"])
def test_without_an_external_id_no_one_can_assume_it(form: str, session: Session) -> None:
    assert not taken(FORMS[form](AS_IT_STANDS).trust, session, external_id=False)


@IN_EACH_FORM
@EVERY
def test_the_operator_sends_what_each_trust_requires(form: str, wish: SpokeWish) -> None:
    trust = FORMS[form](wish).trust
    for session in (
        for_describe(ROLE, wish.cluster, wish.policy),
        for_terminate(ROLE, wish.cluster, wish.policy, "n" * 63),
    ):
        assert taken(trust, session, ("AWS", wish.hub))
        assert 2 <= len(session.name) <= 64
        assert len(session.external_id) <= 1224


TRUSTS: Final = dict(mutants(FORMS["JSON"](AS_IT_STANDS).trust))


@pytest.mark.parametrize("done", TRUSTS)
def test_a_wider_or_narrower_trust_is_noticed(done: str) -> None:
    mutant = TRUSTS[done]
    wrong = [name for name, (session, who, answer) in TAKERS.items() if taken(mutant, session, who) is not answer]
    assert wrong or lets_in_more(mutant)


def lets_in_more(trust: Document) -> bool:
    """Whether the hub may make a call that it never makes, or somebody else one of those that it makes."""
    tags: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in POLLS.tags}
    context = tags | {"aws:TagKeys": tuple(key for key, _ in POLLS.tags), "sts:ExternalId": POLLS.external_id}
    others = {who for _, who, _ in TAKERS.values()} - {HUB}
    calls = [(action, HUB) for action in ("sts:SetSourceIdentity", "sts:AssumeRoleWithWebIdentity")]
    calls += [(action, who) for action in ("sts:AssumeRole", "sts:TagSession") for who in others]
    return any(allows(trust, Request(action, "*", context, who)) for action, who in calls)


@IN_EACH_FORM
def test_no_other_call_is_allowed(form: str) -> None:
    assert not lets_in_more(FORMS[form](AS_IT_STANDS).trust)


JOB: Final = "arn:aws:batch:eu-west-1:222233334444:job/61e743ed-35e4-48da-b2de-5c8333821c84"
HERE: Final = {"aws:RequestedRegion": "eu-west-1"}
DESCRIBE, LIST, TERMINATE = "batch:DescribeJobs", "batch:ListJobs", "batch:TerminateJob"
MINE: Final = {"aws:ResourceTag/k8s-namespace": "team-a-dev"}


def asked(session: Session, action: str, resource: str = JOB, **more: str) -> Request:
    tags = {f"aws:PrincipalTag/{key}": value for key, value in session.tags}
    return Request(action, resource, HERE | tags | more)


ANSWERS: Final[dict[str, tuple[Request, bool]]] = {
    "poll": (asked(POLLS, DESCRIBE, "*"), True),
    "poll in another region": (asked(POLLS, DESCRIBE, "*", **{"aws:RequestedRegion": "us-east-1"}), False),
    "list": (asked(POLLS, LIST, "*"), True),
    "list in another region": (asked(POLLS, LIST, "*", **{"aws:RequestedRegion": "us-east-1"}), False),
    "terminate an own job": (asked(ENDING, TERMINATE, **MINE), True),
    "end a child that IAM sees with its parent's tag": (asked(ENDING, TERMINATE, f"{JOB}:3", **MINE), True),
    "end a child that IAM sees without tags": (asked(ENDING, TERMINATE, f"{JOB}:3"), False),
    "end another namespace's job": (asked(ENDING, TERMINATE, **{"aws:ResourceTag/k8s-namespace": "team-b"}), False),
    "end a job of a namespace whose name begins so": (
        asked(ENDING, TERMINATE, **{"aws:ResourceTag/k8s-namespace": "team-a-dev2"}),
        False,
    ),
    "end a job of all namespaces": (asked(ENDING, TERMINATE, **{"aws:ResourceTag/k8s-namespace": "*"}), False),
    "terminate an untagged job": (asked(ENDING, TERMINATE), False),
    "end a job with another tag": (asked(ENDING, TERMINATE, **{"aws:ResourceTag/team": "team-a-dev"}), False),
    "end a job that carries the tag in the request alone": (
        asked(ENDING, TERMINATE, **{"aws:RequestTag/k8s-namespace": "team-a-dev"}),
        False,
    ),
    "terminate an own job by the session of polls": (asked(POLLS, TERMINATE, **MINE), False),
    "terminate an untagged job by the session of polls": (asked(POLLS, TERMINATE), False),
    "terminate a job tagged with the variable by the session of polls": (
        asked(POLLS, TERMINATE, **{"aws:ResourceTag/k8s-namespace": "${aws:PrincipalTag/kubernetes-namespace}"}),
        False,
    ),
    "end in another account": (asked(ENDING, TERMINATE, JOB.replace("2222", "9999"), **MINE), False),
    "end in another region": (
        asked(ENDING, TERMINATE, JOB.replace("eu-west-1", "us-east-1"), **MINE, **{"aws:RequestedRegion": "us-east-1"}),
        False,
    ),
    "end a service job": (asked(ENDING, TERMINATE, JOB.replace("job/", "service-job/"), **MINE), False),
    "end the jobs of a queue": (asked(ENDING, TERMINATE, JOB.replace("job/", "job-queue/"), **MINE), False),
    "cancel": (asked(ENDING, "batch:CancelJob", **MINE), False),
    "tag a job": (asked(ENDING, "batch:TagResource", **MINE), False),
    "untag a job": (asked(ENDING, "batch:UntagResource", **MINE), False),
    "submit": (asked(ENDING, "batch:SubmitJob", **MINE), False),
    "list service jobs": (asked(POLLS, "batch:ListServiceJobs", "*"), False),
    "take a further role": (asked(ENDING, "sts:AssumeRole", "arn:aws:iam::222233334444:role/admin", **MINE), False),
}


@IN_EACH_FORM
@pytest.mark.parametrize("question", ANSWERS)
def test_iam_answers_as_intended(form: str, question: str) -> None:
    request, answer = ANSWERS[question]
    assert allows(FORMS[form](AS_IT_STANDS).policy, request) is answer


POLICIES: Final = dict(mutants(FORMS["JSON"](AS_IT_STANDS).policy))


@pytest.mark.parametrize("done", POLICIES)
def test_a_wider_or_narrower_policy_is_noticed(done: str) -> None:
    assert [name for name, (request, answer) in ANSWERS.items() if allows(POLICIES[done], request) is not answer]


def test_the_condition_requires_the_tag_of_the_example_policy() -> None:
    # The same job, whether the operator or IAM checks its tags.
    example = (SPOKE.parents[2] / "crds/examples/valid/policy-team.yaml").read_text()
    assert f'k8s-namespace: "{NAMESPACE}"' in example
    (condition,) = [
        one["Condition"] for one in FORMS["JSON"](AS_IT_STANDS).policy["Statement"] if one["Action"] == TERMINATE
    ]
    assert "aws:ResourceTag/k8s-namespace" in condition["StringEquals"]
    assert ENDING.tags[0] == ("kubernetes-namespace", "team-a-dev")


def advice(key: str) -> dict[str, Any]:
    """The condition of that key that the page offers."""
    (found,) = re.findall(rf'`("[^`]*{key}[^`]*")`|`("[^`]*{key}[^`]*}})`', (SPOKE / "README.md").read_text())
    return dict(json.loads("{" + "".join(found) + "}"))


def test_the_page_limits_a_role_to_some_namespaces() -> None:
    trust = copy.deepcopy(dict(FORMS["JSON"](AS_IT_STANDS).trust))
    trust["Statement"][0]["Condition"] |= advice("aws:RequestTag/kubernetes-namespace")
    assert taken(trust, POLLS)
    assert taken(trust, ENDING)
    assert not taken(trust, for_terminate(ROLE, "my-cluster", "team-a", "team-b"))


def test_the_page_separates_the_jobs_of_two_clusters() -> None:
    policy = copy.deepcopy(dict(FORMS["JSON"](AS_IT_STANDS).policy))
    policy["Statement"][-1]["Condition"]["StringEquals"] |= advice("aws:ResourceTag/k8s-cluster")
    tag = "aws:ResourceTag/k8s-cluster"
    assert allows(policy, asked(ENDING, TERMINATE, **MINE, **{tag: "my-cluster"}))
    assert not allows(policy, asked(ENDING, TERMINATE, **MINE, **{tag: "my-cluster-2"}))
    assert not allows(policy, asked(ENDING, TERMINATE, **MINE))


def test_permission_for_any_child_is_no_permission_for_its_parent() -> None:
    (pattern,) = re.findall(r"`(arn:aws:batch:\S+:job/\S+)`", (SPOKE / "README.md").read_text())
    grant = {"Sid": "EndChildren", "Effect": "Allow", "Action": TERMINATE, "Resource": pattern}
    policy = joined(FORMS["JSON"](AS_IT_STANDS).policy, {"Statement": [grant]})
    assert allows(policy, asked(ENDING, TERMINATE, f"{JOB}:3"))
    assert not allows(policy, asked(ENDING, TERMINATE))


CHECKED: Final = {
    # parameter of the template: variable of the module, what both take
    "HubRoleArn": ("hub_role_arn", [AS_IT_STANDS.hub, "arn:aws-us-gov:iam::111122223333:role/teams/a=b,c"]),
    "ClusterName": ("cluster_name", ["my-cluster", "Prod_2.eu", "x" * 63]),
    "PolicyName": ("policy_name", ["team-a", "a.b", "x"]),
    "RolePath": ("role_path", ["/", "/awsbatch/my-cluster/"]),
    "RoleName": ("role_name", ["batch-team-a", "a,b=c"]),
    "Regions": ("regions", ["eu-west-1", "us-gov-west-1"]),
}
WRONG: Final = ("*", "a*", "a?", 'a"b', "a\\", "${x}", "a b", "a\nb", "a/b", "x" * 600)


@pytest.mark.parametrize("parameter", CHECKED)
def test_both_forms_reject_values_that_widen_or_break_a_document(parameter: str) -> None:
    variable, good = CHECKED[parameter]
    assert_checked_alike(TEMPLATE, read(SPOKE / "terraform"), parameter, variable, good=good, wrong=WRONG)


def test_the_module_makes_a_role_and_nothing_else() -> None:
    one = module(AS_IT_STANDS)
    assert {block.kind for block in one.blocks} == {"terraform", "variable", "locals", "data", "resource", "output"}
    assert {block.labels[0] for block in one.of("resource")} == {"aws_iam_role", "aws_iam_role_policy"}
    assert {block["Type"] for block in TEMPLATE["Resources"].values()} == {"AWS::IAM::Role"}
    (tags,) = [block for block in one.of("variable") if block.labels == ["tags"]]
    assert '"kubernetes-namespace"' in tags.blocks[0].text("condition")


def test_both_forms_output_the_external_id() -> None:
    # What the operator sends, to compare with where AWS says no.
    for wish in (AS_IT_STANDS, WISHES["one StackSet"]):
        sent = for_describe(ROLE, wish.cluster, wish.policy).external_id
        assert stack(wish).resolve(TEMPLATE["Outputs"]["ExternalId"]["Value"]) == sent
        one = module(wish)
        (output,) = [block for block in one.of("output") if block.labels == ["external_id"]]
        assert one.value(output, "value") == sent
