"""Whatever one namespace does, a termination of another one waits for a few calls at most."""

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from awsbatch_operator.api.access_policy import parse_policy
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.job import Target
from awsbatch_operator.policy.resolution import Mode
from unit.controller.world import World

pytestmark = pytest.mark.looptime(start=1_000)

CALLS_A_SECOND = 5.0
DENIED = CallError(ErrorClass.DENIED, "not authorized to perform: batch:TerminateJob", "AccessDenied")


def a_world(**more: object) -> World:
    world = World(**more)  # type: ignore[arg-type]
    world.batch.terminate_interval = world.batch.describe_interval = 1 / CALLS_A_SECOND
    return world


async def sent_after(world: World, uid: str, job_id: str, limit: float = 60.0) -> float:
    """State a termination; seconds until its TerminateJob."""
    stated_at = asyncio.get_running_loop().time()
    world.objects.edit(uid, {"terminate": {"reason": "stop the victim"}})
    while not any(at >= stated_at and job == job_id for at, job, _ in world.batch.terminations):
        await asyncio.sleep(0.05)
        if asyncio.get_running_loop().time() - stated_at > limit:
            return limit
    return asyncio.get_running_loop().time() - stated_at


def with_roles(world: World, role_of: Callable[[str], str | None]) -> None:
    policies = []
    for team in ("a", "b"):
        role = role_of(team)
        arn = {"role": {"arn": f"arn:aws:iam::111122223333:role/{role}"}} if role else {}
        spec = {"namespaceSelector": {"matchLabels": {"team": team}}, "jobs": {"queues": ["*"]}, **arn}
        policies.append(parse_policy(team, spec))
    world.set_policies(*policies, **{"team-a": {"team": "a"}, "team-b": {"team": "b"}})


@pytest.mark.parametrize(
    "role_of", [lambda team: f"role-{team}", lambda _: "shared", lambda _: None], ids=["two roles", "one", "none"]
)
async def test_hundreds_of_reasons_of_one_namespace_take_turns_with_another(
    role_of: Callable[[str], str | None],
) -> None:
    world = a_world(mode=Mode.REQUIRED)
    with_roles(world, role_of)
    async with world.running():
        world.a_job("victim", queue="q")
        victim = world.an_object("victim", name="victim", namespace="team-b")
        await asyncio.sleep(2)
        for number in range(600):
            job = world.a_job(f"a{number}", queue="q")
            world.an_object(job, reason=f"reason {number}", namespace="team-a")
        await asyncio.sleep(10)
        assert await sent_after(world, victim, "victim") <= 2.0


async def test_terminations_that_iam_denies_for_ever_hold_up_nobody() -> None:
    world = a_world()
    async with world.running():
        for number in range(300):
            world.batch.terminate_id_errors[world.a_job(f"a{number}")] = DENIED
            world.an_object(f"a{number}", reason=f"reason {number}", namespace="team-a")
        victims = [world.an_object(world.a_job(f"v{n}"), name=f"v{n}", namespace="team-b") for n in range(3)]
        await asyncio.sleep(150)
        for number, victim in enumerate(victims):
            assert await sent_after(world, victim, f"v{number}") <= 2.0
            await asyncio.sleep(100)


async def test_malformed_ids_of_one_namespace_hold_up_no_poll_and_no_termination_of_another() -> None:
    world = a_world()
    async with world.running():
        for number in range(20):
            world.an_object(world.a_job(f"v{number}"), name=f"v{number}", namespace="team-b")
        await asyncio.sleep(60)
        for number in range(300):
            world.batch.malformed.add(f"bad{number}")
            world.an_object(f"bad{number}", name=f"bad{number}", namespace="team-a")
        await asyncio.sleep(1)
        stated_at = asyncio.get_running_loop().time()
        world.an_object(world.a_job("new"), reason="stop the new one", name="new", namespace="team-b")
        while not any(job == "new" for _, job, _ in world.batch.terminations):
            await asyncio.sleep(0.05)
            assert asyncio.get_running_loop().time() - stated_at <= 2.0
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(600)
        polls = [at for at, ids in world.batch.describes if "v3" in ids and at > begun]
        assert max(later - at for at, later in pairwise(polls)) <= 40, "every 30 s, and a tenth"
        assert world.objects.status("uid-team-a-bad7").phase == "Missing"
        alone = [ids for at, ids in world.batch.describes if at > begun and any(job.startswith("bad") for job in ids)]
        assert all(len(ids) == 1 for ids in alone[-200:]), "a known malformed id spoils no call of others"


