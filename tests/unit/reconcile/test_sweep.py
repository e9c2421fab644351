"""Which jobs a sweep may terminate, row by row, and what it counts."""

from dataclasses import replace
from typing import Any

import pytest

from awsbatch_operator.api.batchtermination import MOST_EXAMPLES, BulkSpec
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import DescribedJob
from awsbatch_operator.api.job import Array, Job, JobSummary
from awsbatch_operator.policy.authorizer import Allow
from awsbatch_operator.reconcile.sweep import (
    LIVE_STATUSES,
    LiveJob,
    Tally,
    admit,
    described_job,
    listed_job,
    may_match,
    needs_tags,
)
from builders import NOW, REGION
from unit.policy.policies import a_scope

ARN = f"arn:aws:batch:{REGION}:111122223333"
CUTOFF = NOW - 60_000
SPEC = BulkSpec(
    region=REGION,
    queues=("team-a-gpu", "team-a-cpu"),
    job_names=("train-*",),
    tags=(),
    created_before=CUTOFF,
    reason="INC-4711",
    max_jobs=10,
    approved=True,
)
JOB = LiveJob("j", "train-42", f"{ARN}:job-queue/team-a-gpu", None, CUTOFF - 1, flagged=False, size=1, observed_at=NOW)
DENIED = CallError(ErrorClass.DENIED, "not authorized", "AccessDeniedException")


def spec(**changes: Any) -> BulkSpec:
    return replace(SPEC, **changes)


def job(**changes: Any) -> LiveJob:
    return replace(JOB, **changes)


@pytest.mark.parametrize(
    ("patterns", "name", "matches"),
    [
        (("train-42",), "train-42", True),
        (("train-42",), "train-421", False),
        (("train-42",), "Train-42", False),
        (("train-*",), "train-", True),
        (("train-*",), "train-42", True),
        (("train-*",), "TRAIN-42", False),
        (("train-*",), "train", False),
        (("train-*",), "a-train-42", False),
        (("*",), "", True),
        (("eval", "train-4*"), "train-42", True),
        (("eval", "train-5*"), "train-42", False),
        # Any name; tags narrow the queues then.
        ((), "train-42", True),
        # No wildcard but the last one.
        (("t[r]ain-42",), "train-42", False),
        (("t?ain-*",), "train-42", False),
    ],
)
def test_names_are_compared_as_written(patterns: tuple[str, ...], name: str, matches: bool) -> None:
    assert may_match(job(name=name), spec(job_names=patterns)) is matches


@pytest.mark.parametrize(
    ("queue", "matches"),
    [
        (f"{ARN}:job-queue/team-a-gpu", True),
        ("team-a-gpu", True),
        (f"{ARN}:job-queue/team-a-cpu", True),
        (f"{ARN}:job-queue/team-a-gpu-2", False),
        (f"{ARN}:job-queue/Team-a-gpu", False),
        ("", False),
    ],
)
def test_a_queue_is_known_by_its_name(queue: str, matches: bool) -> None:
    assert may_match(job(queue=queue), SPEC) is matches


@pytest.mark.parametrize(
    ("created_at", "matches"), [(CUTOFF - 1, True), (CUTOFF, False), (CUTOFF + 1, False), (None, False)]
)
def test_only_what_was_submitted_before_the_cutoff_matches(created_at: int | None, matches: bool) -> None:
    assert may_match(job(created_at=created_at), SPEC) is matches


@pytest.mark.parametrize(
    ("wanted", "tags", "matches"),
    [
        ((), None, True),
        ((("run", "42"),), {"run": "42", "more": ""}, True),
        ((("run", "42"),), {"run": "43"}, False),
        ((("run", "42"),), {"Run": "42"}, False),
        ((("run", ""),), {"run": ""}, True),
        ((("run", ""),), {}, False),
        ((("run", "*"),), {"run": "42"}, False),
        ((("run", "42"), ("step", "1")), {"run": "42"}, False),
        # They have not been read.
        ((("run", "42"),), None, False),
    ],
)
def test_a_job_must_have_every_tag(wanted: Any, tags: dict[str, str] | None, matches: bool) -> None:
    assert (admit(job(tags=tags), spec(tags=wanted), a_scope(), NOW) is not None) is matches


