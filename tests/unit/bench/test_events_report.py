from dataclasses import asdict, replace

from bench.events_report import Point, completed, missed, rows, sheet
from bench.measures import Latency

MACHINE = {"cores": "2", "processor": "AMD EPYC"}
EVENTS = Point(
    10_000,
    "events",
    "v1.36.2",
    load=0.5,
    ends=300,
    latency=Latency(40.0, 90.0, 120.0),
    window=300.0,
    calls={"DescribeJobs": 20.0, "ReceiveMessage": 4.0, "DeleteMessageBatch": 1.0, "PutEvents": 1.0},
)
POLLS = replace(
    EVENTS,
    way="polls",
    latency=Latency(15_000.0, 29_900.0, 30_100.0),
    calls={"DescribeJobs": 200.0, "PutEvents": 1.0},
)


def test_a_row_shows_calls_a_minute_and_seconds_until_an_end_is_shown() -> None:
    assert rows([EVENTS]) == [("10,000", "events", "20.0", "0.0", "6.0", "0.04 s", "0.09 s", "0.12 s")]


def test_canaries_of_the_region_without_events_are_not_those_of_polls() -> None:
    assert rows([POLLS])[0][4] == "0.0"


def test_a_missing_figure_is_a_dash() -> None:
    assert rows([replace(EVENTS, latency=None, calls=None)])[0][2:] == ("-",) * 6


def test_only_events_have_targets() -> None:
    assert missed([EVENTS, POLLS]) == []
    slow = replace(EVENTS, latency=Latency(600.0, 1900.0, 2000.0), calls={"DescribeJobs": 30.0})
    assert missed([slow]) == ["events, 10,000 jobs: p50 0.60 > 0.5", "events, 10,000 jobs: describes 30.00 > 25"]


def test_the_target_for_calls_is_that_of_10000_jobs() -> None:
    assert missed([replace(EVENTS, objects=100_000, calls={"DescribeJobs": 200.0})]) == []


def test_calls_of_100000_jobs_follow_from_intervals_and_budget() -> None:
    found = {point.way: point for point in completed([EVENTS, POLLS]) if point.calculated}
    # 1,000 calls a round: every five minutes with events; 200 s long within five calls a second without.
    assert found["events"].describes == 200.0
    assert found["events"].seconds("p99") == 0.09
    assert found["polls"].describes == 300.0
    assert found["polls"].seconds("p50") == 100.0


def test_lists_need_a_tenth_of_the_polls_beside_them_and_with_events_a_third() -> None:
    lists, both = completed([replace(POLLS, way="lists"), replace(EVENTS, way="both")])[-2:]
    # 100 lists and 100 polls in 40 s; 100 lists and 333 polls in five minutes.
    assert (lists.lists, lists.describes, lists.seconds("p50")) == (150.0, 150.0, 20.0)
    assert (both.lists, round(both.describes)) == (20.0, 67)


def test_a_measured_number_is_not_calculated_again() -> None:
    measured = replace(EVENTS, objects=100_000)
    assert completed([EVENTS, measured]) == [EVENTS, measured]


def test_calls_are_calculated_beside_times_that_were_measured() -> None:
    timed = replace(EVENTS, objects=100_000, latency=Latency(200.0, 500.0, 600.0), calls=None)
    row = rows(completed([EVENTS, timed]))[-1]
    assert row == ("100,000", "events", "200.0*", "0.0*", "6.0*", "0.20 s", "0.50 s", "0.60 s")


def test_the_picture_marks_what_was_calculated() -> None:
    panel = sheet([EVENTS, POLLS], MACHINE, "2026-11-30").panels[0]
    lines = {line.kind: line for line in panel.lines if line.points}
    assert lines["events"].points == [(10_000, 20.0), (100_000, 200.0)]
    assert list(lines["events"].pale) == [100_000]


def test_a_point_is_read_as_it_was_written() -> None:
    assert Point.read(asdict(EVENTS)) == EVENTS
