"""Replicas that compete for one Lease: each a process with its own loop, clock and network. All on virtual time."""

import asyncio
import heapq
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from awsbatch_operator.kube.client import JSON, ApiError, KubeClient, Response
from awsbatch_operator.kube.credentials import ClusterConfig
from awsbatch_operator.kube.lease import LeaderElector

LATENCY = 0.01
MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True)
class Trip:
    """How a call fares: seconds to the server, seconds back (inf: never arrives), and an HTTP status in its stead."""

    there: float = LATENCY
    back: float = LATENCY
    status: int = 0


GOOD = Trip()
HANGS = Trip(there=math.inf)
ANSWER_LOST = Trip(back=math.inf)
"""The server executes the call, and the answer gets lost."""


class World:
    """The API server with its one Lease, and true time. Checks at every moment that at most one replica leads."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lease: dict[str, Any] | None = None
        self.replicas: list[Replica] = []
        self.trip: Callable[[], Trip] = lambda: GOOD
        self._version = 0
        self._turn = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self.replicas:
            replica.close()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        if seconds < math.inf:
            heapq.heappush(self._agenda, (self.now + seconds, next(self._turn), action))

    def run(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        end = self.now + seconds
        while True:
            for replica in self.replicas:
                replica.turn()
            assert len(self.leaders) <= 1, f"{self.leaders} lead at once"
            wakes_at = min((self._agenda[0][0] if self._agenda else math.inf, *(one.wakes_at for one in self.replicas)))
            if until() or self.now >= end:
                return
            # A timer may lie a rounding ahead of its loop's clock: time must move.
            self.now = min(max(wakes_at, self.now + 1e-6), end)
            while self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()

    def run_until_led_by(self, replica: "Replica", within: float) -> float:
        """How many seconds it took."""
        began = self.now
        self.run(within, until=lambda: replica.is_leader)
        assert replica.is_leader, f"{replica.name} does not lead after {within} s"
        return self.now - began

    @property
    def leaders(self) -> list[str]:
        return [replica.name for replica in self.replicas if replica.is_leader]

    @property
    def record(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec

    # -- what the server does with a call -----------------------------------------------------------------------------

    def get(self) -> Response:
        if self.lease is None:
            raise ApiError(404, "not found")
        return Response(200, self.lease)

    def create(self, body: Mapping[str, Any]) -> Response:
        if self.lease is not None:
            raise ApiError(409, "already exists")
        return self._store(body)

    def replace(self, body: Mapping[str, Any]) -> Response:
        version = body["metadata"]["resourceVersion"]
        if version != self.get().body["metadata"]["resourceVersion"]:
            raise ApiError(409, "the object has been modified")
        return self._store(body)

    def edit(self, **fields: Any) -> None:
        """Change fields of the record, or `annotations`, like `kubectl edit`."""
        body = dict(self.get().body)
        if "annotations" in fields:
            body["metadata"] = {**body["metadata"], "annotations": fields.pop("annotations")}
        self._store({**body, "spec": {**body["spec"], **fields}})

    def _store(self, body: Mapping[str, Any]) -> Response:
        self._version += 1
        assert MICRO_TIME.fullmatch(body["spec"]["renewTime"])
        assert MICRO_TIME.fullmatch(body["spec"]["acquireTime"])
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        return Response(200, self.lease)


class Replica:
    """A process with an elector. `skew` in seconds and `rate` are those of its clock; `day` of its calendar."""

    def __init__(
        self, world: World, name: str, *, skew: float = 0.0, rate: float = 1.0, day: int = 0, jitter: float = 1.0
    ) -> None:
        self.world, self.name, self._rate = world, name, rate
        self.callbacks: list[tuple[float, str]] = []
        self.client = _Client(world)
        self._loop = _Loop(lambda: skew + rate * world.now)
        self._awake = True
        self.elector = self._loop.run_until_complete(self._make(day, jitter))
        self.run = self._loop.create_task(
            self.elector.run(
                self._on_started_leading, self._on_stopped_leading, self._reconnected, self._on_annotations
            )
        )
        self.start_takes = 0.0
        self.reconnected: list[float] = []
        self.annotations: list[tuple[float, Mapping[str, str]]] = []
        """When they were received, and which."""
        self.start_fails = False
        world.replicas.append(self)

    async def _make(self, day: int, jitter: float) -> LeaderElector:
        return LeaderElector(
            self.client, "ns", "lock", self.name, now=lambda: int(self.world.now * 1000) + day * 86_400_000,
            jitter=lambda low, high: low + jitter * (high - low),
        )  # fmt: skip

    @property
    def is_leader(self) -> bool:
        return self.elector.is_leader

    @property
    def callback_names(self) -> list[str]:
        return [what for _, what in self.callbacks]

    @property
    def acts(self) -> bool:
        """Whether it leads, as its last callback says."""
        return bool(self.callbacks) and self.callbacks[-1][1] == "started"

    @property
    def wakes_at(self) -> float:
        return self.world.now + self._loop.idle / self._rate if self._awake else math.inf

    def turn(self) -> None:
        """Do all that is due."""
        if self._awake:
            self._loop.run_forever()
            assert self.acts == self.is_leader, f"{self.name} acts: {self.acts}, leads: {self.is_leader}"

    def freeze(self, seconds: float = math.inf) -> None:
        """Freeze the process like SIGSTOP, while its clock continues. Forever: a crash."""
        self._awake = False
        self.world.later(seconds, self._thaw)

    def _thaw(self) -> None:
        self._awake = True

    def stop(self) -> None:
        """Stop like SIGTERM, after the controller has stopped."""
        self.run.cancel()
        self._loop.create_task(self.elector.release())

    def close(self) -> None:
        self._awake = True
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_forever()
        self._loop.close()

    async def _on_started_leading(self) -> None:
        self.callbacks.append((self.world.now, "started"))
        if self.start_fails:
            raise ValueError("broken")
        if self.start_takes:
            await asyncio.sleep(self.start_takes)
            self.callbacks.append((self.world.now, "started"))

    def _reconnected(self) -> None:
        self.reconnected.append(self.world.now)

    def _on_annotations(self, annotations: Mapping[str, str]) -> None:
        self.annotations.append((self.world.now, annotations))

    def _on_stopped_leading(self) -> None:
        self.callbacks.append((self.world.now, "stopped"))


class _Client(KubeClient):
    def __init__(self, world: World) -> None:
        super().__init__(lambda: ClusterConfig("http://nobody.example"))
        self._world = world
        self.trips: Iterator[Trip] = iter(())
        self.calls: list[tuple[float, str]] = []
        self.freezes_for = 0.0
        """Seconds for which the process is frozen during its next call, before its loop reads the clock."""

    def fares(self, trips: Iterable[Trip]) -> None:
        """Set the results of the next calls; later calls succeed."""
        self.trips = iter(trips)

    async def get(self, path: str, params: Mapping[str, str] | None = None, accept: str = JSON) -> Response:
        assert path == "/apis/coordination.k8s.io/v1/namespaces/ns/leases/lock"
        return await self._travel("get", self._world.get)

    async def post(self, path: str, body: Mapping[str, Any]) -> Response:
        assert path == "/apis/coordination.k8s.io/v1/namespaces/ns/leases"
        return await self._travel("post", lambda: self._world.create(body))

    async def put(self, path: str, body: Mapping[str, Any]) -> Response:
        assert path == "/apis/coordination.k8s.io/v1/namespaces/ns/leases/lock"
        return await self._travel("put", lambda: self._world.replace(body))

    async def _travel(self, verb: str, serve: Callable[[], Response]) -> Response:
        self.calls.append((self._world.now, verb))
        if self.freezes_for:
            self._world.now += self.freezes_for
            self.freezes_for = 0.0
            return serve()
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        trip = next(self.trips, None) or self._world.trip()

        def arrive() -> None:
            try:
                outcome: Response | ApiError = ApiError(trip.status, "refused") if trip.status else serve()
            except ApiError as error:
                outcome = error
            # The server has done it, even if nobody waits for the answer any more.
            self._world.later(trip.back, lambda: _settle(answer, outcome))

        self._world.later(trip.there, arrive)
        return await answer


def _settle(answer: asyncio.Future[Response], outcome: Response | ApiError) -> None:
    if answer.done():
        return
    if isinstance(outcome, ApiError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


class _Loop(asyncio.BaseEventLoop):
    """`run_forever` runs what is due by the given clock and returns; `idle` is the seconds to its next timer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock, self._selector, self.idle = clock, self, math.inf

    def time(self) -> float:
        return self._clock()

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None or timeout > 0:
            self.idle = math.inf if timeout is None else timeout
            self.stop()
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none: nothing here has a socket."""
