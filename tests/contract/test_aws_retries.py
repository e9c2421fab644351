"""Counts in the simulated AWS Batch which calls botocore repeats with the settings of the operator."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import DescribedJob
from awsbatch_operator.api.job import Job
from awsbatch_operator.aws.provider import AwsBatch
from awsbatch_operator.aws.sdk_session import ClientFactory
from awsbatch_sandbox.batch.server import serve
from awsbatch_sandbox.batch.simulator import BatchSimulator
from fakes.aws import OWN, FakePermit, classes, describe, make_batch, terminate
from fakes.telemetry import FakeTelemetry

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

    async def describe(self) -> Any:
        result = (await describe(self.batch, OWN, self.job_id))[self.job_id]
        return result.job if isinstance(result, DescribedJob) else result


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
        batch = make_batch(telemetry=telemetry, make_client=ClientFactory(lambda: True))
        yield World(simulator, batch, telemetry, simulator.seed())
        batch.close()


@pytest.mark.parametrize("kind", THROTTLES)
async def test_a_throttle_costs_the_account_one_request_and_is_counted_by_its_code(world: World, kind: str) -> None:
    world.simulator.fault("*", kind=kind, times=None)
    result = await world.describe()
    (error,) = await terminate(world.batch, FakePermit(world.job_id))
    assert isinstance(result, CallError)
    assert (result.error_class, result) == (ErrorClass.THROTTLED, error)
    assert world.simulator.counts() == {"DescribeJobs": 1, "TerminateJob": 1}
    code = THROTTLES[kind]
    assert world.telemetry.requests == [("DescribeJobs", code), ("TerminateJob", code)]


async def test_terminations_that_share_a_throttled_call_cost_one_request(world: World) -> None:
    world.simulator.fault("TerminateJobs", kind="throttle_429", times=None)
    permits = [FakePermit(job_id) for job_id in world.simulator.seed_many(50)]
    assert classes(await terminate(world.batch, *permits)) == [ErrorClass.THROTTLED] * 50
    assert world.simulator.counts() == {"TerminateJobs": 1}


@pytest.mark.parametrize("kind", ["server_500", "html_502", "empty_503", "reset"])
async def test_a_single_fault_of_server_or_network_is_hidden(world: World, kind: str) -> None:
    world.simulator.fault("DescribeJobs", kind=kind)
    assert isinstance(await world.describe(), Job)
    assert world.simulator.counts() == {"DescribeJobs": 2}


async def test_a_throttle_ends_also_a_call_that_is_being_repeated(world: World) -> None:
    for kind in ("server_500", "throttle_429"):
        world.simulator.fault("DescribeJobs", kind=kind)
    result = await world.describe()
    assert isinstance(result, CallError)
    assert result.error_class is ErrorClass.THROTTLED
    assert world.simulator.counts() == {"DescribeJobs": 2}


async def test_throttles_use_up_no_retries_of_other_faults(world: World) -> None:
    world.simulator.fault("DescribeJobs", kind="throttle_429", times=None)
    await asyncio.gather(*(world.describe() for _ in range(MORE_THAN_THE_QUOTA)))
    world.simulator.clear_faults()
    world.simulator.fault("DescribeJobs", kind="reset")
    assert isinstance(await world.describe(), Job)
