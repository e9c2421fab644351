"""The permissions of deploy/events: who reads the queue, who sends to it, and who forwards to the event bus."""

from dataclasses import replace
from typing import Final

import pytest

from awsbatch_operator.aws.events import CANARY_DETAIL_TYPE, CANARY_SOURCE
from deploy.events_forms import AS_IT_STANDS, FORMS, FORWARD_FORMS, HUB_BUS, ORGANIZATION, WISHES, Wish, by_hand
from deploy.iam_decision import Document, Request, allows, effects
from deploy.iam_mutants import mutants
from deploy.test_iam import actions, called_in_the_code

IN_EACH_FORM = pytest.mark.parametrize("form", FORMS)
HUB: Final = WISHES["hub of both"]

QUEUE: Final = AS_IT_STANDS.arn("sqs", AS_IT_STANDS.name)
DEFAULT_BUS: Final = AS_IT_STANDS.arn("events", "event-bus/default")
ITS_OWN: Final = {"events:source": "awsbatch.dev", "events:detail-type": "awsbatch-operator canary"}
ANSWERS: Final[dict[str, tuple[Request, bool]]] = {
    "receive": (Request("sqs:ReceiveMessage", QUEUE), True),
    "delete what was handled": (Request("sqs:DeleteMessage", QUEUE), True),
    "receive from another queue": (Request("sqs:ReceiveMessage", f"{QUEUE}2"), False),
    "receive dead letters": (Request("sqs:ReceiveMessage", f"{QUEUE}-dead-letter"), False),
    "receive in another account": (Request("sqs:ReceiveMessage", QUEUE.replace("1111", "9999")), False),
    "send": (Request("sqs:SendMessage", QUEUE), False),
    "purge": (Request("sqs:PurgeQueue", QUEUE), False),
    "put the canary": (Request("events:PutEvents", DEFAULT_BUS, ITS_OWN), True),
    "put an event of another source": (
        Request("events:PutEvents", DEFAULT_BUS, ITS_OWN | {"events:source": "com.example"}),
        False,
    ),
    "put an event of another type": (
        Request("events:PutEvents", DEFAULT_BUS, ITS_OWN | {"events:detail-type": "order"}),
        False,
    ),
    "put the canary on another bus": (
        Request("events:PutEvents", DEFAULT_BUS.replace("default", "orders"), ITS_OWN),
        False,
    ),
    "put the canary in another region": (
        Request("events:PutEvents", DEFAULT_BUS.replace("eu-west-1", "us-east-1"), ITS_OWN),
        False,
    ),
    "make a rule on the bus": (Request("events:PutRule", DEFAULT_BUS, ITS_OWN), False),
    "change the rule": (Request("events:PutRule", AS_IT_STANDS.arn("events", f"rule/{AS_IT_STANDS.name}")), False),
    "change the targets": (
        Request("events:PutTargets", AS_IT_STANDS.arn("events", f"rule/{AS_IT_STANDS.name}")),
        False,
    ),
}


def permissions(form: str) -> Document:
    (policy,) = FORMS[form](AS_IT_STANDS).permissions.values()
    return policy


@IN_EACH_FORM
@pytest.mark.parametrize("question", ANSWERS)
def test_the_operator_may_read_one_queue_and_send_its_canary(form: str, question: str) -> None:
    request, answer = ANSWERS[question]
    assert allows(permissions(form), request) is answer


@IN_EACH_FORM
def test_the_role_may_do_exactly_what_the_code_calls(form: str) -> None:
    called = {f"{service}:{name}" for service in ("sqs", "events") for name in called_in_the_code(service)}
    assert called == {"sqs:ReceiveMessage", "sqs:DeleteMessageBatch", "events:PutEvents"}
    # A batch of messages needs the permission for one.
    wanted = {name.removesuffix("Batch") for name in called}
    assert actions(permissions(form), "sqs") | actions(permissions(form), "events") == wanted


def test_the_canary_is_the_operators() -> None:
    assert ITS_OWN == {"events:source": CANARY_SOURCE, "events:detail-type": CANARY_DETAIL_TYPE}


