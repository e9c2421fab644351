"""deploy/iam: it grants what the code calls and no more, and says the same in JSON, CloudFormation and Terraform."""

import ast
import asyncio
import inspect
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib import resources
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.model import ServiceModel

from awsbatch_operator.aws import AwsBatch
from awsbatch_operator.aws.clients import BatchClient
from awsbatch_operator.aws.errors import BATCH_OPERATIONS
from awsbatch_operator.domain.job import JobKey
from awsbatch_sandbox.batch import BatchSimulator, serve
from deploy.iam_decision import Document, Request, allows, listed
from deploy.iam_forms import FORMS, IAM, ROOT, TAG, TEMPLATE, TRUSTS, Wish, module, normal, stack
from fakes.telemetry import FakeTelemetry

HERE = "eu-west-1"
WISHES = {
    "as the files stand": Wish(),
    "tag": Wish(tag=TAG),
    "IRSA": Wish(trust="IRSA"),
    "IRSA, tag": Wish(trust="IRSA", tag=("team/owner", "a b=c")),
    "China": Wish(
        trust="IRSA",
        partition="aws-cn",
        account="444455556666",
        region="cn-north-1",
        regions=("cn-north-1", "cn-northwest-1"),
        oidc_provider="oidc.eks.cn-north-1.amazonaws.com.cn/id/EXAMPLE",
    ),
    "GovCloud": Wish(partition="aws-us-gov", region="us-gov-west-1", regions=("us-gov-west-1",), cluster="c2", tag=TAG),
    "regions": Wish(regions=("eu-west-1", "us-east-1"), tag=TAG),
    "another ServiceAccount": Wish(namespace="batch", service_account="ender"),
    "another ServiceAccount, IRSA": Wish(trust="IRSA", namespace="batch", service_account="ender"),
}
EVERY = pytest.mark.parametrize("wish", WISHES.values(), ids=list(WISHES))
IN_EACH_FORM = pytest.mark.parametrize("form", FORMS)


@cache
def batch_model() -> ServiceModel:
    return botocore.session.get_session().get_service_model("batch")


def action_of(operation: str) -> str:
    """The IAM action that AWS asks for: the operation's own name unless AWS's model of it names another."""
    words = batch_model().operation_model(operation).documentation
    named = re.search(r"requires <code>(batch:\w+)</code> permission", words)
    return named[1] if named else f"batch:{operation}"


def actions(document: Document) -> set[str]:
    return {action for one in listed(document["Statement"]) for action in listed(one["Action"])}


# (1) What is granted is what is called.


