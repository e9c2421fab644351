"""BatchTerminations: counted first, terminated once approved, and nothing but what their spec selects."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from awsbatch_operator.api import timestamps as times
from awsbatch_sandbox.cluster import condition
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.terminations import batch_termination
from integration.bulk import AN_HOUR, FULL, LONG, NAME, REASON, Bulk, bulk_of, bulk_on, now
from integration.competing import SENT_WITHIN
from integration.scenario import SOON, has_events, phase, reasons_sent, says
from integration.teams import Stage

MATCHING = 4_000
LEAST_GRANTED = 5.0
"""Calls a second."""
_A_WHILE = 3.0
"""Seconds in which a termination would have been sent: a sweep takes a tenth of one."""


@pytest.fixture
def bulk(stage: Stage) -> Iterator[Bulk]:
    with bulk_on(stage) as bulk:
        yield bulk


def test_an_approval_terminates_the_4_000_matching_of_10_000_jobs(bulk: Bulk) -> None:
    bulk.grant()
    statuses = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
    matching = {job for status in statuses for job in bulk.seed(MATCHING // len(statuses), status=status)}
    bulk.seed(3_000, "serve")
    bulk.seed(1_000, queue=f"{bulk.team.name}-other")
    bulk.seed(1_000, status="SUCCEEDED")
    bulk.seed(500, is_terminated=True, grace=600)
    bulk.seed(500, created_at=now() + AN_HOUR)
    manifest = json.dumps(batch_termination(NAME, **bulk.spec()))
    bulk.team.cluster.kubectl("apply", "--filename=-", stdin=manifest)
    began = time.monotonic()
    status = bulk.counted(MATCHING, timeout=LONG)
    print(f"counted within {time.monotonic() - began:.1f} s")
    assert (status["ending"], status["requested"], status["failed"]) == (500, 0, 0)
    assert len(status["examples"]) == 20
    assert {example["jobId"] for example in status["examples"]} < matching
    time.sleep(_A_WHILE)
    assert bulk.calls() == []

    began = time.monotonic()
    bulk.team.cluster.kubectl("patch", "bt", NAME, "--type=merge", '--patch={"spec": {"approved": true}}')
    status = bulk.finished()
    print(f"finished within {time.monotonic() - began:.1f} s of the approval")
    bulk.assert_each_once(matching)
    assert (status["requested"], status["matched"]) == (MATCHING, 0)
    calls = bulk.calls()
    print(f"terminated within {calls[-1]['at'] - calls[0]['at']:.1f} s by {len(calls)} calls")
    assert len(calls) == MATCHING / 50
    assert has_events(bulk.team.cluster, NAME, "TerminationAccepted")
    shown = bulk.team.cluster.kubectl("get", "bt", NAME, "--no-headers").split()
    assert shown[:6] == [NAME, "Finished", "true", "0", "10000", str(MATCHING)]


def test_tags_decide_where_the_selector_or_the_policy_names_some(bulk: Bulk) -> None:
    bulk.grant(jobs=bulk.team.rules)
    select = {"queues": [bulk.queue], "jobNames": ["train-*"], "tags": {"run": "42"}}
    own = {"k8s-namespace": bulk.team.name}
    matching = bulk.seed(150, tags={**own, "run": "42"})
    bulk.seed(50, tags={**own, "run": "43"})
    bulk.seed(50, tags=own)
    bulk.seed(50, tags={"k8s-namespace": "another", "run": "42"})
    bulk.state(select=select)
    status = bulk.counted(len(matching))
    # Jobs that the policy does not admit are not named either.
    assert {example["jobId"] for example in status["examples"]} <= set(matching)
    bulk.terminations.approve(NAME)
    bulk.requested(len(matching))
    bulk.assert_each_once(matching)


def test_a_batchjob_shows_the_end_by_a_batchtermination_as_anybody_elses(bulk: Bulk) -> None:
    bulk.grant()
    jobs = bulk.seed(3)
    for number, job_id in enumerate(jobs):
        bulk.team.cluster.create(f"job-{number}", job_id)
        bulk.team.cluster.wait_for(f"job-{number}", phase("Running"), timeout=SOON)
    bulk.state(approved=True)
    for number in range(len(jobs)):
        status = bulk.team.cluster.wait_for(f"job-{number}", phase("Terminated"), timeout=SOON)["status"]
        assert (status["statusReason"], status["isTerminated"]) == (REASON, True)
        assert says("Succeeded", "False", "JobTerminated")(status)
        assert says("Finished", "True", "JobTerminated")(status)
        assert (condition(status, "Terminated"), status.get("termination")) == ({}, None)
    bulk.requested(len(jobs))
    bulk.assert_each_once(jobs)


def test_an_array_is_counted_with_its_children_and_terminated_as_one_job(bulk: Bulk) -> None:
    bulk.grant()
    (array,) = bulk.seed(1, array_size=30)
    (single,) = bulk.seed(1, "train-alone")
    bulk.state("too-few", maxJobs=30)
    status = bulk.wait_for(says("Stalled", "True", "TooManyJobs"), "too-few")
    assert (status["phase"], status["matched"]) == ("Refused", 31)
    bulk.terminations.approve("too-few")
    bulk.state(maxJobs=31)
    bulk.counted(31)
    bulk.wait_for(says("Stalled", "True", "TooManyJobs"), "too-few")
    assert bulk.calls() == []
    bulk.terminations.approve(NAME)
    bulk.requested(31)
    bulk.assert_each_once([array, single])


def test_two_objects_on_the_same_jobs_ask_for_each_once(bulk: Bulk) -> None:
    bulk.grant()
    both, one = bulk.seed(500, grace=20), bulk.seed(250, "train-large", grace=20)
    names = {"all": ["train-*"], "large": ["train-large-*"]}
    for name, job_names in names.items():
        bulk.state(name, select={"queues": [bulk.queue], "jobNames": job_names})
    for name, count in {"all": 750, "large": 250}.items():
        bulk.counted(count, name)
    for name in names:
        bulk.terminations.approve(name)
    statuses = [bulk.wait_for(lambda status: status.get("matched") == 0, name, timeout=LONG) for name in names]
    bulk.assert_each_once(both + one)
    assert sum(status["requested"] for status in statuses) == 750


def test_created_again_it_ends_nothing_that_was_submitted_later(bulk: Bulk) -> None:
    bulk.grant()
    old = bulk.seed(5)
    manifest = bulk.spec(approved=True)
    bulk.terminations.create(NAME, **manifest)
    bulk.requested(len(old))
    bulk.terminations.delete(NAME)
    new = bulk.seed(5, created_at=now())
    bulk.terminations.create(NAME, **manifest)
    bulk.state("later", createdBefore=times.date_time(now() + AN_HOUR), approved=True)
    bulk.wait_for(says("Stalled", "True", "CutoffInFuture"), "later")
    bulk.wait_for(lambda status: status.get("matched") == 0)
    time.sleep(_A_WHILE)
    bulk.assert_each_once(old)
    assert {bulk.team.world.batch.job(job)["status"] for job in new} == {"RUNNING"}


FINISHED: dict[str, Any] = {
    "type": "Finished",
    "status": "True",
    "reason": "AllRequested",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
FORGED: dict[str, dict[str, Any]] = {
    "terminating": {"phase": "Terminating", "matched": 5, "requested": 4},
    "finished": {"phase": "Finished", "matched": 0, "requested": 5, "conditions": [FINISHED]},
    "nothing": {"phase": None, "conditions": [], "examples": []},
}


@pytest.mark.parametrize("approved", [False, True], ids=["not approved", "approved"])
def test_a_forged_status_decides_nothing(stage: Stage, bulk: Bulk, approved: bool) -> None:
    bulk.grant()
    stage.pause()
    jobs = []
    for name, forged in FORGED.items():
        jobs += bulk.seed(2, name)
        bulk.state(name, approved=approved, select={"queues": [bulk.queue], "jobNames": [f"{name}-*"]})
        bulk.terminations.patch_status(name, {"observedGeneration": 1} | forged)
    assert stage.operator.running
    expected = "Terminating" if approved else "AwaitingApproval"
    for name in FORGED:
        bulk.wait_for(lambda status: status.get("phase") == expected and "sweptAt" in status, name)
    if approved:
        wait_for(lambda: len(bulk.sent()) == len(jobs), timeout=SOON, what="all are terminated")
    bulk.assert_each_once(jobs if approved else [])


# -- who may -----------------------------------------------------------------------------------------------------------


def test_without_a_policy_that_lets_it_nothing_is_listed_or_terminated(stage: Stage, tmp_path: Path) -> None:
    stage.pause()
    with stage.teams(4) as (nobody, observer, terminator, twice):
        observer.grant(allow=["Observe", "List"])
        terminator.grant()
        twice.grant(allow=list(FULL))
        stage.policies.create("second", namespaceSelector=twice.selector, jobs={"queues": ["*"]}, allow=list(FULL))
        expected = {
            nobody: "NoAccessPolicy",
            observer: "TerminationNotAllowed",
            terminator: "ListNotAllowed",
            twice: "AmbiguousPolicy",
        }
        operators = [
            OperatorProcess(stage.world.environment, tmp_path, (f"--access-policy={mode}", "--region=eu-west-1"))
            for mode in ("required", "optional")
        ]
        for operator in operators:
            operator.start()
            try:
                for team, reason in expected.items():
                    with bulk_of(team) as bulk:
                        team.seed(name="train-0")
                        bulk.state(approved=True)
                        status = bulk.wait_for(says("Stalled", "True", reason))
                        assert (status["phase"], says("Finished", "Unknown", reason)(status)) == ("Refused", True)
                time.sleep(_A_WHILE)
                called = {call["operation"] for call in stage.world.batch.calls()}
                assert not called & {"ListJobs", "TerminateJobs", "TerminateJob"}
            finally:
                operator.stop()


def test_an_operator_of_one_namespace_leaves_those_of_others_alone(stage: Stage, tmp_path: Path) -> None:
    stage.pause()
    with stage.teams(2) as teams, bulk_of(teams[0]) as own, bulk_of(teams[1]) as foreign:
        jobs = own.seed(5)
        foreign.seed(5)
        flags = (f"--namespace={teams[0].name}", "--access-policy=required", "--cluster-name=prod")
        operator = OperatorProcess(stage.world.environment, tmp_path, flags)
        operator.start()
        try:
            for bulk in (own, foreign):
                bulk.grant()
                bulk.state(approved=True)
            own.requested(len(jobs))
            own.assert_each_once(jobs)
            assert foreign.sent().keys() <= set(jobs)
            assert foreign.terminations.get(NAME)["status"] == {"observedGeneration": 0}
        finally:
            operator.stop()


# -- beside others ----------------------------------------------------------------------------------------------------


def test_a_single_termination_of_another_namespace_does_not_wait_for_it(stage: Stage) -> None:
    assert stage.operator.running
    # The second and the third are in one account, whose calls AWS limits.
    with stage.teams(3) as (_, crowd, single), bulk_of(crowd) as bulk:
        bulk.grant()
        bulk.seed(MATCHING, grace=600)
        single.grant()
        job_id = single.job("job")
        single.cluster.wait_for("job", phase("Running"), timeout=SOON)
        bulk.state()
        bulk.counted(MATCHING)
        stage.world.batch.limit(LEAST_GRANTED, account=crowd.account)
        bulk.terminations.approve(NAME)
        wait_for(bulk.sent, timeout=LONG, what="the first of the crowd are terminated")
        began = time.monotonic()
        single.cluster.terminate("job", "single")
        wait_for(lambda: reasons_sent(stage.world, job_id), timeout=LONG, what="TerminateJob")
        took = time.monotonic() - began
        left = MATCHING - len(bulk.sent())
        stage.world.batch.limit(None)
        print(f"sent after {took:.2f} s, {left} of the others were left")
        assert left > 0
        assert took < SENT_WITHIN


# -- endpoints that are older ------------------------------------------------------------------------------------------


def test_an_endpoint_without_terminatejobs_and_without_flags_gets_each_job_once(stage: Stage, bulk: Bulk) -> None:
    older = {"bulk_available": False, "flags_in_details": False, "flags_in_lists": False}
    stage.pause()
    stage.world.batch.settings(**older)
    try:
        assert stage.operator.running
        bulk.grant()
        # They live on through two more sweeps.
        jobs = bulk.seed(60, grace=30)
        bulk.state()
        bulk.counted(len(jobs))
        bulk.terminations.approve(NAME)
        assert bulk.finished()["requested"] == len(jobs)
        bulk.assert_each_once(jobs)
        assert {tuple(call["accepted"]) for call in bulk.calls() if call["accepted"]} == {(job,) for job in jobs}
    finally:
        stage.world.batch.settings(**dict.fromkeys(older, True))
        # It remembers what the endpoint lacks.
        stage.pause()
