"""The engine between fakes: what goes in, what comes out, and when."""

import asyncio

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.record import Phase, Snapshot
from unit.engine.world import World, now

pytestmark = pytest.mark.looptime(start=1_000)

THROTTLED = Fault(Fate.THROTTLED, "Too Many Requests", "TooManyRequestsException")


async def test_a_new_object_shows_its_job_within_one_look_and_one_write() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(0.1)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert len(world.batch.looks) == 1
        assert len(world.objects.writes) == 1


async def test_polls_that_find_nothing_new_write_nothing() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(1_200)
        assert len(world.objects.writes) == 1
        assert len(world.batch.looks) == pytest.approx(40, abs=2)


async def test_a_stated_termination_is_sent_once_with_its_reason_and_followed_to_the_end() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        world.objects.edit(uid, {"terminate": {"reason": "  why not? "}})
        await asyncio.sleep(0.1)
        assert world.objects.status(uid).phase is Phase.TERMINATING
        await asyncio.sleep(90)
        world.batch.end("j1", "FAILED", "  why not? ", stopped_at=1_090_000)
        await asyncio.sleep(20)
        assert [call[1:] for call in world.batch.terminations] == [("j1", "  why not? ")]
        status = world.objects.status(uid)
        assert status.phase is Phase.TERMINATED
        assert status.termination is not None
        assert (status.termination.requests, status.termination.completed_at) == (1, 1_090_000)
        assert world.objects.reasons(uid) == ["TerminationRequested", "Terminated"]
        assert len(world.objects.writes) == 4, "seen, accepted, flagged, ended"
        assert len(world.telemetry.accepted) == len(world.telemetry.completed) == 1


async def test_a_finished_job_is_never_looked_at_again() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("j1", "SUCCEEDED"))
        await asyncio.sleep(1_200)
        assert len(world.batch.looks) == 1


async def test_after_a_restart_a_finished_object_costs_nothing() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("j1", "SUCCEEDED"))
        await asyncio.sleep(1)
    looks, writes = len(world.batch.looks), len(world.objects.writes)
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(1_200)
    assert (len(world.batch.looks), len(world.objects.writes)) == (looks, writes)


async def test_two_objects_on_one_job_share_looks_and_the_request() -> None:
    async with World().running() as world:
        world.a_job("j1")
        first, second = world.an_object("j1", name="a"), world.an_object("j1", name="b")
        await asyncio.sleep(1)
        looks = len(world.batch.looks)
        world.objects.edit(first, {"terminate": {"reason": "one"}})
        world.objects.edit(second, {"terminate": {"reason": "two"}})
        await asyncio.sleep(0.5)
        assert [call[2] for call in world.batch.terminations] == ["one"]
        world.batch.end("j1", "FAILED", "one", stopped_at=1_002_000)
        await asyncio.sleep(20)
        for uid in (first, second):
            status = world.objects.status(uid)
            assert status.phase is Phase.TERMINATED
            assert status.termination is not None
            assert status.termination.reason == "one"
        assert len(world.batch.terminations) == 1
        assert looks <= 2


async def test_a_thousand_objects_are_looked_at_in_ten_calls_a_round() -> None:
    async with World().running() as world:
        for n in range(1_000):
            world.an_object(world.a_job(f"j{n}"))
        await asyncio.sleep(60)
        before = len(world.batch.looks)
        await asyncio.sleep(300)
        calls = world.batch.looks[before:]
        assert {len(ids) for _, ids in calls} == {100}
        assert len(calls) == pytest.approx(100, abs=10)


async def test_objects_of_a_first_list_that_come_one_by_one_share_their_first_looks() -> None:
    async with World().running() as world:
        for n in range(1_000):
            world.an_object(world.a_job(f"j{n}"))
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.5)
        assert world.batch.looks[0][1] == ("j0",), "the first one waits for nobody"
        assert len({job_id for _, ids in world.batch.looks for job_id in ids}) == 1_000
        assert len(world.batch.looks) <= 13


async def test_after_a_restart_a_job_whose_termination_is_stated_is_looked_at_before_all_others() -> None:
    world = World()
    for n in range(1_000):
        world.an_object(world.a_job(f"j{n}"))
    uid = world.an_object(world.a_job("last"), "now")
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(0.1)
    assert "last" in world.batch.looks[0][1]
    assert [call[1] for call in world.batch.terminations] == ["last"]
    assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_termination_stated_for_a_job_that_is_not_there_costs_no_more_looks_than_others() -> None:
    async with World().running() as world:
        world.an_object("nowhere", "why")
        await asyncio.sleep(600)
        assert len(world.batch.looks) < 10
        assert not world.batch.terminations


