from collections import Counter

import pytest
from bench.tenants import ACCOUNTS, OWN_ACCOUNT, Home, Tenants, policy

from awsbatch_operator.domain.access import Grant, Mode, choose, grant
from awsbatch_operator.domain.admission import Admission, Admitted, Facts, NotAdmitted, admit
from awsbatch_operator.domain.labels import Labels
from awsbatch_operator.domain.policy import Policy, parse_policy

TENANTS = Tenants(policies=20, namespaces=200)
OWN = "eu-west-1"


def parsed(team: str) -> Policy:
    found = parse_policy(team, policy(team, TENANTS.teams[team].role)["spec"])
    assert isinstance(found, Policy)
    return found


POLICIES = [parsed(team) for team in TENANTS.teams]


def granted(home: Home) -> Grant:
    labels: Labels = {"team": home.team or ""}
    found = grant(choose(POLICIES, labels), Mode.REQUIRED, home.namespace, None, OWN)
    assert isinstance(found, Grant)
    return found


def asked(by: Home, of: Home) -> Admission:
    """Whether the namespace of the one may see a job that was made for the other."""
    return admit(granted(by), Facts("job", of.job["queue"], of.job["tags"], 0))


def test_each_namespace_is_under_the_one_policy_of_its_team_and_its_own_jobs_are_admitted() -> None:
    for home in TENANTS.homes:
        assert granted(home).policy == home.team
        assert isinstance(asked(home, home), Admitted)


@pytest.mark.parametrize(("by", "of"), [(0, 1), (0, 20), (20, 0), (1, 0)])
def test_nobody_is_admitted_to_another_s_jobs(by: int, of: int) -> None:
    assert isinstance(asked(TENANTS.homes[by], TENANTS.homes[of]), NotAdmitted)


def test_namespaces_are_dealt_out_evenly_and_half_of_the_teams_have_roles_in_a_few_accounts() -> None:
    assert set(Counter(home.team for home in TENANTS.homes).values()) == {10}
    roles = [where for where in TENANTS.teams.values() if where.role is not None]
    assert len(set(roles)) == 10
    assert {where.account for where in roles} == set(ACCOUNTS)
    assert {where.account for where in TENANTS.teams.values() if where.role is None} == {OWN_ACCOUNT}


def test_jobs_are_where_the_role_of_their_namespace_looks() -> None:
    for home in TENANTS.homes:
        place = granted(home).place
        assert place.role == home.where.role
        assert home.job["account"] == (place.role.split(":")[4] if place.role else OWN_ACCOUNT)
