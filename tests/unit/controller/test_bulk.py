"""BatchTermination: counted first, terminated once approved, by sweeps that remember nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from awsbatch_operator.api.batchtermination import BulkMetricKey, BulkPhase
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import JobPage, TerminatePermit
from awsbatch_operator.api.job import Array, Target
from awsbatch_operator.controller.controller import PRUNE_EVERY
from awsbatch_operator.policy.resolution import Mode
from unit.controller.world import REGION, World
from unit.policy.policies import a_policy

pytestmark = pytest.mark.looptime(start=100_000)

CREATED = "1970-01-02T03:46:40Z"
"""The start of the loop's time."""
REASON = "INC-4711: runaway cost"
THROTTLED = CallError(ErrorClass.THROTTLED, "Too Many Requests", "TooManyRequestsException")
DENIED = CallError(ErrorClass.DENIED, "not authorized to perform: batch:TerminateJob", "AccessDeniedException")
FULL = ["Observe", "Terminate", "List"]


def spec(**changes: Any) -> dict[str, Any]:
    return {
        "region": REGION,
        "select": {"queues": ["gpu"], "jobNames": ["train-*"]},
        "createdBefore": CREATED,
        "reason": REASON,
        "maxJobs": 1000,
        **changes,
    }


def jobs(world: World, count: int, prefix: str = "train", **more: Any) -> list[str]:
    fields = {"queue": "gpu", "created_at": 99_000_000, **more}
    for number in range(count):
        world.a_job(f"{prefix}-{number}", **fields)
    return [f"{prefix}-{number}" for number in range(count)]


@asynccontextmanager
async def a_world(**policy: Any) -> AsyncIterator[World]:
    """A running controller under one policy, which allows everything in all queues unless it says otherwise."""
    world = World(mode=Mode.OPTIONAL)
    set_policy(world, **policy)
    async with world.running():
        yield world


def set_policy(world: World, **policy: Any) -> None:
    stated = {"jobs": {"queues": ["*"]}, "allow": FULL, **policy}
    world.set_policies(a_policy(**stated), ns={"team": "a"}, other={"team": "a"})


def sent(world: World) -> set[str]:
    return {job for _, job, _ in world.batch.terminations}


def phase(world: World, uid: str) -> str | None:
    return world.objects.bulk_status(uid).phase


def stalled(world: World, uid: str) -> str | None:
    return world.objects.bulk_status(uid).reason("Stalled")


def approve(world: World, uid: str, *, approved: bool = True) -> None:
    world.objects.edit(uid, {"approved": approved})


# -- count, approve, terminate ---------------------------------------------------------------------------------------


async def test_it_counts_first_and_terminates_once_it_is_approved() -> None:
    async with a_world() as world:
        jobs(world, 120)
        jobs(world, 30, "other")
        uid = world.objects.create_termination("stop", spec())
        await asyncio.sleep(1_000)
        status = world.objects.bulk_status(uid)
        assert (status.phase, status.matched, status.requested, status.ending) == ("AwaitingApproval", 120, 0, 0)
        assert len(status.examples) == 20
        assert sent(world) == set()
        approve(world, uid)
        await asyncio.sleep(5)
        assert sent(world) == set(jobs(world, 120, is_terminated=True))
        assert {reason for _, _, reason in world.batch.terminations} == {REASON}
        assert [len(ids) for _, _, ids in world.batch.terminate_calls] == [50, 50, 20]
        await asyncio.sleep(30)
        status = world.objects.bulk_status(uid)
        assert (status.phase, status.matched, status.requested, status.ending) == ("Finished", 0, 120, 120)
        assert world.objects.reasons(uid) == ["TerminationAccepted"]


async def test_a_finished_object_costs_no_call() -> None:
    async with a_world() as world:
        jobs(world, 2)
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(60)
        assert phase(world, uid) == "Finished"
        calls, writes = len(world.batch.lists), len(world.objects.writes)
        set_policy(world, jobs={"queues": ["*", "more"]})
        await asyncio.sleep(7_200)
        assert (len(world.batch.lists), len(world.objects.writes)) == (calls, writes)


async def test_without_approval_and_without_a_match_it_awaits_approval() -> None:
    async with a_world() as world:
        uid = world.objects.create_termination("stop", spec())
        await asyncio.sleep(1_000)
        status = world.objects.bulk_status(uid)
        assert (status.phase, status.matched, status.reason("Ready")) == ("AwaitingApproval", 0, "AwaitingApproval")
        # A sweep every five minutes.
        assert len(world.batch.lists) == 4 * 5


async def test_the_statuses_are_listed_in_the_order_in_which_jobs_move() -> None:
    async with a_world() as world:
        world.objects.create_termination("stop", spec(select={"queues": ["gpu", "cpu"], "jobNames": ["*"]}))
        await asyncio.sleep(5)
        assert [(queue, status) for _, queue, status, _ in world.batch.lists] == [
            (queue, status)
            for queue in ("gpu", "cpu")
            for status in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
        ]


