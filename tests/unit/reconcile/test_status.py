"""Conditions keep their times, which statuses count as finished, and what the condition of a finished job says."""

import pytest

from awsbatch_operator.api.batchjob import Condition, Phase, Status, with_conditions
from awsbatch_operator.api.conditions import success
from awsbatch_operator.api.job import Array, Job
from awsbatch_operator.api.timestamps import MINUTE
from builders import NOW, JobBuilder, a_job, an_object, seen


def test_a_condition_keeps_its_time_for_as_long_as_its_status_stays() -> None:
    before = (Condition("Ready", "True", "Observed", NOW, "old text", 1),)
    same = Condition("Ready", "True", "Terminated", NOW + MINUTE, "new text", 2)
    assert with_conditions(before, (same,)) == (same.replace(since=NOW),)
    turned = same.replace(status="False")
    added = same.replace(type="Stalled")
    assert with_conditions(before, (turned, added)) == (turned, added)
    assert with_conditions(before, ()) == ()


FINISHED = an_object().settled(seen(a_job().ended("SUCCEEDED")))
FAILED = an_object().settled(seen(a_job().ended("FAILED")))


def without(status: Status, type_: str) -> Status:
    return status.replace(conditions=tuple(c for c in status.conditions if c.type != type_))


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
        FINISHED.with_status(phase=Phase.FAILED).record.status,
        FAILED.with_status(phase=Phase.SUCCEEDED).record.status,
        FINISHED.with_status(phase=Phase.RUNNING).record.status,
        FINISHED.with_status(job=None).record.status,
        FINISHED.with_status(job=a_job().running().job).record.status,
        FAILED.with_status(job=a_job().running().job).record.status,
        FINISHED.with_status(conditions=FAILED.record.status.conditions).record.status,
        without(FINISHED.record.status, "Succeeded"),
        without(FINISHED.record.status, "Ready"),
    ],
)
def test_a_status_that_contradicts_itself_does_not_count_as_finished(status: Status) -> None:
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


def test_children_that_an_array_does_not_report_count_as_none() -> None:
    assert Array(status_summary={"RUNNING": 2}).count("RUNNING") == 2
    assert Array().count("RUNNING") == 0


@pytest.mark.parametrize(
    ("job", "message"),
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
def test_a_failed_job_shows_its_exit_code_and_the_nearest_reason(job: Job, message: str) -> None:
    assert success(job, by_request=False).message == message
