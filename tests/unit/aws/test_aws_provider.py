"""The provider over fake clients, under virtual time: what is sent, how it is signed, what comes of each answer."""

import asyncio
import datetime as dt
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ConnectTimeoutError, NoCredentialsError
from structlog.testing import capture_logs

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import Accepted, CallLabels, DescribedJob, DescribeResult, JobPage
from awsbatch_operator.api.job import NOT_FOUND, Job, JobSummary, Target
from awsbatch_operator.aws.errors import PermitExpiredError
from awsbatch_operator.aws.hooks import EXPIRED, REGROUPED, current_scope
from awsbatch_operator.aws.provider import MAX_PER_TARGET
from awsbatch_operator.aws.regions import KnownRegions
from awsbatch_operator.aws.sdk_session import MAX_THREADS
from awsbatch_operator.aws.sessions import Session
from fakes.aws import HERE, OWN, FakePermit, classes, describe, expires_after, list_jobs, make_batch, terminate
from fakes.telemetry import FakeTelemetry
from unit.aws.fake_client import REQUEST_ID, FakeClient, refusal

pytestmark = pytest.mark.looptime(start=0)

OURS, THEIRS = "123456789012", "222222222222"
TEAM_A = Target(HERE, f"arn:aws:iam::{THEIRS}:role/teams/a", "team-a")
TEAM_B = Target(HERE, f"arn:aws:iam::{THEIRS}:role/b", "team-b")
ELSEWHERE = Target(HERE, "arn:aws:iam::333333333333:role/c", "team-c")
SEEN = DescribedJob(Job("RUNNING"), {})
ACCEPTED = Accepted(REQUEST_ID)
THROTTLE = refusal("TooManyRequestsException", 429, "Too Many Requests")
EXPIRED_TOKEN = refusal("ExpiredTokenException", 403, "The security token included in the request is expired")
NO_ROUTE = refusal("404", 404, "<html>Not Found</html>")
REJECTED = refusal("ClientException", 400, "no")


class Signing(FakeClient):
    """Signs each call as botocore does: by the access key of the request's scope."""

    def __init__(self, kind: str, region: str) -> None:
        super().__init__()
        self.kind, self.region = kind, region
        self.signed: list[str] = []

    def _reply(self, *call: Any) -> Mapping[str, Any]:
        scope = current_scope()
        self.signed.append(str(scope.session.frozen().access_key))
        if scope.permits is not None and not scope.permits.valid():
            raise PermitExpiredError
        return super()._reply(*call)


class FakeStsClient:
    """Gives each session an access key that is its name; roles in `refused` raise."""

    def __init__(self) -> None:
        self.refused: dict[str, Exception] = {}
        self.assumed: list[str] = []

    def assume_role(self, **requested: Any) -> Mapping[str, Any]:
        assert current_scope().session.frozen().access_key == "own"
        self.assumed.append(requested["RoleSessionName"])
        if requested["RoleArn"] in self.refused:
            raise self.refused[requested["RoleArn"]]
        expires = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        keys = {"AccessKeyId": requested["RoleSessionName"], "SecretAccessKey": "s", "SessionToken": "t"}
        return {"Credentials": keys | {"Expiration": expires}}

    def get_caller_identity(self) -> Mapping[str, Any]:
        return {"Account": OURS}

    def close(self) -> None:
        """Has no connection."""