async def test_jobs_submitted_after_the_cutoff_are_not_terminated() -> None:
    async with a_world() as world:
        jobs(world, 1)
        jobs(world, 1, "train-late", created_at=100_000_000)
        jobs(world, 1, "train-unknown", created_at=None)
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(60)
        assert sent(world) == {"train-0"}
        assert world.objects.bulk_status(uid).requested == 1


async def test_an_array_counts_with_all_its_children_and_gets_one_request() -> None:
    async with a_world() as world:
        jobs(world, 1, array=Array(size=900), status="PENDING")
        uid = world.objects.create_termination("stop", spec(maxJobs=900, approved=True))
        await asyncio.sleep(5)
        assert [ids for _, _, ids in world.batch.terminate_calls] == [("train-0",)]
        assert world.objects.bulk_status(uid).requested == 900


# -- refusals --------------------------------------------------------------------------------------------------------


async def test_more_jobs_than_stated_are_counted_and_none_is_terminated() -> None:
    async with a_world() as world:
        jobs(world, 3)
        uid = world.objects.create_termination("stop", spec(maxJobs=2, approved=True))
        await asyncio.sleep(20)
        status = world.objects.bulk_status(uid)
        assert (status.phase, status.matched, status.reason("Stalled")) == ("Refused", 3, "TooManyJobs")
        assert sent(world) == set()
        # Fewer are left with a later sweep.
        world.batch.end("train-0", "SUCCEEDED")
        await asyncio.sleep(400)
        assert sent(world) == {"train-1", "train-2"}
        assert world.objects.reasons(uid) == ["TooManyJobs", "TerminationAccepted"]


async def test_later_matches_are_not_terminated_beyond_the_maximum() -> None:
    async with a_world() as world:
        jobs(world, 100)
        jobs(world, 100, "untagged")
        for number in range(100):
            world.batch.tags[f"train-{number}"] = {"run": "42"}
        uid = world.objects.create_termination(
            "stop", spec(select={"queues": ["gpu"], "tags": {"run": "42"}}, maxJobs=100, approved=True)
        )
        await asyncio.sleep(5)
        assert len(sent(world)) == 100
        for number in range(100):
            world.batch.tags[f"untagged-{number}"] = {"run": "42"}
        await asyncio.sleep(100)
        assert len(sent(world)) == 100
        assert stalled(world, uid) == "TooManyJobs"


async def test_none_is_terminated_before_all_have_been_counted() -> None:
    async with a_world() as world:
        world.batch.jobs_per_page = 100
        jobs(world, 500)
        uid = world.objects.create_termination("stop", spec(maxJobs=499, approved=True))
        await asyncio.sleep(20)
        assert (stalled(world, uid), sent(world)) == ("TooManyJobs", set())


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"allow": ["Observe", "Terminate"]}, "ListNotAllowed"),
        ({"allow": ["Observe", "List"]}, "TerminationNotAllowed"),
        ({"regions": ["us-east-1"]}, "ListNotAllowed"),
        ({"jobs": {"queues": ["cpu", "arn:aws:batch:eu-west-1:111122223333:job-queue/cp*"]}}, "ListNotAllowed"),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, "NoAccessPolicy"),
    ],
)
async def test_without_a_policy_that_allows_it_no_call_is_made(policy: dict[str, Any], reason: str) -> None:
    async with a_world(**policy) as world:
        jobs(world, 1)
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(700)
        assert (phase(world, uid), stalled(world, uid)) == ("Refused", reason)
        assert world.batch.lists == []
        set_policy(world)
        await asyncio.sleep(5)
        assert sent(world) == {"train-0"}


@pytest.mark.parametrize("waits", ["throttled", "no budget"])
async def test_a_list_that_waits_is_not_requested_once_the_policy_forbids_it(waits: str) -> None:
    async with a_world() as world:
        world.batch.target_errors = {Target(REGION): THROTTLED} if waits == "throttled" else {}
        if waits != "throttled":
            world.batch.describes_granted.clear()
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(100)
        calls = len(world.batch.lists)
        set_policy(world, allow=["Observe", "Terminate"])
        world.batch.target_errors.clear()
        world.batch.describes_granted.set()
        await asyncio.sleep(200)
        assert (stalled(world, uid), len(world.batch.lists)) == ("ListNotAllowed", calls)


async def test_two_policies_are_as_good_as_none() -> None:
    async with a_world() as world:
        one, other = (a_policy(name, jobs={"queues": ["*"]}, allow=FULL) for name in ("one", "other"))
        world.set_policies(one, other, ns={"team": "a"})
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(5)
        assert (stalled(world, uid), world.batch.lists) == ("AmbiguousPolicy", [])