async def test_one_event_costs_one_object_however_many_name_the_job() -> None:
    world = a_world()
    world.objects.latency = 0.0
    async with world.running():
        world.a_job("shared")
        uids = [world.an_object("shared", name=f"o{n}", namespace="team-a") for n in range(1_000)]
        victim = world.an_object(world.a_job("victim"), name="victim", namespace="team-b")
        await asyncio.sleep(20)
        reconciled: list[Target] = []
        world.batch.on_account = reconciled.append
        for uid in uids[:50]:
            world.objects.edit(uid, {"region": "eu-west-1"})
        await asyncio.sleep(0.2)
        assert 50 <= len(reconciled) <= 2 * 50
        begun = time.process_time()
        for number in range(100):
            world.objects.edit(uids[number], {"terminate": {"reason": f"r{number}"}})
        assert await sent_after(world, victim, "victim") <= 2.0
        assert time.process_time() - begun < 20


@pytest.mark.parametrize("seconds", [10.0, 0.0], ids=["hanging", "failing at once"])
async def test_status_writes_of_one_namespace_that_hang_or_fail_hold_up_no_other(seconds: float) -> None:
    world = World()
    world.objects.hanging["team-a"] = seconds
    async with world.running():
        for number in range(100):
            world.an_object(world.a_job(f"a{number}"), name=f"a{number}", namespace="team-a")
        await asyncio.sleep(25)
        stated_at = asyncio.get_running_loop().time()
        uid = world.an_object(world.a_job("victim"), reason="stop", name="victim", namespace="team-b")
        while world.objects.status(uid).termination is None:
            await asyncio.sleep(0.05)
            assert asyncio.get_running_loop().time() - stated_at <= 3.0
        del world.objects.hanging["team-a"]
        await asyncio.sleep(120)
        assert all(world.objects.status(f"uid-team-a-a{n}").phase == "Running" for n in range(100))


async def test_the_answer_about_a_termination_is_reconciled_before_all_that_waits() -> None:
    """A hundred thousand objects of the namespace, after a start or a change of a policy, wait for ten seconds."""
    world, waiting = World(), list[int]()

    def on_describe(*_: object) -> None:
        for number in range(0 if waiting else 100):
            world.objects.create(f"o{number}", {"jobId": world.a_job(f"j{number}"), "region": "us-east-1"})

    def on_region(region: str) -> None:
        if region == "us-east-1":
            waiting.append(world.controller.depths["terminate"]())

    world.batch.on_region, world.batch.on_describe = on_region, on_describe
    async with world.running():
        world.an_object(world.a_job("one"), "runaway")
        await asyncio.sleep(1)
        assert waiting[0] == 1, "the termination is decided"


async def test_reconciles_and_first_polls_take_turns_between_namespaces() -> None:
    world = a_world()
    reconciled: list[str] = []
    world.batch.on_region = reconciled.append
    async with world.running():
        crowd = [
            world.objects.create(f"o{n}", {"jobId": world.a_job(f"j{n}")}, namespace="crowd") for n in range(1_300)
        ]
        one = world.objects.create("one", {"jobId": world.a_job("one"), "region": "us-east-1"}, namespace="other")
        same = world.objects.create("same", {"jobId": world.a_job("same")}, namespace="third")
        await asyncio.sleep(1)
        assert reconciled.index("us-east-1") <= 3
        assert any("same" in ids for _, ids in world.batch.describes[:3])
        assert {world.objects.status(uid).phase for uid in (one, same)} == {"Running"}
        calls = len(world.batch.describes)
        world.an_object(world.a_job("late"), namespace="fourth")
        await asyncio.sleep(1)
        assert any("late" in ids for _, ids in world.batch.describes[calls : calls + 2])
        assert world.objects.status(crowd[-1]).phase is None, "the crowd is still waiting"
