"""Whatever happens in whatever order, the laws hold; and when the storm is over, what was stated comes true."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from awsbatch_operator.domain.cadence import MINUTE, SECOND
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.job import ABSENT
from builders import CREDENTIALS, DENIED, REJECTED, THROTTLED, UNAVAILABLE, WHY
from unit.domain.small_world import Answer, SmallWorld

FAULTS = st.sampled_from([THROTTLED, UNAVAILABLE, DENIED, CREDENTIALS, REJECTED])
REASONS = st.sampled_from([WHY, "second thoughts", None])
CALM_FOR = 45 * MINUTE
"""After the storm: a resend may wait 15 min, a refused call or a missing job 5, a clock that was set back some more."""


class Storm(RuleBasedStateMachine):
    """A small world in a storm of edits, faults, races, crashes and clock steps."""

    def __init__(self) -> None:
        super().__init__()
        self.world = SmallWorld()
        self.look: Answer | None = None
        self.steps_back = 0
        self.mortal = self.alone = False

    @initialize(mortal=st.booleans(), alone=st.booleans(), steps=st.integers(0, 3), reason=REASONS)
    def kind_of_storm(self, mortal: bool, alone: bool, steps: int, reason: str | None) -> None:
        """Half of the jobs end only when they are told to, half of the storms know nobody else who tells them."""
        self.mortal, self.alone = mortal, alone
        self.world.state(0, reason)
        for _ in range(steps):
            self.world.work(lost=True)

    # -- people -------------------------------------------------------------------------------------------------------

    @rule(which=st.integers(0, 1), reason=REASONS)
    def edit(self, which: int, reason: str | None) -> None:
        self.world.state(which % len(self.world.records), reason)

    @precondition(lambda self: len(self.world.records) == 1)
    @rule(reason=REASONS)
    def second_object(self, reason: str | None) -> None:
        self.world.create(reason)

    # -- the job ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.batch.alive)
    @rule(status=st.sampled_from(["RUNNABLE", "PENDING", "RUNNING"]), children=st.integers(0, 1))
    def job_moves(self, status: str, children: int) -> None:
        self.world.batch.move(status, children)

    @precondition(lambda self: self.world.batch.alive and (self.mortal or self.world.batch.job.flagged))
    @rule(status=st.sampled_from(["SUCCEEDED", "FAILED", "FAILED"]))
    def job_ends(self, status: str) -> None:
        self.world.batch.end(status, self.world.now)

    @precondition(lambda self: not self.alone)
    @rule(cancel=st.booleans())
    def someone_else_terminates(self, cancel: bool) -> None:
        self.world.batch.interfere(cancel=cancel)

    @precondition(lambda self: not self.world.batch.alive)
    @rule()
    def batch_forgets(self) -> None:
        self.world.batch.forgotten = True

    # -- looks --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.look is None and self.world.look_at is not None)
    @rule(early=st.booleans())
    def look_sets_out(self, early: bool) -> None:
        if not early:
            self.world.wait_for_look()
        self.look = self.world.batch.answer()

    @precondition(lambda self: self.look is not None)
    @rule(fault=st.none() | st.none() | FAULTS, missed=st.sampled_from([False, False, False, True]))
    def look_arrives(self, fault: Answer | None, missed: bool) -> None:
        assert self.look is not None
        answer, self.look = self.look, None
        self.world.wait(30)
        self.world.learn(fault or (ABSENT if missed else answer))

    # -- calls --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.call is not None)
    @rule(effect=st.sampled_from([True, True, False]))
    def call_is_accepted(self, effect: bool) -> None:
        self.world.wait(50)
        self.world.answer(None, effect=effect)

    @precondition(lambda self: self.world.call is not None)
    @rule(fault=FAULTS, effect=st.booleans())
    def call_is_refused(self, fault: Fault, effect: bool) -> None:
        self.world.wait(50)
        self.world.answer(fault, effect=effect and fault is UNAVAILABLE)

    # -- the process --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.look is None)
    @rule(steps=st.integers(1, 6), lost=st.booleans())
    def all_goes_well_for_a_while(self, steps: int, lost: bool) -> None:
        for _ in range(steps):
            self.world.work(lost=lost)

    @rule()
    def status_is_written(self) -> None:
        self.world.write()

    @rule(call_arrives=st.booleans())
    def crash(self, call_arrives: bool) -> None:
        self.look = None
        self.world.crash(call_arrives=call_arrives)

    @rule(seconds=st.sampled_from([1, 20, 61, 130, 700, 2000]))
    def time_passes(self, seconds: int) -> None:
        self.world.wait(seconds * SECOND)

    @precondition(lambda self: self.steps_back < 3)
    @rule()
    def clock_is_set_back(self) -> None:
        self.steps_back += 1
        self.world.set_clock(-2 * MINUTE)

    @rule()
    def clock_is_set_forward(self) -> None:
        self.world.set_clock(5 * MINUTE)

    @rule()
    def woken_for_nothing(self) -> None:
        self.world.decide()

    # -- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Calm: all answers are true and calls are heard. What was stated must come true in bounded time."""
        world = self.world
        until = world.real + CALM_FOR
        stated = any(record.asked for record in world.records)
        flagged_at = None
        while world.real < until and (world.call is not None or world.look_at is not None):
            if world.batch.alive and world.batch.job.flagged:
                flagged_at = flagged_at or world.real
                if world.real - flagged_at > 20 * SECOND:
                    world.batch.end("FAILED", world.now)
            world.work()
        self._came_true(stated=stated)

    def _came_true(self, *, stated: bool) -> None:
        batch = self.world.batch
        assert not (stated and batch.alive), "a stated termination was lost"
        for record in self.world.records:
            status = record.status
            assert status.observed_generation == record.generation
            if batch.alive:
                assert status.job == batch.job
                assert status.phase in {"Pending", "Running"}
            elif not batch.forgotten:
                assert status.finished
            else:
                assert status.finished or status.phase == "Missing"
            fate = status.condition("Terminated")
            sent = status.termination is not None
            if status.finished and sent and batch.job.status == "FAILED" and batch.job.flagged:
                assert fate is not None
                assert fate.reason == "TerminatedByRequest"

    @invariant()
    def a_look_or_an_answer_is_on_its_way_until_the_end(self) -> None:
        world = self.world
        over = all(record.status.finished for record in world.records)
        assert over or world.look_at is not None or world.call is not None


TestAnyStorm = Storm.TestCase
TestAnyStorm.settings = settings(max_examples=400, stateful_step_count=50, deadline=None, derandomize=True)