@pytest.mark.parametrize(("created", "stalls"), [("1970-01-02T03:41:39Z", True), ("1970-01-02T03:41:40Z", False)])
async def test_a_cutoff_more_than_five_minutes_after_the_creation_is_refused(created: str, stalls: bool) -> None:
    async with a_world() as world:
        uid = world.objects.create_termination("stop", spec(approved=True), created=created)
        await asyncio.sleep(700)
        assert (stalled(world, uid), bool(world.batch.lists)) == (("CutoffInFuture", False) if stalls else (None, True))


async def test_a_queue_that_does_not_exist_is_named() -> None:
    async with a_world() as world:
        world.batch.unknown_queues.add("cpu")
        jobs(world, 1)
        uid = world.objects.create_termination(
            "stop", spec(select={"queues": ["gpu", "cpu"], "jobNames": ["*"]}, approved=True)
        )
        await asyncio.sleep(5)
        ready = next(one for one in world.objects.bulk_status(uid).conditions if one.type == "Ready")
        assert (ready.reason, "queue cpu in eu-west-1" in ready.message) == ("QueueNotFound", True)
        assert sent(world) == set()


async def test_an_unknown_region_gets_no_call() -> None:
    async with a_world(regions=[REGION, "eu-made-1"]) as world:
        world.batch.unknown_regions.add("eu-made-1")
        uid = world.objects.create_termination("stop", spec(region="eu-made-1", approved=True))
        await asyncio.sleep(5)
        assert (stalled(world, uid), world.batch.lists) == ("InvalidRegion", [])


async def test_a_refused_list_is_retried_after_five_minutes() -> None:
    async with a_world() as world:
        jobs(world, 1)
        world.batch.list_errors = [DENIED]
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(290)
        assert (stalled(world, uid), len(world.batch.lists)) == ("AccessDenied", 1)
        await asyncio.sleep(30)
        assert sent(world) == {"train-0"}


async def test_a_termination_that_aws_refuses_is_counted_named_and_retried_after_five_minutes() -> None:
    async with a_world() as world:
        jobs(world, 3)
        world.batch.id_errors["train-1"] = DENIED
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(100)
        status = world.objects.bulk_status(uid)
        assert (status.phase, status.requested, status.failed, status.matched) == ("Refused", 2, 1, 1)
        assert (status.examples[0].job_id, status.examples[0].message) == ("train-1", DENIED.message)
        assert len([job for _, job, _ in world.batch.terminations if job == "train-1"]) == 1
        del world.batch.id_errors["train-1"]
        await asyncio.sleep(400)
        assert (phase(world, uid), world.objects.bulk_status(uid).failed) == ("Finished", 0)


async def test_a_refused_termination_waits_its_five_minutes_while_others_are_repeated() -> None:
    async with a_world() as world:
        jobs(world, 2)
        world.batch.id_errors = {"train-0": THROTTLED, "train-1": DENIED}
        world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(200)
        requests = [job for _, job, _ in world.batch.terminations]
        assert (requests.count("train-0") > 10, requests.count("train-1")) == (True, 1)


async def test_a_call_that_is_denied_as_a_whole_ends_the_sweep() -> None:
    async with a_world() as world:
        jobs(world, 1_000)
        world.batch.terminate_errors[Target(REGION)] = DENIED
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(200)
        assert stalled(world, uid) == "AccessDenied"
        assert len(world.batch.terminate_calls) <= 4


async def test_a_refused_call_ends_the_others_of_its_sweep() -> None:
    async with a_world() as world:
        jobs(world, 200)
        world.batch.call_errors = [DENIED, THROTTLED, THROTTLED, THROTTLED]
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(200)
        assert (stalled(world, uid), len(world.batch.terminate_calls)) == ("AccessDenied", 4)
        await asyncio.sleep(200)
        assert len(sent(world)) == 200


# -- what is stated now ----------------------------------------------------------------------------------------------


def stop(world: World, uid: str, how: str) -> None:
    match how:
        case "withdrawn":
            approve(world, uid, approved=False)
        case "deleted":
            world.objects.delete(uid)
        case "tightened":
            set_policy(world, allow=["Observe", "Terminate"])
        case _:
            set_policy(world, suspend=True)


@pytest.mark.parametrize("how", ["withdrawn", "deleted", "tightened", "suspended"])
async def test_the_last_byte_does_not_leave_once_it_is_not_stated_any_more(how: str) -> None:
    async with a_world() as world:
        jobs(world, 3)
        is_valid = world.batch.with_last_byte

        def stop_first(permit: TerminatePermit) -> CallError | None:
            if world.batch.with_last_byte is not is_valid:
                world.batch.with_last_byte = is_valid
                stop(world, uid, how)
            return is_valid(permit)

        world.batch.with_last_byte = stop_first
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(60)
        assert world.batch.with_last_byte is is_valid
        assert sent(world) == set()


