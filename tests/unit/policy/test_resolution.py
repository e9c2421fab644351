"""Which policy applies to a namespace, and which scope it gives."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.api.access_policy import DEFAULT_VERBS, InvalidPolicy, Policy, Verb
from awsbatch_operator.api.batchjob import AdmittedBy
from awsbatch_operator.api.job import Target
from awsbatch_operator.api.label_selector import Labels
from awsbatch_operator.policy.resolution import (
    Choice,
    Deny,
    Mode,
    Scope,
    admitted_by,
    ambiguous,
    resolve_scope,
    select_policy,
)
from unit.policy.policies import ROLE, a_policy, an_invalid_policy

A, B = {"team": "a"}, {"team": "b"}
TEAM_A = a_policy()
ALSO_A = a_policy("also-a", namespaceSelector={"matchExpressions": [{"key": "team", "operator": "Exists"}]})
OF_B = a_policy("team-b", namespaceSelector={"matchLabels": B})
EVERYBODY = a_policy("everybody", namespaceSelector={})
LATER, LATER_OF_B = an_invalid_policy("later"), an_invalid_policy("later-of-b", namespaceSelector={"matchLabels": B})
NO_SELECTOR = an_invalid_policy("no-selector", namespaceSelector={"matchNames": ["train"]})

CHOICES: list[tuple[list[Policy | InvalidPolicy], Labels, Policy | str | None]] = [
    ([], A, None),
    ([TEAM_A], A, TEAM_A),
    ([TEAM_A], B, None),
    ([TEAM_A], {}, None),
    ([TEAM_A, OF_B], A, TEAM_A),
    ([TEAM_A, OF_B], B, OF_B),
    ([EVERYBODY], {}, EVERYBODY),
    ([TEAM_A, ALSO_A], A, "AmbiguousPolicy"),
    ([TEAM_A, ALSO_A], B, ALSO_A),
    ([TEAM_A, EVERYBODY, OF_B], A, "AmbiguousPolicy"),
    ([TEAM_A, EVERYBODY, OF_B], {"team": "c"}, EVERYBODY),
    # An unreadable policy denies the namespaces that it selects, and no others.
    ([LATER], A, "PolicyUnreadable"),
    ([LATER], B, None),
    ([TEAM_A, LATER_OF_B], A, TEAM_A),
    ([TEAM_A, LATER], A, "AmbiguousPolicy"),
    # A policy whose selector is unreadable might select any namespace.
    ([NO_SELECTOR], A, "PolicyUnreadable"),
    ([TEAM_A, NO_SELECTOR], A, "PolicyUnreadable"),
    ([TEAM_A, ALSO_A, NO_SELECTOR], A, "AmbiguousPolicy"),
]


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(("policies", "labels", "wanted"), CHOICES)
def test_exactly_one_policy_must_select_a_namespace(
    policies: list[Policy | InvalidPolicy], labels: Labels, wanted: Policy | str | None, mode: Mode
) -> None:
    for order in itertools.permutations(policies):
        choice = select_policy(order, labels)
        match wanted:
            case None:
                assert choice is None
            case Policy():
                assert choice is wanted
            case str():
                assert isinstance(choice, Deny)
                assert choice.reason == wanted
                assert resolve_scope(choice, mode, "train", None, "eu-west-1") is choice


def test_ambiguous_policies_are_named_in_order() -> None:
    choice = select_policy([TEAM_A, ALSO_A, OF_B, EVERYBODY, NO_SELECTOR], A)
    assert isinstance(choice, Deny)
    assert "also-a, everybody, team-a all select this namespace" in choice.message


def test_a_message_names_at_most_five_policies() -> None:
    message = ambiguous(f"p{number:02}" for number in range(20)).message
    assert "p00, p01, p02, p03, p04 and 15 more all" in message


def test_an_unreadable_policy_is_named() -> None:
    choice = select_policy([NO_SELECTOR, TEAM_A], A)
    assert isinstance(choice, Deny)
    assert "BatchAccessPolicy no-selector, which selects or may select this namespace" in choice.message


ABROAD: dict[str, Any] = {"regions": ["us-east-1", "eu-west-1"]}
SCOPES: list[tuple[Choice, Mode, str | None, Target | str]] = [
    (None, Mode.OPTIONAL, None, Target("eu-west-1")),
    (None, Mode.OPTIONAL, "us-east-1", Target("us-east-1")),
    (None, Mode.REQUIRED, None, "NoAccessPolicy"),
    (None, Mode.REQUIRED, "eu-west-1", "NoAccessPolicy"),
    *(
        row
        for mode in Mode
        for row in (
            (a_policy(), mode, None, Target("eu-west-1")),
            (a_policy(), mode, "eu-west-1", Target("eu-west-1")),
            (a_policy(), mode, "us-east-1", "JobNotAllowed"),
            (a_policy(role={"arn": ROLE}), mode, None, Target("eu-west-1", ROLE, "team-a")),
            (a_policy(role={"arn": ROLE}), mode, "us-east-1", "JobNotAllowed"),
            (a_policy(**ABROAD), mode, "us-east-1", Target("us-east-1")),
            (a_policy(role={"arn": ROLE}, **ABROAD), mode, "us-east-1", Target("us-east-1", ROLE, "team-a")),
            (a_policy(**ABROAD), mode, "ap-southeast-2", "JobNotAllowed"),
            # A BatchJob without a region means the operator's, whether the policy lists it or not.
            (a_policy(regions=["us-east-1"]), mode, None, "JobNotAllowed"),
        )
    ),
]


@pytest.mark.parametrize(("choice", "mode", "wanted", "outcome"), SCOPES)
def test_a_scope_has_the_target_rules_and_verbs_of_the_policy(
    choice: Choice, mode: Mode, wanted: str | None, outcome: Target | str
) -> None:
    found = resolve_scope(choice, mode, "train", wanted, "eu-west-1")
    if isinstance(outcome, str):
        assert isinstance(found, Deny)
        assert found.reason == outcome
        return
    assert isinstance(found, Scope)
    assert (found.target, found.namespace) == (outcome, "train")
    if isinstance(choice, Policy):
        assert (found.policy, found.rules, found.verbs) == ("team-a", choice.rules, choice.allow)
    else:
        assert (found.policy, found.rules, found.verbs) == (None, None, frozenset(DEFAULT_VERBS))


def test_a_region_that_is_not_allowed_is_answered_with_those_that_are() -> None:
    found = resolve_scope(a_policy(**ABROAD), Mode.REQUIRED, "train", "sa-east-1", "eu-west-1")
    assert isinstance(found, Deny)
    assert "team-a allows no job in sa-east-1, only in eu-west-1, us-east-1" in found.message


def test_the_verbs_of_a_policy_become_those_of_the_scope() -> None:
    found = resolve_scope(a_policy(allow=["Observe"]), Mode.OPTIONAL, "train", None, "eu-west-1")
    assert isinstance(found, Scope)
    assert found.verbs == frozenset({Verb.OBSERVE})


def test_two_policies_with_one_role_have_targets_of_their_own() -> None:
    """Each has its own ExternalId: what a policy allows must not depend on which one assumed the role first."""
    one, other = (
        resolve_scope(a_policy(name, role={"arn": ROLE}), Mode.REQUIRED, "train", None, "eu-west-1")
        for name in ("a", "b")
    )
    assert isinstance(one, Scope)
    assert isinstance(other, Scope)
    assert one.target != other.target


@pytest.mark.parametrize("result", [Deny("a", "b"), resolve_scope(None, Mode.OPTIONAL, "n", None, "r")])
def test_a_result_has_no_truth_value(result: Any) -> None:
    with pytest.raises(TypeError, match="match its type"):
        assert result


POOL: list[Policy | InvalidPolicy] = [TEAM_A, ALSO_A, OF_B, EVERYBODY, LATER, LATER_OF_B, NO_SELECTOR]


@given(
    policies=st.lists(st.sampled_from(POOL), unique_by=lambda policy: policy.name),
    labels=st.sampled_from([A, B, {}, {"team": "c"}]),
    more=st.sampled_from(POOL),
)
def test_one_policy_more_never_leads_from_a_policy_to_another(
    policies: list[Policy | InvalidPolicy], labels: Labels, more: Policy | InvalidPolicy
) -> None:
    """A further policy can take a scope away, or give one where no policy applied; it never replaces another's."""
    before, after = select_policy(policies, labels), select_policy([*policies, more], labels)
    match before:
        case Policy():
            assert after is before or isinstance(after, Deny)
        case Deny():
            assert isinstance(after, Deny)
        case None:
            assert after == select_policy([more], labels)


