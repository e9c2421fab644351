"""The AWS room with real boto3 over HTTP, against the simulated Batch; and its reading against botocore's model."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.model import ListShape, MapShape, Shape, StructureShape

from awsbatch_operator import __version__
from awsbatch_operator.aws import AwsBatch
from awsbatch_operator.aws.payload import job_of
from awsbatch_operator.aws.sessions import CONFIG, Connector
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import ABSENT, Array, Job, Node, Place
from awsbatch_operator.domain.ports import Sight
from awsbatch_sandbox.batch import BatchSimulator, serve
from builders import leave_to_end
from fakes.telemetry import FakeTelemetry

HERE = "eu-west-1"
SECRET = "hunter2"
HIDDEN: dict[str, Any] = {
    "environment": {"PASSWORD": SECRET},
    "secrets": {"TOKEN": SECRET},
    "command": ["login", SECRET],
    "parameters": {"password": SECRET},
    "tags": {"key": SECRET},
}
ONE_ATTEMPT = CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=0.5))
"""How often botocore itself tries is its own affair, and its waiting between would be ours."""


@dataclass
class World:
    simulator: BatchSimulator
    batch: AwsBatch
    telemetry: FakeTelemetry

    async def look(self, job_id: str) -> Any:
        """The job, or why there is none."""
        look = (await self.batch.describe(Place(HERE), [job_id]))[job_id]
        return look.job if isinstance(look, Sight) else look

    async def terminate(self, *ids: str, reason: str = "why") -> list[Fault | None]:
        return await asyncio.gather(*(self.batch.terminate(leave_to_end(job_id), reason) for job_id in ids))


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "sandbox")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sandbox")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@cache
def connector() -> Connector:
    return Connector(ONE_ATTEMPT)


@pytest.fixture
async def world(_credentials: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    simulator = BatchSimulator()
    async with serve(simulator) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        telemetry = FakeTelemetry()

        batch = AwsBatch(telemetry=telemetry, describe_rate=1000, terminate_rate=1000, connect=connector())
        yield World(simulator, batch, telemetry)
        await batch.close()


FATES: dict[str, Fate] = {
    "server_500": Fate.UNAVAILABLE,
    "authorizer_500": Fate.UNAVAILABLE,
    "html_502": Fate.UNAVAILABLE,
    "empty_503": Fate.UNAVAILABLE,
    "empty_504": Fate.UNAVAILABLE,
    "throttle_429": Fate.THROTTLED,
    "throttle_400": Fate.THROTTLED,
    "bare_429": Fate.THROTTLED,
    "limit_429": Fate.THROTTLED,
    "denied_403": Fate.DENIED,
    "expired_403": Fate.CREDENTIALS,
    "unrecognized_403": Fate.CREDENTIALS,
    "signature_403": Fate.CREDENTIALS,
    "html_404": Fate.CREDENTIALS,
    "unknown_operation_404": Fate.CREDENTIALS,
    "client_400": Fate.REJECTED,
    "reset": Fate.UNAVAILABLE,
    "slow": Fate.UNAVAILABLE,
}
EMPTY = ("empty_200", "cut_200", "braces_200")


@pytest.mark.parametrize("kind", [*FATES, *EMPTY])
async def test_every_faulty_reply_to_a_look_has_its_fate_and_is_never_taken_for_absent(world: World, kind: str) -> None:
    job_id = world.simulator.seed()
    world.simulator.fault("DescribeJobs", kind=kind, times=None)
    look = await world.look(job_id)
    assert isinstance(look, Fault)
    assert look.fate is FATES.get(kind, Fate.UNAVAILABLE)
    assert look.message
    assert "\n" not in look.message
    assert "<" not in look.message
    assert await world.look(job_id) == look
    world.simulator.clear_faults()
    assert isinstance(await world.look(job_id), Job)


@pytest.mark.parametrize("kind", FATES)
async def test_every_faulty_reply_to_a_termination_has_its_fate(world: World, kind: str) -> None:
    job_id = world.simulator.seed()
    world.simulator.fault("TerminateJob", kind=kind, times=None)
    (fault,) = await world.terminate(job_id)
    assert fault is not None
    assert fault.fate is FATES[kind]
    assert world.simulator.terminate_requests() == []


@pytest.mark.parametrize("kind", [*FATES, *EMPTY])
async def test_every_faulty_reply_to_a_bulk_termination_has_its_fate_for_each_job(world: World, kind: str) -> None:
    ids = world.simulator.seed_many(3)
    world.simulator.fault("*", kind=kind, times=None)
    faults = await world.terminate(*ids)
    if kind in EMPTY:
        assert [fault and fault.fate for fault in faults] == [Fate.UNAVAILABLE] * 3
    else:
        assert [fault and fault.fate for fault in faults] == [FATES[kind]] * 3


async def test_a_termination_whose_answer_is_lost_is_unknown_and_harmless_to_repeat(world: World) -> None:
    job_id = world.simulator.seed()
    world.simulator.fault("TerminateJob", kind="reset", act_then=True)
    (fault,) = await world.terminate(job_id)
    assert fault is not None
    assert fault.fate is Fate.UNAVAILABLE
    assert (await world.look(job_id)).is_terminated
    assert await world.terminate(job_id) == [None]


async def test_an_empty_answer_to_a_single_termination_is_its_normal_one(world: World) -> None:
    job_id = world.simulator.seed()
    world.simulator.fault("TerminateJob", kind="empty_200", act_then=True)
    assert await world.terminate(job_id) == [None]


async def test_a_request_whose_lease_runs_out_while_it_connects_does_not_arrive(world: World) -> None:
    job_id = world.simulator.seed()
    permits = iter([True])
    replica = Connector(ONE_ATTEMPT, acting=lambda: next(permits, False))
    batch = AwsBatch(telemetry=world.telemetry, connect=replica)
    fault = await batch.terminate(leave_to_end(job_id), "why")
    await batch.close()
    assert fault is not None
    assert (fault.fate, "does not hold the Lease" in fault.message) == (Fate.UNAVAILABLE, True)
    assert next(permits, "asked twice") == "asked twice"
    assert world.simulator.calls() == []


async def test_the_reason_arrives_exactly_as_it_was_written(world: World) -> None:
    reasons = ['INC-4711: "runaway"\n\tcost \\ 💸', "x" * 1024, "ü" * 512, " spaces "]
    for reason in reasons:
        await world.terminate(world.simulator.seed(), reason=reason)
        await world.terminate(*world.simulator.seed_many(2), reason=reason)
    sent = [request["reason"] for request in world.simulator.terminate_requests()]
    assert sent == [reason for reason in reasons for _ in range(3)]


async def test_many_terminations_with_one_reason_share_calls_and_each_job_is_asked_once(world: World) -> None:
    ids = world.simulator.seed_many(120)
    assert await world.terminate(*ids) == [None] * 120
    assert world.simulator.counts() == {"TerminateJobs": 3}
    assert sorted(request["job_id"] for request in world.simulator.terminate_requests()) == sorted(ids)


async def test_jobs_refused_within_a_bulk_call_do_not_spoil_the_others(world: World) -> None:
    ids = world.simulator.seed_many(5)
    for number, code in ((1, "AccessDenied"), (3, "ValidationException")):
        world.simulator.fault("TerminateJobs", kind="refused_in_bulk", job_id=ids[number], code=code)
        faults = await world.terminate(*ids)
        assert [fault and fault.code for fault in faults] == [code if each == number else None for each in range(5)]


async def test_an_endpoint_without_terminate_jobs_is_served_by_single_calls(world: World) -> None:
    world.simulator.settings(bulk_available=False)
    ids = world.simulator.seed_many(5)
    assert await world.terminate(*ids) == [None] * 5
    assert await world.terminate(*ids, reason="again") == [None] * 5
    assert world.simulator.counts() == {"TerminateJobs": 1, "TerminateJob": 10}


async def test_one_malformed_id_is_found_and_the_others_are_seen(world: World) -> None:
    ids = world.simulator.seed_many(99)
    looks = await world.batch.describe(Place(HERE), [*ids[:40], "not an id", *ids[40:]])
    assert all(isinstance(looks[job_id], Sight) for job_id in ids)
    culprit = looks["not an id"]
    assert isinstance(culprit, Fault)
    assert culprit.fate is Fate.REJECTED
    assert "not supported" in culprit.message
    assert "RequestId" not in culprit.message
    world.simulator.clear_calls()
    await world.batch.describe(Place(HERE), [*ids, "not an id"])
    assert world.simulator.counts() == {"DescribeJobs": 2}


async def test_unknown_ids_are_absent_and_shuffled_answers_are_matched(world: World) -> None:
    ids = [world.simulator.seed(name=f"job-{number}") for number in range(50)]
    unknown = "00000000-0000-4000-8000-000000000000"
    looks = await world.batch.describe(Place(HERE), [*ids, unknown])
    assert looks[unknown] is ABSENT
    assert [look.job.name for job_id in ids if isinstance(look := looks[job_id], Sight)] == [
        f"job-{number}" for number in range(50)
    ]


async def test_jobs_live_in_their_region(world: World) -> None:
    job_id = world.simulator.seed(region="us-east-1")
    assert await world.look(job_id) is ABSENT
    assert isinstance((await world.batch.describe(Place("us-east-1"), [job_id]))[job_id], Sight)


SHAPES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("single", {"status": "FAILED", "exit_code": 3}, {"exit_code": 3, "status": "FAILED", "array": None}),
    ("eks", {"kind": "eks", "status": "FAILED", "exit_code": 3}, {"exit_code": 3, "log_stream_name": None}),
    ("several containers", {"kind": "ecs-multi", "status": "FAILED", "exit_code": 3}, {"exit_code": 3}),
    ("nodes", {"num_nodes": 2}, {"node": Node(num_nodes=2)}),
    ("retried", {"status": "RUNNABLE", "past_attempts": 2}, {"attempts": 2, "status": "RUNNABLE"}),
]


@pytest.mark.parametrize(("seed", "expected"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
async def test_each_shape_of_job_is_mirrored(world: World, seed: dict[str, Any], expected: dict[str, Any]) -> None:
    shown = await world.look(world.simulator.seed(**seed))
    assert {name: getattr(shown, name) for name in expected} == expected


async def test_an_array_its_child_and_a_node_are_mirrored(world: World) -> None:
    array = world.simulator.seed(children=["RUNNING", "RUNNABLE", "SUCCEEDED"])
    nodes = world.simulator.seed(num_nodes=3)
    looks = await world.batch.describe(Place(HERE), [array, f"{array}:1", f"{nodes}#0", f"{nodes}#2"])
    parent, child, main, other = (look.job for look in looks.values() if isinstance(look, Sight))
    assert parent.array is not None
    assert (parent.array.size, parent.array.count("RUNNING"), parent.running) == (3, 1, True)
    assert child.array == Array(index=1)
    assert [look.node and (look.node.index, look.node.main) for look in (main, other)] == [
        (0, True),
        (2, False),
    ]


@pytest.mark.parametrize("kind", ["single", "array", "multinode", "eks", "ecs-multi"])
async def test_no_secret_leaves_by_value_or_by_log(
    world: World, kind: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = {"array": {"array_size": 2}, "multinode": {"num_nodes": 2}}.get(kind, {"kind": kind})
    job_id = world.simulator.seed(**HIDDEN, **shape)
    await world.look(job_id)
    for noisy in (None, "botocore", "urllib3"):
        caplog.set_level(logging.DEBUG, noisy)
    look = await world.look(job_id)
    assert isinstance(look, Job)
    world.simulator.fault("DescribeJobs", kind="client_400")
    refused = await world.look(job_id)
    assert SECRET not in repr((look, refused, world.telemetry.requests))
    out = capsys.readouterr()
    assert SECRET not in caplog.text + out.out + out.err


async def test_the_simulated_batch_does_show_secrets_to_who_asks(world: World) -> None:
    job_id = world.simulator.seed(**HIDDEN)
    client: Any = connector()()(HERE)
    assert SECRET in repr(await asyncio.to_thread(client.describe_jobs, jobs=[job_id]))
    client.close()


async def test_botocore_may_not_log_signed_requests(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await world.look(world.simulator.seed())
    assert "CanonicalRequest" not in caplog.text
    assert "Signature" not in caplog.text


@pytest.mark.usefixtures("_credentials")
def test_clients_are_set_up_as_designed() -> None:
    client: Any = Connector()()(HERE)
    config = client.meta.config
    assert (config.connect_timeout, config.read_timeout, config.tcp_keepalive) == (3, 10, True)
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}
    assert f"awsbatch-operator/{__version__}" in config.user_agent
    client.close()


@dataclass
class Reading:
    """Every path of keys that was read from a body."""

    paths: set[tuple[str, ...]] = field(default_factory=set)

    def spied(self, value: Any, path: tuple[str, ...] = ()) -> Any:
        if isinstance(value, dict):
            spy = _Spy({key: self.spied(each, (*path, key)) for key, each in value.items()})
            spy.told = lambda key: self.paths.add((*path, key))
            return spy
        if isinstance(value, list):
            return [self.spied(each, path) for each in value]
        return value


class _Spy(dict[str, Any]):
    told: Callable[[str], None]

    def get(self, key: str, default: Any = None) -> Any:
        self.told(key)
        return super().get(key, default)


def example(shape: Shape) -> Any:
    """A body with every member of the shape."""
    if isinstance(shape, StructureShape):
        return {name: example(member) for name, member in shape.members.items()}
    if isinstance(shape, ListShape):
        return [example(shape.member)]
    if isinstance(shape, MapShape):
        return {"RUNNING": example(shape.value)}
    return {"string": "text", "boolean": True}.get(shape.type_name, 7)


FORBIDDEN = {"environment", "env", "command", "args", "parameters", "secrets", "volumes", "tags", "mountPoints"}


def test_every_field_that_is_read_is_in_the_service_model_and_none_is_forbidden() -> None:
    model = botocore.session.get_session().get_service_model("batch")
    body = example(model.shape_for("JobDetail")) | {"status": "FAILED"}
    reading = Reading()
    shown = job_of(reading.spied(body))
    # Containers are read alike wherever they stand; those of EKS have no log stream.
    paths = {path for path in reading.paths if not (path[0].startswith("eks") and path[-1] == "logStreamName")}
    for path in paths:
        part = body
        for key in path[:-1]:
            part = part[key][0] if isinstance(part[key], list) else part[key]
        assert path[-1] in part, f"botocore's JobDetail has no {'.'.join(path)}"
        assert not FORBIDDEN.intersection(path)
    assert len(paths) >= 40
    assert None not in (shown.exit_code, shown.container_reason, shown.log_stream_name, shown.array, shown.node)
