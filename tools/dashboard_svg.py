"""Draws the panels of a Grafana dashboard as one SVG that reads on a light and on a dark page.

The layout, titles, units, colours and thresholds are those of the dashboard's JSON; the values are a recording.
"""

import math
import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Any, Final

Panel = dict[str, Any]
Values = Sequence[float | None]
Series = tuple[str, Values]
Point = tuple[float, float]

_COLUMN, _ROW, _GAP = 46, 28, 6
_EDGE, _HEAD = 10, 52
_RIGHT, _TOP, _AXIS = 14, 36, 18
"""The margins of a chart inside its panel, and the height of the labels of its time axis."""
_LEGEND, _LEGEND_ROWS = 15, 3
_CHARACTER: Final = 6.6
"""Average width of a character of the small text."""
_NAMED: Final = {
    "green": "c0", "yellow": "c1", "blue": "c2", "orange": "c3", "red": "c4", "purple": "c5", "dark-red": "c7",
    "text": "c8",
}  # fmt: skip
_CLASSIC: Final = 8
_COLORS: Final = ("3f9a45", "d9a400", "3274d9", "f0730a", "d92e44", "9a4bc4", "0f93a8", "8f1d1d")
_STYLE: Final = (
    """
text { font: 11px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328 }
.page { fill: #f4f5f5 } .panel { fill: #ffffff; stroke: #dfe2e5 } .grid { stroke: #e4e7ea }
.title { font-size: 11.5px; font-weight: 600 } .narrow { font-size: 10.3px }
.big { font-size: 17px; font-weight: 600 } .small { fill: #59636e }
.stat { font-weight: 700 } .line { stroke-width: 1.3; stroke-linejoin: round }
.limit { stroke: #d92e44; stroke-dasharray: 5 4 } .c8 { stroke: #6e7781; fill: #6e7781 } .stat.c8 { fill: #1f2328 }
"""
    + "".join(f".c{n} {{ stroke: #{color}; fill: #{color} }} " for n, color in enumerate(_COLORS))
    + """
text.stat, path.area { stroke: none } path.line { fill: none }
@media (prefers-color-scheme: dark) {
  text, .stat.c8 { fill: #ccccdc } .page { fill: #111217 } .panel { fill: #181b1f; stroke: #2c3036 }
  .grid { stroke: #2c3036 } .small { fill: #9198a1 } .c8 { stroke: #9198a1; fill: #9198a1 }
}
"""
)


def draw(dashboard: dict[str, Any], recording: dict[str, Any]) -> str:
    """The whole SVG document. `recording` as dashboard_run makes it."""
    height = _HEAD + _EDGE + max((one["gridPos"]["y"] + one["gridPos"]["h"]) * _ROW for one in dashboard["panels"])
    width = 24 * _COLUMN + 2 * _EDGE - _GAP
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    name = escape(dashboard["title"], quote=True)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="Dashboard {name}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="6"/>',
        _text(_EDGE + 4, 32, dashboard["title"], "big"),
    ]
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        left, top = _EDGE + place["x"] * _COLUMN, _HEAD + place["y"] * _ROW
        drawn.append(f'<g transform="translate({left},{top})">')
        if panel["type"] == "row":
            drawn.append(_text(4, _ROW - 8, f"▾ {panel['title']}", "title"))
        else:
            found = recording["panels"][str(panel["id"])]["series"]
            series = [(one["name"], one["values"]) for one in found]
            drawn += _Frame(panel, recording["length"], recording["step"]).draw(series)
        drawn.append("</g>")
    return "\n".join((*drawn, "</svg>\n"))


