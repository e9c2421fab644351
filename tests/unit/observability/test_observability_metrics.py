import asyncio

import pytest
from prometheus_client import generate_latest

from awsbatch_operator import __version__
from awsbatch_operator.domain.ports import Telemetry
from awsbatch_operator.observability.metrics import Metrics

CONTRACT = {
    "jobs",
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


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"awsbatch_operator_{name}", labels)


def test_the_names_are_those_of_the_contract(metrics: Metrics) -> None:
    metrics.ask(lambda: {("team-a", "Running"): 3}, lambda: 0, {"look": lambda: 0})
    page = generate_latest(metrics.registry).decode()
    families = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE awsbatch_operator_")}
    assert families == {f"awsbatch_operator_{name}" for name in CONTRACT | {"build_info"}}
    assert "_created" not in page


def test_it_is_the_engines_port_and_each_figure_has_its_place(metrics: Metrics) -> None:
    port: Telemetry = metrics
    port.aws_request("DescribeJobs", "OK", 0.2)
    port.aws_request("DescribeJobs", "TooManyRequestsException", 0.1)
    port.describe_batch(100)
    port.terminate_batch(50)
    port.looked("eu-west-1", 1_795_428_000.5)
    port.termination_accepted(0.02)
    port.termination_completed(90)
    port.status_write("written")
    port.leading(yes=True)
    port.queue_depth("terminate", 7)
    assert value(metrics, "aws_requests_total", operation="DescribeJobs", code="OK") == 1
    assert value(metrics, "aws_requests_total", operation="DescribeJobs", code="TooManyRequestsException") == 1
    assert value(metrics, "aws_request_seconds_sum", operation="DescribeJobs") == pytest.approx(0.3)
    assert value(metrics, "describe_batch_size_bucket", le="50.0") == 0
    assert value(metrics, "describe_batch_size_bucket", le="100.0") == 1
    assert value(metrics, "terminate_batch_size_bucket", le="50.0") == 1
    assert value(metrics, "last_successful_look_timestamp_seconds", region="eu-west-1") == 1_795_428_000.5
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


def test_jobs_and_terminations_are_asked_at_each_scrape(metrics: Metrics) -> None:
    census = {("team-a", "Running"): 3}
    under_way = [1]
    metrics.ask(lambda: census, lambda: under_way[0], {"look": lambda: 10 * under_way[0]})
    assert value(metrics, "jobs", namespace="team-a", phase="Running") == 3
    census.clear()
    census["team-b", "Failed"] = 1
    assert value(metrics, "queue_depth", lane="look") == 10
    under_way[0] = 5
    assert value(metrics, "queue_depth", lane="look") == 50
    assert value(metrics, "jobs", namespace="team-a", phase="Running") is None
    assert value(metrics, "jobs", namespace="team-b", phase="Failed") == 1
    assert value(metrics, "terminations_in_progress") == 5


def test_two_of_them_do_not_meet() -> None:
    first, second = Metrics(), Metrics()
    first.status_write("written")
    assert value(second, "status_writes_total", result="written") is None


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