@dataclass
class World:
    """`clients` by kind and region; `made` in the order in which they were made."""

    rate: float = 1000.0
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    made: list[tuple[str, str]] = field(default_factory=list)
    clients: dict[tuple[str, str], Signing] = field(default_factory=dict)
    sts: FakeStsClient = field(default_factory=FakeStsClient)
    jobs: dict[str, str] = field(default_factory=dict)
    own_loads: int = 0
    ahead: float = 0.0

    def __post_init__(self) -> None:
        monotonic = lambda: time.monotonic() + self.ahead  # noqa: E731
        self.batch = make_batch(
            telemetry=self.telemetry,
            make_client=self._make,
            describe_rate=self.rate,
            terminate_rate=self.rate,
            own=Session(self._load, monotonic),
            clock=lambda: 1234.5,
            monotonic=monotonic,
        )

    def _load(self) -> Credentials:
        self.own_loads += 1
        return Credentials("own", "s")

    def _make(self, kind: str, region: str) -> Any:
        self.made.append((kind, region))
        return self.sts if kind == "sts" else self.client(kind, region)

    def client(self, kind: str, region: str = HERE) -> Signing:
        client = self.clients.setdefault((kind, region), Signing(kind, region))
        client.jobs = self.jobs
        return client

    async def describe(self, *ids: str, target: Target = OWN) -> dict[str, DescribeResult]:
        return await describe(self.batch, target, *ids)

    async def terminate(
        self, *ids: str, target: Target = OWN, namespace: str = "blue", reason: str = "why"
    ) -> list[Accepted | CallError]:
        permits = [FakePermit(job_id, target, namespace) for job_id in ids]
        return await terminate(self.batch, *permits, reason=reason)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.batch.close()


def ids(number: int) -> list[str]:
    return [f"j{index:03}" for index in range(number)]


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_hundred_jobs_are_one_call_and_each_gets_its_own_answer(world: World) -> None:
    world.jobs.update(dict.fromkeys(ids(99), "RUNNING"))
    assert await world.describe(*ids(100)) == {**dict.fromkeys(ids(99), SEEN), "j099": NOT_FOUND}
    assert world.client("describe").sizes("DescribeJobs") == [100]


async def test_a_malformed_id_spoils_its_call_alone(world: World) -> None:
    world.client("describe").malformed = {"j001"}
    async with world.batch.describe_slot(OWN):
        answer = await world.batch.describe(OWN, ids(2))
    assert isinstance(answer, CallError)
    assert (answer.error_class, answer.message) == (ErrorClass.REJECTED, "j001 is not supported")
    assert world.client("describe").count("DescribeJobs") == 1


@pytest.mark.parametrize("answer", [{}, {"jobs": None}])
async def test_an_empty_answer_never_means_that_jobs_are_missing(world: World, answer: dict[str, Any]) -> None:
    world.client("describe").script["DescribeJobs"] = [answer]
    assert classes(list((await world.describe(*ids(2))).values())) == [ErrorClass.UNAVAILABLE] * 2


async def test_a_page_is_one_call_for_a_thousand_jobs_of_one_queue_and_status(world: World) -> None:
    world.jobs["a"] = "RUNNING"
    page = await list_jobs(world.batch, queue="gpu", status="RUNNING")
    assert page == JobPage((JobSummary("a", "a", "RUNNING"),), None)
    await list_jobs(world.batch, queue="gpu", status="RUNNING", token="more")
    first = ("jobQueue=gpu", "jobStatus=RUNNING", "maxResults=1000")
    assert [call[1] for call in world.client("describe").calls] == [first, (*first, "nextToken=more")]


async def test_a_page_is_signed_as_a_describe_of_its_target(world: World) -> None:
    await list_jobs(world.batch, TEAM_A)
    await list_jobs(world.batch)
    assert world.client("describe").signed == ["policy,team-a@prod", "own"]


async def test_the_account_is_learned_from_a_page_without_a_call_to_sts(world: World) -> None:
    listed = {"jobId": "a", "jobArn": f"arn:aws:batch:{HERE}:{OURS}:job/a"}
    world.client("describe").script["ListJobs"] = [{"jobSummaryList": []}, {"jobSummaryList": [listed]}]
    for account in (None, OURS):
        await list_jobs(world.batch)
        assert world.batch.account(OWN) == account
    assert world.made == [("describe", HERE)]


async def test_a_fault_of_this_program_surfaces(world: World) -> None:
    world.client("describe").always = {"DescribeJobs": TypeError("a bug")}
    world.client("terminate").always = {"TerminateJob": TypeError("a bug")}
    with pytest.raises(TypeError, match="a bug"):
        await world.describe("a")
    with pytest.raises(TypeError, match="a bug"):
        await world.terminate("a")