async def test_a_withdrawal_during_a_list_call_is_respected() -> None:
    async with a_world() as world:
        jobs(world, 3)
        pages: list[JobPage] = []

        def withdraw(page: JobPage) -> JobPage:
            pages.extend([page] if page.jobs else [])
            # The first page is that of the count.
            if len(pages) == 2:
                approve(world, uid, approved=False)
            return page

        world.batch.on_list = withdraw
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(60)
        assert (len(pages) > 2, sent(world)) == (True, set())


@pytest.mark.parametrize("how", ["withdrawn", "deleted", "tightened", "suspended"])
async def test_nothing_more_is_sent_once_it_is_not_stated_any_more(how: str) -> None:
    async with a_world() as world:
        world.batch.terminate_interval = 1.0
        jobs(world, 1_000)
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(5)
        assert 100 <= len(sent(world)) <= 400
        stop(world, uid, how)
        before = len(sent(world))
        await asyncio.sleep(120)
        # What had left may count once more.
        assert len(sent(world)) <= before + 50
        if how != "deleted":
            expected = {"withdrawn": "AwaitingApproval", "tightened": "Refused", "suspended": "Terminating"}
            assert phase(world, uid) == expected[how]
        reasons = world.objects.reasons(uid)
        assert ("TerminationWithdrawn" in reasons) == (how in ("withdrawn", "deleted"))
        assert ("TerminationHeld" in reasons) == (how == "suspended")


async def test_a_suspension_that_ends_lets_it_go_on_at_once() -> None:
    async with a_world(suspend=True) as world:
        jobs(world, 3)
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(60)
        status = world.objects.bulk_status(uid)
        assert (status.phase, status.matched, status.reason("Reconciling")) == ("Terminating", 3, "TerminationHeld")
        set_policy(world)
        await asyncio.sleep(5)
        assert len(sent(world)) == 3


async def test_a_failed_watch_holds_the_terminations() -> None:
    async with a_world() as world:
        jobs(world, 3)
        world.controller.bulk.on_stale_since(100_000.0)
        await asyncio.sleep(11)
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(60)
        assert (sent(world), world.objects.bulk_status(uid).reason("Reconciling")) == (set(), "TerminationHeld")
        world.controller.bulk.on_stale_since(None)
        await asyncio.sleep(5)
        assert len(sent(world)) == 3


async def test_doubt_holds_the_terminations_until_the_objects_are_listed() -> None:
    async with a_world() as world:
        jobs(world, 3)
        relists: list[float] = []
        world.controller.bulk.relist = lambda: relists.append(asyncio.get_running_loop().time())
        world.controller.doubt()
        assert len(relists) == 1
        world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(60)
        assert sent(world) == set()
        world.controller.bulk.on_stale_since(None)
        await asyncio.sleep(5)
        assert len(sent(world)) == 3


# -- tags and policies -----------------------------------------------------------------------------------------------


async def test_tags_are_described_by_full_calls_and_only_of_jobs_that_match_otherwise() -> None:
    async with a_world(jobs={"tags": {"ns": "${namespace}"}}) as world:
        world.batch.jobs_per_page = 70
        for job in jobs(world, 250):
            world.batch.tags[job] = {"ns": "ns", "run": "42"}
        jobs(world, 300, "other")
        world.batch.tags["train-7"] = {"ns": "other", "run": "42"}
        world.batch.tags["train-8"] = {"ns": "ns", "run": "43"}
        select = {"queues": ["gpu"], "jobNames": ["train-*"], "tags": {"run": "42"}}
        uid = world.objects.create_termination("stop", spec(select=select))
        await asyncio.sleep(10)
        assert world.objects.bulk_status(uid).matched == 248
        assert sorted(len(ids) for _, ids in world.batch.describes) == [50, 100, 100]
        approve(world, uid)
        await asyncio.sleep(60)
        assert len(sent(world)) == 248
        assert not sent(world) & {"train-7", "train-8"}


async def test_tags_that_are_too_old_when_the_call_would_leave_lapse() -> None:
    async with a_world(jobs={"tags": {"ns": "${namespace}"}}) as world:
        for job in jobs(world, 100):
            world.batch.tags[job] = {"ns": "ns"}
        world.objects.create_termination("stop", spec(approved=True))
        world.batch.turns.clear()
        await asyncio.sleep(40)
        for job in jobs(world, 100):
            world.batch.tags[job] = {"ns": "other"}
        world.batch.turns.set()
        await asyncio.sleep(60)
        assert sent(world) == set()


