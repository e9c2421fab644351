"""Wire calls of SQS and EventBridge: authenticated, recorded, and subject to the faults and denials of tests."""

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from awsbatch_sandbox.batch.clock import Clock
from awsbatch_sandbox.batch.credentials import Caller, Credentials
from awsbatch_sandbox.batch.faults import REPLIES, Fault, Faults
from awsbatch_sandbox.batch.identity import CODES, SKEW_MINUTES
from awsbatch_sandbox.batch.permissions import Permissions
from awsbatch_sandbox.batch.recorder import Recorder
from awsbatch_sandbox.batch.replies import JSON_TYPE, Reply
from awsbatch_sandbox.batch.signature import SignatureError, SignedRequest, Verifier
from awsbatch_sandbox.batch.wire import encode
from awsbatch_sandbox.events.errors import ServiceError
from awsbatch_sandbox.events.eventbridge import put_events
from awsbatch_sandbox.events.simulator import EventsSimulator
from awsbatch_sandbox.events.sqs import OPERATIONS as OF_SQS

SQS: Final = "AmazonSQS"
EVENTBRIDGE: Final = "AWSEvents"
"""The services, as X-Amz-Target names them."""
TYPES: Final = {SQS: "application/x-amz-json-1.0", EVENTBRIDGE: "application/x-amz-json-1.1"}
SERVED: Final = {SQS: tuple(OF_SQS), EVENTBRIDGE: ("PutEvents",)}
OPERATIONS: Final = tuple(name for names in SERVED.values() for name in names)
PERMISSIONS: Final = {"DeleteMessageBatch": "DeleteMessage"}
"""The permissions of operations that need another one than their own."""
_IN_QUERY: Final[Mapping[str, str]] = {
    **{problem.value: code for problem, code in CODES.items()},
    "AccessDeniedException": "AccessDenied",
    "InvalidParameterValueException": "InvalidParameterValue",
    "MissingRequiredParameterException": "MissingParameter",
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    **{
        name: f"AWS.SimpleQueueService.{name}"
        for name in (
            "BatchEntryIdsNotDistinct",
            "EmptyBatchRequest",
            "InvalidBatchEntryId",
            "TooManyEntriesInBatchRequest",
        )
    },
}
"""SQS states each error also by its name in the query protocol, and SDKs show that name."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A call whose signature is valid; its record. `connected`: whether the caller still waits for the answer."""

    service: str
    operation: str
    caller: Caller
    body: dict[str, Any]
    record: dict[str, Any]
    connected: Callable[[], bool]


