"""Accounts and regions of the simulated Batch: what lies in one is neither seen nor touched from another."""

from typing import Any

import pytest

from awsbatch_sandbox.batch.credentials import Caller
from awsbatch_sandbox.batch.simulator import BatchSimulator
from unit.sandbox.batch_wire_calls import HERE, START, Wire, frozen

OTHER = "222222222222"
ID = "61e743ed-35e4-48da-b2de-5c8333821c84"
ROLE = f"arn:aws:iam::{OTHER}:role/batch-team-a"
OTHERS = [Caller(OTHER, HERE.region), Caller(HERE.account, "us-east-1"), Caller(OTHER, "us-east-1")]
TEAM_A = Caller(OTHER, "eu-west-1", "ASIATEAMA", ROLE, "operator", {"kubernetes-namespace": "team-a"})


@pytest.fixture
def batch() -> BatchSimulator:
    return frozen()


@pytest.fixture(params=OTHERS, ids=lambda there: f"{there.account}-{there.region}")
def there(request: pytest.FixtureRequest, batch: BatchSimulator) -> Wire:
    """Another account, another region, or both."""
    return Wire(batch, request.param)


@pytest.fixture
def here(batch: BatchSimulator) -> Wire:
    return Wire(batch)


def seed(wire: Wire, **job: Any) -> str:
    return wire.batch.seed(account=wire.caller.account, region=wire.caller.region, **job)


def test_one_id_in_two_places_is_two_jobs(here: Wire, there: Wire) -> None:
    seed(here, job_id=ID, name="ours")
    seed(there, job_id=ID, name="theirs", status="RUNNABLE")
    assert (here.describe(ID)["jobName"], there.describe(ID)["jobName"]) == ("ours", "theirs")
    prefix = f"{there.caller.region}:{there.caller.account}"
    assert there.describe(ID)["jobArn"] == f"arn:aws:batch:{prefix}:job/{ID}"
    assert there.describe(ID)["jobQueue"] == f"arn:aws:batch:{prefix}:job-queue/default"
    there.terminate(ID, "theirs")
    assert ("isTerminated" in here.describe(ID), there.describe(ID)["statusReason"]) == (False, "theirs")


def test_calls_in_one_region_do_not_affect_another(here: Wire, there: Wire) -> None:
    job_id = seed(there, job_id=ID, status="RUNNABLE")
    here.terminate(job_id)
    here.cancel(job_id)
    assert here.call("TerminateJobs", jobs=[job_id], reason="r")[1]["successful"] == [job_id]
    assert here.call("CancelJobs", jobs=[job_id], reason="r")[1]["successful"] == [job_id]
    arn = f"arn:aws:batch:{there.caller.region}:{there.caller.account}:job/{job_id}"
    assert here.call("TagResource", resourceArn=arn, tags={"team": "b"})[0] == 400
    assert here.shown(job_id) == []
    assert here.call("ListJobs", jobQueue="default", jobStatus="RUNNABLE")[1] == {"jobSummaryList": []}
    assert [one["effective"] for one in here.batch.calls() if one["operation"] != "DescribeJobs"] == [[]] * 6
    state = here.batch.job(job_id)
    assert (state["status"], state["is_terminated"], state["is_cancelled"], state["tags"]) == (
        "RUNNABLE",
        False,
        False,
        {},
    )


def test_the_arn_of_a_job_elsewhere_does_not_name_the_job_of_that_id_here(here: Wire, there: Wire) -> None:
    for wire in (here, there):
        seed(wire, job_id=ID)
    theirs = f"arn:aws:batch:{there.caller.region}:{there.caller.account}:job/{ID}"
    assert here.call("TagResource", resourceArn=theirs, tags={"team": "b"})[0] == 400
    assert there.call("TagResource", resourceArn=theirs, tags={"team": "b"})[0] == 200
    assert ("team" in here.describe(ID)["tags"], there.describe(ID)["tags"]) == (False, {"team": "b"})


def test_each_place_lists_its_own_jobs(here: Wire, there: Wire) -> None:
    for wire in (here, there):
        seed(wire, name=wire.caller.region + wire.caller.account)
        (listed,) = wire.call("ListJobs", jobQueue="default")[1]["jobSummaryList"]
        assert listed["jobName"] == wire.caller.region + wire.caller.account


