"""deploy/events: all forms create the same, the rules take what they should, and a message holds no secret."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from awsbatch_operator.aws.events import CANARY_DETAIL_TYPE, CANARY_SOURCE, VISIBILITY_TIMEOUT, _Message, _message
from awsbatch_sandbox.events.bus import PATTERN, Event
from deploy import iam_terraform
from deploy.events_forms import (
    AS_IT_STANDS,
    EVENTS,
    FORMS,
    FORWARD,
    FORWARD_FORMS,
    FORWARD_TEMPLATE,
    FORWARDER,
    FORWARDS,
    HUB_BUS,
    ORGANIZATION,
    TEMPLATE,
    WISHES,
    Rule,
    Wish,
    by_hand,
)
from deploy.iam_forms import assert_checked_alike, normal

IN_EACH_FORM = pytest.mark.parametrize("form", FORMS)
EVERY = pytest.mark.parametrize("wish", WISHES.values(), ids=list(WISHES))
HUB: Final = WISHES["hub of both"]

# -- the forms say the same --------------------------------------------------------------------------------------------


@EVERY
def test_cloudformation_and_terraform_create_the_same(wish: Wish) -> None:
    assert FORMS["Terraform"](wish) == FORMS["CloudFormation"](wish)


@pytest.mark.parametrize("wish", FORWARDS.values(), ids=list(FORWARDS))
def test_cloudformation_and_terraform_forward_the_same(wish: Wish) -> None:
    assert FORWARD_FORMS["Terraform"](wish) == FORWARD_FORMS["CloudFormation"](wish)


@IN_EACH_FORM
@EVERY
def test_a_role_has_the_statements_of_the_file_once_for_each_region(form: str, wish: Wish) -> None:
    permissions = FORMS[form](wish).permissions
    assert [*permissions] == ([f"{wish.name}-{wish.region}"] if wish.role else [])
    assert all(normal(policy) == normal(by_hand(wish)) for policy in permissions.values())


@pytest.mark.parametrize("form", FORWARD_FORMS)
@pytest.mark.parametrize("wish", FORWARDS.values(), ids=list(FORWARDS))
def test_the_role_of_a_forwarding_account_has_the_statements_of_the_file(form: str, wish: Wish) -> None:
    permissions = FORWARD_FORMS[form](wish).permissions
    assert [*permissions] == ([f"{wish.name}-{wish.region}"] if wish.role else [])
    expected = by_hand(wish, FORWARD, "222233334444")
    assert all(normal(policy) == normal(expected) for policy in permissions.values())


def test_the_wishes_differ_in_what_is_created() -> None:
    assert len({repr(FORMS["CloudFormation"](wish)) for wish in WISHES.values()}) == len(WISHES)


CHECKED: Final = {
    # folder, parameter of the template: variable of the module, what both take
    (EVENTS, "RoleName"): ("role_name", ["", "awsbatch-operator", "a,b=c"]),
    (EVENTS, "Name"): ("name", ["awsbatch-operator-events", "shard_2"]),
    (EVENTS, "ForwardingAccounts"): ("forwarding_accounts", ["222233334444"]),
    (EVENTS, "OrganizationId"): ("organization_id", ["", ORGANIZATION]),
    (EVENTS, "AlarmTopicArn"): ("alarm_topic_arn", ["", WISHES["alarms"].topic]),
    (FORWARD, "HubBusArn"): ("hub_bus_arn", [HUB_BUS, HUB_BUS.replace("arn:aws:", "arn:aws-cn:")]),
    (FORWARD, "RoleName"): ("role_name", ["", "batch-team-a"]),
    (FORWARD, "Name"): ("name", ["awsbatch-operator-events", "shard_2"]),
}
WRONG: Final = ("*", "a*", "a?", 'a"b', "a\\", "${x}", "a b", "a\nb", "a/b", "x" * 600, "arn:aws:sns:*:111122223333:a")


@pytest.mark.parametrize(("folder", "parameter"), CHECKED)
def test_both_forms_reject_values_that_widen_or_break_a_document(folder: Path, parameter: str) -> None:
    template = TEMPLATE if folder == EVENTS else FORWARD_TEMPLATE
    variable, good = CHECKED[folder, parameter]
    blocks = iam_terraform.read(folder / "terraform")
    assert_checked_alike(template, blocks, parameter, variable, good=good, wrong=WRONG)


# -- what the rules take, and what a message holds ---------------------------------------------------------------------

JOB: Final = "4c7599ae-0a82-49aa-ba5a-4727fcce14a8"
EVENT: Final[dict[str, Any]] = {
    "version": "0",
    "id": "c8f9c4b5-76e5-d76a-f980-7011e206042b",
    "detail-type": "Batch Job State Change",
    "source": "aws.batch",
    "account": "123456789012",
    "time": "2022-01-11T23:36:40Z",
    "region": "us-east-1",
    "resources": [f"arn:aws:batch:us-east-1:123456789012:job/{JOB}"],
    "detail": {
        "jobArn": f"arn:aws:batch:us-east-1:123456789012:job/{JOB}",
        "jobName": "event-test",
        "jobId": JOB,
        "jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/Q",
        "status": "RUNNABLE",
        "createdAt": 1641944200058,
        "parameters": {"token": "SECRET"},
        "container": {"command": ["login", "SECRET"], "environment": [{"name": "PASSWORD", "value": "SECRET"}]},
        "tags": {"owner": "SECRET"},
    },
}
"""As the AWS documentation shows it, with secrets where jobs have them."""
CANARY: Final = EVENT | {
    "detail-type": CANARY_DETAIL_TYPE,
    "source": CANARY_SOURCE,
    "resources": [],
    "detail": {"jobId": f"canary-{'0a' * 16}", "jobQueue": "", "status": ""},
}


def matches(pattern: Any, event: Any) -> bool:
    """EventBridge's rule for exact values, the only kind that is used here."""
    if isinstance(pattern, list):
        assert all(isinstance(value, str) for value in pattern), "not read here"
        return event in pattern
    return all(name in event and matches(inner, event[name]) for name, inner in pattern.items())


