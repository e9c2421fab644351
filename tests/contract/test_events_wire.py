"""The sandbox's SQS and EventBridge against real boto3 over HTTP."""

import hashlib
import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ParamValidationError

from awsbatch_sandbox.batch.remote import RemoteBatch
from awsbatch_sandbox.batch.signature import SignedRequest, sign
from contract.servers import simulated_batch

REGION = "eu-west-1"
OTHER = "222222222222"
CANARY = {"Source": "awsbatch.dev", "DetailType": "awsbatch-operator canary", "Detail": '{"jobId":"canary-1"}'}


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteBatch]:
    with simulated_batch(tmp_path_factory.mktemp("batch")) as url, RemoteBatch(url) as remote:
        remote.settings(accounts={"AKIAOTHER": OTHER})
        yield remote


@pytest.fixture
def queue(batch: RemoteBatch) -> Iterator[str]:
    yield batch.create_queue()
    batch.clear_faults()
    batch.clear_denials()
    batch.clear_calls()
    for url in batch.queues():
        batch.delete_queue(url)


@pytest.fixture(scope="module")
def clients(batch: RemoteBatch) -> Iterator[Callable[..., Any]]:
    """Makes clients that try once."""
    made: list[Any] = []

    def make(service: str, *, region: str = REGION, access_key: str = "sandbox", secret: str = "sandbox") -> Any:
        session: Any = boto3.Session(access_key, secret, region_name=region)
        config = Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=25)
        made.append(session.client(service, endpoint_url=batch.url, config=config))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="module")
def sqs(clients: Callable[..., Any]) -> Any:
    return clients("sqs")


@pytest.fixture(scope="module")
def events(clients: Callable[..., Any]) -> Any:
    return clients("events")


def error_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as refused:
        call()
    return str(refused.value.response["Error"]["Code"])


def test_a_consumer_reads_the_end_of_a_job_when_it_happens_and_deletes_it(
    batch: RemoteBatch, queue: str, sqs: Any
) -> None:
    began = time.time()
    job_id = batch.seed(run_for=0.3)
    answer = sqs.receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=20,
        VisibilityTimeout=20,
        MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
    )
    waited = time.time() - began
    (message,) = answer["Messages"]
    assert json.loads(message["Body"]).items() >= {"jobId": job_id, "status": "SUCCEEDED"}.items()
    assert message["MD5OfBody"] == hashlib.md5(message["Body"].encode()).hexdigest()
    assert message["Attributes"].keys() == {"SentTimestamp", "ApproximateReceiveCount"}
    assert 0.29 <= int(message["Attributes"]["SentTimestamp"]) / 1000 - began <= waited < 5
    assert batch.counts() == {"ReceiveMessage": 1}

    entries = [{"Id": "0", "ReceiptHandle": message["ReceiptHandle"]}, {"Id": "1", "ReceiptHandle": "x"}]
    deleted = sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
    assert [one["Id"] for one in deleted["Successful"]] == ["0"]
    assert [(one["Id"], one["Code"]) for one in deleted["Failed"]] == [("1", "ReceiptHandleIsInvalid")]
    assert batch.messages(queue) == []


def test_an_empty_queue_has_no_messages_in_its_answer(queue: str, sqs: Any) -> None:
    assert "Messages" not in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1)


def test_poison_ends_in_the_dead_letter_queue(batch: RemoteBatch, queue: str, sqs: Any) -> None:
    message_id = batch.send_message(queue, "not JSON")
    for number in range(1, 4):
        answer = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0, AttributeNames=["All"])
        (message,) = answer["Messages"]
        assert (message["Body"], message["Attributes"]["ApproximateReceiveCount"]) == ("not JSON", str(number))
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    assert [one["message_id"] for one in batch.dead_letters(queue)] == [message_id]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    dead = json.loads(attributes["RedrivePolicy"])
    assert dead["maxReceiveCount"] == 3
    (message,) = sqs.receive_message(QueueUrl=queue + "-dlq")["Messages"]
    sqs.delete_message(QueueUrl=queue + "-dlq", ReceiptHandle=message["ReceiptHandle"])
    assert batch.dead_letters(queue) == []


def test_the_attributes_count_what_is_visible_and_what_is_not(batch: RemoteBatch, queue: str, sqs: Any) -> None:
    for body in ("a", "b", "c"):
        batch.send_message(queue, body)
    sqs.receive_message(QueueUrl=queue)
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    assert [attributes.pop(name) for name in names] == ["2", "1"]
    assert attributes == {}


