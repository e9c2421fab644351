"""Which sessions are kept, which one signs a termination, and when one is renewed."""

import datetime as dt
import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ConnectTimeoutError, NoCredentialsError

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.job import Target
from awsbatch_operator.aws.caller_identity import IDENTITY_INTERVAL, CallerIdentity
from awsbatch_operator.aws.errors import (
    InvalidSettingsError,
    NoSigningScopeError,
    RoleNotAssumedError,
    classify_assume_error,
    classify_error,
)
from awsbatch_operator.aws.hooks import RequestScope, current_scope
from awsbatch_operator.aws.sdk_session import own_credentials
from awsbatch_operator.aws.sessions import (
    ERROR_VALIDITY,
    MAX_IDLE,
    MAX_SESSIONS,
    RENEW_INTERVAL,
    OwnSession,
    RoleSession,
    Session,
    SessionCache,
)
from fakes.aws import FakePermit
from unit.aws.fake_client import refusal

HERE = "eu-west-1"
ACCOUNT = "222222222222"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/a"
TEAM_A = Target(HERE, ROLE, "team-a")
TEAM_B = Target(HERE, ROLE, "team-b")
OWN = Target(HERE)


class World:
    """A cache on a settable clock; `assume` is not called before a request is signed."""

    def __init__(self) -> None:
        self.now, self.assumed = 100.0, 0
        self.own = Session(lambda: Credentials("AKIA", "s"), lambda: self.now)
        self.cache = SessionCache(self.own, "prod", self._assume, self._utc, lambda: self.now)

    def terminating(self, namespace: str, target: Target = TEAM_A) -> RoleSession:
        session = self.cache.for_terminate(target, [FakePermit("x", target, namespace)])
        assert isinstance(session, RoleSession)
        return session

    def describing(self, target: Target = TEAM_A) -> RoleSession:
        session = self.cache.for_describe(target)
        assert isinstance(session, RoleSession)
        return session

    def _assume(self, *_: Any) -> Mapping[str, Any]:
        self.assumed += 1
        return answer(self.now + 7200, AccessKeyId=f"ASIA{self.assumed}")

    def _utc(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.now, dt.UTC)


def answer(expires: float, **broken: Any) -> Mapping[str, Any]:
    given = {"AccessKeyId": "ASIA", "SecretAccessKey": "s", "SessionToken": "t"}
    return {"Credentials": given | {"Expiration": dt.datetime.fromtimestamp(expires, dt.UTC)} | broken}


def test_each_target_and_namespace_has_a_session_of_its_own() -> None:
    world = World()

    def all_four() -> list[RoleSession]:
        return [
            *(world.terminating("blue"), world.terminating("green"), world.terminating("blue", TEAM_B)),
            world.describing(),
        ]

    sessions = all_four()
    assert len({id(one) for one in sessions}) == 4
    names = ["ns,blue@prod", "ns,green@prod", "ns,blue@prod", "policy,team-a@prod"]
    assert [one.parameters.name for one in sessions] == names
    ids = [one.parameters.external_id.rpartition("/")[2] for one in sessions]
    assert ids == ["team-a", "team-a", "team-b", "team-a"]
    assert all_four() == sessions


def test_without_a_role_the_own_credentials_sign_for_all_namespaces() -> None:
    world = World()
    permits = [FakePermit("x", OWN, name) for name in ("blue", "green")]
    assert world.cache.for_terminate(OWN, permits) is world.cache.for_describe(OWN) is world.own


@pytest.mark.parametrize(
    "permits",
    [
        [],
        [FakePermit("x", TEAM_A, "blue"), FakePermit("y", TEAM_A, "green")],
        [FakePermit("x", TEAM_B, "blue")],
        [FakePermit("x", TEAM_A, "blue"), FakePermit("x", TEAM_B, "blue")],
        [FakePermit("x", TEAM_A._replace(region="us-east-1"), "blue")],
        [FakePermit("x", OWN, "blue")],
    ],
    ids=["none", "two namespaces", "another policy", "two policies", "another region", "no role"],
)
def test_nothing_is_signed_without_permits_of_one_target_and_namespace(permits: list[FakePermit]) -> None:
    with pytest.raises(NoSigningScopeError):
        World().cache.for_terminate(TEAM_A, permits)


def test_own_credentials_sign_nothing_for_a_permit_of_a_role() -> None:
    with pytest.raises(NoSigningScopeError):
        World().cache.for_terminate(OWN, [FakePermit("x", TEAM_A)])


