"""Sends the terminations that a sweep found, as many in one call as AWS Batch accepts."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import Accepted
from awsbatch_operator.controller.bulk_cache import BulkPermit, TrackedTermination
from awsbatch_operator.controller.bulk_calls import IN_FLIGHT, BulkCalls, RefusedError, gather
from awsbatch_operator.policy.resolution import Scope
from awsbatch_operator.reconcile.bulk_status import refusal_of
from awsbatch_operator.reconcile.sweep import Tally

REFUSED_FOR: Final = 300.0
"""Seconds until a termination that AWS refused is tried again, and up to a tenth more."""
LONGEST_WAIT: Final = 10_000
"""Milliseconds after its description that a job whose tags decide may wait for others to fill the calls: what AWS Batch
showed of its tags lapses, and in a large queue of which few jobs match, the same ones would lapse in each sweep."""
MOST_REFUSED: Final = 5
"""Jobs whose termination AWS refuses, and accepts no other, after which a sweep ends: each may cost a call."""

_LOST: Final = frozenset({ErrorClass.DENIED, ErrorClass.CREDENTIALS, ErrorClass.REJECTED})

log = structlog.get_logger(__name__)


class BulkSender:
    """The terminations of one sweep. Each job that was not accepted counts as matched in the `tally`.

    `accepted`: jobs whose termination AWS Batch accepted, children of arrays included.
    """

    def __init__(self, calls: BulkCalls, tracked: TrackedTermination, scope: Scope, tally: Tally) -> None:
        self._calls, self._tracked, self._scope, self._tally = calls, tracked, scope, tally
        self._waiting: list[BulkPermit] = []
        self._refusals = 0
        self.accepted = 0

    def add(self, permit: BulkPermit) -> None:
        self._waiting.append(permit)

    async def send(self, *, full_calls: int) -> None:
        """Send what fills so many calls; everything if it is 0, or if tags of one would lapse. Raises RefusedError."""
        provider, target = self._calls.shared.provider, self._scope.target
        if self._is_late():
            full_calls = 0
        while self._waiting and len(self._waiting) >= full_calls * (limit := provider.terminate_limit(target)):
            taken, self._waiting = self._waiting[: IN_FLIGHT * limit], self._waiting[IN_FLIGHT * limit :]
            if self._tally.total(self._tracked.accepted) > self._tracked.spec.max_jobs:
                self._not_sent(taken)
                continue
            # One that is held or not stated any more takes no slot.
            valid = {permit for permit in taken if permit.valid()}
            self._not_sent([permit for permit in taken if permit not in valid])
            taken = [permit for permit in taken if permit in valid]
            calls = (taken[start : start + limit] for start in range(0, len(taken), limit))
            await gather(map(self._send, calls))

    def _is_late(self) -> bool:
        """Return whether the first one waits for too long. The tags of all lapse, or of none."""
        first = self._waiting[0] if self._waiting else None
        return first is not None and first.lapses and self._calls.shared.now() - first.job.observed_at > LONGEST_WAIT

    async def _send(self, permits: Sequence[BulkPermit]) -> None:
        failures = 0
        while permits:
            answer = await self._calls.terminate(self._tracked, self._scope, lambda: self._call(permits))  # noqa: B023
            if isinstance(answer, Mapping):
                permits = [permit for permit in permits if self._is_to_repeat(permit, answer.get(permit))]
            elif answer.code == "Regrouped" or (answer.error_class is ErrorClass.REJECTED and len(permits) > 1):
                # The endpoint takes one job a call, or one of the ids is malformed.
                for permit in permits:
                    await self._send([permit])
                return
            elif answer.error_class.transient:
                failures += 1
                await self._calls.pause(self._tracked, answer, failures)
            elif len(permits) == 1 and answer.error_class is not ErrorClass.CREDENTIALS:
                self._refuse(permits[0], answer)
                return
            else:
                self._not_sent(permits)
                raise RefusedError(refusal_of(answer, self._scope.target.region))

    async def _call(self, permits: Sequence[BulkPermit]) -> Mapping[BulkPermit, Accepted | CallError] | CallError:
        """Send one call with those that are valid and that no other object has requested; record what was accepted."""
        recent = self._calls.recent
        wanted = [permit for permit in permits if permit.key not in recent and permit.valid()]
        if not wanted:
            return {}
        with recent.under_way({permit.key for permit in wanted}):
            answer = await self._calls.shared.provider.terminate(self._scope.target, wanted, self._tracked.spec.reason)
            if not isinstance(answer, CallError):
                for permit, one in answer.items():
                    if isinstance(one, Accepted):
                        self._record(permit, one)
                self._calls.on_progress(self._tracked, None)
        return answer

    def _record(self, permit: BulkPermit, accepted: Accepted) -> None:
        tracked, job = self._tracked, permit.job
        if job.job_id not in tracked.accepted:
            tracked.requested += job.size
        tracked.accepted[job.job_id] = job.size
        tracked.refused.pop(job.job_id, None)
        self._calls.recent.add(permit.key)
        self.accepted += job.size
        log.info(
            "termination accepted",
            object=tracked.ref,
            generation=tracked.generation,
            cause=tracked.ref.kind,
            jobId=job.job_id,
            region=self._scope.target.region,
            reason=tracked.spec.reason,
            requestId=accepted.request_id,
        )

    def _is_to_repeat(self, permit: BulkPermit, answer: Accepted | CallError | None) -> bool:
        """Count the job by the answer about it; return whether its termination is to be sent again now."""
        if isinstance(answer, Accepted):
            self._tally.add(permit.job, ending=True)
        elif answer is not None and answer.code == "Regrouped":
            # Another one of the call was not valid any more.
            return True
        elif answer is not None and answer.error_class in _LOST:
            self._refuse(permit, answer)
        else:
            if answer is not None and answer.error_class is not ErrorClass.NOT_SENT:
                self._tally.delay = answer
            self._not_sent([permit])
        return False

    def _refuse(self, permit: BulkPermit, error: CallError) -> None:
        pause = REFUSED_FOR * self._calls.shared.jitter(1.0, 1.1)
        self._tracked.refused[permit.job_id] = error, asyncio.get_running_loop().time() + pause
        self._tally.add(permit.job, ending=False, refusal=error)
        self._refusals += 1
        if self._refusals >= MOST_REFUSED and not self.accepted:
            raise RefusedError(refusal_of(error, self._scope.target.region))

    def _not_sent(self, permits: Sequence[BulkPermit]) -> None:
        """The next sweep decides again. Those that another object has requested are ending."""
        for permit in permits:
            self._tally.add(permit.job, ending=permit.key in self._calls.recent)
