"""Lists that stand for polls: when they pay, what they delay and hasten, and that they never decide anything."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.conditions import STALLED
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.interfaces import JobPage
from awsbatch_operator.api.job import Array, Target
from awsbatch_operator.controller.list_poller import MOST_LISTS
from awsbatch_operator.policy.resolution import Mode
from builders import CREDENTIALS, DENIED, REJECTED, THROTTLED, UNAVAILABLE
from fakes.batch import FakeProvider
from unit.controller.world import REGION, World
from unit.policy.policies import a_policy

pytestmark = pytest.mark.looptime(start=1_000)

QUEUE = "arn:aws:batch:eu-west-1:111122223333:job-queue/night"
URL = "https://sqs.eu-west-1.amazonaws.com/111122223333/events"
RUNNING, PENDING, WITH_EVENTS = 30, 60, 300
"""Seconds between two polls of a job."""
SETTLED = 4 * RUNNING
"""Seconds until lists have begun to stand for polls."""


def fill(world: World, count: int, status: str = "RUNNING", **job: Any) -> list[str]:
    """Job ids, each with an object `for-<id>`."""
    job = {"queue": QUEUE, "started_at": 900_000 if status == "RUNNING" else None, **job}
    ids = [f"{status.lower()}-{number}" for number in range(count)]
    for job_id in ids:
        world.an_object(world.a_job(job_id, status, **job))
    return ids


def add_foreign(world: World, count: int) -> None:
    """Jobs of the queue that no object names."""
    for number in range(count):
        world.a_job(f"foreign-{number}", queue=QUEUE)


class Calls:
    """The calls since the last `since_now`."""

    def __init__(self, world: World) -> None:
        self._batch = world.batch
        self.since_now()

    def since_now(self) -> None:
        self._described, self._listed = len(self._batch.describes), len(self._batch.lists)

    @property
    def described(self) -> list[str]:
        return [job_id for _, ids in self._batch.describes[self._described :] for job_id in ids]

    @property
    def describes(self) -> int:
        return len(self._batch.describes) - self._described

    @property
    def lists(self) -> int:
        return len(self._batch.lists) - self._listed


# -- when lists pay ---------------------------------------------------------------------------------------------------


async def test_two_thousand_quiet_jobs_of_one_queue_cost_a_quarter_of_the_calls() -> None:
    async with World().running() as world:
        fill(world, 2_000)
        await asyncio.sleep(SETTLED)
        calls = Calls(world)
        await asyncio.sleep(10 * RUNNING)
        assert calls.lists == pytest.approx(20, abs=2)
        assert calls.describes <= 26, "a tenth of the jobs in each round"
        assert calls.lists + calls.describes <= 10 * 20 / 4
        assert len(set(calls.described)) > 1_800
        assert len(world.objects.writes) == 2_000, "a list writes nothing"
        assert world.controller.lists.listed() == {("", REGION): pytest.approx(1_800, abs=60)}


async def test_so_few_jobs_that_lists_save_nothing_are_never_listed() -> None:
    async with World().running() as world:
        fill(world, 199)
        await asyncio.sleep(600)
        assert world.batch.lists == []


@pytest.mark.parametrize(
    ("suffix", "job", "spec"),
    [
        ("", {"status": "PENDING", "array": Array(size=2)}, {}),
        (":0", {}, {}),
        ("#1", {}, {}),
        ("", {"is_cancelled": True}, {}),
        ("", {"status": "SUCCEEDED"}, {}),
        ("", {}, {"terminate": {"reason": "why"}}),
    ],
)
async def test_jobs_of_which_a_list_shows_too_little_are_never_listed(
    suffix: str, job: dict[str, Any], spec: dict[str, Any]
) -> None:
    async with World(mode=Mode.OPTIONAL).running() as world:
        # Terminations are held.
        world.set_policies(a_policy(jobs={"queues": ["*"]}, suspend=True), ns={"team": "a"})
        for number in range(250):
            job_id = world.a_job(f"job-{number}{suffix}", **{"status": "RUNNING", "queue": QUEUE, **job})
            world.objects.create(f"of-{number}", {"jobId": job_id, **spec})
        await asyncio.sleep(400)
        assert world.batch.lists == []


async def test_a_queue_with_many_jobs_of_others_is_given_up_and_the_cost_is_bounded() -> None:
    async with World().running() as world:
        world.batch.jobs_per_page = 50
        add_foreign(world, 1_000)
        fill(world, 200)
        await asyncio.sleep(PENDING)
        calls = Calls(world)
        await asyncio.sleep(80 * 60)
        assert calls.lists == 3, "one page after 10, 20 and 40 minutes"
        assert calls.describes == pytest.approx(80 * 60 / RUNNING * 2, rel=0.1), "polled as if there were no lists"


async def test_a_queue_that_was_given_up_is_tried_again_once_twice_as_many_pages_pay() -> None:
    async with World().running() as world:
        add_foreign(world, 1_500)
        fill(world, 300)
        await asyncio.sleep(SETTLED)
        calls = Calls(world)
        await asyncio.sleep(SETTLED)
        assert calls.lists == 0, "two pages, of which one would pay"
        for number in range(300):
            world.an_object(world.a_job(f"more-{number}", queue=QUEUE, started_at=900_000))
        await asyncio.sleep(SETTLED)
        assert calls.lists >= 9


async def test_lists_that_show_no_start_of_a_job_are_given_up() -> None:
    async with World().running() as world:
        world.batch.on_list = lambda page: JobPage(tuple(one.replace(started_at=None) for one in page.jobs))
        fill(world, 200)
        await asyncio.sleep(SETTLED)
        calls = Calls(world)
        await asyncio.sleep(900)
        assert calls.lists <= 1
        assert calls.describes == pytest.approx(900 / RUNNING * 2, rel=0.1)


# -- what they delay and hasten ---------------------------------------------------------------------------------------


async def test_each_job_is_described_after_nine_lists_at_the_latest() -> None:
    async with World().running() as world:
        ids = fill(world, 250)
        await asyncio.sleep(SETTLED)
        for _ in range(3):
            calls = Calls(world)
            await asyncio.sleep((MOST_LISTS + 2) * RUNNING)
            assert set(calls.described) == {*ids}


async def test_without_further_lists_jobs_are_polled_again_after_two_periods() -> None:
    async with World().running() as world:
        ids = fill(world, 200)
        await asyncio.sleep(SETTLED)
        world.batch.list_errors += [UNAVAILABLE] * 1_000
        calls = Calls(world)
        await asyncio.sleep(2 * RUNNING + 5)
        assert set(calls.described) == {*ids}
        calls.since_now()
        await asyncio.sleep(300)
        assert calls.describes == pytest.approx(300 / RUNNING * 2, rel=0.15)


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        ({"status": "SUCCEEDED", "stopped_at": 1_100_000}, Phase.SUCCEEDED),
        ({"status": "RUNNABLE", "started_at": None}, Phase.PENDING),
        ({"started_at": 1_100_000}, Phase.RUNNING),
        ({"status_reason": "Host EC2 terminated."}, Phase.RUNNING),
        ({"is_terminated": True}, Phase.TERMINATING),
    ],
)
async def test_a_change_is_reported_within_one_period(change: dict[str, Any], phase: Phase) -> None:
    async with World().running() as world:
        fill(world, 250)
        await asyncio.sleep(SETTLED)
        world.batch.jobs["running-7"] = changed = world.batch.jobs["running-7"].replace(**change)
        await asyncio.sleep(RUNNING + 1)
        status = world.objects.status("uid-for-running-7")
        assert (status.phase, status.job) == (phase, changed)


async def test_a_job_that_a_complete_list_lacks_is_described_and_stays_as_it_is() -> None:
    async with World().running() as world:
        fill(world, 250)
        await asyncio.sleep(SETTLED)
        world.batch.not_listed = {"running-7"}
        calls, writes = Calls(world), len(world.objects.writes)
        await asyncio.sleep(10 * RUNNING)
        assert calls.described.count("running-7") >= 10
        assert len(world.objects.writes) == writes
        assert calls.lists == pytest.approx(10, abs=1)


class SlowLists(FakeProvider):
    """An answer is what the queue was ten seconds ago."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited: dict[str, asyncio.Event] = {}

    async def began(self, status: str) -> None:
        """Wait until a list of that status has begun."""
        self.awaited[status] = asyncio.Event()
        await self.awaited[status].wait()

    async def list_jobs(self, target: Target, queue: str, status: str, token: str | None) -> JobPage | CallError:
        if token is None and status in self.awaited:
            self.awaited[status].set()
        answer = await super().list_jobs(target, queue, status, token)
        await asyncio.sleep(10)
        return answer