async def test_tags_of_the_selector_lapse_as_those_of_a_policy() -> None:
    async with a_world() as world:
        for job in jobs(world, 10):
            world.batch.tags[job] = {"run": "42"}
        select = {"queues": ["gpu"], "tags": {"run": "42"}}
        uid = world.objects.create_termination("stop", spec(select=select, approved=True))
        world.batch.turns.clear()
        await asyncio.sleep(40)
        world.batch.tags["train-7"] = {}
        world.batch.turns.set()
        await asyncio.sleep(60)
        assert sent(world) == {f"train-{number}" for number in range(10) if number != 7}
        assert phase(world, uid) == "Finished"


async def test_an_id_that_aws_rejects_costs_that_job_only() -> None:
    async with a_world(jobs={"tags": {"ns": "${namespace}"}}) as world:
        for job in jobs(world, 40):
            world.batch.tags[job] = {"ns": "ns"}
        world.batch.malformed.add("train-7")
        uid = world.objects.create_termination("stop", spec())
        await asyncio.sleep(10)
        assert world.objects.bulk_status(uid).matched == 39


async def test_queues_that_a_policy_names_by_arn_are_recognized() -> None:
    arn = "arn:aws:batch:eu-west-1:111122223333:job-queue/gpu"
    async with a_world(jobs={"queues": [arn]}) as world:
        jobs(world, 2, arn="arn:aws:batch:eu-west-1:111122223333:job/j")
        jobs(world, 2, "train-foreign", arn="arn:aws:batch:eu-west-1:444455556666:job/j")
        world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(5)
        assert sent(world) == {"train-0", "train-1"}


# -- lists that are not what they should be --------------------------------------------------------------------------


async def test_a_throttled_page_is_asked_again_and_nothing_is_lost() -> None:
    async with a_world() as world:
        world.batch.jobs_per_page = 100
        jobs(world, 350)
        world.batch.list_errors = [THROTTLED] * 5
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(3)
        assert world.objects.bulk_status(uid).reason("Reconciling") == "Throttled"
        await asyncio.sleep(100)
        assert len(sent(world)) == 350


@pytest.mark.parametrize("repeated", [True, False])
async def test_tokens_that_lead_nowhere_end_the_sweep_and_are_tried_ever_more_rarely(repeated: bool) -> None:
    async with a_world() as world:
        world.batch.jobs_per_page = 1
        jobs(world, 3)
        tokens: list[str] = []

        def change(page: JobPage) -> JobPage:
            tokens.extend([page.next_token] if page.next_token else [])
            return JobPage(page.jobs, page.next_token and (tokens[0] if repeated else "unknown"))

        world.batch.on_list = change
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(600)
        assert (phase(world, uid), sent(world)) == ("Planning", set())
        assert len(world.batch.lists) < 120
        world.batch.on_list = lambda page: page
        await asyncio.sleep(100)
        assert (len(sent(world)), phase(world, uid)) == (3, "Finished")


async def test_a_job_that_a_page_names_twice_is_described_and_counted_once() -> None:
    async with a_world(jobs={"tags": {"ns": "${namespace}"}}) as world:
        for job in jobs(world, 3):
            world.batch.tags[job] = {"ns": "ns"}
        world.batch.on_list = lambda page: JobPage(page.jobs * 2, page.next_token)
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(60)
        assert (phase(world, uid), len(world.batch.terminations)) == ("Finished", 3)


async def test_a_job_that_one_list_lacks_is_found_by_the_next() -> None:
    async with a_world() as world:
        jobs(world, 3)
        world.batch.not_listed.add("train-1")
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(5)
        assert sent(world) == {"train-0", "train-2"}
        world.batch.not_listed.clear()
        await asyncio.sleep(60)
        assert sent(world) == {"train-0", "train-1", "train-2"}
        assert phase(world, uid) == "Finished"


async def test_one_empty_sweep_proves_nothing() -> None:
    """A retry moves a job from RUNNING back to RUNNABLE, after RUNNABLE was listed."""
    async with a_world() as world:
        jobs(world, 1, status="RUNNABLE")
        world.batch.not_listed.add("train-0")
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(5)
        assert phase(world, uid) == "Terminating"
        world.batch.not_listed.clear()
        await asyncio.sleep(60)
        assert (sent(world), phase(world, uid)) == ({"train-0"}, "Finished")


async def test_a_sweep_that_terminated_a_job_is_not_an_empty_one() -> None:
    async with a_world() as world:
        jobs(world, 1)
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(15)
        assert (len(sent(world)), phase(world, uid)) == (1, "Terminating")
        await asyncio.sleep(10)
        assert phase(world, uid) == "Finished"


async def test_a_job_that_could_not_be_described_is_not_gone() -> None:
    async with a_world(jobs={"tags": {"ns": "${namespace}"}}) as world:
        for job in jobs(world, 2):
            world.batch.tags[job] = {"ns": "ns"}
        world.batch.id_errors["train-1"] = THROTTLED
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(100)
        assert (sent(world), phase(world, uid)) == ({"train-0"}, "Terminating")
        world.batch.id_errors.clear()
        await asyncio.sleep(60)
        assert (len(sent(world)), phase(world, uid)) == (2, "Finished")


