"""SQS and EventBridge as the controller sees them, in memory."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.events_queue import EventsQueue
from awsbatch_operator.api.interfaces import EventMessage
from awsbatch_operator.api.job import Target


class FakeEvents:
    """Implements `EventSource`. `errors` of a queue are used up in order; canaries arrive in the queue `returns_to`."""

    def __init__(self) -> None:
        self.messages: dict[str, list[EventMessage]] = defaultdict(list)
        self.errors: dict[str, list[CallError]] = defaultdict(list)
        self.received: list[tuple[float, EventsQueue]] = []
        self.deleted: list[str] = []
        self.canaries: list[tuple[Target, str]] = []
        self.canary_error: CallError | None = None
        self.returns_to: str | None = None
        self._arrived = asyncio.Event()

    def send(self, url: str, *job_ids: str | None, sent_at: int | None = None) -> None:
        """Put a message for each of these into the queue; None: one that names no job."""
        for job_id in job_ids:
            self.messages[url].append(EventMessage(f"{url}#{len(self.deleted)}-{job_id}", job_id, sent_at))
        self._arrived.set()

    def fail(self, url: str, *errors: CallError) -> None:
        self.errors[url] += errors
        self._arrived.set()

    async def receive(self, queue: EventsQueue, wait: int) -> Sequence[EventMessage] | CallError:
        loop = asyncio.get_running_loop()
        self.received.append((loop.time(), queue))
        until = loop.time() + wait
        while not self.messages[queue.url] and not self.errors[queue.url] and loop.time() < until:
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._arrived.wait()
            except TimeoutError:
                break
        await asyncio.sleep(0.01)
        if self.errors[queue.url]:
            return self.errors[queue.url].pop(0)
        taken, self.messages[queue.url] = self.messages[queue.url][:10], self.messages[queue.url][10:]
        return taken

    async def delete(self, queue: EventsQueue, receipts: Sequence[str]) -> None:
        await asyncio.sleep(0.01)
        assert all(receipt.startswith(f"{queue.url}#") for receipt in receipts)
        self.deleted += receipts

    async def send_canary(self, target: Target, job_id: str) -> CallError | None:
        self.canaries.append((target, job_id))
        await asyncio.sleep(0.01)
        if self.canary_error is None and self.returns_to is not None:
            self.send(self.returns_to, job_id)
        return self.canary_error
