"""The AWS package with real boto3 over HTTP, against the simulated Batch."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.config import Config

from awsbatch_operator import __version__
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import Accepted, DescribedJob, JobPage
from awsbatch_operator.api.job import NOT_FOUND, Array, Job, JobSummary, Node, Target, unchanged
from awsbatch_operator.aws.hooks import RequestScope
from awsbatch_operator.aws.provider import AwsBatch
from awsbatch_operator.aws.sdk_session import CONFIG, ClientFactory, own_credentials
from awsbatch_operator.aws.sessions import OwnSession
from awsbatch_sandbox.batch.server import serve
from awsbatch_sandbox.batch.simulator import BatchSimulator
from fakes.aws import HERE, OWN, FakePermit, classes, describe, list_jobs, make_batch, terminate
from fakes.telemetry import FakeTelemetry

SECRET = "hunter2"
HIDDEN: dict[str, Any] = {
    "environment": {"PASSWORD": SECRET},
    "secrets": {"TOKEN": SECRET},
    "command": ["login", SECRET],
    "parameters": {"password": SECRET},
    "tags": {"key": SECRET},
}
ONE_ATTEMPT = CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=0.5))
"""Without retries of botocore, whose waits would slow down the test."""


@dataclass
class World:
    simulator: BatchSimulator
    batch: AwsBatch
    telemetry: FakeTelemetry

    async def describe(self, job_id: str) -> Any:
        """The job, or why there is none."""
        result = (await describe(self.batch, OWN, job_id))[job_id]
        return result.job if isinstance(result, DescribedJob) else result

    async def list_jobs(self, queue: str = "default", status: str = "RUNNING", token: str | None = None) -> Any:
        return await list_jobs(self.batch, queue=queue, status=status, token=token)

    async def terminate(self, *ids: str, reason: str = "why") -> list[Accepted | CallError]:
        return await terminate(self.batch, *map(FakePermit, ids), reason=reason)


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "sandbox")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sandbox")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def world(_credentials: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    simulator = BatchSimulator()
    async with serve(simulator) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        telemetry = FakeTelemetry()
        batch = make_batch(telemetry=telemetry, make_client=ClientFactory(lambda: True, ONE_ATTEMPT))
        yield World(simulator, batch, telemetry)
        batch.close()


CLASSES: dict[str, ErrorClass] = {
    "server_500": ErrorClass.UNAVAILABLE,
    "authorizer_500": ErrorClass.UNAVAILABLE,
    "html_502": ErrorClass.UNAVAILABLE,
    "empty_503": ErrorClass.UNAVAILABLE,
    "empty_504": ErrorClass.UNAVAILABLE,
    "throttle_429": ErrorClass.THROTTLED,
    "throttle_400": ErrorClass.THROTTLED,
    "bare_429": ErrorClass.THROTTLED,
    "limit_429": ErrorClass.THROTTLED,
    "denied_403": ErrorClass.DENIED,
    "expired_403": ErrorClass.CREDENTIALS,
    "unrecognized_403": ErrorClass.CREDENTIALS,
    "signature_403": ErrorClass.CREDENTIALS,
    "html_404": ErrorClass.CREDENTIALS,
    "unknown_operation_404": ErrorClass.CREDENTIALS,
    "client_400": ErrorClass.REJECTED,
    "reset": ErrorClass.UNAVAILABLE,
    "slow": ErrorClass.UNAVAILABLE,
}
EMPTY = ("empty_200", "cut_200", "braces_200")


@pytest.mark.parametrize("kind", [*CLASSES, *EMPTY])
async def test_every_faulty_reply_to_a_describe_has_its_class_and_never_means_a_missing_job(
    world: World, kind: str
) -> None:
    job_id = world.simulator.seed()
    world.simulator.fault("DescribeJobs", kind=kind, times=None)
    result = await world.describe(job_id)
    assert isinstance(result, CallError)
    assert result.error_class is CLASSES.get(kind, ErrorClass.UNAVAILABLE)
    assert result.message
    assert "\n" not in result.message
    assert "<" not in result.message
    assert await world.describe(job_id) == result
    world.simulator.clear_faults()
    assert isinstance(await world.describe(job_id), Job)


@pytest.mark.parametrize("kind", [*CLASSES, *EMPTY])
async def test_every_faulty_reply_to_a_list_has_its_class_and_never_means_no_jobs(world: World, kind: str) -> None:
    world.simulator.seed()
    world.simulator.fault("ListJobs", kind=kind, times=None)
    assert classes([await world.list_jobs()]) == [CLASSES.get(kind, ErrorClass.UNAVAILABLE)]
    world.simulator.clear_faults()
    page = await world.list_jobs()
    assert isinstance(page, JobPage)
    assert len(page.jobs) == 1


@pytest.mark.parametrize("kind", CLASSES)
async def test_every_faulty_reply_to_a_termination_has_its_class(world: World, kind: str) -> None:
    job_id = world.simulator.seed()
    world.simulator.fault("TerminateJob", kind=kind, times=None)
    assert classes(await world.terminate(job_id)) == [CLASSES[kind]]
    assert world.simulator.terminate_requests() == []


@pytest.mark.parametrize("kind", [*CLASSES, *EMPTY])
async def test_every_faulty_reply_to_a_bulk_termination_has_its_class_for_each_job(world: World, kind: str) -> None:
    ids = world.simulator.seed_many(3)
    world.simulator.fault("*", kind=kind, times=None)
    results = await world.terminate(*ids)
    missing = CLASSES.get(kind) is ErrorClass.CREDENTIALS and "404" in kind
    expected = ErrorClass.NOT_SENT if missing else CLASSES.get(kind, ErrorClass.UNAVAILABLE)
    assert classes(results) == [expected] * 3


async def test_a_termination_whose_answer_is_lost_is_unknown_and_harmless_to_repeat(world: World) -> None:
    job_id = world.simulator.seed()
    world.simulator.fault("TerminateJob", kind="reset", act_then=True)
    assert classes(await world.terminate(job_id)) == [ErrorClass.UNAVAILABLE]
    assert (await world.describe(job_id)).is_terminated
    assert classes(await world.terminate(job_id)) == [None]


async def test_an_empty_answer_to_a_single_termination_is_its_normal_one(world: World) -> None:
    job_id = world.simulator.seed()
    world.simulator.fault("TerminateJob", kind="empty_200", act_then=True)
    assert classes(await world.terminate(job_id)) == [None]


async def test_a_request_whose_lease_expires_during_the_connection_does_not_arrive(world: World) -> None:
    job_id = world.simulator.seed()
    asked = []

    def is_leader() -> bool:
        asked.append("with the last byte")
        return False

    batch = make_batch(make_client=ClientFactory(is_leader))
    (error,) = await terminate(batch, FakePermit(job_id))
    batch.close()
    assert isinstance(error, CallError)
    assert (error.error_class, "is no longer the leader" in error.message) == (ErrorClass.UNAVAILABLE, True)
    assert world.simulator.calls() == []
    assert len(asked) == 1, "and no second attempt is made"


async def test_an_accepted_termination_has_the_request_id_of_aws(world: World) -> None:
    one, *several = await world.terminate(world.simulator.seed()), *await world.terminate(*world.simulator.seed_many(2))
    found = [result.request_id for result in (*one, *several) if isinstance(result, Accepted)]
    assert len(found) == 3
    assert all(found)
    assert found[1] == found[2] != found[0]


async def test_the_reason_arrives_exactly_as_it_was_written(world: World) -> None:
    reasons = ['INC-4711: "runaway"\n\tcost \\ 💸', "x" * 1024, "ü" * 512, " spaces "]
    for reason in reasons:
        await world.terminate(world.simulator.seed(), reason=reason)
        await world.terminate(*world.simulator.seed_many(2), reason=reason)
    sent = [request["reason"] for request in world.simulator.terminate_requests()]
    assert sent == [reason for reason in reasons for _ in range(3)]


async def test_jobs_rejected_in_a_bulk_call_do_not_affect_the_others(world: World) -> None:
    ids = world.simulator.seed_many(5)
    for number, code in ((1, "AccessDenied"), (3, "ValidationException")):
        world.simulator.fault("TerminateJobs", kind="refused_in_bulk", job_id=ids[number], code=code)
        results = await world.terminate(*ids)
        codes = [one.code if isinstance(one, CallError) else None for one in results]
        assert codes == [code if each == number else None for each in range(5)]


async def test_an_endpoint_without_terminate_jobs_is_noticed_by_the_first_call(world: World) -> None:
    world.simulator.settings(bulk_available=False)
    ids = world.simulator.seed_many(2)
    assert classes(await world.terminate(*ids)) == [ErrorClass.NOT_SENT] * 2
    assert world.batch.terminate_limit(OWN) == 1
    for job_id in ids:
        assert classes(await world.terminate(job_id)) == [None]
    assert world.simulator.counts() == {"TerminateJobs": 1, "TerminateJob": 2}


async def test_one_malformed_id_is_an_error_of_the_whole_call(world: World) -> None:
    ids = world.simulator.seed_many(2)
    results = await describe(world.batch, OWN, ids[0], "not an id", ids[1])
    assert len(set(results.values())) == 1
    error = results["not an id"]
    assert isinstance(error, CallError)
    assert error.error_class is ErrorClass.REJECTED
    assert "not supported" in error.message
    assert "RequestId" not in error.message


async def test_unknown_ids_are_absent_and_shuffled_answers_are_matched(world: World) -> None:
    ids = [world.simulator.seed(name=f"job-{number}") for number in range(50)]
    unknown = "00000000-0000-4000-8000-000000000000"
    results = await describe(world.batch, OWN, *ids, unknown)
    assert results[unknown] is NOT_FOUND
    assert [result.job.name for job_id in ids if isinstance(result := results[job_id], DescribedJob)] == [
        f"job-{number}" for number in range(50)
    ]


async def test_jobs_live_in_their_region(world: World) -> None:
    job_id = world.simulator.seed(region="us-east-1")
    assert await world.describe(job_id) is NOT_FOUND
    assert isinstance((await describe(world.batch, Target("us-east-1"), job_id))[job_id], DescribedJob)


async def test_a_queue_is_listed_page_by_page_without_children(world: World) -> None:
    ids = world.simulator.seed_many(1001, name="train")
    array = world.simulator.seed(name="array", children=["RUNNING", "RUNNABLE", "SUCCEEDED"])
    nodes = world.simulator.seed(name="nodes", num_nodes=3)
    first = await world.list_jobs()
    second = await world.list_jobs(token=first.next_token)
    assert (len(first.jobs), len(second.jobs), second.next_token) == (1000, 2, None)
    assert {one.job_id for one in (*first.jobs, *second.jobs)} == {*ids, nodes}
    job = await world.describe(ids[0])
    (shown,) = (one for one in (*first.jobs, *second.jobs) if one.job_id == ids[0])
    assert shown == JobSummary(
        ids[0], "train-0", "RUNNING", job.created_at, False, 1, job.arn, job.status_reason, job.started_at
    )
    assert unchanged(job, shown), "what both of them show is equal"
    (parent,) = (await world.list_jobs(status="PENDING")).jobs
    assert (parent.job_id, parent.name, parent.size) == (array, "array", 3)
    assert (await world.list_jobs(status="SUBMITTED")) == JobPage((), None)


async def test_a_list_shows_which_jobs_were_asked_to_end(world: World) -> None:
    alive, ending = world.simulator.seed_many(2)
    await world.terminate(ending)
    assert {one.job_id: one.flagged for one in (await world.list_jobs()).jobs} == {alive: False, ending: True}


async def test_an_unknown_queue_and_a_token_of_another_request_are_rejected(world: World) -> None:
    world.simulator.seed_many(1001)
    token = (await world.list_jobs()).next_token
    errors = [
        await world.list_jobs("no-such-queue"),
        await world.list_jobs(token="made-up"),
        await world.list_jobs(status="PENDING", token=token),
    ]
    world.simulator.expire_tokens()
    errors.append(await world.list_jobs(token=token))
    assert classes(errors) == [ErrorClass.REJECTED] * 4
    assert {error.code for error in errors} == {"ClientException"}
    assert "JobQueue no-such-queue not found." in errors[0].message


async def test_a_list_reaches_its_region_and_account_only(world: World) -> None:
    world.simulator.seed(region="us-east-1")
    job_id = world.simulator.seed()
    assert [one.job_id for one in (await world.list_jobs()).jobs] == [job_id]


SHAPES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("single", {"status": "FAILED", "exit_code": 3}, {"exit_code": 3, "status": "FAILED", "array": None}),
    ("eks", {"kind": "eks", "status": "FAILED", "exit_code": 3}, {"exit_code": 3, "log_stream_name": None}),
    ("several containers", {"kind": "ecs-multi", "status": "FAILED", "exit_code": 3}, {"exit_code": 3}),
    ("nodes", {"num_nodes": 2}, {"node": Node(num_nodes=2)}),
    ("retried", {"status": "RUNNABLE", "past_attempts": 2}, {"attempts": 2, "status": "RUNNABLE"}),
]


@pytest.mark.parametrize(("seed", "expected"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
async def test_each_shape_of_job_is_mirrored(world: World, seed: dict[str, Any], expected: dict[str, Any]) -> None:
    shown = await world.describe(world.simulator.seed(**seed))
    assert {name: getattr(shown, name) for name in expected} == expected


async def test_an_array_its_child_and_a_node_are_mirrored(world: World) -> None:
    array = world.simulator.seed(children=["RUNNING", "RUNNABLE", "SUCCEEDED"])
    nodes = world.simulator.seed(num_nodes=3)
    results = await describe(world.batch, OWN, array, f"{array}:1", f"{nodes}#0", f"{nodes}#2")
    parent, child, main, other = (result.job for result in results.values() if isinstance(result, DescribedJob))
    assert parent.array is not None
    assert (parent.array.size, parent.array.count("RUNNING"), parent.running) == (3, 1, True)
    assert child.array == Array(index=1)
    assert [one.node and (one.node.index, one.node.main) for one in (main, other)] == [
        (0, True),
        (2, False),
    ]


@pytest.mark.parametrize("kind", ["single", "array", "multinode", "eks", "ecs-multi"])
async def test_no_secret_leaves_by_value_or_by_log(
    world: World, kind: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = {"array": {"array_size": 2}, "multinode": {"num_nodes": 2}}.get(kind, {"kind": kind})
    job_id = world.simulator.seed(**HIDDEN, **shape)
    await world.describe(job_id)
    for noisy in (None, "botocore", "urllib3"):
        caplog.set_level(logging.DEBUG, noisy)
    result = await world.describe(job_id)
    assert isinstance(result, Job)
    world.simulator.fault("DescribeJobs", kind="client_400")
    refused = await world.describe(job_id)
    assert SECRET not in repr((result, refused, world.telemetry.requests))
    out = capsys.readouterr()
    assert SECRET not in caplog.text + out.out + out.err


async def test_the_simulated_batch_shows_secrets_to_its_clients(world: World) -> None:
    job_id = world.simulator.seed(**HIDDEN)
    client = ClientFactory(lambda: True, ONE_ATTEMPT)("describe", HERE)
    with RequestScope(OwnSession(own_credentials)).active():
        assert SECRET in repr(await asyncio.to_thread(client.describe_jobs, jobs=[job_id]))
    client.close()


async def test_botocore_may_not_log_signed_requests(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await world.describe(world.simulator.seed())
    assert "CanonicalRequest" not in caplog.text
    assert "Signature" not in caplog.text


@pytest.mark.usefixtures("_credentials")
def test_clients_are_set_up_as_designed() -> None:
    client = ClientFactory(lambda: True)("describe", HERE)
    config = client.meta.config
    assert (config.connect_timeout, config.read_timeout, config.tcp_keepalive) == (3, 10, True)
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}
    assert f"awsbatch-operator/{__version__}" in config.user_agent
    client.close()