async def test_a_list_without_flags_does_not_make_it_send_twice_within_a_minute() -> None:
    async with a_world() as world:
        world.batch.shows_flag = False
        jobs(world, 2)
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(50)
        assert len(world.batch.terminations) == 2
        assert phase(world, uid) == "Finished"


# -- processes -------------------------------------------------------------------------------------------------------


async def test_another_process_goes_on_where_the_flags_in_the_list_say() -> None:
    async with a_world() as world:
        world.batch.terminate_interval = 1.0
        jobs(world, 500)
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(4)
        world.killed = True
    first = len(world.batch.terminations)
    assert 0 < first < 500
    world = await world.restarted()
    set_policy(world)
    async with world.running():
        await asyncio.sleep(120)
        assert len(world.batch.terminations) <= 550
        assert len(sent(world)) == 500
        status = world.objects.bulk_status(uid)
        # The first process did not write all that it knew.
        assert status.requested is not None
        assert (status.phase, 400 <= status.requested <= 500) == ("Finished", True)


async def test_a_restart_does_not_change_the_status_of_what_has_finished() -> None:
    async with a_world() as world:
        jobs(world, 5)
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(60)
        assert phase(world, uid) == "Finished"
    before, world = len(world.objects.writes), await world.restarted()
    set_policy(world)
    async with world.running():
        await asyncio.sleep(60)
        shown = [change.get("phase") for _, _, change in world.objects.writes[before:]]
        assert set(shown) <= {None}


@pytest.mark.parametrize("forged", ["Finished", "Refused"])
@pytest.mark.parametrize("approved", [True, False])
async def test_a_forged_status_decides_nothing(forged: str, approved: bool) -> None:
    async with a_world() as world:
        jobs(world, 5 if approved else 0)
        uid = world.objects.create_termination("stop", spec(approved=approved))
        world.objects.write_foreign_status(
            uid, {"observedGeneration": 1, "phase": forged, "requested": 2**40, "matched": 0}, silent=True
        )
    world = await world.restarted()
    set_policy(world)
    async with world.running():
        await asyncio.sleep(60)
        status = world.objects.bulk_status(uid)
        assert len(sent(world)) == status.ending == (5 if approved else 0)
        assert status.phase == ("Finished" if approved else "AwaitingApproval")


async def test_a_status_that_another_writer_changes_is_corrected() -> None:
    async with a_world() as world:
        uid = world.objects.create_termination("stop", spec())
        await asyncio.sleep(5)
        world.objects.write_foreign_status(uid, {"phase": "Finished", "matched": 7})
        await asyncio.sleep(5)
        assert (phase(world, uid), world.objects.bulk_status(uid).matched) == ("AwaitingApproval", 0)


async def test_a_replica_that_does_not_lead_makes_no_call() -> None:
    world = World(mode=Mode.OPTIONAL)
    set_policy(world)
    jobs(world, 2)
    async with world.running(is_leader=False):
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(60)
        assert (world.batch.lists, world.objects.writes) == ([], [])
        await world.controller.on_started_leading()
        await asyncio.sleep(5)
        assert len(sent(world)) == 2
        world.controller.on_stopped_leading()
        calls = len(world.batch.lists)
        await asyncio.sleep(60)
        assert len(world.batch.lists) == calls
        assert phase(world, uid) == "Terminating"


async def test_a_replica_that_takes_over_shows_what_the_one_before_it_has_written() -> None:
    world = World(mode=Mode.OPTIONAL)
    set_policy(world)
    async with world.running(is_leader=False):
        uid = world.objects.create_termination("stop", spec(approved=True))
        finished = {"observedGeneration": 1, "phase": "Finished", "requested": 7, "matched": 0, "ending": 0}
        world.objects.write_foreign_status(uid, finished)
        await world.controller.on_started_leading()
        await asyncio.sleep(60)
        assert {change.get("phase") for _, _, change in world.objects.writes} == {None}
        status = world.objects.bulk_status(uid)
        assert (status.phase, status.requested, status.reason("Finished")) == ("Finished", 7, "AllRequested")


async def test_a_replica_that_does_not_lead_counts_by_the_status_that_the_leader_writes() -> None:
    world = World(mode=Mode.OPTIONAL)
    async with world.running(is_leader=False):
        uid = world.objects.create_termination("stop", spec(approved=True))
        words = {"message": "", "lastTransitionTime": CREATED}
        stalled = [{"type": "Stalled", "status": "True", "reason": "TooManyJobs", **words}]
        for status in ({"phase": "Refused", "conditions": stalled}, {"phase": "Terminating", "conditions": []}):
            world.objects.write_foreign_status(uid, status)
            await asyncio.sleep(1)
            reason = "TooManyJobs" if status["conditions"] else ""
            key = BulkMetricKey("ns", BulkPhase(str(status["phase"])), reason)
            assert world.controller.bulk.count() == {key: 1}


