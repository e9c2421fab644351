"""Calls of one target that can't be combined: groups in turn, each call in a slot of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from awsbatch_operator.workqueue.coalescer import Coalescer
from awsbatch_operator.workqueue.fair_queue import FairQueue

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Call:
    function: Callable[[], Awaitable[Any]]
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class CallQueue:
    """`slot` is entered for each call. At most `in_flight` calls run at once, and one of them waits for its slot."""

    def __init__(self, slot: Callable[[], AbstractAsyncContextManager[object]], *, in_flight: int) -> None:
        self._queue: FairQueue[_Call] = FairQueue(asyncio.get_running_loop().time)
        self.coalescer: Coalescer[_Call] = Coalescer(
            wait=self._queue.wait, slot=slot, take=self._queue.pop, send=self._send, in_flight=in_flight
        )

    def __len__(self) -> int:
        """Return the number of waiting calls."""
        return len(self._queue)

    async def run(self, group: Hashable, function: Callable[[], Awaitable[T]]) -> T:
        """Call the function in the turn of its group and return its answer.

        If the caller is cancelled, a call that waits is dropped, and one that runs goes on.
        """
        call = _Call(function)
        self._queue.add(call, group)
        try:
            answer: T = await call.answer
        finally:
            self._queue.discard(call)
        return answer

    async def _send(self, call: _Call) -> None:
        answer = await call.function()
        if not call.answer.done():
            call.answer.set_result(answer)