def test_a_job_is_submitted_where_its_caller_is(here: Wire, there: Wire) -> None:
    submitted = there.call("SubmitJob", jobName="a", jobQueue="default", jobDefinition="c")[1]
    assert f"{there.caller.region}:{there.caller.account}:job/" in submitted["jobArn"]
    assert (len(there.shown(submitted["jobId"])), here.shown(submitted["jobId"])) == (1, [])


def test_a_dependency_is_a_job_of_the_same_place(here: Wire, there: Wire) -> None:
    seed(there, job_id=ID)
    waiting = seed(here, status="PENDING", depends_on=[ID], natural=True)
    here.batch.advance(1)
    assert here.describe(waiting)["status"] != "PENDING"
    held = seed(there, status="PENDING", depends_on=[ID], natural=True)
    here.batch.advance(1)
    assert there.describe(held)["status"] == "PENDING"
    # The end of a job of that id elsewhere frees nobody.
    seed(here, job_id=ID)
    here.batch.move(ID, "SUCCEEDED", account=HERE.account, region=HERE.region)
    assert there.describe(held)["status"] == "PENDING"
    here.batch.move(ID, "SUCCEEDED", account=there.caller.account, region=there.caller.region)
    assert there.describe(held)["status"] == "RUNNABLE"


def test_retention_and_forgetting_end_one_of_two(here: Wire, there: Wire) -> None:
    seed(here, job_id=ID, status="FAILED")
    seed(there, job_id=ID)
    here.batch.settings(retention=10)
    here.batch.advance(10)
    assert (here.shown(ID), len(there.shown(ID))) == ([], 1)
    here.batch.forget(ID)
    assert there.shown(ID) == []


def test_an_id_is_used_once_in_a_place(here: Wire) -> None:
    seed(here, job_id=ID)
    with pytest.raises(ValueError, match=f"job_id {ID} exists already"):
        seed(here, job_id=ID)


def test_a_verb_for_an_id_in_two_regions_needs_a_region(here: Wire, there: Wire) -> None:
    for wire in (here, there):
        seed(wire, job_id=ID)
    scope: dict[str, Any] = {"account": there.caller.account, "region": there.caller.region}
    with pytest.raises(LookupError, match="there are 2 jobs with job_id"):
        here.batch.job(ID)
    assert here.batch.job(ID, **scope)["account"] == there.caller.account
    here.batch.hide(ID, **scope)
    assert (len(here.shown(ID)), there.shown(ID)) == (1, [])
    here.batch.move(ID, "SUCCEEDED", **scope)
    assert (here.describe(ID)["status"], there.describe(ID)["status"]) == ("RUNNING", "SUCCEEDED")
    here.batch.forget(ID, **scope)
    assert here.batch.job(ID)["account"] == here.caller.account
    with pytest.raises(LookupError, match="seed it first"):
        here.batch.job(ID, **scope)


def test_the_record_can_be_read_place_by_place(batch: BatchSimulator) -> None:
    wires = [Wire(batch, HERE), *(Wire(batch, caller) for caller in OTHERS)]
    for wire in wires:
        wire.terminate(seed(wire, job_id=ID))
    for record in (batch.calls, batch.terminate_requests, batch.jobs):
        for account, region, found in (
            (None, None, 4),
            (OTHER, None, 2),
            (None, "us-east-1", 2),
            (OTHER, "us-east-1", 1),
        ):
            entries = record(account=account, region=region)
            assert len(entries) == found
            assert all(one["account"] == account for one in entries if account)
            assert all(one["region"] == region for one in entries if region)


def test_the_accounts_are_those_of_credentials_and_jobs(batch: BatchSimulator) -> None:
    assert batch.accounts() == [HERE.account]
    batch.settings(accounts={"AKIAOTHER": OTHER})
    batch.seed(account="333333333333")
    assert batch.accounts() == [HERE.account, OTHER, "333333333333"]


def test_the_record_names_the_role_and_its_session(batch: BatchSimulator) -> None:
    Wire(batch, TEAM_A).terminate(ID)
    for entry in (*batch.calls(), *batch.terminate_requests()):
        assert (entry["access_key"], entry["role"], entry["role_session"]) == ("ASIATEAMA", ROLE, "operator")


