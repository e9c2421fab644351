"""What an object may know of its job, by its scope and by what polls have shown."""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awsbatch_operator.api.batchjob import AdmittedBy, Phase, Status
from awsbatch_operator.api.job import Job, Target
from awsbatch_operator.api.timestamps import MINUTE, SECOND, Millis
from awsbatch_operator.controller.cache import Cache, TrackedJob, TrackedObject
from awsbatch_operator.controller.hidden_view import HiddenView
from awsbatch_operator.controller.job_visibility import JobVisibility, VisibleState
from awsbatch_operator.policy.authorizer import MAX_TAG_AGE, Allow, NeedsDescribe, job_not_allowed
from awsbatch_operator.policy.resolution import Deny, Mode, Scope, admitted_by
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import UNRESTRICTED, Visible
from builders import NOW, REGION, TERMINATE, THROTTLED, a_job, absent, seen
from unit.controller.objects import an_object, bind
from unit.policy.policies import MINE, QUEUE, a_scope, unrestricted

TAGGED = a_scope(jobs={"tags": {"team": "a"}})
QUEUED = a_scope()
SHOWN = Status(phase=Phase.RUNNING, job=a_job().running().job)
SECRET = "the reason of another namespace"
ACCOUNT, OTHER_ACCOUNT = "111122223333", "444455556666"
DENIED = job_not_allowed("team-a")


def arn(account: str) -> str:
    return f"arn:aws:batch:{REGION}:{account}:job/j"


def of_ours(**more: Any) -> Job:
    return a_job().running().job.replace(queue=QUEUE, **more)


def of_others() -> Job:
    return of_ours().replace(queue=QUEUE.replace("team-a", "team-b"))


@dataclass
class World:
    mode: Mode = Mode.REQUIRED
    jitter: Callable[[float, float], float] = lambda _low, high: high
    accounts: dict[Target, str] = field(default_factory=dict)
    cache: Cache = field(default_factory=Cache)

    @property
    def visibility(self) -> JobVisibility:
        return JobVisibility(self.cache.jobs, self.accounts.get, self.mode, self.jitter)

    def an_object(self, scope: Scope, job_id: str = "j", status: Status | None = None) -> TrackedObject:
        tracked = an_object(self.cache, job_id, status=status)
        bind(self.cache, tracked, scope)
        return tracked

    def job(self, tracked: TrackedObject) -> TrackedJob:
        job = self.cache.job_of(tracked)
        assert job is not None
        return job

    def shows(self, tracked: TrackedObject, now: Millis = NOW) -> VisibleState:
        return self.visibility.visible_state(tracked, self.job(tracked), now)

    def polled(self, tracked: TrackedObject, job: Job | None, now: Millis = NOW) -> None:
        """A poll that shows the job with our tags, or lacks it; hidden views included."""
        known = self.job(tracked)
        known.state = known.state.with_not_found(now) if job is None else known.state.with_job(job, now)
        known.tags, known.requested_at = MINE, now
        self.visibility.record_hidden_poll(tracked, known, None, now)


def described(job: TrackedJob, shown: Job, tags: Mapping[str, str] | None = MINE, at: Millis = NOW) -> None:
    job.state, job.tags, job.requested_at = JobState().with_job(shown, at), tags, at


@pytest.mark.parametrize("mode", Mode)
def test_an_admitted_job_is_shown_and_may_be_terminated(mode: Mode) -> None:
    world = World(mode)
    tracked = world.an_object(TAGGED)
    described(world.job(tracked), of_ours())
    state = world.shows(tracked)
    assert state == VisibleState(Visible(admitted_by(TAGGED, "j")), world.job(tracked).state, state.authorization)
    assert isinstance(state.authorization, Allow)
    assert state.authorization.valid_until == NOW + MAX_TAG_AGE
    assert world.shows(tracked, NOW + MAX_TAG_AGE + 1).authorization == NeedsDescribe(("j",))


def test_an_unrestricted_object_sees_everything_even_before_the_first_poll() -> None:
    world = World(Mode.OPTIONAL)
    tracked = world.an_object(unrestricted())
    state = world.shows(tracked)
    assert (state.access, state.job) == (UNRESTRICTED, JobState())
    assert isinstance(state.authorization, Allow)


def test_an_object_without_a_scope_has_no_job() -> None:
    world = World()
    tracked = world.an_object(QUEUED)
    job, tracked.scope = world.job(tracked), DENIED
    with pytest.raises(TypeError, match="without a scope"):
        world.visibility.visible_state(tracked, job, NOW)


def test_a_job_that_may_only_be_observed_says_so_beforehand() -> None:
    world = World()
    tracked = world.an_object(a_scope(allow=["Observe"]))
    described(world.job(tracked), of_ours())
    state = world.shows(tracked)
    assert isinstance(state.access, Visible)
    assert state.access.terminate_denied is not None
    assert state.access.terminate_denied.reason == "TerminationNotAllowed"
    assert state.authorization == state.access.terminate_denied