async def test_a_single_termination_goes_out_as_terminate_job_with_exactly_its_reason(world: World) -> None:
    reason = 'INC-4711: "runaway"\n💸 '
    assert await world.terminate("a", reason=reason) == [ACCEPTED]
    assert world.client("terminate").calls == [("TerminateJob", ("a",), reason)]


async def test_several_terminations_are_one_terminate_jobs(world: World) -> None:
    assert world.batch.terminate_limit(OWN) == 50
    assert await world.terminate(*ids(50)) == [ACCEPTED] * 50
    assert world.client("terminate").calls == [("TerminateJobs", tuple(ids(50)), "why")]


async def test_a_job_that_two_objects_name_is_sent_once(world: World) -> None:
    permits = [FakePermit("x", namespace=name) for name in ("blue", "green")]
    assert await terminate(world.batch, *permits) == [ACCEPTED] * 2
    assert world.client("terminate").calls == [("TerminateJob", ("x",), "why")]


async def test_errors_for_single_jobs_of_a_bulk_call_have_their_own_classes(world: World) -> None:
    codes = ["ValidationException", "ClientException", "ThrottlingException", "ServerException", "AccessDenied", ""]
    errors = [{"job": f"j{number:03}", "code": code, "message": "m"} for number, code in enumerate(codes)]
    world.client("terminate").script["TerminateJobs"] = [{"successful": ["j006"], "errors": errors}]
    assert classes(await world.terminate(*ids(8))) == [
        ErrorClass.REJECTED,
        ErrorClass.REJECTED,
        ErrorClass.THROTTLED,
        ErrorClass.UNAVAILABLE,
        ErrorClass.DENIED,
        ErrorClass.UNAVAILABLE,
        None,
        ErrorClass.UNAVAILABLE,
    ]


@pytest.mark.parametrize("answer", [{}, {"successful": None, "errors": None}, {"successful": "x"}])
async def test_a_bulk_answer_without_lists_is_no_answer_for_anyone(world: World, answer: dict[str, Any]) -> None:
    world.client("terminate").script["TerminateJobs"] = [answer]
    assert classes(await world.terminate(*ids(3))) == [ErrorClass.UNAVAILABLE] * 3


@pytest.mark.parametrize("rubbish", [None, "x", 3, {}, {"job": 5}, {"job": "another", "code": "ClientException"}])
async def test_rubbish_among_the_errors_of_a_bulk_call_harms_nobody(world: World, rubbish: Any) -> None:
    world.client("terminate").script["TerminateJobs"] = [{"successful": [*ids(2), 7, None], "errors": [rubbish]}]
    assert await world.terminate(*ids(2)) == [ACCEPTED] * 2


@pytest.mark.parametrize("error", [THROTTLE, REJECTED, refusal("AccessDeniedException", 403, "not authorized")])
async def test_an_error_of_a_bulk_call_is_the_whole_calls_and_nothing_else_is_sent(
    world: World, error: Exception
) -> None:
    world.client("terminate").always["TerminateJobs"] = error
    results = await world.terminate(*ids(50))
    assert len(set(results)) == 1
    assert isinstance(results[0], CallError)
    assert len(world.client("terminate").calls) == 1


@pytest.mark.parametrize(
    "reply",
    [
        NO_ROUTE,
        refusal("UnknownOperationException", 404),
        refusal("InvalidAction", 400, "no such action"),
        refusal("MissingAuthenticationTokenException", 403, "Missing Authentication Token"),
    ],
)
async def test_without_terminate_jobs_the_limit_of_the_region_is_one(world: World, reply: Exception) -> None:
    world.client("terminate").always["TerminateJobs"] = reply
    results = await world.terminate(*ids(20))
    assert classes(results) == [ErrorClass.NOT_SENT] * 20
    assert [world.batch.terminate_limit(one) for one in (OWN, TEAM_A, Target("us-east-1"))] == [1, 1, 50]
    assert await world.terminate("j000") == [ACCEPTED]
    assert world.batch.terminate_limit(OWN) == 1