def test_a_scope_ends_with_its_request() -> None:
    outer, inner = RequestScope(World().own), RequestScope(World().own)
    with outer.active():
        with inner.active():
            assert current_scope() is inner
        assert current_scope() is outer
    with pytest.raises(NoSigningScopeError):
        current_scope()


def test_the_least_recently_used_sessions_are_dropped() -> None:
    world = World()
    sessions = [world.terminating(f"n{number}") for number in range(MAX_SESSIONS)]
    assert world.terminating("n0") is sessions[0]
    world.terminating("new")
    assert world.terminating("n0") is sessions[0]
    assert world.terminating("n2") is sessions[2]
    assert world.terminating("n1") is not sessions[1]


def test_a_session_that_was_unused_for_an_hour_is_dropped() -> None:
    world = World()
    blue, green = world.terminating("blue"), world.terminating("green")
    world.now += MAX_IDLE
    assert world.terminating("green") is green
    world.now += 1
    assert world.terminating("green") is green
    assert world.terminating("blue") is not blue


def test_the_error_of_a_session_counts_while_somebody_uses_it() -> None:
    world = World()
    world.terminating("blue").error = CallError(ErrorClass.DENIED, "no", "AccessDenied")
    for _ in range(3):
        world.now += 330
        assert world.cache.assume_error(TEAM_A) is not None, "the longest wait between two attempts"
        world.terminating("blue")
    world.now += ERROR_VALIDITY + 1
    assert world.cache.assume_error(TEAM_A) is None, "its object is gone, or asks no more"


def test_the_error_of_describing_counts_first_and_goes_with_its_target() -> None:
    world = World()
    errors = [CallError(ErrorClass.DENIED, str(number), "AccessDenied") for number in range(3)]
    assert world.cache.assume_error(TEAM_A) is None
    world.terminating("blue").error = errors[0]
    assert world.cache.assume_error(TEAM_A) == errors[0]
    world.describing().error = errors[1]
    world.describing(TEAM_B).error = errors[2]
    assert world.cache.assume_error(TEAM_A) == errors[1]
    world.cache.forget(TEAM_A)
    assert (world.cache.assume_error(TEAM_A), world.cache.assume_error(TEAM_B)) == (None, errors[2])


def test_a_role_is_assumed_once_and_again_when_its_session_was_renewed() -> None:
    session = World().describing()
    assert [session.frozen().access_key, session.frozen().access_key] == ["ASIA1", "ASIA1"]
    assert session.renew(0)
    assert session.frozen().access_key == "ASIA2"


def test_a_denied_session_is_renewed_unless_it_is_new() -> None:
    world = World()
    session = world.describing()
    session.frozen()
    assert not session.renew(0, denied=True)
    assert session.renew(0), "but refused credentials are renewed at once"
    session.frozen()
    world.now += RENEW_INTERVAL
    assert session.renew(1, denied=True)


def test_renewals_of_a_session_come_at_most_every_few_seconds() -> None:
    world = World()
    session = world.describing()
    assert session.renew(0)
    assert session.renew(0), "it was done already: try again"
    assert session.generation == 1
    world.now += RENEW_INTERVAL - 1
    assert not session.renew(1)
    world.now += 1
    assert session.renew(1)


UNUSABLE: list[Mapping[str, Any]] = [
    {},
    {"Credentials": None},
    answer(7200, AccessKeyId=""),
    answer(7200, SessionToken=None),
    answer(7200, Expiration=None),
    answer(7200, Expiration="soon"),
    answer(0),
]


@pytest.mark.parametrize("given", UNUSABLE)
def test_an_answer_of_sts_that_cannot_be_used_is_unavailable(given: Mapping[str, Any]) -> None:
    world = World()
    cache = SessionCache(world.own, "prod", lambda *_: given, world._utc)
    with pytest.raises(RoleNotAssumedError) as caught:
        cache.for_describe(TEAM_A).frozen()
    assert caught.value.error.error_class is ErrorClass.UNAVAILABLE