async def test_a_describe_after_the_list_request_is_newer_than_the_list() -> None:
    batch = SlowLists()
    async with World(batch).running() as world:
        fill(world, 250, "RUNNABLE")
        fill(world, 250)
        await asyncio.sleep(SETTLED)
        await batch.began("RUNNABLE")
        await asyncio.sleep(0.1)
        # Each is described for its second object: the list that shows it otherwise, or lacks it, is older.
        changes: dict[str, dict[str, Any]] = {
            "runnable-1": {"status_reason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"},
            "runnable-2": {"status": "STARTING"},
            "running-3": {"status": "RUNNABLE", "started_at": None},
        }
        for job_id, change in changes.items():
            world.batch.jobs[job_id] = world.batch.jobs[job_id].replace(**change)
            world.an_object(job_id, name=f"second-{job_id}", namespace="other")
        await asyncio.sleep(1)
        calls = Calls(world)
        await asyncio.sleep(22)
        assert {status for _, _, status, _ in world.batch.lists[-2:]} == {"RUNNABLE", "RUNNING"}
        assert not {"runnable-1", "runnable-2", "running-3"}.intersection(calls.described)


async def test_jobs_in_several_statuses_are_each_listed_at_their_own_interval() -> None:
    async with World().running() as world:
        fill(world, 250)
        fill(world, 250, "RUNNABLE")
        fill(world, 100, "SUBMITTED")
        await asyncio.sleep(SETTLED)
        before = len(world.batch.lists)
        await asyncio.sleep(600)
        statuses = [status for _, _, status, _ in world.batch.lists[before:]]
        assert statuses.count("RUNNING") == pytest.approx(600 / RUNNING, abs=1)
        assert statuses.count("RUNNABLE") == pytest.approx(600 / PENDING, abs=1)
        assert {*statuses} == {"RUNNING", "RUNNABLE"}, "a hundred jobs are one DescribeJobs"


