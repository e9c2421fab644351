"""What an unusual load or a hostile namespace must not achieve by BatchTerminations."""

import asyncio

import pytest

from awsbatch_operator.api.interfaces import JobPage
from awsbatch_operator.api.job import Target
from fakes.aws import OWN, make_batch
from unit.controller.test_bulk import FULL, THROTTLED, a_world, jobs, phase, sent, spec
from unit.controller.world import REGION
from unit.policy.policies import a_policy

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


@pytest.mark.parametrize("kind", ["describe", "terminate"])
async def test_calls_of_a_sweep_that_take_long_leave_the_threads_of_other_calls_alone(kind: str) -> None:
    """A TerminateJobs for 50 jobs takes long in AWS Batch; a single TerminateJob at the same time must not wait."""
    batch = make_batch(make_client=lambda _kind, _region: None, monotonic=asyncio.get_running_loop().time)
    slot = getattr(batch, f"{kind}_slot")
    for bulk in (True, False):
        async with slot(OWN, bulk=bulk):
            pass

    async def sweep() -> None:
        async with slot(OWN, bulk=True):
            await asyncio.sleep(60)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(sweep())
        await asyncio.sleep(30)
        async with asyncio.timeout(0.1), slot(OWN):
            pass
    batch.close()


async def test_all_calls_of_a_sweep_use_the_slots_of_sweeps() -> None:
    async with a_world() as world:
        world.batch.tags = {job: {"run": "42"} for job in jobs(world, 3)}
        select = {"queues": ["gpu"], "tags": {"run": "42"}}
        world.objects.create_termination("stop", spec(select=select, approved=True))
        await asyncio.sleep(60)
        assert len(sent(world)) == 3
        assert world.batch.slots == {("urgent describe", True), ("terminate", True)}


async def test_a_page_that_names_a_job_twice_has_it_described_and_terminated_once() -> None:
    async with a_world() as world:
        world.batch.tags = {job: {"run": "42"} for job in jobs(world, 150)}
        world.batch.on_list = lambda page: JobPage(page.jobs * 2, page.next_token)
        select = {"queues": ["gpu"], "tags": {"run": "42"}}
        uid = world.objects.create_termination("stop", spec(select=select, maxJobs=150, approved=True))
        await asyncio.sleep(60)
        # The fake accepts only distinct ids in one DescribeJobs, as AWS Batch gets them.
        assert len(world.batch.terminations) == len(sent(world)) == 150
        assert phase(world, uid) == "Finished"


async def test_a_region_that_throttles_everything_does_not_hold_up_the_objects_of_another() -> None:
    async with a_world(regions=[REGION, "us-east-1"]) as world:
        jobs(world, 3)
        world.batch.target_errors[Target("us-east-1")] = THROTTLED
        for number in range(3):
            world.objects.create_termination(f"away-{number}", spec(region="us-east-1"))
        await asyncio.sleep(60)
        world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(5)
        assert len(sent(world)) == 3


@pytest.mark.parametrize("most", [1, 1000])
async def test_policies_of_others_that_change_cause_no_sweep(most: int) -> None:
    """Neither of an object that awaits its approval, nor of one of which too many jobs match."""
    async with a_world() as world:
        jobs(world, 3)
        world.objects.create_termination("stop", spec(maxJobs=most, approved=most == 1))
        await asyncio.sleep(5)
        own = a_policy(jobs={"queues": ["*"]}, allow=FULL)
        for number in range(100):
            other = a_policy("other", namespaceSelector={"matchLabels": {"team": f"team-{number}"}})
            world.set_policies(own, other, ns={"team": "a"})
            await asyncio.sleep(1)
        assert len(world.batch.lists) == 5


ARN = "arn:aws:batch:eu-west-1:111122223333:job-queue/"


@pytest.mark.parametrize(
    ("patterns", "listed"),
    [
        (["team-a-*"], {"team-a-gpu"}),
        ([ARN + "team-a-*"], {"team-a-gpu"}),
        (["arn:*:batch:*:*:job-queue/*"], {"team-a-gpu", "team-b-gpu", "none"}),
        (["arn:*:batch:*:*:job-queue/*gpu"], {"team-a-gpu", "team-b-gpu"}),
        (["*"], {"team-a-gpu", "team-b-gpu", "none"}),
    ],
)
async def test_whether_a_queue_exists_is_not_told_to_those_who_may_not_see_its_jobs(
    patterns: list[str], listed: set[str]
) -> None:
    async with a_world(jobs={"queues": patterns}) as world:
        if "none" not in listed:
            world.batch.unknown_queues.add("none")
        select = {"queues": ["team-a-gpu", "team-b-gpu", "none"], "jobNames": ["*"]}
        uid = world.objects.create_termination("stop", spec(select=select))
        await asyncio.sleep(5)
        assert {queue for _, queue, _, _ in world.batch.lists} == listed
        assert phase(world, uid) == "AwaitingApproval"
