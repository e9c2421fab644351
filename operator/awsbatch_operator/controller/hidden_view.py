"""The view that one object has of a job that it must not be able to distinguish from a missing one."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.reconcile.job_state import JobState


@dataclass(frozen=True, slots=True)
class HiddenView:
    """`job_state` replaces that of the job: every answer counts as one without the job.

    `next_poll_at` is when the next poll is due, `counts_from` the same with jitter. Earlier polls for other objects
    don't count, so that the object changes when it would change if it were alone and the job were missing.
    """

    job_state: JobState = field(default_factory=JobState)
    next_poll_at: Millis = 0
    counts_from: Millis = 0

    def scheduled(self, next_poll_at: Millis, now: Millis, jitter: Callable[[float, float], float]) -> Self:
        """Draw the jitter once for each due time, however often the object is reconciled."""
        if next_poll_at == self.next_poll_at:
            return self
        wait = max(next_poll_at - now, 0)
        return replace(self, next_poll_at=next_poll_at, counts_from=now + int(wait * jitter(1.0, 1.1)))

    def polled(self, error: CallError | None, now: Millis) -> Self:
        if now < self.counts_from:
            return self
        state = self.job_state
        return replace(self, job_state=state.with_not_found(now) if error is None else state.with_error(error, now))