@given(policies=st.lists(st.sampled_from(POOL), unique_by=lambda policy: policy.name), data=st.data())
def test_the_order_of_policies_does_not_matter(policies: list[Policy | InvalidPolicy], data: st.DataObject) -> None:
    labels = data.draw(st.sampled_from([A, B, {}]))
    assert select_policy(policies, labels) == select_policy(data.draw(st.permutations(policies)), labels)


def test_admitted_by_covers_all_that_admits_a_job_and_stays_the_same_from_version_to_version() -> None:
    """Another digest for the same rules would withhold every job until a poll has confirmed it."""
    role, queue = a_policy(role={"arn": ROLE}), a_policy(jobs={"queues": ["b"]})
    scopes = [resolve_scope(one, Mode.REQUIRED, "ns", None, "eu-west-1") for one in (TEAM_A, role, queue, ALSO_A)]
    digests = [admitted_by(one, "j") for one in scopes if isinstance(one, Scope)]
    assert len({*digests, admitted_by(scopes[0], "k")}) == 5  # type: ignore[arg-type]
    observe = resolve_scope(a_policy(allow=["Observe"]), Mode.REQUIRED, "ns", None, "eu-west-1")
    assert isinstance(observe, Scope)
    assert admitted_by(observe, "j") == digests[0] == AdmittedBy("team-a", "693c14f2365136ef")
