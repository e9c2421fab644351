"""HTTP: the query protocol of STS at /, the control verbs under /_sandbox/."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from awsbatch_sandbox.batch import control
from awsbatch_sandbox.batch.server import listen, signed_request
from awsbatch_sandbox.sts.simulator import StsSimulator

VERBS: Final = ("trust", "clear_trust", "roles", "calls", "clear_calls", "expire")


@asynccontextmanager
async def serve(simulator: StsSimulator, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends; yields the URL. Port 0: any free one."""

    async def answer(request: web.Request) -> web.StreamResponse:
        signed = await signed_request(request)
        if latency := simulator.latency(signed):
            await asyncio.sleep(latency)
        reply = simulator.answer(signed)
        return web.Response(status=reply.status, body=reply.body, content_type="text/xml")

    app = web.Application()
    app.router.add_post("/", answer)
    control.add_routes(app.router, (simulator, VERBS))
    async with listen(app, host, port) as url:
        yield url