@asynccontextmanager
async def batch_on_the_wire(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[tuple[Any, AwsBatch]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "sandbox")
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    simulator = BatchSimulator(**settings)
    async with serve(simulator) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", url)
        batch = AwsBatch(telemetry=FakeTelemetry(), describe_rate=1000, terminate_rate=1000)
        yield simulator, batch
        await batch.close()


async def seen_on_the_wire(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> set[str]:
    """The operations of a whole course: looks, one termination, several at once."""
    async with batch_on_the_wire(monkeypatch, **settings) as (simulator, batch):
        one, *others = simulator.seed_many(4)
        await batch.describe(HERE, [one, *others])
        assert await batch.terminate(JobKey(HERE, one), "why") is None
        faults = await asyncio.gather(*(batch.terminate(JobKey(HERE, other), "why") for other in others))
        assert faults == [None] * 3
        return {call["operation"] for call in simulator.calls()}


@cache
def read_in_the_code() -> tuple[set[str], set[str]]:
    """Names of Batch operations that the operator's code calls on anything, and the AWS services it opens."""
    methods = {xform_name(name): name for name in batch_model().operation_names}
    called: set[str] = set()
    services: set[str] = set()
    for path in (ROOT / "operator" / "awsbatch_operator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in methods:
                called.add(methods[node.func.attr])
            if node.func.attr in ("client", "resource", "create_client"):
                services.add(ast.unparse(node.args[0]).strip("'"))
    return called, services


async def test_the_calls_on_the_wire_and_in_the_code_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    called, services = read_in_the_code()
    assert services == {"batch"}
    assert await seen_on_the_wire(monkeypatch) == called == BATCH_OPERATIONS
    offered = {name for name, _ in inspect.getmembers(BatchClient, inspect.isfunction) if not name.startswith("_")}
    assert offered - {"close"} == {xform_name(operation) for operation in called}


async def test_an_endpoint_without_the_bulk_call_needs_no_other_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await seen_on_the_wire(monkeypatch, bulk_available=False) <= BATCH_OPERATIONS


@IN_EACH_FORM
@EVERY
def test_the_role_may_do_exactly_what_the_code_calls(form: str, wish: Wish) -> None:
    called, _ = read_in_the_code()
    assert actions(FORMS[form](wish).policy) == {action_of(operation) for operation in called}


def test_aws_has_no_action_of_its_own_for_the_bulk_call() -> None:
    words = batch_model().operation_model("TerminateJobs").documentation
    assert "no separate <code>batch:TerminateJobs</code> IAM action" in words
    assert action_of("TerminateJobs") == "batch:TerminateJob"
    assert "terminatejobs" not in known_to_iam()["Actions"]


# (2) The three forms say the same.


@pytest.mark.parametrize("form", ["CloudFormation", "Terraform"])
@EVERY
def test_the_forms_say_the_same(form: str, wish: Wish) -> None:
    trust, policy = FORMS[form](wish)
    expected = FORMS["JSON"](wish)
    assert normal(trust) == normal(expected.trust)
    assert normal(policy) == normal(expected.policy)


def test_the_wishes_differ_in_what_the_documents_say() -> None:
    found = [json.dumps(FORMS["JSON"](wish), sort_keys=True) for wish in WISHES.values()]
    assert len(set(found)) == len(WISHES)


# (3) Nothing is wider than it has to be.


@cache
def known_to_iam() -> Any:
    """AWS's own table of actions and the resources that each can be narrowed to, as cfn-lint brings it."""
    table = resources.files("cfnlint.data.AdditionalSpecs").joinpath("Policies.json")
    return json.loads(table.read_text())["batch"]


@IN_EACH_FORM
@EVERY
def test_every_resource_is_as_narrow_as_iam_can_have_it(form: str, wish: Wish) -> None:
    for statement in listed(FORMS[form](wish).policy["Statement"]):
        assert "NotAction" not in statement
        assert "NotResource" not in statement
        for action in listed(statement["Action"]):
            assert "*" not in action
            kinds = known_to_iam()["Actions"][action.removeprefix("batch:").lower()].get("Resources", [])
            # An action that IAM can't narrow is allowed on "*" or not at all.
            expected = [f"arn:{wish.partition}:batch:*:{wish.account}:{kind}/*" for kind in kinds] or ["*"]
            assert listed(statement["Resource"]) == expected


@IN_EACH_FORM
@EVERY
def test_every_statement_is_held_to_the_regions_and_every_ending_one_to_the_tag(form: str, wish: Wish) -> None:
    for statement in listed(FORMS[form](wish).policy["Statement"]):
        assert list(statement["Condition"]) == ["StringEquals"]
        keys = dict(statement["Condition"]["StringEquals"])
        assert tuple(listed(keys.pop("aws:RequestedRegion"))) == wish.regions
        ends = any("Terminate" in action for action in listed(statement["Action"]))
        tags = {} if wish.tag is None or not ends else {f"aws:ResourceTag/{wish.tag[0]}": wish.tag[1]}
        assert keys == tags


@IN_EACH_FORM
@EVERY
def test_the_trust_names_one_service_account_and_its_cluster(form: str, wish: Wish) -> None:
    (statement,) = listed(FORMS[form](wish).trust["Statement"])
    assert list(statement["Condition"]) == ["StringEquals"]
    keys = statement["Condition"]["StringEquals"]
    assert not [value for value in keys.values() if not isinstance(value, str) or re.search(r"[*?$]", value)]
    if wish.trust == "IRSA":
        provider = wish.oidc_provider
        assert statement["Principal"] == {
            "Federated": f"arn:{wish.partition}:iam::{wish.account}:oidc-provider/{provider}"
        }
        assert keys == {
            f"{provider}:aud": "sts.amazonaws.com",
            f"{provider}:sub": f"system:serviceaccount:{wish.namespace}:{wish.service_account}",
        }
        return
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert keys == {
        "aws:RequestTag/eks-cluster-arn": wish.cluster_arn,
        "aws:RequestTag/kubernetes-namespace": wish.namespace,
        "aws:RequestTag/kubernetes-service-account": wish.service_account,
    }


# (4) The answers that IAM would give.

JOB = "arn:aws:batch:eu-west-1:111122223333:job/61e743ed-35e4-48da-b2de-5c8333821c84"
THERE = {"aws:RequestedRegion": HERE}
TAGGED = THERE | {"aws:ResourceTag/managed-by": "awsbatch-operator"}
LOOK, END = "batch:DescribeJobs", "batch:TerminateJob"
ANSWERS: dict[str, tuple[Request, bool, bool]] = {
    # what is asked, the answer of policy.json, that of policy-tag-scoped.json
    "look": (Request(LOOK, "*", THERE), True, True),
    "look in another region": (Request(LOOK, "*", {"aws:RequestedRegion": "us-east-1"}), False, False),
    "end a job": (Request(END, JOB, THERE), True, False),
    "end a tagged job": (Request(END, JOB, TAGGED), True, True),
    "end a tagged array child": (Request(END, f"{JOB}:3", TAGGED), True, True),
    "end a tagged node": (Request(END, f"{JOB}#1", TAGGED), True, True),
    "end a child that lacks its parent's tag": (Request(END, f"{JOB}:3", THERE), True, False),
    "the tag with another value": (
        Request(END, JOB, THERE | {"aws:ResourceTag/managed-by": "AWSBatch-Operator"}),
        True,
        False,
    ),
    "another tag": (Request(END, JOB, THERE | {"aws:ResourceTag/owner": "awsbatch-operator"}), True, False),
    "the tag on the operator's session, not on the job": (
        Request(END, JOB, THERE | {"aws:PrincipalTag/managed-by": "awsbatch-operator"}),
        True,
        False,
    ),
    "the tag in the request, not on the job": (
        Request(END, JOB, THERE | {"aws:RequestTag/managed-by": "awsbatch-operator"}),
        True,
        False,
    ),
    "end in another account": (Request(END, JOB.replace("111122223333", "444455556666"), TAGGED), False, False),
    "end in another region": (
        Request(END, JOB.replace(HERE, "us-east-1"), TAGGED | {"aws:RequestedRegion": "us-east-1"}),
        False,
        False,
    ),
    "end in another partition": (Request(END, JOB.replace("arn:aws:", "arn:aws-cn:"), TAGGED), False, False),
    "end a service job": (Request(END, JOB.replace("job/", "service-job/"), TAGGED), False, False),
    "end a queue": (Request(END, JOB.replace("job/", "job-queue/"), TAGGED), False, False),
    "end service jobs": (Request("batch:TerminateServiceJob", JOB, TAGGED), False, False),
    "cancel": (Request("batch:CancelJob", JOB, TAGGED), False, False),
    "tag a job": (Request("batch:TagResource", JOB, TAGGED), False, False),
    "submit": (Request("batch:SubmitJob", JOB, TAGGED), False, False),
    "list": (Request("batch:ListJobs", "*", TAGGED), False, False),
    "read logs": (Request("logs:GetLogEvents", "*", TAGGED), False, False),
    "take a role": (Request("sts:AssumeRole", "arn:aws:iam::111122223333:role/admin", TAGGED), False, False),
}


@IN_EACH_FORM
@pytest.mark.parametrize("asked", ANSWERS)
def test_iam_answers_as_intended(form: str, asked: str) -> None:
    request, plain, scoped = ANSWERS[asked]
    assert allows(FORMS[form](Wish()).policy, request) is plain
    assert allows(FORMS[form](Wish(tag=TAG)).policy, request) is scoped


PODS = ("Service", "pods.eks.amazonaws.com")
POD = {
    "aws:RequestTag/eks-cluster-arn": "arn:aws:eks:eu-west-1:111122223333:cluster/my-cluster",
    "aws:RequestTag/kubernetes-namespace": "awsbatch-operator",
    "aws:RequestTag/kubernetes-service-account": "awsbatch-operator",
}
ISSUER = Wish().oidc_provider
PROVIDER = ("Federated", f"arn:aws:iam::111122223333:oidc-provider/{ISSUER}")
TOKEN = {
    f"{ISSUER}:aud": "sts.amazonaws.com",
    f"{ISSUER}:sub": "system:serviceaccount:awsbatch-operator:awsbatch-operator",
}
WEB = "sts:AssumeRoleWithWebIdentity"
TAKERS: dict[str, tuple[Request, tuple[bool, bool]]] = {
    # who asks, the answers of trust-irsa.json and trust-pod-identity.json
    "the pod": (Request("sts:AssumeRole", "*", POD, PODS), (False, True)),
    "the pod's session tags": (Request("sts:TagSession", "*", POD, PODS), (False, True)),
    "a pod of another cluster": (
        Request("sts:AssumeRole", "*", POD | {"aws:RequestTag/eks-cluster-arn": "arn:aws:eks:x"}, PODS),
        (False, False),
    ),
    "a pod of another namespace": (
        Request("sts:AssumeRole", "*", POD | {"aws:RequestTag/kubernetes-namespace": "team-a"}, PODS),
        (False, False),
    ),
    "another ServiceAccount": (
        Request("sts:AssumeRole", "*", POD | {"aws:RequestTag/kubernetes-service-account": "default"}, PODS),
        (False, False),
    ),
    "a pod without session tags": (Request("sts:AssumeRole", "*", {}, PODS), (False, False)),
    "another service": (Request("sts:AssumeRole", "*", POD, ("Service", "ec2.amazonaws.com")), (False, False)),
    "a person": (Request("sts:AssumeRole", "*", POD, ("AWS", "arn:aws:iam::111122223333:root")), (False, False)),
    "the token": (Request(WEB, "*", TOKEN, PROVIDER), (True, False)),
    "the token of another ServiceAccount": (
        Request(WEB, "*", TOKEN | {f"{ISSUER}:sub": "system:serviceaccount:awsbatch-operator:default"}, PROVIDER),
        (False, False),
    ),
    "a token for the API server": (
        Request(WEB, "*", TOKEN | {f"{ISSUER}:aud": "https://kubernetes.default.svc"}, PROVIDER),
        (False, False),
    ),
    "a token of another cluster": (Request(WEB, "*", TOKEN, (PROVIDER[0], PROVIDER[1] + "2")), (False, False)),
    "the token, to pass on tags": (Request("sts:TagSession", "*", TOKEN, PROVIDER), (False, False)),
}


@IN_EACH_FORM
@pytest.mark.parametrize("taker", TAKERS)
def test_one_service_account_may_take_the_role(form: str, taker: str) -> None:
    request, answers = TAKERS[taker]
    found = tuple(allows(FORMS[form](Wish(trust=trust)).trust, request) for trust in ("IRSA", "PodIdentity"))
    assert found == answers


# What goes with the documents.


def test_the_association_binds_the_same_service_account() -> None:
    wish = WISHES["another ServiceAccount"]
    properties = stack(wish).properties("Association")
    assert properties == {
        "ClusterName": "my-cluster",
        "Namespace": "batch",
        "ServiceAccount": "ender",
        "RoleArn": "<Role.Arn>",
    }
    one = module(wish)
    association = one.resource("aws_eks_pod_identity_association")
    found = [one.value(association, name) for name in ("count", "cluster_name", "namespace", "service_account")]
    assert found == [1, "my-cluster", "batch", "ender"]


def test_there_is_no_association_with_irsa_or_when_it_is_not_wanted() -> None:
    assert stack(WISHES["IRSA"]).properties("Association") is None
    for one in (module(WISHES["IRSA"]), module(Wish(), create_association=False)):
        assert one.value(one.resource("aws_eks_pod_identity_association"), "count") == 0


@pytest.mark.parametrize("wish", [Wish(cluster=""), Wish(trust="IRSA", oidc_provider="")], ids=["cluster", "provider"])
def test_what_the_trust_needs_is_asked_for(wish: Wish) -> None:
    assert stack(Wish()).refusals() == module(Wish()).refusals("aws_iam_role") == []
    (words,) = stack(wish).refusals()
    assert words.startswith(f"Trust={wish.trust} needs ")
    lacking = {"cluster_arn": ""} if wish.trust == "PodIdentity" else {"oidc_provider": ""}
    (words,) = module(wish, **lacking).refusals("aws_iam_role")
    assert words.startswith(f"trust = {wish.trust} needs ")


CHECKED = {
    # parameter of the template: variable of the module, its pattern among the variable's, what both take
    "ClusterName": ("cluster_arn", 0, "arn:aws:eks:eu-west-1:111122223333:cluster/{}", ["my-cluster", "c_2"]),
    "OidcProvider": ("oidc_provider", 0, "{}", ["oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE", "id.example.com"]),
    "Namespace": ("namespace", 0, "{}", ["awsbatch-operator", "x"]),
    "ServiceAccount": ("service_account", 0, "{}", ["awsbatch-operator", "x.y"]),
    "Regions": ("regions", 0, "{}", ["eu-west-1", "us-gov-west-1", "ap-southeast-2"]),
    "JobTagKey": ("job_tag", 0, "{}", ["managed-by", "team/owner", "https://a"]),
    "JobTagValue": ("job_tag", 1, "{}", ["awsbatch-operator", "a b=c", "https://a"]),
}
WRONG = ("*", "a*", "a?", 'a"b', "a\\", "${x}", "a,b", "a\nb", "https://a")


@pytest.mark.parametrize("parameter", CHECKED)
def test_both_forms_refuse_what_would_widen_or_break_a_document(parameter: str) -> None:
    variable, which, frame, taken = CHECKED[parameter]
    template = TEMPLATE["Parameters"][parameter]["AllowedPattern"]
    (declared,) = [one for one in module(Wish()).of("variable") if one.labels == [variable]]
    condition = declared.blocks[0].text("condition")
    pattern = re.findall(r'regex\("(.*?)"', condition)[which]
    for value in (*taken, *WRONG):
        verdict = value in taken
        assert bool(re.fullmatch(template, value)) is verdict, value
        assert bool(re.fullmatch(pattern, frame.format(value))) is verdict, value


def test_the_module_brings_no_provider_and_nothing_that_costs() -> None:
    one = module(Wish())
    assert {block.kind for block in one.blocks} == {"terraform", "variable", "locals", "data", "resource", "output"}
    (terraform,) = one.of("terraform")
    assert "required_version" in terraform.attributes
    free = {"aws_iam_role", "aws_iam_role_policy", "aws_eks_pod_identity_association"}
    assert {block.labels[0] for block in one.of("resource")} == free
    assert {block["Type"] for block in TEMPLATE["Resources"].values()} == {
        "AWS::IAM::Role",
        "AWS::EKS::PodIdentityAssociation",
    }


def commands() -> Iterator[list[str]]:
    """The `aws` commands of the README, each as its words."""
    text = (IAM / "README.md").read_text().replace("\\\n", " ")
    for line in re.findall(r"^\$ (aws .*)$", text, re.MULTILINE):
        yield line.split()


def test_the_readmes_aws_commands_and_options_exist() -> None:
    session = botocore.session.get_session()
    checked = 0
    for _, service, command, *options in commands():
        if (service, command) == ("cloudformation", "deploy"):
            continue  # the CLI's own, not an operation
        model = session.get_service_model(service)
        operations = {xform_name(name, "-"): name for name in model.operation_names}
        shape = model.operation_model(operations[command]).input_shape
        assert shape is not None
        members = set(map(partial(xform_name, sep="-"), shape.members)) | {"query", "output"}
        given = {option.removeprefix("--") for option in options if option.startswith("--")}
        assert given <= members, f"{service} {command}: {given - members}"
        assert {xform_name(name, "-") for name in shape.required_members} <= given
        checked += 1
    assert checked >= 5


def test_the_readme_names_every_file_and_placeholder() -> None:
    text = (IAM / "README.md").read_text()
    for name in ("policy.json", "policy-tag-scoped.json", *TRUSTS, "template.yaml", "terraform/"):
        assert name in text
    for placeholder in ("111122223333", "eu-west-1", "my-cluster", "EXAMPLED539D4633E53DE1B71EXAMPLE", *TAG):
        assert placeholder in text
