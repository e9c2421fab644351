"""The documents of deploy/iam/spoke for one wish, from each of their three forms."""

import json
from dataclasses import dataclass
from typing import Any

from deploy import iam_cloudformation as cloudformation
from deploy import iam_terraform as terraform
from deploy.iam_forms import IAM, Documents

SPOKE = IAM / "spoke"
TEMPLATE = cloudformation.load(SPOKE / "template.yaml")


@dataclass(frozen=True)
class SpokeWish:
    """Parameters of the role; the defaults are those of the JSON files."""

    partition: str = "aws"
    account: str = "222233334444"
    region: str = "eu-west-1"
    regions: tuple[str, ...] = ("eu-west-1",)
    hub: str = "arn:aws:iam::111122223333:role/awsbatch-operator"
    cluster: str = "my-cluster"
    policy: str = "team-a"
    of_account: bool = False
    """Whether the name of the policy is left to the form: one StackSet serves all accounts."""
    path: str = "/"


AS_IT_STANDS = SpokeWish()
WISHES = {
    "as the files stand": AS_IT_STANDS,
    "another policy": SpokeWish(policy="team-b.prod", account="333344445555", regions=("eu-west-1", "us-east-1")),
    "another cluster": SpokeWish(cluster="Prod_2.eu"),
    "another hub": SpokeWish(hub="arn:aws:iam::111122223333:role/teams/Operator-Role-1A2B"),
    "one StackSet": SpokeWish(policy="account-222233334444", of_account=True, path="/awsbatch/my-cluster/"),
    "China": SpokeWish(
        partition="aws-cn",
        region="cn-north-1",
        regions=("cn-north-1",),
        hub="arn:aws-cn:iam::111122223333:role/awsbatch-operator",
    ),
}


def of_json(wish: SpokeWish) -> Documents:
    """The files with their placeholders replaced, as the README tells to."""
    old = AS_IT_STANDS
    replacements = [
        (old.hub, wish.hub),
        (f"awsbatch-operator/{old.cluster}/{old.policy}", f"awsbatch-operator/{wish.cluster}/{wish.policy}"),
        (f'"{old.cluster}"', f'"{wish.cluster}"'),
        (old.account, wish.account),
        ("arn:aws:batch", f"arn:{wish.partition}:batch"),
        (json.dumps(list(old.regions)), json.dumps(list(wish.regions))),
    ]

    def read(name: str) -> Any:
        text = (SPOKE / name).read_text()
        for placeholder, instead in replacements:
            text = text.replace(placeholder, instead)
        return json.loads(text)

    return Documents(read("trust.json"), read("policy.json"))


def stack(wish: SpokeWish) -> cloudformation.Stack:
    parameters = {
        "HubRoleArn": wish.hub,
        "ClusterName": wish.cluster,
        "PolicyName": "" if wish.of_account else wish.policy,
        "RoleName": "batch-team-a",
        "RolePath": wish.path,
        "Regions": "" if wish.regions == (wish.region,) else ",".join(wish.regions),
    }
    pseudo = {"AWS::Partition": wish.partition, "AWS::AccountId": wish.account, "AWS::Region": wish.region}
    return cloudformation.Stack(TEMPLATE, parameters, pseudo)


def of_cloudformation(wish: SpokeWish) -> Documents:
    role = stack(wish).properties("Role")
    (inline,) = role["Policies"]
    return Documents(role["AssumeRolePolicyDocument"], inline["PolicyDocument"])


def module(wish: SpokeWish) -> terraform.Module:
    variables = {
        "hub_role_arn": wish.hub,
        "cluster_name": wish.cluster,
        "policy_name": "" if wish.of_account else wish.policy,
        "role_name": "batch-team-a",
        "role_path": wish.path,
        "regions": list(wish.regions),
    }
    data = {"aws_caller_identity": {"account_id": wish.account}, "aws_partition": {"partition": wish.partition}}
    return terraform.Module(SPOKE / "terraform", variables, data)


def of_terraform(wish: SpokeWish) -> Documents:
    one = module(wish)
    trust = one.value(one.resource("aws_iam_role", "spoke"), "assume_role_policy")
    policy = one.value(one.resource("aws_iam_role_policy", "spoke"), "policy")
    return Documents(json.loads(trust), json.loads(policy))


FORMS = {"JSON": of_json, "CloudFormation": of_cloudformation, "Terraform": of_terraform}
