"""The calls of BatchTerminations: namespaces in turn, those of one target at most four at once."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Coroutine, Iterable, Mapping
from typing import Any, Final, TypeVar

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import Accepted
from awsbatch_operator.api.job import Target
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.controller.bulk_cache import BulkPermit, RecentRequests, TrackedTermination
from awsbatch_operator.controller.dependencies import Dependencies
from awsbatch_operator.policy.resolution import Deny, Scope
from awsbatch_operator.reconcile.bulk_status import refusal_of
from awsbatch_operator.workqueue.backoff import backoff
from awsbatch_operator.workqueue.call_queue import CallQueue
from awsbatch_operator.workqueue.coalescer import Dispatchers

IN_FLIGHT: Final = 4
"""Calls of one kind under way at once for a target."""
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 60.0

T = TypeVar("T")


class RefusedError(Exception):
    """A sweep can't go on before a person acts. `refusal`: the reason of Stalled and its message."""

    def __init__(self, refusal: Deny) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class SupersededError(Exception):
    """Another sweep must begin: the spec or the policy has changed, or with an `error`, a page can't be read."""

    def __init__(self, error: CallError | None = None) -> None:
        super().__init__()
        self.error = error


async def gather(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; an error in one of them cancels the others, which would go on beside the next sweep."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


class BulkCalls:
    """`first_polls` waits while BatchJobs of the target wait for their first describe.

    Reads of an object that is not approved come after those, and in the budget after those of approved ones.

    `on_progress` is called when `tracked.accepted` or the error of its last call (None: it succeeded) has changed.
    """

    def __init__(
        self,
        shared: Dependencies,
        *,
        first_polls: Callable[[Target], Awaitable[object]],
        on_progress: Callable[[TrackedTermination, CallError | None], None],
    ) -> None:
        self.shared, self.on_progress, self._first_polls = shared, on_progress, first_polls
        self.recent = RecentRequests(asyncio.get_running_loop().time)
        # By target, and whether the object is approved.
        self.reads: Dispatchers[tuple[Target, bool], CallQueue] = Dispatchers(
            lambda key: CallQueue(
                lambda: shared.provider.describe_slot(key[0], bulk=True, urgent=key[1]), in_flight=IN_FLIGHT
            )
        )
        self.terminations: Dispatchers[Target, CallQueue] = Dispatchers(
            lambda target: CallQueue(lambda: shared.provider.terminate_slot(target, bulk=True), in_flight=IN_FLIGHT)
        )

    def start(self, tasks: asyncio.TaskGroup) -> None:
        for dispatchers in (self.reads, self.terminations):
            dispatchers.start(tasks)

    def stop(self) -> None:
        """Begin no more calls; those under way go on."""
        for dispatchers in (self.reads, self.terminations):
            dispatchers.stop()

    def prune(self, used: Container[Target]) -> None:
        """Drop what is kept for other targets, and for requests of long ago."""
        # A call that waits would never be made without its queue.
        self.reads.prune({key for key, queue in self.reads.items() if key[0] in used or len(queue)})
        self.terminations.prune({key for key, queue in self.terminations.items() if key in used or len(queue)})
        self.recent.prune()

    async def read(
        self,
        tracked: TrackedTermination,
        scope: Scope,
        request: Callable[[], Awaitable[T | CallError]],
        *,
        is_current: Callable[[], bool],
    ) -> tuple[T | CallError, Millis]:
        """Return the answer and when it was requested; of errors only that of a rejected request.

        It repeats what waiting can correct. Raises RefusedError for what it can't, and SupersededError if it is not
        current any more when its turn has come.
        """

        async def call() -> tuple[T | CallError | None, Millis]:
            at = self.shared.now()
            return await request() if is_current() else None, at

        failures = 0
        while True:
            if not tracked.spec.approved:
                await self._after_first_polls(tracked, scope.target)
            queue = self.reads.ensure((scope.target, tracked.spec.approved))
            answer, at = await queue.run(tracked.ref.namespace, call)
            if answer is None:
                raise SupersededError
            if not isinstance(answer, CallError) or answer.error_class is ErrorClass.REJECTED:
                if failures:
                    self.on_progress(tracked, None)
                return answer, at
            if not answer.error_class.transient:
                raise RefusedError(refusal_of(answer, scope.target.region))
            failures += 1
            await self.pause(tracked, answer, failures)

    async def _after_first_polls(self, tracked: TrackedTermination, target: Target) -> None:
        """Wait for them, or until the object has changed: it may be approved now."""
        waits = [asyncio.ensure_future(each) for each in (self._first_polls(target), tracked.changed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def terminate(
        self,
        tracked: TrackedTermination,
        scope: Scope,
        call: Callable[[], Awaitable[Mapping[BulkPermit, Accepted | CallError] | CallError]],
    ) -> Mapping[BulkPermit, Accepted | CallError] | CallError:
        return await self.terminations.ensure(scope.target).run(tracked.ref.namespace, call)

    async def pause(self, tracked: TrackedTermination, error: CallError, failures: int) -> None:
        """Wait before a call is repeated, after so many failures in a row."""
        self.on_progress(tracked, error)
        await asyncio.sleep(self.shared.jitter(0.5, 1.0) * backoff(failures, _FIRST_RETRY, _LONGEST_RETRY))
