"""Who acts: of all replicas the one that holds a Lease (coordination.k8s.io/v1).

The protocol is client-go's: the holder renews, everybody else waits until the record has not changed for the time that
it grants, and resourceVersion decides each race. No clock is compared with another's, they only have to run about
equally fast: the holder stops `renew_deadline` after the start of its last renewal, others start no sooner than
`lease` after they saw it. The `kubernetes` package's own election keeps leading while a call hangs.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from awsbatch_operator.domain.job import Millis
from awsbatch_operator.kube import times
from awsbatch_operator.kube.client import Answer, ApiError, KubeClient
from awsbatch_operator.kube.rights import Right, lacking

_GROUP: Final = "coordination.k8s.io"
_API_VERSION: Final = f"{_GROUP}/v1"
_JITTER: Final = (0.8, 1.0)
"""Never longer than `retry`: how soon another takes over depends on it."""

log = structlog.get_logger(__name__)


class LeaseError(Exception):
    """The Lease may not be used; the message is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; client-go's defaults. lease > renew_deadline > retry."""

    lease: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0

    @property
    def call(self) -> float:
        """What a call gets, so that one that hangs leaves time for another before the deadline."""
        return self.renew_deadline / 2


def _wall_clock() -> Millis:
    return time.time_ns() // 1_000_000


