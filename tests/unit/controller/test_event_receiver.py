"""Events as hints: which jobs are described when, how long polls wait meanwhile, and what ends that."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from awsbatch_operator.api.access_policy import Policy, Rules
from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.events_queue import EventsQueue
from awsbatch_operator.api.interfaces import EventMessage, EventResult
from awsbatch_operator.api.job import Array, Job, JobKey, Target
from awsbatch_operator.api.label_selector import Selector
from awsbatch_operator.controller.controller import PRUNE_EVERY
from awsbatch_operator.controller.event_receiver import CANARY_INTERVAL
from awsbatch_operator.controller.event_streams import PROOF_COUNTS
from awsbatch_operator.policy.resolution import Mode
from builders import DENIED, THROTTLED, UNAVAILABLE
from fakes.events import FakeEvents
from unit.controller.world import REGION, World

pytestmark = pytest.mark.looptime(start=1_000)

URL = "https://sqs.eu-west-1.amazonaws.com/111122223333/events"
ROLE_URL = "https://sqs.eu-west-1.amazonaws.com/444455556666/events"
ROLE = "arn:aws:iam::444455556666:role/batch"
ACCOUNT = "111122223333"


@asynccontextmanager
async def a_world(*, canaries: bool = True, queues: tuple[str, ...] = (URL,), **more: Any) -> AsyncIterator[World]:
    """A world whose canary events arrive, and with one running job j1 that has been described."""
    world = World(events_queues=queues, **more)
    world.batch.accounts[Target(REGION)] = ACCOUNT
    if canaries:
        world.events.returns_to = URL
    async with world.running():
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(2 * CANARY_INTERVAL + 5)
        yield world


def polls(world: World, job_id: str, since: float) -> list[float]:
    return [at - since for at, ids in world.batch.describes if job_id in ids and at >= since]


def now() -> float:
    return asyncio.get_running_loop().time()


def alive(world: World) -> list[bool]:
    return [*world.controller.events.alive().values()]


def end(world: World, job_id: str = "j1") -> None:
    world.batch.jobs[job_id] = Job("SUCCEEDED", name=job_id)


async def test_a_message_makes_the_job_be_described_now_and_is_deleted() -> None:
    async with a_world() as world:
        end(world)
        world.events.send(URL, "j1", sent_at=int(now() * 1000) - 300)
        await asyncio.sleep(0.3)
        assert world.objects.status("uid-for-j1").phase is Phase.SUCCEEDED
        await asyncio.sleep(30)
        assert world.events.messages[URL] == []
        assert len(world.events.deleted) == sum(world.telemetry.events.values())
        assert world.telemetry.events[EventResult.TRACKED] == 1
        assert world.telemetry.event_delays == [pytest.approx(0.3, abs=0.05)]


async def test_without_a_queue_nothing_is_received_and_no_canary_is_sent() -> None:
    async with a_world(queues=()) as world:
        start = now()
        await asyncio.sleep(600)
        assert world.events.received == []
        assert world.events.canaries == []
        assert alive(world) == []
        assert len(polls(world, "j1", start)) == pytest.approx(20, abs=1)


async def test_while_events_arrive_polls_are_five_minutes_apart() -> None:
    async with a_world() as world:
        start = now()
        await asyncio.sleep(3_000)
        assert alive(world) == [True]
        assert 9 <= len(polls(world, "j1", start)) <= 10
        assert world.telemetry.events.keys() == {EventResult.CANARY}


async def test_a_message_of_a_tracked_job_proves_as_much_as_a_canary() -> None:
    async with a_world(canaries=False) as world:
        assert alive(world) == [False]
        world.events.send(URL, "j1")
        await asyncio.sleep(PROOF_COUNTS - 1)
        assert alive(world) == [True]
        await asyncio.sleep(2)
        assert alive(world) == [False]


@pytest.mark.parametrize("job_id", ["j2", "", "j1 ", "canary-00000000000000000000000000000000"])
async def test_a_message_of_an_unknown_job_changes_nothing_and_proves_nothing(job_id: str) -> None:
    async with a_world(canaries=False) as world:
        start = now()
        world.events.send(URL, job_id)
        await asyncio.sleep(2)
        assert alive(world) == [False]
        assert world.telemetry.events == Counter({EventResult.UNKNOWN: 1})
        assert len(world.events.deleted) == 1
        assert not polls(world, "j1", start)


async def test_a_message_that_names_no_job_is_left_for_the_dead_letter_queue() -> None:
    async with a_world(canaries=False) as world:
        world.events.send(URL, None, "j1", None)
        await asyncio.sleep(30)
        assert world.telemetry.events == Counter({EventResult.UNREADABLE: 2, EventResult.TRACKED: 1})
        assert [receipt.rpartition("-")[2] for receipt in world.events.deleted] == ["j1"]


async def test_a_canary_that_comes_twice_or_late_proves_nothing_again() -> None:
    async with a_world(canaries=False) as world:
        (_, job_id), *_ = world.events.canaries
        world.events.send(URL, job_id)
        await asyncio.sleep(1)
        assert alive(world) == [True]
        world.events.canary_error = DENIED
        await asyncio.sleep(PROOF_COUNTS - 10)
        world.events.send(URL, job_id, *(late for _, late in world.events.canaries))
        await asyncio.sleep(15)
        assert world.telemetry.events[EventResult.CANARY] <= 2
        await asyncio.sleep(PROOF_COUNTS)
        assert alive(world) == [False]


@pytest.mark.parametrize("ends", ["silence", "error"])
async def test_silence_or_an_error_brings_the_normal_polls_back_at_once(ends: str) -> None:
    async with a_world() as world:
        await asyncio.sleep(400)
        if ends == "error":
            world.events.fail(URL, DENIED)
            await asyncio.sleep(2)
            world.events.canary_error = DENIED
        else:
            world.events.canary_error = DENIED
            await asyncio.sleep(PROOF_COUNTS + 2)
        start = now()
        assert alive(world) == [False]
        await asyncio.sleep(300)
        assert len(polls(world, "j1", start - 3)) == pytest.approx(10, abs=2), "also the poll that was far away"
        assert polls(world, "j1", start - 3)[0] < 30


async def test_a_queue_that_works_again_is_proven_by_a_new_canary() -> None:
    async with a_world() as world:
        world.events.fail(URL, THROTTLED, UNAVAILABLE, UNAVAILABLE)
        await asyncio.sleep(1)
        assert alive(world) == [False]
        await asyncio.sleep(40)
        assert alive(world) == [True]


async def test_an_answer_from_before_the_events_arrived_does_not_stretch_the_polls() -> None:
    async with a_world(canaries=False) as world:
        world.batch.latency = 3
        while not polls(world, "j1", now() - 1):  # noqa: ASYNC110 (on virtual time)
            await asyncio.sleep(0.5)
        # The describe is under way, and its answer is made. The event of this end is lost.
        end(world)
        world.events.send(URL, world.events.canaries[-1][1])
        await asyncio.sleep(1)
        assert alive(world) == [True]
        await asyncio.sleep(40)
        assert world.objects.status("uid-for-j1").phase is Phase.SUCCEEDED


async def test_a_hint_during_a_describe_makes_another_one_follow() -> None:
    async with a_world() as world:
        world.batch.latency = 0.5
        world.events.send(URL, "j1")
        await asyncio.sleep(0.2)
        end(world)
        # The answer under way was made before.
        world.events.send(URL, "j1")
        await asyncio.sleep(2.5)
        assert world.objects.status("uid-for-j1").phase is Phase.SUCCEEDED


async def test_a_change_that_describe_jobs_shows_late_is_seen_within_its_delay() -> None:
    async with a_world() as world:
        world.events.send(URL, "j1")
        await asyncio.sleep(6)
        end(world)
        await asyncio.sleep(5)
        assert world.objects.status("uid-for-j1").phase is Phase.SUCCEEDED


async def test_after_a_change_the_next_poll_comes_in_the_normal_interval() -> None:
    async with a_world() as world:
        world.a_job("j1", "STARTING")
        world.events.send(URL, "j1")
        await asyncio.sleep(1)
        # The event of this change came before the answer that showed the one before it.
        world.a_job("j1", "RUNNING")
        start = now()
        await asyncio.sleep(66)
        assert world.objects.status("uid-for-j1").phase is Phase.RUNNING
        assert len(polls(world, "j1", start)) == 1


async def test_a_flood_of_one_job_costs_a_describe_a_second() -> None:
    async with a_world() as world:
        start = now()
        for _ in range(60):
            world.events.send(URL, *["j1"] * 50)
            await asyncio.sleep(0.5)
        assert len(polls(world, "j1", start)) <= 32
        assert world.telemetry.events[EventResult.TRACKED] >= 1_000


async def test_a_flood_of_unknown_children_costs_no_describe_and_every_message_is_deleted() -> None:
    async with a_world() as world:
        start = now()
        world.events.send(URL, *(f"array:{index}" for index in range(5_000)))
        world.events.send(URL, "j1")
        await asyncio.sleep(20)
        assert len(polls(world, "j1", start)) <= 6
        assert world.telemetry.events[EventResult.UNKNOWN] == 5_000
        assert len(world.events.deleted) >= 5_000


async def test_the_parent_of_an_array_is_polled_in_the_normal_interval() -> None:
    async with a_world() as world:
        world.an_object(world.a_job("array", "PENDING", array=Array(size=3, status_summary={"RUNNING": 3})))
        await asyncio.sleep(60)
        start = now()
        await asyncio.sleep(600)
        assert len(polls(world, "array", start)) == pytest.approx(20, abs=2)


@pytest.mark.parametrize("job_id", ["array:7", "nodes#1"])
async def test_children_are_polled_less_often_once_an_event_of_a_child_has_come(job_id: str) -> None:
    async with a_world() as world:
        uid = world.an_object(world.a_job(job_id))
        await asyncio.sleep(60)
        start = now()
        await asyncio.sleep(600)
        # Whether AWS Batch sends events of children is not known before.
        assert len(polls(world, job_id, start)) == pytest.approx(20, abs=2)
        assert len(polls(world, "j1", start)) <= 4
        world.events.send(URL, job_id)
        await asyncio.sleep(60)
        start = now()
        await asyncio.sleep(600)
        assert len(polls(world, job_id, start)) <= 3
        end(world, job_id)
        world.events.send(URL, job_id)
        await asyncio.sleep(0.5)
        assert world.objects.status(uid).phase is Phase.SUCCEEDED


async def test_a_job_that_is_terminated_is_polled_as_often_as_without_events() -> None:
    async with a_world() as world:
        start = now()
        world.objects.edit("uid-for-j1", {"jobId": "j1", "terminate": {"reason": "stop"}})
        await asyncio.sleep(60)
        assert len(polls(world, "j1", start)) >= 6


async def test_a_job_that_somebody_else_terminated_is_polled_as_often_as_without_events() -> None:
    async with a_world() as world:
        world.a_job("j1", is_terminated=True)
        world.events.send(URL, "j1")
        await asyncio.sleep(60)
        start = now()
        await asyncio.sleep(150)
        assert len(polls(world, "j1", start)) == pytest.approx(10, abs=1)


async def test_a_hint_does_not_repeat_a_describe_that_was_refused() -> None:
    async with a_world() as world:
        world.batch.id_errors["j1"] = DENIED
        await asyncio.sleep(400)
        start = now()
        for _ in range(20):
            world.events.send(URL, "j1")
            await asyncio.sleep(1)
        assert len(polls(world, "j1", start)) <= 1


async def test_only_the_leader_receives_and_what_comes_after_its_term_is_not_deleted() -> None:
    async with a_world() as world:
        world.controller.on_stopped_leading()
        await asyncio.sleep(0.1)
        deleted = len(world.events.deleted)
        world.events.send(URL, "j1")
        await asyncio.sleep(30)
        received = len(world.events.received)
        await asyncio.sleep(60)
        assert (len(world.events.received), len(world.events.deleted)) == (received, deleted)
        await world.controller.on_started_leading()
        await asyncio.sleep(2)
        assert len(world.events.received) > received


@pytest.mark.parametrize("when", [0.1, 0.3, 0.5, 0.7, 0.9])
async def test_a_term_that_begins_at_once_receives_as_the_one_before(when: float) -> None:
    async with a_world() as world:
        await asyncio.sleep(when)
        world.controller.on_stopped_leading()
        # The long poll of the term before is answered, and its answer is dropped, before the next term.
        world.events.send(URL, "j1")
        await asyncio.sleep(0.1)
        await world.controller.on_started_leading()
        await asyncio.sleep(5)
        received = len(world.events.received)
        await asyncio.sleep(60)
        assert len(world.events.received) >= received + 2


async def test_the_first_canary_is_sent_as_soon_as_there_is_a_job() -> None:
    world = World(events_queues=(URL,))
    world.batch.accounts[Target(REGION)] = ACCOUNT
    world.events.returns_to = URL
    async with world.running():
        await asyncio.sleep(20)
        assert world.events.canaries == []
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(3)
        assert alive(world) == [True]


def a_policy(*, queue: str | None) -> Policy:
    return Policy("team", Selector({"team": "a"}), Rules(queues=("*",)), ROLE, (REGION,), events_queue=queue)


async def test_the_queue_of_a_policy_is_read_with_its_role_and_only_its_jobs_wait_longer() -> None:
    async with a_world(mode=Mode.OPTIONAL, queues=()) as world:
        world.set_policies(a_policy(queue=ROLE_URL), ns={}, team={"team": "a"})
        world.events.returns_to = ROLE_URL
        world.a_job("j2", queue="arn:aws:batch:eu-west-1:444455556666:job-queue/q")
        world.an_object("j2", namespace="team")
        await asyncio.sleep(120)
        start = now()
        await asyncio.sleep(600)
        reader = Target(REGION, ROLE, "team")
        assert {queue.reader for _, queue in world.events.received} == {target for target, _ in world.events.canaries}
        assert {queue.reader for _, queue in world.events.received} == {reader}
        assert world.controller.events.alive() == {("444455556666", REGION): True}
        assert len(polls(world, "j2", start)) <= 3
        assert len(polls(world, "j1", start)) == pytest.approx(20, abs=1)
        world.set_policies(a_policy(queue=None), ns={}, team={"team": "a"})
        await asyncio.sleep(2)
        start, received = now(), len(world.events.received)
        await asyncio.sleep(120)
        assert world.controller.events.alive() == {}
        assert len(polls(world, "j2", start)) >= 4
        assert len(world.events.received) == received


async def test_a_message_in_the_queue_of_another_team_is_no_hint_and_proves_nothing() -> None:
    async with a_world(canaries=False, mode=Mode.OPTIONAL) as world:
        world.set_policies(a_policy(queue=ROLE_URL), ns={}, team={"team": "a"})
        world.a_job("j2", queue="arn:aws:batch:eu-west-1:444455556666:job-queue/q")
        world.an_object("j2", namespace="team")
        await asyncio.sleep(40)
        start = now()
        world.events.send(ROLE_URL, "j1")
        world.events.send(URL, "j2")
        await asyncio.sleep(5)
        assert world.telemetry.events == Counter({EventResult.UNKNOWN: 2})
        assert alive(world) == [False, False]
        assert not polls(world, "j1", start)


async def test_a_region_other_than_the_queues_counts_once_its_events_have_arrived() -> None:
    async with a_world(canaries=False) as world:
        world.batch.accounts[Target("us-east-1")] = ACCOUNT
        world.a_job("far")
        world.objects.create("far", {"jobId": "far", "region": "us-east-1"}, namespace="ns")
        await asyncio.sleep(60)
        assert [*world.controller.events.alive()] == [(ACCOUNT, REGION)], "there may be no rule that forwards them"
        world.events.send(URL, "far")
        await asyncio.sleep(2)
        assert world.controller.events.alive()[ACCOUNT, "us-east-1"] is True
        await asyncio.sleep(PROOF_COUNTS)
        assert world.controller.events.alive()[ACCOUNT, "us-east-1"] is False


async def test_a_queue_that_several_name_is_read_once() -> None:
    async with a_world(mode=Mode.OPTIONAL) as world:
        world.set_policies(a_policy(queue=URL), ns={}, team={"team": "a"})
        world.a_job("j2", queue="arn:aws:batch:eu-west-1:444455556666:job-queue/q")
        world.an_object("j2", namespace="team")
        await asyncio.sleep(240)
        assert {queue.reader for _, queue in world.events.received} == {Target(REGION)}
        assert world.controller.events.alive() == {(ACCOUNT, REGION): True, ("444455556666", REGION): True}


async def test_an_edit_does_not_delay_the_polls_after_an_event() -> None:
    async with a_world() as world:
        world.events.send(URL, "j1")
        await asyncio.sleep(0.5)
        world.objects.edit("uid-for-j1", {"onDelete": {"terminate": {"reason": "bye"}}})
        end(world)
        await asyncio.sleep(2)
        assert world.objects.status("uid-for-j1").phase is Phase.SUCCEEDED


async def test_a_queue_that_is_dead_is_not_hidden_by_another_of_the_same_account() -> None:
    world = World(events_queues=(URL,), mode=Mode.OPTIONAL)
    world.batch.accounts[Target(REGION)] = "444455556666"
    world.events.returns_to = URL
    world.set_policies(a_policy(queue=ROLE_URL), ns={}, team={"team": "a"})
    async with world.running():
        world.an_object(world.a_job("j1"))
        world.an_object(world.a_job("j2", queue="q"), namespace="team")
        await asyncio.sleep(2 * CANARY_INTERVAL + 5)
        start = now()
        await asyncio.sleep(300)
        assert len(polls(world, "j1", start)) <= 1
        assert len(polls(world, "j2", start)) == pytest.approx(10, abs=1), "no event of ROLE_URL has arrived"


async def test_answers_at_once_do_not_become_a_flood_of_requests() -> None:
    class Hasty(FakeEvents):
        async def receive(self, queue: EventsQueue, wait: int) -> Sequence[EventMessage] | CallError:
            return await super().receive(queue, 0)

    async with a_world(events=Hasty(), canaries=False) as world:
        start = now()
        await asyncio.sleep(60)
        assert sum(at >= start for at, _ in world.events.received) <= 70


async def test_polls_return_to_normal_although_the_clock_was_set_back() -> None:
    async with a_world() as world:
        await asyncio.sleep(400)
        world.clock_set = -600_000
        world.events.canary_error = DENIED
        world.events.fail(URL, DENIED)
        start = now()
        await asyncio.sleep(100)
        assert len(polls(world, "j1", start)) == pytest.approx(3, abs=1)


async def test_a_canary_that_hangs_is_sent_once_and_holds_up_no_other() -> None:
    class Hanging(FakeEvents):
        async def send_canary(self, target: Target, job_id: str) -> CallError | None:
            answer = await super().send_canary(target, job_id)
            await asyncio.sleep(1_000 if target.region == "us-east-1" else 0)
            return answer

    async with a_world(events=Hanging(), canaries=False) as world:
        world.batch.accounts[Target("us-east-1")] = ACCOUNT
        world.batch.jobs["j2"] = Job("RUNNING", name="j2")
        world.objects.create("j2", {"jobId": "j2", "region": "us-east-1"})
        await asyncio.sleep(600)
        regions = Counter(target.region for target, _ in world.events.canaries)
        assert regions["us-east-1"] == 1
        assert regions[REGION] >= 11


async def test_an_event_is_not_held_up_by_the_events_of_another_namespace_on_the_job() -> None:
    async with a_world() as world:
        for number in range(3_000):
            world.an_object(world.a_job(f"n{number}"), namespace="noisy")
        world.an_object(world.a_job("shared"), namespace="noisy")
        await asyncio.sleep(5)
        world.an_object("shared", namespace="quiet")
        await asyncio.sleep(5)
        end(world, "shared")
        world.batch.latency = 0.5
        for job_id in (*(f"n{number}" for number in range(3_000)), "shared"):
            world.controller._poller.hint(world.controller.cache.jobs[JobKey(Target(REGION), job_id)])
        await asyncio.sleep(1.5)
        assert world.objects.status("uid-quiet-for-shared").phase is Phase.SUCCEEDED


async def test_events_count_once_the_number_of_the_account_is_known() -> None:
    world = World(events_queues=(URL,))
    world.events.returns_to = URL
    async with world.running():
        world.an_object(world.a_job("j1"))
        await asyncio.sleep(3)
        world.events.send(URL, "j1")
        await asyncio.sleep(3)
        assert world.controller.events.alive() == {}
        world.batch.accounts[Target(REGION)] = ACCOUNT
        await asyncio.sleep(3)
        assert alive(world) == [True]


async def test_the_reader_of_a_queue_that_no_policy_names_any_more_is_forgotten() -> None:
    async with a_world(mode=Mode.OPTIONAL, queues=()) as world:
        world.set_policies(a_policy(queue=ROLE_URL), ns={}, team={"team": "a"})
        await asyncio.sleep(60)
        world.set_policies(a_policy(queue=None), ns={}, team={"team": "a"})
        await asyncio.sleep(2 * PRUNE_EVERY)
        assert world.batch.forgotten == [Target(REGION, ROLE, "team")]
        assert not world.controller.events.readers


async def test_an_end_of_which_the_event_and_the_next_list_are_lost_is_shown_little_later_than_by_a_poll() -> None:
    async with a_world() as world:
        ids = [f"listed{number}" for number in range(400)]
        for job_id in ids:
            world.an_object(world.a_job(job_id, queue="q"))
        await asyncio.sleep(640)
        assert now() - world.batch.lists[-1][0] < 60, "the polls that a list delayed are far away"
        world.batch.unknown_queues.add("q")
        for job_id in ids:
            end(world, job_id)
        await asyncio.sleep(370)
        phases = Counter(world.objects.status(f"uid-for-{job_id}").phase for job_id in ids)
        assert phases == {Phase.SUCCEEDED: 400}
