"""An engine between fakes, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from awsbatch_operator.domain.access import Mode
from awsbatch_operator.domain.cadence import Cadence
from awsbatch_operator.domain.job import Job
from awsbatch_operator.domain.policy import Policy, Unreadable
from awsbatch_operator.engine.book import Book
from awsbatch_operator.engine.engine import Engine
from awsbatch_operator.engine.outside import Ports
from fakes.batch import FakeBatch
from fakes.objects import FakeObjects
from fakes.telemetry import FakeTelemetry

REGION = "eu-west-1"


@dataclass
class World:
    batch: FakeBatch = field(default_factory=FakeBatch)
    objects: FakeObjects = field(default_factory=FakeObjects)
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    jitter: Callable[[float, float], float] = lambda _low, _high: 1.0
    mode: Mode | None = None
    """None: an engine without a book."""
    acts: Callable[[], bool] = lambda: True
    engine: Engine = field(init=False)
    killed: bool = False

    def __post_init__(self) -> None:
        ports = Ports(self.batch, self.objects, self.telemetry, now=now, jitter=self.jitter, acting=self.acts)
        book = Book(self.mode, REGION, _seconds) if self.mode is not None else None
        self.engine = Engine(ports, region=REGION, cadence=Cadence(), book=book)
        self.objects.tell = self.engine.seen

    def a_job(self, job_id: str, status: str = "RUNNING", **more: Any) -> str:
        self.batch.jobs[job_id] = Job(status, name=job_id, **more)
        return job_id

    def an_object(self, job_id: str, reason: str | None = None, name: str | None = None, namespace: str = "ns") -> str:
        spec: dict[str, Any] = {"jobId": job_id}
        if reason is not None:
            spec["terminate"] = {"reason": reason}
        return self.objects.create(name or f"for-{job_id}", spec, namespace=namespace)

    @property
    def book(self) -> Book:
        return self.engine.book

    def rules(self, *policies: Policy | Unreadable, **namespaces: dict[str, str]) -> None:
        """These policies, and namespaces of these labels, are all there are."""
        self.book.policies_are({policy.name: policy for policy in policies})
        self.book.namespaces_are(namespaces)

    @asynccontextmanager
    async def running(self, *, lead: bool = True) -> AsyncIterator["World"]:
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(self.engine.run())
            await asyncio.sleep(0)
            if lead:
                await self.engine.lead()
            yield self
            if self.killed:
                run.cancel()
            self.engine.stop()
            await asyncio.wait([run])

    async def restarted(self) -> "World":
        """A new process on the same objects and jobs: it knows only what they show."""
        world = World(self.batch, self.objects, FakeTelemetry())
        for uid in self.objects.bodies:
            world.engine.seen(self.objects.snapshot(uid))
        return world


def _seconds() -> float:
    return asyncio.get_running_loop().time()


def now() -> int:
    return int(asyncio.get_running_loop().time() * 1000)