def test_put_events_reaches_the_queue_and_refuses_the_sources_of_aws(
    batch: RemoteBatch, queue: str, events: Any
) -> None:
    answer = events.put_events(Entries=[CANARY, {**CANARY, "Source": "aws.batch"}])
    assert answer["FailedEntryCount"] == 1
    assert [one.get("ErrorCode") for one in answer["Entries"]] == [None, "NotAuthorizedForSourceException"]
    assert [json.loads(one["body"])["jobId"] for one in batch.messages(queue)] == ["canary-1"]


def test_a_queue_is_that_of_its_account_and_region(batch: RemoteBatch, queue: str, clients: Callable[..., Any]) -> None:
    there, elsewhere = clients("sqs", access_key="AKIAOTHER"), clients("sqs", region="us-east-1")
    assert error_of(lambda: there.receive_message(QueueUrl=queue)) == "AccessDenied"
    assert error_of(lambda: elsewhere.receive_message(QueueUrl=queue)) == "InvalidAddress"
    clients("events", access_key="AKIAOTHER").put_events(Entries=[CANARY])
    clients("events", region="us-east-1").put_events(Entries=[CANARY])
    assert batch.messages(queue) == []
    shared = batch.create_queue("shared", account=OTHER, region="us-east-1", readers=["123456789012"])
    clients("events", region="us-east-1", access_key="AKIAOTHER").put_events(Entries=[CANARY])
    assert len(elsewhere.receive_message(QueueUrl=shared)["Messages"]) == 1


def test_errors_have_the_names_that_the_sdk_knows(queue: str, sqs: Any, events: Any) -> None:
    with pytest.raises(sqs.exceptions.QueueDoesNotExist, match=r"AWS.SimpleQueueService.NonExistentQueue"):
        sqs.receive_message(QueueUrl=queue + "x")
    assert error_of(lambda: sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=11)) == "InvalidParameterValue"
    with pytest.raises(ClientError, match="ListQueues is not served by this sandbox; it serves ReceiveMessage, "):
        sqs.list_queues()
    with pytest.raises(ClientError, match="ListRules is not served by this sandbox; it serves PutEvents"):
        events.list_rules()
    with pytest.raises(ParamValidationError):
        events.put_events(Entries=[])


REFUSED = {
    "denied_403": ("AccessDenied", "AccessDeniedException"),
    "expired_403": ("ExpiredToken", "ExpiredTokenException"),
    "unrecognized_403": ("InvalidClientTokenId", "UnrecognizedClientException"),
    "signature_403": ("SignatureDoesNotMatch", "InvalidSignatureException"),
    "throttle_400": ("ThrottlingException", "ThrottlingException"),
    "server_500": ("ServerException", "ServerException"),
    "html_502": ("502", "502"),
    "empty_503": ("503", "503"),
}
"""By kind of fault: the error code of SQS, and that of EventBridge."""


@pytest.mark.parametrize("kind", REFUSED)
def test_a_fault_gives_the_error_code_that_each_service_gives(
    batch: RemoteBatch, queue: str, sqs: Any, events: Any, kind: str
) -> None:
    batch.send_message(queue, "a")
    for operation in ("ReceiveMessage", "PutEvents"):
        batch.fault(operation, kind=kind)
    assert (
        error_of(lambda: sqs.receive_message(QueueUrl=queue)),
        error_of(lambda: events.put_events(Entries=[CANARY])),
    ) == REFUSED[kind]
    assert len(batch.messages(queue)) == 1
    assert [(call["operation"], call["fault"]) for call in batch.calls()] == [
        ("ReceiveMessage", kind),
        ("PutEvents", kind),
    ]


def test_a_lost_answer_leaves_its_messages_hidden(batch: RemoteBatch, queue: str, sqs: Any) -> None:
    batch.send_message(queue, "a")
    batch.fault("ReceiveMessage", kind="reset", act_then=True)
    with pytest.raises(ConnectionClosedError):
        sqs.receive_message(QueueUrl=queue, VisibilityTimeout=20)
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    (message,) = batch.messages(queue)
    assert message["receive_count"] == 1


