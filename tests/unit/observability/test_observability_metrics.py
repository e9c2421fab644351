import asyncio
from collections.abc import Mapping

import pytest
from prometheus_client import generate_latest

from awsbatch_operator import __version__
from awsbatch_operator.api.batchjob import HoldCause, ObjectMetricKey, Phase
from awsbatch_operator.api.batchtermination import BulkMetricKey, BulkPhase
from awsbatch_operator.api.interfaces import CallLabels, EventResult
from awsbatch_operator.observability.metrics import QUEUES, Metrics

CONTRACT = {
    "jobs",
    "live_jobs",
    "stalled",
    "aws_requests_total",
    "aws_request_duration_seconds",
    "describe_batch_size",
    "terminate_batch_size",
    "termination_acceptance_duration_seconds",
    "termination_completion_duration_seconds",
    "terminations_in_progress",
    "terminations_held",
    "terminations_suspended",
    "status_writes_total",
    "orphaned_total",
    "last_successful_poll_timestamp_seconds",
    "leader",
    "queue_depth",
    "event_loop_lag_seconds",
    "events_received_total",
    "events_queue_alive",
    "event_delay_seconds",
    "listed_jobs",
    "batchterminations",
    "batchterminations_stalled",
}
RESULTS = ("written", "conflict", "gone", "failed")
RUNNING = ObjectMetricKey("team-a", "eu-west-1", Phase.RUNNING)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"awsbatch_operator_{name}", labels)


def test_the_names_are_those_of_the_contract(metrics: Metrics) -> None:
    metrics.observe(lambda: {RUNNING: 3}, {"describe": lambda: 0})
    metrics.observe_holds(dict, frozenset)
    metrics.observe_terminations(dict)
    metrics.observe_polls(dict, dict)
    page = generate_latest(metrics.registry).decode()
    families = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE awsbatch_operator_")}
    assert families == {f"awsbatch_operator_{name}" for name in CONTRACT | {"build_info"}}
    assert "_created" not in page


def test_holds_are_counted_by_cause_and_suspensions_by_policy(metrics: Metrics) -> None:
    held, suspended = dict.fromkeys(HoldCause, 0), frozenset[str]()
    metrics.observe_holds(lambda: held, lambda: suspended)
    assert value(metrics, "terminations_held", cause="suspended_operator") == 0
    assert value(metrics, "terminations_suspended", policy="") == 0
    held[HoldCause.SUSPENDED_OPERATOR], suspended = 7, frozenset({"", "team-a"})
    assert value(metrics, "terminations_held", cause="suspended_operator") == 7
    assert value(metrics, "terminations_suspended", policy="") == 1
    assert value(metrics, "terminations_suspended", policy="team-a") == 1
    suspended = frozenset({"team-a"})
    assert value(metrics, "terminations_suspended", policy="") == 0


def test_terminations_are_counted_by_phase_and_by_what_stalls_them(metrics: Metrics) -> None:
    counts = {
        BulkMetricKey("team-a", BulkPhase.FINISHED, ""): 3,
        BulkMetricKey("team-a", BulkPhase.REFUSED, "TooManyJobs"): 1,
        BulkMetricKey("team-a", BulkPhase.REFUSED, "AccessDenied"): 2,
        BulkMetricKey("team-b", BulkPhase.TERMINATING, ""): 1,
    }
    metrics.observe_terminations(lambda: counts)
    assert value(metrics, "batchterminations", namespace="team-a", phase="Finished") == 3
    assert value(metrics, "batchterminations", namespace="team-a", phase="Refused") == 3
    assert value(metrics, "batchterminations", namespace="team-b", phase="Terminating") == 1
    assert value(metrics, "batchterminations_stalled", namespace="team-a", reason="AccessDenied") == 2
    assert value(metrics, "batchterminations_stalled", namespace="team-a", reason="") is None
    counts.clear()
    assert value(metrics, "batchterminations", namespace="team-a", phase="Finished") is None


def test_events_and_lists_are_shown_by_account_and_region(metrics: Metrics) -> None:
    one, other = ("111122223333", "eu-west-1"), ("", "us-east-1")
    metrics.observe_polls(lambda: {one: True, other: False}, lambda: {one: 7})
    assert value(metrics, "events_queue_alive", account="111122223333", region="eu-west-1") == 1
    assert value(metrics, "events_queue_alive", account="", region="us-east-1") == 0
    assert value(metrics, "listed_jobs", account="111122223333", region="eu-west-1") == 7