async def test_an_endpoint_without_either_operation_says_nothing_about_terminate_jobs(world: World) -> None:
    world.client("terminate").always = {"TerminateJobs": NO_ROUTE, "TerminateJob": NO_ROUTE}
    await world.terminate(*ids(2))
    (error,) = await world.terminate("j000")
    assert isinstance(error, CallError)
    assert error.error_class is ErrorClass.CREDENTIALS
    assert "AWS_ENDPOINT_URL_BATCH" in error.message
    assert world.batch.terminate_limit(OWN) == 50


async def test_nothing_is_sent_when_a_permit_is_not_valid_and_the_others_may_be_sent_again(world: World) -> None:
    permits = [FakePermit("a"), FakePermit("b", validity=expires_after(0)), FakePermit("c")]
    assert await terminate(world.batch, *permits) == [REGROUPED, EXPIRED, REGROUPED]
    assert classes([EXPIRED, REGROUPED]) == [ErrorClass.NOT_SENT] * 2
    assert REGROUPED.code == "Regrouped"
    assert EXPIRED != REGROUPED
    assert world.client("terminate").calls == []
    assert world.telemetry.requests == []


async def test_after_stop_no_termination_is_sent_and_describes_go_on(world: World) -> None:
    world.batch.stop()
    (error,) = await world.terminate("a")
    assert isinstance(error, CallError)
    assert (error.error_class, error.code) == (ErrorClass.UNAVAILABLE, "Stopping")
    assert await world.describe("a") == {"a": NOT_FOUND}
    assert world.client("terminate").calls == []


async def test_permits_of_two_namespaces_or_targets_never_share_a_call(world: World) -> None:
    for pair in (
        [FakePermit("x", TEAM_A, "blue"), FakePermit("y", TEAM_A, "green")],
        [FakePermit("x", TEAM_A, "blue"), FakePermit("y", TEAM_B, "blue")],
        [FakePermit("x", OWN), FakePermit("y", TEAM_A)],
    ):
        results = await terminate(world.batch, *pair)
        assert [isinstance(one, CallError) and one.code for one in results] == ["NoSigningScopeError"] * 2
    assert world.made == []


async def test_all_roles_share_the_clients_and_each_call_is_signed_by_its_own_session(world: World) -> None:
    for target, namespace in ((TEAM_A, "blue"), (TEAM_A, "green"), (TEAM_B, "blue"), (OWN, "blue"), (TEAM_A, "blue")):
        assert await world.terminate("x", target=target, namespace=namespace) == [ACCEPTED]
        assert await world.describe("x", target=target) == {"x": NOT_FOUND}
    assert world.client("terminate").signed == ["ns,blue@prod", "ns,green@prod", "ns,blue@prod", "own", "ns,blue@prod"]
    assert world.client("describe").signed == [
        *("policy,team-a@prod", "policy,team-a@prod", "policy,team-b@prod", "own", "policy,team-a@prod"),
    ]
    assert sorted(world.made) == [("describe", HERE), ("sts", HERE), ("terminate", HERE)]
    assert len(world.sts.assumed) == 5, "one session for each namespace, and one for the describes of a policy"


async def test_three_hundred_roles_take_no_more_threads_than_one(world: World) -> None:
    targets = [Target(HERE, f"arn:aws:iam::{THEIRS}:role/r{number}", f"p{number}") for number in range(300)]
    await asyncio.gather(*(world.describe("x", target=target) for target in targets))
    await asyncio.gather(*(world.terminate("x", target=target) for target in targets))
    for kind in ("describe", "terminate"):
        assert sum(thread.name.startswith(kind) for thread in threading.enumerate()) <= MAX_THREADS
    assert len(world.made) == 3


async def test_prepared_clients_serve_the_first_calls_without_a_request_to_aws(world: World) -> None:
    await world.batch.prepare(HERE)
    assert sorted(world.made) == [("describe", HERE), ("terminate", HERE)]
    assert (world.client("describe").calls, world.own_loads) == ([], 1)
    await world.describe("a")
    await world.terminate("a")
    assert sorted(world.made) == [("describe", HERE), ("sts", HERE), ("terminate", HERE)]