def message(rule: Rule, event: Any) -> Any:
    """The body that EventBridge makes of an event: a string where the template has a name in angle brackets."""
    transformer = rule.target["InputTransformer"]
    values = {}
    for name, path in transformer["InputPathsMap"].items():
        found: Any = event
        for part in path.removeprefix("$.").split("."):
            found = found[part]
        values[name] = json.dumps(found)
    return json.loads(re.sub("<([A-Za-z]+)>", lambda match: values[match[1]], transformer["InputTemplate"]))


def read(body: Any) -> str | None:
    """The job that the operator finds in a message."""
    return _message(_Message(body=json.dumps(body), receipt="r")).job_id


def rules() -> list[Any]:
    """Each rule of each form: of the default bus, of the hub's bus, and the forwarding one."""
    found = [(f"{form}, bus {rule.bus}", rule) for form in FORMS for rule in FORMS[form](HUB).rules]
    forwarding = [(f"{form}, forward", FORWARD_FORMS[form](AS_IT_STANDS).rule) for form in FORWARD_FORMS]
    return [pytest.param(rule, id=name) for name, rule in (*found, *forwarding)]


@pytest.mark.parametrize("rule", rules())
def test_the_rules_take_jobs_and_the_canary_and_nothing_else(rule: Rule) -> None:
    assert matches(rule.pattern, EVENT)
    assert matches(rule.pattern, CANARY)
    assert matches(rule.pattern, EVENT | {"detail-type": "Batch Job Queue Blocked"})
    for other in ("Batch Service Job State Change", "EC2 Instance State-change Notification"):
        assert not matches(rule.pattern, EVENT | {"detail-type": other})
    assert not matches(rule.pattern, EVENT | {"source": "com.example"})


@IN_EACH_FORM
def test_a_message_holds_ids_and_no_secret(form: str) -> None:
    for rule in FORMS[form](HUB).rules:
        body = message(rule, EVENT)
        assert body == {
            "jobId": JOB,
            "jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/Q",
            "status": "RUNNABLE",
            "time": "2022-01-11T23:36:40Z",
            "region": "us-east-1",
            "account": "123456789012",
        }
        assert [read(message(rule, event)) for event in (EVENT, CANARY)] == [JOB, CANARY["detail"]["jobId"]]


