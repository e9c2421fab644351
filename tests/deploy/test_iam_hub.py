"""The operator's role where policies name roles: it may take those roles and nothing else, and says whose they are."""

import ast
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from deploy.iam_decision import Request, allows, listed
from deploy.iam_forms import FORMS, SPOKES, WISHES, Wish
from deploy.iam_mutants import mutants
from deploy.places import ROOT

IN_EACH_FORM = pytest.mark.parametrize("form", FORMS)
HUB = Wish(own_jobs=False, spokes=SPOKES)
JOB = "arn:aws:batch:eu-west-1:111122223333:job/61e743ed-35e4-48da-b2de-5c8333821c84"
HERE = {"aws:RequestedRegion": "eu-west-1"}
ANSWERS = {
    "take a spoke role": (Request("sts:AssumeRole", SPOKES[0]), True),
    "take the other spoke role": (Request("sts:AssumeRole", SPOKES[1]), True),
    "pass tags to a spoke role": (Request("sts:TagSession", SPOKES[1]), True),
    "take another role of that account": (Request("sts:AssumeRole", SPOKES[0].replace("team-a", "admin")), False),
    "take a role whose name begins so": (Request("sts:AssumeRole", f"{SPOKES[0]}2"), False),
    "take the role of that name elsewhere": (Request("sts:AssumeRole", SPOKES[0].replace("2222", "9999")), False),
    "pass tags to another role": (Request("sts:TagSession", SPOKES[0].replace("team-a", "admin")), False),
    "take it by a token": (Request("sts:AssumeRoleWithWebIdentity", SPOKES[0]), False),
    "set a source identity": (Request("sts:SetSourceIdentity", SPOKES[0]), False),
    "pass the role on": (Request("iam:PassRole", SPOKES[0]), False),
    "poll jobs of its own account": (Request("batch:DescribeJobs", "*", HERE), False),
    "end a job of its own account": (Request("batch:TerminateJob", JOB, HERE), False),
}


@IN_EACH_FORM
@pytest.mark.parametrize("requested", ANSWERS)
def test_the_hub_may_assume_its_spokes_and_nothing_else(form: str, requested: str) -> None:
    request, answer = ANSWERS[requested]
    assert allows(FORMS[form](HUB).policy, request) is answer


OF_A_PATH = "arn:aws:iam::222233334444:role/awsbatch/my-cluster/batch-team"
MATCHED = {
    "take a role of the path": (Request("sts:AssumeRole", OF_A_PATH), True),
    "pass tags to a role of the path in another account": (
        Request("sts:TagSession", OF_A_PATH.replace("2222", "9999")),
        True,
    ),
    "take a role of another cluster's path": (Request("sts:AssumeRole", OF_A_PATH.replace("my-", "your-")), False),
    "take a role without a path": (Request("sts:AssumeRole", "arn:aws:iam::222233334444:role/batch-team"), False),
    "take a role whose path contains it": (Request("sts:AssumeRole", OF_A_PATH.replace("role/", "role/x/")), False),
    "take it by a token": (Request("sts:AssumeRoleWithWebIdentity", OF_A_PATH), False),
    "use what is no role": (Request("sts:AssumeRole", OF_A_PATH.replace(":role/", ":user/")), False),
    "poll jobs of its own account": (Request("batch:DescribeJobs", "*", HERE), False),
}


@IN_EACH_FORM
@pytest.mark.parametrize("requested", MATCHED)
def test_a_hub_of_hundreds_may_assume_the_roles_of_its_path_and_nothing_else(form: str, requested: str) -> None:
    request, answer = MATCHED[requested]
    assert allows(FORMS[form](WISHES["hub of hundreds"]).policy, request) is answer


MUTANTS = dict(mutants(FORMS["JSON"](HUB).policy))


@pytest.mark.parametrize("done", MUTANTS)
def test_a_wider_or_narrower_hub_is_noticed(done: str) -> None:
    assert [
        requested for requested, (request, answer) in ANSWERS.items() if allows(MUTANTS[done], request) is not answer
    ]


@IN_EACH_FORM
def test_a_hub_with_own_jobs_has_the_permissions_of_both_and_no_other(form: str) -> None:
    wish = WISHES["hub with jobs of its own"]
    found = {one["Sid"]: sorted(listed(one["Action"])) for one in FORMS[form](wish).policy["Statement"]}
    assert found == {
        "DescribeJobs": ["batch:DescribeJobs"],
        "ListJobs": ["batch:ListJobs"],
        "TerminateJobs": ["batch:TerminateJob"],
        "AssumeSpokeRoles": ["sts:AssumeRole", "sts:TagSession"],
    }


PODS = ("Service", "pods.eks.amazonaws.com")


@IN_EACH_FORM
@pytest.mark.parametrize("action", ["sts:AssumeRole", "sts:TagSession"])
def test_with_pod_identity_the_hub_is_assumed_without_session_tags(form: str, action: str) -> None:
    trust = FORMS[form](HUB).trust
    assert allows(trust, Request(action, "*", {}, PODS))
    assert not allows(trust, Request(action, "*", {}, ("Service", "ec2.amazonaws.com")))
    assert not allows(trust, Request(action, "*", {}, ("AWS", "arn:aws:iam::111122223333:root")))


@IN_EACH_FORM
def test_with_irsa_the_trust_is_the_same_with_and_without_spokes(form: str) -> None:
    assert FORMS[form](WISHES["hub, IRSA"]).trust == FORMS[form](WISHES["IRSA"]).trust


def called_of_sts() -> set[str]:
    """Names of STS operations that the operator's code calls on anything."""
    names = botocore.session.get_session().get_service_model("sts").operation_names
    methods = {xform_name(name): name for name in names}
    trees = (ast.walk(ast.parse(path.read_text())) for path in (ROOT / "operator/awsbatch_operator").rglob("*.py"))
    nodes: list[Any] = [node for tree in trees for node in tree]
    return {methods[node.attr] for node in nodes if isinstance(node, ast.Attribute) and node.attr in methods}


def test_the_code_calls_of_sts_what_the_hub_may_do() -> None:
    # GetCallerIdentity needs no right.
    assert called_of_sts() == {"AssumeRole", "GetCallerIdentity"}
