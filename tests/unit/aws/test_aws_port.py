"""The port over a fake client, under virtual time: what is sent, and what comes of each answer."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError
from structlog.testing import capture_logs

from awsbatch_operator.aws.batch import MOST_MALFORMED, AwsBatch
from awsbatch_operator.aws.clients import THREADS
from awsbatch_operator.aws.keyring import PickKey
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import ABSENT, Job, Place
from awsbatch_operator.domain.ports import Sight
from builders import leave_to_end
from fakes.telemetry import FakeTelemetry
from unit.aws.fake_client import FakeClient, refusal

pytestmark = pytest.mark.looptime(start=0)

HERE = "eu-west-1"
SEEN = Sight(Job("RUNNING"), {})
THROTTLE = refusal("TooManyRequestsException", 429, "Too Many Requests")
EXPIRED = refusal("ExpiredTokenException", 403, "The security token included in the request is expired")
NOT_FOUND = refusal("404", 404, "<html>Not Found</html>")


@dataclass
class World:
    """AwsBatch with one fake client for each connection that it makes."""

    client: FakeClient = field(default_factory=FakeClient)
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    connected: int = 0
    regions: list[str] = field(default_factory=list)
    fast: float = 1000.0
    batch_size: int = 100

    def __post_init__(self) -> None:
        self.batch = AwsBatch(
            telemetry=self.telemetry,
            describe_rate=self.fast,
            terminate_rate=self.fast,
            batch_size=self.batch_size,
            clock=lambda: 1234.5,
            connect=self.connect,
        )

    def connect(self, _key: PickKey | None) -> Callable[[str], FakeClient]:
        self.connected += 1
        return self.make

    def make(self, region: str) -> FakeClient:
        self.regions.append(region)
        return self.client

    async def terminate(self, *ids: str, reason: str = "why", region: str = HERE) -> list[Fault | None]:
        return await asyncio.gather(
            *(self.batch.terminate(leave_to_end(job_id, Place(region)), reason) for job_id in ids)
        )


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.batch.close()


def ids(number: int) -> list[str]:
    return [f"j{index:03}" for index in range(number)]


def fates(faults: list[Fault | None]) -> list[Fate | None]:
    return [None if fault is None else fault.fate for fault in faults]


async def test_a_hundred_jobs_are_one_call_and_each_gets_its_own_answer(world: World) -> None:
    world.client.jobs = dict.fromkeys(ids(99), "RUNNING")
    looks = await world.batch.describe(Place(HERE), ids(100))
    assert looks == {**dict.fromkeys(ids(99), SEEN), "j099": ABSENT}
    assert world.client.sizes("DescribeJobs") == [100]


async def test_equal_ids_are_sent_once(world: World) -> None:
    world.client.jobs = {"a": "RUNNING"}
    assert await world.batch.describe(Place(HERE), ["a", "b", "a"]) == {"a": SEEN, "b": ABSENT}
    assert world.client.calls == [("DescribeJobs", ("a", "b"), None)]


async def test_to_look_at_nothing_costs_nothing(world: World) -> None:
    assert await world.batch.describe(Place(HERE), []) == {}
    assert world.client.calls == []


async def test_what_was_prepared_is_not_made_for_the_first_calls_and_asks_aws_nothing(world: World) -> None:
    await world.batch.prepare(HERE)
    assert (world.regions, world.client.calls) == ([HERE, HERE], []), "a client for each lane"
    await world.batch.describe(Place(HERE), ["a"])
    await world.terminate("a")
    assert world.regions == [HERE, HERE]


async def test_what_cannot_be_prepared_is_told_by_the_first_call() -> None:
    world = World()

    def make(_region: str) -> FakeClient:
        raise NoCredentialsError

    world.batch = AwsBatch(telemetry=world.telemetry, connect=lambda _session: make)
    await world.batch.prepare(HERE)
    look = (await world.batch.describe(Place(HERE), ["a"]))["a"]
    assert isinstance(look, Fault)
    assert look.fate is Fate.CREDENTIALS
    await world.batch.close()


async def test_a_smaller_batch_size_makes_more_calls() -> None:
    world = World(batch_size=40)
    assert len(await world.batch.describe(Place(HERE), ids(100))) == 100
    assert world.client.sizes("DescribeJobs") == [40, 40, 20]
    await world.batch.close()


async def test_one_malformed_id_costs_the_others_nothing_and_is_found_by_halves(world: World) -> None:
    world.client.jobs = dict.fromkeys(ids(100), "RUNNING")
    world.client.malformed = {"j042"}
    looks = await world.batch.describe(Place(HERE), ids(100))
    culprit = looks["j042"]
    assert isinstance(culprit, Fault)
    assert (culprit.fate, culprit.message) == (Fate.REJECTED, "j042 is not supported")
    assert {job_id for job_id, look in looks.items() if look == SEEN} == set(ids(100)) - {"j042"}
    assert world.client.count("DescribeJobs") <= 15


async def test_a_known_malformed_id_is_asked_for_alone_from_then_on(world: World) -> None:
    world.client.jobs = dict.fromkeys(ids(100), "RUNNING")
    world.client.malformed = {"j042"}
    await world.batch.describe(Place(HERE), ids(100))
    world.client.calls.clear()
    looks = await world.batch.describe(Place(HERE), ids(100))
    assert isinstance(looks["j042"], Fault)
    assert world.client.sizes("DescribeJobs") == [99, 1]


async def test_an_id_that_is_malformed_no_more_joins_the_others_again(world: World) -> None:
    world.client.malformed = {"j001"}
    await world.batch.describe(Place(HERE), ids(2))
    world.client.malformed = set()
    await world.batch.describe(Place(HERE), ids(2))
    world.client.calls.clear()
    await world.batch.describe(Place(HERE), ids(2))
    assert world.client.sizes("DescribeJobs") == [2]


async def test_what_is_remembered_of_malformed_ids_is_bounded(world: World) -> None:
    for number in range(MOST_MALFORMED + 5):
        world.batch._remember((Place(HERE), f"bad-{number}"), malformed=True)
    assert len(world.batch._malformed) == MOST_MALFORMED
    assert (Place(HERE), "bad-0") not in world.batch._malformed


async def test_each_further_call_of_a_search_waits_for_its_own_budget() -> None:
    world = World(fast=1.0)
    world.client.malformed = {"j000"}
    for _ in range(10):
        await world.batch.look_budget(Place(HERE))
    await world.batch.describe(Place(HERE), ids(4))
    assert world.client.sizes("DescribeJobs") == [4, 2, 1, 1, 2]
    assert asyncio.get_running_loop().time() == pytest.approx(4.0, abs=0.2)
    await world.batch.close()


async def test_a_search_that_is_throttled_keeps_what_it_has(world: World) -> None:
    world.client.jobs = dict.fromkeys(ids(4), "RUNNING")
    bad = refusal("ClientException", 400, "some id")
    world.client.script["DescribeJobs"] = [bad, None, THROTTLE]
    looks = await world.batch.describe(Place(HERE), ids(4))
    assert [looks[job_id] for job_id in ids(2)] == [SEEN, SEEN]
    assert fates([look for look in looks.values() if isinstance(look, Fault)]) == [Fate.THROTTLED] * 2


async def test_a_throttle_is_the_answer_for_every_job_and_halves_the_rate() -> None:
    world = World(fast=4.0)
    world.client.script["DescribeJobs"] = [THROTTLE]
    looks = await world.batch.describe(Place(HERE), ids(3))
    assert set(looks.values()) == {Fault(Fate.THROTTLED, "Too Many Requests", "TooManyRequestsException")}
    assert world.client.count("DescribeJobs") == 1
    await world.batch.look_budget(Place(HERE))
    # 2/s now, and a little more with each moment.
    assert asyncio.get_running_loop().time() == pytest.approx(0.48, abs=0.06)
    await world.batch.close()


async def test_a_throttled_look_does_not_slow_terminations_down() -> None:
    world = World(fast=1.0)
    world.client.script["DescribeJobs"] = [THROTTLE]
    await world.batch.describe(Place(HERE), ids(3))
    await asyncio.sleep(2)
    before = asyncio.get_running_loop().time()
    assert await world.terminate("a") == [None]
    assert asyncio.get_running_loop().time() == before
    await world.batch.close()


async def test_a_throttled_termination_slows_looks_down_in_its_own_region_only() -> None:
    world = World(fast=1.0)
    world.client.script["TerminateJob"] = [THROTTLE]
    assert fates(await world.terminate("a")) == [Fate.THROTTLED]
    before = asyncio.get_running_loop().time()
    await world.batch.look_budget(Place("us-east-1"))
    assert asyncio.get_running_loop().time() == before
    await world.batch.look_budget(Place(HERE))
    assert asyncio.get_running_loop().time() - before > 1.5
    await world.batch.close()


@pytest.mark.parametrize("answer", [{}, {"jobs": None}])
async def test_an_empty_answer_is_never_taken_for_absent(world: World, answer: dict[str, Any]) -> None:
    world.client.script["DescribeJobs"] = [answer]
    looks = await world.batch.describe(Place(HERE), ids(2))
    assert [look.fate for look in looks.values() if isinstance(look, Fault)] == [Fate.UNAVAILABLE] * 2


async def test_a_fault_of_this_program_surfaces(world: World) -> None:
    world.client.always = {"DescribeJobs": TypeError("a bug"), "TerminateJob": TypeError("a bug")}
    with pytest.raises(TypeError, match="a bug"):
        await world.batch.describe(Place(HERE), ids(2))
    with pytest.raises(TypeError, match="a bug"):
        await world.batch.terminate(leave_to_end("a"), "why")


async def test_a_single_termination_goes_out_as_terminate_job_with_exactly_its_reason(world: World) -> None:
    reason = 'INC-4711: "runaway"\n💸 '
    assert await world.terminate("a", reason=reason) == [None]
    assert world.client.calls == [("TerminateJob", ("a",), reason)]


async def test_terminations_with_one_reason_go_out_by_fifties(world: World) -> None:
    assert await world.terminate(*ids(500)) == [None] * 500
    assert world.client.sizes("TerminateJobs") == [50] * 10
    assert world.client.count("TerminateJob") == 0


async def test_terminations_with_different_reasons_share_no_call(world: World) -> None:
    await asyncio.gather(world.terminate("a", reason="x"), world.terminate("b", reason="y"))
    assert sorted(world.client.calls) == [("TerminateJob", ("a",), "x"), ("TerminateJob", ("b",), "y")]


async def test_terminations_of_different_regions_share_no_call(world: World) -> None:
    await asyncio.gather(world.terminate("a"), world.terminate("b", region="us-east-1"))
    assert world.client.count("TerminateJob") == 2
    assert sorted(world.regions) == [HERE, "us-east-1"]


async def test_errors_for_single_jobs_of_a_bulk_call_have_their_own_fates(world: World) -> None:
    codes = ["ValidationException", "ClientException", "ThrottlingException", "ServerException", "AccessDenied", ""]
    errors = [{"job": f"j{number:03}", "code": code, "message": "m"} for number, code in enumerate(codes)]
    world.client.script["TerminateJobs"] = [{"successful": ["j006"], "errors": errors}]
    assert fates(await world.terminate(*ids(8))) == [
        Fate.REJECTED,
        Fate.REJECTED,
        Fate.THROTTLED,
        Fate.UNAVAILABLE,
        Fate.DENIED,
        Fate.UNAVAILABLE,
        None,
        Fate.UNAVAILABLE,
    ]


async def test_a_throttle_for_a_single_job_of_a_bulk_call_slows_the_lane_down() -> None:
    world = World(fast=2.0)
    error = {"job": "j000", "code": "ThrottlingException", "message": "Rate exceeded"}
    world.client.script["TerminateJobs"] = [{"successful": ["j001"], "errors": [error]}]
    await world.terminate(*ids(2))
    before = asyncio.get_running_loop().time()
    await world.terminate("later")
    assert asyncio.get_running_loop().time() - before > 0.9
    await world.batch.close()


@pytest.mark.parametrize("answer", [{}, {"successful": None, "errors": None}, {"successful": "x"}])
async def test_a_bulk_answer_without_lists_is_no_answer_for_anyone(world: World, answer: dict[str, Any]) -> None:
    world.client.script["TerminateJobs"] = [answer]
    assert fates(await world.terminate(*ids(3))) == [Fate.UNAVAILABLE] * 3


@pytest.mark.parametrize("rubbish", [None, "x", 3, {}, {"job": 5}, {"job": "another", "code": "ClientException"}])
async def test_rubbish_among_the_errors_of_a_bulk_call_harms_nobody(world: World, rubbish: Any) -> None:
    world.client.script["TerminateJobs"] = [{"successful": [*ids(2), 7, None], "errors": [rubbish]}]
    assert await world.terminate(*ids(2)) == [None, None]


async def test_a_throttled_bulk_call_answers_all_and_does_not_burst_into_single_calls(world: World) -> None:
    world.client.always["TerminateJobs"] = THROTTLE
    assert fates(await world.terminate(*ids(50))) == [Fate.THROTTLED] * 50
    assert len(world.client.calls) == 1


async def test_a_bulk_call_refused_as_a_whole_for_want_of_permission_is_denied_to_each(world: World) -> None:
    world.client.always["TerminateJobs"] = refusal("AccessDeniedException", 403, "User: x is not authorized to …")
    assert fates(await world.terminate(*ids(3))) == [Fate.DENIED] * 3
    assert len(world.client.calls) == 1


async def test_a_rejected_bulk_call_is_split_until_only_the_culprit_is_rejected(world: World) -> None:
    bad = refusal("ClientException", 400, "no")
    world.client.script["TerminateJobs"] = [bad, bad]
    world.client.script["TerminateJob"] = [bad]
    assert fates(await world.terminate(*ids(4))) == [Fate.REJECTED, None, None, None]
    assert [(name, len(each)) for name, each, _ in world.client.calls] == [
        ("TerminateJobs", 4),
        ("TerminateJobs", 2),
        ("TerminateJob", 1),
        ("TerminateJob", 1),
        ("TerminateJobs", 2),
    ]


@pytest.mark.parametrize(
    "reply",
    [
        NOT_FOUND,
        refusal("UnknownOperationException", 404),
        refusal("InvalidAction", 400, "no such action"),
        refusal("MissingAuthenticationTokenException", 403, "Missing Authentication Token"),
    ],
)
async def test_without_terminate_jobs_each_goes_alone_and_that_is_remembered(world: World, reply: Exception) -> None:
    world.client.always["TerminateJobs"] = reply
    assert await world.terminate(*ids(20)) == [None] * 20
    assert await world.terminate(*ids(5), reason="another") == [None] * 5
    assert world.client.count("TerminateJobs") == 1
    assert world.client.count("TerminateJob") == 25


async def test_an_sdk_without_terminate_jobs_is_served_all_the_same() -> None:
    class OldClient:
        """Of a boto3 before 1.43.93."""

        def __init__(self, client: FakeClient) -> None:
            self.describe_jobs, self.terminate_job, self.close = (
                client.describe_jobs,
                client.terminate_job,
                client.close,
            )

    client = FakeClient()
    old: Any = OldClient(client)
    batch = AwsBatch(telemetry=FakeTelemetry(), terminate_rate=1000, connect=lambda _session: lambda _region: old)
    faults = await asyncio.gather(*(batch.terminate(leave_to_end(job_id), "why") for job_id in ids(3)))
    assert (faults, client.count("TerminateJob")) == ([None] * 3, 3)
    await batch.close()


async def test_single_calls_instead_of_a_bulk_call_keep_to_the_budget() -> None:
    world = World(fast=2.0)
    world.client.always["TerminateJobs"] = NOT_FOUND
    await world.terminate(*ids(13))
    # 14 calls, 10 of them the burst.
    assert asyncio.get_running_loop().time() == pytest.approx(2.0, abs=0.3)
    await world.batch.close()


async def test_an_endpoint_without_either_operation_is_asked_twice_not_fifty_times(world: World) -> None:
    world.client.always = {"TerminateJobs": NOT_FOUND, "TerminateJob": NOT_FOUND}
    faults = await world.terminate(*ids(50))
    assert fates(faults) == [Fate.CREDENTIALS] * 50
    assert faults[0] is not None
    assert "AWS_ENDPOINT_URL_BATCH" in faults[0].message
    assert len(world.client.calls) == 2


async def test_expired_credentials_are_renewed_once_and_the_call_repeated(world: World) -> None:
    world.client.jobs = {"a": "RUNNING"}
    world.client.script["DescribeJobs"] = [EXPIRED]
    assert await world.batch.describe(Place(HERE), ["a"]) == {"a": SEEN}
    assert (world.connected, world.client.count("DescribeJobs")) == (2, 2)


async def test_credentials_that_stay_expired_are_not_renewed_in_a_hot_loop(world: World) -> None:
    world.client.always["DescribeJobs"] = EXPIRED
    for _ in range(5):
        look = (await world.batch.describe(Place(HERE), ["a"]))["a"]
        assert isinstance(look, Fault)
        assert look.fate is Fate.CREDENTIALS
    assert (world.connected, world.client.count("DescribeJobs")) == (2, 6)


async def test_a_client_that_cannot_be_made_is_a_fault_not_a_crash() -> None:
    def connect(_key: PickKey | None) -> Callable[[str], FakeClient]:
        raise NoCredentialsError

    batch = AwsBatch(telemetry=FakeTelemetry(), connect=connect)
    looks = await batch.describe(Place(HERE), ["a"])
    fault = await batch.terminate(leave_to_end("a"), "why")
    assert looks == {"a": fault}
    assert fault is not None
    assert fault.fate is Fate.CREDENTIALS
    await batch.close()


async def test_terminations_do_not_wait_for_looks(world: World) -> None:
    looks_may_end = world.client.gates["DescribeJobs"] = threading.Event()
    looks = [asyncio.create_task(world.batch.describe(Place(HERE), [job_id])) for job_id in ids(3 * THREADS)]
    assert await world.terminate("x") == [None]
    assert not any(look.done() for look in looks)
    looks_may_end.set()
    await asyncio.gather(*looks)


async def test_each_lane_has_its_own_client_of_a_region(world: World) -> None:
    await asyncio.gather(*(world.batch.describe(Place(HERE), [job_id]) for job_id in ids(10)))
    await asyncio.gather(world.terminate("a"), world.terminate("b", reason="x"))
    assert (world.connected, world.regions) == (1, [HERE, HERE])


async def test_figures_are_kept_of_every_call(world: World) -> None:
    await world.batch.describe(Place(HERE), ids(3))
    world.client.script["DescribeJobs"] = [THROTTLE]
    await world.batch.describe(Place(HERE), ids(2))
    await world.terminate("a")
    await world.terminate(*ids(7))
    assert world.telemetry.requests == [
        ("DescribeJobs", "OK"),
        ("DescribeJobs", "TooManyRequestsException"),
        ("TerminateJob", "OK"),
        ("TerminateJobs", "OK"),
    ]
    assert (world.telemetry.describe_sizes, world.telemetry.terminate_sizes) == ([3, 2], [1, 7])
    assert world.telemetry.looks == [(HERE, 1234.5)]
    assert world.telemetry.depths == {"terminate": 0}


async def test_closing_answers_those_who_wait_and_closes_the_clients() -> None:
    world = World(fast=0.01)
    for _ in range(10):
        await world.terminate("a")
    waiting = asyncio.create_task(world.terminate("b"))
    await asyncio.sleep(1)
    await world.batch.close(within=1)
    assert fates(await waiting) == [Fate.UNAVAILABLE]
    assert world.client.closed
    assert fates(await world.terminate("c")) == [Fate.UNAVAILABLE]


async def test_a_fault_is_logged_when_it_begins_and_when_it_ends_with_region_and_job(world: World) -> None:
    world.client.jobs = {"a": "RUNNING"}
    world.client.script["DescribeJobs"] = [THROTTLE, THROTTLE, None, None]
    with capture_logs() as lines:
        for _ in range(4):
            await world.batch.describe(Place(HERE), ["a"])
    assert [line["log_level"] for line in lines] == ["warning", "debug", "info"]
    assert all((line["region"], line["jobId"]) == (HERE, "a") for line in lines)
    assert lines[0]["error"] == "Too Many Requests"


async def test_every_accepted_termination_is_logged_with_region_job_and_reason(world: World) -> None:
    with capture_logs() as lines:
        await world.terminate("a", "b")
    assert [(line["region"], line["jobId"], line["reason"]) for line in lines] == [
        (HERE, "a", "why"),
        (HERE, "b", "why"),
    ]
