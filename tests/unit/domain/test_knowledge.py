"""How answers are folded into what is known, how conditions keep their times, and which statuses are believed."""

from dataclasses import replace

import pytest

from awsbatch_operator.domain.cadence import MINUTE, SECOND, Cadence, call_backoff, look_backoff, terminating
from awsbatch_operator.domain.conditions import success
from awsbatch_operator.domain.errors import Fate
from awsbatch_operator.domain.job import Array, Job
from awsbatch_operator.domain.observation import Request
from awsbatch_operator.domain.record import Condition, Phase, Status, with_conditions
from builders import DENIED, NOW, THROTTLED, WHY, JobBuilder, a_job, absent, an_object, seen


def test_a_sight_ends_absence_and_trouble() -> None:
    known = absent(NOW - MINUTE, NOW).failed(DENIED, NOW).saw(a_job().job, NOW + 1)
    assert known == seen(a_job(), NOW + 1).failed(DENIED, NOW).saw(a_job().job, NOW + 1)
    assert (known.absences, known.absent_since, known.fault, known.faults) == (0, None, None, 0)
    assert (known.seen_at, known.looked_at) == (NOW + 1, NOW + 1)


def test_absence_counts_from_its_first_look_and_keeps_the_last_sight() -> None:
    known = absent(NOW + SECOND, NOW + MINUTE, last=seen(a_job()).failed(DENIED, NOW))
    assert (known.absences, known.absent_since, known.looked_at) == (2, NOW + SECOND, NOW + MINUTE)
    assert (known.job, known.seen_at, known.fault, known.faults) == (a_job().job, NOW, None, 0)


def test_a_failed_look_counts_and_answers_nothing() -> None:
    known = seen(a_job()).failed(THROTTLED, NOW + 1).failed(DENIED, NOW + 2)
    assert (known.fault, known.faults, known.failed_at) == (DENIED, 2, NOW + 2)
    assert (known.looked_at, known.job) == (NOW, a_job().job)


def test_an_acceptance_ends_the_call_and_its_refusals() -> None:
    known = seen(a_job()).called()
    assert known.calling
    known = known.refused(THROTTLED, NOW + 1).called().refused(DENIED, NOW + 2)
    assert (known.refusal, known.refusals, known.refused_at, known.calling) == (DENIED, 2, NOW + 2, False)
    known = known.called().accepted(WHY, NOW + 3, NOW + 4)
    assert (known.refusal, known.refusals, known.calling) == (None, 0, False)
    assert known.request == Request(WHY, NOW + 3, NOW + 4, 1)


def test_a_second_acceptance_keeps_the_first_words_and_the_first_time() -> None:
    known = seen(a_job()).accepted(WHY, NOW, NOW + 1).accepted("other words", NOW + MINUTE, NOW + MINUTE + 1)
    assert known.request == Request(WHY, NOW, NOW + MINUTE + 1, 2)


def test_of_what_statuses_tell_the_newest_acceptance_counts() -> None:
    old, new = Request(WHY, NOW, NOW, 1), Request(WHY, NOW, NOW + MINUTE, 2)
    assert seen().recalled(old).recalled(new).request == new
    assert seen().recalled(new).recalled(old).request == new
    assert seen().recalled(Request("", NOW, NOW, 1)).request is None


@pytest.mark.parametrize(("age", "wait"), [(0, 1), (1, 2), (3, 4), (7, 8), (14, 15), (15, 15), (9999, 15)])
def test_looks_after_a_request_thin_out_to_every_fifteen_seconds(age: int, wait: int) -> None:
    assert terminating(age * SECOND) == wait * SECOND


