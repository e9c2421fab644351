"""The statuses of access policies."""

from collections.abc import Mapping

import pytest

from awsbatch_operator.api.access_policy import InvalidPolicy, Policy
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.interfaces import PolicyStatus
from awsbatch_operator.api.job import Target
from awsbatch_operator.controller.cache import Cache
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.controller.policy_status import MAX_FAULTS, policy_statuses
from awsbatch_operator.policy.resolution import Mode
from builders import CREDENTIALS, DENIED, NOW, REGION, THROTTLED, UNAVAILABLE
from fakes.batch import FakeProvider
from unit.controller.objects import an_object
from unit.policy.policies import ROLE, a_policy, an_invalid_policy

A, B = {"team": "a"}, {"team": "b"}
TEAM_A = a_policy(role={"arn": ROLE})
TARGET = Target(REGION, ROLE, "team-a")
OWN_ACCOUNT = "444455556666"


def statuses(
    *policies: Policy | InvalidPolicy,
    cache: Cache | None = None,
    errors: Mapping[Target, CallError] | None = None,
    all_jobs: bool = True,
    **namespaces: Mapping[str, str],
) -> Mapping[str, PolicyStatus]:
    known = PolicyCache(Mode.OPTIONAL, REGION, lambda: 0.0, lambda: NOW)
    known.on_policies({policy.name: policy for policy in policies})
    known.on_namespaces(namespaces)
    provider = FakeProvider()
    provider.accounts[Target(REGION)] = OWN_ACCOUNT
    provider.assume_errors.update(errors or {})
    return policy_statuses(known, cache or Cache(), provider, all_jobs=all_jobs)


def ready(status: PolicyStatus) -> tuple[str, str]:
    return status.ready.status, status.ready.reason


def test_a_policy_counts_its_namespaces_and_the_objects_in_them() -> None:
    cache = Cache()
    for name, namespace in {"one": "ns", "two": "ns", "three": "other"}.items():
        an_object(cache, name, namespace)
    found = statuses(TEAM_A, cache=cache, ns=A, more=A, other=B)["team-a"]
    assert (found.namespaces, found.jobs, found.account_id) == (2, 2, ROLE.split(":")[4])
    assert ready(found) == ("True", "InForce")
    assert statuses(TEAM_A, cache=cache, all_jobs=False, ns=A)["team-a"].jobs is None


def test_a_policy_that_suspends_is_in_force_and_says_so() -> None:
    found = statuses(a_policy(suspend=True), ns=A)["team-a"]
    assert ready(found) == ("True", "InForce")
    assert "spec.suspend holds the terminations" in found.ready.message


def test_a_policy_without_a_role_shows_the_operators_account() -> None:
    assert statuses(a_policy(), ns=A)["team-a"].account_id == OWN_ACCOUNT
    assert statuses(a_policy(), ns=A)["team-a"].namespaces == 1


def test_two_policies_for_one_namespace_both_say_which() -> None:
    found = statuses(TEAM_A, a_policy("also-a"), ns=A)
    for name in ("team-a", "also-a"):
        assert ready(found[name]) == ("False", "AmbiguousPolicy")
        assert "Namespace ns: " in found[name].ready.message


def test_an_unreadable_policy_says_what_is_wrong_with_it() -> None:
    odd = {f"field-{number}": 1 for number in range(MAX_FAULTS + 2)}
    found = statuses(an_invalid_policy("later", jobs={"queues": ["*"]}, **odd), ns=A)["later"]
    assert ready(found) == ("False", "PolicyUnreadable")
    assert "spec.field-4: Object contains unknown field `field-4`; and 2 more" in found.ready.message
    assert (found.namespaces, found.account_id) == (1, None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DENIED, ("False", "AccessDenied")),
        # These pass by themselves: nobody must act, so Stalled does not stand beside them.
        (THROTTLED, ("Unknown", "Throttled")),
        (UNAVAILABLE, ("Unknown", "AWSUnavailable")),
        # No fault of a policy: the BatchJobs report it.
        (CREDENTIALS, ("True", "InForce")),
    ],
    ids=lambda one: one.error_class.value if isinstance(one, CallError) else "",
)
def test_a_role_that_cannot_be_assumed_shows_in_its_policy(error: CallError, expected: tuple[str, str]) -> None:
    found = statuses(TEAM_A, errors={TARGET: error}, ns=A)["team-a"]
    assert ready(found) == expected
    assert (error.message in found.ready.message) == (expected[0] != "True")
    assert ready(statuses(a_policy(), errors={TARGET: error}, ns=A)["team-a"]) == ("True", "InForce")
