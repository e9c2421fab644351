"""HTTP: the wire protocol of Batch (rest-json) on its own paths, SQS and EventBridge at /, control verbs elsewhere."""

import asyncio
import socket
import struct
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from functools import cache
from typing import Any, Final

from aiohttp import web
from botocore.loaders import Loader

from awsbatch_sandbox.batch import control, events_frontend, identity
from awsbatch_sandbox.batch.frontend import Frontend
from awsbatch_sandbox.batch.replies import Reply
from awsbatch_sandbox.batch.signature import SignedRequest
from awsbatch_sandbox.batch.simulator import BatchSimulator

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NO_LINGER: Final = struct.pack("ii", 1, 0)
MAX_BODY: Final = 16 * 1024 * 1024
_EXPOSED = "x-amzn-errortype,x-amzn-requestid,x-amzn-errormessage,x-amzn-trace-id,x-amz-apigw-id,date"


def application(simulator: BatchSimulator) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY)
    for method, path, operation in _operations():
        app.router.add_route(method, path, _wire(simulator.frontend, operation))
    polling: set[asyncio.Task[Any]] = set()
    app.router.add_post("/", _other_services(simulator, polling))
    app.on_shutdown.append(_end_of(polling))
    verbs, events = (simulator, control.VERBS), (simulator.events, control.EVENTS_VERBS)
    control.add_routes(app.router, verbs, events)
    app.cleanup_ctx.append(_in_time(simulator))
    return app


def _in_time(simulator: BatchSimulator) -> Callable[[web.Application], AsyncIterator[None]]:
    """Publish events when they are due, as long as the application runs."""

    async def context(_app: web.Application) -> AsyncIterator[None]:
        publishing = asyncio.create_task(simulator.publish_in_time())
        yield
        publishing.cancel()
        with suppress(asyncio.CancelledError):
            await publishing

    return context


@cache
def _operations() -> Sequence[tuple[str, str, str]]:
    """Method, path and name of all operations of AWS Batch, also of those that the simulator refuses.

    Read once: botocore takes longer to find the model than the rest of a server takes to start.
    """
    found = Loader().load_service_model("batch", "service-2")["operations"]
    routes = [(one["http"]["method"], one["http"]["requestUri"], name) for name, one in found.items()]
    return [(method, path.replace("{resourceArn}", "{arn:.+}"), name) for method, path, name in routes]


@asynccontextmanager
async def serve(simulator: BatchSimulator, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends; yields the URL. Port 0: any free one."""
    async with listen(application(simulator), host, port) as url:
        yield url


@asynccontextmanager
async def listen(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """The URL at which it is served until the block ends."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, keepalive_timeout=3600)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0][1]
        yield f"http://{host}:{bound}"
    finally:
        await runner.cleanup()


def _wire(frontend: Frontend, operation: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        call = frontend.receive(operation, await signed_request(request), _path_values(request))
        if call.wait_before:
            await asyncio.sleep(call.wait_before)
        reply = frontend.perform(call)
        if call.wait_after:
            await asyncio.sleep(call.wait_after)
        if reply.status == 0:
            return _cut(request)
        return _response(reply, formatdate(frontend.batch_time(), usegmt=True))

    return handle


def _end_of(polling: set[asyncio.Task[Any]]) -> Callable[[web.Application], Awaitable[None]]:
    """Ends long polls, for which the end of the server would wait otherwise."""

    async def cancel(_app: web.Application) -> None:
        for task in polling:
            task.cancel()

    return cancel


def _other_services(simulator: BatchSimulator, polling: set[asyncio.Task[Any]]) -> Handler:
    """SQS and EventBridge, whose requests name their operation in a header, and GetCallerIdentity of STS.

    `polling`: gets the tasks that answer requests of SQS and EventBridge, as long as they run.
    """
    frontend = simulator.events_frontend

    async def handle(request: web.Request) -> web.StreamResponse:
        signed, target = await signed_request(request), request.headers.get("x-amz-target")
        if target is None:
            return identity.answer(simulator.identity, signed)
        answering = asyncio.create_task(frontend.answer(target, signed, lambda: request.transport is not None))
        polling.add(answering)
        answering.add_done_callback(polling.discard)
        reply = await answering
        if reply.status == 0:
            return _cut(request)
        return events_frontend.response(target, reply, formatdate(simulator.aws_time(), usegmt=True))

    return handle


async def signed_request(request: web.Request) -> SignedRequest:
    """The request as its signature covers it."""
    names = {name.lower() for name in request.headers}
    headers = {name: ",".join(request.headers.getall(name)) for name in names}
    return SignedRequest(request.method, request.raw_path, headers, await request.read())


def _path_values(request: web.Request) -> dict[str, Any]:
    arn = request.match_info.get("arn")
    return {} if arn is None else {"resourceArn": arn, "tagKeys": request.query.getall("tagKeys", [])}


def _cut(request: web.Request) -> web.StreamResponse:
    """End the connection with a reset: the client gets no answer at all."""
    if request.transport is not None:
        # Without lingering the kernel sends RST; a plain abort sends FIN, which clients read as an orderly close.
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()
    return web.Response(status=500)


def _response(reply: Reply, date: str) -> web.Response:
    """The headers of a real answer (facts of 2025): gateway ids, trace id, CORS."""
    request_id = str(uuid.uuid4())
    headers = {
        "date": date,
        "x-amzn-requestid": request_id,
        "x-amz-apigw-id": request_id[:8] + "AAAAIAA=",
        "x-amzn-trace-id": f"Root=1-{request_id[:8]}-{request_id[9:13]}{request_id[14:18]}{request_id[24:]}0000",
        "access-control-allow-origin": "*",
        "access-control-expose-headers": _EXPOSED,
    }
    if reply.error_type is not None:
        headers["x-amzn-errortype"] = reply.error_type
    if reply.content_type is not None:
        headers["content-type"] = reply.content_type
    return web.Response(status=reply.status, body=reply.body, headers=headers)
