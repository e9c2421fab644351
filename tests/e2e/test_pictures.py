"""docs/pictures shows what kubectl and the dashboard show today. tests/e2e/test_commands.py compares demo.svg."""

import json
import re
from typing import Final

from dashboard_run import DASHBOARD, queries
from pictures import PICTURES, RECORDING, comparable, record_kubectl_get, redraw, shown

PANELS: Final = [panel for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"] if panel["type"] != "row"]


def test_the_cast_of_the_demo_is_short_and_needs_no_script() -> None:
    cast = (PICTURES / "demo.svg").read_text("utf-8")
    assert max(float(length) for length in re.findall(r"animation: t\d+ ([\d.]+)s", cast)) <= 25
    assert len(cast) < 60 * 1024
    assert "<script" not in cast


def test_kubectl_get_shows_what_the_picture_shows() -> None:
    today = comparable(line.plain for line in record_kubectl_get())
    assert comparable(shown(PICTURES / "kubectl-get.svg")) == today, "run: python tools/pictures.py kubectl-get"


def test_the_picture_of_the_dashboard_has_its_titles_and_layout() -> None:
    drawn = (PICTURES / "dashboard.svg").read_text("utf-8")
    assert drawn == redraw(), "run: python tools/pictures.py redraw"


def test_the_values_in_the_picture_of_the_dashboard_answer_its_queries() -> None:
    recorded = json.loads(RECORDING.read_text("utf-8"))["panels"]
    answered = {number: panel["queries"] for number, panel in recorded.items()}
    assert answered == {str(panel["id"]): queries(panel) for panel in PANELS}, "run: python tools/pictures.py dashboard"
