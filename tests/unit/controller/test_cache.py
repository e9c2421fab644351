"""Objects and jobs are found by each other, and counted for the metrics."""

import asyncio
from itertools import product

import pytest

from awsbatch_operator.api.batchjob import ObjectMetricKey, Phase
from awsbatch_operator.api.timestamps import MINUTE
from builders import DENIED
from unit.controller.world import REGION, World, now

SINCE = "2026-11-25T12:00:00Z"

pytestmark = pytest.mark.looptime(start=1_000)


async def test_objects_are_counted_by_namespace_region_and_phase() -> None:
    async with World().running() as world:
        for name in "ab":
            world.an_object(world.a_job(name))
        world.an_object(world.a_job("c", "FAILED", stopped_at=now()))
        world.objects.create("far", {"jobId": "d", "region": "us-east-1"})
        assert world.controller.cache.count_by_key() == {
            ObjectMetricKey("ns", REGION, Phase.UNKNOWN): 3,
            ObjectMetricKey("ns", "us-east-1", Phase.UNKNOWN): 1,
        }
        await asyncio.sleep(1)
        assert world.controller.cache.count_by_key() == {
            ObjectMetricKey("ns", REGION, Phase.RUNNING): 2,
            ObjectMetricKey("ns", REGION, Phase.FAILED): 1,
            ObjectMetricKey("ns", "us-east-1", Phase.UNKNOWN): 1,
        }


async def test_a_stalled_object_is_counted_by_its_reason_for_as_long_as_that_holds() -> None:
    async with World().running() as world:
        uid = world.an_object(world.a_job("j1"))
        await asyncio.sleep(1)
        world.batch.call_errors = [DENIED]
        world.objects.edit(uid, {"terminate": {"reason": "why"}})
        await asyncio.sleep(60)
        assert world.controller.cache.count_by_key() == {
            ObjectMetricKey("ns", REGION, Phase.RUNNING, "AccessDenied"): 1
        }
        await asyncio.sleep(7 * MINUTE / 1000)
        assert world.controller.cache.count_by_key() == {ObjectMetricKey("ns", REGION, Phase.TERMINATING): 1}


async def test_a_termination_is_stuck_after_30_minutes_unless_it_waits_on_dependencies_or_is_of_another() -> None:
    async with World().running() as world:
        world.an_object(world.a_job("hangs"), "why")
        world.an_object(world.a_job("waits", "PENDING"), "why")
        world.an_object(world.a_job("of-another", is_terminated=True))
        await asyncio.sleep(29 * MINUTE / 1000)
        assert world.controller.cache.count_by_key() == {ObjectMetricKey("ns", REGION, Phase.TERMINATING): 3}
        await asyncio.sleep(2 * MINUTE / 1000)
        assert world.controller.cache.count_by_key() == {
            ObjectMetricKey("ns", REGION, Phase.TERMINATING): 2,
            ObjectMetricKey("ns", REGION, Phase.TERMINATING, "TerminationStuck"): 1,
        }
        world.batch.end("hangs", "FAILED", "why", now())
        await asyncio.sleep(60)
        assert world.controller.cache.count_by_key() == {
            ObjectMetricKey("ns", REGION, Phase.TERMINATING): 2,
            ObjectMetricKey("ns", REGION, Phase.TERMINATED): 1,
        }


async def test_a_follower_counts_what_the_statuses_say_but_no_reason_that_it_does_not_know() -> None:
    async with World().running(is_leader=False) as world:
        for name, (status, reason) in enumerate(product(("True", "False"), ("TerminationStuck", "x" * 300))):
            stalled = {
                "type": "Stalled",
                "status": status,
                "reason": reason,
                "message": "",
                "lastTransitionTime": SINCE,
            }
            world.objects.create(str(name), {"jobId": "j"}, {"phase": "Terminating", "conditions": [stalled]})
        assert world.controller.cache.count_by_key() == {
            ObjectMetricKey("ns", REGION, Phase.TERMINATING, "TerminationStuck"): 1,
            ObjectMetricKey("ns", REGION, Phase.TERMINATING): 3,
        }