async def test_calls_that_wait_for_a_target_outlast_its_last_use() -> None:
    """The role of a policy changes: calls by the former one are not made, and the sweep goes on by the new one."""
    async with a_world(role={"arn": "arn:aws:iam::111122223333:role/former"}) as world:
        jobs(world, 3)
        world.batch.describes_granted.clear()
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(10)
        set_policy(world)
        await asyncio.sleep(2 * PRUNE_EVERY)
        world.batch.describes_granted.set()
        await asyncio.sleep(100)
        assert phase(world, uid) == "Finished"


# -- neighbours ------------------------------------------------------------------------------------------------------


async def test_a_single_termination_of_another_namespace_waits_for_one_call_at_most() -> None:
    async with a_world() as world:
        world.batch.terminate_interval = 0.2
        jobs(world, 4_000, created_at=1)
        one = world.an_object(world.a_job("one", queue="gpu"), namespace="other")
        world.objects.create_termination("stop", spec(maxJobs=4_000, approved=True))
        await asyncio.sleep(5)
        assert len(sent(world)) < 4_000
        world.objects.edit(one, {"terminate": {"reason": "now"}})
        await asyncio.sleep(1)
        assert "one" in sent(world)


async def test_two_objects_take_turns() -> None:
    async with a_world() as world:
        world.batch.terminate_interval = 0.5
        jobs(world, 1_000)
        jobs(world, 1_000, "eval")
        for namespace, names in (("ns", "train-*"), ("other", "eval-*")):
            select = {"queues": ["gpu"], "jobNames": [names]}
            world.objects.create_termination("stop", spec(select=select, approved=True), namespace=namespace)
        await asyncio.sleep(10)
        halves = [sum(job.startswith(prefix) for job in sent(world)) for prefix in ("train", "eval")]
        assert min(halves) >= 0.7 * max(halves) > 0


@pytest.mark.parametrize("interval", [0.0, 0.5], ids=["at once", "while calls wait for their turn"])
async def test_two_objects_on_the_same_jobs_request_each_once(interval: float) -> None:
    async with a_world() as world:
        world.batch.latency, world.batch.terminate_interval = 0.3, interval
        jobs(world, 300)
        uids = [world.objects.create_termination(name, spec(approved=True)) for name in ("one", "other")]
        await asyncio.sleep(120)
        assert len(sent(world)) == len(world.batch.terminations) == 300
        statuses = [world.objects.bodies[uid]["status"] for uid in uids]
        assert sum(status["requested"] for status in statuses) == 300
        assert [status["matched"] for status in statuses] == [0, 0]


async def test_the_first_describes_of_batchjobs_come_before_a_count_but_not_before_what_is_approved() -> None:
    async with a_world() as world:
        world.batch.describe_interval = 1.0
        jobs(world, 1)
        for number in range(5_000):
            world.an_object(world.a_job(f"j{number}", queue="cpu"))
        count = world.objects.create_termination("count", spec())
        await asyncio.sleep(20)
        assert world.batch.lists == []
        world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(35)
        assert sent(world) == {"train-0"}
        assert len(world.batch.describes) < 50
        assert ("describe", True) not in world.batch.slots
        await asyncio.sleep(60)
        assert ("describe", True) in world.batch.slots
        assert phase(world, count) == "AwaitingApproval"


async def test_an_approval_does_not_wait_until_the_first_describes_are_done() -> None:
    async with a_world() as world:
        world.batch.describe_interval = 1.0
        jobs(world, 1)
        uid = world.objects.create_termination("stop", spec())
        for number in range(5_000):
            world.an_object(world.a_job(f"j{number}", queue="cpu"))
        await asyncio.sleep(10)
        approve(world, uid)
        await asyncio.sleep(35)
        assert sent(world) == {"train-0"}


async def test_an_approved_object_waits_for_no_count_of_another() -> None:
    async with a_world() as world:
        world.batch.describe_interval = 1.0
        jobs(world, 10)
        for number in range(20):
            world.objects.create_termination(f"count-{number}", spec())
        await asyncio.sleep(1)
        world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(25)
        assert len(sent(world)) == 10


async def test_what_was_counted_is_terminated_before_others_are_counted() -> None:
    async with a_world() as world:
        world.batch.describe_interval = 1.0
        jobs(world, 10)
        for number in range(20):
            select = {"queues": ["gpu"], "jobNames": [f"train-{number % 10}"]}
            world.objects.create_termination(f"stop-{number}", spec(select=select, approved=True))
        await asyncio.sleep(22)
        assert sent(world) == {"train-0", "train-1"}


