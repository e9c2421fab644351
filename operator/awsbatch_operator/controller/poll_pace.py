"""The poll interval of jobs that do not change: longer while events report every change."""

from collections.abc import Callable

from awsbatch_operator.api.job import Target
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.controller.cache import TrackedJob
from awsbatch_operator.reconcile.poll_intervals import terminating


class PollPace:
    """`events_since` returns since when events report the changes of a job of the target; None: they do not.

    `with_events`: milliseconds between two polls of a job while they do. `now`: epoch milliseconds.
    """

    def __init__(self, with_events: Millis, now: Callable[[], Millis]) -> None:
        self._with_events, self._now = with_events, now
        self.events_since: Callable[[Target, str], Millis | None] = lambda _target, _job_id: None

    def interval(self, job: TrackedJob, steady: Millis) -> Millis:
        """Return the milliseconds from the latest poll to the next. `steady`: the same without events."""
        polled_at, shown = job.state.polled_at or 0, job.state.job
        if job.requested_at < job.hinted_at <= self._now():
            # The answer may be older than the event. A later time means that the clock was set back.
            return max(job.requested_at + SECOND - polled_at, 0)
        age = job.requested_at - job.hinted_at
        if 0 <= age < steady:
            # DescribeJobs may not show yet what the event reported.
            return steady if job.changed else min(terminating(age), steady)
        since = self.events_since(*job.key)
        if since is None or job.requested_at < since or shown is None or shown.flagged or shown.is_array:
            # The counts of an array's children change without an event of the parent.
            return steady
        return max(steady, self._with_events)

    def target_interval(self, target: Target, steady: Millis) -> Millis:
        """Return the milliseconds between two lists, which show no children. `steady`: the same without events."""
        return steady if self.events_since(target, "") is None else max(steady, self._with_events)
