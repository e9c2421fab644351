"""Why the termination of an object is held: one answer from everything that may hold it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api.batchjob import HoldCause
from awsbatch_operator.controller.cache import Cache
from awsbatch_operator.controller.crd_check import CrdCheck
from awsbatch_operator.controller.holds import LONGEST_TEXT, Hold, Holds
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.controller.unattended_limit import UnattendedLimit
from awsbatch_operator.policy.resolution import Mode
from fakes.objects import FakeObjects
from unit.controller.objects import an_object
from unit.controller.world import now
from unit.policy.policies import a_policy

pytestmark = pytest.mark.looptime(start=1_000)

SUSPEND = "awsbatch.dev/suspend-terminations"
LEASE = "ops/op"
A, B = {"team": "a"}, {"team": "b"}
OPERATOR, POLICY = HoldCause.SUSPENDED_OPERATOR, HoldCause.SUSPENDED_POLICY
STALE_LEASE, STALE_POLICIES, STALE_OBJECTS = HoldCause.STALE_LEASE, HoldCause.STALE_POLICIES, HoldCause.STALE_OBJECTS


class Known:
    """What the operator knows: a policy of team a, no suspension, everything up to date; then what the test adds."""

    def __init__(self) -> None:
        clock = asyncio.get_running_loop().time
        self.cache, self.policies = Cache(), PolicyCache(Mode.REQUIRED, "eu-west-1", clock, now)
        self.changes = 0
        crd = CrdCheck(FakeObjects(), on_answer=lambda _: None)
        limit = UnattendedLimit(500, on_place=lambda *_: None)
        self.holds = Holds(self.cache, self.policies, self._changed, crd=crd, limit=limit)
        self.policies.on_policies({"team-a": a_policy()})
        self.policies.on_namespaces({"a": A, "b": B})
        self.objects = {namespace: an_object(self.cache, f"in-{namespace}", namespace) for namespace in ("a", "b")}

    def _changed(self) -> None:
        self.changes += 1

    def lease(self, annotations: Mapping[str, str], **known_for: float) -> None:
        self.holds.on_lease(LEASE, annotations, **known_for)

    def hold(self, namespace: str = "a") -> Hold | None:
        return self.holds.of(self.objects[namespace], None)

    def cause(self, namespace: str = "a") -> HoldCause | None:
        hold = self.hold(namespace)
        return None if hold is None else hold.cause


def annotate(known: Known) -> None:
    known.lease({SUSPEND: "why"})


def suspend_policy(known: Known) -> None:
    known.policies.on_policy("team-a", a_policy(suspend=True))


def lose_lease(known: Known) -> None:
    known.lease({}, known_for=-1.0)


def lose_policies(known: Known) -> None:
    known.policies.on_stale_since(asyncio.get_running_loop().time() - 11, "namespaces")


def doubt_objects(known: Known) -> None:
    known.cache.in_doubt_since = now()


@pytest.mark.parametrize(
    ("happened", "in_a", "in_b"),
    [
        ((), None, None),
        ((annotate,), OPERATOR, OPERATOR),
        ((suspend_policy,), POLICY, None),
        ((lose_lease,), STALE_LEASE, STALE_LEASE),
        ((lose_policies,), STALE_POLICIES, STALE_POLICIES),
        ((doubt_objects,), STALE_OBJECTS, STALE_OBJECTS),
        # What a person can remove is named first: the others pass by themselves.
        ((lose_lease, lose_policies, doubt_objects, suspend_policy, annotate), OPERATOR, OPERATOR),
        ((lose_lease, lose_policies, doubt_objects, suspend_policy), POLICY, STALE_LEASE),
        ((lose_policies, doubt_objects), STALE_POLICIES, STALE_POLICIES),
    ],
)
async def test_the_cause_of_a_hold(happened: Any, in_a: HoldCause | None, in_b: HoldCause | None) -> None:
    known = Known()
    for event in happened:
        event(known)
    assert (known.cause("a"), known.cause("b")) == (in_a, in_b)


@pytest.mark.parametrize(
    ("annotations", "holds"),
    [
        ({SUSPEND: "why"}, True),
        ({SUSPEND: ""}, True),
        ({SUSPEND: "false"}, True),
        ({"awsbatch.dev/suspend": "why"}, False),
        ({}, False),
    ],
)
async def test_the_presence_of_the_annotation_counts(annotations: dict[str, str], *, holds: bool) -> None:
    known = Known()
    known.lease(annotations)
    assert (known.cause() is OPERATOR) is holds
    known.lease({})
    assert known.cause() is None


async def test_the_message_names_what_holds_it_its_text_and_the_command_that_removes_it() -> None:
    known = Known()
    known.lease({SUSPEND: "INC-4711: wrong jobs"})
    by_lease = known.hold()
    assert by_lease is not None
    assert "of the Lease ops/op suspends all terminations" in by_lease.message
    assert '("INC-4711: wrong jobs")' in by_lease.message
    assert f"kubectl annotate lease op -n ops {SUSPEND}-" in by_lease.message
    known.lease({SUSPEND: "x" * 250_000})
    long = known.hold()
    assert long is not None
    assert len(long.message) < LONGEST_TEXT + 400
    known.lease({})
    suspend_policy(known)
    by_policy = known.hold()
    assert by_policy is not None
    assert "spec.suspend of the BatchAccessPolicy team-a" in by_policy.message
    assert """kubectl patch bap team-a --type=merge -p '{"spec":{"suspend":null}}'""" in by_policy.message


async def test_an_answer_about_the_lease_counts_for_its_time_and_the_next_ends_the_hold() -> None:
    known = Known()
    known.lease({}, known_for=10.0)
    await asyncio.sleep(10)
    assert known.cause() is None
    await asyncio.sleep(0.1)
    assert known.cause() is STALE_LEASE
    assert known.holds.stale() == {STALE_LEASE}
    before = known.changes
    known.lease({}, known_for=10.0)
    assert (known.cause(), known.changes) == (None, before + 1)
    known.lease({}, known_for=10.0)
    assert known.changes == before + 1, "an answer that shows nothing new decides nothing again"


async def test_each_start_and_end_of_a_suspension_is_logged_once() -> None:
    known = Known()
    with capture_logs() as logs:
        for _ in range(3):
            known.lease({SUSPEND: "why"})
        known.lease({SUSPEND: "another"})
        known.lease({})
        suspend_policy(known)
        known.policies.on_namespace("b", A)
        known.policies.on_policy("team-a", None)
    assert [
        (line["log_level"], line["event"].split(":")[0], line.get("text", line.get("policy"))) for line in logs
    ] == [
        ("warning", "terminations suspended by an annotation", "why"),
        ("warning", "terminations suspended by an annotation", "another"),
        ("info", "terminations resumed", None),
        ("warning", "terminations suspended by a policy", "team-a"),
        ("info", "terminations resumed", "team-a"),
    ]
    assert known.changes == 3
