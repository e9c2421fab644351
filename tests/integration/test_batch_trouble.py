"""For every fault of AWS Batch or the network, the status reports it, no termination is lost, and retries are paced."""

from collections.abc import Mapping

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, claim, has_events, phase, reasons_sent, says, terminations_tried

pytestmark = pytest.mark.usefixtures("operator")

Condition = tuple[str, str]
"""The condition that is True, and its reason."""

BY_REQUEST = says("Terminated", "True", "TerminatedByRequest")
ATTEMPTS = 3
"""Attempts of one boto3 call: boto3 retries by itself."""
THROTTLED, AWAY = ("Reconciling", "Throttled"), ("Reconciling", "AWSUnavailable")
CREDENTIALS, DENIED = ("Stalled", "CredentialsUnavailable"), ("Stalled", "AccessDenied")

THROTTLES: Mapping[str, Condition] = {
    "throttle_429": THROTTLED,
    "throttle_400": THROTTLED,
    "bare_429": THROTTLED,
    "limit_429": THROTTLED,
}
OUTAGES: Mapping[str, Condition] = {
    "server_500": AWAY,
    "authorizer_500": AWAY,
    "html_502": AWAY,
    "empty_503": AWAY,
    "empty_504": AWAY,
    "reset": AWAY,
}
TAKEN_FOR_AN_ANSWER_BY_BOTO3: Mapping[str, Condition] = {"empty_200": AWAY, "cut_200": AWAY, "braces_200": AWAY}
REFUSALS: Mapping[str, Condition] = {
    "expired_403": CREDENTIALS,
    "unrecognized_403": CREDENTIALS,
    "signature_403": CREDENTIALS,
    "html_404": CREDENTIALS,
}
# Each kind of fault gets a region of its own: nothing is shared between regions, so all can happen at once.
REGIONS = (
    *("af-south-1", "ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2"),
    *("ap-southeast-1", "ap-southeast-2", "ca-central-1", "eu-central-1", "eu-north-1", "eu-south-1", "eu-west-2"),
    *("eu-west-3", "me-south-1", "sa-east-1", "us-east-1", "us-east-2", "us-west-1"),
)


def names(kinds: Mapping[str, Condition]) -> dict[str, tuple[str, str, Condition]]:
    """By kind of fault: the name of its object, its region, and the condition of its status."""
    named = zip(kinds.items(), REGIONS, strict=False)
    return {kind: (kind.replace("_", "-"), region, reported) for (kind, reported), region in named}


def test_failed_polls_are_reported_until_they_succeed(world: World, cluster: Cluster) -> None:
    cases = names({**THROTTLES, **OUTAGES, **TAKEN_FOR_AN_ANSWER_BY_BOTO3, **REFUSALS})
    for kind, (name, region, _) in cases.items():
        world.batch.fault("DescribeJobs", kind=kind, times=None, region=region)
        cluster.create(name, world.batch.seed(region=region), region=region)
    for name, _, (condition, reason) in cases.values():
        status = cluster.wait_for(name, says(condition, "True", reason), timeout=SOON)["status"]
        assert status["phase"] == "Unknown", name
    world.batch.clear_faults()
    for name, _, (condition, _) in cases.values():
        assert claim(cluster.wait_for(name, phase("Running"), timeout=30)["status"], condition) is None, name