class Elector:
    """Make it on the loop on which it runs. `identity` must be this process's alone."""

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
        self._namespace, self._name, self._title = namespace, name, f"{namespace}/{name}"
        self._timing, self._now, self._jitter = timing, now, jitter
        self._collection = f"/apis/{_API_VERSION}/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._loop = asyncio.get_running_loop()
        self._until = -math.inf
        self._fence: asyncio.TimerHandle | None = None
        self._leader: asyncio.Task[None] | None = None
        self._follow: Callable[[], None] = lambda: None
        self._lease: Mapping[str, Any] | None = None
        self._record: Mapping[str, Any] = {}
        self._seen_at = -math.inf
        self._trouble = ""

    @property
    def leading(self) -> bool:
        """Read from the clock: true at this moment, even if the process was frozen until now. For any thread."""
        return self._loop.time() < self._until

    async def run(self, lead: Callable[[], Coroutine[Any, Any, None]], follow: Callable[[], None]) -> None:
        """Until cancelled: take the Lease when it is free, `lead`, renew; `follow` the moment that it is lost.

        `lead` runs beside the renewals and is cancelled before `follow`; its error ends this too. What is held when
        `run` is cancelled lapses at its deadline: `release` gives it up at once.
        """
        self._follow = follow
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._attempt()
                if self.leading and self._leader is None:
                    self._leader = tasks.create_task(lead())
                    log.info("leads", lease=self._title, identity=self._identity)
                await asyncio.sleep(self._pause())

    async def release(self, within: float = 1.0) -> None:
        """Lead no more and let another take over without waiting. For when `run` has ended; never raises ApiError."""
        self._lose("it was given up", planned=True)
        try:
            async with asyncio.timeout(within):
                while await self._read() and self._is_mine() and not await self._put(self._released()):
                    pass
        except (ApiError, TimeoutError) as error:
            log.warning("the Lease is left to expire", lease=self._title, error=str(error) or f"{within:g} s are over")

    async def check(self) -> None:
        """Raise LeaseError when Kubernetes forbids to read or hold it. Other trouble may pass: `run` deals with it."""
        try:
            update = Right("update", _GROUP, "leases", self._namespace, self._name)
            # The right to create is needed only once, and may be spared where somebody else made the Lease.
            create = () if await self._read() else (update._replace(verb="create", name=""),)
            missing = await lacking(self._client, (*create, update))
        except ApiError as error:
            if error.status == 403:
                raise LeaseError(self._explained(error)) from error
            return
        if missing:
            raise LeaseError(self._forbidden(" and ".join(map(str, missing))))

    # -- one attempt --------------------------------------------------------------------------------------------------

    async def _attempt(self) -> None:
        try:
            await self._renew_or_take()
        except ApiError as error:
            self._note(self._explained(error))
        else:
            self._note("")

    async def _renew_or_take(self) -> None:
        if self._is_mine() and await self._claim():
            return
        if not await self._read():
            self._lose("the Lease was deleted")
        elif not self._is_mine():
            self._lose(f"the Lease is held by {self._record.get('holderIdentity') or 'nobody'}")
        if self._is_free():
            await self._claim()

    async def _claim(self) -> bool:
        """Renew or take, on top of what was read. False: somebody was faster."""
        # Counted from here, as the others count from when the API server wrote it, which is later.
        started = self._loop.time()
        if self._lease is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            body = {"apiVersion": _API_VERSION, "kind": "Lease", "metadata": metadata, "spec": self._claimed({})}
            granted = await self._written(self._client.post(self._collection, body), (409,))
        else:
            granted = await self._put(self._claimed(self._record))
        if granted:
            self._hold(started)
        return granted

    def _claimed(self, record: Mapping[str, Any]) -> dict[str, Any]:
        now = times.micro_time(self._now())
        claim = {"leaseDurationSeconds": math.ceil(self._timing.lease), "renewTime": now}
        if record.get("holderIdentity") != self._identity:
            transitions = int(record.get("leaseTransitions") or 0) + 1 if record else 0
            claim |= {"holderIdentity": self._identity, "acquireTime": now, "leaseTransitions": transitions}
        return {**record, **claim}

    def _released(self) -> dict[str, Any]:
        gone = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": times.micro_time(self._now())}
        return {**self._record, **gone}

    # -- what is known of the Lease -----------------------------------------------------------------------------------

    def _is_mine(self) -> bool:
        return self._lease is not None and self._record.get("holderIdentity") == self._identity

    def _is_free(self) -> bool:
        # A Lease that vanished is no free one: its holder does not know yet.
        holder = self._record.get("holderIdentity")
        return not holder or holder == self._identity or self._loop.time() >= self._expires_at()

    def _expires_at(self) -> float:
        return self._seen_at + float(self._record.get("leaseDurationSeconds") or self._timing.lease)

    def _pause(self) -> float:
        """Seconds to the next attempt: to the very moment at which another's claim runs out, when that is sooner."""
        left = self._expires_at() - self._loop.time()
        wait = self._timing.retry * self._jitter(*_JITTER)
        return min(wait, left) if left > 0 else wait

    def _saw(self, lease: Mapping[str, Any]) -> None:
        record = lease.get("spec") or {}
        if self._lease is None or record != self._record:
            self._seen_at = self._loop.time()
        self._lease, self._record = lease, record

    # -- leadership ---------------------------------------------------------------------------------------------------

    def _hold(self, started: float) -> None:
        if not self.leading:
            # It lapsed while the answer was on its way: whoever acted on it must hear of that first.
            self._lose("it was renewed too late")
        if self._fence is not None:
            self._fence.cancel()
        self._until = started + self._timing.renew_deadline
        # A timer, since the loop above may be waiting for an API server that hangs.
        why = f"it was not renewed for {self._timing.renew_deadline:g} s"
        self._fence = self._loop.call_at(self._until, self._lose, why)

    def _lose(self, why: str, *, planned: bool = False) -> None:
        self._until = -math.inf
        if self._fence is not None:
            self._fence.cancel()
        if self._leader is None:
            return
        self._leader.cancel()
        self._leader = None
        self._follow()
        say = log.info if planned else log.warning
        say("leads no more", lease=self._title, identity=self._identity, why=why)

    # -- calls --------------------------------------------------------------------------------------------------------

    async def _read(self) -> bool:
        """False: there is no Lease."""
        try:
            self._saw((await self._call(self._client.get(self._path))).body)
        except ApiError as error:
            if error.status != 404:
                raise
            self._lease = None
        return self._lease is not None

    async def _put(self, record: Mapping[str, Any]) -> bool:
        return await self._written(self._client.put(self._path, {**(self._lease or {}), "spec": record}), (404, 409))

    async def _written(self, call: Awaitable[Answer], outdated: tuple[int, ...]) -> bool:
        """False: the Lease is not what was read; nothing was written."""
        try:
            self._saw((await self._call(call)).body)
        except ApiError as error:
            if error.status not in outdated:
                raise
            return False
        return True

    async def _call(self, call: Awaitable[Answer]) -> Answer:
        try:
            async with asyncio.timeout(self._timing.call):
                return await call
        except TimeoutError as error:
            raise ApiError(0, f"the Kubernetes API gave no answer within {self._timing.call:g} s") from error

    def _explained(self, error: ApiError) -> str:
        return self._forbidden(error.message) if error.status == 403 else error.message

    def _forbidden(self, what: str) -> str:
        return (
            f"Kubernetes forbids the Lease {self._title} ({what}): grant get, create and update on leases "
            f"(apiGroups: [{_GROUP}]) by a Role in namespace {self._namespace}, or run a single replica with "
            "--no-leader-elect"
        )

    def _note(self, trouble: str) -> None:
        """Log trouble when it begins, when it changes and when it ends."""
        if trouble and trouble != self._trouble:
            log.warning("the Lease can't be had", lease=self._title, error=trouble)
        elif self._trouble and not trouble:
            log.info("the Lease can be had again", lease=self._title)
        self._trouble = trouble
