"""The policy cache: what a namespace resolves to after each event of the policy informer, for every thread."""

import threading
from collections.abc import Iterable

import pytest

from awsbatch_operator.api.access_policy import InvalidPolicy, Policy
from awsbatch_operator.controller import policy_cache
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.policy.authorizer import Allow, JobAttributes, authorize_terminate
from awsbatch_operator.policy.resolution import Deny, Mode, Scope
from builders import NOW, REGION
from unit.policy.policies import QUEUE, a_policy, an_invalid_policy

TEAM_A = {"team": "a"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def a_cache(mode: Mode = Mode.REQUIRED, clock: Clock | None = None) -> PolicyCache:
    cache = empty(mode, clock)
    cache.on_policies({"team-a": a_policy()})
    cache.on_namespaces({"ns": TEAM_A})
    return cache


def empty(mode: Mode = Mode.REQUIRED, clock: Clock | None = None) -> PolicyCache:
    return PolicyCache(mode, REGION, clock or Clock(), lambda: NOW)


def an_allow(cache: PolicyCache) -> Allow:
    scope = cache.resolve("ns", None)
    assert isinstance(scope, Scope)
    allow = authorize_terminate(scope, JobAttributes("j", QUEUE, {}, NOW), None, NOW)
    assert isinstance(allow, Allow)
    return allow


@pytest.mark.parametrize("listed", ["policies", "namespaces"])
def test_nothing_is_known_before_both_are_listed(listed: str) -> None:
    cache = empty(Mode.OPTIONAL)
    if listed == "policies":
        cache.on_policies({})
    else:
        cache.on_namespaces({"ns": {}})
    assert cache.resolve("ns", None) is None
    assert not cache.complete.is_set()


@pytest.mark.parametrize("mode", Mode)
def test_an_unknown_namespace_resolves_to_nothing_while_there_are_policies(mode: Mode) -> None:
    cache, expected = a_cache(mode), Scope if mode is Mode.OPTIONAL else Deny
    assert cache.resolve("new", None) is None
    cache.on_namespace("new", {})
    assert isinstance(cache.resolve("new", None), expected)
    cache.on_namespace("new", None)
    assert cache.resolve("new", None) is None
    cache.on_policies({})
    assert isinstance(cache.resolve("new", None), expected)


def test_each_event_applies_at_once_and_names_the_namespaces_that_it_affects() -> None:
    cache, notified = a_cache(), list[Iterable[str] | None]()
    cache.subscribe(notified.append)
    assert isinstance(cache.resolve("ns", None), Scope)
    cache.on_policy("also-a", a_policy("also-a"))
    denied = cache.resolve("ns", None)
    assert isinstance(denied, Deny)
    assert denied.reason == "AmbiguousPolicy"
    cache.on_policy("also-a", None)
    cache.on_namespace("ns", {"team": "b"})
    denied = cache.resolve("ns", None)
    assert isinstance(denied, Deny)
    assert denied.reason == "NoAccessPolicy"
    cache.on_namespaces({"ns": {"team": "b"}, "other": {}})
    assert notified == [None, None, ("ns",), ["other"]]
    cache.on_namespaces({"ns": {"team": "b"}, "other": {}})
    cache.on_policies({"team-a": a_policy()})
    assert len(notified) == 4, "a list that shows nothing new"


@pytest.mark.parametrize("mode", Mode)
def test_a_cache_without_news_for_ten_seconds_is_stale(mode: Mode) -> None:
    clock = Clock()
    cache, notified = a_cache(mode, clock), list[Iterable[str] | None]()
    cache.subscribe(notified.append)
    cache.on_stale_since(clock.now, "Namespaces")
    clock.now += 10
    assert cache.stale_reason() is None
    clock.now += 0.1
    assert cache.stale
    cache.on_policies({"team-a": a_policy()})
    assert cache.stale_reason() is not None, "the labels of namespaces may still be out of date"
    notified.clear()
    cache.on_stale_since(None, "Namespaces")
    assert cache.stale_reason() is None
    assert notified == [None]


def test_the_reason_of_a_held_termination_names_the_watch_and_stays_the_same() -> None:
    clock = Clock()
    cache = a_cache(clock=clock)
    cache.on_stale_since(clock.now - 3, "Namespaces")
    clock.now += 20
    reason = cache.stale_reason()
    assert reason is not None
    assert reason.startswith("The watch of Namespaces has failed since 2026-09-21T14:13:17Z,")
    clock.now += 20
    assert cache.stale_reason() == reason, "or each reconcile would write a status"


def test_without_policies_that_are_required_a_failed_watch_makes_no_difference() -> None:
    clock = Clock()
    cache = empty(Mode.OPTIONAL, clock)
    cache.on_policies({})
    cache.on_namespaces({"ns": {}})
    cache.on_stale_since(clock.now, "Namespaces")
    clock.now += 99
    assert not cache.stale
    cache.on_policy("team-a", a_policy())
    assert cache.stale


def test_an_allow_is_valid_as_long_as_its_namespace_resolves_to_an_equal_scope() -> None:
    cache = a_cache()
    allow = an_allow(cache)
    cache.on_policy("team-b", a_policy("team-b", namespaceSelector={"matchLabels": {"team": "b"}}))
    assert cache.is_valid(allow, NOW)
    cache.on_policy("team-a", a_policy(jobs={"queues": ["team-a-gpu"]}))
    assert not cache.is_valid(allow, NOW)
    cache.on_policy("team-a", a_policy())
    assert cache.is_valid(allow, NOW)
    cache.on_namespace("ns", None)
    assert not cache.is_valid(allow, NOW)


def test_the_regions_are_those_that_readable_policies_name() -> None:
    cache = a_cache()
    assert cache.regions() == frozenset()
    cache.on_policy("team-b", a_policy("team-b", regions=["us-east-1", "eu-west-1"]))
    cache.on_policy("team-c", a_policy("team-c", regions=["us-east-1", "xx-new-1"]))
    cache.on_policy("later", an_invalid_policy("later", regions=["sa-east-1"]))
    assert cache.regions() == {"us-east-1", "eu-west-1", "xx-new-1"}
    cache.on_policy("team-c", None)
    assert cache.regions() == {"us-east-1", "eu-west-1"}


def test_made_up_regions_fill_no_memory() -> None:
    cache = a_cache(Mode.OPTIONAL)
    for number in range(policy_cache._MAX_SCOPES + 5):
        cache.resolve("ns", f"xx-made-{number}")
    assert len(cache._snapshot.scopes) <= policy_cache._MAX_SCOPES


def test_threads_see_policies_and_labels_of_one_moment() -> None:
    """By turns, policy x and team x, or policy y and team y: the scope is x, y or, between the two, a Deny."""
    cache = empty()
    ours = {team: a_policy(team, namespaceSelector={"matchLabels": {"team": team}}) for team in ("x", "y")}
    cache.on_policies({"x": ours["x"]})
    cache.on_namespaces({"ns": {"team": "x"}})
    odd: list[object] = []
    over = threading.Event()

    def resolve() -> None:
        while not over.is_set():
            snapshot = cache._snapshot
            scope = snapshot.resolve("ns", REGION)
            assert snapshot.policies is not None
            assert snapshot.labels is not None
            fits = snapshot.labels["ns"]["team"] in snapshot.policies
            if isinstance(scope, Scope) != fits or (isinstance(scope, Scope) and scope.policy not in snapshot.policies):
                odd.append((snapshot, scope))

    threads = [threading.Thread(target=resolve) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        for team in ("y", "x"):
            cache.on_policies({team: ours[team]})
            cache.on_namespaces({"ns": {"team": team}})
    over.set()
    for thread in threads:
        thread.join()
    assert odd == []


SUSPENDED = a_policy(suspend=True)


@pytest.mark.parametrize(
    ("policies", "labels", "suspended_by"),
    [
        ([SUSPENDED], TEAM_A, "team-a"),
        ([a_policy(suspend=False)], TEAM_A, None),
        ([SUSPENDED], {"team": "b"}, None),
        ([SUSPENDED, a_policy("also")], TEAM_A, None),
        ([SUSPENDED, an_invalid_policy("later", suspend=1)], TEAM_A, None),
        ([], TEAM_A, None),
    ],
    ids=["suspended", "not suspended", "of others", "ambiguous: denied", "unreadable: denied", "no policy"],
)
def test_a_namespace_is_suspended_by_the_policy_that_applies_to_it(
    policies: list[Policy | InvalidPolicy], labels: dict[str, str], suspended_by: str | None
) -> None:
    cache = empty()
    cache.on_namespaces({"ns": labels})
    cache.on_policies({policy.name: policy for policy in policies})
    assert cache.suspended_by("ns") == suspended_by
    assert cache.suspended_by("unknown") is None


def test_a_suspension_follows_labels_and_policies_and_changes_nothing_that_the_policy_grants() -> None:
    cache = a_cache()
    allow, scope = an_allow(cache), cache.resolve("ns", None)
    cache.on_policy("team-a", SUSPENDED)
    assert cache.suspended() == {"team-a"}
    assert cache.suspended_by("ns") == "team-a"
    assert cache.resolve("ns", None) == scope
    assert cache.is_valid(allow, NOW)
    cache.on_namespace("ns", {"team": "b"})
    assert cache.suspended_by("ns") is None
    cache.on_namespace("ns", TEAM_A)
    cache.on_policy("team-a", None)
    assert (cache.suspended(), cache.suspended_by("ns")) == (frozenset(), None)