# -- throttling ------------------------------------------------------------------------------------------------------


def grants(wire: Wire, calls: int = 6) -> int:
    return [wire.call("DescribeJobs", jobs=["x"])[0] for _ in range(calls)].count(200)


def test_each_account_and_region_has_a_budget_of_its_own(here: Wire, there: Wire) -> None:
    here.batch.limit(rate=1, burst=3)
    assert (grants(here), grants(there), grants(here)) == (3, 3, 0)


def test_one_account_or_region_can_be_throttled_alone(batch: BatchSimulator) -> None:
    batch.limit(rate=1, burst=5)
    batch.limit(rate=1, burst=4, region="us-east-1")
    batch.limit(rate=1, burst=3, account=OTHER)
    batch.limit(rate=1, burst=2, account=OTHER, region="us-east-1")
    assert [grants(Wire(batch, caller)) for caller in (HERE, *OTHERS)] == [5, 3, 4, 2]
    batch.limit(None, account=OTHER, region="us-east-1")
    assert grants(Wire(batch, OTHERS[2])) == 3
    batch.limit(None)
    assert [grants(Wire(batch, caller)) for caller in (HERE, *OTHERS)] == [6, 6, 6, 6]


# -- faults and permissions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("only", [{"access_key": "ASIATEAMA"}, {"role": ROLE}, {"role_session": "operator"}])
def test_a_fault_can_be_limited_to_a_caller(batch: BatchSimulator, only: dict[str, str]) -> None:
    batch.fault(kind="server_500", **only)
    assert Wire(batch, Caller(OTHER, "eu-west-1")).call("DescribeJobs", jobs=["x"])[0] == 200
    assert Wire(batch, TEAM_A).call("DescribeJobs", jobs=["x"])[0] == 500


def test_a_refusal_names_the_caller_and_the_region(batch: BatchSimulator) -> None:
    batch.fault(kind="denied_403", times=2)
    for caller, who in (
        (TEAM_A, f"arn:aws:sts::{OTHER}:assumed-role/batch-team-a/operator"),
        (HERE, f"arn:aws:iam::{HERE.account}:user/sandbox"),
    ):
        message = Wire(batch, caller).call("DescribeJobs", jobs=["x"])[1]["message"]
        resource = f"arn:aws:batch:eu-west-1:{caller.account}:job/*"
        assert message == f"User: {who} is not authorized to perform: batch:DescribeJobs on resource: {resource}"


BY_TAG = {"operation": "TerminateJob", "job_tag": "k8s-namespace", "principal_tag": "kubernetes-namespace"}
DENIALS: list[tuple[dict[str, str], Caller, str, dict[str, str], bool]] = [
    (BY_TAG, TEAM_A, "TerminateJob", {"k8s-namespace": "team-a"}, False),
    (BY_TAG, TEAM_A, "TerminateJob", {"k8s-namespace": "team-b"}, True),
    (BY_TAG, TEAM_A, "TerminateJob", {}, True),
    (BY_TAG, Caller(OTHER, "eu-west-1"), "TerminateJob", {"k8s-namespace": "team-a"}, True),
    (BY_TAG, Caller(OTHER, "eu-west-1"), "TerminateJob", {}, True),
    (BY_TAG, TEAM_A, "DescribeJobs", {"k8s-namespace": "team-b"}, False),
    (BY_TAG | {"account": HERE.account}, TEAM_A, "TerminateJob", {}, False),
    (BY_TAG | {"account": OTHER}, TEAM_A, "TerminateJob", {}, True),
    ({"role": ROLE}, TEAM_A, "TerminateJob", {}, True),
    ({"role": ROLE}, TEAM_A, "DescribeJobs", {}, True),
    ({"role": ROLE}, Caller(OTHER, "eu-west-1"), "DescribeJobs", {}, False),
    ({"role": ROLE, "operation": "DescribeJobs"}, TEAM_A, "TerminateJob", {}, False),
]