async def test_no_list_stands_for_the_poll_of_an_array_or_of_a_child() -> None:
    async with World().running() as world:
        fill(world, 250, "PENDING")
        parents = [world.a_job(f"array-{n}", "PENDING", queue=QUEUE, array=Array(size=2)) for n in range(3)]
        children = [world.a_job(f"array-{n}:0", "PENDING", queue=QUEUE) for n in range(3)]
        for job_id in (*parents, *children):
            world.an_object(job_id, name=f"of-{job_id.replace(':', '-')}")
        await asyncio.sleep(SETTLED)
        calls = Calls(world)
        await asyncio.sleep(600)
        assert calls.lists > 0
        for job_id in (*parents, *children):
            assert calls.described.count(job_id) >= 600 / PENDING - 1


async def test_objects_of_several_namespaces_that_name_one_job_are_delayed_together() -> None:
    async with World().running() as world:
        ids = fill(world, 250)
        for job_id in ids[:125]:
            world.an_object(job_id, name=f"second-{job_id}", namespace="other")
        await asyncio.sleep(SETTLED)
        calls = Calls(world)
        await asyncio.sleep(10 * RUNNING)
        assert len(calls.described) == pytest.approx(len(ids), rel=0.2)
        assert world.controller.lists.listed() == {("", REGION): pytest.approx(337, abs=40)}
        world.batch.end("running-7", "SUCCEEDED")
        await asyncio.sleep(RUNNING + 1)
        for uid in ("uid-for-running-7", "uid-other-second-running-7"):
            assert world.objects.status(uid).phase is Phase.SUCCEEDED


