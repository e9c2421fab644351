"""Which policy a namespace is under, and what it grants."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.domain.access import (
    EVERY_JOB,
    Choice,
    Grant,
    Mark,
    Mode,
    NoPolicy,
    Refusal,
    ambiguous,
    choose,
    grant,
    mark,
)
from awsbatch_operator.domain.job import Place
from awsbatch_operator.domain.labels import Labels
from awsbatch_operator.domain.policy import Policy, Unreadable, Verb
from unit.domain.policies import ROLE, a_policy, unreadable

A, B = {"team": "a"}, {"team": "b"}
TEAM_A = a_policy()
ALSO_A = a_policy("also-a", namespaceSelector={"matchExpressions": [{"key": "team", "operator": "Exists"}]})
OF_B = a_policy("team-b", namespaceSelector={"matchLabels": B})
EVERYBODY = a_policy("everybody", namespaceSelector={})
LATER, LATER_OF_B = unreadable("later"), unreadable("later-of-b", namespaceSelector={"matchLabels": B})
RIDDLE = unreadable("riddle", namespaceSelector={"matchNames": ["train"]})

CHOICES: list[tuple[list[Policy | Unreadable], Labels, Policy | str | None]] = [
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
    # What can't be read refuses what it selects, and nothing else.
    ([LATER], A, "PolicyUnreadable"),
    ([LATER], B, None),
    ([TEAM_A, LATER_OF_B], A, TEAM_A),
    ([TEAM_A, LATER], A, "AmbiguousPolicy"),
    # Of whom it is not known what it selects might select anything.
    ([RIDDLE], A, "PolicyUnreadable"),
    ([TEAM_A, RIDDLE], A, "PolicyUnreadable"),
    ([TEAM_A, ALSO_A, RIDDLE], A, "AmbiguousPolicy"),
]


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(("policies", "labels", "wanted"), CHOICES)
def test_exactly_one_policy_must_select_a_namespace(
    policies: list[Policy | Unreadable], labels: Labels, wanted: Policy | str | None, mode: Mode
) -> None:
    for order in itertools.permutations(policies):
        choice = choose(order, labels)
        match wanted:
            case None:
                assert choice == NoPolicy()
            case Policy():
                assert choice is wanted
            case str():
                assert isinstance(choice, Refusal)
                assert choice.reason == wanted
                assert grant(choice, mode, "train", None, "eu-west-1") is choice


def test_who_is_ambiguous_is_named_in_order() -> None:
    choice = choose([TEAM_A, ALSO_A, OF_B, EVERYBODY, RIDDLE], A)
    assert isinstance(choice, Refusal)
    assert "also-a, everybody, team-a all select this namespace" in choice.message


def test_of_many_policies_five_are_named() -> None:
    message = ambiguous(f"p{number:02}" for number in range(20)).message
    assert "p00, p01, p02, p03, p04 and 15 more all" in message


def test_what_can_not_be_read_is_named() -> None:
    choice = choose([RIDDLE, TEAM_A], A)
    assert isinstance(choice, Refusal)
    assert "BatchAccessPolicy riddle, which selects this namespace or may do so" in choice.message


ABROAD: dict[str, Any] = {"regions": ["us-east-1", "eu-west-1"]}
GRANTS: list[tuple[Choice, Mode, str | None, Place | str]] = [
    (NoPolicy(), Mode.OPTIONAL, None, Place("eu-west-1")),
    (NoPolicy(), Mode.OPTIONAL, "us-east-1", Place("us-east-1")),
    (NoPolicy(), Mode.REQUIRED, None, "NoAccessPolicy"),
    (NoPolicy(), Mode.REQUIRED, "eu-west-1", "NoAccessPolicy"),
    *(
        row
        for mode in Mode
        for row in (
            (a_policy(), mode, None, Place("eu-west-1")),
            (a_policy(), mode, "eu-west-1", Place("eu-west-1")),
            (a_policy(), mode, "us-east-1", "JobNotAllowed"),
            (a_policy(role={"arn": ROLE}), mode, None, Place("eu-west-1", ROLE, "team-a")),
            (a_policy(role={"arn": ROLE}), mode, "us-east-1", "JobNotAllowed"),
            (a_policy(**ABROAD), mode, "us-east-1", Place("us-east-1")),
            (a_policy(role={"arn": ROLE}, **ABROAD), mode, "us-east-1", Place("us-east-1", ROLE, "team-a")),
            (a_policy(**ABROAD), mode, "ap-southeast-2", "JobNotAllowed"),
            # The region that a BatchJob leaves out is the operator's, be it granted or not.
            (a_policy(regions=["us-east-1"]), mode, None, "JobNotAllowed"),
        )
    ),
]


@pytest.mark.parametrize(("choice", "mode", "wanted", "outcome"), GRANTS)
def test_what_is_granted(choice: Choice, mode: Mode, wanted: str | None, outcome: Place | str) -> None:
    found = grant(choice, mode, "train", wanted, "eu-west-1")
    if isinstance(outcome, str):
        assert isinstance(found, Refusal)
        assert found.reason == outcome
        return
    assert isinstance(found, Grant)
    assert (found.place, found.namespace) == (outcome, "train")
    if isinstance(choice, Policy):
        assert (found.policy, found.rules, found.allow) == ("team-a", choice.rules, choice.allow)
    else:
        assert (found.policy, found.rules, found.allow) == (None, EVERY_JOB, frozenset(Verb))


def test_what_regions_are_granted_is_told() -> None:
    found = grant(a_policy(**ABROAD), Mode.REQUIRED, "train", "sa-east-1", "eu-west-1")
    assert isinstance(found, Refusal)
    assert "team-a grants no job in sa-east-1, only in eu-west-1, us-east-1" in found.message


def test_what_is_allowed_goes_with_the_grant() -> None:
    found = grant(a_policy(allow=["Observe"]), Mode.OPTIONAL, "train", None, "eu-west-1")
    assert isinstance(found, Grant)
    assert found.allow == frozenset({Verb.OBSERVE})


def test_two_policies_on_one_role_have_places_of_their_own() -> None:
    """Each has its ExternalId: what one may do by the role must not depend on who assumed it first."""
    one, other = (
        grant(a_policy(name, role={"arn": ROLE}), Mode.REQUIRED, "train", None, "eu-west-1") for name in ("a", "b")
    )
    assert isinstance(one, Grant)
    assert isinstance(other, Grant)
    assert one.place != other.place


@pytest.mark.parametrize("verdict", [NoPolicy(), Refusal("a", "b"), grant(NoPolicy(), Mode.OPTIONAL, "n", None, "r")])
def test_a_ruling_is_no_truth(verdict: Any) -> None:
    with pytest.raises(TypeError, match="match its type"):
        assert verdict


POOL: list[Policy | Unreadable] = [TEAM_A, ALSO_A, OF_B, EVERYBODY, LATER, LATER_OF_B, RIDDLE]


@given(
    policies=st.lists(st.sampled_from(POOL), unique_by=lambda policy: policy.name),
    labels=st.sampled_from([A, B, {}, {"team": "c"}]),
    more=st.sampled_from(POOL),
)
def test_one_policy_more_never_leads_from_a_policy_to_another(
    policies: list[Policy | Unreadable], labels: Labels, more: Policy | Unreadable
) -> None:
    """Whoever adds a policy can take away by it, or give where none was; what one grants is never another's."""
    before, after = choose(policies, labels), choose([*policies, more], labels)
    match before:
        case Policy():
            assert after is before or isinstance(after, Refusal)
        case Refusal():
            assert isinstance(after, Refusal)
        case NoPolicy():
            assert after == choose([more], labels)


@given(policies=st.lists(st.sampled_from(POOL), unique_by=lambda policy: policy.name), data=st.data())
def test_the_order_of_policies_does_not_matter(policies: list[Policy | Unreadable], data: st.DataObject) -> None:
    labels = data.draw(st.sampled_from([A, B, {}]))
    assert choose(policies, labels) == choose(data.draw(st.permutations(policies)), labels)


def test_a_mark_is_of_all_that_admits_a_job_and_stays_the_same_from_version_to_version() -> None:
    """Another digest for the same would take away what is shown of all jobs, until looks have confirmed them."""
    role, queue = a_policy(role={"arn": ROLE}), a_policy(jobs={"queues": ["b"]})
    granted = [grant(one, Mode.REQUIRED, "ns", None, "eu-west-1") for one in (TEAM_A, role, queue, ALSO_A)]
    marks = [mark(one, "j") for one in granted if isinstance(one, Grant)]
    assert len({*marks, mark(granted[0], "k")}) == 5  # type: ignore[arg-type]
    observe = grant(a_policy(allow=["Observe"]), Mode.REQUIRED, "ns", None, "eu-west-1")
    assert isinstance(observe, Grant)
    assert mark(observe, "j") == marks[0] == Mark("team-a", "693c14f2365136ef")
