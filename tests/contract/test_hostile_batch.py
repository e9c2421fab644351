"""The nastiest answers over HTTP to the real boto3: each request has an error class, and nothing leaks."""

import gzip
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import botocore.session
import pytest
from aiohttp import web
from botocore.config import Config
from structlog.testing import capture_logs

from awsbatch_operator.api.batchjob import Status
from awsbatch_operator.api.codec import encode
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.interfaces import DescribedJob, JobPage
from awsbatch_operator.aws.provider import AwsBatch
from awsbatch_operator.aws.sdk_session import CONFIG, ClientFactory
from awsbatch_sandbox.batch.server import listen
from builders import JOB_ID
from contract.schema import assert_valid
from fakes.aws import OWN, FakePermit, describe, list_jobs, make_batch, terminate
from hostile import MANY, SECRET, whole

CONFIGURED = CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))


@dataclass
class Server:
    """Answers with the body and the status that a test sets."""

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
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "sandbox")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with listen(app, "127.0.0.1", 0) as url:
        for service in ("BATCH", "STS"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", url)
        yield server


@pytest.fixture
async def batch(server: Server) -> AsyncIterator[AwsBatch]:
    batch = make_batch(make_client=ClientFactory(lambda: True, CONFIGURED))
    yield batch
    batch.close()


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
    "a number of 10,000 digits": job(createdAt="HERE").replace(b'"HERE"', b"1" * 10_000),
    "twice the same key": job().replace(b'"jobName": ', b'"jobName": 7, "jobName": '),
}
DEEP = b'{"jobs":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}"
NO_ANSWERS = {
    "deep": DEEP,
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


def seen_by_people(results: object, lines: list[Any], caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join((repr(results), *map(repr, lines), caplog.text))


@pytest.mark.parametrize("body", JOBS.values(), ids=JOBS)
async def test_a_hostile_detail_is_still_a_job(
    server: Server, batch: AwsBatch, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server.body = body
    with caplog.at_level(logging.DEBUG), capture_logs() as lines:
        results = await describe(batch, OWN, JOB_ID)
    result = results[JOB_ID]
    assert isinstance(result, DescribedJob)
    assert_valid(encode(Status(job=result.job)))
    assert SECRET not in seen_by_people(results, lines, caplog)


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_a_body_that_is_no_answer_never_means_a_missing_job(
    server: Server, batch: AwsBatch, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server.body = body
    with caplog.at_level(logging.DEBUG), capture_logs() as lines:
        results = await describe(batch, OWN, JOB_ID)
    result = results[JOB_ID]
    assert isinstance(result, CallError)
    assert result.error_class.transient
    assert SECRET not in seen_by_people(results, lines, caplog)


SUMMARY = botocore.session.get_session().get_service_model("batch").shape_for("JobSummary")


def listed(**broken: Any) -> bytes:
    """A page with one job, every member of it present and secret, and a second job that nothing breaks."""
    first = {**whole(SUMMARY), "jobId": JOB_ID, "arrayProperties": {"size": 3}, **broken}
    return json.dumps({"jobSummaryList": [first, {"jobId": "public"}]}).encode()


LISTS = {
    "every member": listed(),
    "numbers that are none": listed(createdAt=float("nan"), startedAt=float("inf"), stoppedAt=10**400),
    "half a surrogate": listed(statusReason="a\ud83d", jobName="\udca9", status="RUN\ud83d"),
    "raw surrogates": listed(jobName="HERE").replace(b"HERE", b"\xed\xa0\xbd"),
    "megabytes of text": listed(jobName="💸" * 500_000),
    "wrong types": listed(status=[SECRET], jobName={"command": SECRET}, arrayProperties=[SECRET], isTerminated=SECRET),
    "a number of 10,000 digits": listed(createdAt="HERE").replace(b'"HERE"', b"1" * 10_000),
}


@pytest.mark.parametrize("body", LISTS.values(), ids=LISTS)
async def test_a_hostile_summary_costs_no_other_job_of_its_page(
    server: Server, batch: AwsBatch, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server.body = body
    with caplog.at_level(logging.DEBUG), capture_logs() as lines:
        page = await list_jobs(batch)
    assert isinstance(page, JobPage)
    assert [one.job_id for one in page.jobs] == [JOB_ID, "public"]
    assert not page.jobs[1].flagged
    for one in page.jobs:
        assert len(f"{one.name}{one.status}".encode()) <= 8 * 1024
    assert SECRET not in seen_by_people(page, lines, caplog)


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_a_body_that_is_no_answer_never_means_no_jobs(server: Server, batch: AwsBatch, body: bytes) -> None:
    server.body = body.replace(b'"jobs"', b'"jobSummaryList"')
    error = await list_jobs(batch)
    assert isinstance(error, CallError)
    assert error.error_class.transient
    assert SECRET not in repr(error)


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
async def test_a_hostile_error_has_a_class_and_can_be_written_down(
    server: Server, batch: AwsBatch, body: bytes, status: int
) -> None:
    server.body, server.status = body, status
    results = await describe(batch, OWN, JOB_ID)
    for error in (results[JOB_ID], await list_jobs(batch), *await terminate(batch, FakePermit(JOB_ID))):
        assert isinstance(error, CallError)
        assert 0 < len(error.message.encode()) <= 4 * 1024
        assert len(error.code.encode()) <= 128


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
    for error in await terminate(batch, *map(FakePermit, ids)):
        assert isinstance(error, CallError)
        error.message.encode()
        assert len(error.code.encode()) <= 128
