"""Status writes of BatchTerminations: the latest of each, namespaces in turn, until the API server has it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.api.batchtermination import BulkSpec, BulkStatus, parse_termination
from awsbatch_operator.api.job import JobKey, Target
from awsbatch_operator.controller.bulk_cache import LONGEST_RESEND, RESEND_AFTER, RecentRequests, TrackedTermination
from awsbatch_operator.controller.bulk_writer import INTERVAL, BulkStatusWriter
from awsbatch_operator.reconcile.bulk_status import Progress
from fakes.objects import FakeObjects
from fakes.telemetry import FakeTelemetry

pytestmark = pytest.mark.looptime(start=1_000)

SPEC = {
    "region": "eu-west-1",
    "select": {"queues": ["gpu"], "jobNames": ["*"]},
    "createdBefore": "1970-01-02T03:46:40Z",
    "reason": "INC-4711",
    "maxJobs": 10,
}


class Writing:
    """`set` changes the wanted status of an object, as a sweep does."""

    def __init__(self) -> None:
        self.api, self.telemetry = FakeObjects(), FakeTelemetry()
        self.objects: dict[str, TrackedTermination] = {}
        self.leads = True
        self.writer = BulkStatusWriter(self.objects, self.api, self.telemetry, is_leader=lambda: self.leads)

    def make(self, name: str = "stop", namespace: str = "ns") -> str:
        uid = self.api.create_termination(name, SPEC, namespace)
        snapshot = parse_termination(self.api.bodies[uid])
        assert isinstance(snapshot.spec, BulkSpec)
        self.objects[uid] = TrackedTermination(
            snapshot.ref,
            snapshot.spec,
            snapshot.generation,
            snapshot.created_at,
            snapshot.resource_version,
            snapshot.shown,
            BulkStatus(),
            Progress(snapshot.spec),
        )
        return uid

    def watch(self, uid: str) -> None:
        snapshot = parse_termination(self.api.bodies[uid])
        one = self.objects[uid]
        one.resource_version, one.shown = snapshot.resource_version, snapshot.shown

    def set(self, uid: str, matched: int) -> None:
        self.objects[uid].status = BulkStatus(observed_generation=1, matched=matched)
        self.writer.add(self.objects[uid])

    def matched(self, uid: str) -> int | None:
        return self.api.bulk_status(uid).matched


@asynccontextmanager
async def running() -> AsyncIterator[Writing]:
    writing = Writing()
    task = asyncio.ensure_future(writing.writer.run())
    try:
        yield writing
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


async def test_the_first_status_is_written_at_once_and_then_the_latest_every_second() -> None:
    async with running() as one:
        uid = one.make()
        for number in range(40):
            one.set(uid, number)
            await asyncio.sleep(0.1)
        assert one.api.writes[0][0] == pytest.approx(1_000, abs=0.05)
        gaps = [later[0] - sooner[0] for sooner, later in pairwise(one.api.writes)]
        assert min(gaps) >= INTERVAL
        await asyncio.sleep(5)
        assert (one.matched(uid), len(one.api.writes)) == (39, 5)


async def test_an_unchanged_status_is_not_written() -> None:
    async with running() as one:
        uid = one.make()
        one.set(uid, 7)
        await asyncio.sleep(5)
        one.set(uid, 7)
        await asyncio.sleep(5)
        assert [change for _, _, change in one.api.writes] == [{"observedGeneration": 1, "matched": 7}]


async def test_a_change_during_a_write_is_written_after_it() -> None:
    async with running() as one:
        one.api.latency = 3.0
        uid = one.make()
        one.set(uid, 1)
        await asyncio.sleep(1)
        one.set(uid, 2)
        await asyncio.sleep(10)
        assert one.matched(uid) == 2
        assert one.api.most_at_once == 1


async def test_a_conflict_is_retried_with_the_version_that_the_watch_brings() -> None:
    async with running() as one:
        uid = one.make()
        one.api.edit(uid, {"approved": False})
        with capture_logs() as logs:
            one.set(uid, 7)
            await asyncio.sleep(5)
            assert one.matched(uid) is None
            one.watch(uid)
            await asyncio.sleep(2)
        assert one.matched(uid) == 7
        assert logs == []


@pytest.mark.parametrize(("refused", "tries"), [(False, range(100, 140)), (True, range(8, 14))])
async def test_a_failed_write_is_logged_once_and_retried_ever_more_rarely(refused: bool, tries: range) -> None:
    async with running() as one:
        uid = one.make()
        if refused:
            one.api.refuses = "a webhook denies it"
        one.api.away = not refused
        with capture_logs() as logs:
            one.set(uid, 7)
            await asyncio.sleep(600)
        assert len(logs) == 1
        assert one.telemetry.writes["failed"] in tries
        one.api.refuses, one.api.away = "", False
        await asyncio.sleep(310)
        assert one.matched(uid) == 7


async def test_a_deleted_object_is_not_written_again() -> None:
    async with running() as one:
        uid = one.make()
        del one.api.bodies[uid]
        one.set(uid, 7)
        await asyncio.sleep(60)
        assert one.telemetry.writes == {"gone": 1}


async def test_a_replica_that_does_not_lead_writes_nothing() -> None:
    async with running() as one:
        uid = one.make()
        one.leads = False
        one.set(uid, 7)
        await asyncio.sleep(60)
        assert (one.api.writes, one.telemetry.writes) == ([], {})


async def test_a_namespace_whose_writes_hang_holds_up_no_other() -> None:
    async with running() as one:
        one.api.hanging["bad"] = 30.0
        for number in range(50):
            one.set(one.make(f"bad-{number}", "bad"), 1)
        await asyncio.sleep(100)
        uids = [one.make(f"good-{number}", "good") for number in range(20)]
        began = asyncio.get_running_loop().time()
        for uid in uids:
            one.set(uid, 2)
        while any(one.matched(uid) is None for uid in uids):  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began < 1


async def test_namespaces_take_turns() -> None:
    async with running() as one:
        one.api.latency = 0.5
        for number in range(100):
            one.set(one.make(f"many-{number}", "many"), 1)
        await asyncio.sleep(5)
        uid = one.make("one", "other")
        one.set(uid, 2)
        await asyncio.sleep(1.1)
        assert one.matched(uid) == 2
        assert sum(status.matched == 1 for status in map(one.api.bulk_status, one.objects)) < 50


async def test_recent_requests_lapse_after_a_minute_and_double_with_each_request() -> None:
    recent = RecentRequests(asyncio.get_running_loop().time)
    job, other = JobKey(Target("eu-west-1"), "j"), JobKey(Target("us-east-1"), "j")
    assert job not in recent
    for wait in (RESEND_AFTER, 2 * RESEND_AFTER, 4 * RESEND_AFTER):
        recent.add(job)
        await asyncio.sleep(wait - 0.1)
        recent.prune()
        assert job in recent
        assert other not in recent
        await asyncio.sleep(0.2)
        assert job not in recent
    await asyncio.sleep(2 * LONGEST_RESEND)
    recent.prune()
    recent.add(job)
    await asyncio.sleep(RESEND_AFTER + 0.1)
    assert job not in recent
