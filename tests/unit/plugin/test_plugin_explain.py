import datetime as dt
from collections.abc import Callable

import pytest

from awsbatch_operator.api import conditions
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.names import FINALIZER
from kubectl_awsbatch import explain
from unit.plugin.bodies import Body, job, termination

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
JOB = conditions.JobName("job-1", "eu-west-1", "123456789012")


def paragraph(body: Body) -> str:
    of_kind = explain.explain_job if body["kind"] == "BatchJob" else explain.explain_termination
    explained = of_kind(body, NOW)
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
                statusReason="CAPACITY: none", Ready="True/Observed/It cannot start: CAPACITY: none (add)"),
            ["RUNNABLE; it was submitted 10m ago and has not started. It cannot start: CAPACITY: none (add)."],
        ),
        (
            job(phase="Missing", Stalled="True/JobNotFound/unknown\x1b[2J"),
            ["A person must act: JobNotFound: unknown\\x1b[2J.", "`kubectl awsbatch adopt ID --region REGION`"],
        ),
        (
            job(spec={"terminate": {"reason": "INC-1"}}, Reconciling="True/TerminationHeld/suspended by ops",
                Terminated="Unknown/TerminationHeld"),
            ['the reason "INC-1": TerminationHeld.', "In progress: TerminationHeld: suspended by ops."],
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
            ["In progress: WaitingOnDependencies: it waits for others.", "terminate those jobs too"],
        ),
        (
            job(phase="Running", jobStatus="PENDING", createdAt="2025-12-31T23:50:00Z",
                array={"size": 4, "statusSummary": {"RUNNING": 1, "RUNNABLE": 3, "FAILED": 0}}),
            ["AWS Batch says PENDING; of its 4 children: 1 RUNNING, 3 RUNNABLE."],
        ),
        (job(deadline={"time": "2026-01-01T01:00:00Z", "limit": "Running"}), ["limit Running falls due at 2026-01"]),
        (
            job(generation=2, observedGeneration=1),
            ["has not processed the last change", "If it lasts for a minute, check", "get leases -A"],
        ),
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


def test_the_message_of_the_operator_is_the_remedy() -> None:
    denied = conditions.stalled(CallError(ErrorClass.DENIED, "no", "AccessDenied"), JOB)
    text = paragraph(job(Stalled=f"True/{denied.reason}/{denied.message}"))
    assert text.endswith(f"A person must act: AccessDenied: {denied.message}.")


@pytest.mark.parametrize("reason", sorted(conditions.STALLED_REASONS))
def test_nothing_to_do_is_not_said_when_a_person_must_act(reason: str) -> None:
    assert "Nothing" not in paragraph(job(Stalled=f"True/{reason}/message"))


@pytest.mark.parametrize(
    "value", [conditions.AWAITING, conditions.SENDING, conditions.FOLLOWING], ids=lambda value: str(value.reason)
)
def test_what_goes_on_by_itself_needs_nothing(value: conditions.ConditionValue) -> None:
    assert "Nothing to do" in paragraph(job(Reconciling=f"True/{value.reason}/{value.message}"))


def test_each_remedy_is_of_a_reason_of_the_operator() -> None:
    assert [one for one in explain._REMEDIES if one not in set(conditions.Reason)] == []


# -- objects without a status ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "checks"), [(59, False), (60, True)])
@pytest.mark.parametrize("make", [job, termination])
def test_the_operator_is_suspected_a_minute_after_the_creation(
    make: Callable[[], Body], seconds: int, *, checks: bool
) -> None:
    body = make()
    body["metadata"]["creationTimestamp"] = (NOW - dt.timedelta(seconds=seconds)).isoformat()
    body["status"] = {"observedGeneration": 0}  # the default of the schema
    text = paragraph(body)
    assert ("get leases -A" in text) is checks
    assert ("AWS Batch may not have answered the operator: this can take half a minute. Wait" in text) is not checks


# -- deletion ----------------------------------------------------------------------------------------------------------

ON_DELETE = {"onDelete": {"terminate": {"reason": "pruned"}}}


def deleted(body: Body, *finalizers: str) -> Body:
    body["metadata"] |= {"deletionTimestamp": "2025-12-31T23:55:00Z", "finalizers": list(finalizers)}
    return body


def test_a_deletion_that_terminates_the_job_says_what_keeps_the_object() -> None:
    body = job(spec=ON_DELETE, Stalled="True/AccessDenied/no", Terminated="Unknown/AccessDenied")
    text = paragraph(deleted(body, FINALIZER))
    assert 'termination is requested by spec.onDelete with the reason "pruned": AccessDenied. The deletion of' in text
    assert "requested 5m ago. A person must act: AccessDenied: no. The finalizer awsbatch.dev/terminate-on-d" in text
    assert """kubectl patch bj train -n team-a --type=merge -p '{"spec":{"onDelete":null}}'""" in text


def test_a_termination_that_aws_accepted_is_not_stopped_by_a_patch() -> None:
    sent = {"acceptedAt": "2025-12-31T23:56:00Z", "reason": "pruned", "cause": "OnDelete"}
    text = paragraph(deleted(job(spec=ON_DELETE, termination=sent), FINALIZER))
    assert "(requested by spec.onDelete)" in text
    assert "kubectl patch" not in text


def test_finalizers_of_others_keep_an_object() -> None:
    text = paragraph(deleted(job(spec=ON_DELETE), "example.com/keep"))
    assert "requested by spec.onDelete" not in text
    assert text.endswith("until other controllers have removed their finalizers: example.com/keep.")


def test_a_deleted_batchtermination_waits_for_nothing_of_the_operator() -> None:
    text = paragraph(deleted(termination(phase="AwaitingApproval", observedGeneration=0), "example.com/keep"))
    assert "requested 5m ago; the operator sends no further terminations. The object exists until" in text
    assert "kubectl" not in text


@pytest.mark.parametrize(("finished", "informed"), [("False/JobActive", True), ("True/JobFailed", False)])
def test_an_object_says_that_its_deletion_terminates_the_job(finished: str, *, informed: bool) -> None:
    body = job(spec=ON_DELETE, Finished=finished)
    assert "Deleting it" not in paragraph(body)  # the operator does not support it
    body["metadata"]["finalizers"] = [FINALIZER]
    assert ('Deleting it terminates the job with the reason "pruned"' in paragraph(body)) is informed
