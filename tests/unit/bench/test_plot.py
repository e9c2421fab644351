import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from bench.plot import Line, Panel, Sheet, draw, steps

OURS = Line("ours", [(100.0, 2.0), (1000.0, 20.0), (10_000.0, 200.0)])
PANEL = Panel("AWS calls a minute", "live jobs", [OURS], targets=[(1000.0, 20.0)])
SHEET = Sheet("Cost & N", "two cores", [("ours", "ours")], [PANEL], "a job", [("jobs", "cost"), ("100", "1 < 2")])
SVG = "{http://www.w3.org/2000/svg}"


def dots(sheet: Sheet) -> list[tuple[float, float]]:
    return [
        (float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in ET.fromstring(draw(sheet)).iter(f"{SVG}circle")
    ]


def texts(sheet: Sheet) -> list[str]:
    return [text.text or "" for text in ET.fromstring(draw(sheet)).iter(f"{SVG}text")]


def with_lines(*lines: Line) -> Sheet:
    return Sheet("t", "s", [], [Panel("p", "live jobs", lines)], "c", [])


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (96.0, 240.0, [50, 100, 200, 500]),
        (100.0, 200.0, [100, 200]),
        (1.0, 1.0, [1, 2]),
        (0.15, 26.0, [0.1, 1, 10, 100]),
        (2.0, 6000.0, [1, 10, 100, 1000, 10_000]),
        (0.7, 0.9, [0.5, 1]),
    ],
)
def test_ticks_enclose_what_is_shown_in_steps_that_are_read_at_a_glance(
    low: float, high: float, ticks: list[float]
) -> None:
    assert steps(low, high) == pytest.approx(ticks)


def test_equal_factors_are_equal_distances() -> None:
    (x1, y1), (x2, y2), (x3, y3) = dots(SHEET)
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.2)
    assert x1 < x2
    assert y1 > y2, "more is further up"


def test_a_target_lies_at_its_value() -> None:
    _, (x, y), _ = dots(SHEET)
    target = re.search(r'class="target" d="M([\d.]+) ([\d.]+)h22"', draw(SHEET))
    assert target is not None
    assert (float(target[1]) + 11, float(target[2])) == (x, y)


def test_axes_carry_their_labels_and_what_they_measure() -> None:
    found = texts(SHEET)
    assert {"AWS calls a minute", "live jobs", "100", "1,000", "10,000", "10"} <= set(found)


def test_the_table_is_in_the_picture_with_any_characters() -> None:
    assert {"Cost & N", "a job", "jobs", "cost", "1 < 2"} <= set(texts(SHEET))


def test_zero_is_not_on_a_logarithmic_axis() -> None:
    assert len(dots(with_lines(Line("ours", [(100.0, 0.0), (1000.0, 20.0)])))) == 1
    assert dots(with_lines(Line("ours", [(100.0, 0.0), (1000.0, 0.0)]))) == []


def test_one_number_alone_is_in_the_middle_of_its_axis() -> None:
    ((x, _),) = dots(with_lines(Line("ours", [(1000.0, 20.0)])))
    (x1, _), _, (x3, _) = dots(SHEET)
    assert x == pytest.approx((x1 + x3) / 2, abs=0.1)


def test_only_the_points_that_are_named_are_pale() -> None:
    svg = draw(with_lines(Line("events", [(100.0, 2.0), (1000.0, 20.0)], pale=[1000.0])))
    assert [dot.attrib["class"] for dot in ET.fromstring(svg).iter(f"{SVG}circle")] == ["dot events", "dot events pale"]


def test_all_that_is_drawn_lies_within_the_picture() -> None:
    root = ET.fromstring(draw(with_lines(OURS, Line("naive", [(100.0, 900.0), (1000.0, 9000.0)]))))
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    for dot in root.iter(f"{SVG}circle"):
        assert 0 < float(dot.attrib["cx"]) < width
        assert 0 < float(dot.attrib["cy"]) < height


def test_each_class_that_is_used_has_a_style_for_light_and_for_dark() -> None:
    light, dark = draw(SHEET).split("@media (prefers-color-scheme: dark)")
    for kind in (
        ".line.ours",
        ".dot.ours",
        ".line.naive",
        ".line.bare",
        ".line.both",
        ".dot.events",
        ".paper",
        ".target",
        ".grid",
        "text",
    ):
        assert f"{kind} {{" in light
        assert f"{kind} {{" in dark


def test_a_long_heading_of_the_table_does_not_reach_its_neighbour() -> None:
    heading = ("jobs", "mode", "DescribeJobs", "ListJobs", "SQS, EventBridge", "shown after, p50", "p99", "max")
    found = ET.fromstring(draw(Sheet("t", "s", [], [PANEL], "c", [heading, ("1",) * len(heading)])))
    ends = {text.text: float(text.attrib["x"]) for text in found.iter(f"{SVG}text")}
    for before, after in pairwise(heading):
        assert ends[after] - 7 * len(after) > ends[before]
