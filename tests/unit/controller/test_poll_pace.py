"""When a job is polled next that was named by an event after its latest answer, and before that was decided on."""

import pytest

from awsbatch_operator.api.job import Job, JobKey, Target
from awsbatch_operator.api.timestamps import MINUTE, SECOND
from awsbatch_operator.controller.cache import TrackedJob
from awsbatch_operator.controller.poll_pace import PollPace
from awsbatch_operator.reconcile.job_state import JobState

AT = 1_000 * SECOND


@pytest.mark.parametrize(
    ("hinted_at", "now", "interval"),
    [
        (AT + 50, AT + 300, 900),
        (AT + 200, AT + 300, 900),
        (AT + 20 * SECOND, AT + 20 * SECOND, 900),
        (AT + 200, AT + 150, 5 * MINUTE),
        (0, AT + 300, 5 * MINUTE),
    ],
    ids=["in flight", "after the answer", "much later", "the clock was set back", "never"],
)
def test_an_event_after_the_request_counts(hinted_at: int, now: int, interval: int) -> None:
    pace = PollPace(5 * MINUTE, lambda: now)
    pace.events_since = lambda *_: 1
    job = TrackedJob(JobKey(Target("eu-west-1"), "j1"), JobState().with_job(Job("RUNNING"), AT + 100, asked_at=None))
    job.requested_at, job.hinted_at = AT, hinted_at
    assert pace.interval(job, 30 * SECOND) == interval
