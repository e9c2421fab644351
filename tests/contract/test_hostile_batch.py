"""The nastiest answers over HTTP to the real boto3: each look and each request has a fate, and nothing leaks."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from botocore.config import Config
from structlog.testing import capture_logs

from awsbatch_operator.aws import AwsBatch
from awsbatch_operator.aws.sessions import CONFIG, Connector
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.job import Place
from awsbatch_operator.domain.ports import Sight
from awsbatch_operator.domain.record import Status
from awsbatch_operator.kube.status import render
from builders import JOB_ID, leave_to_end
from contract.schema import assert_valid
from fakes.telemetry import FakeTelemetry
from hostile import MANY, SECRET, whole

HERE = "eu-west-1"
CONFIGURED = CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))


@dataclass
class Server:
    """Answers whatever it is told to."""

    body: bytes = b""
    status: int = 200

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=self.status, body=self.body)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_post("/v1/{operation}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for service in ("BATCH", "STS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", f"http://127.0.0.1:{runner.addresses[0][1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "sandbox")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield server
    await runner.cleanup()


@pytest.fixture
async def batch(server: Server) -> AsyncIterator[AwsBatch]:
    batch = AwsBatch(telemetry=FakeTelemetry(), connect=Connector(CONFIGURED))
    yield batch
    await batch.close()


def job(**broken: Any) -> bytes:
    """The answer with the one job that is asked for, every member of it present."""
    return json.dumps({"jobs": [{**whole(), "jobId": JOB_ID, **broken}]}).encode()


JOBS = {
    "every member": job(),
    "numbers that are none": job(createdAt=float("nan"), startedAt=float("inf"), stoppedAt=10**400),
    "half a surrogate": job(statusReason="a\ud83d", jobName="\udca9", status="RUN\ud83d"),
    "raw surrogates": job(statusReason="HERE").replace(b"HERE", b"\xed\xa0\xbd"),
    "ten thousand statuses": job(arrayProperties={"statusSummary": {f"S{n}": n for n in range(MANY)}}),
    "ten thousand attempts": job(attempts=[{"container": {"reason": "x" * 100}}] * MANY),
    "megabytes of text": job(statusReason="💸" * 500_000),
    "wrong types": job(status=[SECRET], statusReason={"command": SECRET}, container=[SECRET], attempts={SECRET: 1}),
    "twice the same key": job().replace(b'"jobName": ', b'"jobName": 7, "jobName": '),
}
DEEP = b'{"jobs":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}"
NO_ANSWERS = {
    "deep": DEEP,
    "a number of 10,000 digits": job(createdAt="HERE").replace(b'"HERE"', b"1" * 10_000),
    "not UTF-8": b'{"jobs":[{"jobId":"\xff\xfe"}]}',
    "a list": b"[]",
    "a text": json.dumps(SECRET).encode(),
    "null": b"null",
    "no list": json.dumps({"jobs": {SECRET: 1}}).encode(),
    "nobody": b'{"jobs":[null, 7, {}, {"jobId": ["x"]}]}',
    "a strange type": b'{"__type": {"a": 1}, "jobs": []}',
    "HTML": b"<html>" + SECRET.encode() + b"</html>",
    "compressed": gzip.compress(job()),
}


def seen_by_people(looks: object, lines: list[Any], caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join((repr(looks), *map(repr, lines), caplog.text))


@pytest.mark.parametrize("body", JOBS.values(), ids=JOBS)
async def test_a_hostile_detail_is_still_a_job(
    server: Server, batch: AwsBatch, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server.body = body
    with caplog.at_level(logging.DEBUG), capture_logs() as lines:
        looks = await batch.describe(Place(HERE), [JOB_ID])
    look = looks[JOB_ID]
    assert isinstance(look, Sight)
    assert_valid(render(Status(job=look.job)))
    assert SECRET not in seen_by_people(looks, lines, caplog)


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_a_body_that_is_no_answer_is_never_taken_for_an_absent_job(
    server: Server, batch: AwsBatch, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server.body = body
    with caplog.at_level(logging.DEBUG), capture_logs() as lines:
        looks = await batch.describe(Place(HERE), [JOB_ID])
    look = looks[JOB_ID]
    assert isinstance(look, Fault)
    assert look.fate.passes
    assert SECRET not in seen_by_people(looks, lines, caplog)


REFUSALS = {
    "deep": DEEP,
    "no text": b'{"message": {"a": ["b"]}, "__type": 7}',
    "a long text": json.dumps({"message": "💸" * 500_000}).encode(),
    "half a surrogate": b'{"message": "bad \\ud83d id", "__type": "ClientException"}',
    "a number of 10,000 digits": b'{"message": ' + b"1" * 10_000 + b"}",
    "a proxy's page in Latin-1": "<html>Zugriff über den Proxy verweigert</html>".encode("latin-1"),
    "a long code": json.dumps({"message": "no", "__type": "Bad\ud83d" * 10_000}).encode(),
}


@pytest.mark.parametrize("status", [400, 429, 500])
@pytest.mark.parametrize("body", REFUSALS.values(), ids=REFUSALS)
async def test_a_hostile_refusal_has_a_fate_that_can_be_written_down(
    server: Server, batch: AwsBatch, body: bytes, status: int
) -> None:
    server.body, server.status = body, status
    looks = await batch.describe(Place(HERE), [JOB_ID])
    for fault in (looks[JOB_ID], await batch.terminate(leave_to_end(JOB_ID), "why")):
        assert isinstance(fault, Fault)
        assert 0 < len(fault.message.encode()) <= 4 * 1024
        assert len(fault.code.encode()) <= 128


@pytest.mark.parametrize(
    "answer",
    [
        {
            "successful": [None, {}, [SECRET]],
            "errors": [None, {"job": {}, "code": 7}, {"job": [JOB_ID], "message": {}}],
        },
        {"successful": {"a": 1}, "errors": SECRET},
        {"successful": None, "errors": {}},
        {"successful": [], "errors": [{"job": JOB_ID, "code": "\ud83d" * 500, "message": "\ud83d" * 5000}]},
    ],
)
async def test_a_hostile_answer_to_a_bulk_termination_accepts_nothing(
    server: Server, batch: AwsBatch, answer: dict[str, Any]
) -> None:
    server.body = json.dumps(answer).encode()
    ids = (JOB_ID, "public")
    # The first goes alone, as its group is at rest; those that come meanwhile share the next call.
    alone = asyncio.ensure_future(batch.terminate(leave_to_end("alone"), "why"))
    await asyncio.sleep(0)
    for fault in await asyncio.gather(*(batch.terminate(leave_to_end(job_id), "why") for job_id in ids)):
        assert isinstance(fault, Fault)
        fault.message.encode()
        assert len(fault.code.encode()) <= 128
    assert await alone is None