async def test_a_client_that_cannot_be_made_is_an_error_of_the_call() -> None:
    def make(_kind: str, _region: str) -> Any:
        raise NoCredentialsError

    batch = make_batch(make_client=make, own=Session(lambda: Credentials("own", "s")))
    await batch.prepare(HERE)
    (error,) = await terminate(batch, FakePermit("a"))
    assert await describe(batch, OWN, "a") == {"a": error}
    assert isinstance(error, CallError)
    assert error.error_class is ErrorClass.CREDENTIALS
    batch.close()


async def test_expired_credentials_are_renewed_once_and_the_call_repeated(world: World) -> None:
    world.jobs["a"] = "RUNNING"
    world.client("describe").script["DescribeJobs"] = [EXPIRED_TOKEN]
    assert await world.describe("a") == {"a": SEEN}
    assert (world.own_loads, world.client("describe").count("DescribeJobs")) == (2, 2)
    assert world.made == [("describe", HERE)] * 2, "a CA bundle or an endpoint may have been corrected, too"


async def test_credentials_that_stay_expired_are_not_renewed_in_a_hot_loop(world: World) -> None:
    world.client("describe").always["DescribeJobs"] = EXPIRED_TOKEN
    for _ in range(5):
        assert classes(list((await world.describe("a")).values())) == [ErrorClass.CREDENTIALS]
    assert (world.own_loads, world.client("describe").count("DescribeJobs")) == (2, 6)


async def test_a_session_that_is_denied_is_renewed_unless_it_is_new(world: World) -> None:
    world.client("describe").always["DescribeJobs"] = refusal("AccessDeniedException", 403, "no")
    for world.ahead, calls in ((0, 1), (9, 2), (11, 4), (12, 5)):
        assert classes(list((await world.describe("a", target=TEAM_A)).values())) == [ErrorClass.DENIED]
        assert world.client("describe").count("DescribeJobs") == calls
    assert world.sts.assumed == ["policy,team-a@prod"] * 2
    assert world.made == [("describe", HERE), ("sts", HERE)], "a role's session has no client of its own"


async def test_a_role_that_cannot_be_assumed_is_reported_by_its_policy_alone(world: World) -> None:
    assert TEAM_A.role is not None
    world.sts.refused[TEAM_A.role] = refusal("AccessDenied", 403, "not authorized to assume", "AssumeRole")
    (error,) = (await world.describe("a", target=TEAM_A)).values()
    assert isinstance(error, CallError)
    assert error.message == "the operator cannot assume the role of the BatchAccessPolicy team-a"
    assert (error.error_class, "platform team" in error.remedy) == (ErrorClass.DENIED, True)
    reason = world.batch.assume_error(TEAM_A)
    assert reason is not None
    assert reason.message == "not authorized to assume"
    assert world.batch.assume_error(TEAM_B) is None
    assert await world.describe("a", target=TEAM_B) == {"a": NOT_FOUND}
    world.batch.forget(TEAM_A)
    assert world.batch.assume_error(TEAM_A) is None


async def test_an_answer_of_sts_that_cannot_be_parsed_is_unavailable(world: World) -> None:
    assert TEAM_A.role is not None
    world.sts.refused[TEAM_A.role] = ValueError("year 99999 is out of range")
    assert classes(list((await world.describe("a", target=TEAM_A)).values())) == [ErrorClass.UNAVAILABLE]


async def test_without_own_credentials_no_role_is_assumed_and_the_error_says_why() -> None:
    def load() -> Credentials:
        raise NoCredentialsError

    batch = make_batch(make_client=Signing, own=Session(load))
    for target in (OWN, TEAM_A):
        (error,) = (await describe(batch, target, "a")).values()
        assert isinstance(error, CallError)
        assert (error.error_class, error.code) == (ErrorClass.CREDENTIALS, "NoCredentialsError")
    batch.close()


async def test_terminations_do_not_wait_for_describes(world: World) -> None:
    released = world.client("describe").held["DescribeJobs"] = threading.Event()
    describes = [asyncio.create_task(world.describe(job_id)) for job_id in ids(3 * MAX_THREADS)]
    assert await world.terminate("x") == [ACCEPTED]
    assert not any(one.done() for one in describes)
    released.set()
    await asyncio.gather(*describes)


