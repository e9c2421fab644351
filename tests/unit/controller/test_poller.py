"""When a job is polled, in which order, together with which others, and what a poll that fails does."""

import asyncio

import pytest

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.controller.controller import PRUNE_EVERY
from builders import THROTTLED
from unit.controller.world import World

pytestmark = pytest.mark.looptime(start=1_000)


async def test_polls_that_find_nothing_new_write_nothing() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(1_200)
        assert len(world.objects.writes) == 1
        assert len(world.batch.describes) == pytest.approx(40, abs=2)


async def test_a_finished_job_is_never_polled_again() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("j1", "SUCCEEDED"))
        await asyncio.sleep(1_200)
        assert len(world.batch.describes) == 1


async def test_after_a_restart_a_finished_object_costs_nothing() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("j1", "SUCCEEDED"))
        await asyncio.sleep(1)
    polls, writes = len(world.batch.describes), len(world.objects.writes)
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(1_200)
    assert (len(world.batch.describes), len(world.objects.writes)) == (polls, writes)


async def test_a_thousand_objects_are_polled_in_ten_calls_a_round() -> None:
    async with World().running() as world:
        for n in range(1_000):
            world.an_object(world.a_job(f"j{n}"))
        await asyncio.sleep(60)
        before = len(world.batch.describes)
        await asyncio.sleep(300)
        calls = world.batch.describes[before:]
        assert {len(ids) for _, ids in calls} == {100}
        assert len(calls) == pytest.approx(100, abs=10)


async def test_objects_of_a_first_list_that_come_one_by_one_share_their_first_polls() -> None:
    async with World().running() as world:
        for n in range(1_000):
            world.an_object(world.a_job(f"j{n}"))
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.5)
        assert world.batch.describes[0][1] == ("j0",), "the first one waits for nobody"
        assert len({job_id for _, ids in world.batch.describes for job_id in ids}) == 1_000
        assert len(world.batch.describes) <= 13


async def test_objects_that_name_another_region_are_polled_there() -> None:
    async with World().running() as world:
        world.a_job("j1")
        world.objects.create("there", {"jobId": "j1", "region": "us-east-1"})
        await asyncio.sleep(1)
        assert {key.target.region for key in world.controller.cache.jobs} == {"us-east-1"}
        assert world.objects.status("uid-there").region == "us-east-1"


async def test_regions_of_objects_that_are_gone_leave_no_task_behind() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("stays"))
        await asyncio.sleep(1)
        before = len(asyncio.all_tasks())
        uids = [world.objects.create(f"wild-{n}", {"jobId": "j", "region": f"xx-wild-{n}"}) for n in range(50)]
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) >= before + 50
        for uid in uids:
            del world.objects.bodies[uid]
            world.controller.objects.on_delete(uid)
        await asyncio.sleep(PRUNE_EVERY + 1)
        assert len(asyncio.all_tasks()) == before
        world.objects.create("again", {"jobId": "j", "region": "xx-wild-1"})
        polls = len(world.batch.describes)
        await asyncio.sleep(1)
        assert len(world.batch.describes) == polls + 1, "a target that was forgotten starts anew"


async def test_after_a_restart_a_job_whose_termination_is_stated_is_polled_before_all_others() -> None:
    world = World()
    for n in range(1_000):
        world.an_object(world.a_job(f"j{n}"))
    uid = world.an_object(world.a_job("last"), "now")
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(0.1)
    assert "last" in world.batch.describes[0][1]
    assert [call[1] for call in world.batch.terminations] == ["last"]
    assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_first_poll_that_a_termination_waits_for_goes_before_all_that_were_due_earlier() -> None:
    async with World().running() as world:
        world.batch.describes_granted.clear()
        for n in range(300):
            world.an_object(world.a_job(f"j{n}"))
        await asyncio.sleep(5)
        uid = world.an_object(world.a_job("late"), "why")
        world.batch.describes_granted.set()
        await asyncio.sleep(0.5)
        assert "late" in world.batch.describes[0][1]
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_termination_stated_for_a_job_that_is_not_there_costs_no_more_polls_than_others() -> None:
    async with World().running() as world:
        world.an_object("nowhere", "why")
        await asyncio.sleep(600)
        assert len(world.batch.describes) < 10
        assert not world.batch.terminations


async def test_polls_that_confirm_an_absence_never_come_so_early_that_they_decide_nothing() -> None:
    async with World(jitter=lambda low, _high: low).running() as world:
        uid = world.an_object("nowhere")
        await asyncio.sleep(121)
        assert world.objects.status(uid).phase is Phase.MISSING
        assert len(world.batch.describes) == 4


async def test_a_poll_that_shows_the_same_job_decides_nothing_but_an_edit_does() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        tracked = world.controller.cache.objects[uid]
        job = world.controller.cache.job_of(tracked)
        assert job is not None
        shown, record = job.state.job, tracked.record
        await asyncio.sleep(65)
        assert job.state.job is shown, "the value that was there is kept"
        assert tracked.record is record, "nothing was decided"
        assert tracked.steady_interval == 30_000
        world.objects.edit(uid, {"terminate": {"reason": "now"}})
        await asyncio.sleep(0.1)
        assert tracked.steady_interval is None
        assert len(world.batch.terminations) == 1


async def test_a_single_throttled_poll_of_many_objects_writes_nothing() -> None:
    async with World().running() as world:
        for number in range(100):
            world.an_object(world.a_job(f"j{number}"))
        await asyncio.sleep(1)
        writes = len(world.objects.writes)
        world.batch.describe_errors = [THROTTLED]
        await asyncio.sleep(90)
        assert not world.batch.describe_errors
        assert len(world.objects.writes) == writes == 100


async def test_throttled_polls_are_shown_once_and_cleared() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.describe_errors = [THROTTLED] * 3
        await asyncio.sleep(33)
        reconciling = world.objects.status(uid).condition("Reconciling")
        assert reconciling is not None
        assert reconciling.reason == "Throttled"
        await asyncio.sleep(60)
        assert world.objects.status(uid).condition("Reconciling") is None
        assert world.objects.reasons(uid) == [], "the condition says it"
        assert len(world.objects.writes) == 3


async def test_silence_lasts_from_the_first_poll_without_an_answer_to_the_next_with_one() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(60)
        assert world.controller.silent_for() == 0
        world.batch.describe_errors = [THROTTLED] * 6
        await asyncio.sleep(45)
        assert world.controller.silent_for() == pytest.approx(30, abs=16)
        await asyncio.sleep(120)
        assert world.controller.silent_for() == 0
