"""Which terminations share a call, how calls are paced, and what becomes of a call that was refused or not sent."""

import asyncio
import statistics
from collections.abc import Sequence
from typing import Any

import pytest

from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.interfaces import TerminatePermit
from awsbatch_operator.policy.resolution import Mode
from builders import REJECTED
from fakes.batch import EXPIRED
from unit.controller.world import World
from unit.policy.policies import QUEUE, ROLE, a_policy

pytestmark = pytest.mark.looptime(start=1_000)


async def observed(world: World, count: int, namespaces: Sequence[str] = ("ns",)) -> list[str]:
    """Create objects of so many running jobs j0, j1, ... and wait until they are observed."""
    uids = [
        world.an_object(world.a_job(f"j{n}", queue=QUEUE), namespace=namespaces[n % len(namespaces)])
        for n in range(count)
    ]
    await asyncio.sleep(5)
    return uids


def state(world: World, uid: str, reason: str) -> None:
    world.objects.edit(uid, {"terminate": {"reason": reason}})


def calls(world: World) -> list[tuple[str, ...]]:
    return [ids for _, _, ids in world.batch.terminate_calls]


async def test_hundreds_of_one_reason_that_come_within_seconds_go_out_in_few_calls_without_delay() -> None:
    async with World().running() as world:
        uids = await observed(world, 500)
        began = asyncio.get_running_loop().time()
        for uid in uids:
            state(world, uid, "why")
            await asyncio.sleep(4 / 500)
        await asyncio.sleep(2)
        sent = [job_id for ids in calls(world) for job_id in ids]
        assert sorted(sent) == sorted({f"j{n}" for n in range(500)})
        assert len(calls(world)) <= 20
        assert calls(world)[0] == ("j0",), "the first one waits for nobody"
        assert world.batch.terminate_calls[-1][0] - began <= 1.1 * 4


async def test_different_reasons_twenty_a_second_wait_for_nothing() -> None:
    async with World().running() as world:
        uids = await observed(world, 100)
        stated: dict[str, float] = {}
        for number, uid in enumerate(uids):
            stated[f"j{number}"] = asyncio.get_running_loop().time()
            state(world, uid, f"reason {number}")
            await asyncio.sleep(1 / 20)
        waits = [at - stated[job_id] for at, job_id, _ in world.batch.terminations]
        assert len(waits) == 100
        assert statistics.median(waits) <= 0.001
        assert max(waits) <= 0.02


async def test_a_whole_call_of_one_reason_waits_for_no_pause() -> None:
    async with World().running() as world:
        uids = await observed(world, 200)
        for uid in uids:
            state(world, uid, "why")
        await asyncio.sleep(0.1)
        assert [len(ids) for ids in calls(world)] == [50] * 4


@pytest.mark.parametrize(("role", "shared"), [(None, 1), (ROLE, 2)], ids=["no role", "a role"])
async def test_namespaces_share_a_call_only_where_no_role_tells_them_apart(role: str | None, shared: int) -> None:
    world = World(mode=Mode.REQUIRED)
    spec: dict[str, Any] = {"role": {"arn": role}} if role else {}
    world.set_policies(a_policy(**spec), ns={"team": "a"}, other={"team": "a"})
    async with world.running():
        uids = await observed(world, 10, ("ns", "other"))
        world.batch.turns.clear()
        for uid in uids:
            state(world, uid, "why")
        await asyncio.sleep(1)
        world.batch.turns.set()
        await asyncio.sleep(5)
        assert sorted(job_id for ids in calls(world) for job_id in ids) == [f"j{n}" for n in range(10)]
        assert len(calls(world)) == shared


async def test_a_job_has_one_call_at_a_time() -> None:
    async with World().running() as world:
        world.a_job("j")
        first, second = world.an_object("j", name="first"), world.an_object("j", name="second")
        await asyncio.sleep(5)
        world.batch.latency = 3.0
        state(world, first, "one")
        await asyncio.sleep(1)
        state(world, second, "two")
        await asyncio.sleep(1.5)
        assert [reason for _, reason, _ in world.batch.terminate_calls] == ["one"]
        world.batch.latency = 0.01
        await asyncio.sleep(30)
        assert [reason for _, reason, _ in world.batch.terminate_calls] == ["one"], "accepted for both"
        for uid in (first, second):
            termination = world.objects.status(uid).termination
            assert termination is not None
            assert termination.reason == "one"


