"""Without leader election, the annotations of the Lease are read regularly."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from awsbatch_operator.kube.client import ApiError
from awsbatch_operator.kube.lease_reader import LeaseReader
from unit.kube.scripted_client import Reply, ScriptedClient, not_found

pytestmark = pytest.mark.looptime

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/lock"
WHY = {"awsbatch.dev/suspend-terminations": "why"}
LEASE: Reply = {"metadata": {"name": "lock", "annotations": WHY}, "spec": {}}


class Reading:
    """A reader, and what it passed on. `reply` is the API server's."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.client = ScriptedClient(lambda *_: self.reply)
        self.reader = LeaseReader(self.client, "ns", "lock")
        self.annotations: list[Mapping[str, str]] = []
        self.reconnected = 0

    def _reconnected(self) -> None:
        self.reconnected += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Reading"]:
        run = asyncio.ensure_future(self.reader.run(self.annotations.append, self._reconnected))
        await asyncio.sleep(0.1)
        yield self
        run.cancel()
        await asyncio.wait([run])


async def test_it_reads_every_two_seconds_and_writes_nothing() -> None:
    async with Reading(not_found("lock")).running() as reading:
        assert reading.annotations == [{}], "a Lease that does not exist suspends nothing"
        assert reading.reader.known.is_set()
        reading.reply = LEASE
        await asyncio.sleep(2)
        assert reading.annotations[-1] == WHY
        reading.reply = {"metadata": {"name": "lock"}, "spec": {}}
        await asyncio.sleep(2)
        assert reading.annotations[-1] == {}
        assert {call[:2] for call in reading.client.calls} == {("get", PATH)}
        assert len(reading.client.calls) == 3


async def test_without_an_answer_it_passes_nothing_on_and_logs_once() -> None:
    with capture_logs() as logs:
        async with Reading(ApiError(500, "broken")).running() as reading:
            await asyncio.sleep(60)
            assert reading.annotations == []
            assert not reading.reader.known.is_set()
            assert reading.reconnected == 0
            reading.reply = LEASE
            await asyncio.sleep(2)
            assert reading.annotations == [WHY]
            assert reading.reconnected == 1
    assert [line["event"] for line in logs] == ["failed to read lease", "lease requests succeed again"]


async def test_an_api_server_that_hangs_is_no_answer() -> None:
    reading = Reading(LEASE)
    reading.client.latency = 60
    with capture_logs() as logs:
        async with reading.running():
            await asyncio.sleep(20)
            assert reading.annotations == []
    assert [line["error"] for line in logs] == ["the Kubernetes API did not answer within 5 s"]


async def test_without_the_permission_it_says_so_and_keeps_what_it_knew() -> None:
    with capture_logs() as logs:
        async with Reading(ApiError(403, "leases is forbidden")).running() as reading:
            assert reading.annotations == [{}]
            assert reading.reader.known.is_set()
            reading.reply = LEASE
            await asyncio.sleep(2)
            reading.reply = ApiError(403, "leases is forbidden")
            await asyncio.sleep(4)
            assert reading.annotations[1:] == [WHY] * 3, "a permission that was removed resumes nothing"
    assert "grant get on leases" in logs[0]["error"]
