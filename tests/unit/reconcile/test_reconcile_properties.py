"""Random histories: the invariants hold in each of them, and what is stated happens once the disturbances end."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.job import NOT_FOUND
from awsbatch_operator.api.timestamps import MINUTE, SECOND
from builders import CREDENTIALS, DENIED, REJECTED, THROTTLED, UNAVAILABLE, WHY
from unit.reconcile.model import Answer, Model

ERRORS = st.sampled_from([THROTTLED, UNAVAILABLE, DENIED, CREDENTIALS, REJECTED])
REASONS = st.sampled_from([WHY, "second thoughts", None])
CALM_FOR = 45 * MINUTE
"""After the disturbances: a resend may wait 15 min, a refused call or a missing job 5, a clock set back some more."""


class Disturbances(RuleBasedStateMachine):
    """The model under edits, errors, races, crashes, forged statuses and clock steps."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.poll: Answer | None = None
        self.steps_back = 0
        self.mortal = self.alone = False

    @initialize(mortal=st.booleans(), alone=st.booleans(), steps=st.integers(0, 3), reason=REASONS)
    def kind_of_history(self, mortal: bool, alone: bool, steps: int, reason: str | None) -> None:
        """Half of the jobs end only when they are terminated; in half of the histories nobody else terminates them."""
        self.mortal, self.alone = mortal, alone
        self.model.state(0, reason)
        for _ in range(steps):
            self.model.work(lost=True)

    # -- users --------------------------------------------------------------------------------------------------------

    @rule(which=st.integers(0, 1), reason=REASONS)
    def edit(self, which: int, reason: str | None) -> None:
        self.model.state(which % len(self.model.records), reason)

    @precondition(lambda self: len(self.model.records) == 1)
    @rule(reason=REASONS)
    def second_object(self, reason: str | None) -> None:
        self.model.create(reason)

    @rule(held=st.booleans())
    def terminations_are_held(self, held: bool) -> None:
        self.model.hold("the policies are not known" if held else None)

    # -- the job ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.batch.alive)
    @rule(status=st.sampled_from(["RUNNABLE", "PENDING", "RUNNING"]), children=st.integers(0, 1))
    def job_moves(self, status: str, children: int) -> None:
        self.model.batch.move(status, children)

    @precondition(lambda self: self.model.batch.alive and (self.mortal or self.model.batch.job.flagged))
    @rule(status=st.sampled_from(["SUCCEEDED", "FAILED", "FAILED"]))
    def job_ends(self, status: str) -> None:
        self.model.batch.end(status, self.model.now)

    @precondition(lambda self: not self.alone)
    @rule(cancel=st.booleans())
    def someone_else_terminates(self, cancel: bool) -> None:
        self.model.batch.interfere(cancel=cancel)

    @precondition(lambda self: not self.model.batch.alive)
    @rule()
    def batch_forgets(self) -> None:
        self.model.batch.forgotten = True

    # -- polls --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.poll is None and self.model.next_poll_at is not None)
    @rule(early=st.booleans())
    def poll_is_sent(self, early: bool) -> None:
        if not early:
            self.model.wait_for_poll()
        self.poll = self.model.batch.answer()

    @precondition(lambda self: self.poll is not None)
    @rule(error=st.none() | st.none() | ERRORS, missed=st.sampled_from([False, False, False, True]))
    def poll_is_answered(self, error: Answer | None, missed: bool) -> None:
        assert self.poll is not None
        answer, self.poll = self.poll, None
        self.model.wait(30)
        self.model.on_poll(error or (NOT_FOUND if missed else answer))

    # -- calls --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.call is not None)
    @rule(effect=st.sampled_from([True, True, False]))
    def call_is_accepted(self, effect: bool) -> None:
        self.model.wait(50)
        self.model.answer(None, effect=effect)

    @precondition(lambda self: self.model.call is not None)
    @rule(error=ERRORS, effect=st.booleans())
    def call_is_refused(self, error: CallError, effect: bool) -> None:
        self.model.wait(50)
        self.model.answer(error, effect=effect and error is UNAVAILABLE)

    @precondition(lambda self: self.model.call is not None)
    @rule()
    def call_is_not_sent(self) -> None:
        self.model.permit_expires()

    # -- the process --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.poll is None)
    @rule(steps=st.integers(1, 6), lost=st.booleans())
    def all_goes_well_for_a_while(self, steps: int, lost: bool) -> None:
        for _ in range(steps):
            self.model.work(lost=lost)

    @rule()
    def status_is_written(self) -> None:
        self.model.write()

    @rule(call_arrives=st.booleans())
    def crash(self, call_arrives: bool) -> None:
        self.poll = None
        self.model.crash(call_arrives=call_arrives)

    @rule(after=st.sampled_from([-60, -1, 0, 30]), requests=st.sampled_from([0, 1, 10**9]))
    def crash_and_forged_status(self, after: int, requests: int) -> None:
        self.model.forge(self.model.now + after * MINUTE, requests)
        self.crash(call_arrives=False)

    @rule(seconds=st.sampled_from([1, 20, 61, 130, 700, 2000]))
    def time_passes(self, seconds: int) -> None:
        self.model.wait(seconds * SECOND)

    @precondition(lambda self: self.steps_back < 3)
    @rule()
    def clock_is_set_back(self) -> None:
        self.steps_back += 1
        self.model.set_clock(-2 * MINUTE)

    @rule()
    def clock_is_set_forward(self) -> None:
        self.model.set_clock(5 * MINUTE)

    @rule()
    def reconciled_without_cause(self) -> None:
        self.model.reconcile()

    # -- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Calm: all answers are true and calls have their effect. What is stated must happen in bounded time."""
        model = self.model
        model.hold(None)
        until = model.real + CALM_FOR
        stated = any(record.termination_wanted for record in model.records)
        flagged_at = None
        while model.real < until and (model.call is not None or model.next_poll_at is not None):
            if model.batch.alive and model.batch.job.flagged:
                flagged_at = flagged_at or model.real
                if model.real - flagged_at > 20 * SECOND:
                    model.batch.end("FAILED", model.now)
            model.work()
        self._happened(stated=stated)

    def _happened(self, *, stated: bool) -> None:
        batch = self.model.batch
        assert not (stated and batch.alive), "a stated termination was lost"
        for record in self.model.records:
            status = record.status
            assert status.observed_generation == record.generation
            if batch.alive:
                assert status.job == batch.job
                assert status.phase in {"Pending", "Running"} or status.termination is not None
            elif not batch.forgotten:
                assert status.finished
            else:
                assert status.finished or status.phase == "Missing"
            terminated = status.condition("Terminated")
            sent = status.termination is not None
            if status.finished and sent and batch.job.status == "FAILED" and batch.job.flagged:
                assert terminated is not None
                assert terminated.reason == "TerminatedByRequest"

    @invariant()
    def a_poll_or_an_answer_is_to_come_until_the_end(self) -> None:
        model = self.model
        over = all(record.status.finished for record in model.records)
        assert over or model.next_poll_at is not None or model.call is not None


TestRandomHistories = Disturbances.TestCase
TestRandomHistories.settings = settings(max_examples=5 * settings().max_examples // 2, stateful_step_count=50)
