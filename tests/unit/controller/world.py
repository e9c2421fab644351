"""A controller between fakes, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from awsbatch_operator.api.access_policy import InvalidPolicy, Policy
from awsbatch_operator.api.batchtermination import parse_termination
from awsbatch_operator.api.job import Job
from awsbatch_operator.controller.controller import Controller
from awsbatch_operator.controller.dependencies import Dependencies
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.policy.resolution import Mode
from awsbatch_operator.reconcile.poll_intervals import PollIntervals
from fakes.batch import FakeProvider
from fakes.events import FakeEvents
from fakes.objects import FakeObjects
from fakes.telemetry import FakeTelemetry

REGION = "eu-west-1"


@dataclass
class World:
    batch: FakeProvider = field(default_factory=FakeProvider)
    objects: FakeObjects = field(default_factory=FakeObjects)
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    jitter: Callable[[float, float], float] = lambda _low, _high: 1.0
    mode: Mode | None = None
    """None: a controller without policies."""
    is_leader: Callable[[], bool] = lambda: True
    on_delete_timeout: int | None = None
    unattended_limit: int = 500
    events: FakeEvents = field(default_factory=FakeEvents)
    events_queues: tuple[str, ...] = ()
    clock_set: int = 0
    """Milliseconds by which the wall clock was set since the start."""
    controller: Controller = field(init=False)
    killed: bool = False
    restarts: list[float] = field(default_factory=list)
    """When the watch was restarted."""

    def __post_init__(self) -> None:
        dependencies = Dependencies(
            self.batch,
            self.objects,
            self.telemetry,
            self.events,
            now=lambda: now() + self.clock_set,
            jitter=self.jitter,
            is_leader=self.is_leader,
        )
        policies = PolicyCache(self.mode, REGION, _seconds, now) if self.mode is not None else None
        self.controller = Controller(
            dependencies,
            region=REGION,
            intervals=PollIntervals(on_delete_timeout=self.on_delete_timeout),
            policies=policies,
            unattended_limit=self.unattended_limit,
            events_queues=self.events_queues,
        )
        self.controller.resync.restart_watch = lambda: self.restarts.append(_seconds())
        self.objects.notify, self.objects.on_gone = self.controller.objects.on_upsert, self.controller.objects.on_delete
        self.objects.on_termination = self.controller.bulk.on_upsert
        self.objects.on_termination_gone = self.controller.bulk.on_delete

    def a_job(self, job_id: str, status: str = "RUNNING", **more: Any) -> str:
        self.batch.jobs[job_id] = Job(status, name=job_id, **more)
        return job_id

    def an_object(self, job_id: str, reason: str | None = None, name: str | None = None, namespace: str = "ns") -> str:
        spec: dict[str, Any] = {"jobId": job_id}
        if reason is not None:
            spec["terminate"] = {"reason": reason}
        return self.objects.create(name or f"for-{job_id}", spec, namespace=namespace)

    @property
    def policies(self) -> PolicyCache:
        return self.controller.policies

    def set_policies(self, *policies: Policy | InvalidPolicy, **namespaces: dict[str, str]) -> None:
        """These policies, and namespaces of these labels, are all there are."""
        self.policies.on_policies({policy.name: policy for policy in policies})
        self.policies.on_namespaces(namespaces)

    @asynccontextmanager
    async def running(self, *, is_leader: bool = True) -> AsyncIterator["World"]:
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(self.controller.run())
            await asyncio.sleep(0)
            if is_leader:
                await self.controller.on_started_leading()
            yield self
            if self.killed:
                run.cancel()
            self.controller.stop()
            await asyncio.wait([run])

    async def restarted(self) -> "World":
        """A new process on the same objects and jobs: it knows only what they show."""
        world = World(
            self.batch, self.objects, FakeTelemetry(), mode=self.mode, on_delete_timeout=self.on_delete_timeout
        )
        for uid, body in self.objects.bodies.items():
            if "kind" in body:
                world.controller.bulk.on_upsert(parse_termination(body))
            else:
                world.controller.objects.on_upsert(self.objects.snapshot(uid))
        return world


def _seconds() -> float:
    return asyncio.get_running_loop().time()


def now() -> int:
    return int(asyncio.get_running_loop().time() * 1000)