def test_a_slow_answer_is_late(batch: RemoteBatch, queue: str, sqs: Any) -> None:
    batch.fault("DeleteMessageBatch", kind="slow", seconds=0.3)
    began = time.monotonic()
    sqs.delete_message_batch(QueueUrl=queue, Entries=[{"Id": "0", "ReceiptHandle": "x"}])
    assert 0.3 <= time.monotonic() - began < 5


def test_a_denial_refuses_until_it_is_cleared_and_both_deletes_need_one_permission(
    batch: RemoteBatch, queue: str, sqs: Any
) -> None:
    with pytest.raises(ValueError, match="DeleteMessageBatch needs the permission DeleteMessage: deny that"):
        batch.deny("DeleteMessageBatch")
    batch.deny("DeleteMessage")
    denied = r"not authorized to perform: sqs:deletemessage on resource: arn:aws:sqs:eu-west-1:123456789012:awsbatch"
    with pytest.raises(ClientError, match=denied):
        sqs.delete_message_batch(QueueUrl=queue, Entries=[{"Id": "0", "ReceiptHandle": "x"}])
    batch.clear_denials()
    sqs.delete_message_batch(QueueUrl=queue, Entries=[{"Id": "0", "ReceiptHandle": "x"}])


def test_a_fault_of_every_operation_is_one_of_batch_only(batch: RemoteBatch, queue: str, sqs: Any) -> None:
    batch.fault(kind="server_500", times=None)
    sqs.receive_message(QueueUrl=queue)


def test_a_signature_must_be_that_of_the_service(queue: str, batch: RemoteBatch, clients: Callable[..., Any]) -> None:
    forged = clients("sqs", secret="guessed")
    assert error_of(lambda: forged.receive_message(QueueUrl=queue)) == "SignatureDoesNotMatch"
    forged = clients("events", secret="guessed")
    assert error_of(lambda: forged.put_events(Entries=[CANARY])) == "InvalidSignatureException"
    status, answer = raw(batch, {"QueueUrl": queue}, service="batch")
    assert (status, answer["__type"]) == (403, "InvalidSignatureException")
    assert "Credential should be scoped to correct service: 'sqs'" in answer["message"]


def raw(batch: RemoteBatch, body: dict[str, Any], *, service: str = "sqs", wait: bool = True) -> tuple[int, Any]:
    """A ReceiveMessage; without `wait` the caller leaves before the answer."""
    host, data = urllib.parse.urlsplit(batch.url).netloc, json.dumps(body).encode()
    unsigned = SignedRequest("POST", "/", {"host": host, "x-amz-target": "AmazonSQS.ReceiveMessage"}, data)
    keys = {"access_key": "sandbox", "secret": "sandbox"}
    headers = sign(unsigned, at=time.time(), region=REGION, service=service, **keys)
    with closing(http.client.HTTPConnection(host, timeout=5)) as connection:
        connection.request("POST", "/", data, headers)
        if not wait:
            time.sleep(0.1)
            return 0, None
        response = connection.getresponse()
        return response.status, json.load(response)


def test_a_caller_that_left_takes_no_message(batch: RemoteBatch, queue: str, sqs: Any) -> None:
    raw(batch, {"QueueUrl": queue, "WaitTimeSeconds": 20}, wait=False)
    batch.send_message(queue, "a")
    assert len(sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1)["Messages"]) == 1


def test_control_verbs_make_events_silent_or_lost_and_empty_a_queue(batch: RemoteBatch, queue: str) -> None:
    job_ids = batch.seed_many(4)
    batch.disable_rule(queue)
    batch.move(job_ids[0], "FAILED")
    batch.enable_rule(queue)
    batch.delivery(queue, losses=1.0)
    batch.move(job_ids[1], "FAILED")
    batch.delivery()
    batch.move(job_ids[2], "FAILED")
    assert [json.loads(one["body"])["jobId"] for one in batch.messages(queue)] == [job_ids[2]]
    batch.purge_queue(queue)
    assert (batch.messages(queue), batch.queues()) == ([], [queue])


def test_a_control_verb_with_a_wrong_argument_names_it(batch: RemoteBatch, queue: str) -> None:
    with pytest.raises(ValueError, match="delivery: losses must be a probability, 0 to 1, got 2"):
        batch.delivery(losses=2)
    with pytest.raises(LookupError, match="there is no queue "):
        batch.messages(queue + "x")
    with pytest.raises(ValueError, match=r"operation must be .* or one of DescribeJobs, .*, ReceiveMessage, "):
        batch.fault("ReceiveMessages", kind="slow")
