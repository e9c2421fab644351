import json
from dataclasses import asdict, replace

from bench.cost_report import Cost, Point, rows, sheet, table
from bench.measures import Sync
from bench.plot import Panel
from bench.process import Memory
from bench.rounds import Steady

MACHINE = {"cores": "2", "processor": "AMD EPYC"}


def cost(objects: int, *, cpu: float, resident: float, last: float, seconds: float = 30.0) -> Cost:
    rounds = Steady(seconds, cpu, calls=objects // 100, polls=objects, writes=0, objects=objects)
    return Cost(Sync(1.0, last), rounds, Memory(resident, resident, resident))


def point(objects: int, ours: Cost, naive: Cost | None = None) -> Point:
    return Point(objects, "v1.36.2", 0.1, 100.0, Sync(0.1, 0.002 * objects), ours, naive)


POINTS = [
    point(100, cost(100, cpu=0.1, resident=90.0, last=1.5), cost(100, cpu=2.0, resident=95.0, last=2.5)),
    point(1000, cost(1000, cpu=0.5, resident=95.0, last=3.0)),
    point(30_000, cost(30_000, cpu=10.0, resident=240.0, last=91.0, seconds=60.0)),
]


def panel(title: str) -> Panel:
    return next(one for one in sheet(POINTS, MACHINE, "2026-11-25").panels if one.title.startswith(title))


def test_a_row_shows_the_cost_of_one_job() -> None:
    # 0.5 % of 30 s for 1,000 polls; 5 MiB for 900 jobs more; from the first status to the last 2 s.
    assert rows(POINTS)[1] == ("1,000", "150 µs", "5.7 KiB", "1.00", "30 s", "2.00 ms", "1.50x")


def test_the_base_cost_is_not_the_cost_of_a_job() -> None:
    assert rows(POINTS)[0][2] == "-"


def test_a_round_that_the_budget_slows_is_shown() -> None:
    assert rows(POINTS)[2][4] == "60 s"
    assert rows(POINTS)[2][1] == "200 µs"


def test_a_window_without_polls_has_no_cost_of_a_poll() -> None:
    blind = cost(100, cpu=0.1, resident=90.0, last=1.5)
    blind = replace(blind, rounds=replace(blind.rounds, polls=0, calls=0))
    assert rows([point(100, blind)])[0][1:5] == ("-", "-", "-", "-")


def test_the_naive_operator_has_no_points_where_it_was_not_measured() -> None:
    lines = {line.kind: list(line.points) for line in panel("CPU").lines}
    assert lines["naive"] == [(100, 2.0)]
    assert lines["ours"] == [(100, 0.1), (1000, 0.5), (30_000, 10.0)]


def test_targets_are_shown_only_for_numbers_that_were_measured() -> None:
    assert list(panel("CPU").targets) == [(1000.0, 1.0)]
    assert list(panel("Memory").targets) == []


def test_the_bare_client_is_shown_for_the_first_sync_only() -> None:
    assert [line.kind for line in panel("First sync").lines] == ["bare", "naive", "ours"]
    assert [line.kind for line in panel("Memory").lines] == ["naive", "ours"]


def test_saved_figures_are_read_unchanged() -> None:
    assert [Point.read(json.loads(json.dumps(asdict(one)))) for one in POINTS] == POINTS


def test_the_terminal_gets_the_table_of_the_picture() -> None:
    assert len(table(POINTS).splitlines()) == 2 + len(POINTS)
    assert "200 µs" in table(POINTS)