async def test_a_refusal_for_one_object_lets_the_other_of_the_job_try_with_its_own_reason() -> None:
    async with World().running() as world:
        world.a_job("j")
        first, second = world.an_object("j", name="first"), world.an_object("j", name="second")
        await asyncio.sleep(5)
        world.batch.call_errors = [REJECTED]
        state(world, first, "one")
        await asyncio.sleep(1)
        state(world, second, "two")
        await asyncio.sleep(1)
        assert [reason for _, reason, _ in world.batch.terminate_calls] == ["one", "two"]


async def test_a_shared_call_that_is_rejected_is_sent_again_one_by_one() -> None:
    async with World().running() as world:
        uids = await observed(world, 10)
        world.batch.turns.clear()
        for uid in uids:
            state(world, uid, "why")
        await asyncio.sleep(1)
        world.batch.call_errors, world.batch.id_errors = [REJECTED], {"j3": REJECTED}
        world.batch.turns.set()
        await asyncio.sleep(5)
        assert len(calls(world)[0]) == 10
        assert sorted(calls(world)[1:]) == [(f"j{n}",) for n in range(10)]
        for number, uid in enumerate(uids):
            status = world.objects.status(uid)
            assert (status.termination is None) == (number == 3)
        rejected = world.objects.status(uids[3]).condition("Terminated")
        assert rejected is not None
        assert (rejected.status, rejected.reason) == ("False", "TerminationRejected")


async def test_a_permit_that_expires_takes_nobody_s_termination_with_it() -> None:
    async with World().running() as world:
        uids = await observed(world, 10)
        expired: list[str] = []

        def with_last_byte(permit: TerminatePermit) -> CallError | None:
            if permit.job_id == "j3" and not expired:
                expired.append(permit.job_id)
                return EXPIRED
            return None

        world.batch.with_last_byte = with_last_byte
        world.batch.turns.clear()
        for uid in uids:
            state(world, uid, "why")
        await asyncio.sleep(1)
        world.batch.turns.set()
        await asyncio.sleep(1)
        assert expired == ["j3"]
        assert sorted(job_id for ids in calls(world) for job_id in ids) == [f"j{n}" for n in range(10)]


async def test_a_reworded_termination_that_waits_goes_with_those_of_its_new_reason() -> None:
    async with World().running() as world:
        uids = await observed(world, 3)
        world.batch.turns.clear()
        state(world, uids[0], "old")
        state(world, uids[1], "new")
        state(world, uids[2], "old")
        await asyncio.sleep(1)
        state(world, uids[2], "new")
        await asyncio.sleep(1)
        world.batch.turns.set()
        await asyncio.sleep(1)
        assert sorted((reason, tuple(sorted(ids))) for _, reason, ids in world.batch.terminate_calls) == [
            ("new", ("j1", "j2")),
            ("old", ("j0",)),
        ]
        assert world.controller.depths["terminate"]() == 0


async def test_requests_during_a_call_with_the_same_reason_go_with_the_next_call() -> None:
    async with World().running() as world:
        uids = await observed(world, 10)
        world.batch.latency = 0.5
        for uid in uids:
            world.objects.edit(uid, {"terminate": {"reason": "one reason"}})
            await asyncio.sleep(0.04)
        await asyncio.sleep(2)
        assert [len(ids) for _, _, ids in world.batch.terminate_calls] == [1, 9]


async def test_a_call_that_hangs_delays_others_with_its_reason_by_a_second() -> None:
    async with World().running() as world:
        first, second = await observed(world, 2)
        world.batch.latency = 60.0
        began = asyncio.get_running_loop().time()
        world.objects.edit(first, {"terminate": {"reason": "one reason"}})
        await asyncio.sleep(0.1)
        world.objects.edit(second, {"terminate": {"reason": "one reason"}})
        await asyncio.sleep(3)
        assert [round(at - began, 1) for at, *_ in world.batch.terminate_calls] == [0.0, 1.0]


async def test_two_reasons_for_one_job_send_only_the_first() -> None:
    world = World()
    world.batch.terminate_interval = 0.3
    async with world.running():
        world.a_job("shared")
        first, second = (world.an_object("shared", name=name, namespace=name) for name in ("a", "b"))
        await asyncio.sleep(5)
        world.batch.turns.clear()
        world.objects.edit(first, {"terminate": {"reason": "one"}})
        world.objects.edit(second, {"terminate": {"reason": "two"}})
        await asyncio.sleep(1)
        world.batch.turns.set()
        await asyncio.sleep(30)
        assert [reason for _, _, reason in world.batch.terminations] == ["one"]
        for uid in (first, second):
            termination = world.objects.status(uid).termination
            assert termination is not None
            assert (termination.reason, termination.requests) == ("one", 1)
