"""What an unusual load or a hostile namespace must not achieve by BatchTerminations."""

import asyncio

import pytest

from unit.controller.test_bulk import a_world, jobs, phase, sent, spec

pytestmark = pytest.mark.looptime(start=100_000)


@pytest.mark.parametrize("decides", ["selector", "policy"])
async def test_few_tagged_jobs_of_a_large_queue_are_terminated_before_their_tags_lapse(decides: str) -> None:
    """They fill no calls within the 30 s for which tags count; each sweep takes 20 s and more."""
    policy = {"jobs": {"tags": {"run": "42"}}} if decides == "policy" else {}
    async with a_world(**policy) as world:
        world.batch.describe_interval = 2.0
        tagged = jobs(world, 3_000)[::100]
        world.batch.tags = {job: {"run": "42"} for job in tagged}
        select = {"queues": ["gpu"], "jobNames": ["*"], **({"tags": {"run": "42"}} if decides == "selector" else {})}
        uid = world.objects.create_termination("stop", spec(select=select, approved=True))
        await asyncio.sleep(600)
        assert sent(world) == set(tagged)
        assert len(world.batch.terminations) == len(tagged)
        assert phase(world, uid) == "Finished"