def test_a_resend_waits_twice_as_long_each_time_up_to_a_quarter_of_an_hour() -> None:
    waits = [Cadence().resend(requests) // MINUTE for requests in (0, 1, 2, 3, 4, 5, 6, 10_000)]
    assert waits == [1, 1, 2, 4, 8, 15, 15, 15]


def test_a_resend_that_users_set_beyond_a_quarter_of_an_hour_is_not_cut() -> None:
    assert Cadence(resend_after=20 * MINUTE).resend(3) == 20 * MINUTE


def test_looks_at_an_absent_job_never_come_without_a_pause_however_short_the_grace() -> None:
    assert Cadence(absence_grace=0).absence(0) == SECOND
    assert Cadence().absence(5 * MINUTE) == SECOND
    assert [Cadence().absence(age * SECOND) // SECOND for age in (0, 40, 80, 110)] == [40, 40, 40, 10]


def test_living_jobs_are_looked_at_as_users_set_it() -> None:
    cadence = Cadence(running=7 * SECOND, pending=9 * SECOND)
    assert (cadence.alive(running=True), cadence.alive(running=False)) == (7 * SECOND, 9 * SECOND)
    assert Cadence(pending=60 * MINUTE).longest == 60 * MINUTE
    assert cadence.longest == 5 * MINUTE


@pytest.mark.parametrize(
    ("fate", "looks", "calls"),
    [
        (Fate.THROTTLED, [1, 2, 4, 60], [1, 2, 4, 15]),
        (Fate.UNAVAILABLE, [1, 2, 4, 60], [1, 2, 4, 15]),
        (Fate.CREDENTIALS, [1, 2, 4, 300], [1, 2, 4, 300]),
        (Fate.DENIED, [300, 300, 300, 300], [300, 300, 300, 300]),
        (Fate.REJECTED, [300, 300, 300, 300], [300, 300, 300, 300]),
    ],
)
def test_trouble_backs_off_by_its_fate(fate: Fate, looks: list[int], calls: list[int]) -> None:
    times = (1, 2, 3, 10_000)
    assert [look_backoff(fate, failures) // SECOND for failures in times] == looks
    assert [call_backoff(fate, refusals) // SECOND for refusals in times] == calls


def test_a_condition_keeps_its_time_for_as_long_as_its_status_stays() -> None:
    before = (Condition("Ready", "True", "Observed", "old words", NOW, 1),)
    same = Condition("Ready", "True", "Terminated", "new words", NOW + MINUTE, 2)
    assert with_conditions(before, (same,)) == (replace(same, since=NOW),)
    turned = replace(same, status="False")
    added = replace(same, type="Stalled")
    assert with_conditions(before, (turned, added)) == (turned, added)
    assert with_conditions(before, ()) == ()


FINISHED = an_object().settled(seen(a_job().ended("SUCCEEDED")))
FAILED = an_object().settled(seen(a_job().ended("FAILED")))


def without(status: Status, type_: str) -> Status:
    return replace(status, conditions=tuple(c for c in status.conditions if c.type != type_))


def test_a_status_is_finished_when_every_part_of_it_says_so() -> None:
    assert FINISHED.record.status.finished
    assert FAILED.record.status.finished
    assert an_object().settled(seen(a_job().flagged().ended("FAILED"))).record.status.finished


@pytest.mark.parametrize(
    "status",
    [
        Status(),
        Status(phase=Phase.SUCCEEDED),
        an_object().settled(seen(a_job().running())).record.status,
        FINISHED.scribbled(phase=Phase.FAILED).record.status,
        FAILED.scribbled(phase=Phase.SUCCEEDED).record.status,
        FINISHED.scribbled(phase=Phase.RUNNING).record.status,
        FINISHED.scribbled(job=None).record.status,
        FINISHED.scribbled(job=a_job().running().job).record.status,
        FAILED.scribbled(job=a_job().running().job).record.status,
        FINISHED.scribbled(conditions=FAILED.record.status.conditions).record.status,
        without(FINISHED.record.status, "Succeeded"),
        without(FINISHED.record.status, "Ready"),
    ],
)
def test_a_status_that_contradicts_itself_is_not_believed_to_be_finished(status: Status) -> None:
    assert not status.finished


@pytest.mark.parametrize(
    ("job", "waits"),
    [
        (a_job().pending(), True),
        (a_job().pending().array(), True),
        (a_job().pending().array(SUCCEEDED=3, PENDING=1), True),
        (a_job().pending().array(STARTING=1), False),
        (a_job().pending().array(RUNNABLE=1), False),
        (a_job().running(), False),
    ],
)
def test_a_pending_job_waits_on_dependencies_unless_its_children_are_at_work(job: JobBuilder, waits: bool) -> None:
    assert job.job.waits_on_dependencies is waits


def test_children_that_an_array_does_not_tell_of_count_as_none() -> None:
    assert Array(status_summary=(("RUNNING", 2),)).count("RUNNING") == 2
    assert Array().count("RUNNING") == 0


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job("FAILED"), "The job failed"),
        (
            Job("FAILED", exit_code=0, status_reason="Host terminated."),
            "The job failed with exit code 0: Host terminated.",
        ),
        (
            Job("FAILED", exit_code=137, container_reason="OutOfMemoryError", status_reason="exited"),
            "The job failed with exit code 137: OutOfMemoryError",
        ),
    ],
)
def test_a_failed_job_tells_its_exit_code_and_the_nearest_reason(job: Job, words: str) -> None:
    assert success(job, by_request=False).message == words