ASSUMING = [
    (refusal("AccessDenied", 403, "not authorized", "AssumeRole"), ErrorClass.DENIED),
    (refusal("ValidationError", 400, "1 validation error", "AssumeRole"), ErrorClass.DENIED),
    (refusal("MalformedPolicyDocument", 400, "", "AssumeRole"), ErrorClass.DENIED),
    (refusal("RegionDisabledException", 403, "", "AssumeRole"), ErrorClass.DENIED),
    (refusal("InvalidParameterValue", 400, "conflicts with a transitive tag key", "AssumeRole"), ErrorClass.DENIED),
    (refusal("ExpiredToken", 403, "", "AssumeRole"), ErrorClass.CREDENTIALS),
    (refusal("InvalidClientTokenId", 403, "", "AssumeRole"), ErrorClass.CREDENTIALS),
    (refusal("Throttling", 400, "Rate exceeded", "AssumeRole"), ErrorClass.THROTTLED),
    (refusal("ServiceUnavailable", 503, "", "AssumeRole"), ErrorClass.UNAVAILABLE),
    (ConnectTimeoutError(endpoint_url="https://sts"), ErrorClass.UNAVAILABLE),
]


@pytest.mark.parametrize(("error", "error_class"), ASSUMING, ids=[str(error) for error, _ in ASSUMING])
def test_why_a_role_is_not_assumed(error: Exception, error_class: ErrorClass) -> None:
    assert classify_assume_error(error).error_class is error_class


ENVIRONMENTS: list[tuple[str, dict[str, str]]] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/bin/true", "AWS_ROLE_ARN": ROLE}),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent", "AWS_ROLE_ARN": ROLE}),
    ("AWS_ROLE_ARN", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/etc/hostname", "AWS_ROLE_ARN": "x"}),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://1.2.3.4/x"}),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "::::"}),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/x",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/bin/true",
        },
    ),
    ("AWS_METADATA_SERVICE_TIMEOUT", {"AWS_METADATA_SERVICE_TIMEOUT": "x"}),
]


def only(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Sets these variables and no others of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_without_any_credentials_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, {"AWS_EC2_METADATA_DISABLED": "true"})
    with pytest.raises(NoCredentialsError):
        OwnSession(own_credentials).frozen()


@pytest.mark.parametrize(("variable", "environment"), ENVIRONMENTS)
def test_a_variable_that_botocore_cannot_use_is_named(
    variable: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, environment)
    with pytest.raises(InvalidSettingsError, match=variable) as caught:
        OwnSession(own_credentials).frozen()
    assert classify_error(caught.value).error_class is ErrorClass.CREDENTIALS


class Identity:
    """A CallerIdentity on a settable clock, and what STS was asked."""

    def __init__(self, sts: Callable[[], str], account_id: str | None = None) -> None:
        self.now, self.key, self.asked = 0.0, "AKIA1", 0
        self._sts = sts
        own = Session(lambda: Credentials(self.key, "s", account_id=account_id))
        self.session = own
        self.identity = CallerIdentity(own, self._ask, lambda: self.now)

    def _ask(self, _region: str) -> str:
        self.asked += 1
        return self._sts()


def fails() -> str:
    raise ConnectTimeoutError(endpoint_url="https://sts")


def test_an_account_that_could_not_be_asked_for_is_asked_for_again_minutes_later() -> None:
    world = Identity(fails)
    asked = []
    for world.now in (0.0, 1.0, IDENTITY_INTERVAL - 1, IDENTITY_INTERVAL):
        world.identity.learn(HERE, needed=True)
        asked.append(world.asked)
    world.identity.learn(HERE)
    assert asked == [1, 1, 1, 2]
    assert (world.asked, world.identity.account) == (2, None)


def test_sts_is_asked_once_for_each_access_key() -> None:
    world = Identity(lambda: ACCOUNT)
    for _ in range(3):
        world.identity.learn(HERE, needed=True)
    assert (world.asked, world.identity.account) == (1, ACCOUNT)
    world.key = "AKIA2"
    world.session.renew(0)
    world.identity.learn(HERE, needed=True)
    assert world.asked == 2


@pytest.mark.parametrize(("shown", "account_id"), [(ACCOUNT, None), (None, ACCOUNT)])
def test_an_account_that_is_known_otherwise_is_not_asked_for(shown: str | None, account_id: str | None) -> None:
    world = Identity(fails, account_id)
    world.identity.learn(HERE, shown, needed=True)
    assert (world.asked, world.identity.account) == (0, ACCOUNT)


def test_an_account_is_unknown_again_with_other_credentials_and_keeps_its_labels() -> None:
    world = Identity(fails)
    world.identity.learn(HERE, ACCOUNT)
    world.key = "AKIA2"
    world.session.renew(0)
    world.identity.learn(HERE)
    accounts = [world.identity.account]
    world.identity.learn(HERE, needed=True)
    accounts.append(world.identity.account)
    assert accounts == [ACCOUNT, None], "unknown only once somebody needs to know"
    assert world.identity.last_account == ACCOUNT