class _Frame:
    def __init__(self, panel: Panel, length: int, step: int) -> None:
        self._panel, self._length, self._step = panel, length, step
        self._left, self._low, self._high, self._log = 0, 0.0, 1.0, False
        self._width: int = panel["gridPos"]["w"] * _COLUMN - _GAP
        self._height: int = panel["gridPos"]["h"] * _ROW - _GAP
        self._defaults = panel["fieldConfig"]["defaults"]
        self._custom = self._defaults.get("custom", {})
        self._unit = self._defaults["unit"]

    def draw(self, series: Sequence[Series]) -> Iterator[str]:
        yield f'<rect class="panel" x="0.5" y="0.5" width="{self._width - 1}" height="{self._height - 1}" rx="3"/>'
        small = 7.4 * len(self._panel["title"]) > self._width - 10
        yield _text(9, 19, self._panel["title"], "title narrow" if small else "title")
        yield from self._stat(series) if self._panel["type"] == "stat" else self._chart(series)

    # -- one value --------------------------------------------------------------------------------------------------

    def _stat(self, series: Sequence[Series]) -> Iterator[str]:
        """The last value of each series that has one."""
        last = [(name, values[-1]) for name, values in series if values[-1] is not None]
        middle, rows = self._width / 2, max(len(last), 1)
        named = rows > 1
        for number, (name, value) in enumerate(last):
            text = name if self._panel["options"]["textMode"] == "name" else self._formatted(value or 0.0)
            size = 15 if len(text) > 8 else 15 if named else 24
            y = 24 + (self._height - 30) * (number + 0.5) / rows + size / 3
            where = f'x="{middle if not named else 9}" y="{y:.0f}"' + ("" if named else ' text-anchor="middle"')
            color = self._threshold_color(value or 0.0)
            yield f'<text {where} class="stat {color}" style="font-size:{size}px">{escape(text)}</text>'
            if named:
                yield _text(44, round(y), _fitted(name.split()[-1], self._width - 50), "small")
        if not last:
            yield _text(middle, self._height / 2 + 14, self._defaults.get("noValue", "no data"), "small", "middle")

    def _threshold_color(self, value: float) -> str:
        steps = self._defaults["thresholds"]["steps"]
        return _NAMED[[step for step in steps if step["value"] is None or value >= step["value"]][-1]["color"]]

    def _formatted(self, value: float) -> str:
        return _with_unit(value, self._unit, self._defaults.get("decimals"))

    # -- values over time -------------------------------------------------------------------------------------------

    def _chart(self, series: Sequence[Series]) -> Iterator[str]:
        shown = [(name or "value", values) for name, values in series if any(value is not None for value in values)]
        legend = self._legend(sorted(range(len(shown)), key=lambda one: not any(shown[one][1])), shown)
        rows = max((row for row, _, _ in legend), default=0) + 1
        bottom = self._height - 10 - _LEGEND * rows - _AXIS
        stacked = self._custom["stacking"]["mode"] == "normal"
        curves = _stacked(shown) if stacked else [(name, [0.0] * len(values), values) for name, values in shown]
        yield from self._axes(curves, bottom)
        if not shown:
            middle = (self._width + self._left - _RIGHT) / 2
            yield _text(middle, (bottom + _TOP) / 2 + 4, "no data", "small", "middle")
        for number, (name, below, values) in reversed(list(enumerate(curves))):
            yield from self._curve(self._color(name, number), below, values, bottom)
        for row, x, number in legend:
            y = self._height - 12 - _LEGEND * (rows - 1 - row)
            yield f'<path class="{self._color(shown[number][0], number)}" d="M{x} {y - 4}h11" stroke-width="2.5"/>'
            yield _text(x + 15, y, self._fitted(shown[number][0]), "small")

    def _color(self, name: str, number: int) -> str:
        for override in self._panel["fieldConfig"]["overrides"]:
            if override["matcher"]["options"] == name:
                return _NAMED[override["properties"][0]["value"]["fixedColor"]]
        return f"c{number % _CLASSIC}"

    def _legend(self, order: Sequence[int], shown: Sequence[Series]) -> list[tuple[int, int, int]]:
        """Row, left edge and number of each entry; those beyond the last row have none, as where Grafana scrolls."""
        placed: list[tuple[int, int, int]] = []
        row, x = 0, 9.0
        for number in order:
            width = 15 + _CHARACTER * len(self._fitted(shown[number][0]))
            if x > 9 and x + width > self._width - 4:
                row, x = row + 1, 9.0
            if row == _LEGEND_ROWS:
                break
            placed.append((row, round(x), number))
            x += width + 12
        return placed

    def _fitted(self, name: str) -> str:
        return _fitted(name, self._width - 34)

    def _axes(self, curves: Sequence[tuple[str, Values, Values]], bottom: float) -> Iterator[str]:
        found = [value for _, _, values in curves for value in values if value is not None]
        self._log = "scaleDistribution" in self._custom
        self._low, self._high, ticks = _scale(found, self._defaults, self._custom, log=self._log)
        labels = [_with_unit(tick, self._unit, None) for tick in ticks]
        self._left, right = round(14 + _CHARACTER * max(map(len, labels))), self._width - _RIGHT
        for tick, label in zip(ticks, labels, strict=True):
            y = self._y(tick, bottom)
            yield f'<path class="grid" d="M{self._left} {y}H{right}"/>'
            yield _text(self._left - 6, y + 4, label, "small", "end")
        for minute in range(0, self._length // 60 + 1, 2):
            yield _text(self._x(60 * minute / self._step), bottom + _AXIS - 2, f"{minute} min", "small", "middle")
        if self._custom.get("thresholdsStyle"):
            for step in self._defaults["thresholds"]["steps"]:
                if step["value"] is not None and step["value"] <= self._high:
                    yield f'<path class="limit" d="M{self._left} {self._y(step["value"], bottom)}H{right}"/>'

    def _x(self, number: float) -> float:
        share = number * self._step / self._length
        return round(self._left + (self._width - self._left - _RIGHT) * share, 1)

    def _y(self, value: float, bottom: float) -> float:
        if self._log:
            share = math.log(max(value, self._low) / self._low) / math.log(self._high / self._low)
        else:
            share = (value - self._low) / (self._high - self._low)
        return round(bottom - (bottom - _TOP) * min(share, 1.0), 1)

    def _curve(self, color: str, below: Values, values: Values, bottom: float) -> Iterator[str]:
        """A line, and the area below it, for each stretch without a gap."""
        stepped = self._custom["lineInterpolation"] == "stepAfter"
        opacity = self._custom["fillOpacity"] / 100
        for stretch in _stretches(values):
            upper = self._points([(n, values[n] or 0.0) for n in stretch], bottom, stepped=stepped)
            if opacity:
                lower = self._points([(n, below[n] or 0.0) for n in stretch], bottom, stepped=stepped)
                area = _path([*upper, *reversed(lower)])
                yield f'<path class="area {color}" fill-opacity="{opacity:g}" d="{area}z"/>'
            yield f'<path class="line {color}" d="{_path(upper)}"/>'

    def _points(self, points: Sequence[Point], bottom: float, *, stepped: bool) -> list[Point]:
        """Without those between two of the same height."""
        placed: list[Point] = []
        for number, value in points:
            x, y = self._x(number), self._y(value, bottom)
            if stepped and placed and placed[-1][1] != y:
                placed.append((x, placed[-1][1]))
            if len(placed) > 1 and placed[-1][1] == y == placed[-2][1]:
                placed.pop()
            placed.append((x, y))
        return placed


def _path(points: Sequence[Point]) -> str:
    """Relative from point to point, which is shorter."""
    steps = [f"{x - was_x:.1f} {y - was_y:.1f}" for (was_x, was_y), (x, y) in pairwise(points)]
    path = f"m{points[0][0]:g} {points[0][1]:g} {' '.join(steps)}".replace(".0", "")
    return re.sub(r"\b0\.", ".", path).replace(" -", "-")


def _stretches(values: Values) -> Iterator[range]:
    """The numbers of neighbouring values that are not None."""
    edges = [-1, *(number for number, value in enumerate(values) if value is None), len(values)]
    yield from (range(before + 1, after) for before, after in pairwise(edges) if after - before > 1)


def _stacked(series: Sequence[Series]) -> list[tuple[str, Values, Values]]:
    """Each with what lies below it."""
    found: list[tuple[str, Values, Values]] = []
    below = [0.0] * max((len(values) for _, values in series), default=0)
    for name, values in series:
        above = [under + (value or 0.0) for under, value in zip(below, values, strict=True)]
        found.append((name, below, above))
        below = above
    return found


def _scale(
    values: Sequence[float], defaults: dict[str, Any], custom: dict[str, Any], *, log: bool
) -> tuple[float, float, list[float]]:
    """The ends of the vertical axis, and its ticks."""
    if log:
        positive = [value for value in values if value > 0] or [0.001, 1.0]
        first, last = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
        last += first == last
        return 10.0**first, 10.0**last, [10.0**n for n in range(first, last + 1, 1 + (last - first > 4))]
    high = max([*values, custom.get("axisSoftMax", 0.0)]) or 1.0
    step = 10.0 ** math.floor(math.log10(high / 3))
    step *= next(factor for factor in (1, 2, 5, 10) if high / (step * factor) <= 4)
    if defaults["unit"] == "bytes":
        step = 2.0 ** math.ceil(math.log2(high / 4))
    most = defaults.get("max", step * math.ceil(high / step - 1e-9))
    return 0.0, most, [step * n for n in range(round(most // step) + 1)]


_SUFFIXES: Final = {"reqps": " req/s", "wps": " w/s", "short": "", "none": ""}


def _with_unit(value: float, unit: str, decimals: int | None) -> str:
    if unit == "percentunit":
        return f"{100 * value:.{decimals}f}%" if decimals is not None else f"{100 * value:.3g}%"
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB" if value else "0"
    if unit == "s":
        for factor, name in ((60, "min"), (1, "s"), (0.001, "ms"), (1e-6, "µs")):
            if value >= factor * (1 if factor < 60 else 2):
                return f"{value / factor:.0f} {name}" if decimals == 0 else f"{value / factor:.3g} {name}"
        return "0 s"
    return f"{value:.3g}{_SUFFIXES[unit]}"


def _fitted(text: str, width: float) -> str:
    most = int(width / _CHARACTER)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    at = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}" class="{kind}"{at}>{escape(text, quote=False)}</text>'
