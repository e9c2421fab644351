"""The watch is a hint: a list finds what it did not deliver, also where versions go backwards."""

import asyncio

import pytest

from awsbatch_operator.controller import resync
from awsbatch_operator.controller.controller import FROZEN_AFTER
from awsbatch_operator.controller.resync import WATCH_LAG
from unit.controller.world import World

pytestmark = pytest.mark.looptime(start=1_000)


async def test_a_termination_that_the_watch_never_delivers_is_found_by_the_list() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.notify = lambda _: None
        world.objects.edit(uid, {"terminate": {"reason": "no watch event"}})
        new = world.an_object(world.a_job("k"), reason="new, no watch event", name="new")
        await asyncio.sleep(75)
        assert {job for _, job, _ in world.batch.terminations} == {"j", "k"}
        assert world.controller.resync.watch_lags_since is not None
        assert world.objects.status(new).phase == "Terminating"
        world.objects.notify = world.controller.objects.on_upsert
        await asyncio.sleep(20)
        assert world.controller.resync.watch_lags_since is not None, "nothing shows that the watch works again"
        for late in (uid, new):
            world.controller.objects.on_upsert(world.objects.snapshot(late))
        assert world.controller.resync.watch_lags_since is None


@pytest.mark.parametrize("edit", ["delete", "withdraw", "reword"])
async def test_after_an_outage_no_termination_is_sent_before_a_list_has_succeeded(edit: str) -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.away = True
        world.controller.resync.doubt()
        world.objects.edit(uid, {"terminate": {"reason": "old words"}})
        world.objects.notify = lambda _: None
        match edit:
            case "delete":
                del world.objects.bodies[uid]
            case "withdraw":
                world.objects.edit(uid, {"terminate": None})
            case "reword":
                world.objects.edit(uid, {"terminate": {"reason": "new words"}})
        await asyncio.sleep(1)
        world.objects.away = False
        await asyncio.sleep(6)
        sent = [reason for _, _, reason in world.batch.terminations]
        assert sent == (["new words"] if edit == "reword" else [])


async def test_terminations_are_held_until_the_list_and_the_reads_succeed() -> None:
    async with World().running() as world:
        uid, other = world.an_object(world.a_job("j")), world.an_object(world.a_job("k"))
        await asyncio.sleep(5)
        world.batch.turns.clear()
        world.objects.edit(other, {"terminate": {"reason": "stop"}})
        await asyncio.sleep(1)
        world.objects.away = True
        world.controller.resync.doubt()
        world.batch.turns.set()
        await asyncio.sleep(1)
        world.objects.edit(uid, {"terminate": {"reason": "stop"}})
        await asyncio.sleep(20)
        assert world.batch.terminations == []
        wanted = world.controller.cache.objects[uid].record.status
        assert [one.reason for one in wanted.conditions if one.type == "Reconciling"] == ["TerminationHeld"]
        world.objects.away = False
        await asyncio.sleep(6)
        assert {job for _, job, _ in world.batch.terminations} == {"j", "k"}


async def test_a_process_that_was_frozen_lists_before_it_terminates() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        assert world.controller.beat_at is not None
        world.controller.beat_at -= FROZEN_AFTER
        world.objects.away = True
        await asyncio.sleep(2)
        assert world.controller.cache.in_doubt_since is not None
        world.objects.away = False
        await asyncio.sleep(6)
        assert world.controller.cache.in_doubt_since is None


async def test_a_watch_that_lags_and_delivers_nothing_is_restarted_once_in_half_a_minute() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.notify = lambda _: None
        world.objects.edit(uid, {"terminate": {"reason": "no watch event"}})
        await asyncio.sleep(125)
        assert world.restarts == pytest.approx([1_090, 1_120], abs=6)
        # A restarted watch lists everything.
        world.controller.objects.on_upsert(world.objects.snapshot(uid))
        assert world.controller.resync.watch_lags_since is None
        world.objects.notify = world.controller.objects.on_upsert
        await asyncio.sleep(600)
        assert len(world.restarts) == 2


async def test_a_watch_that_lags_and_delivers_is_not_restarted() -> None:
    async with World().running() as world:
        late, other = world.an_object(world.a_job("j")), world.an_object(world.a_job("k"))
        await asyncio.sleep(5)
        world.objects.notify = lambda _: None
        world.objects.edit(late, {"terminate": {"reason": "late"}})
        for _ in range(20):
            await asyncio.sleep(20)
            world.controller.objects.on_upsert(world.objects.snapshot(other))
        assert world.controller.resync.watch_lags_since is not None
        assert world.restarts == []


async def test_an_object_that_cannot_be_read_at_the_start_holds_up_no_other() -> None:
    world = World()
    world.objects.notify = lambda _: None
    uids = [world.an_object(world.a_job(f"j{n}"), reason="stop", name=f"j{n}") for n in range(20)]
    world.objects.unreadable = {"j7"}
    async with world.running():
        await asyncio.sleep(30)
        resync = world.controller.resync
        assert resync.synced.is_set()
        assert len(world.batch.terminations) == 19
        assert resync.watch_lags_since == pytest.approx(1_015, abs=1), "readiness reports it"
        world.objects.unreadable.clear()
        await asyncio.sleep(7)
        assert world.controller.cache.objects.keys() == set(uids)
        assert len(world.batch.terminations) == 20


