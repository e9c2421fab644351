"""A replica that may not act any more sends nothing, however far its call had come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore.config import Config

from awsbatch_operator.aws.batch import AwsBatch
from awsbatch_operator.aws.clients import BatchClient
from awsbatch_operator.aws.keyring import PickKey
from awsbatch_operator.aws.sessions import CONFIG, Connector
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Place
from awsbatch_operator.domain.ports import Look
from builders import leave_to_end
from fakes.telemetry import FakeTelemetry

HERE = "eu-west-1"
BURST = 10
QUICK = CONFIG.merge(Config(connect_timeout=0.5, read_timeout=0.5))


class Server:
    """Takes each request instead of AWS: keeps its body and answers `{}`.

    With `fails` it answers 500, which botocore tries again, and by then the replica acts no more.
    """

    def __init__(self) -> None:
        self.acting, self.fails = True, False
        self.requests: list[bytes] = []

    def connect(self, key: PickKey | None) -> Any:
        make = Connector(QUICK, lambda: self.acting)(key)

        def wired(region: str) -> BatchClient:
            client: Any = make(region)
            client.meta.events.register_last("before-send.batch", self._serve)
            return client  # type: ignore[no-any-return]

        return wired

    def _serve(self, request: Any, **_: Any) -> Any:
        self.requests.append(request.body.read())
        self.acting = not self.fails
        return _Answer(500 if self.fails else 200)


class _Answer:
    def __init__(self, status_code: int) -> None:
        self.status_code, self.headers, self.content = status_code, dict[str, str](), b"{}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "sandbox")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sandbox")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Server()


@pytest.fixture
async def batch(server: Server) -> AsyncIterator[AwsBatch]:
    batch = AwsBatch(telemetry=FakeTelemetry(), terminate_rate=1000, connect=server.connect)
    yield batch
    await batch.close()


def refused(answer: Look | Fault | None) -> bool:
    return isinstance(answer, Fault) and answer.fate is Fate.UNAVAILABLE and "does not hold the Lease" in answer.message


async def test_a_termination_is_refused(server: Server, batch: AwsBatch) -> None:
    assert await batch.terminate(leave_to_end("j1"), "why") is None
    assert len(server.requests) == 1
    server.acting = False
    assert refused(await batch.terminate(leave_to_end("j2"), "why"))
    assert len(server.requests) == 1


async def test_a_look_is_refused(server: Server, batch: AwsBatch) -> None:
    server.acting = False
    looks = await batch.describe(Place(HERE), ["j1", "j2"])
    assert [refused(look) for look in looks.values()] == [True, True]
    assert server.requests == []


async def test_terminations_that_share_a_call_are_refused_together(server: Server, batch: AwsBatch) -> None:
    server.acting = False
    faults = await asyncio.gather(*(batch.terminate(leave_to_end(f"j{n}"), "why") for n in range(5)))
    assert all(map(refused, faults))
    assert server.requests == []


@pytest.mark.looptime(start=0)
async def test_what_waits_for_budget_is_refused_when_its_turn_comes(server: Server) -> None:
    batch = AwsBatch(telemetry=FakeTelemetry(), terminate_rate=0.01, connect=server.connect)
    for n in range(BURST):
        assert await batch.terminate(leave_to_end(f"j{n}"), f"reason {n}") is None
    waiting = asyncio.ensure_future(batch.terminate(leave_to_end("late"), "why"))
    await asyncio.sleep(50)
    assert not waiting.done()
    server.acting = False
    assert refused(await waiting)
    assert len(server.requests) == BURST
    await batch.close()


async def test_botocore_does_not_try_again_for_a_replica_that_stopped_to_act(server: Server, batch: AwsBatch) -> None:
    server.fails = True
    assert refused(await batch.terminate(leave_to_end("j1"), "why"))
    assert len(server.requests) == 1
