"""What AWS answers about events: whatever it is, no call raises. A real SDK reads the answers."""

import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.events_queue import EventsQueue
from awsbatch_operator.api.interfaces import EventMessage
from awsbatch_operator.api.job import Target
from awsbatch_operator.aws.provider import AwsBatch
from awsbatch_operator.aws.sdk_session import ClientFactory, ClientKind
from fakes.telemetry import FakeTelemetry

QUEUE = EventsQueue("https://sqs.eu-west-1.amazonaws.com/111122223333/events", Target("eu-west-1"))


class Body(io.BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


class Endpoint:
    """Answers every request with `status` and `body`."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"

    def make_client(self, kind: ClientKind, region: str) -> Any:
        client = ClientFactory(None)(kind, region)
        client.meta.events.register_last("before-send", self._answer)
        return client

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, self.status, HTTPHeaders(), Body(self.body))


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return Endpoint()


@pytest.fixture
async def batch(endpoint: Endpoint) -> AsyncIterator[AwsBatch]:
    made = AwsBatch(
        telemetry=FakeTelemetry(),
        make_client=endpoint.make_client,
        cluster="c",
        regions={"eu-west-1"},
        describe_rate=5,
        terminate_rate=5,
    )
    yield made
    made.close()


def messages(*entries: object) -> bytes:
    return json.dumps({"Messages": entries}).encode()


NO_OBJECT = [b"", b"null", b"5", b'"x"', b"[]", b"<html>", b"\xff\xfe", b"[" * 100_000, b'{"Messages": [{"Body": "x']


@pytest.mark.parametrize("body", NO_OBJECT, ids=lambda body: repr(body[:12]))
async def test_an_answer_that_is_no_object_is_an_error(endpoint: Endpoint, batch: AwsBatch, body: bytes) -> None:
    endpoint.body = body
    answer = await batch.events.receive(QUEUE, 1)
    assert isinstance(answer, CallError)
    assert answer.error_class is ErrorClass.UNAVAILABLE
    assert isinstance(await batch.events.send_canary(QUEUE.reader, "canary-1"), CallError)
    await batch.events.delete(QUEUE, ["handle"])


ODD = {
    "no list": b'{"Messages": "x"}',
    "a number": b'{"Messages": 5}',
    "an object": b'{"Messages": {"a": 1}}',
    "entries that are none": messages(None, "x", 5, []),
    "fields of other types": messages(
        {"Body": 5, "ReceiptHandle": 5, "Attributes": "x"},
        {"Body": {"jobId": "j"}, "ReceiptHandle": {}, "Attributes": [1]},
        {"Body": None, "ReceiptHandle": None, "Attributes": {"SentTimestamp": 5}},
    ),
    "odd times": messages({"Attributes": {"SentTimestamp": "9" * 20}}, {"Attributes": {"SentTimestamp": "-1"}}),
    "half a surrogate pair": b'{"Messages": [{"Body": "\\ud800", "ReceiptHandle": "\\ud800"}]}',
    "deep": messages({"Body": "[" * 100_000}, {"Body": '{"jobId":' * 100_000}),
    "a job id of another type": messages({"Body": '{"jobId": 5}'}, {"Body": '{"detail": {"jobId": []}}'}),
    "no UTF-8": b'{"Messages": [{"Body": "\xff"}]}',
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
async def test_a_message_that_cannot_be_read_names_no_job(endpoint: Endpoint, batch: AwsBatch, body: bytes) -> None:
    endpoint.body = body
    answer = await batch.events.receive(QUEUE, 1)
    assert not isinstance(answer, CallError)
    assert {(type(one.receipt), one.job_id, one.sent_at) for one in answer} <= {(str, None, None)}


async def test_a_message_beside_one_that_cannot_be_read_counts(endpoint: Endpoint, batch: AwsBatch) -> None:
    good = {"Body": '{"jobId": "j"}', "ReceiptHandle": "h", "Attributes": {"SentTimestamp": "1000"}}
    endpoint.body = messages({"Body": 5}, good)
    assert (await batch.events.receive(QUEUE, 1))[1:] == [EventMessage("h", "j", 1000)]  # type: ignore[index]


@pytest.mark.parametrize("entry", [None, "x", 5, {}, {"Code": 5, "Message": {}}], ids=repr)
async def test_an_odd_refusal_of_a_deletion_does_not_raise(endpoint: Endpoint, batch: AwsBatch, entry: object) -> None:
    endpoint.body = json.dumps({"Failed": [entry]}).encode()
    await batch.events.delete(QUEUE, ["handle"])


@pytest.mark.parametrize("entry", [None, "x", 5, {"ErrorCode": 5}, {"ErrorCode": {"a": 1}}], ids=repr)
async def test_an_odd_entry_of_put_events_does_not_raise(endpoint: Endpoint, batch: AwsBatch, entry: object) -> None:
    endpoint.body = json.dumps({"Entries": [entry]}).encode()
    await batch.events.send_canary(QUEUE.reader, "canary-1")


async def test_an_entry_that_eventbridge_refuses_is_an_error(endpoint: Endpoint, batch: AwsBatch) -> None:
    endpoint.body = (
        b'{"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "slow"}]}'
    )
    answer = await batch.events.send_canary(QUEUE.reader, "canary-1")
    assert isinstance(answer, CallError)
    assert answer.error_class is ErrorClass.THROTTLED


@pytest.mark.parametrize("body", [*NO_OBJECT, b'{"__type": 5}', b'{"__type": {}, "message": {}}', b'{"message": []}'])
async def test_an_error_of_any_form_is_an_error(endpoint: Endpoint, batch: AwsBatch, body: bytes) -> None:
    endpoint.status, endpoint.body = 400, body
    assert isinstance(await batch.events.receive(QUEUE, 1), CallError)
    assert isinstance(await batch.events.send_canary(QUEUE.reader, "canary-1"), CallError)