def test_optional_policies_deny_a_job_that_is_not_admitted() -> None:
    world = World(Mode.OPTIONAL)
    tracked = world.an_object(QUEUED)
    described(world.job(tracked), of_others())
    state = world.shows(tracked)
    assert (state.access, state.hidden, state.authorization) == (DENIED, False, None)


def test_required_policies_hide_a_job_that_is_not_admitted() -> None:
    world = World()
    foreign, missing = world.an_object(QUEUED, "foreign"), world.an_object(QUEUED, "missing")
    for at in (NOW, NOW + MINUTE):
        world.polled(foreign, of_others(), at)
        world.polled(missing, None, at)
        states = [world.shows(tracked, at) for tracked in (foreign, missing)]
        assert states[0] == states[1]
        assert states[0].access == Visible(missing_as=DENIED)
    assert world.shows(foreign).job == absent(NOW, NOW + MINUTE)


def test_a_job_that_was_shown_and_is_not_admitted_any_more_is_denied_at_once() -> None:
    world = World()
    tracked = world.an_object(QUEUED, status=SHOWN)
    described(world.job(tracked), of_others())
    assert world.shows(tracked).access == DENIED


# -- before a poll confirms the job -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Mode)
def test_details_that_equal_rules_admitted_stay_until_the_next_poll(mode: Mode) -> None:
    world = World(mode)
    tracked = world.an_object(TAGGED, status=SHOWN.replace(access=admitted_by(TAGGED, "j")))
    state = world.shows(tracked)
    assert (state.access, state.withhold, state.authorization) == (Visible(admitted_by(TAGGED, "j")), False, None)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("access", [None, AdmittedBy("team-a", "0123456789abcdef"), admitted_by(TAGGED, "another")])
def test_details_that_no_rules_in_force_admitted_are_withheld(mode: Mode, access: AdmittedBy | None) -> None:
    world = World(mode)
    state = world.shows(world.an_object(TAGGED, status=SHOWN.replace(access=access)))
    assert (state.withhold, state.hidden) == (True, mode is Mode.REQUIRED)
    assert state.job.job is None


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("parent", ["unknown", "described", "throttled"])
def test_a_child_waits_for_its_parent_and_reveals_nothing_meanwhile(mode: Mode, parent: str) -> None:
    world = World(mode)
    tracked = world.an_object(TAGGED, "array:3")
    job = world.job(tracked)
    described(job, of_ours())
    job.state = job.state.accepted(TERMINATE, SECRET, NOW, NOW)
    assert job.parent is not None
    if parent == "described":
        described(world.cache.jobs[job.parent], of_ours())
    elif parent == "throttled":
        world.cache.jobs[job.parent].state = JobState().with_error(THROTTLED, NOW)
    state = world.shows(tracked)
    if parent == "described":
        assert isinstance(state.authorization, Allow)
        assert state.job.request is not None
        return
    assert (state.job.job, state.job.request) == (None, None)
    if mode is Mode.OPTIONAL:
        assert state.authorization == NeedsDescribe(("array",))
        assert state.job.last_error == (THROTTLED if parent == "throttled" else None)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("status", [Status(), SHOWN], ids=["new", "shown before"])
@pytest.mark.parametrize("state", [JobState(), seen(a_job().running()), absent(NOW)], ids=["unknown", "alive", "gone"])
def test_a_request_of_another_object_is_invisible_where_the_job_is(mode: Mode, status: Status, state: JobState) -> None:
    world = World(mode)
    for scope in (QUEUED, TAGGED):
        tracked = world.an_object(scope, "j" if scope is QUEUED else "array:3", status)
        world.job(tracked).state = state.accepted(TERMINATE, SECRET, NOW, NOW)
        assert SECRET not in repr(world.shows(tracked))


# -- the hidden view --------------------------------------------------------------------------------------------------


def test_the_hidden_view_ends_with_a_poll_that_shows_an_admitted_job() -> None:
    world = World()
    tracked = world.an_object(QUEUED)
    world.polled(tracked, of_others())
    assert tracked.hidden is not None
    world.polled(tracked, of_ours())
    assert tracked.hidden is None


def test_the_hidden_view_ends_with_the_job_that_the_object_stands_for() -> None:
    world = World()
    tracked = world.an_object(QUEUED)
    world.polled(tracked, of_others())
    bind(world.cache, tracked, replace(QUEUED, target=Target("us-east-1")))
    assert tracked.hidden is None


@pytest.mark.parametrize("mode", Mode)
def test_no_object_that_cannot_be_hidden_has_a_hidden_view(mode: Mode) -> None:
    world = World(mode)
    scope = QUEUED if mode is Mode.OPTIONAL else unrestricted()
    tracked = world.an_object(scope)
    world.polled(tracked, of_others())
    assert tracked.hidden is None


