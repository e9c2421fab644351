"""The HTTP side of the simulated Batch: routes, headers, control verbs, the process."""

import asyncio
import http.client
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from awsbatch_sandbox.batch.remote import RemoteBatch
from awsbatch_sandbox.batch.server import serve
from awsbatch_sandbox.batch.simulator import BatchSimulator
from unit.sandbox.batch_wire_calls import frozen, signed

DESCRIBE, TERMINATE = "/v1/describejobs", "/v1/terminatejob"


@pytest.fixture
def batch() -> BatchSimulator:
    return frozen()


@pytest.fixture
async def url(batch: BatchSimulator) -> AsyncIterator[str]:
    async with serve(batch) as address:
        yield address


@pytest.fixture
async def session(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url) as made:
        yield made


async def test_answers_carry_the_headers_of_the_gateway_and_keep_the_connection(
    url: str, batch: BatchSimulator
) -> None:
    job_id = batch.seed()

    def ask_twice() -> None:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        sockets = []
        for _ in range(2):
            call = signed(DESCRIBE, {"jobs": [job_id]})
            connection.request("POST", DESCRIBE, call["data"], call["headers"])
            answer = connection.getresponse()
            assert answer.headers["content-type"] == "application/json"
            assert len(answer.headers["x-amzn-requestid"]) == 36
            assert json.load(answer)["jobs"][0]["jobId"] == job_id
            sockets.append(connection.sock)
        assert sockets[0] is sockets[1] is not None
        connection.close()

    await asyncio.to_thread(ask_twice)


async def test_an_error_names_its_type_in_a_header(session: aiohttp.ClientSession) -> None:
    async with session.post(DESCRIBE, **signed(DESCRIBE, {})) as answer:
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ClientException")


async def test_calls_of_one_account_are_distinguished_by_their_access_key(
    session: aiohttp.ClientSession, batch: BatchSimulator
) -> None:
    for access_key in ("sandbox", "other"):
        body = {"jobId": batch.seed(), "reason": "r"}
        async with session.post(TERMINATE, **signed(TERMINATE, body, access_key=access_key)) as answer:
            assert answer.status == 200
    for record in (batch.calls(), batch.terminate_requests()):
        assert [one["access_key"] for one in record] == ["sandbox", "other"]
        assert len({one["account"] for one in record}) == 1


async def test_a_slow_call_takes_effect_before_or_after_its_delay(
    session: aiohttp.ClientSession, batch: BatchSimulator
) -> None:
    job_id = batch.seed()
    batch.fault("TerminateJob", kind="slow", seconds=0.01)
    async with session.post(TERMINATE, **signed(TERMINATE, {"jobId": job_id, "reason": "r"})) as answer:
        assert answer.status == 200
    batch.fault("TerminateJob", kind="slow", seconds=60, act_then=True)
    other = batch.seed()
    late = aiohttp.ClientTimeout(total=0.1)
    with pytest.raises(TimeoutError):
        await session.post(TERMINATE, **signed(TERMINATE, {"jobId": other, "reason": "r"}), timeout=late)
    assert (batch.job(job_id)["is_terminated"], batch.job(other)["is_terminated"]) == (True, True)


async def test_a_reset_call_gets_no_answer(session: aiohttp.ClientSession, batch: BatchSimulator) -> None:
    batch.fault(kind="reset")
    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await session.post(DESCRIBE, **signed(DESCRIBE, {"jobs": ["x"]}))
    assert (batch.calls()[0]["http_status"], batch.calls()[0]["error"]) == (0, "reset")


async def test_every_control_verb_can_be_driven_from_afar(url: str, batch: BatchSimulator) -> None:
    def drive() -> None:
        with RemoteBatch(url) as remote:
            assert remote.health()
            job_id = remote.seed(status="RUNNABLE", name="far")
            assert remote.job(job_id)["name"] == "far"
            assert len(remote.seed_many(2)) == 2
            remote.move(job_id, "FAILED", reason="by hand")
            assert remote.job(job_id)["status_reason"] == "by hand"
            remote.hide(job_id, polls=3)
            remote.advance(60)
            remote.forget(job_id)
            assert len(remote.jobs()) == 2
            remote.fault("TerminateJob", kind="reset")
            remote.clear_faults()
            remote.limit(5)
            remote.deny("TerminateJob")
            remote.clear_denials()
            assert remote.accounts() == ["123456789012"]
            assert remote.settings(grace=1)["grace"] == 1
            assert (remote.calls(), remote.counts(), remote.terminate_requests()) == ([], {}, [])
            remote.clear_calls()

    await asyncio.to_thread(drive)


async def test_a_wrong_control_call_is_answered_with_the_cause(url: str) -> None:
    def drive() -> None:
        with RemoteBatch(url) as remote:
            with pytest.raises(ValueError, match="'colour' is not a field of a job"):
                remote.seed(colour="red")
            with pytest.raises(ValueError, match="unexpected keyword argument 'colour'"):
                remote.fault(kind="reset", colour="red")
            with pytest.raises(ValueError, match="unexpected keyword argument"):
                remote.move("x", "RUNNING", colour="red")
            with pytest.raises(LookupError, match="seed it first"):
                remote.forget("x")

    await asyncio.to_thread(drive)


async def test_an_unknown_control_verb_names_the_known_ones(session: aiohttp.ClientSession) -> None:
    async with session.post("/_sandbox/explode") as answer:
        assert (answer.status, "use one of seed" in (await answer.json())["error"]) == (404, True)


async def test_health_is_false_when_nothing_answers(batch: BatchSimulator) -> None:
    async with serve(batch) as address:
        remote = RemoteBatch(address)
        assert await asyncio.to_thread(remote.health)
    assert not await asyncio.to_thread(remote.health)
    remote.close()
    with pytest.raises(ValueError, match="url must have the form"):
        RemoteBatch("localhost:1")


async def test_the_end_of_the_server_waits_for_no_long_poll(batch: BatchSimulator) -> None:
    body = {"QueueUrl": batch.events.create_queue(), "WaitTimeSeconds": 20}
    call = signed("/", body, service="sqs", headers={"x-amz-target": "AmazonSQS.ReceiveMessage"})
    async with aiohttp.ClientSession() as session:
        async with serve(batch) as url:
            poll = asyncio.create_task(session.post(url, **call))
            while not batch.counts():  # noqa: ASYNC110  the record of calls has no event
                await asyncio.sleep(0.01)
            ending_at = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - ending_at < 0.9
        with pytest.raises(aiohttp.ClientError):
            await poll


async def test_the_process_announces_its_url_and_ends_with_zero_on_sigterm(tmp_path: Path) -> None:
    announced = tmp_path / "url"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "awsbatch_sandbox.batch",
        "--announce",
        str(announced),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    process.send_signal(signal.SIGTERM)
    _, noise = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, noise) == (0, b"")
    assert line == f"AWS Batch sandbox at {announced.read_text().strip()}\n"
