from collections import Counter

import pytest
from bench.tenants import ACCOUNTS, OWN_ACCOUNT, Home, Tenants, policy

from awsbatch_operator.api.access_policy import Policy, parse_policy
from awsbatch_operator.api.label_selector import Labels
from awsbatch_operator.policy.authorizer import Allow, JobAttributes, NeedsDescribe, authorize_view
from awsbatch_operator.policy.resolution import Deny, Mode, Scope, resolve_scope, select_policy

TENANTS = Tenants(policies=20, namespaces=200)
OWN = "eu-west-1"


def parsed(team: str) -> Policy:
    found = parse_policy(team, policy(team, TENANTS.teams[team].role)["spec"])
    assert isinstance(found, Policy)
    return found


POLICIES = [parsed(team) for team in TENANTS.teams]


def scope_of(home: Home) -> Scope:
    labels: Labels = {"team": home.team or ""}
    found = resolve_scope(select_policy(POLICIES, labels), Mode.REQUIRED, home.namespace, None, OWN)
    assert isinstance(found, Scope)
    return found


def viewed(by: Home, of: Home) -> Allow | Deny | NeedsDescribe:
    """Whether the namespace of the one may see a job that was made for the other."""
    return authorize_view(scope_of(by), JobAttributes("job", of.job["queue"], of.job["tags"], 0), None)


def test_each_namespace_is_under_the_one_policy_of_its_team_and_its_own_jobs_are_admitted() -> None:
    for home in TENANTS.homes:
        assert scope_of(home).policy == home.team
        assert isinstance(viewed(home, home), Allow)


@pytest.mark.parametrize(("by", "of"), [(0, 1), (0, 20), (20, 0), (1, 0)])
def test_no_team_is_admitted_to_jobs_of_another(by: int, of: int) -> None:
    assert isinstance(viewed(TENANTS.homes[by], TENANTS.homes[of]), Deny)


def test_namespaces_are_dealt_out_evenly_and_half_of_the_teams_have_roles_in_a_few_accounts() -> None:
    assert set(Counter(home.team for home in TENANTS.homes).values()) == {10}
    roles = [where for where in TENANTS.teams.values() if where.role is not None]
    assert len(set(roles)) == 10
    assert {where.account for where in roles} == set(ACCOUNTS)
    assert {where.account for where in TENANTS.teams.values() if where.role is None} == {OWN_ACCOUNT}


def test_jobs_are_in_the_account_of_the_role_of_their_namespace() -> None:
    for home in TENANTS.homes:
        target = scope_of(home).target
        assert target.role == home.where.role
        assert home.job["account"] == (target.role.split(":")[4] if target.role else OWN_ACCOUNT)
