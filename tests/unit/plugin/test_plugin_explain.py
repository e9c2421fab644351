import datetime as dt

import pytest

from awsbatch_operator.api import conditions
from kubectl_awsbatch import explain
from unit.plugin.bodies import Body, job, termination

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def paragraph(body: Body) -> str:
    explained = explain.explain_job(body, NOW) if body["kind"] == "BatchJob" else explain.explain_termination(body)
    text = explain.paragraph({**explained, "events": []})
    assert text.isprintable()
    return text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            job(phase="Running", jobStatus="RUNNING", startedAt="2025-12-31T23:00:00Z", Finished="False/JobActive"),
            ["is Running.", "AWS Batch says RUNNING; it has run for 60m.", "Nothing to do."],
        ),
        (
            job(phase="Pending", jobStatus="RUNNABLE", createdAt="2025-12-31T23:50:00Z",
                Ready="True/Observed/MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - too big"),
            ["submitted 10m ago and has not started", "It cannot start: MISCONFIGURATION", "Correct the compute"],
        ),
        (
            job(phase="Missing", Stalled="True/JobNotFound/unknown\x1b[2J"),
            ["A person must act: JobNotFound: unknown\\x1b[2J.", "delete the object and adopt the right id"],
        ),
        (
            job(spec={"terminate": {"reason": "INC-1"}}, Reconciling="True/TerminationHeld/suspended by ops",
                Terminated="Unknown/TerminationHeld"),
            ['the reason "INC-1": TerminationHeld.', "In progress: TerminationHeld: suspended by ops.", "Wait"],
        ),
        (
            job(phase="Terminated", jobStatus="FAILED", exitCode=137, stoppedAt="2025-12-31T23:59:50Z",
                startedAt="2025-12-31T23:59:00Z", Terminated="True/TerminatedByRequest",
                termination={"acceptedAt": "2025-12-31T23:59:40Z", "reason": "too long", "cause": "Deadline"}),
            ["it ran for 50s, ended 10s ago, exit code 137.", '"too long" (requested by spec.deadline): Terminated'],
        ),
        (
            job(phase="Terminating", jobStatus="PENDING", Reconciling="True/TerminationInProgress/accepted",
                Terminated="Unknown/WaitingOnDependencies/it waits for others"),
            ["In progress: WaitingOnDependencies: it waits for others.", "terminate the jobs that it depends on"],
        ),
        (
            job(phase="Running", jobStatus="PENDING", createdAt="2025-12-31T23:50:00Z",
                array={"size": 4, "statusSummary": {"RUNNING": 1, "RUNNABLE": 3, "FAILED": 0}}),
            ["AWS Batch says PENDING; of its 4 children: 1 RUNNING, 3 RUNNABLE."],
        ),
        (job(deadline={"time": "2026-01-01T01:00:00Z", "limit": "Running"}), ["limit Running falls due at 2026-01"]),
        (job(generation=2, observedGeneration=1), ["has not processed the last change", "get leases -A"]),
        (
            termination(phase="AwaitingApproval", matched=37),
            ["is AwaitingApproval; it is not approved.", "matched 37, of at most 200.", "waits for approval",
             "patch bt stop-1 -n team-a"],
        ),
        (
            termination(phase="Refused", Stalled="True/TooManyJobs/300 match", approved=True, matched=300),
            ["it is approved.", "At the last sweep: matched 300", "TooManyJobs: 300 match.", "a larger --max"],
        ),
        (
            termination(phase="Refused", Stalled="True/ListNotAllowed/it is not allowed", requested=0),
            ["it is not approved. A person must act: ListNotAllowed"],
        ),
        (
            termination(phase="Planning", approved=True, requested=3),
            ["is Planning; it is approved. Requested so far: 3, of at most 200."],
        ),
    ],
)  # fmt: skip
def test_the_paragraph_says_what_is_known_what_holds_it_up_and_what_to_do(body: Body, words: list[str]) -> None:
    text = paragraph(body)
    assert [word for word in words if word not in text] == []


def test_an_event_does_not_repeat_what_is_told_already() -> None:
    event = {"reason": "JobNotFound", "message": "no such job", "lastTimestamp": "2025-12-31T23:59:00Z", "metadata": {}}
    assert explain.event_line(event, NOW) == "60s ago: JobNotFound: no such job"
    assert explain.event_line(event, NOW, "A person must act: JobNotFound: no such job.") == "60s ago: JobNotFound"


def test_each_reason_of_stalled_has_a_remedy() -> None:
    assert [reason for reason in sorted(conditions.STALLED_REASONS) if not explain.remedy_for(reason)] == []