@pytest.mark.parametrize(("denial", "caller", "operation", "tags", "denied"), DENIALS)
def test_iam_refuses_calls_that_match_a_denial(
    batch: BatchSimulator, denial: dict[str, str], caller: Caller, operation: str, tags: dict[str, str], *, denied: bool
) -> None:
    wire = Wire(batch, caller)
    job_id = seed(wire, tags=tags)
    batch.deny(**denial)
    body: dict[str, Any] = {"jobs": [job_id]} if operation == "DescribeJobs" else {"jobId": job_id, "reason": "r"}
    assert wire.call(operation, **body)[0] == (403 if denied else 200)
    assert batch.job(job_id)["is_terminated"] is (operation == "TerminateJob" and not denied)
    batch.clear_denials()
    assert wire.call(operation, **body)[0] == 200


def test_the_bulk_call_refuses_job_by_job(batch: BatchSimulator) -> None:
    wire = Wire(batch, TEAM_A)
    ours, theirs = seed(wire, tags={"k8s-namespace": "team-a"}), seed(wire, tags={"k8s-namespace": "team-b"})
    batch.deny(**BY_TAG)
    answer = wire.call("TerminateJobs", jobs=[ours, theirs, "unknown"], reason="r")[1]
    assert answer["successful"] == [ours]
    assert [(one["job"], one["code"]) for one in answer["errors"]] == [
        (theirs, "AccessDenied"),
        ("unknown", "AccessDenied"),
    ]
    assert (
        f"batch:TerminateJob on resource: arn:aws:batch:eu-west-1:{OTHER}:job/{theirs}"
        in answer["errors"][0]["message"]
    )
    assert [one["job_id"] for one in batch.terminate_requests()] == [ours]
    assert batch.job(theirs)["is_terminated"] is False


def test_the_bulk_call_reports_denials_for_each_job(batch: BatchSimulator) -> None:
    batch.deny(role=ROLE)
    status, answer = Wire(batch, TEAM_A).call("TerminateJobs", jobs=["x", "y"], reason="r")
    assert (status, answer["successful"], [one["job"] for one in answer["errors"]]) == (200, [], ["x", "y"])


@pytest.mark.parametrize("carry", [False, True])
def test_iam_may_see_the_children_of_an_array_with_or_without_their_parents_tags(
    batch: BatchSimulator, *, carry: bool
) -> None:
    wire = Wire(batch, TEAM_A)
    job_id = seed(wire, array_size=2, tags={"k8s-namespace": "team-a"})
    batch.settings(children_carry_tags=carry)
    batch.deny(**BY_TAG)
    assert wire.call("TerminateJob", jobId=f"{job_id}:0", reason="r")[0] == (200 if carry else 403)
    assert wire.describe(f"{job_id}:0")["tags"] == {}


def test_tags_that_change_between_poll_and_call_are_those_of_the_call(batch: BatchSimulator) -> None:
    wire = Wire(batch, TEAM_A)
    job_id = seed(wire, tags={"k8s-namespace": "team-a"})
    batch.deny(**BY_TAG)
    assert wire.describe(job_id)["tags"] == {"k8s-namespace": "team-a"}
    wire.call("UntagResource", resourceArn=wire.describe(job_id)["jobArn"], tagKeys=["k8s-namespace"])
    assert wire.call("TerminateJob", jobId=job_id, reason="r")[0] == 403


@pytest.mark.parametrize(
    ("denial", "message"),
    [
        ({"job_tag": "team"}, "job_tag and principal_tag go together"),
        ({"operation": "TerminateJobs"}, "needs the permission TerminateJob: deny that"),
        ({"operation": "EndJob"}, r"operation must be \* or one of DescribeJobs, .*, got 'EndJob'"),
    ],
)
def test_a_denial_that_never_matches_is_rejected(batch: BatchSimulator, denial: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batch.deny(**denial)


def test_a_call_is_denied_after_it_was_counted(batch: BatchSimulator) -> None:
    batch.deny()
    batch.limit(rate=1, burst=1)
    wire = Wire(batch)
    assert [wire.call("DescribeJobs", jobs=["x"])[0] for _ in range(2)] == [403, 429]
    assert [(one["error"], one["at"]) for one in batch.calls()] == [
        ("AccessDeniedException", START),
        ("TooManyRequestsException", START),
    ]