async def test_the_first_list_waits_for_a_watch_that_delivers_but_not_for_one_that_stopped() -> None:
    world = World()
    world.objects.notify = lambda _: None
    uids = [world.an_object(world.a_job(f"j{n}"), name=f"j{n}") for n in range(20)]
    async with world.running():
        # The first object was deleted meanwhile: the watch never delivers it.
        for uid in uids[1:11]:
            await asyncio.sleep(WATCH_LAG - 1)
            world.controller.objects.on_upsert(world.objects.snapshot(uid))
            assert len(world.objects.reads) == 0
        assert not world.controller.resync.synced.is_set()
        await asyncio.sleep(WATCH_LAG + 1)
        assert world.controller.resync.synced.is_set()
        assert set(world.objects.reads) == {"j0", *(f"j{n}" for n in range(11, 20))}


async def test_a_doubt_during_the_first_list_holds_terminations_until_a_list_and_not_until_all_are_known() -> None:
    world = World()
    world.objects.notify = lambda _: None
    uids = [world.an_object(world.a_job(f"j{n}"), name=f"j{n}") for n in range(100)]
    async with world.running():
        for number, uid in enumerate(uids):
            await asyncio.sleep(1)
            world.controller.objects.on_upsert(world.objects.snapshot(uid))
            if number == 20:
                world.objects.edit(uids[0], {"terminate": {"reason": "old words"}})
                world.controller.objects.on_upsert(world.objects.snapshot(uids[0]))
                world.objects.edit(uids[0], {"terminate": {"reason": "new words"}})
                world.controller.resync.doubt()
            if number == 25:
                assert _sent(world) == {"j0": ["new words"]}
                assert set(world.objects.reads) == {"j0"}, "the watch delivers the others"
            assert not world.controller.resync.synced.is_set()
        await asyncio.sleep(5)
        assert world.controller.resync.synced.is_set()
        assert set(world.objects.reads) == {"j0"}


async def test_a_list_of_many_pauses_unless_terminations_wait_for_it() -> None:
    async with World().running() as world:
        for n in range(2 * resync._A_PAUSE_EVERY):
            world.an_object(world.a_job(f"j{n}"), name=f"j{n}")
        await asyncio.sleep(1)
        clock, lists = asyncio.get_running_loop().time, world.controller.resync
        for in_doubt in (False, True):
            if in_doubt:
                lists.doubt()
            began = clock()
            await lists.once()
            assert (clock() - began >= 2 * resync._PAUSE) is not in_doubt


@pytest.mark.parametrize("found_by", ["read", "watch", "deletion"])
async def test_after_an_outage_only_an_object_that_cannot_be_read_is_held(found_by: str) -> None:
    async with World().running() as world:
        uid, other = world.an_object(world.a_job("j"), name="one"), world.an_object(world.a_job("k"))
        await asyncio.sleep(5)
        world.objects.notify = lambda _: None
        world.objects.away, world.objects.unreadable = True, {"one"}
        world.controller.resync.doubt()
        world.objects.edit(uid, {"terminate": {"reason": "old words"}})
        world.controller.objects.on_upsert(world.objects.snapshot(uid))
        world.objects.edit(uid, {"terminate": {"reason": "new words"}})
        world.objects.edit(other, {"terminate": {"reason": "stop"}})
        world.objects.away = False
        await asyncio.sleep(60)
        assert _sent(world) == {"k": ["stop"]}
        held = world.controller.cache.objects[uid].record.status
        assert [one.reason for one in held.conditions if one.type == "Reconciling"] == ["TerminationHeld"]
        match found_by:
            case "read":
                world.objects.unreadable.clear()
            case "watch":
                world.controller.objects.on_upsert(world.objects.snapshot(uid))
            case "deletion":
                world.controller.objects.on_delete(uid)
        await asyncio.sleep(7)
        words = {} if found_by == "deletion" else {"j": ["new words"]}
        assert _sent(world) == {"k": ["stop"], **words}
        assert world.controller.cache.unconfirmed == {}


async def test_a_list_counts_although_versions_went_backwards() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        world.objects.version = 0
        world.objects.notify = lambda _: None
        world.objects.edit(uid, {"terminate": {"reason": "after the restore"}})
        world.objects.notify = world.controller.objects.on_upsert
        await asyncio.sleep(75)
        assert [job for _, job, _ in world.batch.terminations] == ["j"]
        assert world.objects.status(uid).phase == "Terminating"
        writes = len(world.objects.writes)
        await asyncio.sleep(60)
        assert len(world.objects.writes) - writes <= 2


async def test_a_status_that_conflicts_again_and_again_backs_off() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j"))
        await asyncio.sleep(5)
        conflicts = world.telemetry.writes["conflict"]
        notify, world.objects.notify = world.objects.notify, lambda _: None
        world.objects.on_read = lambda _: world.objects.write_foreign_status(uid, {"phase": "Unknown"}, silent=True)
        world.objects.write_foreign_status(uid, {"phase": "Unknown"}, silent=True)
        world.objects.edit(uid, {"terminate": {"reason": "stop"}})
        notify(world.objects.snapshot(uid))
        world.objects.write_foreign_status(uid, {"phase": "Unknown"}, silent=True)
        await asyncio.sleep(60)
        assert world.telemetry.writes["conflict"] - conflicts < 40


def _sent(world: World) -> dict[str, list[str]]:
    sent: dict[str, list[str]] = {}
    for _, job, reason in world.batch.terminations:
        sent.setdefault(job, []).append(reason)
    return sent
