"""The documents of deploy/iam for one wish, from each of its three forms."""

import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from deploy import iam_cloudformation as cloudformation
from deploy import iam_terraform as terraform
from deploy.iam_decision import Document, listed
from deploy.places import DEPLOY

IAM = DEPLOY / "iam"
TEMPLATE = cloudformation.load(IAM / "template.yaml")

POLICIES = ("policy.json", "policy-tag-scoped.json")
TRUSTS = ("trust-irsa.json", "trust-pod-identity.json")


@dataclass(frozen=True)
class Wish:
    """What somebody wants of the role; the defaults are what the JSON files say as they stand."""

    trust: Literal["PodIdentity", "IRSA"] = "PodIdentity"
    tag: tuple[str, str] | None = None
    partition: str = "aws"
    account: str = "111122223333"
    region: str = "eu-west-1"
    regions: tuple[str, ...] = ("eu-west-1",)
    cluster: str = "my-cluster"
    oidc_provider: str = "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE"
    namespace: str = "awsbatch-operator"
    service_account: str = "awsbatch-operator"

    @property
    def cluster_arn(self) -> str:
        return f"arn:{self.partition}:eks:{self.region}:{self.account}:cluster/{self.cluster}"


AS_IT_STANDS = Wish()
TAG = ("managed-by", "awsbatch-operator")
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


class Documents(NamedTuple):
    trust: Document
    policy: Document


def of_json(wish: Wish) -> Documents:
    """The files with their placeholders replaced, as the README tells to."""

    def read(name: str) -> Any:
        text = (IAM / name).read_text()
        for placeholder, instead in _replacements(wish):
            text = text.replace(placeholder, instead)
        return json.loads(text)

    return Documents(read(TRUSTS[wish.trust == "PodIdentity"]), read(POLICIES[wish.tag is not None]))


def _replacements(wish: Wish) -> list[tuple[str, str]]:
    old = AS_IT_STANDS
    return [
        (old.oidc_provider, wish.oidc_provider),
        (old.cluster_arn, wish.cluster_arn),
        (old.account, wish.account),
        ("arn:aws:", f"arn:{wish.partition}:"),
        (json.dumps(list(old.regions)), json.dumps(list(wish.regions))),
        (
            f'"aws:ResourceTag/{TAG[0]}": "{TAG[1]}"',
            f'"aws:ResourceTag/{(wish.tag or TAG)[0]}": "{(wish.tag or TAG)[1]}"',
        ),
        (
            "serviceaccount:awsbatch-operator:awsbatch-operator",
            f"serviceaccount:{wish.namespace}:{wish.service_account}",
        ),
        (f'namespace": "{old.namespace}"', f'namespace": "{wish.namespace}"'),
        (f'service-account": "{old.service_account}"', f'service-account": "{wish.service_account}"'),
    ]


def stack(wish: Wish) -> cloudformation.Stack:
    parameters = {
        "Trust": wish.trust,
        "ClusterName": wish.cluster if wish.trust == "PodIdentity" else "",
        "OidcProvider": wish.oidc_provider if wish.trust == "IRSA" else "",
        "Namespace": wish.namespace,
        "ServiceAccount": wish.service_account,
        "Regions": "" if wish.regions == (wish.region,) else ",".join(wish.regions),
    }
    if wish.tag is not None:
        parameters |= {"JobTagKey": wish.tag[0], "JobTagValue": wish.tag[1]}
    pseudo = {"AWS::Partition": wish.partition, "AWS::AccountId": wish.account, "AWS::Region": wish.region}
    return cloudformation.Stack(TEMPLATE, parameters, pseudo)


def of_cloudformation(wish: Wish) -> Documents:
    role = stack(wish).properties("Role")
    (inline,) = role["Policies"]
    return Documents(*map(cloudformation.document, (role["AssumeRolePolicyDocument"], inline["PolicyDocument"])))


def module(wish: Wish, **more: Any) -> terraform.Module:
    variables = {
        "trust": wish.trust,
        "namespace": wish.namespace,
        "service_account": wish.service_account,
        "regions": list(wish.regions),
        "job_tag": None if wish.tag is None else dict(zip(("key", "value"), wish.tag, strict=True)),
    }
    proof = {"cluster_arn": wish.cluster_arn} if wish.trust == "PodIdentity" else {"oidc_provider": wish.oidc_provider}
    data = {"aws_caller_identity": {"account_id": wish.account}, "aws_partition": {"partition": wish.partition}}
    return terraform.Module(IAM / "terraform", variables | proof | more, data)


def of_terraform(wish: Wish) -> Documents:
    one = module(wish)
    role, inline = one.resource("aws_iam_role"), one.resource("aws_iam_role_policy")
    return Documents(json.loads(one.value(role, "assume_role_policy")), json.loads(one.value(inline, "policy")))


FORMS = {"JSON": of_json, "CloudFormation": of_cloudformation, "Terraform": of_terraform}


def normal(document: Document) -> Any:
    """One spelling for what IAM takes for the same: lists are sets, a list of one is its value."""
    return {**document, "Statement": {one["Sid"]: _spelled(one) for one in listed(document["Statement"])}}


def _spelled(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _spelled(value) for key, value in node.items()}
    return sorted(listed(node))