@pytest.mark.parametrize(
    ("rules", "tags", "observed_at", "admitted"),
    [
        ({"queues": ["team-a-*"]}, None, NOW, True),
        ({"queues": ["team-b-*"]}, None, NOW, False),
        ({"queues": [f"{ARN}:job-queue/team-a-*"]}, None, NOW, True),
        ({"queues": ["arn:aws:batch:*:444455556666:job-queue/*"]}, None, NOW, False),
        ({"tags": {"ns": "${namespace}"}}, {"ns": "train"}, NOW, True),
        ({"tags": {"ns": "${namespace}"}}, {"ns": "other"}, NOW, False),
        ({"tags": {"ns": "${namespace}"}}, None, NOW, False),
        ({"tags": {"ns": "${namespace}"}}, {"ns": "train"}, NOW - 30_000, True),
        ({"tags": {"ns": "${namespace}"}}, {"ns": "train"}, NOW - 30_001, False),
    ],
)
def test_the_policy_must_admit_it_too(
    rules: dict[str, Any], tags: dict[str, str] | None, observed_at: int, admitted: bool
) -> None:
    scope = a_scope(jobs=rules)
    allow = admit(job(tags=tags, observed_at=observed_at), SPEC, scope, NOW)
    assert isinstance(allow, Allow) is admitted
    assert needs_tags(SPEC, scope) is ("tags" in rules)
    assert needs_tags(spec(tags=(("run", "42"),)), scope)


def test_a_policy_that_only_lets_observe_admits_none() -> None:
    assert admit(JOB, SPEC, a_scope(allow=["Observe", "List"]), NOW) is None


@pytest.mark.parametrize(
    ("summary", "seen"),
    [
        *((JobSummary("j", "n", status), True) for status in LIVE_STATUSES),
        (JobSummary("j", "n", "HIBERNATING"), True),
        (JobSummary("j", "n", "SUCCEEDED"), False),
        (JobSummary("j", "n", "FAILED"), False),
        # Parts of other jobs: their parent is terminated, and counts with all of them.
        (JobSummary("j:3", "n", "RUNNING"), False),
        (JobSummary("j#1", "n", "RUNNING"), False),
    ],
)
def test_living_jobs_are_listed_without_parts_of_others(summary: JobSummary, seen: bool) -> None:
    assert (listed_job(summary, "gpu", NOW) is not None) is seen


def test_a_listed_and_a_described_job_are_the_same_but_for_the_tags() -> None:
    listed = listed_job(JobSummary("j", "n", "PENDING", 7, flagged=True, size=9, arn=f"{ARN}:job/j"), "gpu", NOW)
    shown = Job("PENDING", name="n", created_at=7, is_cancelled=True, queue=f"{ARN}:job-queue/gpu", array=Array(size=9))
    assert listed == LiveJob("j", "n", f"{ARN}:job-queue/gpu", None, 7, flagged=True, size=9, observed_at=NOW)
    assert listed is not None
    assert described_job("j", DescribedJob(shown, {"a": "b"}), NOW) == replace(listed, tags={"a": "b"})
    assert described_job("j", DescribedJob(shown.replace(status="FAILED"), {}), NOW) is None


@pytest.mark.parametrize(
    ("array", "size"),
    [(None, 1), (Array(), 1), (Array(size=0), 1), (Array(size=-5), 1), (Array(size=10_000), 10_000), (Array(3, 1), 1)],
)
def test_the_size_of_a_described_job(array: Array | None, size: int) -> None:
    found = described_job("j", DescribedJob(Job("PENDING", array=array), {}), NOW)
    assert found is not None
    assert found.size == size


def test_the_counts_of_a_sweep() -> None:
    tally = Tally()
    for number in range(30):
        tally.add(job(job_id=f"j{number}", size=2), ending=number < 4, refusal=DENIED if number > 27 else None)
        tally.jobs[f"j{number}"] = 2
    assert (tally.ending, tally.matched, tally.failed, tally.refusal) == (8, 52, 4, DENIED)
    assert [(one.job_id, one.message) for one in tally.examples[:3]] == [
        ("j28", DENIED.message),
        ("j29", DENIED.message),
        ("j4", None),
    ]
    assert len(tally.examples) == MOST_EXAMPLES
    # What was accepted and is not seen any more counts, too; what is seen counts once.
    assert tally.total({"j0": 2, "gone": 5}) == 65