@IN_EACH_FORM
def test_the_sandbox_delivers_what_the_rules_do(form: str) -> None:
    ids = {name: EVENT["detail"][name] for name in ("jobId", "jobQueue", "status")}
    event = Event("aws.batch", EVENT["detail-type"], "123456789012", "us-east-1", 1641944200058, (), ids, dict)
    whole = event.envelope() | {"detail": EVENT["detail"]}
    for rule in FORMS[form](HUB).rules:
        assert rule.pattern == PATTERN
        assert message(rule, whole) == event.transformed()


@IN_EACH_FORM
def test_a_hub_has_a_bus_beside_the_default_one(form: str) -> None:
    assert [rule.bus for rule in FORMS[form](AS_IT_STANDS).rules] == [None]
    default, hub = FORMS[form](HUB).rules
    assert (default.bus, hub.bus) == (None, HUB.name)
    assert default[1:] == hub[1:]


@pytest.mark.parametrize("form", FORWARD_FORMS)
def test_events_are_forwarded_whole_by_a_role(form: str) -> None:
    # EventBridge has no transformer for an event bus of another account.
    target = FORWARD_FORMS[form](AS_IT_STANDS).rule.target
    assert (target["Arn"], target["RoleArn"]) == (HUB_BUS, FORWARDER)
    assert "InputTransformer" not in target


@IN_EACH_FORM
def test_a_message_is_hidden_shortly_kept_an_hour_and_given_up_after_three_times(form: str) -> None:
    made = FORMS[form](AS_IT_STANDS)
    queue, dead = made.queues["awsbatch-operator-events"], made.queues["awsbatch-operator-events-dead-letter"]
    assert queue == {
        "SqsManagedSseEnabled": True,
        "MessageRetentionPeriod": 3600,
        "VisibilityTimeout": VISIBILITY_TIMEOUT,
        "ReceiveMessageWaitTimeSeconds": 20,
        "RedrivePolicy": {
            "deadLetterTargetArn": AS_IT_STANDS.arn("sqs", "awsbatch-operator-events-dead-letter"),
            "maxReceiveCount": 3,
        },
    }
    # SQS counts the age of a dead letter from its first sending.
    assert dead["MessageRetentionPeriod"] > queue["MessageRetentionPeriod"]
    assert dead["SqsManagedSseEnabled"] is True


@IN_EACH_FORM
def test_an_alarm_watches_each_queue(form: str) -> None:
    alarms = FORMS[form](WISHES["alarms"]).alarms
    found = {(one["MetricName"], one["Dimensions"][0]["Value"]): one["Threshold"] for one in alarms.values()}
    assert found == {
        ("ApproximateAgeOfOldestMessage", "awsbatch-operator-events"): 300,
        ("ApproximateNumberOfMessagesVisible", "awsbatch-operator-events-dead-letter"): 0,
    }
    for one in alarms.values():
        assert one["AlarmActions"] == one["OKActions"] == [WISHES["alarms"].topic]
        # An idle queue reports nothing.
        assert one["TreatMissingData"] == "notBreaching"
    assert not any("AlarmActions" in one for one in FORMS[form](AS_IT_STANDS).alarms.values())


# -- the modules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [EVENTS, FORWARD], ids=["queue", "forward"])
def test_a_module_brings_no_provider_and_creates_what_its_template_does(folder: Path) -> None:
    blocks = iam_terraform.read(folder / "terraform")
    assert {one.kind for one in blocks} == {"terraform", "variable", "locals", "data", "resource", "output"}
    of_terraform = {"_".join(one.labels[0].split("_")[1:]) for one in blocks if one.kind == "resource"}
    template = TEMPLATE if folder == EVENTS else FORWARD_TEMPLATE
    of_cloudformation = {TERRAFORM_NAME[one["Type"]] for one in template["Resources"].values()}
    assert of_terraform - {"cloudwatch_event_target"} == of_cloudformation


TERRAFORM_NAME: Final = {
    "AWS::SQS::Queue": "sqs_queue",
    "AWS::SQS::QueuePolicy": "sqs_queue_policy",
    "AWS::Events::Rule": "cloudwatch_event_rule",
    "AWS::Events::EventBus": "cloudwatch_event_bus",
    "AWS::Events::EventBusPolicy": "cloudwatch_event_bus_policy",
    "AWS::IAM::Role": "iam_role",
    "AWS::IAM::RolePolicy": "iam_role_policy",
    "AWS::CloudWatch::Alarm": "cloudwatch_metric_alarm",
}
