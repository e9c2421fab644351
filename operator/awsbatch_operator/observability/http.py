"""Probes and metrics over HTTP: /livez, /readyz, /metrics."""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

Check = Callable[[], str | None]
"""Returns None if all is well, else a short description of the fault."""

_SHUTDOWN_SECONDS: Final = 1.0
_INDEX: Final = (
    "awsbatch-operator\n"
    "/livez    200 unless the operator hangs\n"
    "/readyz   200 if the watch works, all objects are known and AWS Batch answers\n"
    "/metrics  metrics for Prometheus\n"
)


class ListenError(Exception):
    """The server can't listen on the address; the message names the flag."""


def fresh(last: Callable[[], float | None], seconds: float, now: Callable[[], float] = time.monotonic) -> Check:
    """Return a check that `last` returns a time of the clock `now` that is at most so many seconds ago."""

    def check() -> str | None:
        at = last()
        if at is None:
            return "not yet"
        age = now() - at
        return f"last {age:.0f} s ago, at most {seconds:g} s are normal" if age > seconds else None

    return check


def make_app(registry: CollectorRegistry, live: Mapping[str, Check], ready: Mapping[str, Check]) -> web.Application:
    """Return the web application. `live` and `ready`: the checks, by name, for /livez and /readyz."""

    async def index(_request: web.Request) -> web.Response:
        return web.Response(text=_INDEX)

    async def livez(_request: web.Request) -> web.Response:
        return _probe(live)

    async def readyz(_request: web.Request) -> web.Response:
        return _probe(ready)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    app = web.Application()
    for path, handler in (("/", index), ("/livez", livez), ("/readyz", readyz), ("/metrics", metrics)):
        app.router.add_get(path, handler)
    return app


def _probe(checks: Mapping[str, Check]) -> web.Response:
    """Answer in the format of the API server's own probes: one line for each check."""
    faults = {name: check() for name, check in checks.items()}
    lines = [f"[+]{name} ok" if fault is None else f"[-]{name} failed: {fault}" for name, fault in faults.items()]
    passed = all(fault is None for fault in faults.values())
    return web.Response(text="\n".join((*lines, "ok" if passed else "not ok", "")), status=200 if passed else 503)


@asynccontextmanager
async def serve(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve while the context is open; yields the port (the system chooses it for port 0)."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host or None, port).start()
        except OSError as error:
            # asyncio's own message repeats the address; a failed name resolution has no errno of the system.
            code = error.errno or 0
            reason = os.strerror(code) if code > 0 else error.strerror
            raise ListenError(
                f"cannot listen on {host}:{port} ({reason}): set another --http-address "
                "(AWSBATCH_OPERATOR_HTTP_ADDRESS)"
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