POLICIES: Final = dict(mutants(by_hand(AS_IT_STANDS)))


@pytest.mark.parametrize("done", POLICIES)
def test_wider_or_narrower_permissions_are_noticed(done: str) -> None:
    assert [name for name, (request, answer) in ANSWERS.items() if allows(POLICIES[done], request) is not answer]


EVENTBRIDGE: Final = ("Service", "events.amazonaws.com")
SOMEBODY: Final = ("AWS", "arn:aws:iam::111122223333:role/somebody")
TLS: Final = {"aws:SecureTransport": "true"}
PLAIN: Final = {"aws:SecureTransport": "false"}
HUB_QUEUE: Final = HUB.arn("sqs", HUB.name)


def sent(wish: Wish, rule: str, who: tuple[str, str] = EVENTBRIDGE) -> Request:
    context = TLS | {"aws:SourceArn": wish.arn("events", f"rule/{rule}")}
    return Request("sqs:SendMessage", wish.arn("sqs", wish.name), context, who)


SENDERS: Final[dict[str, tuple[Request, bool]]] = {
    "the rule": (sent(HUB, HUB.name), True),
    "the rule of the bus": (sent(HUB, f"{HUB.name}/{HUB.name}"), True),
    "another rule": (sent(HUB, "orders"), False),
    "a rule of another bus": (sent(HUB, f"orders/{HUB.name}"), False),
    "a rule of that name in another account": (
        replace(sent(HUB, HUB.name), context=sent(replace(HUB, account="999922223333"), HUB.name).context),
        False,
    ),
    "the rule without TLS": (replace(sent(HUB, HUB.name), context={**sent(HUB, HUB.name).context, **PLAIN}), False),
    "EventBridge for nobody": (Request("sqs:SendMessage", HUB_QUEUE, TLS, EVENTBRIDGE), False),
    "EventBridge to another queue": (
        replace(sent(HUB, HUB.name), resource=f"{HUB_QUEUE}2"),
        False,
    ),
    "SNS": (sent(HUB, HUB.name, ("Service", "sns.amazonaws.com")), False),
    "somebody": (sent(HUB, HUB.name, SOMEBODY), False),
    "EventBridge, to read": (
        replace(sent(HUB, HUB.name), action="sqs:ReceiveMessage"),
        False,
    ),
}


@IN_EACH_FORM
@pytest.mark.parametrize("sender", SENDERS)
def test_only_the_rules_may_send_to_the_queue(form: str, sender: str) -> None:
    request, answer = SENDERS[sender]
    assert allows(FORMS[form](HUB).queue_policy, request) is answer


@IN_EACH_FORM
def test_without_a_bus_its_rule_may_not_send(form: str) -> None:
    policy = FORMS[form](AS_IT_STANDS).queue_policy
    assert allows(policy, sent(AS_IT_STANDS, AS_IT_STANDS.name))
    assert not allows(policy, sent(AS_IT_STANDS, f"{AS_IT_STANDS.name}/{AS_IT_STANDS.name}"))


