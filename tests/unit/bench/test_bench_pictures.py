"""bench/*.svg shows the figures that lie beside it."""

import json
from pathlib import Path

from bench import cost_report, events_report
from bench.plot import draw

BENCH = Path(__file__).parents[3] / "bench"


def test_cost_svg_is_drawn_from_cost_json() -> None:
    found = json.loads((BENCH / "cost.json").read_text("utf-8"))
    points = [cost_report.Point.read(point) for point in found["points"]]
    drawn = draw(cost_report.sheet(points, found["machine"], found["day"]))
    assert (BENCH / "cost.svg").read_text("utf-8") == drawn, "run: make bench-cost ARGS=--redraw"


def test_events_svg_is_drawn_from_events_json() -> None:
    found = json.loads((BENCH / "events.json").read_text("utf-8"))
    points = [events_report.Point.read(point) for point in found["points"]]
    drawn = draw(events_report.sheet(points, found["machine"], found["day"]))
    assert (BENCH / "events.svg").read_text("utf-8") == drawn, "run: make bench-events ARGS=--redraw"
