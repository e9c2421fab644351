"""Resources that each form of deploy/events creates for the same parameters."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from deploy import iam_cloudformation as cloudformation
from deploy import iam_terraform as terraform
from deploy.iam_decision import Document
from deploy.places import DEPLOY

EVENTS: Final = DEPLOY / "events"
FORWARD: Final = EVENTS / "forward"
TEMPLATE: Final = cloudformation.load(EVENTS / "template.yaml")
FORWARD_TEMPLATE: Final = cloudformation.load(FORWARD / "template.yaml")

Properties = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """Parameters of a deployment; the defaults are those of the JSON files."""

    partition: str = "aws"
    account: str = "111122223333"
    region: str = "eu-west-1"
    name: str = "awsbatch-operator-events"
    role: str = "awsbatch-operator"
    accounts: tuple[str, ...] = ()
    organization: str = ""
    topic: str = ""

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


AS_IT_STANDS: Final = Wish()
ORGANIZATION: Final = "o-a1b2c3d4e5"
WISHES: Final = {
    "as the file stands": AS_IT_STANDS,
    "no role": Wish(role=""),
    "another name": Wish(name="shard_2"),
    "China": Wish(partition="aws-cn", region="cn-north-1"),
    "GovCloud": Wish(partition="aws-us-gov", region="us-gov-west-1", account="444455556666"),
    "hub of accounts": Wish(accounts=("222233334444", "333344445555")),
    "hub of an organization": Wish(organization=ORGANIZATION),
    "hub of both": Wish(accounts=("222233334444",), organization=ORGANIZATION, name="events-2"),
    "alarms": Wish(topic="arn:aws:sns:eu-west-1:111122223333:on-call"),
}


class Rule(NamedTuple):
    """`bus`: None for the default one. `target`: its properties, as CloudFormation names them."""

    bus: str | None
    name: str
    pattern: Properties
    target: Properties


class Made(NamedTuple):
    """`queues`, `alarms`: properties by name, as CloudFormation names them. `permissions`: by name of the policy."""

    queues: dict[str, Properties]
    queue_policy: Document
    dead_letter_policy: Document
    rules: list[Rule]
    bus_policy: Document
    permissions: dict[str, Document]
    alarms: dict[str, Properties]


# -- CloudFormation ----------------------------------------------------------------------------------------------------


def stack(wish: Wish) -> cloudformation.Stack:
    parameters = {
        "RoleName": wish.role,
        "Name": wish.name,
        "ForwardingAccounts": ",".join(wish.accounts),
        "OrganizationId": wish.organization,
        "AlarmTopicArn": wish.topic,
    }
    made = {
        "Queue": "<url>",
        "Queue.Arn": wish.arn("sqs", wish.name),
        "Queue.QueueName": wish.name,
        "DeadLetterQueue": "<url of dead letters>",
        "DeadLetterQueue.Arn": wish.arn("sqs", f"{wish.name}-dead-letter"),
        "DeadLetterQueue.QueueName": f"{wish.name}-dead-letter",
        "Bus": wish.name,
    }
    return cloudformation.Stack(TEMPLATE, parameters, _pseudo(wish), made)


def _pseudo(wish: Wish) -> dict[str, str]:
    return {"AWS::Partition": wish.partition, "AWS::AccountId": wish.account, "AWS::Region": wish.region}


def _present(one: cloudformation.Stack, *resources: str) -> list[Properties]:
    return [properties for properties in map(one.properties, resources) if properties is not None]


def of_cloudformation(wish: Wish) -> Made:
    one = stack(wish)
    return Made(
        {queue.pop("QueueName"): queue for queue in _present(one, "DeadLetterQueue", "Queue")},
        one.properties("QueuePolicy")["PolicyDocument"],
        one.properties("DeadLetterQueuePolicy")["PolicyDocument"],
        [_rule_of_cloudformation(rule) for rule in _present(one, "Rule", "BusRule")],
        _document(
            {"Sid": policy["StatementId"], **policy["Statement"]}
            for policy in _present(one, "BusPolicyOfAccounts", "BusPolicyOfOrganization")
        ),
        {policy["PolicyName"]: policy["PolicyDocument"] for policy in _present(one, "Permissions")},
        {alarm.pop("AlarmName"): alarm for alarm in _present(one, "QueueNotRead", "DeadLetters")},
    )


def _rule_of_cloudformation(properties: Properties) -> Rule:
    (target,) = properties["Targets"]
    return Rule(properties.get("EventBusName"), properties["Name"], properties["EventPattern"], target)


def _document(statements: Iterable[Any]) -> Document:
    return {"Version": "2012-10-17", "Statement": [*statements]}


# -- Terraform ---------------------------------------------------------------------------------------------------------

QUEUE: Final = {
    "SqsManagedSseEnabled": "sqs_managed_sse_enabled",
    "MessageRetentionPeriod": "message_retention_seconds",
    "VisibilityTimeout": "visibility_timeout_seconds",
    "ReceiveMessageWaitTimeSeconds": "receive_wait_time_seconds",
    "RedrivePolicy": "redrive_policy",
}
ALARM: Final = {
    "AlarmDescription": "alarm_description",
    "Namespace": "namespace",
    "MetricName": "metric_name",
    "Dimensions": "dimensions",
    "Statistic": "statistic",
    "Period": "period",
    "EvaluationPeriods": "evaluation_periods",
    "ComparisonOperator": "comparison_operator",
    "Threshold": "threshold",
    "TreatMissingData": "treat_missing_data",
    "AlarmActions": "alarm_actions",
    "OKActions": "ok_actions",
}


def module(wish: Wish) -> terraform.Module:
    variables = {
        "role_name": wish.role,
        "name": wish.name,
        "forwarding_accounts": list(wish.accounts),
        "organization_id": wish.organization,
        "alarm_topic_arn": wish.topic,
    }
    dead = f"{wish.name}-dead-letter"
    made = {
        "aws_sqs_queue": {
            "events": {"arn": wish.arn("sqs", wish.name), "name": wish.name, "id": "<url>"},
            "dead_letters": {"arn": wish.arn("sqs", dead), "name": dead},
        },
        "aws_cloudwatch_event_bus": {"hub": [{"name": wish.name}]},
        "aws_cloudwatch_event_rule": {"events": {"name": wish.name}, "hub": [{"name": wish.name}]},
    }
    return terraform.Module(EVENTS / "terraform", variables, _data(wish), made)


def _data(wish: Wish) -> dict[str, dict[str, str]]:
    return {
        "aws_caller_identity": {"account_id": wish.account},
        "aws_partition": {"partition": wish.partition},
        "aws_region": {"id": wish.region},
    }


def of_terraform(wish: Wish) -> Made:
    one = module(wish)
    queues = [one.resource("aws_sqs_queue", name) for name in ("dead_letters", "events")]
    alarms = [one.resource("aws_cloudwatch_metric_alarm", name) for name in ("not_read", "dead_letters")]
    policies = (one.resource("aws_sqs_queue_policy", name) for name in ("events", "dead_letters"))
    queue_policy, dead_letter_policy = (json.loads(one.value(policy, "policy")) for policy in policies)
    return Made(
        {one.value(queue, "name"): _translated(one, queue, QUEUE) for queue in queues},
        queue_policy,
        dead_letter_policy,
        [rule for name in ("events", "hub") for rule in _rule_of_terraform(one, name)],
        _counted_policy(one, one.resource("aws_cloudwatch_event_bus_policy", "hub")),
        _permissions_of_terraform(one, one.resource("aws_iam_role_policy", "reader")),
        {one.value(alarm, "alarm_name"): _translated(one, alarm, ALARM) for alarm in alarms},
    )


def _translated(one: terraform.Module, block: terraform.Block, names: dict[str, str]) -> Properties:
    found = {name: one.value(block, ours) for name, ours in names.items() if ours in block.attributes}
    if "RedrivePolicy" in found:
        found["RedrivePolicy"] = json.loads(found["RedrivePolicy"])
    if "Dimensions" in found:
        found["Dimensions"] = [{"Name": name, "Value": value} for name, value in found["Dimensions"].items()]
    return {name: value for name, value in found.items() if value != []}


def _rule_of_terraform(one: terraform.Module, name: str) -> list[Rule]:
    rule, target = (one.resource(f"aws_cloudwatch_event_{kind}", name) for kind in ("rule", "target"))
    if "count" in rule.attributes and not one.value(rule, "count"):
        return []
    buses = {one.value(block, "event_bus_name") for block in (rule, target) if "event_bus_name" in block.attributes}
    (bus,) = buses or {None}
    inside = {block.kind: block for block in target.blocks}
    found = {"Id": one.value(target, "target_id"), "Arn": one.value(target, "arn")}
    if "role_arn" in target.attributes:
        found["RoleArn"] = one.value(target, "role_arn")
    found["RetryPolicy"] = {
        "MaximumEventAgeInSeconds": one.value(inside["retry_policy"], "maximum_event_age_in_seconds"),
        "MaximumRetryAttempts": one.value(inside["retry_policy"], "maximum_retry_attempts"),
    }
    if "input_transformer" in inside:
        found["InputTransformer"] = {
            "InputPathsMap": one.value(inside["input_transformer"], "input_paths"),
            "InputTemplate": one.value(inside["input_transformer"], "input_template"),
        }
    return [Rule(bus, one.value(rule, "name"), json.loads(one.value(rule, "event_pattern")), found)]


def _counted_policy(one: terraform.Module, block: terraform.Block) -> Document:
    return dict(json.loads(one.value(block, "policy"))) if one.value(block, "count") else _document(())


def _permissions_of_terraform(one: terraform.Module, block: terraform.Block) -> dict[str, Document]:
    policy = _counted_policy(one, block)
    return {one.value(block, "name"): policy} if policy["Statement"] else {}


FORMS: Final = {"CloudFormation": of_cloudformation, "Terraform": of_terraform}


# -- by hand, and the forwarding rule ----------------------------------------------------------------------------------


def by_hand(wish: Wish, folder: Any = EVENTS, account: str = AS_IT_STANDS.account) -> Document:
    """policy.json of the folder with its placeholders replaced, as the page tells to."""
    text = (folder / "policy.json").read_text()
    for old, new in (
        (account, wish.account),
        ("arn:aws:", f"arn:{wish.partition}:"),
        (AS_IT_STANDS.region, wish.region),
        (f":{AS_IT_STANDS.name}", f":{wish.name}"),
    ):
        text = text.replace(old, new)
    return dict(json.loads(text))


HUB_BUS: Final = AS_IT_STANDS.arn("events", f"event-bus/{AS_IT_STANDS.name}")
FORWARDER: Final = "arn:aws:iam::222233334444:role/forwarder"
FORWARDS: Final = {
    "as the file stands": Wish(account="222233334444", role="batch-team-a"),
    "no role": Wish(account="222233334444", role=""),
    "China": Wish(account="222233334444", partition="aws-cn", region="cn-north-1", name="events-2"),
}


class Forwarding(NamedTuple):
    """`trust`, `policy`: of the rule's own role."""

    rule: Rule
    trust: Document
    policy: Document
    permissions: dict[str, Document]


