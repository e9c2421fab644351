"""SQS and EventBridge for the controller: the events of AWS Batch arrive, and canary events leave."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from msgspec import Struct, field
from msgspec.json import encode

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.events_queue import EventsQueue
from awsbatch_operator.api.interfaces import EventMessage
from awsbatch_operator.api.job import Target
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.aws.client_cache import CallRunner
from awsbatch_operator.aws.decoding import decode
from awsbatch_operator.aws.errors import classify_code
from awsbatch_operator.aws.hooks import RequestScope
from awsbatch_operator.aws.sessions import SessionCache

MESSAGES_PER_RECEIVE: Final = 10
"""Most messages of one ReceiveMessage, and of one DeleteMessageBatch."""

VISIBILITY_TIMEOUT: Final = 20
"""Seconds until a message that was received and not deleted can be received again."""

CANARY_SOURCE: Final = "awsbatch.dev"
CANARY_DETAIL_TYPE: Final = "awsbatch-operator canary"
"""The rule of the queue matches them as it matches the events of AWS Batch."""

_UNREADABLE: Final = CallError(
    ErrorClass.UNAVAILABLE, "the response is not a JSON object: it is truncated, or not from AWS", "NoAnswer"
)

T = TypeVar("T")


class _Attributes(Struct):
    sent_at: str | None = field(name="SentTimestamp", default=None)


class _Message(Struct):
    body: str | None = field(name="Body", default=None)
    receipt: str | None = field(name="ReceiptHandle", default=None)
    attributes: _Attributes | None = field(name="Attributes", default=None)


class _Received(Struct):
    messages: list[_Message | None] | None = field(name="Messages", default=None)


class _Undeleted(Struct):
    code: str | None = field(name="Code", default=None)
    message: str | None = field(name="Message", default=None)


class _Deleted(Struct):
    failed: list[_Undeleted | None] | None = field(name="Failed", default=None)


class _PutEntry(Struct):
    code: str | None = field(name="ErrorCode", default=None)
    message: str | None = field(name="ErrorMessage", default=None)


class _Put(Struct):
    entries: list[_PutEntry | None] | None = field(name="Entries", default=None)


class _Detail(Struct):
    job_id: str | None = field(name="jobId", default=None)


class _Body(Struct):
    """The output of the input transformer of the rule, or without one, the event itself."""

    job_id: str | None = field(name="jobId", default=None)
    detail: _Detail | None = None


class AwsEvents:
    """The `EventSource` of `api.interfaces`. `receives` and `sends` run calls of SQS and of EventBridge."""

    def __init__(self, sessions: SessionCache, receives: CallRunner, sends: CallRunner) -> None:
        self._sessions, self._receives, self._sends = sessions, receives, sends

    async def receive(self, queue: EventsQueue, wait: int) -> Sequence[EventMessage] | CallError:
        def request(client: Any) -> Sequence[EventMessage] | CallError:
            answer = client.receive_message(
                QueueUrl=queue.url,
                MaxNumberOfMessages=MESSAGES_PER_RECEIVE,
                WaitTimeSeconds=wait,
                VisibilityTimeout=VISIBILITY_TIMEOUT,
                MessageSystemAttributeNames=["SentTimestamp"],
            )
            received = decode(answer["body"], _Received)
            if received is None:
                return _UNREADABLE
            return [_message(entry or _Message()) for entry in received.messages or ()]

        return await self._run(self._receives, "ReceiveMessage", queue.reader, {"queue": queue.url}, request)

    async def delete(self, queue: EventsQueue, receipts: Sequence[str]) -> None:
        entries = [{"Id": str(index), "ReceiptHandle": receipt} for index, receipt in enumerate(receipts)]

        def request(client: Any) -> CallError | None:
            deleted = decode(client.delete_message_batch(QueueUrl=queue.url, Entries=entries)["body"], _Deleted)
            return _UNREADABLE if deleted is None else _refusal(deleted.failed)

        await self._run(self._receives, "DeleteMessageBatch", queue.reader, {"queue": queue.url}, request)

    async def send_canary(self, target: Target, job_id: str) -> CallError | None:
        detail = encode({"jobId": job_id, "jobQueue": "", "status": ""}).decode()
        entry = {"Source": CANARY_SOURCE, "DetailType": CANARY_DETAIL_TYPE, "Detail": detail}

        def request(client: Any) -> CallError | None:
            put = decode(client.put_events(Entries=[entry])["body"], _Put)
            return _UNREADABLE if put is None else _refusal([one for one in put.entries or () if one and one.code])

        return await self._run(self._sends, "PutEvents", target, {}, request)

    def forget(self, target: Target) -> None:
        for runner in (self._receives, self._sends):
            runner.forget(target)

    def close(self) -> None:
        for runner in (self._receives, self._sends):
            runner.close()

    async def _run(
        self,
        runner: CallRunner,
        operation: str,
        target: Target,
        log_fields: Mapping[str, object],
        request: Callable[[Any], T | CallError],
    ) -> T | CallError:
        return await runner.run(
            operation, target, RequestScope(self._sessions.for_describe(target)), log_fields, request
        )


def _message(entry: _Message) -> EventMessage:
    body = decode((entry.body or "").encode(errors="replace"), _Body)
    job_id = None if body is None else body.job_id or (body.detail and body.detail.job_id)
    return EventMessage(entry.receipt or "", job_id or None, _sent_at(entry.attributes))


def _sent_at(attributes: _Attributes | None) -> Millis | None:
    sent_at = (attributes and attributes.sent_at) or ""
    return int(sent_at) if sent_at.isascii() and sent_at.isdecimal() and len(sent_at) < 16 else None


def _refusal(failed: Sequence[_Undeleted | _PutEntry | None] | None) -> CallError | None:
    """Return the error of the first of these entries."""
    if not failed:
        return None
    first = failed[0] or _Undeleted()
    return classify_code(first.code or "", 0, first.message or "")