async def test_a_status_that_cannot_be_written_holds_up_no_termination() -> None:
    async with a_world() as world:
        jobs(world, 300)
        world.objects.refuses = "a webhook denies it"
        uid = world.objects.create_termination("stop", spec(approved=True))
        await asyncio.sleep(30)
        assert len(sent(world)) == 300
        world.objects.refuses = ""
        await asyncio.sleep(600)
        assert phase(world, uid) == "Finished"


async def test_a_spec_that_cannot_be_read_is_left_alone() -> None:
    async with a_world() as world:
        jobs(world, 1)
        world.objects.create_termination("stop", spec(approved=True, stragglers="10m"))
        await asyncio.sleep(60)
        assert (sent(world), world.batch.lists) == (set(), [])


async def test_an_object_that_is_being_deleted_terminates_nothing_more() -> None:
    async with a_world() as world:
        jobs(world, 3)
        uid = world.objects.create_termination("stop", spec())
        world.objects.bodies[uid]["metadata"]["finalizers"] = ["example.com/keep"]
        await asyncio.sleep(5)
        world.objects.delete(uid)
        approve(world, uid)
        await asyncio.sleep(60)
        assert sent(world) == set()


async def test_jobs_that_the_policy_no_longer_admits_are_not_shown() -> None:
    async with a_world() as world:
        jobs(world, 3)
        uid = world.objects.create_termination("stop", spec())
        await asyncio.sleep(5)
        assert world.objects.bulk_status(uid).examples
        set_policy(world, allow=["Observe"])
        await asyncio.sleep(5)
        status = world.objects.bulk_status(uid)
        assert (status.matched, status.examples, status.phase) == (None, (), "Refused")


async def test_many_objects_of_one_namespace_sweep_a_few_at_a_time() -> None:
    async with a_world() as world:
        world.batch.describe_interval = 0.1
        for number in range(20):
            world.objects.create_termination(f"stop-{number}", spec())
        await asyncio.sleep(2)
        swept = [uid for uid in world.objects.bodies if phase(world, uid) == "AwaitingApproval"]
        assert len(swept) >= 3
        one = world.objects.create_termination("stop", spec(), namespace="other")
        await asyncio.sleep(2)
        assert phase(world, one) == "AwaitingApproval"


async def test_a_long_sweep_that_nobody_approves_is_rarely_repeated() -> None:
    async with a_world(jobs={"tags": {"ns": "${namespace}"}}) as world:
        world.batch.describe_interval = 1.0
        jobs(world, 10_000)
        world.objects.create_termination("stop", spec(maxJobs=10_000))
        await asyncio.sleep(1_200)
        first = len(world.batch.describes)
        assert first >= 100
        await asyncio.sleep(1_200)
        assert len(world.batch.describes) <= 2 * first


def delayed(world: World, uid: str) -> tuple[str | None, str]:
    found = next((one for one in world.objects.bulk_status(uid).conditions if one.type == "Reconciling"), None)
    return (found.reason, found.message) if found is not None else (None, "")


async def test_the_status_says_what_keeps_a_sweep_from_its_end() -> None:
    tags = {"queues": ["gpu"], "tags": {"run": "42"}}
    async with a_world() as world:
        jobs(world, 3)
        world.batch.on_list = lambda page: JobPage(page.jobs, "always the same")
        repeats = world.objects.create_termination("repeats", spec())
        await asyncio.sleep(30)
        assert delayed(world, repeats)[0] == "AWSUnavailable"
        assert "Invalid nextToken" in delayed(world, repeats)[1]
        world.batch.on_list = lambda page: page
        world.batch.id_errors["train-1"] = CallError(ErrorClass.UNAVAILABLE, "an entry without a job id", "Unreadable")
        unreadable = world.objects.create_termination("unreadable", spec(select=tags, approved=True))
        await asyncio.sleep(100)
        assert delayed(world, unreadable)[0] == "AWSUnavailable"
        assert phase(world, unreadable) == "Terminating"
        world.batch.id_errors["train-1"] = THROTTLED
        throttled = world.objects.create_termination("throttled", spec(approved=True))
        await asyncio.sleep(30)
        assert delayed(world, throttled)[0] == "Throttled"
        assert sent(world) == {"train-0", "train-1", "train-2"}


async def test_a_policy_that_allows_again_ends_the_refusal() -> None:
    async with a_world(allow=["Observe"]) as world:
        jobs(world, 3)
        uid = world.objects.create_termination("stop", spec())
        await asyncio.sleep(5)
        assert phase(world, uid) == "Refused"
        world.batch.describes_granted.clear()
        set_policy(world)
        await asyncio.sleep(5)
        assert (phase(world, uid), stalled(world, uid)) == ("Planning", None)
