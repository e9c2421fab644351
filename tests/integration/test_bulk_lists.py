"""Lists of AWS Batch are late, incomplete or changing: each matching job is found and terminated once."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from awsbatch_sandbox.processes import wait_for
from integration.bulk import LONG, NAME, Bulk, bulk_on
from integration.scenario import SOON
from integration.teams import Stage

PAGES: Final = 3
JOBS: Final = PAGES * 1000 - 500


@pytest.fixture
def bulk(stage: Stage) -> Iterator[Bulk]:
    with bulk_on(stage) as bulk:
        bulk.grant()
        yield bulk


def lists(bulk: Bulk, status: str = "RUNNING") -> list[dict[str, Any]]:
    """The calls of ListJobs for that status."""
    return [call for call in bulk.team.world.batch.calls("ListJobs") if call["job_status"] == status]


def test_pages_that_are_throttled_repeated_or_refused_lose_no_job(bulk: Bulk) -> None:
    batch = bulk.team.world.batch
    jobs = bulk.seed(JOBS, grace=600)
    for fault in ({"kind": "throttle_429", "times": 2, "skip": 6}, {"kind": "cut_200"}, {"kind": "repeat_page"}):
        batch.fault("ListJobs", role=bulk.team.role, **fault)
    bulk.state()
    bulk.counted(JOBS, timeout=LONG)
    assert {call["fault"] for call in lists(bulk)} >= {"throttle_429"}
    faults = {call["fault"] for call in batch.calls("ListJobs")}
    assert faults == {"throttle_429", "cut_200", "repeat_page", None}
    batch.fault("ListJobs", role=bulk.team.role, kind="slow", seconds=0.3, times=None)
    before = len(lists(bulk))
    bulk.terminations.approve(NAME)
    wait_for(lambda: len(lists(bulk)) > before + 1, timeout=SOON, what="the second page is asked for")
    batch.expire_tokens()
    batch.clear_faults()
    bulk.requested(JOBS)
    bulk.assert_each_once(jobs)
    assert "ClientException" in {call["error"] for call in lists(bulk)}


def test_jobs_that_lists_lack_are_found_by_a_later_sweep(bulk: Bulk) -> None:
    batch = bulk.team.world.batch
    hidden, *steady = bulk.seed(20, grace=600)
    (retried,) = bulk.seed(1, "train-retried", status="RUNNABLE", grace=600)
    batch.hide(hidden, 0, lists=2)
    batch.fault("ListJobs", role=bulk.team.role, kind="slow", seconds=0.3, times=None)
    bulk.state(approved=True)
    # The sweep that counts, and the first that terminates.
    for sweep in (1, 2):
        # It runs while the waiting jobs are listed, and a retry lets it wait again while the running ones are.
        wait_for(lambda: len(lists(bulk, "PENDING")) >= sweep, timeout=SOON, what="a sweep begins")  # noqa: B023
        batch.move(retried, "RUNNING")
        wait_for(lambda: len(lists(bulk, "STARTING")) >= sweep, timeout=SOON, what="it is past the waiting jobs")  # noqa: B023
        batch.move(retried, "RUNNABLE")
    batch.clear_faults()
    wait_for(lambda: bulk.sent().keys() == {*steady}, timeout=SOON, what="the others are terminated")
    bulk.requested(len(steady) + 2)
    bulk.assert_each_once([hidden, retried, *steady])


def test_terminations_that_are_refused_are_named_and_the_others_are_sent(bulk: Bulk) -> None:
    jobs = bulk.seed(60, grace=600)
    bulk.team.world.batch.fault(
        "TerminateJobs", kind="refused_in_bulk", job_id=jobs[7], code="AccessDenied", times=None, role=bulk.team.role
    )
    bulk.state(approved=True)
    status = bulk.wait_for(lambda status: status.get("failed") == 1)
    (example,) = (example for example in status["examples"] if "message" in example)
    assert (example["jobId"], status["requested"]) == (jobs[7], len(jobs) - 1)
    bulk.assert_each_once(set(jobs) - {jobs[7]})