def test_a_failed_poll_of_a_hidden_job_shows_as_that_of_any_job() -> None:
    world = World()
    tracked = world.an_object(QUEUED)
    world.visibility.record_hidden_poll(tracked, world.job(tracked), THROTTLED, NOW)
    assert world.shows(tracked).job == JobState().with_error(THROTTLED, NOW)


def test_the_jitter_of_a_hidden_poll_is_drawn_once() -> None:
    draws = iter([1.0, 1.1])
    world = World(jitter=lambda _low, _high: next(draws))
    tracked = world.an_object(QUEUED)
    due = NOW + MINUTE
    schedule = world.visibility.schedule_hidden_poll
    assert [schedule(tracked, due, NOW + late * SECOND) for late in (0, 20, 50)] == [due] * 3
    assert schedule(tracked, due + MINUTE, due) == due + 66 * SECOND


EVENTS = st.lists(st.tuples(st.integers(1, 90), st.booleans()), max_size=30)


@given(others=EVENTS)
def test_polls_for_other_objects_never_change_what_a_hidden_object_knows(others: list[tuple[int, bool]]) -> None:
    """One job is polled for others too, at any times and with any outcome; its twin is missing, and polled alone."""
    pauses = itertools.accumulate(pause * SECOND for pause, _ in others)
    noise = [(NOW + at, THROTTLED if failed else None) for at, (_, failed) in zip(pauses, others, strict=True)]
    histories = [_history(of_others(), noise), _history(None, [])]
    assert histories[0] == histories[1]


def _history(shown: Job | None, noise: Sequence[tuple[Millis, object]]) -> list[tuple[Millis, VisibleState]]:
    world = World()
    tracked = world.an_object(QUEUED)
    due, history = NOW, list[tuple[Millis, VisibleState]]()
    while due < NOW + 10 * MINUTE:
        for at, error in noise:
            if (history[-1][0] if history else 0) < at < due:
                world.visibility.record_hidden_poll(tracked, world.job(tracked), error, at)  # type: ignore[arg-type]
                described(world.job(tracked), of_others(), at=at)
                # Decided again because of the other's poll, with the same result.
                wanted = tracked.hidden.next_poll_at if tracked.hidden else due
                assert world.visibility.schedule_hidden_poll(tracked, wanted, at) == due
        world.polled(tracked, shown, due)
        history.append((due, world.shows(tracked, due)))
        due = world.visibility.schedule_hidden_poll(tracked, due + MINUTE, due)
    return history


# -- accounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("observed", [ACCOUNT, OTHER_ACCOUNT])
def test_an_observed_job_of_another_account_is_left_alone(observed: str) -> None:
    world = World()
    tracked = world.an_object(QUEUED, status=SHOWN.replace(account_id=ACCOUNT, access=admitted_by(QUEUED, "j")))
    described(world.job(tracked), of_ours(arn=arn(observed)))
    state = world.shows(tracked)
    if observed == ACCOUNT:
        assert isinstance(state.authorization, Allow)
        return
    assert isinstance(state.access, Deny)
    assert (state.access.reason, state.access.hidden, state.authorization) == ("AccountChanged", False, None)


def test_under_another_policy_the_details_of_another_account_are_hidden() -> None:
    world = World(accounts={QUEUED.target: OTHER_ACCOUNT})
    tracked = world.an_object(QUEUED, status=SHOWN.replace(account_id=ACCOUNT, access=AdmittedBy("b", "0")))
    state = world.shows(tracked)
    assert isinstance(state.access, Deny)
    assert (state.access.reason, state.access.hidden) == ("AccountChanged", True)


def test_an_account_that_somebody_wrote_into_a_status_does_not_reveal_a_job() -> None:
    world = World()
    status = Status(account_id=OTHER_ACCOUNT)
    foreign, missing = world.an_object(QUEUED, "a", status), world.an_object(QUEUED, "b", status)
    described(world.job(foreign), of_others().replace(arn=arn(ACCOUNT)))
    assert world.shows(foreign) == world.shows(missing)


# -- queries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("shown", [of_ours(), of_others(), None], ids=["admitted", "foreign", "missing"])
@pytest.mark.parametrize("status", [Status(), SHOWN], ids=["new", "shown before"])
def test_a_query_changes_nothing(mode: Mode, shown: Job | None, status: Status) -> None:
    world = World(mode)
    tracked = world.an_object(QUEUED, status=status)
    job = world.job(tracked)
    if shown is not None:
        described(job, shown)
    tracked.hidden = HiddenView(absent(NOW), NOW, NOW)
    before = [copy.copy(one) for one in (tracked, job)]
    first = world.shows(tracked)
    assert world.shows(tracked) == first
    for one, was in zip((tracked, job), before, strict=True):
        assert all(getattr(one, name) == getattr(was, name) for name in was.__slots__)
