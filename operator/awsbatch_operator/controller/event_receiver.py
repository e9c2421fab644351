"""Receives the events of AWS Batch. Each is a hint: the job that it names is described now.

Nothing of a message is trusted or stored. While the events of an account and region arrive, its jobs are polled less
often; when they do not, the jobs are polled as if there were no events.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import structlog

from awsbatch_operator.api.access_policy import Policy
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.events_queue import EventsQueue, queue_region
from awsbatch_operator.api.interfaces import EventMessage, EventResult, Location
from awsbatch_operator.api.job import JobKey, Target
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.controller.cache import Cache, TrackedJob
from awsbatch_operator.controller.dependencies import Dependencies
from awsbatch_operator.controller.event_streams import EventStreams
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.controller.poller import Poller
from awsbatch_operator.workqueue.backoff import backoff
from awsbatch_operator.workqueue.fair_queue import Rank
from awsbatch_operator.workqueue.log_once import LogOnce

CANARY_INTERVAL: Final = 60.0
"""Seconds between two canary events of an account and region: two may be lost before its stream ends."""
LONGEST_WAIT: Final = 20
"""Seconds of a long poll, the most that SQS allows."""
MANY_QUEUES: Final = 16
"""With more queues, a long poll takes one second only, so that the queues share the threads."""
_TICK: Final = 1.0
_IDLE: Final = 5.0
"""Seconds between two ticks while no queue is named: only a changed policy can name one."""
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 60.0
_SLICE: Final = 500

log = structlog.get_logger(__name__)


class EventReceiver:
    """`queues`: URLs of the queues that are read with the operator's own credentials. `may_act`: whether it leads."""

    def __init__(
        self,
        shared: Dependencies,
        queues: Sequence[str],
        *,
        cache: Cache,
        poller: Poller,
        policies: PolicyCache,
        may_act: Callable[[], bool],
    ) -> None:
        self._shared, self._own, self._may_act = shared, queues, may_act
        self._cache, self._poller, self._policies = cache, poller, policies
        self._streams = EventStreams(asyncio.get_running_loop().time, shared.now)
        self._loops: dict[EventsQueue, asyncio.Task[None]] = {}
        self._unreadable = LogOnce()
        self._lost: dict[Location, LogOnce] = {}
        self._begun: set[Location] = set()
        # What has sent an event: AWS does not say whether it sends events of array children and of nodes.
        self._parts: set[tuple[Location, str]] = set()
        self._canary_due = 0.0
        self._sending: set[Location] = set()
        self.readers: set[Target] = set()
        """Those that have read a queue, until the controller has them forgotten."""

    def since(self, target: Target, job_id: str) -> Millis | None:
        """Return since when events report each change of the job; None: they do not."""
        urls = self._urls(target)
        if not urls:
            return None
        location, part = self._shared.provider.location(target), _part(job_id)
        return self._streams.since(location, urls) if not part or (location, part) in self._parts else None

    def alive(self) -> Mapping[Location, bool]:
        """Return for each account and region that should send events whether they arrive.

        Those of another region than their queue's may have no rule that forwards them: only once they have arrived.
        """
        alive: dict[Location, bool] = {}
        for target in self._poller.targets:
            urls, location = self._urls(target), self._shared.provider.location(target)
            if urls and location[0] and (location in self._begun or target.region in map(queue_region, urls)):
                alive[location] = alive.get(location, True) and self._streams.since(location, urls) is not None
        return alive

    def clear(self) -> None:
        """Forget all streams: what this process knows is not the state of the jobs any more."""
        self._streams.clear()
        self._canary_due = 0.0

    def targets(self) -> set[Target]:
        return {queue.reader for queue in self._queues()}

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as tasks:
            while True:
                wanted = set(self._queues()) if self._may_act() else set()
                # A loop that noticed the end of a term has ended, perhaps after the next term began.
                for queue in [one for one, loop in self._loops.items() if one not in wanted or loop.done()]:
                    self._loops.pop(queue).cancel()
                    await self._poll_normally(self._streams.end(queue.url))
                for queue in wanted - self._loops.keys():
                    self.readers.add(queue.reader)
                    self._loops[queue] = tasks.create_task(self._receive(queue))
                await self._poll_normally(self._streams.end())
                self._report_lost_canaries()
                if wanted and clock() >= self._canary_due and (expected := self._expected()):
                    self._canary_due = clock() + CANARY_INTERVAL
                    # A location whose EventBridge hangs holds up no other, and has one call at a time.
                    for location in expected.keys() - self._sending:
                        self._sending.add(location)
                        tasks.create_task(self._send_canary(location, expected[location]))
                await asyncio.sleep(_TICK if any(self._queues()) else _IDLE)

    # -- queues -------------------------------------------------------------------------------------------------------

    def _queues(self) -> Iterator[EventsQueue]:
        for url in self._own:
            yield EventsQueue(url, Target(queue_region(url) or self._policies.region))
        read = set(self._own)
        for name, policy in sorted(self._policies.policies().items()):
            named = policy.events_queue if isinstance(policy, Policy) else None
            if isinstance(policy, Policy) and named is not None and named not in read:
                read.add(named)
                yield EventsQueue(named, Target(queue_region(named) or self._policies.region, policy.role, name))

    def _urls(self, target: Target) -> Sequence[str]:
        """Return the queues in which the events of the target's jobs may arrive: messages of others do not count."""
        if target.role is None:
            return self._own
        policy = self._policies.policies().get(target.policy or "")
        named = policy.events_queue if isinstance(policy, Policy) else None
        return () if named is None else (named,)

    def _expected(self) -> dict[Location, Target]:
        """Return those that should send events. What arrives before an account has its number proves nothing later."""
        located = {self._shared.provider.location(one): one for one in self._poller.targets if self._urls(one)}
        return {location: target for location, target in located.items() if location[0]}

    async def _receive(self, queue: EventsQueue) -> None:
        failures = 0
        handled: list[str] = []
        while self._may_act():
            wait = 1 if failures or len(self._loops) > MANY_QUEUES else LONGEST_WAIT
            deleting = asyncio.create_task(self._shared.events.delete(queue, handled)) if handled else None
            due = asyncio.get_running_loop().time() + min(wait, _TICK)
            answer = await self._shared.events.receive(queue, wait)
            if deleting is not None:
                await deleting
            if not self._may_act():
                # Another replica leads: what is not deleted arrives there.
                return
            if isinstance(answer, CallError):
                failures, handled = failures + 1, []
                await self._poll_normally(self._streams.end(queue.url))
                await asyncio.sleep(self._shared.jitter(0.5, 1.0) * backoff(failures, _FIRST_RETRY, _LONGEST_RETRY))
                continue
            if failures:
                # Events may be lost: only a new canary shows that they arrive again.
                failures, self._canary_due = 0, 0.0
            handled = [message.receipt for message in answer if self._handle(queue, message) and message.receipt]
            if not handled:
                # What ignores the wait, or returns only what is not deleted, is not asked in a loop.
                await asyncio.sleep(max(due - asyncio.get_running_loop().time(), 0))

    def _handle(self, queue: EventsQueue, message: EventMessage) -> bool:
        """Take the hint. Return whether the message is to be deleted."""
        if message.sent_at is not None:
            self._shared.telemetry.event_delay(max(self._shared.now() - message.sent_at, 0) / SECOND)
        if message.job_id is None:
            if self._unreadable.report(queue.url) is not None:
                log.warning(
                    "a message of the events queue names no job; the operator leaves it there for the dead-letter "
                    "queue. Check the input transformer of the rule",
                    queue=queue.url,
                )
            self._shared.telemetry.event_received(EventResult.UNREADABLE)
            return False
        canary = self._streams.take_canary(message.job_id, queue.url)
        jobs = list(self._jobs(queue, message.job_id))
        proven = {canary} if canary is not None else set()
        for job in jobs:
            self._poller.hint(job)
            location = self._shared.provider.location(job.key.target)
            proven.add(location)
            self._parts.add((location, _part(message.job_id)))
        for location in proven:
            if location[0] and self._streams.prove(location, queue.url):
                self._lost.pop(location, None)
                self._begun.add(location)
                log.info("events of AWS Batch arrive", account=location[0], region=location[1], queue=queue.url)
        known = EventResult.TRACKED if jobs else EventResult.UNKNOWN
        self._shared.telemetry.event_received(EventResult.CANARY if canary is not None else known)
        return True

    def _jobs(self, queue: EventsQueue, job_id: str) -> Iterator[TrackedJob]:
        for target in self._poller.targets:
            job = self._cache.jobs.get(JobKey(target, job_id))
            if job is not None and job.objects and queue.url in self._urls(target):
                yield job

    # -- streams ------------------------------------------------------------------------------------------------------

    def _report_lost_canaries(self) -> None:
        for location in self._streams.lost_canaries():
            if self._lost.setdefault(location, LogOnce()).report("lost") is not None:
                log.warning(
                    "a canary event did not arrive: check the rule, its targets, and the policy of the queue",
                    account=location[0],
                    region=location[1],
                )

    async def _send_canary(self, location: Location, target: Target) -> None:
        job_id = self._streams.new_canary(location)
        if await self._shared.events.send_canary(target, job_id) is not None:
            # The error is in the log.
            self._streams.forget_canary(job_id)
        self._sending.discard(location)

    async def _poll_normally(self, ended: set[Location]) -> None:
        """Poll the jobs of these accounts and regions as if there were no events."""
        if not ended:
            return
        for account, region in sorted(ended):
            log.warning(
                "events do not arrive any more; jobs are polled at the normal interval",
                account=account,
                region=region,
            )
        now = self._shared.now()
        for index, tracked in enumerate(list(self._cache.objects.values())):
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            job = self._cache.job_of(tracked)
            if job is None or tracked.steady_interval is None or tracked.next_poll_at is None:
                continue
            due = (job.state.polled_at or 0) + tracked.steady_interval
            if (
                due < tracked.next_poll_at
                and self._shared.provider.location(job.key.target) in ended
                and self.since(*job.key) is None
            ):
                tracked.next_poll_at = due
                # After the clock was set back, the time of the poll is far away.
                wait = min(max(due - now, 0), tracked.steady_interval)
                self._poller.poll_after(tracked, wait / SECOND, rank=Rank.LAST)


def _part(job_id: str) -> str:
    """Return what separates the index of an array child or of a node in its id; empty for a job of its own."""
    return next((one for one in ":#" if one in job_id), "")