async def test_what_another_wrote_into_a_status_is_written_over_also_when_it_wrote_the_former_one() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1", "RUNNABLE"))
        await asyncio.sleep(1)
        former = world.objects.bodies[uid]["status"]
        world.a_job("j1")
        await asyncio.sleep(70)
        assert world.objects.status(uid).phase is Phase.RUNNING
        world.objects.scribble(uid, former)
        await asyncio.sleep(5)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert len(world.objects.writes) == 3


async def test_what_a_lead_did_not_come_to_mend_is_mended_by_the_next_one_of_the_same_process() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.objects.away = True
        world.objects.scribble(uid, {**world.objects.bodies[uid]["status"], "observedGeneration": 99})
        await asyncio.sleep(5)
        world.engine.follow()
        world.objects.away = False
        await asyncio.sleep(20)
        assert world.objects.status(uid).observed_generation == 99
        await world.engine.lead()
        await asyncio.sleep(10)
        assert world.objects.status(uid).observed_generation == 1


async def test_a_former_status_that_comes_in_while_the_newer_is_being_written_is_written_over() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1", "RUNNABLE"))
        await asyncio.sleep(1)
        former = world.objects.bodies[uid]["status"]
        world.a_job("j1")
        world.objects.answer_latency = 0.5
        loop = asyncio.get_running_loop()

        def tell(snapshot: Snapshot) -> None:
            # The watch is silent about the write whose answer is still under way, and tells of the version after it.
            if snapshot.status.phase is Phase.RUNNING:
                world.objects.tell = world.engine.seen
                loop.call_later(0.1, world.objects.scribble, uid, former)

        world.objects.tell = tell
        await asyncio.sleep(70)
        assert [len(world.objects.writes), world.objects.status(uid).phase] == [3, Phase.RUNNING]


async def test_a_look_that_shows_the_same_job_is_no_decision_but_a_word_of_anybody_is() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        job = world.engine.store.jobs[world.engine.store.objects[uid].key]
        shown = job.seen.job
        await asyncio.sleep(65)
        assert job.seen.job is shown, "the value that was there is kept"
        assert job.routine == 30_000
        world.objects.edit(uid, {"terminate": {"reason": "now"}})
        assert job.routine is None
        await asyncio.sleep(0.1)
        assert len(world.batch.terminations) == 1


async def test_a_crash_between_the_call_and_its_write_sends_no_second_call() -> None:
    world = World()
    world.objects.latency = 0.2
    async with world.running():
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.objects.away = True
        world.objects.edit(uid, {"terminate": {"reason": "crash"}})
        await asyncio.sleep(0.1)
        assert len(world.batch.terminations) == 1
        world.killed = True
    world.objects.away = False
    assert world.objects.status(uid).termination is None
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(30)
        world.batch.end("j1", "FAILED", "crash", stopped_at=1_032_000)
        await asyncio.sleep(30)
    assert len(world.batch.terminations) == 1
    status = world.objects.status(uid)
    terminated = status.condition("Terminated")
    assert terminated is not None
    assert (status.phase, terminated.reason) == (Phase.TERMINATED, "TerminatedByRequest")


async def test_a_request_that_an_earlier_process_wrote_down_is_not_sent_again() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"), "why")
        world.batch.shows_flag = False
        await asyncio.sleep(1)
    again = await world.restarted()
    async with again.running():
        await asyncio.sleep(50)
        assert len(world.batch.terminations) == 1
        await asyncio.sleep(15)
        assert len(world.batch.terminations) == 2, "a minute without a sign"
        termination = world.objects.status(uid).termination
        assert termination is not None
        assert termination.requests == 2


async def test_a_single_throttled_look_at_many_objects_writes_nothing() -> None:
    async with World().running() as world:
        for number in range(100):
            world.an_object(world.a_job(f"j{number}"))
        await asyncio.sleep(1)
        writes = len(world.objects.writes)
        world.batch.look_faults = [THROTTLED]
        await asyncio.sleep(90)
        assert not world.batch.look_faults
        assert len(world.objects.writes) == writes == 100


async def test_throttled_looks_show_it_once_and_clear_it() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.look_faults = [THROTTLED] * 3
        await asyncio.sleep(33)
        reconciling = world.objects.status(uid).condition("Reconciling")
        assert reconciling is not None
        assert reconciling.reason == "Throttled"
        await asyncio.sleep(60)
        assert world.objects.status(uid).condition("Reconciling") is None
        assert world.objects.reasons(uid).count("Throttled") == 1
        assert len(world.objects.writes) == 3


async def test_a_termination_refused_for_a_while_is_sent_as_soon_as_it_is_taken() -> None:
    async with World().running() as world:
        world.batch.call_faults = [THROTTLED] * 4
        uid = world.an_object(world.a_job("j1"), "why")
        await asyncio.sleep(60)
        assert len(world.batch.terminations) == 5
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_throttled_termination_is_sent_again_although_no_look_is_granted() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.looks_granted.clear()
        world.batch.call_faults = [THROTTLED] * 2
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(3.5)
        first, *later = (at for at, *_ in world.batch.terminations)
        assert [at - first for at in later] == pytest.approx([1, 3], abs=0.1)
        assert world.objects.status(uid).phase is Phase.TERMINATING