@pytest.mark.parametrize("operation", ["DescribeJobs", "ListJobs", "TerminateJob"])
async def test_a_target_that_does_not_answer_gets_one_thread_until_it_does(world: World, operation: str) -> None:
    batch = world.batch
    client = world.client("terminate" if operation == "TerminateJob" else "describe")
    slot = batch.terminate_slot if operation == "TerminateJob" else batch.describe_slot
    calls: dict[str, Callable[[], Any]] = {
        "DescribeJobs": lambda: batch.describe(OWN, ["x"]),
        "ListJobs": lambda: batch.list_jobs(OWN, "q", "RUNNING", None),
        "TerminateJob": lambda: batch.terminate(OWN, [FakePermit("x")], ""),
    }
    call = calls[operation]

    async def slots() -> int:
        """Counts the slots that the target gets at once."""
        tasks = [asyncio.create_task(_hold(slot(OWN))) for _ in range(MAX_THREADS)]
        await asyncio.sleep(1)
        held = sum(task.get_name() == "held" for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return held

    assert await slots() == 1, "it was never tried"
    async with slot(OWN):
        await call()
    assert await slots() == MAX_PER_TARGET
    client.script[operation] = [ConnectTimeoutError(endpoint_url="https://batch")]
    async with slot(OWN):
        await call()
    assert await slots() == 1


async def _hold(slot: Any) -> None:
    async with slot:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("held")
        await asyncio.Event().wait()


async def test_roles_of_one_account_share_its_budget_and_other_accounts_have_theirs() -> None:
    world = World(rate=1.0)

    async def slot(target: Target) -> float:
        async with world.batch.describe_slot(target):
            return now()

    for target in (TEAM_A, TEAM_B) * 5:
        assert await slot(target) == 0
    for target in (ELSEWHERE, OWN, TEAM_A._replace(region="us-east-1")):
        assert await slot(target) == 0
    assert await slot(TEAM_B) == pytest.approx(1.0, abs=0.1)
    world.batch.close()


async def test_the_measured_rate_is_kept_when_the_account_becomes_known() -> None:
    world = World(rate=1.0)
    for _ in range(10):
        await world.describe("x")
    assert world.batch.account(OWN) == OURS
    before = now()
    async with world.batch.describe_slot(OWN):
        assert now() - before > 0.5
    world.batch.close()


@pytest.mark.parametrize("operation", ["DescribeJobs", "ListJobs", "TerminateJob"])
async def test_a_throttle_slows_its_own_account_alone(operation: str) -> None:
    world = World(rate=4.0)
    for kind in ("describe", "terminate"):
        world.client(kind).always = {operation: THROTTLE}
    calls: dict[str, Callable[[], Any]] = {
        "DescribeJobs": lambda: world.describe("x", target=TEAM_A),
        "ListJobs": lambda: list_jobs(world.batch, TEAM_A),
        "TerminateJob": lambda: world.terminate("x", target=TEAM_A),
    }
    await calls[operation]()
    start = now()
    slot = world.batch.terminate_slot if operation == "TerminateJob" else world.batch.describe_slot
    async with slot(ELSEWHERE):
        assert now() == start
    async with slot(TEAM_B):
        assert now() - start == pytest.approx(0.48, abs=0.06)
    world.batch.close()


async def test_a_throttle_for_a_single_job_of_a_bulk_call_slows_terminations_down() -> None:
    world = World(rate=2.0)
    error = {"job": "j000", "code": "ThrottlingException", "message": "Rate exceeded"}
    world.client("terminate").script["TerminateJobs"] = [{"successful": ["j001"], "errors": [error]}]
    await world.terminate(*ids(2))
    before = now()
    await world.terminate("later")
    assert now() - before > 0.9
    world.batch.close()


async def test_metrics_are_kept_of_every_call(world: World) -> None:
    world.client("describe").script["DescribeJobs"] = [None, THROTTLE]
    await world.describe(*ids(3))
    await world.describe(*ids(2))
    await world.terminate("a")
    await world.terminate(*ids(7))
    await list_jobs(world.batch)
    assert world.telemetry.requests == [
        ("DescribeJobs", "OK"),
        ("DescribeJobs", "TooManyRequestsException"),
        ("TerminateJob", "OK"),
        ("TerminateJobs", "OK"),
        ("ListJobs", "OK"),
    ]
    assert (world.telemetry.describe_sizes, world.telemetry.terminate_sizes) == ([3, 2], [1, 7])
    assert world.telemetry.polls == [(HERE, 1234.5)]


async def test_when_the_account_becomes_known_the_metrics_without_one_end(world: World) -> None:
    world.jobs["a"] = "RUNNING"
    await world.describe("a")
    assert set(world.telemetry.polled_at) == {CallLabels("", HERE, "")}
    await world.describe("missing")
    assert set(world.telemetry.polled_at) == {CallLabels(OURS, HERE, "")}


async def test_sts_is_asked_for_the_account_only_when_a_job_is_missing(world: World) -> None:
    world.jobs["a"] = "RUNNING"
    await world.describe("a")
    assert world.batch.account(OWN) is None
    await world.describe("missing", target=TEAM_A)
    assert (world.batch.account(OWN), world.batch.account(TEAM_A)) == (None, THEIRS)
    await world.describe("a", "missing")
    assert world.batch.account(OWN) == OURS


async def test_a_target_that_nobody_names_leaves_nothing_behind(world: World) -> None:
    targets = [Target(f"xx-{number}") for number in range(20)]
    for target in (*targets, TEAM_A, TEAM_A._replace(policy="another")):
        await world.describe("x", target=target)
    for target in (*targets, TEAM_A):
        world.batch.forget(target)
    assert set(world.telemetry.polled_at) == {CallLabels(THEIRS, HERE, "a")}, "another policy has this role"
    assert len(world.telemetry.forgotten_of) == len(targets)
    assert set(world.batch._labels) == {TEAM_A._replace(policy="another")}
    assert set(world.batch._limiters) == {(THEIRS, HERE)}
    assert await world.describe("x", target=targets[0]) == {"x": NOT_FOUND}, "forgotten, not broken"


async def test_closing_closes_the_clients(world: World) -> None:
    await world.describe("a")
    world.batch.close()
    assert world.client("describe").closed


async def test_an_error_is_logged_when_it_begins_and_when_it_ends_with_region_and_job(world: World) -> None:
    world.jobs["a"] = "RUNNING"
    world.client("describe").script["DescribeJobs"] = [THROTTLE, THROTTLE, None, None]
    with capture_logs() as lines:
        for _ in range(4):
            await world.describe("a")
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("warning", "AWS request failed"),
        ("debug", "AWS request failed"),
        ("info", "AWS requests succeed again"),
    ]
    assert all((line["region"], line["jobId"]) == (HERE, "a") for line in lines)
    assert lines[0]["error"] == "Too Many Requests"


async def test_an_error_of_a_page_is_logged_with_queue_and_status(world: World) -> None:
    world.client("describe").script["ListJobs"] = [THROTTLE]
    with capture_logs() as lines:
        await list_jobs(world.batch, queue="gpu", status="PENDING")
    assert [(line["operation"], line["queue"], line["status"]) for line in lines] == [("ListJobs", "gpu", "PENDING")]


@pytest.mark.parametrize(
    ("region", "known"),
    [
        *(("eu-west-1", True), ("cn-north-1", True), ("us-gov-west-1", True), ("eusc-de-east-1", True)),
        *(("xx-own-1", True), ("xx-allowed-1", True), ("xx-policy-1", True)),
        *(("eu-west-9", False), ("aws-global", False), ("EU-WEST-1", False), ("", False)),
    ],
)
def test_which_regions_are_known(region: str, known: bool) -> None:
    regions = KnownRegions(["xx-own-1", "xx-allowed-1"], of_policies=lambda: {"xx-policy-1"})
    assert make_batch(make_client=FakeClient, regions=regions).knows_region(region) is known
