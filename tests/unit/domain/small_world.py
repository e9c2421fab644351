"""One job, one or two objects and one operator process around `decide`, on a clock that can be set.

The process keeps to what the engine does: answers are folded, every object is decided for after each of them, at most
one look and one TerminateJob are under way, statuses live in memory until they are written, a restart reads them back.
"""

from dataclasses import dataclass, field, replace

from awsbatch_operator.domain.cadence import MINUTE, SECOND
from awsbatch_operator.domain.decide import Decision, decide
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.job import Absent, Job, Millis
from awsbatch_operator.domain.observation import Observation, Request
from awsbatch_operator.domain.record import Status
from awsbatch_operator.domain.verdict import Record
from builders import CADENCE, NOW, a_job, an_object
from unit.domain.laws import decided_lawfully
from unit.domain.true_batch import TrueBatch

BIRTH = NOW - 24 * 60 * MINUTE


@dataclass
class Call:
    """A TerminateJob under way."""

    reason: str
    requested_at: Millis


@dataclass
class Accepted:
    """The latest acceptance that process or statuses know of, on both clocks, and the reason that was sent first."""

    reason: str
    at: Millis
    real_at: Millis


Answer = Job | Absent | Fault


@dataclass
class SmallWorld:
    batch: TrueBatch = field(default_factory=lambda: TrueBatch(a_job().running().job))
    records: list[Record] = field(default_factory=lambda: [an_object().created_at(BIRTH).record])
    written: list[Status] = field(default_factory=lambda: [Status()])
    known: Observation = field(default_factory=Observation)
    last_heard: str = "nothing"
    accepted: Accepted | None = None
    real_times: dict[Millis, Millis] = field(default_factory=dict)
    refused_at: Millis | None = None
    call: Call | None = None
    look_at: Millis | None = NOW
    now: Millis = NOW
    real: Millis = NOW

    # -- time ---------------------------------------------------------------------------------------------------------

    def wait(self, millis: Millis) -> None:
        self.now += millis
        self.real += millis

    def set_clock(self, by: Millis) -> None:
        self.now += by

    def wait_for_look(self) -> None:
        assert self.look_at is not None
        self.wait(max(self.look_at - self.now, 0))

    # -- what people do -----------------------------------------------------------------------------------------------

    def state(self, index: int, reason: str | None) -> None:
        record = self.records[index]
        if record.spec.terminate == reason:
            return
        spec = replace(record.spec, terminate=reason)
        self.records[index] = replace(record, spec=spec, generation=record.generation + 1, changed_at=self.now)
        self.decide()

    def create(self, reason: str | None) -> None:
        created = an_object().created_at(BIRTH).terminating(reason).generation(1, self.now)
        self.records.append(created.record)
        self.written.append(Status())
        self.decide()

    # -- what AWS answers ---------------------------------------------------------------------------------------------

    def learn(self, look: Answer) -> None:
        before = self.known
        if isinstance(look, Job):
            self.known = self.known.saw(look, self.now)
            self.last_heard = "finished" if look.finished else "alive"
        elif isinstance(look, Absent):
            self.known = self.known.missed(self.now)
            if self.last_heard != "finished":
                self.last_heard = "absent"
        else:
            self.known = self.known.failed(look, self.now)
        statuses = [record.status for record in self.records]
        answered = all(record.status.observed_generation == record.generation for record in self.records)
        self.decide()
        assert self.look_at is None or self.look_at > self.now, "a hot loop of looks"
        if look == before.job and answered and self._nothing_else_moved(before):
            assert [record.status for record in self.records] == statuses, "a look that found nothing new"

    def _nothing_else_moved(self, before: Observation) -> bool:
        """No trouble and no absence ended, nothing waited to be answered, no age passed a mark."""
        quiet = before.fault is None and before.refusal is None and not before.absences and not before.calling
        started = self.known.request.requested_at if self.known.request else self.now
        young = self.now - started < 10 * MINUTE and self.now >= (before.looked_at or 0)
        same = before == replace(self.known, seen_at=before.seen_at, looked_at=before.looked_at)
        return quiet and young and same

    def answer(self, fault: Fault | None, *, effect: bool) -> None:
        """Of the TerminateJob under way. `effect`: whether Batch acts on it, whatever it answers."""
        assert self.call is not None
        call, self.call = self.call, None
        if fault is None:
            self.batch.accept(call.reason, lost=not effect)
            first = self.accepted.reason if self.accepted else call.reason
            self.accepted = Accepted(first, self.now, self.real)
            self.real_times[self.now] = self.real
            self.known = self.known.accepted(call.reason, call.requested_at, self.now)
        else:
            if effect:
                self.batch.accept(call.reason, lost=False)
            self.known = self.known.refused(fault, self.now)
            self.refused_at = self.now
        self.decide()

    def work(self, *, lost: bool = False) -> None:
        """The next thing that happens when nothing goes wrong. Lost: but Batch does not do what it accepts."""
        if self.call is not None:
            self.wait(50)
            self.answer(None, effect=not lost)
        elif self.look_at is not None:
            self.wait_for_look()
            self.learn(self.batch.answer())
        self.write()

    # -- the process --------------------------------------------------------------------------------------------------

    def write(self) -> None:
        self.written = [record.status for record in self.records]

    def crash(self, *, call_arrives: bool) -> None:
        """What was not written is gone; a call under way may arrive all the same."""
        if self.call is not None and call_arrives:
            self.batch.accept(self.call.reason, lost=False)
        self.call, self.known, self.last_heard, self.refused_at = None, Observation(), "nothing", None
        told = [s.termination for s in self.written if s.termination and s.termination.accepted_at is not None]
        self.accepted = None
        for request in told:
            assert request.accepted_at is not None
            assert request.requested_at is not None
            if self.accepted is None or request.accepted_at > self.accepted.at:
                real_at = self.real_times[request.accepted_at]
                self.accepted = Accepted(request.reason, request.accepted_at, real_at)
            self.known = self.known.recalled(
                Request(request.reason, request.requested_at, request.accepted_at, request.requests)
            )
        self.records = [
            replace(record, status=status, changed_at=self.now)
            for record, status in zip(self.records, self.written, strict=True)
        ]
        self.decide()

    def decide(self) -> None:
        looks = []
        for index, record in enumerate(self.records):
            decision = decide(record, self.known, self.now, CADENCE)
            decided_lawfully(record, self.known, decision, self.now)
            again = decide(replace(record, status=decision.status), self.known, self.now, CADENCE)
            assert again == decision, "the same knowledge, another decision"
            self._told_the_truth(decision.status)
            self.records[index] = replace(record, status=decision.status)
            if decision.terminate is not None:
                self._called_lawfully(record, decision.terminate)
                self.known = self.known.called()
                self.call = Call(decision.terminate, self.now)
            looks.append(decision)
        self.look_at = _soonest(looks)

    def _called_lawfully(self, record: Record, reason: str) -> None:
        assert self.last_heard == "alive", f"a call for a job last heard of as {self.last_heard}"
        assert self.call is None, "two calls at once"
        assert self.known.job is not None
        assert not self.known.job.flagged, "a call for a job that is being ended"
        if self.refused_at is not None and record.changed_at <= self.refused_at <= self.now:
            assert self.now - self.refused_at >= SECOND, "a call in a hot loop"
        sent = record.status.termination
        assert record.asked or (sent is not None and sent.accepted_at is not None), "a call that nobody states"
        if self.accepted is None:
            assert reason == record.spec.terminate
            return
        assert reason == self.accepted.reason, "the first words that were accepted stay"
        elapsed = max(self.now - self.accepted.at, self.real - self.accepted.real_at)
        assert elapsed >= MINUTE, "a second call within a minute of an accepted one"

    def _told_the_truth(self, status: Status) -> None:
        if status.finished:
            assert status.job == self.batch.job
            assert not self.batch.alive
        fate = status.condition("Terminated")
        if fate is not None and fate.reason == "TerminatedByRequest":
            assert self.batch.job.status == "FAILED"
            assert self.batch.received, "said to be ended by a request that Batch never got"
        if fate is not None and fate.reason == "AlreadyFinished":
            assert not self.batch.alive


def _soonest(decisions: list[Decision]) -> Millis | None:
    return min((decision.look_at for decision in decisions if decision.look_at is not None), default=None)
