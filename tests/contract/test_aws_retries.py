"""Which calls botocore repeats by itself, counted by the simulated Batch: with the very settings of the operator."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from awsbatch_operator.aws import AwsBatch
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Job, Place
from awsbatch_operator.domain.ports import Sight
from awsbatch_sandbox.batch import BatchSimulator, serve
from builders import leave_to_end
from fakes.telemetry import FakeTelemetry

HERE = "eu-west-1"
THROTTLES = {
    "throttle_429": "TooManyRequestsException",
    "throttle_400": "ThrottlingException",
    "bare_429": "429",
    "limit_429": "429",
}
MORE_THAN_THE_QUOTA = 120
"""botocore's quota of retries is 500, and one after a throttle costs 5 of it."""


@dataclass
class World:
    simulator: BatchSimulator
    batch: AwsBatch
    telemetry: FakeTelemetry
    job_id: str

    async def look(self) -> Any:
        look = (await self.batch.describe(Place(HERE), [self.job_id]))[self.job_id]
        return look.job if isinstance(look, Sight) else look


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "sandbox")
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    simulator, telemetry = BatchSimulator(), FakeTelemetry()
    async with serve(simulator) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        batch = AwsBatch(telemetry=telemetry, describe_rate=1000, terminate_rate=1000)
        yield World(simulator, batch, telemetry, simulator.seed())
        await batch.close()


@pytest.mark.parametrize("kind", THROTTLES)
async def test_a_throttle_costs_the_account_one_request_and_is_counted_by_its_code(world: World, kind: str) -> None:
    world.simulator.fault("*", kind=kind, times=None)
    look = await world.look()
    fault = await world.batch.terminate(leave_to_end(world.job_id), "why")
    assert isinstance(look, Fault)
    assert (look.fate, look) == (Fate.THROTTLED, fault)
    assert world.simulator.counts() == {"DescribeJobs": 1, "TerminateJob": 1}
    code = THROTTLES[kind]
    assert world.telemetry.requests == [("DescribeJobs", code), ("TerminateJob", code)]


async def test_terminations_that_share_a_throttled_call_cost_one_request(world: World) -> None:
    world.simulator.fault("TerminateJobs", kind="throttle_429", times=None)
    keys = [leave_to_end(job_id) for job_id in world.simulator.seed_many(50)]
    faults = await asyncio.gather(*(world.batch.terminate(key, "why") for key in keys))
    assert [fault and fault.fate for fault in faults] == [Fate.THROTTLED] * 50
    assert world.simulator.counts() == {"TerminateJobs": 1}


@pytest.mark.parametrize("kind", ["server_500", "html_502", "empty_503", "reset"])
async def test_a_single_fault_of_server_or_network_is_hidden(world: World, kind: str) -> None:
    world.simulator.fault("DescribeJobs", kind=kind)
    assert isinstance(await world.look(), Job)
    assert world.simulator.counts() == {"DescribeJobs": 2}


async def test_a_throttle_ends_also_a_call_that_is_being_repeated(world: World) -> None:
    for kind in ("server_500", "throttle_429"):
        world.simulator.fault("DescribeJobs", kind=kind)
    look = await world.look()
    assert isinstance(look, Fault)
    assert look.fate is Fate.THROTTLED
    assert world.simulator.counts() == {"DescribeJobs": 2}


async def test_throttles_use_up_no_retries_of_other_faults(world: World) -> None:
    world.simulator.fault("DescribeJobs", kind="throttle_429", times=None)
    await asyncio.gather(*(world.look() for _ in range(MORE_THAN_THE_QUOTA)))
    world.simulator.clear_faults()
    world.simulator.fault("DescribeJobs", kind="reset")
    assert isinstance(await world.look(), Job)