def test_the_status_of_a_job_stays_while_polls_fail(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed(name="known", region="us-west-2")
    cluster.create("known", job_id, region="us-west-2")
    cluster.wait_for("known", phase("Running"), timeout=SOON)
    world.batch.fault("DescribeJobs", kind="empty_200", times=None, region="us-west-2")
    status = cluster.wait_for("known", says("Reconciling", "True", "AWSUnavailable"), timeout=SOON)["status"]
    assert (status["phase"], status["jobName"]) == ("Running", "known")


def test_failed_terminations_are_reported_and_retried(world: World, cluster: Cluster) -> None:
    cases = names({**THROTTLES, **OUTAGES, **REFUSALS})
    ids = {}
    for name, region, _ in cases.values():
        ids[name] = world.batch.seed(region=region)
        cluster.create(name, ids[name], region=region)
    for kind, (name, region, _) in cases.items():
        cluster.wait_for(name, phase("Running"), timeout=SOON)
        world.batch.fault("TerminateJob", kind=kind, times=None, region=region)
        cluster.terminate(name, kind)
    for name, _, (condition, reason) in cases.values():
        status = cluster.wait_for(name, says(condition, "True", reason), timeout=SOON)["status"]
        pending = reason if condition == "Stalled" else "TerminationPending"
        assert claim(status, "Terminated") == ("Unknown", pending), name
        assert reasons_sent(world, ids[name]) == []
    world.batch.clear_faults()
    for kind, (name, _, _) in cases.items():
        status = cluster.wait_for(name, BY_REQUEST, timeout=30)["status"]
        assert status["termination"]["requests"] == 1, name
        assert reasons_sent(world, ids[name]) == [kind]


def test_a_termination_lost_behind_an_empty_answer_is_sent_again(world: World, cluster: Cluster) -> None:
    cases = names(TAKEN_FOR_AN_ANSWER_BY_BOTO3)
    ids = {}
    for kind, (name, region, _) in cases.items():
        world.batch.fault("TerminateJob", kind=kind, region=region)
        ids[name] = world.batch.seed(region=region)
        cluster.create(name, ids[name], region=region, terminate={"reason": kind})
    for kind, (name, region, _) in cases.items():
        assert cluster.wait_for(name, BY_REQUEST, timeout=SOON)["status"]["termination"]["requests"] == 2
        first, second = [call for call in terminations_tried(world) if call["region"] == region]
        assert second["at"] - first["at"] >= 1.0
        assert reasons_sent(world, ids[name]) == [kind]


def test_a_termination_with_a_lost_answer_converges(world: World, cluster: Cluster) -> None:
    cases = names({**THROTTLES, **OUTAGES})
    for kind, (name, region, _) in cases.items():
        world.batch.fault("TerminateJob", kind=kind, times=ATTEMPTS, act_then=True, region=region)
        cluster.create(name, world.batch.seed(region=region), region=region, terminate={"reason": kind})
    for kind, (name, _, _) in cases.items():
        assert cluster.wait_for(name, BY_REQUEST, timeout=SOON)["status"]["statusReason"] == kind


def test_a_denied_termination_stalls_without_a_hot_loop_and_is_not_lost(
    world: World, cluster: Cluster, operator: OperatorProcess
) -> None:
    job_id = world.batch.seed(region="us-west-2")
    world.batch.fault("TerminateJob", kind="denied_403", times=None, region="us-west-2")
    cluster.create("job", job_id, region="us-west-2", terminate={"reason": "denied"})
    status = cluster.wait_for("job", says("Stalled", "True", "AccessDenied"), timeout=SOON)["status"]
    stalled = next(one for one in status["conditions"] if one["type"] == "Stalled")
    assert "is not authorized to perform: batch:TerminateJob" in stalled["message"]
    assert claim(status, "Ready") == ("False", "AccessDenied")
    assert status["phase"] == "Running"
    assert has_events(cluster, "job", "AccessDenied")
    for name in ("first", "second", "third"):
        # The first success by the same credentials lets it try once more. Refused again, it waits its five minutes.
        cluster.create(name, world.batch.seed(), terminate={"reason": name})
        cluster.wait_for(name, BY_REQUEST, timeout=SOON)
    assert len([call for call in terminations_tried(world) if job_id in call["job_ids"]]) == 2
    world.batch.clear_faults()
    operator.stop()
    operator.start()
    cluster.wait_for("job", BY_REQUEST, timeout=SOON)
    assert reasons_sent(world, job_id) == ["denied"]


def test_denied_polls_stall_with_the_message_of_aws(world: World, cluster: Cluster) -> None:
    world.batch.fault("DescribeJobs", kind="denied_403", times=None, region="eu-south-2")
    cluster.create("job", world.batch.seed(region="eu-south-2"), region="eu-south-2", terminate={"reason": "denied"})
    status = cluster.wait_for("job", says("Stalled", "True", "AccessDenied"), timeout=SOON)["status"]
    stalled = next(one for one in status["conditions"] if one["type"] == "Stalled")
    assert "is not authorized to perform: batch:DescribeJobs" in stalled["message"]
    assert terminations_tried(world) == []


def test_a_rejected_termination_is_reported_with_the_message_of_aws(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed()
    world.batch.fault("TerminateJob", kind="client_400", times=None, job_id=job_id)
    cluster.create("job", job_id, terminate={"reason": "rejected"})
    status = cluster.wait_for("job", says("Terminated", "False", "TerminationRejected"), timeout=SOON)["status"]
    assert claim(status, "Stalled") == ("True", "TerminationRejected")
    assert status["phase"] == "Running"
    assert len(terminations_tried(world)) == 1


def test_slow_polls_do_not_delay_a_termination(world: World, cluster: Cluster) -> None:
    job_id = world.batch.seed()
    cluster.create("job", job_id)
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    polls = len(world.batch.calls("DescribeJobs"))
    world.batch.fault("DescribeJobs", kind="slow", seconds=3, times=4)
    wait_for(lambda: len(world.batch.calls("DescribeJobs")) > polls, timeout=SOON, what="a poll that hangs")
    hangs_since = world.batch.calls("DescribeJobs")[-1]["at"]
    cluster.terminate("job", "now")
    wait_for(lambda: reasons_sent(world, job_id), timeout=SOON, what="the termination arrives")
    assert terminations_tried(world)[0]["at"] - hangs_since < 2.5
    cluster.wait_for("job", BY_REQUEST, timeout=SOON)


def test_a_job_rejected_in_a_bulk_call_is_sent_again_alone(world: World, cluster: Cluster) -> None:
    ids = {f"job-{number}": world.batch.seed() for number in range(4)}
    for name, job_id in ids.items():
        cluster.create(name, job_id)
        cluster.wait_for(name, phase("Running"), timeout=SOON)
    world.batch.fault("TerminateJob", kind="slow", seconds=1.0)
    world.batch.fault("TerminateJobs", kind="refused_in_bulk", job_id=ids["job-2"], code="ThrottlingException")
    for name in ids:
        cluster.terminate(name, "together")
    for name, job_id in ids.items():
        assert cluster.wait_for(name, BY_REQUEST, timeout=SOON)["status"]["termination"]["requests"] == 1
        assert reasons_sent(world, job_id) == ["together"]


def test_a_region_without_the_bulk_call_is_served_by_single_ones(world: World, cluster: Cluster) -> None:
    world.batch.settings(bulk_available=False)
    try:
        ids = {f"job-{number}": world.batch.seed(region="eu-west-2") for number in range(5)}
        for name, job_id in ids.items():
            cluster.create(name, job_id, region="eu-west-2")
            cluster.wait_for(name, phase("Running"), timeout=SOON)
        world.batch.fault("TerminateJob", kind="slow", seconds=0.5)
        for name in ids:
            cluster.terminate(name, "one by one")
        for name, job_id in ids.items():
            cluster.wait_for(name, BY_REQUEST, timeout=SOON)
            assert reasons_sent(world, job_id) == ["one by one"]
    finally:
        world.batch.settings(bulk_available=True)


def test_an_account_at_its_limit_still_gets_every_termination(world: World, cluster: Cluster) -> None:
    ids = {f"job-{number}": world.batch.seed(region="eu-west-3") for number in range(8)}
    for name, job_id in ids.items():
        cluster.create(name, job_id, region="eu-west-3")
    for name in ids:
        cluster.wait_for(name, phase("Running"), timeout=SOON)
    world.batch.limit(rate=5, burst=2)
    for name in ids:
        cluster.terminate(name, f"reason of {name}")
    for name, job_id in ids.items():
        cluster.wait_for(name, BY_REQUEST, timeout=40)
        assert reasons_sent(world, job_id) == [f"reason of {name}"]
