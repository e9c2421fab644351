"""Small multiples on two logarithmic axes and a table, as an SVG that reads on a light and on a dark page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from typing import Final

WIDTH: Final = 840
_PANEL: Final = (420, 236)
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 32, 40, 48
"""The margins of a panel around its axes."""
_HEAD: Final = 76
_ROW: Final = 20
_STYLE: Final = """
  text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328 }
  .paper { fill: #ffffff } .title { font-size: 16px; font-weight: 600 } .panel { font-weight: 600 }
  .small { font-size: 11px; fill: #59636e } .grid { stroke: #d1d9e0; stroke-width: 1 }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round } .target { stroke: #1a7f37; stroke-width: 3 }
  .line.ours { stroke: #0969da } .dot.ours { fill: #0969da }
  .line.naive { stroke: #bc4c00 } .dot.naive { fill: #bc4c00 }
  .line.bare { stroke: #59636e; stroke-dasharray: 5 4 } .dot.bare { fill: #59636e }
  .line.polls { stroke: #bc4c00 } .dot.polls { fill: #bc4c00 }
  .line.lists { stroke: #8250df } .dot.lists { fill: #8250df }
  .line.events { stroke: #0969da } .dot.events { fill: #0969da }
  .line.both { stroke: #1b7c83; stroke-dasharray: 5 4 } .dot.both { fill: #1b7c83 }
  .dot.pale { fill-opacity: 0.35 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .paper { fill: #0d1117 } .small { fill: #9198a1 } .grid { stroke: #3d444d }
    .line.ours { stroke: #58a6ff } .dot.ours { fill: #58a6ff } .target { stroke: #3fb950 }
    .line.naive { stroke: #f0883e } .dot.naive { fill: #f0883e }
    .line.bare { stroke: #9198a1 } .dot.bare { fill: #9198a1 }
    .line.polls { stroke: #f0883e } .dot.polls { fill: #f0883e }
    .line.lists { stroke: #ab7df8 } .dot.lists { fill: #ab7df8 }
    .line.events { stroke: #58a6ff } .dot.events { fill: #58a6ff }
    .line.both { stroke: #39c5cf } .dot.both { fill: #39c5cf }
  }
"""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """`kind` is a class of the style, such as ours, naive or bare. Values of 0 or less are not on a logarithmic axis.

    `pale`: at which x the points are drawn pale.
    """

    kind: str
    points: Sequence[Point]
    pale: Sequence[float] = ()

    @property
    def shown(self) -> list[Point]:
        return [(x, y) for x, y in self.points if y > 0]


@dataclass(frozen=True, slots=True)
class Panel:
    """`title` names the upright axis with its unit, `across` the other one. `targets`: the most allowed at some x."""

    title: str
    across: str
    lines: Sequence[Line]
    targets: Sequence[Point] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """`legend`: text by kind of line. `rows`: of the table, its heading first."""

    title: str
    subtitle: str
    legend: Sequence[tuple[str, str]]
    panels: Sequence[Panel]
    caption: str
    rows: Sequence[Sequence[str]]


class _Axis:
    """Places values of a logarithmic axis from `low` to `high` between two pixels, a single value in the middle."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        if low == high:
            low, high = low / 2, high * 2
        self._low, self._span = math.log(low), math.log(high) - math.log(low)
        self._start, self._length = start, end - start

    def at(self, value: float) -> float:
        return round(self._start + self._length * (math.log(value) - self._low) / self._span, 1)


def draw(sheet: Sheet) -> str:
    """The whole SVG document."""
    panels_end = _HEAD + _PANEL[1] * math.ceil(len(sheet.panels) / 2)
    height = panels_end + 54 + _ROW * len(sheet.rows)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(sheet.title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>',
        _text(20, 28, sheet.title, "title"),
        _text(20, 47, sheet.subtitle, "small"),
        *_legend(sheet.legend),
    ]
    for number, panel in enumerate(sheet.panels):
        left, top = _PANEL[0] * (number % 2), _HEAD + _PANEL[1] * (number // 2)
        drawn += [f'<g transform="translate({left},{top})">', *_panel(panel), "</g>"]
    drawn += _table(sheet.caption, sheet.rows, panels_end)
    return "\n".join((*drawn, "</svg>\n"))


def _legend(legend: Sequence[tuple[str, str]]) -> list[str]:
    drawn = []
    left = 20
    for kind, text in legend:
        mark = "target" if kind == "target" else f"line {kind}"
        drawn += [f'<path class="{mark}" d="M{left} 66h24"/>', _text(left + 30, 70, text)]
        left += 60 + round(6.4 * len(text))
    return drawn


def _panel(panel: Panel) -> list[str]:
    xs = sorted({x for line in panel.lines for x, _ in line.points})
    ys = [y for line in panel.lines for _, y in line.shown] + [y for _, y in panel.targets]
    ticks = steps(min(ys, default=1.0), max(ys, default=1.0))
    across = _Axis(xs[0], xs[-1], _LEFT, _PANEL[0] - _RIGHT)
    up = _Axis(ticks[0], ticks[-1], _PANEL[1] - _BOTTOM, _TOP)
    drawn = [_text(20, 26, panel.title, "panel")]
    for tick in ticks:
        drawn.append(f'<path class="grid" d="M{_LEFT} {up.at(tick)}H{_PANEL[0] - _RIGHT}"/>')
        drawn.append(_text(_LEFT - 8, up.at(tick) + 4, f"{tick:,.12g}", "small", "end"))
    for x in xs:
        drawn.append(f'<path class="grid" d="M{across.at(x)} {_TOP}V{_PANEL[1] - _BOTTOM}"/>')
        drawn.append(_text(across.at(x), _PANEL[1] - _BOTTOM + 16, f"{x:,.0f}", "small", "middle"))
    drawn.append(_text((_LEFT + _PANEL[0] - _RIGHT) / 2, _PANEL[1] - 14, panel.across, "small", "middle"))
    drawn += [f'<path class="target" d="M{across.at(x) - 11} {up.at(y)}h22"/>' for x, y in panel.targets]
    for line in panel.lines:
        drawn += _line(line.kind, [(across.at(x), up.at(y)) for x, y in line.shown], [across.at(x) for x in line.pale])
    return drawn


def _line(kind: str, points: Sequence[Point], pale: Sequence[float]) -> list[str]:
    path = " ".join(f"{x} {y}" for x, y in points)
    kinds = (f"{kind} pale" if x in pale else kind for x, _ in points)
    dots = [f'<circle class="dot {one}" cx="{x}" cy="{y}" r="3.5"/>' for one, (x, y) in zip(kinds, points, strict=True)]
    return [f'<path class="line {kind}" d="M{path}"/>', *dots] if points else []


def _table(caption: str, rows: Sequence[Sequence[str]], top: int) -> list[str]:
    """Columns as wide as their longest cells, numbers set to the right."""
    drawn = [_text(20, top + 24, caption, "panel")]
    longest = [max(map(len, column)) + 3 for column in zip(*rows, strict=True)]
    ends = [20 + (WIDTH - 40) * end / sum(longest) for end in accumulate(longest)]
    for number, row in enumerate(rows):
        for end, cell in zip(ends, row, strict=True):
            drawn.append(_text(round(end), top + 48 + _ROW * number, cell, "" if number else "small", "end"))
    return drawn


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def steps(low: float, high: float) -> list[float]:
    """Ticks that enclose both: whole decades when they lie more than two apart, else 1, 2 and 5 of each."""
    factors = (1,) if high > 100 * low else (1, 2, 5)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ladder = [factor * 10.0**decade for decade in decades for factor in factors]
    first = max(one for one in ladder if one <= low)
    last = min(one for one in ladder if one >= high and one > first)
    return [one for one in ladder if first <= one <= last]