async def test_a_job_that_is_terminated_is_polled_as_if_there_were_no_lists() -> None:
    async with World().running() as world:
        fill(world, 250)
        await asyncio.sleep(SETTLED)
        world.batch.shows_flag = False
        world.objects.edit("uid-for-running-7", {"terminate": {"reason": "why"}})
        await asyncio.sleep(1)
        assert [job_id for _, job_id, _ in world.batch.terminations] == ["running-7"]
        calls = Calls(world)
        await asyncio.sleep(16)
        assert calls.described.count("running-7") == 4, "1, 2, 4 and 8 seconds after"


async def test_an_edit_that_states_nothing_new_does_not_bring_the_poll_forward() -> None:
    async with World().running() as world:
        ids = fill(world, 250)
        await asyncio.sleep(SETTLED + 5 * RUNNING)
        calls = Calls(world)
        for job_id in ids:
            world.objects.edit(f"uid-for-{job_id}", {})
        await asyncio.sleep(5)
        assert len(calls.described) < 40


# -- with events ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_world_with_events() -> AsyncIterator[World]:
    world = World(events_queues=(URL,))
    world.batch.accounts[Target(REGION)] = "111122223333"
    world.events.returns_to = URL
    async with world.running():
        fill(world, 250)
        await asyncio.sleep(2 * WITH_EVENTS)
        yield world


async def test_while_events_arrive_lists_are_as_far_apart_as_polls() -> None:
    async with a_world_with_events() as world:
        calls = Calls(world)
        await asyncio.sleep(9 * WITH_EVENTS)
        assert calls.lists == pytest.approx(9, abs=1)
        assert len(calls.described) == pytest.approx(250 * 9 / 3, rel=0.2), "at most 10 minutes of lists"


async def test_a_list_does_not_delay_the_polls_that_follow_an_event() -> None:
    async with a_world_with_events() as world:
        last = world.batch.lists[-1][0]
        await asyncio.sleep(last + WITH_EVENTS - 5 - asyncio.get_running_loop().time())
        calls = Calls(world)
        world.events.send(URL, "running-7")
        await asyncio.sleep(20)
        assert calls.lists == 1, "in the middle of them"
        assert calls.described.count("running-7") == 5, "at once, then after 1, 2, 4 and 8 seconds"


# -- lists that fail --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "tries"), [(DENIED, 3), (CREDENTIALS, 3), (REJECTED, 2), (THROTTLED, 6), (UNAVAILABLE, 6)]
)
async def test_after_an_error_jobs_are_polled_as_usual_and_lists_pause(error: CallError, tries: int) -> None:
    async with World().running() as world:
        world.batch.list_errors += [error] * 1_000
        fill(world, 200)
        fill(world, 200, "RUNNABLE")
        await asyncio.sleep(1_500)
        each = 1 if error in (DENIED, CREDENTIALS) else 2
        assert len(world.batch.lists) == each * tries, "the pause doubles; a role is asked once"
        calls = Calls(world)
        await asyncio.sleep(300)
        expected = 300 / RUNNING * 2 + 300 / PENDING * 2
        assert calls.describes == pytest.approx(expected, rel=0.2)
        assert not any(world.objects.status(uid).condition(STALLED) for uid in world.objects.bodies)


async def test_lists_that_are_allowed_again_stand_for_polls_again() -> None:
    async with World().running() as world:
        world.batch.list_errors += [DENIED]
        fill(world, 400)
        await asyncio.sleep(400)
        calls = Calls(world)
        await asyncio.sleep(300)
        assert calls.lists == pytest.approx(10, abs=1)
        assert calls.describes < 300 / RUNNING * 4 / 2


