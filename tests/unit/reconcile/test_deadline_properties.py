"""Over any history no call comes before a limit, and one comes soon after it once calls succeed again."""

from dataclasses import dataclass, field, replace

from hypothesis import event, given
from hypothesis import strategies as st

from awsbatch_operator.api.batchjob import Deadline, Limit
from awsbatch_operator.api.job import Job
from awsbatch_operator.api.timestamps import HOUR, MINUTE, SECOND, Millis
from awsbatch_operator.reconcile.deadline import NOTICE
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Record
from awsbatch_operator.reconcile.reconcile import reconcile
from builders import INTERVALS, LIMIT, NOW, THROTTLED, a_job, an_object

_LATEST = NOTICE + 5 * SECOND
"""From the time that status.deadline could show at the latest to the call, when every answer comes at once."""


@dataclass
class History:
    """One job, one object and a process. `real` is AWS's time; `skew` what the process's clock adds to it."""

    deadline: Deadline
    real: Millis = NOW
    skew: Millis = 0
    started_at: Millis | None = None
    job: Job = field(default_factory=lambda: a_job().in_status("RUNNABLE").job.replace(created_at=NOW))
    record: Record = field(default_factory=lambda: an_object().record)
    known: JobState = field(default_factory=JobState)
    stated_at: Millis = NOW
    calls: int = 0
    due: Millis | None = None
    """When the next poll is due, by the process's clock."""

    def __post_init__(self) -> None:
        self.record = self.record.replace(spec=replace(self.record.spec, deadline=self.deadline))
        self.reconcile()

    @property
    def now(self) -> Millis:
        return self.real + self.skew

    def limit(self) -> tuple[Millis, Limit] | None:
        """The first limit, as it really is."""
        found = []
        if self.deadline.running is not None and self.started_at is not None:
            found.append((self.started_at + self.deadline.running, Limit.RUNNING))
        if self.deadline.waiting is not None and self.started_at is None:
            found.append((NOW + self.deadline.waiting, Limit.WAITING))
        return min(found, default=None)

    def reconcile(self) -> None:
        result = reconcile(self.record, self.known, self.now, INTERVALS)
        self.record = self.record.replace(status=result.status, wanted=result.wanted)
        times = [at for at in (result.next_poll_at, result.requeue_at) if at is not None]
        self.due = min(times, default=None)
        if result.terminate is not None:
            self.call()

    def call(self) -> None:
        first = self.limit()
        assert first is not None, "no limit applies"
        assert self.real >= first[0], f"{first[0] - self.real} ms before the limit"
        assert self.known.asked_at is not None
        assert self.known.asked_at >= first[0], "the answer was asked before the limit"
        overdue = self.stated_at >= first[0]
        if overdue:
            assert self.real >= self.stated_at + NOTICE - SECOND, "without notice"
        self.calls += 1
        self.known = self.known.replace(call_in_flight=True)

    def poll(self, latency: Millis = 0, *, lost: bool = False) -> None:
        asked, shown = self.real, self.job
        self.real += latency
        if lost:
            self.known = self.known.with_error(THROTTLED, self.now)
        else:
            # Date has whole seconds; the time that the call took counts from its end.
            date = self.real // SECOND * SECOND - latency
            assert date <= asked
            start = self.started_at
            self.known = self.known.with_job(shown, self.now, asked_at=date, first_started_at=start)
        self.reconcile()

    def wait(self, millis: Millis) -> None:
        """Time passes; the process polls whenever it is due."""
        end = self.real + millis
        while (due := self._next_due()) is not None and due < end:
            self.real = max(due, self.real)
            before = self.due
            self.reconcile()
            if not self.calls and self.due is not None and self.due <= self.now:
                self.poll(latency=20)
            elif self.due == before:
                self.real += 1
        self.real = max(self.real, end)

    def _next_due(self) -> Millis | None:
        return None if self.calls or self.due is None else max(self.due - self.skew, self.real)

    def start(self) -> None:
        if self.started_at is None:
            self.started_at = self.real
        self.job = self.job.replace(status="RUNNING", started_at=self.real, attempts=self.job.attempts or 0)

    def retry(self) -> None:
        if self.started_at is not None:
            self.job = self.job.replace(status="RUNNABLE", started_at=None, attempts=(self.job.attempts or 0) + 1)

    def jump(self, by: Millis) -> None:
        self.skew += by

    def restart(self) -> None:
        self.known = JobState()
        self.reconcile()

    def edit(self, deadline: Deadline) -> None:
        if deadline != self.deadline:
            self.deadline, self.stated_at = deadline, self.real
            status = self.record.status.replace(deadline=None)
            spec = replace(self.record.spec, deadline=deadline)
            generation = self.record.generation + 1
            after = self.known.asked_at or 0
            self.record = self.record.replace(spec=spec, status=status, generation=generation, deadline_after=after)
            self.reconcile()


_LIMIT_TIMES = st.none() | st.sampled_from([MINUTE, 90 * SECOND, 10 * MINUTE, HOUR])
_DEADLINES = st.builds(Deadline, st.just(LIMIT), _LIMIT_TIMES, _LIMIT_TIMES).filter(
    lambda one: one.running is not None or one.waiting is not None
)
_STEPS = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 20 * MINUTE)),
    st.tuples(st.just("jump"), st.integers(-2 * HOUR, 2 * HOUR)),
    st.tuples(st.sampled_from(["start", "retry", "restart", "lost", "slow"]), st.none()),
    st.tuples(st.just("edit"), _DEADLINES),
)


def _apply(history: History, step: str, value: object) -> None:
    match step, value:
        case ("lost", _):
            history.poll(lost=True)
        case ("slow", _):
            history.poll(latency=20 * SECOND)
        case (_, None):
            getattr(history, step)()
        case _:
            getattr(history, step)(value)


@given(_DEADLINES, st.lists(_STEPS, max_size=12))
def test_no_call_comes_before_a_limit_and_one_comes_after_it(
    deadline: Deadline, steps: list[tuple[str, object]]
) -> None:
    history = History(deadline)
    for step, value in steps:
        if history.calls:
            break
        _apply(history, step, value)
    event(f"calls before the end: {history.calls}")
    if history.calls:
        return
    history.poll()
    first = history.limit()
    if first is None or history.calls:
        return
    history.wait(max(first[0] - history.real, 0) + _LATEST + 2 * SECOND)
    assert history.calls, "a limit was past, and no call came"