@pytest.mark.parametrize("end", ["deleted", "stopped"])
async def test_a_throttled_termination_is_left_alone_where_nobody_may_send_it_any_more(end: str) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.call_faults = [THROTTLED]
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(0.5)
        {"deleted": lambda: world.engine.gone(uid), "stopped": world.engine.stop}[end]()
        await asyncio.sleep(3)
        assert (len(world.batch.terminations), errors) == (1, [])


async def test_a_termination_does_not_wait_for_looks_that_fail() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.look_faults = [THROTTLED] * 100
        await asyncio.sleep(60)
        world.objects.edit(uid, {"terminate": {"reason": "now"}})
        await asyncio.sleep(0.1)
        assert len(world.batch.terminations) == 1


async def test_writes_wait_for_an_api_server_that_is_away_and_lose_nothing() -> None:
    async with World().running() as world:
        uids = [world.an_object(world.a_job(f"j{n}")) for n in range(50)]
        world.objects.away = True
        await asyncio.sleep(30)
        assert not world.objects.writes
        world.objects.away = False
        await asyncio.sleep(10)
        assert {world.objects.status(uid).phase for uid in uids} == {Phase.RUNNING}
        assert len(world.objects.writes) == 50


async def test_writes_are_bounded_in_number_at_once() -> None:
    async with World().running() as world:
        for n in range(200):
            world.an_object(world.a_job(f"j{n}"))
        await asyncio.sleep(10)
        assert len(world.objects.writes) == 200
        assert world.objects.most_at_once == 16


async def test_a_conflict_is_read_and_written_on_top_of() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.objects.scribble(uid, {"phase": "Succeeded"}, silent=True)
        world.batch.end("j1", "SUCCEEDED")
        await asyncio.sleep(40)
        assert world.telemetry.writes["conflict"] == 1
        assert world.objects.status(uid).finished


async def test_a_scribbled_status_is_repaired_but_not_in_a_race() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        for _ in range(10):
            world.objects.scribble(uid, {"phase": "Succeeded", "jobName": "other"})
            await asyncio.sleep(0.01)
        await asyncio.sleep(2)
        status = world.objects.status(uid)
        assert status.phase is Phase.RUNNING
        assert status.job is not None
        assert status.job.name == "j1"
        assert len(world.objects.writes) <= 3


async def test_an_object_that_is_gone_is_forgotten_by_word_by_write_and_by_sweep() -> None:
    async with World().running() as world:
        told, written, swept = (world.an_object(world.a_job(f"j{n}")) for n in range(3))
        await asyncio.sleep(1)
        for uid in (told, written, swept):
            del world.objects.bodies[uid]
        world.engine.gone(told)
        world.batch.end("j1", "FAILED")
        await asyncio.sleep(40)
        assert set(world.engine.store.objects) == {swept}
        await asyncio.sleep(300)
        assert not world.engine.store.objects
        assert not world.engine.store.jobs


async def test_what_was_deleted_while_the_watch_was_cut_is_forgotten_soon_after_it_lists_anew() -> None:
    async with World().running() as world:
        uids = [world.an_object(world.a_job(f"j{n}")) for n in range(3)]
        await asyncio.sleep(30)
        del world.objects.bodies[uids[0]]
        for uid in uids[1:]:
            world.engine.listed(uid)
        await asyncio.sleep(3)
        assert set(world.engine.store.objects) == set(uids[1:])


async def test_lists_that_fail_are_told_once_and_counted_from_the_first() -> None:
    world = World()
    async with world.running():
        await asyncio.sleep(1)
        world.objects.away = True
        began = asyncio.get_running_loop().time()
        world.engine.sweep.soon()
        with capture_logs() as logs:
            await asyncio.sleep(60)
            assert world.engine.sweep.blind_since == pytest.approx(began + 2, abs=0.1)
            world.objects.away = False
            await asyncio.sleep(6)
        assert [line["event"] for line in logs] == ["objects can't be listed", "objects can be listed again"]
        assert world.engine.sweep.blind_since is None


async def test_the_sweep_finds_what_the_watch_did_not_tell() -> None:
    world = World()
    world.objects.tell = lambda _: None
    uid = world.an_object(world.a_job("j1"))
    async with world.running():
        await asyncio.sleep(15)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert world.engine.sweep.synced.is_set()


