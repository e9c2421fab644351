"""Writes the pictures in docs/pictures from runs of the sandbox.

``python tools/pictures.py`` writes all of them, ``python tools/pictures.py demo kubectl-get`` only those. The dashboard
needs the program `prometheus` (the variable PROMETHEUS names another one) and takes eight minutes;
``python tools/pictures.py redraw`` draws its last recording with the titles and the layout of today.
"""

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import click
import dashboard_run
import dashboard_svg

from awsbatch_sandbox.demo import REASON
from awsbatch_sandbox.fixtures import UNKNOWN_JOB
from awsbatch_sandbox.policies import Policies
from awsbatch_sandbox.terminations import Terminations
from awsbatch_sandbox.world import QUICK, World

ROOT: Final = Path(__file__).resolve().parents[1]
PICTURES: Final = ROOT / "docs/pictures"
RECORDING: Final = PICTURES / "dashboard-values.json"

# -- a terminal as an SVG ---------------------------------------------------------------------------------------------

_FONT: Final = 13.0
_ADVANCE: Final = 0.602 * _FONT
"""Width of a character in most monospaced fonts; `textLength` fits the others into it."""
_LINE: Final = 18
_MARGIN: Final = 18
_BAR: Final = 34
_HOLD, _POSTER = 7.0, 1.5
"""Seconds for which a cast shows the last frame before it starts again, and for which it begins with it: the first
frame is the one that programs show which do not run animations."""
_LONGEST_WAIT: Final = 1.5
_TO_READ: Final = 0.5
_BEFORE_A_COMMAND: Final = 1.4
_SVG: Final = "{http://www.w3.org/2000/svg}"
_STYLE: Final = f"""
text {{ font: {_FONT:g}px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #1f2328;
  white-space: pre }}
.paper {{ fill: #ffffff; stroke: #d1d9e0 }} .bar {{ fill: #f6f8fa }} .rule {{ stroke: #d1d9e0 }}
.dot, .dim {{ fill: #818b98 }} .bold {{ font-weight: 600 }} .cyan {{ fill: #0969da }} .green {{ fill: #1a7f37 }}
@media (prefers-color-scheme: dark) {{
  text {{ fill: #e6edf3 }} .paper {{ fill: #0d1117; stroke: #3d444d }} .bar {{ fill: #151b23 }}
  .rule {{ stroke: #3d444d }} .dot, .dim {{ fill: #7d8590 }} .cyan {{ fill: #58a6ff }} .green {{ fill: #3fb950 }}
}}
@media (prefers-reduced-motion: reduce) {{ text {{ animation: none !important }} }}
"""
_SGR: Final = re.compile(r"\x1b\[([\d;]*)m")
_CLASSES: Final = {"1": "bold", "2": "dim", "32": "green", "36": "cyan"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a terminal with its escape sequences. `at`: seconds from the start to when it was written."""

    text: str
    at: float = 0.0

    @property
    def plain(self) -> str:
        return _SGR.sub("", self.text)

    @property
    def is_command(self) -> bool:
        return self.plain.startswith("$ ")


def draw(title: str, lines: Sequence[Line], times: Sequence[float] = ()) -> str:
    """An SVG of a terminal. With `times`, in seconds, each line appears at its own; else it stands still.

    Programs that do not run animations show all lines, and so does the first frame.
    """
    width = round(max(len(line.plain) for line in lines) * _ADVANCE + 2 * _MARGIN)
    height = _BAR + _LINE * len(lines) + _MARGIN + 8
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    label = escape(f"Terminal: {title}", quote=True)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}" xml:space="preserve">',
        f"<style>{_STYLE}{_keyframes(times)}</style>",
        f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        f'<path class="bar" d="M1 {_BAR}V8.5a7.5 7.5 0 0 1 7.5-7.5H{width - 8.5}a7.5 7.5 0 0 1 7.5 7.5V{_BAR}z"/>',
        f'<path class="rule" d="M1 {_BAR}.5H{width - 1}"/>',
        *(f'<circle class="dot" cx="{_MARGIN + 4 + 18 * n}" cy="17.5" r="5"/>' for n in range(3)),
        f'<text x="{width / 2:g}" y="22" text-anchor="middle" class="dim">{escape(title)}</text>',
    ]
    appear = dict(zip(dict.fromkeys(times), range(len(times)), strict=False))
    for number, line in enumerate(lines):
        if line.plain.strip():
            kind = f' class="t{appear[times[number]]}"' if times and times[number] else ""
            place = f'x="{_MARGIN}" y="{_BAR + _LINE * (number + 1) + 6}" textLength="{len(line.plain) * _ADVANCE:.1f}"'
            drawn.append(f'<text {place} lengthAdjust="spacingAndGlyphs"{kind}>{"".join(_spans(line.text))}</text>')
    return "\n".join((*drawn, "</svg>\n"))


def _keyframes(times: Sequence[float]) -> str:
    """A rule for each time but 0: hidden before, shown from then on."""
    whole = max(times, default=0.0) + _HOLD
    rules = [
        f"@keyframes t{number} {{ 0% {{ opacity: 0 }} {100 * at / whole:.2f}% {{ opacity: 1 }} }}\n"
        f".t{number} {{ animation: t{number} {whole:.2f}s {_POSTER - whole:.2f}s step-end infinite }}\n"
        for number, at in enumerate(dict.fromkeys(times))
        if at
    ]
    return "".join(rules)


def _spans(text: str) -> Iterator[str]:
    """The text with its escape sequences as elements."""
    pieces = _SGR.split(text)
    kinds: set[str] = set()
    for number, piece in enumerate(pieces):
        if number % 2:
            codes = [code for code in piece.split(";") if code.strip("0")]
            kinds = {*kinds, *(_CLASSES[code] for code in codes)} if codes else set()
        elif piece:
            plain = escape(piece, quote=False)
            yield f'<tspan class="{" ".join(sorted(kinds))}">{plain}</tspan>' if kinds else plain


def shown(picture: Path) -> list[str]:
    """The lines of the terminal in a picture, without the title of its window."""
    texts = list(ET.fromstring(picture.read_text("utf-8")).iter(f"{_SVG}text"))  # noqa: S314  a file of this repository
    return ["".join(text.itertext()) for text in texts[1:]]


_CHANGING: Final = (
    (re.compile(r"-?\b\d+(\.\d+)? m?s\b|\b(\d+m)?\d+s\b"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:]+Z"), "<date>"),
    (re.compile(r"\b[0-9a-f]{8}…"), "<id>"),
    (re.compile(r"process \d+|covers \d+ jobs|^ *<time>  up: .*"), "<varies>"),
    (re.compile(r" +"), " "),
)


def comparable(lines: Iterable[str]) -> list[str]:
    """The lines that are not empty, without what changes from run to run."""
    found = []
    for line in lines:
        for pattern, instead in _CHANGING:
            line = pattern.sub(instead, line)  # noqa: PLW2901
        if line.strip():
            found.append(line.strip())
    return found


# -- make demo --------------------------------------------------------------------------------------------------------


def demo_excerpt(lines: Sequence[Line]) -> list[Line]:
    """All lines but those of `kubectl describe`, of which there are too many."""
    start = next(number for number, line in enumerate(lines) if line.plain.startswith("$ kubectl describe"))
    end = next(number for number, line in enumerate(lines) if line.plain.startswith("All stopped"))
    return [*lines[:start], *lines[end:]]


def record_demo() -> list[Line]:
    """The lines of `make demo`, in colour."""
    program = [sys.executable, "-m", "awsbatch_operator", "demo", "--control-plane=embedded"]
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    terminal, other_end = pty.openpty()
    began, lines = time.monotonic(), [Line("\x1b[2m$\x1b[0m \x1b[1mmake demo\x1b[0m")]
    with subprocess.Popen(program, env=environment, stdin=subprocess.DEVNULL, stdout=other_end) as process:
        os.close(other_end)
        with os.fdopen(terminal, "rb") as output, suppress(OSError):  # an OSError is the end of a terminal
            lines.extend(Line(line.decode().rstrip("\r\n"), time.monotonic() - began) for line in output)
    if process.returncode:
        raise SystemExit(f"the demo failed with exit code {process.returncode}")
    return lines


def paced(lines: Sequence[Line]) -> list[float]:
    """When each line appears in the cast, in seconds: as recorded, but no wait is longer than people like to wait.

    What happens within milliseconds gets the time that people need to read it; the lines state the measured times.
    """
    times = [0.0]
    for before, line in pairwise(lines):
        least = _BEFORE_A_COMMAND if line.is_command else _TO_READ if re.match(r" *[\d.]+ m?s ", line.plain) else 0.0
        times.append(round(times[-1] + min(max(line.at - before.at, least), _LONGEST_WAIT), 2))
    return times


def demo() -> str:
    lines = demo_excerpt(record_demo())
    return draw("make demo", lines, paced(lines))


# -- kubectl get ------------------------------------------------------------------------------------------------------

_TEAM: Final = "team-a"
_QUEUE: Final = "gpu"
_JOBS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "import": ("Failed", {"status": "FAILED", "exit_code": 1}),
    "mistyped": ("Missing", {}),
    "prepare": ("Terminated", {"status": "RUNNING"}),
    "render": ("Terminating", {"status": "RUNNING"}),
    "report": ("Succeeded", {"status": "SUCCEEDED", "exit_code": 0}),
    "resize": ("Pending", {"status": "RUNNABLE"}),
    "theirs": ("Denied", {"status": "RUNNING", "queue": "of-team-b"}),
    "train": ("Running", {"status": "RUNNING"}),
}
"""By name: the phase that is shown, and the job in AWS Batch; {} for none."""
_COMMANDS: Final = ("-n team-a get batchjobs", "-n team-a get batchterminations", "get batchaccesspolicies")


def record_kubectl_get() -> list[Line]:
    """What kubectl shows of objects in many phases."""
    with (
        World("embedded", grace=0.2, flags=QUICK) as world,
        closing(world.cluster.within(_TEAM)) as team,
        Policies(world.control_plane.kubeconfig) as policies,
    ):
        team.create_namespace(team="a")
        select, allow = {"matchLabels": {"team": "a"}}, ["Observe", "List", "Terminate"]
        policies.create(_TEAM, namespaceSelector=select, jobs={"queues": [_QUEUE]}, allow=allow)
        for name, (_, job) in _JOBS.items():
            job_id = world.batch.seed(name=name, **{"queue": _QUEUE, **job}) if job else UNKNOWN_JOB
            team.create(name, job_id)
        world.operator.start()
        team.terminate("prepare", REASON)
        team.wait_for("prepare", partial(_has_phase, "Terminated"), timeout=20)
        world.batch.settings(grace=600)
        team.terminate("render", REASON)
        for name, (phase, _) in _JOBS.items():
            team.wait_for(name, partial(_has_phase, phase), timeout=20)
        policies.wait_for(_TEAM, lambda status: status.get("jobs") == len(_JOBS), timeout=20)
        _count_jobs(world)
        return list(_run(world))


def _has_phase(phase: str, status: dict[str, Any]) -> bool:
    return bool(status.get("phase") == phase)


def _count_jobs(world: World) -> None:
    an_hour_ago = int((time.time() - 3600) * 1000)
    world.batch.seed_many(200, name="sweep", status="RUNNING", queue=_QUEUE, created_at=an_hour_ago)
    with Terminations(world.control_plane.kubeconfig, _TEAM) as terminations:
        select, now = {"queues": [_QUEUE], "jobNames": ["sweep-*"]}, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        spec = {"select": select, "createdBefore": now, "reason": REASON, "maxJobs": 200, "region": "eu-west-1"}
        terminations.create("inc-4711", **spec)
        terminations.wait_for("inc-4711", partial(_has_phase, "AwaitingApproval"), timeout=20)


def _run(world: World) -> Iterator[Line]:
    for number, command in enumerate(_COMMANDS):
        yield from [Line("")] * bool(number)
        yield Line(f"\x1b[2m$\x1b[0m \x1b[1mkubectl {command}\x1b[0m")
        yield from (Line(line.rstrip()) for line in world.cluster.kubectl(*command.split()).splitlines())


def kubectl_get() -> str:
    return draw("kubectl get", record_kubectl_get())


def dashboard() -> str:
    RECORDING.write_text(json.dumps(dashboard_run.record(), separators=(",", ":")) + "\n", encoding="utf-8")
    return redraw()


def redraw() -> str:
    """The dashboard as it was recorded."""
    return dashboard_svg.draw(*(json.loads(file.read_text("utf-8")) for file in (dashboard_run.DASHBOARD, RECORDING)))


_PICTURES: Final = {"demo": demo, "kubectl-get": kubectl_get, "dashboard": dashboard, "redraw": redraw}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(_PICTURES)))
def main(names: tuple[str, ...]) -> None:
    """Write the pictures; without arguments, all of them. `redraw` draws the last recording of the dashboard."""
    for name in names or list(_PICTURES)[:-1]:
        path = PICTURES / f"{name.replace('redraw', 'dashboard')}.svg"
        path.write_text(_PICTURES[name](), encoding="utf-8")
        click.echo(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
