"""Leader election: only the holder of a Lease (coordination.k8s.io/v1) acts.

The protocol is client-go's: the holder renews the Lease, all others wait until the record has not changed for its
duration, and resourceVersion decides each race. No clock is compared with another; they only have to run at about the
same rate: the holder stops `renew_deadline` after the start of its last renewal, others start at the earliest `lease`
after they saw the renewal. The election of the `kubernetes` package keeps leading while a call hangs.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from awsbatch_operator.api import timestamps
from awsbatch_operator.api.names import FIELD_MANAGER
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.kube.access_review import ResourceAttributes, missing_permissions
from awsbatch_operator.kube.client import ApiError, KubeClient, Response
from awsbatch_operator.kube.paging import annotations_of, metadata_of
from awsbatch_operator.workqueue.log_once import Change, LogOnce

_GROUP: Final = "coordination.k8s.io"
_API_VERSION: Final = f"{_GROUP}/v1"
LABELS: Final = {"app.kubernetes.io/name": FIELD_MANAGER}
"""Labels of every Lease that an operator holds: `second_operator` finds it by them, whatever its name."""
_JITTER: Final = (0.8, 1.0)
"""Never longer than `retry`: it decides how soon another replica takes over."""

log = structlog.get_logger(__name__)


class LeaseError(Exception):
    """The Lease can't be used; the message is one line and names the remedy."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; client-go's defaults. lease > renew_deadline > retry."""

    lease: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0

    @property
    def call(self) -> float:
        """Timeout of a call, so that one that hangs leaves time for another before the deadline."""
        return self.renew_deadline / 2


def _wall_clock() -> Millis:
    return time.time_ns() // 1_000_000


class LeaderElector:
    """Create it on the loop on which it runs. `identity` must be unique to this process."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        timing: Timing = Timing(),
        now: Callable[[], Millis] = _wall_clock,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._client, self._identity = client, identity
        self._namespace, self._name, self.title = namespace, name, f"{namespace}/{name}"
        self._timing, self._now, self._jitter = timing, now, jitter
        self._collection = f"/apis/{_API_VERSION}/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._loop = asyncio.get_running_loop()
        self._until = -math.inf
        self._fence: asyncio.TimerHandle | None = None
        self._leading_task: asyncio.Task[None] | None = None
        self._on_stopped_leading: Callable[[], None] = lambda: None
        self._on_reconnected: Callable[[], None] = lambda: None
        self._on_annotations: Callable[[Mapping[str, str]], None] = lambda _: None
        self._lease: Mapping[str, Any] | None = None
        self._record: Mapping[str, Any] = {}
        self._seen_at = -math.inf
        self._problem = LogOnce()

    @property
    def is_leader(self) -> bool:
        """Whether this process is the leader, by the clock: correct even after the process was frozen. Thread-safe."""
        return self._loop.time() < self._until

    async def run(
        self,
        on_started_leading: Callable[[], Coroutine[Any, Any, None]],
        on_stopped_leading: Callable[[], None],
        on_reconnected: Callable[[], None],
        on_annotations: Callable[[Mapping[str, str]], None],
    ) -> None:
        """Acquire the Lease when it is free, and renew it, until cancelled.

        `on_started_leading` runs beside the renewals. When the Lease is lost, it is cancelled and `on_stopped_leading`
        is called at once. An error of `on_started_leading` ends `run` too. A Lease that is held when `run` is cancelled
        expires at its deadline; `release` gives it up at once. `on_reconnected` is called when requests succeed again
        after failed ones, before leading starts. `on_annotations` receives the annotations of the Lease with each
        answer about it: every 2 s, and before leading starts.
        """
        self._on_stopped_leading, self._on_reconnected = on_stopped_leading, on_reconnected
        self._on_annotations = on_annotations
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._attempt()
                if self.is_leader and self._leading_task is None:
                    self._leading_task = tasks.create_task(on_started_leading())
                    log.info("became leader", lease=self.title, identity=self._identity)
                await asyncio.sleep(self._pause())

    async def release(self, within: float = 1.0) -> None:
        """Stop leading, let another replica take over at once. Call it after `run` has ended; never raises ApiError."""
        self._stop_leading("the Lease was released", planned=True)
        try:
            async with asyncio.timeout(within):
                while await self._read() and self._is_mine() and not await self._put(self._released_record()):
                    pass
        except (ApiError, TimeoutError) as error:
            log.warning(
                "failed to release lease; it expires by itself",
                lease=self.title,
                error=str(error) or f"no answer within {within:g} s",
            )

    async def check(self) -> None:
        """Raise LeaseError if Kubernetes forbids to read or hold the Lease. `run` handles all other errors."""
        try:
            update = ResourceAttributes("update", _GROUP, "leases", self._namespace, self._name)
            # The permission to create is needed only if the Lease does not exist yet.
            create = () if await self._read() else (update._replace(verb="create", name=""),)
            missing = await missing_permissions(self._client, (*create, update))
        except ApiError as error:
            if error.status == 403:
                raise LeaseError(self._explain(error)) from error
            return
        if missing:
            raise LeaseError(self._forbidden(" and ".join(map(str, missing))))

    # -- one attempt --------------------------------------------------------------------------------------------------

    async def _attempt(self) -> None:
        try:
            await self._renew_or_acquire()
        except ApiError as error:
            self._report(self._explain(error))
        else:
            self._report("")

    async def _renew_or_acquire(self) -> None:
        if self._is_mine() and await self._write():
            return
        if not await self._read():
            self._stop_leading("the Lease was deleted")
        elif not self._is_mine():
            self._stop_leading(f"the Lease is held by {self._record.get('holderIdentity') or 'no one'}")
        if self._is_free():
            await self._write()

    async def _write(self) -> bool:
        """Renew or acquire the Lease as it was read. Return False if another replica was faster."""
        # The deadline counts from here; the other replicas count from the API server's write, which is later.
        started = self._loop.time()
        if self._lease is None:
            metadata = {"name": self._name, "namespace": self._namespace, "labels": LABELS}
            body = {"apiVersion": _API_VERSION, "kind": "Lease", "metadata": metadata, "spec": self._held_record({})}
            written = await self._send_write(self._client.post(self._collection, body), (409,))
        else:
            written = await self._put(self._held_record(self._record))
        if written:
            self._on_written(started)
        return written

    def _held_record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        now = timestamps.micro_time(self._now())
        fields = {"leaseDurationSeconds": math.ceil(self._timing.lease), "renewTime": now}
        if record.get("holderIdentity") != self._identity:
            transitions = int(record.get("leaseTransitions") or 0) + 1 if record else 0
            fields |= {"holderIdentity": self._identity, "acquireTime": now, "leaseTransitions": transitions}
        return {**record, **fields}

    def _released_record(self) -> dict[str, Any]:
        fields = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": timestamps.micro_time(self._now())}
        return {**self._record, **fields}

    # -- the record ---------------------------------------------------------------------------------------------------

    def _is_mine(self) -> bool:
        return self._lease is not None and self._record.get("holderIdentity") == self._identity

    def _is_free(self) -> bool:
        # A Lease that was deleted is not free: its holder does not know yet.
        holder = self._record.get("holderIdentity")
        return not holder or holder == self._identity or self._loop.time() >= self._expires_at()

    def _expires_at(self) -> float:
        return self._seen_at + float(self._record.get("leaseDurationSeconds") or self._timing.lease)

    def _pause(self) -> float:
        """Return the seconds to the next attempt: `retry`, or less if another replica's Lease expires before."""
        left = self._expires_at() - self._loop.time()
        wait = self._timing.retry * self._jitter(*_JITTER)
        return min(wait, left) if left > 0 else wait

    def _on_read(self, lease: Mapping[str, Any]) -> None:
        record = lease.get("spec") or {}
        if self._lease is None or record != self._record:
            self._seen_at = self._loop.time()
        self._lease, self._record = lease, record
        self._on_annotations(annotations_of(lease))

    # -- leadership ---------------------------------------------------------------------------------------------------

    def _on_written(self, started: float) -> None:
        if not self.is_leader:
            # The Lease expired while the answer was on its way: the old leadership must stop before a new one starts.
            self._stop_leading("the Lease was renewed too late")
        if self._fence is not None:
            self._fence.cancel()
        self._until = started + self._timing.renew_deadline
        # A timer, since `run` may be waiting for an API server that hangs.
        reason = f"the Lease was not renewed for {self._timing.renew_deadline:g} s"
        self._fence = self._loop.call_at(self._until, self._stop_leading, reason)

    def _stop_leading(self, reason: str, *, planned: bool = False) -> None:
        self._until = -math.inf
        if self._fence is not None:
            self._fence.cancel()
        if self._leading_task is None:
            return
        self._leading_task.cancel()
        self._leading_task = None
        self._on_stopped_leading()
        write = log.info if planned else log.warning
        write("lost leadership", lease=self.title, identity=self._identity, reason=reason)

    # -- calls --------------------------------------------------------------------------------------------------------

    async def _read(self) -> bool:
        """Return False if there is no Lease."""
        try:
            self._on_read((await self._call(self._client.get(self._path))).body)
        except ApiError as error:
            if error.status != 404:
                raise
            self._lease = None
            self._on_annotations({})
        return self._lease is not None

    async def _put(self, record: Mapping[str, Any]) -> bool:
        metadata = metadata_of(self._lease)
        # A Lease that somebody else created has them from now on.
        labels = {**(metadata.get("labels") or {}), **LABELS}
        body = {**(self._lease or {}), "metadata": {**metadata, "labels": labels}, "spec": record}
        return await self._send_write(self._client.put(self._path, body), (404, 409))

    async def _send_write(self, call: Awaitable[Response], outdated: tuple[int, ...]) -> bool:
        """Return False if the Lease is not the one that was read; nothing was written then."""
        try:
            self._on_read((await self._call(call)).body)
        except ApiError as error:
            if error.status not in outdated:
                raise
            return False
        return True

    async def _call(self, call: Awaitable[Response]) -> Response:
        try:
            async with asyncio.timeout(self._timing.call):
                return await call
        except TimeoutError as error:
            raise ApiError(0, f"the Kubernetes API did not answer within {self._timing.call:g} s") from error

    def _explain(self, error: ApiError) -> str:
        return self._forbidden(error.message) if error.status == 403 else error.message

    def _forbidden(self, what: str) -> str:
        return (
            f"Kubernetes forbids the Lease {self.title} ({what}): grant get, create and update on leases "
            f"(apiGroups: [{_GROUP}]) by a Role in namespace {self._namespace}, or run a single replica with "
            "--no-leader-elect"
        )

    def _report(self, problem: str) -> None:
        """Log a problem when it begins, changes and ends."""
        match self._problem.report(problem):
            case Change.BEGAN | Change.CHANGED:
                log.warning("failed to renew lease", lease=self.title, error=problem)
            case Change.ENDED:
                log.info("lease requests succeed again", lease=self.title)
                self._on_reconnected()
