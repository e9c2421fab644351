"""Where policies stand, for their own statuses."""

import asyncio

import pytest

from awsbatch_operator.domain.access import Mode
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.job import Place
from builders import CREDENTIALS, DENIED, THROTTLED, UNAVAILABLE
from unit.domain.policies import QUEUE, ROLE, a_policy, unreadable
from unit.engine.world import REGION, World

pytestmark = pytest.mark.looptime(start=1_000)

A, B = {"team": "a"}, {"team": "b"}
TEAM_A = a_policy(role={"arn": ROLE})
ALSO_A = a_policy("also-a")
PLACE = Place(REGION, ROLE, "team-a")


def stands(world: World, name: str = "team-a") -> tuple[str, str]:
    ready = world.engine.standings()[name].ready
    return ready.status, ready.reason


async def test_a_policy_counts_its_namespaces_and_the_objects_in_them() -> None:
    world = World(mode=Mode.REQUIRED)
    world.rules(TEAM_A, ns=A, more=A, other=B)
    async with world.running():
        for job_id, namespace in {"one": "ns", "two": "ns", "three": "other"}.items():
            world.an_object(world.a_job(job_id, queue=QUEUE), namespace=namespace)
        await asyncio.sleep(5)
        told = world.engine.standings()["team-a"]
        assert (told.namespaces, told.jobs, told.account_id) == (2, 2, ROLE.split(":")[4])
        assert stands(world) == ("True", "InForce")
        assert world.engine.standings(all_jobs=False)["team-a"].jobs is None


async def test_two_policies_for_one_namespace_both_say_which() -> None:
    world = World(mode=Mode.OPTIONAL)
    world.rules(TEAM_A, ALSO_A, ns=A)
    for name in ("team-a", "also-a"):
        assert stands(world, name) == ("False", "AmbiguousPolicy")
        assert "Namespace ns: " in world.engine.standings()[name].ready.message


async def test_a_policy_that_cant_be_read_says_what_is_wrong_with_it() -> None:
    world = World(mode=Mode.OPTIONAL)
    world.rules(unreadable("later"), ns=A)
    assert stands(world, "later") == ("False", "PolicyUnreadable")


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (DENIED, ("False", "AccessDenied")),
        # Time mends these: nobody need act, so that Stalled does not stand beside them.
        (THROTTLED, ("Unknown", "Throttled")),
        (UNAVAILABLE, ("Unknown", "AWSUnavailable")),
        # No fault of a policy: the objects tell.
        (CREDENTIALS, ("True", "InForce")),
    ],
    ids=lambda one: one.fate.value if isinstance(one, Fault) else "",
)
async def test_a_role_that_cant_be_assumed_is_told_by_its_policy(trouble: Fault, told: tuple[str, str]) -> None:
    world = World(mode=Mode.REQUIRED)
    world.rules(TEAM_A, ns=A)
    world.batch.troubles[PLACE] = trouble
    assert stands(world) == told
    assert (trouble.message in world.engine.standings()["team-a"].ready.message) == (told[0] != "True")
