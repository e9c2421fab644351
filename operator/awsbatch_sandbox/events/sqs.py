"""The operations of SQS that the sandbox serves, with AWS's limits: a parsed body in, a parsed answer out."""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from awsbatch_sandbox.events.errors import ServiceError
from awsbatch_sandbox.events.queue import VISIBILITY_TIMEOUT, Message, Queue

Body = Mapping[str, Any]
Connected = Callable[[], bool]
MAX_BATCH: Final = 10
MAX_WAIT: Final = 20
MAX_VISIBILITY_TIMEOUT: Final = 12 * 3600
_ENTRY_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,80}")
_RECEIPT: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def receive_message(queue: Queue, body: Body, connected: Connected) -> dict[str, Any]:
    """Wait up to WaitTimeSeconds for a message. `connected`: whether the caller still waits for the answer."""
    most = _number(body, "MaxNumberOfMessages", 1, MAX_BATCH, 1)
    hidden_for = _number(body, "VisibilityTimeout", 0, MAX_VISIBILITY_TIMEOUT, int(VISIBILITY_TIMEOUT))
    until = asyncio.get_running_loop().time() + _number(body, "WaitTimeSeconds", 0, MAX_WAIT, 0)
    received: list[Message] = []
    while connected() and not (received := queue.receive(most, hidden_for)):
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            break
        await _change(queue, left)
    return {"Messages": [_shown(one, body) for one in received]} if received else {}


async def _change(queue: Queue, seconds: float) -> None:
    """Return when a message was sent or may have become visible, or after that time."""
    sent = asyncio.Event()
    ignore = queue.on_send(sent.set)
    visible_in = queue.next_visible_in()
    try:
        await asyncio.wait_for(sent.wait(), seconds if visible_in is None else min(seconds, visible_in))
    except TimeoutError:
        pass
    finally:
        ignore()


def _shown(message: Message, body: Body) -> dict[str, Any]:
    wanted = {*body.get("MessageSystemAttributeNames", ()), *body.get("AttributeNames", ())}
    attributes = {
        "SentTimestamp": str(message.sent_at),
        "ApproximateReceiveCount": str(message.receive_count),
        "ApproximateFirstReceiveTimestamp": str(message.first_received_at),
    }
    shown = {name: value for name, value in attributes.items() if wanted & {name, "All"}}
    md5 = hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest()
    answer: dict[str, Any] = {"MessageId": message.message_id, "ReceiptHandle": message.receipt, "MD5OfBody": md5}
    return answer | {"Body": message.body} | ({"Attributes": shown} if shown else {})


async def delete_message(queue: Queue, body: Body, _connected: Connected) -> dict[str, Any]:
    """A handle that is not that of the last receive deletes nothing, and is no error."""
    receipt = body.get("ReceiptHandle")
    if not isinstance(receipt, str) or not receipt:
        raise _missing("ReceiptHandle")
    if wrong := _delete(queue, receipt):
        raise ServiceError("ReceiptHandleIsInvalid", wrong)
    return {}


def _delete(queue: Queue, receipt: str) -> str:
    if not _RECEIPT.fullmatch(receipt):
        return f'The input receipt handle "{receipt}" is not a valid receipt handle.'
    queue.delete(receipt)
    return ""


async def delete_message_batch(queue: Queue, body: Body, _connected: Connected) -> dict[str, Any]:
    entries = _entries(body)
    wrong = {entry["Id"]: _delete(queue, str(entry.get("ReceiptHandle"))) for entry in entries}
    failed = [
        {"Id": name, "SenderFault": True, "Code": "ReceiptHandleIsInvalid", "Message": why}
        for name, why in wrong.items()
        if why
    ]
    answer: dict[str, Any] = {"Successful": [{"Id": name} for name, why in wrong.items() if not why]}
    return answer | ({"Failed": failed} if failed else {})


def _entries(body: Body) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = body.get("Entries") or []
    if not entries:
        raise ServiceError("EmptyBatchRequest", "There should be at least one DeleteMessageBatchRequestEntry.")
    if len(entries) > MAX_BATCH:
        limit = f"Maximum number of entries per request are {MAX_BATCH}."
        raise ServiceError("TooManyEntriesInBatchRequest", f"{limit} You have sent {len(entries)}.")
    names = [str(entry.get("Id")) for entry in entries]
    for index, name in enumerate(names):
        if not _ENTRY_ID.fullmatch(name):
            form = (
                "can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long."
            )
            raise ServiceError("InvalidBatchEntryId", f"A batch entry id {form}")
        if name in names[:index]:
            raise ServiceError("BatchEntryIdsNotDistinct", f"Id {name} repeated.")
    return entries


async def get_queue_attributes(queue: Queue, body: Body, _connected: Connected) -> dict[str, Any]:
    messages, visible = len(queue.messages()), queue.visible()
    attributes = {
        "QueueArn": queue.identity.arn,
        "ApproximateNumberOfMessages": str(visible),
        "ApproximateNumberOfMessagesNotVisible": str(messages - visible),
        "VisibilityTimeout": str(int(VISIBILITY_TIMEOUT)),
    }
    if queue.dead_letters is not None:
        redrive = {
            "deadLetterTargetArn": queue.dead_letters.identity.arn,
            "maxReceiveCount": queue.max_receive_count,
        }
        attributes["RedrivePolicy"] = json.dumps(redrive, separators=(",", ":"))
    wanted = set(body.get("AttributeNames") or ())
    shown = {name: value for name, value in attributes.items() if wanted & {name, "All"}}
    return {"Attributes": shown} if shown else {}


Operation = Callable[[Queue, Body, Connected], Awaitable[dict[str, Any]]]
OPERATIONS: Final[Mapping[str, Operation]] = {
    "ReceiveMessage": receive_message,
    "DeleteMessage": delete_message,
    "DeleteMessageBatch": delete_message_batch,
    "GetQueueAttributes": get_queue_attributes,
}


def _number(body: Body, name: str, least: int, most: int, default: int) -> int:
    value = body.get(name, default)
    if type(value) is not int or not least <= value <= most:
        reason = f"Must be between {least} and {most}, if provided."
        message = f"Value {value} for parameter {name} is invalid. Reason: {reason}"
        raise ServiceError("InvalidParameterValueException", message)
    return value


def _missing(name: str) -> ServiceError:
    return ServiceError("MissingRequiredParameterException", f"The request must contain the parameter {name}.")