def test_each_method_changes_its_metric(metrics: Metrics) -> None:
    port = metrics
    whose = CallLabels("111122223333", "eu-west-1", "batch-team-a")
    labels = whose._asdict()
    assert value(metrics, "events_received_total", result="canary") == 0, "a series that begins at 1 never increases"
    port.event_received(EventResult.CANARY)
    port.event_delay(0.2)
    assert value(metrics, "events_received_total", result="canary") == 1
    assert value(metrics, "event_delay_seconds_sum") == 0.2
    port.aws_request("DescribeJobs", "OK", 0.2, whose)
    port.aws_request("DescribeJobs", "TooManyRequestsException", 0.1, whose)
    port.describe_batch(100)
    port.terminate_batch(50)
    port.polled(1_795_428_000.5, whose)
    port.termination_accepted(0.02)
    port.termination_completed(90)
    port.status_write("written")
    port.leading(yes=True)
    port.queue_depth("terminate", 7)
    assert value(metrics, "aws_requests_total", operation="DescribeJobs", code="OK", **labels) == 1
    assert (
        value(metrics, "aws_requests_total", operation="DescribeJobs", code="TooManyRequestsException", **labels) == 1
    )
    assert value(metrics, "aws_request_duration_seconds_sum", operation="DescribeJobs", **labels) == pytest.approx(0.3)
    assert value(metrics, "describe_batch_size_bucket", le="50.0") == 0
    assert value(metrics, "describe_batch_size_bucket", le="100.0") == 1
    assert value(metrics, "terminate_batch_size_bucket", le="50.0") == 1
    assert value(metrics, "last_successful_poll_timestamp_seconds", **labels) == 1_795_428_000.5
    assert value(metrics, "termination_acceptance_duration_seconds_bucket", le="0.025") == 1
    assert value(metrics, "termination_completion_duration_seconds_bucket", le="60.0") == 0
    assert value(metrics, "termination_completion_duration_seconds_bucket", le="120.0") == 1
    assert value(metrics, "status_writes_total", result="written") == 1
    assert value(metrics, "leader") == 1
    assert value(metrics, "queue_depth", queue="terminate") == 7
    port.leading(yes=False)
    assert value(metrics, "leader") == 0


def test_the_buckets_of_a_termination_reach_from_5_ms_to_60_s_and_from_1_s_to_1_h(metrics: Metrics) -> None:
    for name, least, most in (("acceptance", "0.005", "60.0"), ("completion", "1.0", "3600.0")):
        assert value(metrics, f"termination_{name}_duration_seconds_bucket", le=least) == 0
        assert value(metrics, f"termination_{name}_duration_seconds_bucket", le=most) == 0


def test_objects_and_queues_are_counted_at_each_scrape(metrics: Metrics) -> None:
    counts = {RUNNING: 3}
    due = [10]
    metrics.observe(lambda: counts, {"describe": lambda: due[0]})
    assert value(metrics, "jobs", namespace="team-a", phase="Running") == 3
    assert value(metrics, "queue_depth", queue="describe") == 10
    assert value(metrics, "terminations_in_progress") == 0
    counts.clear()
    counts[ObjectMetricKey("team-b", "us-east-1", Phase.FAILED)] = 1
    due[0] = 50
    assert value(metrics, "queue_depth", queue="describe") == 50
    assert value(metrics, "jobs", namespace="team-a", phase="Running") is None
    assert value(metrics, "jobs", namespace="team-b", phase="Failed") == 1
    assert value(metrics, "live_jobs", account="", region="us-east-1", role="") == 0


