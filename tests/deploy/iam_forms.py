"""The documents of deploy/iam for one wish, from each of its three forms."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from deploy import iam_cloudformation as cloudformation
from deploy import iam_terraform as terraform
from deploy.iam_decision import Document, listed
from deploy.places import DEPLOY

IAM = DEPLOY / "iam"
TEMPLATE = cloudformation.load(IAM / "template.yaml")

POLICIES = ("policy.json", "policy-tag-scoped.json")
TRUSTS = ("trust-irsa.json", "trust-pod-identity.json", "trust-pod-identity-hub.json")
HUB_POLICY, HUB_PATTERN = "policy-hub.json", "policy-hub-pattern.json"


@dataclass(frozen=True)
class Wish:
    """Parameters of the role; the defaults are those of the JSON files."""

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
    own_jobs: bool = True
    spokes: tuple[str, ...] = ()
    pattern: str = ""

    @property
    def cluster_arn(self) -> str:
        return f"arn:{self.partition}:eks:{self.region}:{self.account}:cluster/{self.cluster}"


AS_IT_STANDS = Wish()
SPOKES = ("arn:aws:iam::222233334444:role/batch-team-a", "arn:aws:iam::333344445555:role/batch-team-b")
PATTERN = "awsbatch/my-cluster/*"
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
    "hub": Wish(own_jobs=False, spokes=SPOKES),
    "hub, IRSA": Wish(trust="IRSA", own_jobs=False, spokes=SPOKES),
    "hub of hundreds": Wish(trust="IRSA", own_jobs=False, pattern=PATTERN),
    "hub of a pattern, China": Wish(partition="aws-cn", own_jobs=False, spokes=(), pattern="batch-team-*"),
    "hub of both": Wish(own_jobs=False, spokes=SPOKES, pattern="awsbatch-*"),
    "hub with jobs of its own": Wish(tag=TAG, spokes=("arn:aws:iam::222233334444:role/teams/a",)),
}


class Documents(NamedTuple):
    """`policy`: the statements of all policies of the role, which IAM reads as one."""

    trust: Document
    policy: Document


def joined(*policies: Document) -> Document:
    return {"Version": "2012-10-17", "Statement": [one for policy in policies for one in listed(policy["Statement"])]}


def of_json(wish: Wish) -> Documents:
    """The files with their placeholders replaced, as the README tells to."""

    def read(name: str) -> Any:
        text = (IAM / name).read_text()
        for placeholder, instead in _replacements(wish):
            text = text.replace(placeholder, instead)
        return json.loads(text)

    trust = TRUSTS[0] if wish.trust == "IRSA" else TRUSTS[2 if wish.spokes or wish.pattern else 1]
    own = [read(POLICIES[wish.tag is not None])] if wish.own_jobs else []
    hub = [read(name) for name, wanted in ((HUB_POLICY, wish.spokes), (HUB_PATTERN, wish.pattern)) if wanted]
    return Documents(read(trust), joined(*own, *hub))


def _replacements(wish: Wish) -> list[tuple[str, str]]:
    old = AS_IT_STANDS
    return [
        (old.oidc_provider, wish.oidc_provider),
        (old.cluster_arn, wish.cluster_arn),
        (old.account, wish.account),
        ("arn:aws:", f"arn:{wish.partition}:"),
        (json.dumps(list(old.regions)), json.dumps(list(wish.regions))),
        (_lines(SPOKES), _lines(wish.spokes)),
        (PATTERN, wish.pattern),
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


def _lines(arns: Iterable[str]) -> str:
    return ",\n".join(f'        "{arn}"' for arn in arns)


def stack(wish: Wish) -> cloudformation.Stack:
    parameters = {
        "Trust": wish.trust,
        "ClusterName": wish.cluster if wish.trust == "PodIdentity" else "",
        "OidcProvider": wish.oidc_provider if wish.trust == "IRSA" else "",
        "Namespace": wish.namespace,
        "ServiceAccount": wish.service_account,
        "Regions": "" if wish.regions == (wish.region,) else ",".join(wish.regions),
        "OwnJobs": str(wish.own_jobs).lower(),
        "SpokeRoleArns": ",".join(wish.spokes),
        "SpokeRolePattern": wish.pattern,
    }
    if wish.tag is not None:
        parameters |= {"JobTagKey": wish.tag[0], "JobTagValue": wish.tag[1]}
    pseudo = {"AWS::Partition": wish.partition, "AWS::AccountId": wish.account, "AWS::Region": wish.region}
    return cloudformation.Stack(TEMPLATE, parameters, pseudo)


def of_cloudformation(wish: Wish) -> Documents:
    role = stack(wish).properties("Role")
    inline = [cloudformation.document(one["PolicyDocument"]) for one in role["Policies"]]
    return Documents(cloudformation.document(role["AssumeRolePolicyDocument"]), joined(*inline))


def module(wish: Wish, **more: Any) -> terraform.Module:
    variables = {
        "trust": wish.trust,
        "namespace": wish.namespace,
        "service_account": wish.service_account,
        "regions": list(wish.regions),
        "own_jobs": wish.own_jobs,
        "spoke_role_arns": list(wish.spokes),
        "spoke_role_pattern": wish.pattern,
        "job_tag": None if wish.tag is None else dict(zip(("key", "value"), wish.tag, strict=True)),
    }
    proof = {"cluster_arn": wish.cluster_arn} if wish.trust == "PodIdentity" else {"oidc_provider": wish.oidc_provider}
    data = {"aws_caller_identity": {"account_id": wish.account}, "aws_partition": {"partition": wish.partition}}
    return terraform.Module(IAM / "terraform", variables | proof | more, data)


def of_terraform(wish: Wish) -> Documents:
    one = module(wish)
    inline = [one.resource("aws_iam_role_policy", name) for name in ("operator", "spokes")]
    made = [json.loads(one.value(block, "policy")) for block in inline if one.value(block, "count")]
    return Documents(json.loads(one.value(one.resource("aws_iam_role"), "assume_role_policy")), joined(*made))


FORMS = {"JSON": of_json, "CloudFormation": of_cloudformation, "Terraform": of_terraform}


def normal(document: Document) -> Any:
    """One spelling for what IAM takes for the same: lists are sets, a list of one is its value."""
    return {**document, "Statement": {one["Sid"]: _spelled(one) for one in listed(document["Statement"])}}


def _spelled(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _spelled(value) for key, value in node.items()}
    return sorted(listed(node))


def assert_checked_alike(
    template: Document,
    blocks: Sequence[terraform.Block],
    parameter: str,
    variable: str,
    *,
    good: Sequence[str],
    wrong: Sequence[str],
) -> None:
    """A parameter of the template and its variable of the module accept the good values and none of the wrong ones."""
    pattern = template["Parameters"][parameter]["AllowedPattern"]
    (declared,) = [one for one in blocks if one.kind == "variable" and one.labels == [variable]]
    (searched,) = re.findall(r'regex\("(.*?)"', declared.blocks[0].text("condition"))
    for value in (*good, *wrong):
        assert bool(re.fullmatch(pattern, value)) is (value in good), value
        # CloudFormation matches the whole value, Terraform's regex() searches; its $ is the end of the text.
        assert bool(re.search(searched.replace("$", r"\Z"), value)) is (value in good), value
