"""Which sessions are kept, whose is picked, and when one is assumed anew."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from botocore.credentials import RefreshableCredentials

from awsbatch_operator.aws.clients import RENEW_EVERY
from awsbatch_operator.aws.errors import UnsignedError
from awsbatch_operator.aws.keyring import MOST_SESSIONS, TRIED_WITHIN, UNUSED_FOR, Key, Keyring
from awsbatch_operator.aws.wire import LEAVES, Leaves
from awsbatch_operator.domain.assumed import Session, looking
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Place
from builders import leave_to_end

HERE = "eu-west-1"
ROLE = "arn:aws:iam::222222222222:role/a"
TEAM_A = Place(HERE, ROLE, "team-a")
TEAM_B = Place(HERE, ROLE, "team-b")
ENDS = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


class Ring:
    """On a settable clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.keys = Keyring("prod", lambda: self.now)

    def ending(self, namespace: str, place: Place = TEAM_A) -> Key:
        with call_of(namespace, place=place):
            return self.keys.ending(place)


@contextmanager
def call_of(*namespaces: str, place: Place = TEAM_A) -> Iterator[None]:
    """This thread is about a call that rests on a leave of each of them."""
    token = LEAVES.set(Leaves((leave_to_end("x", place, name) for name in namespaces), lambda _leave: True))
    try:
        yield
    finally:
        LEAVES.reset(token)


def test_each_place_and_namespace_has_a_key_of_its_own() -> None:
    ring = Ring()
    keys = [ring.ending("blue"), ring.ending("green"), ring.ending("blue", TEAM_B), ring.keys.looking(TEAM_A)]
    assert len({id(key) for key in keys}) == 4
    assert [key.session.name for key in keys] == ["ns,blue@prod", "ns,green@prod", "ns,blue@prod", "policy,team-a@prod"]
    assert [key.session.external_id.rpartition("/")[2] for key in keys] == ["team-a", "team-a", "team-b", "team-a"]
    assert [ring.ending("blue"), ring.ending("green"), ring.ending("blue", TEAM_B), ring.keys.looking(TEAM_A)] == keys


@pytest.mark.parametrize("namespaces", [(), ("blue", "green")], ids=["none", "two"])
def test_nothing_is_signed_for_other_than_one_namespace(namespaces: tuple[str, ...]) -> None:
    with call_of(*namespaces), pytest.raises(UnsignedError):
        Ring().keys.ending(TEAM_A)


def test_nothing_is_signed_outside_of_a_call() -> None:
    with pytest.raises(UnsignedError):
        Ring().keys.ending(TEAM_A)


@pytest.mark.parametrize("place", [TEAM_B, TEAM_A._replace(region="us-east-1"), Place(HERE)])
def test_nothing_is_signed_at_one_place_by_the_leave_of_another(place: Place) -> None:
    with call_of("blue", place=place), pytest.raises(UnsignedError):
        Ring().keys.ending(TEAM_A)


def test_the_sessions_that_were_unused_for_longest_are_forgotten() -> None:
    ring = Ring()
    keys = [ring.ending(f"n{number}") for number in range(MOST_SESSIONS)]
    assert ring.ending("n0") is keys[0]
    ring.ending("new")
    assert ring.ending("n0") is keys[0]
    assert ring.ending("n2") is keys[2]
    assert ring.ending("n1") is not keys[1]


def test_a_session_that_was_unused_for_an_hour_is_forgotten() -> None:
    ring = Ring()
    blue, green = ring.ending("blue"), ring.ending("green")
    ring.now += UNUSED_FOR
    assert ring.ending("green") is green
    ring.now += 1
    assert ring.ending("green") is green
    assert ring.ending("blue") is not blue


def test_trouble_is_told_for_as_long_as_somebody_tries_again() -> None:
    ring = Ring()
    ring.ending("blue").trouble = Fault(Fate.DENIED, "no", "AccessDenied")
    for _ in range(3):
        ring.now += 330
        assert ring.keys.trouble(TEAM_A) is not None, "the longest wait between two tries"
        ring.ending("blue")
    ring.now += TRIED_WITHIN + 1
    assert ring.keys.trouble(TEAM_A) is None, "its object is gone, or asks no more"


def test_the_trouble_of_looks_is_told_first_and_goes_with_its_place() -> None:
    ring = Ring()
    told = [Fault(Fate.DENIED, str(number), "AccessDenied") for number in range(3)]
    assert ring.keys.trouble(TEAM_A) is None
    ring.ending("blue").trouble = told[0]
    assert ring.keys.trouble(TEAM_A) == told[0]
    ring.keys.looking(TEAM_A).trouble = told[1]
    ring.keys.looking(TEAM_B).trouble = told[2]
    assert ring.keys.trouble(TEAM_A) == told[1]
    ring.keys.forget(TEAM_A)
    assert (ring.keys.trouble(TEAM_A), ring.keys.trouble(TEAM_B)) == (None, told[2])


class Lock:
    """A key, and how often the credentials that it is for were made."""

    def __init__(self) -> None:
        self.now, self.made = 0.0, 0
        self.key = Key(looking(ROLE, "prod", "team-a"), HERE, lambda: self.now)

    def frozen(self) -> str:
        return str(self.key.frozen(self._make).access_key)

    def _make(self, _session: Session, _region: str) -> RefreshableCredentials:
        self.made += 1
        return RefreshableCredentials(f"ASIA{self.made}", "s", "t", ENDS, dict, "test")


def test_a_session_is_made_once_and_anew_when_it_was_renewed() -> None:
    lock = Lock()
    assert [lock.frozen(), lock.frozen()] == ["ASIA1", "ASIA1"]
    assert lock.key.renew(0)
    assert lock.frozen() == "ASIA2"


def test_a_denied_session_is_made_anew_unless_it_is_new() -> None:
    lock = Lock()
    lock.frozen()
    assert not lock.key.renew(0, unless_new=True)
    assert lock.key.renew(0), "but expired credentials are renewed at once"
    lock.frozen()
    lock.now = RENEW_EVERY
    assert lock.key.renew(1, unless_new=True)


def test_renewals_of_a_session_come_at_most_every_few_seconds() -> None:
    lock = Lock()
    assert lock.key.renew(0)
    assert lock.key.renew(0), "it was done already: try again"
    assert lock.key.generation == 1
    lock.now = RENEW_EVERY - 1
    assert not lock.key.renew(1)
    lock.now = RENEW_EVERY
    assert lock.key.renew(1)