def test_one_count_gives_four_metrics(metrics: Metrics) -> None:
    countses = []
    counts = {
        RUNNING: 3,
        RUNNING._replace(stalled="AccessDenied"): 2,
        RUNNING._replace(phase=Phase.TERMINATING): 5,
        RUNNING._replace(phase=Phase.TERMINATING, stalled="TerminationStuck"): 1,
        RUNNING._replace(region="us-east-1", stalled="AccessDenied"): 4,
        RUNNING._replace(region="sa-east-1", phase=Phase.MISSING): 2,
        RUNNING._replace(role="arn:aws:iam::111122223333:role/teams/a"): 7,
        RUNNING._replace(role="arn:aws:iam::444455556666:role/teams/a", stalled="AccessDenied"): 8,
    }

    def taken() -> Mapping[ObjectMetricKey, int]:
        countses.append(1)
        return counts

    metrics.observe(taken, {})
    assert not countses
    shown = {
        (sample.name.removeprefix("awsbatch_operator_"), *sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }
    assert len(countses) == 1
    assert shown["jobs", "team-a", "Running"] == 24
    assert shown["jobs", "team-a", "Terminating"] == 6
    assert {key[1:]: count for key, count in shown.items() if key[0] == "live_jobs"} == {
        ("", "eu-west-1", ""): 11,
        ("", "us-east-1", ""): 4,
        ("", "sa-east-1", ""): 0,
        ("111122223333", "eu-west-1", "a"): 7,
        ("444455556666", "eu-west-1", "a"): 8,
    }
    assert shown[("terminations_in_progress",)] == 6
    assert {key[1:]: count for key, count in shown.items() if key[0] == "stalled"} == {
        ("team-a", "AccessDenied", "", ""): 6,
        ("team-a", "AccessDenied", "444455556666", "a"): 8,
        ("team-a", "TerminationStuck", "", ""): 1,
    }


def test_every_queue_has_a_depth_from_the_start_and_no_other_does(metrics: Metrics) -> None:
    assert [value(metrics, "queue_depth", queue=queue) for queue in QUEUES] == [0] * 4
    with pytest.raises(ValueError, match="unknown queue"):
        metrics.queue_depth("other", 1)


def test_error_codes_that_nobody_knows_are_bounded(metrics: Metrics) -> None:
    labels = CallLabels("", "eu-west-1", "")
    for number in range(300):
        metrics.aws_request("DescribeJobs", f"Made{number}Up", 0.1, labels)
    metrics.aws_request("DescribeJobs", "<html>" + "x" * 1000, 0.1, labels)
    codes = {
        sample.labels["code"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if "code" in sample.labels
    }
    assert len(codes) == 101
    assert value(metrics, "aws_requests_total", operation="DescribeJobs", code="Other", **labels._asdict()) == 201


def test_writes_are_counted_from_0_on(metrics: Metrics) -> None:
    outcomes = {result: value(metrics, "status_writes_total", result=result) for result in RESULTS}
    assert set(outcomes.values()) == {0}
    page = generate_latest(metrics.registry).decode()
    assert page.count("awsbatch_operator_status_writes_total{") == len(outcomes)


def test_two_instances_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.status_write("written")
    assert value(second, "status_writes_total", result="written") == 0


def test_the_process_and_the_build_are_shown_too(metrics: Metrics) -> None:
    page = generate_latest(metrics.registry).decode()
    assert "process_resident_memory_bytes" in page
    assert 'awsbatch_operator_build_info{python="3.' in page
    assert f'version="{__version__}"' in page


@pytest.mark.looptime(start=0)
async def test_a_loop_that_is_on_time_shows_no_lag(metrics: Metrics) -> None:
    sampler = asyncio.create_task(metrics.sample_loop_lag())
    await asyncio.sleep(10.5)
    sampler.cancel()
    await asyncio.wait([sampler])
    assert value(metrics, "event_loop_lag_seconds_count") == 10
    assert value(metrics, "event_loop_lag_seconds_bucket", le="0.1") == 10


def test_a_target_that_is_not_polled_any_more_shows_no_poll_time(metrics: Metrics) -> None:
    here, there = CallLabels("", "eu-west-1", ""), CallLabels("111122223333", "eu-west-1", "batch-team-a")
    for whose in (here, there):
        metrics.polled(7.0, whose)
        metrics.aws_request("DescribeJobs", "OK", 0.1, whose)
    metrics.forget_polls(there)
    metrics.forget_polls(CallLabels("", "us-east-1", ""))
    assert value(metrics, "last_successful_poll_timestamp_seconds", **there._asdict()) is None
    assert value(metrics, "last_successful_poll_timestamp_seconds", **here._asdict()) == 7
    assert value(metrics, "aws_requests_total", operation="DescribeJobs", code="OK", **there._asdict()) == 1


def test_a_forgotten_target_leaves_no_series(metrics: Metrics) -> None:
    here, there = CallLabels("111122223333", "eu-west-1", ""), CallLabels("111122223333", "xx-wild-1", "")
    for whose in (here, there):
        metrics.aws_request("DescribeJobs", "OK", 0.1, whose)
        metrics.aws_request("TerminateJob", "EndpointConnectionError", 0.1, whose)
        metrics.polled(1.0, whose)
    metrics.forget(there)
    metrics.forget(there)
    regions = [
        sample.labels["region"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if "region" in sample.labels
    ]
    assert set(regions) == {"eu-west-1"}


def test_without_the_label_role_the_roles_of_an_account_share_series_until_the_last_one_is_forgotten() -> None:
    metrics = Metrics(role_label=False)
    account, teams = "222233334444", ("batch-team-a", "batch-team-b")
    whose = [CallLabels(account, "eu-west-1", name) for name in teams]
    keys = [
        ObjectMetricKey("team", "eu-west-1", Phase.RUNNING, role=f"arn:aws:iam::{account}:role/{name}")
        for name in teams
    ]
    metrics.observe(lambda: dict.fromkeys(keys, 2), {})
    for at, one in enumerate(whose):
        metrics.aws_request("DescribeJobs", "OK", 0.1, one)
        metrics.polled(float(at), one)
    place = {"account": account, "region": "eu-west-1"}
    called = {"operation": "DescribeJobs", "code": "OK", **place}
    assert value(metrics, "live_jobs", **place) == 4
    assert value(metrics, "aws_requests_total", **called) == 2
    assert value(metrics, "last_successful_poll_timestamp_seconds", **place) == 1
    assert b"role=" not in generate_latest(metrics.registry)
    metrics.forget(whose[0])
    assert value(metrics, "aws_requests_total", **called) == 2
    assert value(metrics, "last_successful_poll_timestamp_seconds", **place) == 1
    metrics.forget(whose[1])
    assert value(metrics, "aws_requests_total", **called) is None
    assert value(metrics, "last_successful_poll_timestamp_seconds", **place) is None
