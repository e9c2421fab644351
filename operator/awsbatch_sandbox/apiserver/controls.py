"""Controls for tests at /_sandbox/: the request log, outages, hangs and faults."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from awsbatch_sandbox.apiserver.errors import bad_request, scripted
from awsbatch_sandbox.apiserver.responses import json_response
from awsbatch_sandbox.apiserver.routes import read_object
from awsbatch_sandbox.apiserver.storage import Body, Store

PREFIX: Final = "/_sandbox/"
_LOG_LIMIT: Final = 50_000
_FAULT: Final = 'a fault is {"method", "path_regex", "query_regex", "status", "message", "seconds", "silent", "times"}'

RequestKey = tuple[str, str, str, str, int]


@dataclass(slots=True)
class Fault:
    """Applies to `times` requests of `method` ("*": any) whose path and query match.

    Waits for `seconds`, then answers with `status` and `message`; without a status the request is served. A `silent`
    watch is accepted and then sends no event. `over` ends each of them early.
    """

    method: str
    path: re.Pattern[str]
    query: re.Pattern[str]
    status: int | None
    message: str
    seconds: float
    silent: bool
    times: int
    over: asyncio.Event

    def hits(self, request: web.Request) -> bool:
        return (
            self.times > 0
            and self.method in {"*", request.method}
            and bool(self.path.search(request.path))
            and bool(self.query.search(request.query_string))
        )


class Controls:
    """The state behind the control routes; `away` stops the listener for some seconds."""

    def __init__(self, store: Store, away: Callable[[float], None]) -> None:
        self._store = store
        self._away = away
        self._faults: list[Fault] = []
        self._log: dict[RequestKey, int] = {}
        self._open = asyncio.Event()
        self._open.set()
        self._reopen: asyncio.TimerHandle | None = None

    def record(self, request: web.Request, status: int) -> None:
        """Count a request; the log drops its oldest distinct requests beyond a limit."""
        agent = request.headers.get("User-Agent", "")
        key = (request.method, request.path, request.query_string, agent, status)
        self._log[key] = self._log.get(key, 0) + 1
        if len(self._log) > _LOG_LIMIT:
            del self._log[next(iter(self._log))]

    async def wait_while_hung(self) -> None:
        """Wait while the server hangs."""
        await self._open.wait()

    async def fault(self, request: web.Request) -> Callable[[], Awaitable[object]]:
        """Apply the first fault that matches the request, if there is one. Raises ApiError for its status.

        Returns an awaitable function that the request must call before it sends anything.
        """
        fault = next((one for one in self._faults if one.hits(request)), None)
        if fault is None:
            return self.wait_while_hung
        fault.times -= 1
        if fault.seconds:
            with suppress(TimeoutError):
                await asyncio.wait_for(fault.over.wait(), fault.seconds)
        if fault.status is not None:
            raise scripted(fault.status, fault.message)
        return fault.over.wait if fault.silent else self.wait_while_hung

    def close(self) -> None:
        if self._reopen:
            self._reopen.cancel()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request below /_sandbox/."""
        action = request.path.removeprefix(PREFIX)
        if action == "requests":
            return self._requests(request.method)
        orders: dict[str, Callable[[Body], None]] = {
            "away": lambda body: self._away(_seconds(body)),
            "hang": lambda body: self._hang(_seconds(body)),
            "expire": lambda _body: self._store.expire(),
            "cut": lambda body: self._store.cut(expired=body.get("expired") is True),
            "fault": self._add_fault,
            "clear_faults": lambda _body: self._clear_faults(),
            "snapshot": lambda _body: self._store.save(),
            "restore": lambda _body: self._store.restore(),
        }
        if request.method != "POST" or action not in orders:
            raise bad_request(f"/_sandbox/ knows GET or DELETE requests, and POST {', '.join(orders)}")
        orders[action](await read_object(request) if request.can_read_body else {})
        return json_response({})

    def _requests(self, method: str) -> web.Response:
        if method == "DELETE":
            self._log.clear()
        names = ("method", "path", "query", "userAgent", "status")
        items = [dict(zip(names, key, strict=True)) | {"count": count} for key, count in self._log.items()]
        return json_response({"items": items})

    def _hang(self, seconds: float) -> None:
        self._open.clear()
        self.close()
        self._reopen = asyncio.get_running_loop().call_later(seconds, self._open.set)

    def _add_fault(self, body: Body) -> None:
        try:
            self._faults.append(
                Fault(
                    method=str(body.get("method", "*")),
                    path=re.compile(body.get("path_regex", "")),
                    query=re.compile(body.get("query_regex", "")),
                    status=int(body["status"]) if "status" in body else None,
                    message=str(body.get("message", "")),
                    seconds=float(body.get("seconds", 0)),
                    silent=body.get("silent") is True,
                    times=int(body.get("times", 1)),
                    over=asyncio.Event(),
                )
            )
        except (ValueError, TypeError, re.error) as error:
            raise bad_request(_FAULT) from error

    def _clear_faults(self) -> None:
        for fault in self._faults:
            fault.over.set()
        self._faults.clear()


def _seconds(body: dict[str, Any]) -> float:
    seconds = body.get("seconds")
    if not isinstance(seconds, int | float):
        raise bad_request('send {"seconds": S}')
    return float(seconds)
