"""A model of one job, one or two objects and one operator process around `reconcile`, on a clock that can be set.

The process does what the controller does: it folds answers, reconciles every object after each of them, has at most one
poll and one TerminateJob in flight, and keeps statuses in memory until they are written. A restart reads them back.
"""

from dataclasses import dataclass, field, replace

from awsbatch_operator.api.batchjob import Status, Termination
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.job import Job, NotFound
from awsbatch_operator.api.timestamps import MINUTE, SECOND, Millis
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Record
from awsbatch_operator.reconcile.reconcile import ReconcileResult, reconcile
from builders import INTERVALS, NOW, TERMINATE, a_job, an_object
from unit.reconcile.invariants import result_is_valid
from unit.reconcile.true_batch import TrueBatch

BIRTH = NOW - 24 * 60 * MINUTE
FORGED = "forged words"


@dataclass
class Call:
    """A TerminateJob in flight."""

    reason: str
    requested_at: Millis


@dataclass
class Moment:
    """A time by the process's clock and the true time."""

    at: Millis
    real_at: Millis


Answer = Job | NotFound | CallError


@dataclass
class Model:
    batch: TrueBatch = field(default_factory=lambda: TrueBatch(a_job().running().job))
    records: list[Record] = field(default_factory=lambda: [an_object().created_at(BIRTH).record])
    written: list[Status] = field(default_factory=lambda: [Status()])
    known: JobState = field(default_factory=JobState)
    last_described: str = "nothing"
    accepted: Moment | None = None
    started: Moment = field(default_factory=lambda: Moment(NOW, NOW))
    real_times: dict[Millis, Millis] = field(default_factory=dict)
    refused_at: Millis | None = None
    call: Call | None = None
    next_poll_at: Millis | None = NOW
    now: Millis = NOW
    real: Millis = NOW
    forged: bool = False
    checked: bool = True
    """Whether each result is checked; a walk that only collects statuses takes half of the time without."""

    # -- time ---------------------------------------------------------------------------------------------------------

    def wait(self, millis: Millis) -> None:
        self.now += millis
        self.real += millis

    def set_clock(self, by: Millis) -> None:
        self.now += by

    def wait_for_poll(self) -> None:
        assert self.next_poll_at is not None
        self.wait(max(self.next_poll_at - self.now, 0))

    # -- users --------------------------------------------------------------------------------------------------------

    def state(self, index: int, reason: str | None) -> None:
        record = self.records[index]
        if record.spec.terminate == reason:
            return
        spec = replace(record.spec, terminate=reason)
        withdrawn_at = self.now if reason is None else record.withdrawn_at
        self.records[index] = record.replace(
            spec=spec, generation=record.generation + 1, changed_at=self.now, withdrawn_at=withdrawn_at
        )
        self.reconcile()

    def create(self, reason: str | None) -> None:
        created = an_object().created_at(BIRTH).terminating(reason).generation(1, self.now).known_since(self.now)
        self.records.append(created.record)
        self.written.append(Status())
        self.reconcile()

    def hold(self, cause: str | None) -> None:
        self.records = [record.replace(held=cause) for record in self.records]
        self.reconcile()

    # -- answers of AWS -----------------------------------------------------------------------------------------------

    def on_poll(self, answer: Answer) -> None:
        before = self.known
        if isinstance(answer, Job):
            self.known = self.known.with_job(answer, self.now)
            self.last_described = "finished" if answer.finished else "alive"
        elif isinstance(answer, NotFound):
            self.known = self.known.with_not_found(self.now)
            if self.last_described != "finished":
                self.last_described = "missing"
        else:
            self.known = self.known.with_error(answer, self.now)
        statuses = [record.status for record in self.records]
        answered = all(record.status.observed_generation == record.generation for record in self.records)
        self.reconcile()
        assert self.next_poll_at is None or self.next_poll_at > self.now, "polls without a pause"
        if answer == before.job and answered and self._nothing_else_changed(before):
            assert [record.status for record in self.records] == statuses, "a poll that found nothing new"

    def _nothing_else_changed(self, before: JobState) -> bool:
        """No error and no absence ended, no answer was awaited, no age passed a limit."""
        quiet = not (before.last_error or before.terminate_error or before.misses or before.call_in_flight)
        starts = [
            record.status.termination.requested_at or self.now
            for record in self.records
            if record.status.termination is not None
        ]
        young = self.now - min(starts, default=self.now) < 10 * MINUTE and self.now >= (before.polled_at or 0)
        same = before == self.known.replace(observed_at=before.observed_at, polled_at=before.polled_at)
        return quiet and young and same

    def answer(self, error: CallError | None, *, effect: bool) -> None:
        """Answer the TerminateJob in flight. `effect`: whether Batch acts on it, whatever it answers."""
        assert self.call is not None
        call, self.call = self.call, None
        if error is None:
            self.batch.accept(call.reason, lost=not effect)
            self.accepted = Moment(self.now, self.real)
            self.real_times[self.now] = self.real
            self.known = self.known.accepted(TERMINATE, call.reason, call.requested_at, self.now)
        else:
            if effect:
                self.batch.accept(call.reason, lost=False)
            self.known = self.known.terminate_refused(error, self.now)
            self.refused_at = self.now
        self.reconcile()

    def permit_expires(self) -> None:
        """The TerminateJob in flight is not sent."""
        self.call = None
        self.known = self.known.permit_expired()
        self.reconcile()

    def work(self, *, lost: bool = False) -> None:
        """The next thing that happens when nothing goes wrong. Lost: but Batch does not do what it accepts."""
        if self.call is not None:
            self.wait(50)
            self.answer(None, effect=not lost)
        elif self.next_poll_at is not None:
            self.wait_for_poll()
            self.on_poll(self.batch.answer())
        self.write()

    # -- the process --------------------------------------------------------------------------------------------------

    def write(self) -> None:
        self.written = [record.status for record in self.records]

    def forge(self, at: Millis, requests: int) -> None:
        """Somebody writes a request into the first object's status, which the next process reads."""
        self.forged = True
        self.written[0] = self.written[0].replace(termination=Termination(FORGED, at, at, requests=requests))

    def crash(self, *, call_arrives: bool) -> None:
        """What was not written is lost; a call in flight may arrive all the same."""
        if self.call is not None and call_arrives:
            self.batch.accept(self.call.reason, lost=False)
        self.call, self.known, self.last_described, self.refused_at = None, JobState(), "nothing", None
        self.accepted, self.started = None, Moment(self.now, self.real)
        self.records = [
            record.replace(status=status, changed_at=self.now, known_since=self.now, withdrawn_at=None, held=None)
            for record, status in zip(self.records, self.written, strict=True)
        ]
        self.reconcile()

    def reconcile(self) -> None:
        results = []
        for index, record in enumerate(self.records):
            result = reconcile(record, self.known, self.now, INTERVALS)
            if self.checked:
                self._check(record, result)
            self.records[index] = record.replace(status=result.status)
            if result.terminate is not None:
                self._call_is_valid(record, result.terminate.reason)
                self.known = self.known.in_flight()
                self.call = Call(result.terminate.reason, self.now)
            results.append(result)
        self.next_poll_at = _soonest(results)

    def _check(self, record: Record, result: ReconcileResult) -> None:
        result_is_valid(record, self.known, result, self.now)
        again = reconcile(record.replace(status=result.status), self.known, self.now, INTERVALS)
        assert again == result, "the same input, another result"
        self._status_is_true(result.status)

    def _call_is_valid(self, record: Record, reason: str) -> None:
        assert reason == record.spec.terminate, "only what is stated now is sent"
        assert record.held is None
        assert self.last_described == "alive", f"a call for a job last described as {self.last_described}"
        assert self.call is None, "two calls at once"
        assert self.known.job is not None
        assert not self.known.job.flagged, "a call for a job that is being terminated"
        if self.refused_at is not None and record.changed_at <= self.refused_at <= self.now:
            assert self.now - self.refused_at >= SECOND, "calls without a pause"
        last = self.accepted or self._recorded(record)
        if last is not None:
            elapsed = max(self.now - last.at, self.real - last.real_at)
            assert elapsed >= MINUTE, "a second call within a minute of an accepted one"

    def _recorded(self, record: Record) -> Moment | None:
        """The acceptance that the own status records, no later than the start of this process."""
        if record.recorded is None or record.recorded.accepted_at is None:
            return None
        accepted_at = record.recorded.accepted_at
        if accepted_at >= record.known_since:
            return self.started
        return Moment(accepted_at, self.real_times.get(accepted_at, self.real))

    def _status_is_true(self, status: Status) -> None:
        if status.finished:
            assert status.job == self.batch.job
            assert not self.batch.alive
        terminated = status.condition("Terminated")
        if terminated is not None and terminated.reason == "TerminatedByRequest":
            assert self.batch.job.status == "FAILED"
            assert self.batch.received or self.forged, "terminated by a request that Batch never got"
        if terminated is not None and terminated.reason == "AlreadyFinished":
            assert not self.batch.alive


def _soonest(results: list[ReconcileResult]) -> Millis | None:
    return min((result.next_poll_at for result in results if result.next_poll_at is not None), default=None)
