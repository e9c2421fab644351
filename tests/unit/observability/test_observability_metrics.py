import asyncio
from collections.abc import Mapping

import pytest
from prometheus_client import generate_latest

from awsbatch_operator import __version__
from awsbatch_operator.domain.ports import Telemetry, Whose
from awsbatch_operator.domain.record import Phase, Standing
from awsbatch_operator.engine.writes import _RESULTS
from awsbatch_operator.observability.metrics import Metrics

CONTRACT = {
    "jobs",
    "live_jobs",
    "stalled",
    "aws_requests_total",
    "aws_request_seconds",
    "describe_batch_size",
    "terminate_batch_size",
    "termination_request_seconds",
    "termination_completion_seconds",
    "terminations_in_progress",
    "status_writes_total",
    "last_successful_look_timestamp_seconds",
    "leader",
    "queue_depth",
    "event_loop_lag_seconds",
}
RUNNING = Standing("team-a", "eu-west-1", Phase.RUNNING)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"awsbatch_operator_{name}", labels)


def test_the_names_are_those_of_the_contract(metrics: Metrics) -> None:
    metrics.ask(lambda: {RUNNING: 3}, {"look": lambda: 0})
    page = generate_latest(metrics.registry).decode()
    families = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE awsbatch_operator_")}
    assert families == {f"awsbatch_operator_{name}" for name in CONTRACT | {"build_info"}}
    assert "_created" not in page


def test_it_is_the_engines_port_and_each_figure_has_its_place(metrics: Metrics) -> None:
    port: Telemetry = metrics
    whose = Whose("111122223333", "eu-west-1", "batch-team-a")
    labels = whose._asdict()
    port.aws_request("DescribeJobs", "OK", 0.2, whose)
    port.aws_request("DescribeJobs", "TooManyRequestsException", 0.1, whose)
    port.describe_batch(100)
    port.terminate_batch(50)
    port.looked(1_795_428_000.5, whose)
    port.termination_accepted(0.02)
    port.termination_completed(90)
    port.status_write("written")
    port.leading(yes=True)
    port.queue_depth("terminate", 7)
    assert value(metrics, "aws_requests_total", operation="DescribeJobs", code="OK", **labels) == 1
    assert (
        value(metrics, "aws_requests_total", operation="DescribeJobs", code="TooManyRequestsException", **labels) == 1
    )
    assert value(metrics, "aws_request_seconds_sum", operation="DescribeJobs", **labels) == pytest.approx(0.3)
    assert value(metrics, "describe_batch_size_bucket", le="50.0") == 0
    assert value(metrics, "describe_batch_size_bucket", le="100.0") == 1
    assert value(metrics, "terminate_batch_size_bucket", le="50.0") == 1
    assert value(metrics, "last_successful_look_timestamp_seconds", **labels) == 1_795_428_000.5
    assert value(metrics, "termination_request_seconds_bucket", le="0.025") == 1
    assert value(metrics, "termination_completion_seconds_bucket", le="60.0") == 0
    assert value(metrics, "termination_completion_seconds_bucket", le="120.0") == 1
    assert value(metrics, "status_writes_total", result="written") == 1
    assert value(metrics, "leader") == 1
    assert value(metrics, "queue_depth", lane="terminate") == 7
    port.leading(yes=False)
    assert value(metrics, "leader") == 0


def test_the_buckets_of_a_termination_reach_from_5_ms_to_60_s_and_from_1_s_to_1_h(metrics: Metrics) -> None:
    for name, least, most in (("request", "0.005", "60.0"), ("completion", "1.0", "3600.0")):
        assert value(metrics, f"termination_{name}_seconds_bucket", le=least) == 0
        assert value(metrics, f"termination_{name}_seconds_bucket", le=most) == 0


def test_objects_and_queues_are_counted_at_each_scrape(metrics: Metrics) -> None:
    census = {RUNNING: 3}
    due = [10]
    metrics.ask(lambda: census, {"look": lambda: due[0]})
    assert value(metrics, "jobs", namespace="team-a", phase="Running") == 3
    assert value(metrics, "queue_depth", lane="look") == 10
    assert value(metrics, "terminations_in_progress") == 0
    census.clear()
    census[Standing("team-b", "us-east-1", Phase.FAILED)] = 1
    due[0] = 50
    assert value(metrics, "queue_depth", lane="look") == 50
    assert value(metrics, "jobs", namespace="team-a", phase="Running") is None
    assert value(metrics, "jobs", namespace="team-b", phase="Failed") == 1
    assert value(metrics, "live_jobs", account="", region="us-east-1", role="") == 0


def test_one_census_gives_the_jobs_the_terminations_and_who_needs_a_person(metrics: Metrics) -> None:
    censuses = []
    census = {
        RUNNING: 3,
        RUNNING._replace(stalled="AccessDenied"): 2,
        RUNNING._replace(phase=Phase.TERMINATING): 5,
        RUNNING._replace(phase=Phase.TERMINATING, stalled="TerminationStuck"): 1,
        RUNNING._replace(region="us-east-1", stalled="AccessDenied"): 4,
        RUNNING._replace(region="sa-east-1", phase=Phase.MISSING): 2,
        RUNNING._replace(role="arn:aws:iam::111122223333:role/teams/a"): 7,
        RUNNING._replace(role="arn:aws:iam::444455556666:role/teams/a", stalled="AccessDenied"): 8,
    }

    def taken() -> Mapping[Standing, int]:
        censuses.append(1)
        return census

    metrics.ask(taken, {})
    assert not censuses
    shown = {
        (sample.name.removeprefix("awsbatch_operator_"), *sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }
    assert len(censuses) == 1
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


def test_writes_are_counted_from_0_on(metrics: Metrics) -> None:
    outcomes = {result: value(metrics, "status_writes_total", result=result) for result in _RESULTS.values()}
    assert set(outcomes.values()) == {0}
    page = generate_latest(metrics.registry).decode()
    assert page.count("awsbatch_operator_status_writes_total{") == len(outcomes)


def test_two_of_them_do_not_meet() -> None:
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


def test_where_nobody_looks_any_more_no_age_is_shown(metrics: Metrics) -> None:
    here, there = Whose("", "eu-west-1", ""), Whose("111122223333", "eu-west-1", "batch-team-a")
    for whose in (here, there):
        metrics.looked(7.0, whose)
        metrics.aws_request("DescribeJobs", "OK", 0.1, whose)
    metrics.unused(there)
    metrics.unused(Whose("", "us-east-1", ""))
    assert value(metrics, "last_successful_look_timestamp_seconds", **there._asdict()) is None
    assert value(metrics, "last_successful_look_timestamp_seconds", **here._asdict()) == 7
    assert value(metrics, "aws_requests_total", operation="DescribeJobs", code="OK", **there._asdict()) == 1


def test_of_a_place_that_is_forgotten_no_series_is_left(metrics: Metrics) -> None:
    here, there = Whose("111122223333", "eu-west-1", ""), Whose("111122223333", "xx-wild-1", "")
    for whose in (here, there):
        metrics.aws_request("DescribeJobs", "OK", 0.1, whose)
        metrics.aws_request("TerminateJob", "EndpointConnectionError", 0.1, whose)
        metrics.looked(1.0, whose)
    metrics.forgotten(there)
    metrics.forgotten(there)
    regions = [
        sample.labels["region"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if "region" in sample.labels
    ]
    assert set(regions) == {"eu-west-1"}