def _made_up(page: JobPage) -> JobPage:
    return JobPage(page.jobs, page.next_token and "made up")


def _same(page: JobPage) -> JobPage:
    return JobPage(page.jobs, f"{Target(REGION)} {QUEUE} RUNNING 0")


def _endless(page: JobPage) -> JobPage:
    """Another token for the first page each time."""
    zeros = "0" * (int(asyncio.get_running_loop().time() * 100) % 4_000 + 1)
    return JobPage(page.jobs, f"{Target(REGION)} {QUEUE} RUNNING {zeros}")


@pytest.mark.parametrize(("lie", "pages"), [(_made_up, 2), (_same, 2), (_endless, 3)])
async def test_pages_that_repeat_or_tokens_that_are_refused_end_the_list(
    lie: Callable[[JobPage], JobPage], pages: int
) -> None:
    async with World().running() as world:
        world.batch.jobs_per_page = 150
        world.batch.on_list = lie
        fill(world, 600)
        await asyncio.sleep(300)
        assert len(world.batch.lists) == pages, "at most as many as pay"
        calls = Calls(world)
        await asyncio.sleep(90)
        assert len(calls.described) == pytest.approx(1_800, rel=0.1)


# -- who lists --------------------------------------------------------------------------------------------------------


async def test_a_follower_lists_nothing_and_a_leader_stops_at_once() -> None:
    async with World().running(is_leader=False) as world:
        fill(world, 250)
        await asyncio.sleep(600)
        assert world.batch.lists == []
        await world.controller.on_started_leading()
        await asyncio.sleep(SETTLED)
        assert world.batch.lists
        world.controller.on_stopped_leading()
        calls = Calls(world)
        await asyncio.sleep(600)
        assert (calls.lists, calls.describes, world.controller.lists.listed()) == (0, 0, {})


async def test_a_list_ends_with_the_lead() -> None:
    batch = SlowLists()
    async with World(batch).running() as world:
        batch.jobs_per_page = 150
        fill(world, 600)
        await asyncio.sleep(SETTLED)
        await batch.began("RUNNING")
        await asyncio.sleep(0.1)
        world.controller.on_stopped_leading()
        calls = Calls(world)
        await asyncio.sleep(60)
        assert calls.lists == 0


async def test_each_policy_lists_with_its_own_role_and_in_its_own_slot() -> None:
    async with World(mode=Mode.REQUIRED).running() as world:
        roles = {team: f"arn:aws:iam::{team * 12}:role/batch" for team in ("1", "2")}
        world.set_policies(
            *(
                a_policy(
                    f"team-{team}",
                    namespaceSelector={"matchLabels": {"team": team}},
                    jobs={"queues": ["*"]},
                    role={"arn": arn},
                )
                for team, arn in roles.items()
            ),
            **{f"ns-{team}": {"team": team} for team in roles},
        )
        for team in roles:
            for number in range(220):
                job_id = world.a_job(f"job-{team}-{number}", queue=QUEUE, started_at=900_000)
                world.an_object(job_id, namespace=f"ns-{team}")
        await asyncio.sleep(SETTLED)
        assert {target.role for target in world.batch.listed_targets} == {*roles.values()}
        assert ("describe", True) in world.batch.slots, "a list that takes long must not delay DescribeJobs"
        world.batch.target_errors = {next(iter(world.batch.listed_targets)): DENIED}
        calls = Calls(world)
        await asyncio.sleep(300)
        assert calls.lists == pytest.approx(300 / RUNNING + 1, abs=1), "only the other role lists on"


async def test_first_polls_go_before_lists() -> None:
    async with World().running() as world:
        fill(world, 250)
        await asyncio.sleep(SETTLED)
        world.batch.describe_interval = 5
        for number in range(1_500):
            world.an_object(world.a_job(f"new-{number}"))
        calls = Calls(world)
        await asyncio.sleep(70)
        assert calls.lists <= 1
        assert calls.describes >= 13