class EventsFrontend:
    """`credentials` and `aws_time` are those of Batch; `clock` is that of its jobs, which dates events."""

    def __init__(
        self,
        events: EventsSimulator,
        recorder: Recorder,
        credentials: Credentials,
        *,
        clock: Clock,
        aws_time: Callable[[], float],
        serves: Callable[[str], bool],
    ) -> None:
        self._events, self._recorder, self._clock = events, recorder, clock
        terms: Any = {"clock": aws_time, "minutes": SKEW_MINUTES, "serves": serves}
        names = {SQS: "sqs", EVENTBRIDGE: "events"}
        self._verifiers = {service: Verifier(name, credentials, **terms) for service, name in names.items()}
        self.faults, self.permissions = Faults(), Permissions()

    async def answer(self, target: str, request: SignedRequest, connected: Callable[[], bool]) -> Reply:
        """`target`: what X-Amz-Target names. Status 0: cut the connection."""
        service, _, operation = target.partition(".")
        if service not in SERVED:
            return _error(400, "UnknownOperationException", f"{target} is not served by this sandbox")
        try:
            caller = Caller.of(*self._verifiers[service].verify(request))
        except SignatureError as wrong:
            record = self._arrived(operation, Caller("", wrong.region, wrong.access_key), {})
            return self._answered(record, None, _error(403, wrong.problem.value, wrong.message))
        try:
            body = json.loads(request.body or b"{}")
        except ValueError:
            body = None
        record = self._arrived(operation, caller, body)
        if not isinstance(body, dict):
            return self._answered(record, None, _error(400, "SerializationException", "The body is not a JSON object"))
        fault = self.faults.pop(operation, (), caller)
        return self._answered(
            record, fault, await self._perform(_Call(service, operation, caller, body, record, connected), fault)
        )

    def _arrived(self, operation: str, caller: Caller, body: Any) -> dict[str, Any]:
        """A record as of a call of Batch. `queue` is the URL of the request; `received` counts the messages."""
        record = self._recorder.arrived(operation, caller, [], None, self._clock.wall())
        record |= {"queue": body.get("QueueUrl") if isinstance(body, dict) else None, "received": 0}
        return record

    def _answered(self, record: dict[str, Any], fault: Fault | None, reply: Reply) -> Reply:
        record |= {"http_status": reply.status, "error": reply.error_type, "answered_at": self._clock.wall()}
        record["fault"] = None if fault is None else fault.kind
        return reply

    async def _perform(self, call: _Call, fault: Fault | None) -> Reply:
        if fault is None:
            return await self._act(call)
        if fault.kind == "slow":
            reply = await self._act(call) if fault.act_then else None
            await asyncio.sleep(fault.seconds)
            return reply or await self._act(call)
        if fault.act_then:
            await self._act(call)
        return _faulty(call, fault)

    async def _act(self, call: _Call) -> Reply:
        try:
            result = await self._result(call)
        except ServiceError as refused:
            return _error(refused.status, refused.code, refused.message)
        call.record["received"] = len(result.get("Messages", ()))
        return Reply(200, encode(result))

    async def _result(self, call: _Call) -> Any:
        caller, operation = call.caller, call.operation
        if operation not in SERVED[call.service]:
            served = ", ".join(SERVED[call.service])
            message = f"{operation} is not served by this sandbox; it serves {served}"
            raise ServiceError("UnknownOperationException", message)
        if self.permissions.refuse(PERMISSIONS.get(operation, operation), caller, {}):
            raise ServiceError("AccessDeniedException", _denied(call), 403)
        if call.service == EVENTBRIDGE:
            return put_events(self._events.bus, caller.account, caller.region, call.body, self._clock.now_ms())
        queue = self._events.find(caller.account, caller.region, call.body.get("QueueUrl"))
        return await OF_SQS[operation](queue, call.body, call.connected)


def _faulty(call: _Call, fault: Fault) -> Reply:
    """The answer of that fault as these services write errors."""
    if fault.kind == "reset":
        return Reply(0, b"", "reset")
    reply = REPLIES[fault.kind](call.operation, call.caller)
    if reply.error_type is None:
        return reply
    message = _denied(call) if fault.kind == "denied_403" else json.loads(reply.body)["message"]
    return _error(reply.status, reply.error_type, message)


def _denied(call: _Call) -> str:
    """AWS's message; SQS writes the action in lower case."""
    caller, permission = call.caller, PERMISSIONS.get(call.operation, call.operation)
    if call.service == EVENTBRIDGE:
        action, resource = f"events:{permission}", f"arn:aws:events:{caller.region}:{caller.account}:event-bus/default"
    else:
        name = str(call.body.get("QueueUrl")).rpartition("/")[2]
        action, resource = f"sqs:{permission.lower()}", f"arn:aws:sqs:{caller.region}:{caller.account}:{name}"
    because = f"because no identity-based policy allows the {action} action"
    return f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource} {because}"


def _error(status: int, code: str, message: str | None) -> Reply:
    return Reply(status, encode({"__type": code, "message": message}), code)


def response(target: str, reply: Reply, date: str) -> web.Response:
    """The headers of a real answer."""
    headers = {"date": date, "x-amzn-requestid": str(uuid.uuid4())}
    service = target.partition(".")[0]
    if reply.content_type is not None:
        json_type = TYPES.get(service, JSON_TYPE)
        headers["content-type"] = json_type if reply.content_type == JSON_TYPE else reply.content_type
    if service == SQS and reply.error_type is not None:
        fault_of = "Sender" if reply.status < 500 else "Receiver"
        headers["x-amzn-query-error"] = f"{_IN_QUERY.get(reply.error_type, reply.error_type)};{fault_of}"
    return web.Response(status=reply.status, body=reply.body, headers=headers)
