"""deploy/iam: it grants what the code calls and no more, and says the same in JSON, CloudFormation and Terraform."""

import ast
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import Any, get_args

import botocore.session
import pytest
from botocore import xform_name
from botocore.model import ServiceModel

from awsbatch_operator.api.interfaces import Accepted
from awsbatch_operator.api.job import Target
from awsbatch_operator.aws.errors import BATCH_OPERATIONS
from awsbatch_operator.aws.provider import AwsBatch
from awsbatch_operator.aws.sdk_session import ClientFactory, ClientKind
from awsbatch_sandbox.batch.server import serve
from awsbatch_sandbox.batch.simulator import BatchSimulator
from deploy.iam_decision import Document, listed
from deploy.iam_forms import FORMS, WISHES, Wish, normal
from deploy.places import ROOT
from fakes.aws import FakePermit, describe, list_jobs, make_batch, terminate

HERE = "eu-west-1"
EVERY = pytest.mark.parametrize("wish", WISHES.values(), ids=list(WISHES))
IN_EACH_FORM = pytest.mark.parametrize("form", FORMS)


@cache
def model_of(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


def action_of(operation: str) -> str:
    """The IAM action that AWS asks for: the operation's own name unless AWS's model of it names another."""
    words = model_of("batch").operation_model(operation).documentation
    named = re.search(r"requires <code>(batch:\w+)</code> permission", words)
    return named[1] if named else f"batch:{operation}"


def actions(document: Document, service: str = "batch") -> set[str]:
    requested = (action for one in listed(document["Statement"]) for action in listed(one["Action"]))
    return {action for action in requested if action.startswith(f"{service}:")}


def of_batch(document: Document) -> list[Any]:
    return [one for one in listed(document["Statement"]) if not one["Sid"].startswith("AssumeSpokeRoles")]


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
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        batch = make_batch(make_client=ClientFactory(lambda: True))
        yield simulator, batch
        batch.close()


async def seen_on_the_wire(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> set[str]:
    """The operations of a poll, of a list, of one termination, and of several at once."""
    async with batch_on_the_wire(monkeypatch, **settings) as (simulator, batch):
        one, *others = simulator.seed_many(4)
        await describe(batch, Target(HERE), one, *others)
        await list_jobs(batch)
        while others:
            limit = min(batch.terminate_limit(Target(HERE)), len(others))
            results = [
                *await terminate(batch, FakePermit(one)),
                *await terminate(batch, *map(FakePermit, others[:limit])),
            ]
            # The endpoint may turn out to have no bulk call: then the limit is 1 from now on.
            others = others[limit:] if all(isinstance(result, Accepted) for result in results) else others
        return {call["operation"] for call in simulator.calls()}


@cache
def called_in_the_code(service: str = "batch") -> set[str]:
    """Names of the service's operations that the operator's code calls on anything."""
    methods = {xform_name(name): name for name in model_of(service).operation_names}
    called: set[str] = set()
    for path in (ROOT / "operator" / "awsbatch_operator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in methods:
                called.add(methods[node.func.attr])
    return called


def test_the_operator_makes_clients_of_these_services_only() -> None:
    clients = [ClientFactory(lambda: True)(kind, HERE) for kind in get_args(ClientKind)]
    assert {client.meta.service_model.service_name for client in clients} == {"batch", "events", "sqs", "sts"}
    for client in clients:
        client.close()


async def test_the_calls_on_the_wire_and_in_the_code_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await seen_on_the_wire(monkeypatch) == called_in_the_code() == BATCH_OPERATIONS


async def test_an_endpoint_without_the_bulk_call_needs_no_other_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await seen_on_the_wire(monkeypatch, bulk_available=False) <= BATCH_OPERATIONS


@IN_EACH_FORM
@EVERY
def test_the_role_may_do_exactly_what_the_code_calls(form: str, wish: Wish) -> None:
    wanted = {action_of(operation) for operation in called_in_the_code()} if wish.own_jobs else set()
    assert actions(FORMS[form](wish).policy) == wanted


def test_aws_has_no_action_of_its_own_for_the_bulk_call() -> None:
    words = model_of("batch").operation_model("TerminateJobs").documentation
    assert "no separate <code>batch:TerminateJobs</code> IAM action" in words
    assert action_of("TerminateJobs") == "batch:TerminateJob"
    assert "terminatejobs" not in known_to_iam()["Actions"]


# (2) The three forms say the same.


@pytest.mark.parametrize("form", ["CloudFormation", "Terraform"])
@EVERY
def test_cloudformation_and_terraform_have_the_same_documents(form: str, wish: Wish) -> None:
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
    for statement in of_batch(FORMS[form](wish).policy):
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
def test_every_statement_is_limited_to_the_regions_and_every_terminate_to_the_tag(form: str, wish: Wish) -> None:
    for statement in of_batch(FORMS[form](wish).policy):
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
    if (wish.spokes or wish.pattern) and wish.trust == "PodIdentity":
        # Its session tags are off, so there is nothing to compare: who may make an association decides.
        assert "Condition" not in statement
        assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
        return
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