def forward_of_cloudformation(wish: Wish) -> Forwarding:
    parameters = {"HubBusArn": HUB_BUS, "RoleName": wish.role, "Name": wish.name}
    one = cloudformation.Stack(FORWARD_TEMPLATE, parameters, _pseudo(wish), {"Forwarder.Arn": FORWARDER})
    role = one.properties("Forwarder")
    (inline,) = role["Policies"]
    return Forwarding(
        _rule_of_cloudformation(one.properties("Rule")),
        role["AssumeRolePolicyDocument"],
        inline["PolicyDocument"],
        {policy["PolicyName"]: policy["PolicyDocument"] for policy in _present(one, "Permissions")},
    )


def forward_of_terraform(wish: Wish) -> Forwarding:
    variables = {"hub_bus_arn": HUB_BUS, "role_name": wish.role, "name": wish.name}
    made = {
        "aws_iam_role": {"forwarder": {"arn": FORWARDER, "id": "forwarder"}},
        "aws_cloudwatch_event_rule": {"forward": {"name": wish.name}},
    }
    one = terraform.Module(FORWARD / "terraform", variables, _data(wish), made)
    (rule,) = _rule_of_terraform(one, "forward")
    return Forwarding(
        rule,
        json.loads(one.value(one.resource("aws_iam_role", "forwarder"), "assume_role_policy")),
        json.loads(one.value(one.resource("aws_iam_role_policy", "forwarder"), "policy")),
        _permissions_of_terraform(one, one.resource("aws_iam_role_policy", "canary")),
    )


FORWARD_FORMS: Final = {"CloudFormation": forward_of_cloudformation, "Terraform": forward_of_terraform}