async def test_a_follower_watches_and_does_nothing_until_it_leads() -> None:
    async with World().running(lead=False) as world:
        uid = world.an_object(world.a_job("j1"), "why")
        await asyncio.sleep(120)
        assert not world.batch.looks
        assert not world.batch.terminations
        await world.engine.lead()
        await asyncio.sleep(0.2)
        assert world.objects.status(uid).phase is Phase.TERMINATING
        world.engine.follow()
        calls = len(world.batch.looks)
        await asyncio.sleep(600)
        assert len(world.batch.looks) == calls


async def test_stopping_finishes_the_call_and_its_write() -> None:
    world = World()
    world.batch.latency = 2.0
    async with world.running():
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        world.objects.edit(uid, {"terminate": {"reason": "late"}})
        await asyncio.sleep(0.5)
    termination = world.objects.status(uid).termination
    assert termination is not None
    assert termination.accepted_at is not None


async def test_stopping_does_not_wait_for_a_look_that_hangs() -> None:
    world = World()
    async with world.running():
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.latency = 300
        await asyncio.sleep(40)
        stopped_at = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopped_at < 2


async def test_stopping_leaves_terminations_that_wait_for_their_turn_to_the_next_process() -> None:
    world = World()
    async with world.running():
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(5)
        world.batch.crowded = True
        before = world.objects.status(uid)
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(0.5)
        began = now()
    assert now() - began < 100
    assert world.objects.status(uid) == before
    world.batch.crowded = False
    async with (await world.restarted()).running():
        await asyncio.sleep(1)
        assert [reason for _, _, reason in world.batch.terminations] == ["why"]


async def test_an_object_of_a_future_schema_is_left_alone_and_stops_nothing() -> None:
    async with World().running() as world:
        world.objects.create("future", {"jobId": "j0", "terminate": {"reason": "x", "mode": "Gently"}})
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        assert world.objects.status(uid).phase is Phase.RUNNING
        assert not world.batch.terminations


async def test_a_status_that_the_api_server_refuses_is_not_sent_in_a_loop() -> None:
    async with World().running() as world:
        world.objects.refuses = "status.phase: Unsupported value"
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(600)
        assert world.telemetry.writes["failed"] == 1


async def test_an_engine_error_is_not_swallowed() -> None:
    world = World()
    world.batch.before_answer = lambda: 1 // 0  # type: ignore[assignment]

    async def terminate_one() -> None:
        async with world.running():
            world.an_object(world.a_job("j1"), "why")
            await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as error:
        await terminate_one()
    assert error.group_contains(ZeroDivisionError)


async def test_an_old_version_that_comes_late_changes_nothing() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        old = world.objects.snapshot(uid)
        await asyncio.sleep(1)
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        world.engine.seen(old)
        await asyncio.sleep(1)
        assert world.engine.store.objects[uid].record.generation == 2


async def test_a_slow_call_is_announced_before_its_answer() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.latency = 5.0
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(2)
        terminated = world.objects.status(uid).condition("Terminated")
        assert terminated is not None
        assert terminated.reason == "TerminationRequested"
        assert world.objects.status(uid).termination is None, "nothing was accepted yet"
        await asyncio.sleep(10)
        assert world.objects.status(uid).phase is Phase.TERMINATING


async def test_a_refusal_that_a_person_must_cure_is_shown_and_tried_again_slowly() -> None:
    denied = Fault(Fate.DENIED, "not authorized to perform: batch:TerminateJob", "AccessDeniedException")
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.call_faults = [denied] * 2
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(240)
        stalled = world.objects.status(uid).condition("Stalled")
        assert stalled is not None
        assert stalled.reason == "AccessDenied"
        assert "batch:TerminateJob" in stalled.message
        assert len(world.batch.terminations) == 1
        await asyncio.sleep(500)
        assert len(world.batch.terminations) == 3
        assert world.objects.status(uid).condition("Stalled") is None
        assert world.objects.reasons(uid) == ["AccessDenied", "TerminationRequested"]


async def test_silence_is_counted_from_the_first_look_without_an_answer_to_the_next_with_one() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(60)
        assert world.engine.silent_for() == 0
        world.batch.look_faults = [THROTTLED] * 6
        await asyncio.sleep(45)
        assert world.engine.silent_for() == pytest.approx(30, abs=16)
        await asyncio.sleep(120)
        assert world.engine.silent_for() == 0


async def test_an_object_deleted_while_its_call_is_under_way_hurts_nothing() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.latency = 2.0
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(0.5)
        del world.objects.bodies[uid]
        world.engine.gone(uid)
        await asyncio.sleep(10)
        assert len(world.batch.terminations) == 1
        assert not world.engine.store.jobs


async def test_objects_that_name_another_region_are_looked_at_there() -> None:
    async with World().running() as world:
        world.a_job("j1")
        world.objects.create("there", {"jobId": "j1", "region": "us-east-1"})
        await asyncio.sleep(1)
        assert {key.region for key in world.engine.store.jobs} == {"us-east-1"}
        assert world.objects.status("uid-there").region == "us-east-1"