@IN_EACH_FORM
@pytest.mark.parametrize("action", ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:SendMessage", "sqs:PurgeQueue"])
def test_a_call_without_tls_is_denied_whatever_the_callers_own_policy_says(form: str, action: str) -> None:
    made = FORMS[form](AS_IT_STANDS)
    for policy, queue in ((made.queue_policy, QUEUE), (made.dead_letter_policy, f"{QUEUE}-dead-letter")):
        assert effects(policy, Request(action, queue, PLAIN, SOMEBODY)) == {"Deny"}
        assert effects(policy, Request(action, queue, TLS, SOMEBODY)) == set()


SENDING: Final = dict(mutants(FORMS["CloudFormation"](HUB).queue_policy))


@pytest.mark.parametrize("done", SENDING)
def test_a_wider_or_narrower_policy_of_the_queue_is_noticed(done: str) -> None:
    mutant = SENDING[done]
    wrong = [name for name, (request, answer) in SENDERS.items() if allows(mutant, request) is not answer]
    tls = Request("sqs:ReceiveMessage", HUB_QUEUE, TLS, SOMEBODY)
    elsewhere = Request("sqs:SendMessage", f"{HUB_QUEUE}2", PLAIN, SOMEBODY)
    assert wrong or effects(mutant, tls) or effects(mutant, elsewhere)


BUS: Final = HUB.arn("events", f"event-bus/{HUB.name}")
LISTED, OF_THE_ORGANIZATION, STRANGER = (
    ("AWS", f"{number}") for number in ("222233334444", "333344445555", "999922223333")
)
MEMBER: Final = {"aws:PrincipalOrgID": ORGANIZATION}
FORWARDING: Final[dict[str, tuple[Request, bool]]] = {
    "a listed account": (Request("events:PutEvents", BUS, {}, LISTED), True),
    "an account of the organization": (Request("events:PutEvents", BUS, MEMBER, OF_THE_ORGANIZATION), True),
    "another account": (Request("events:PutEvents", BUS, {}, STRANGER), False),
    "an account of another organization": (
        Request("events:PutEvents", BUS, {"aws:PrincipalOrgID": "o-zzzzzzzzzz"}, STRANGER),
        False,
    ),
    "to another bus": (Request("events:PutEvents", f"{BUS}2", MEMBER, LISTED), False),
    "to make a rule": (Request("events:PutRule", BUS, MEMBER, LISTED), False),
}


@IN_EACH_FORM
@pytest.mark.parametrize("question", FORWARDING)
def test_the_bus_takes_events_of_the_named_accounts_and_the_organization(form: str, question: str) -> None:
    request, answer = FORWARDING[question]
    assert allows(FORMS[form](HUB).bus_policy, request) is answer


@IN_EACH_FORM
def test_there_is_no_bus_unless_others_may_forward_to_it(form: str) -> None:
    assert FORMS[form](AS_IT_STANDS).bus_policy["Statement"] == []
    of_accounts, of_organization = (FORMS[form](WISHES[f"hub of {one}"]) for one in ("accounts", "an organization"))
    assert [one["Sid"] for one in of_accounts.bus_policy["Statement"]] == ["ForwardFromAccounts"]
    assert [one["Sid"] for one in of_organization.bus_policy["Statement"]] == ["ForwardFromOrganization"]


BUS_POLICIES: Final = dict(mutants(FORMS["CloudFormation"](HUB).bus_policy))


@pytest.mark.parametrize("done", BUS_POLICIES)
def test_a_wider_or_narrower_policy_of_the_bus_is_noticed(done: str) -> None:
    mutant = BUS_POLICIES[done]
    assert [name for name, (request, answer) in FORWARDING.items() if allows(mutant, request) is not answer]


FORWARD_RULE: Final = {"aws:SourceArn": AS_IT_STANDS.arn("events", f"rule/{AS_IT_STANDS.name}")}


@pytest.mark.parametrize("form", FORWARD_FORMS)
def test_the_forwarding_rule_alone_may_assume_its_role_which_may_only_forward(form: str) -> None:
    made = FORWARD_FORMS[form](AS_IT_STANDS)
    assert allows(made.trust, Request("sts:AssumeRole", "*", FORWARD_RULE, EVENTBRIDGE))
    for context, who in (({}, EVENTBRIDGE), (FORWARD_RULE, SOMEBODY), (FORWARD_RULE, ("Service", "sqs.amazonaws.com"))):
        assert not allows(made.trust, Request("sts:AssumeRole", "*", context, who))
    assert allows(made.policy, Request("events:PutEvents", HUB_BUS))
    assert not allows(made.policy, Request("events:PutEvents", HUB_BUS.replace(AS_IT_STANDS.name, "default")))
    assert not allows(made.policy, Request("events:PutRule", HUB_BUS))
    (canary,) = made.permissions.values()
    assert allows(canary, Request("events:PutEvents", DEFAULT_BUS, ITS_OWN))
    assert not allows(canary, Request("sqs:ReceiveMessage", QUEUE))
