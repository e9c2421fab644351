"""The pages for operators quote messages, chart values and reasons of conditions: they exist."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from awsbatch_operator.api import conditions, names

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = {
    name: (ROOT / f"docs/{name}.md").read_text("utf-8")
    for name in ("install", "upgrade", "operations", "troubleshooting", "guide", "automatic-termination")
}
PAGE: Final = "\n".join(PAGES.values())
VALUES: Final = yaml.load((ROOT / "deploy/helm/awsbatch-operator/values.yaml").read_text("utf-8"), yaml.CSafeLoader)


def _code() -> str:
    """The operator's source: strings on several lines are joined, fields of f-strings become …."""
    texts = [path.read_text("utf-8") for path in (ROOT / "operator/awsbatch_operator").rglob("*.py")]
    joined = re.sub(r'"\s*\n\s*f?"', "", "\n".join(texts))
    return re.sub(r"\{[^{}]*\}", "…", joined)


# The admission policy has a message too.
CODE: Final = _code() + (ROOT / "deploy/admission/terminate-verb.yaml").read_text("utf-8")
RUNBOOKS: Final = PAGES["operations"].split("\n## Runbooks\n")[1]
FIRST: Final = [row.split("|")[1] for row in PAGES["troubleshooting"].splitlines() if row.startswith("| ")]
SAID: Final[list[str]] = [
    printed for cell in FIRST for printed in re.findall(r"`([^`]+)`", cell) if printed.count(" ") > 1
]
LOGGED: Final = re.findall(r"`([^`]+)` in the log| logs .*\| grep (?:-\w )?'?([A-Za-z][\w ]*)", RUNBOOKS)
QUOTED: Final = [*SAID, *(one or other for one, other in LOGGED)]


@pytest.mark.parametrize("printed", QUOTED)
def test_quoted_messages_are_in_the_code(printed: str) -> None:
    pieces = re.split(f"{names.KIND}|{names.POLICY_KIND}|…", printed)
    assert [piece for piece in pieces if piece.strip(" s") not in CODE] == []


def test_the_pages_quote_messages() -> None:
    assert {"needs the verb terminate", "failed to renew lease", "status update failed", "TerminationGivenUp"} <= set(
        QUOTED
    )


def test_every_chart_value_on_the_pages_exists() -> None:
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
    named = {span.split("=")[0].removeprefix("--set ") for span in spans}
    paths = {name for name in named if re.fullmatch(r"\w+(\.\w+)*", name) and name.split(".")[0] in VALUES}
    assert {"aws.region", "rbac.create", "pollInterval.running"} <= paths
    assert [path for path in sorted(paths) if not _is_value(path)] == []


def _is_value(path: str) -> bool:
    place: Any = VALUES
    for part in path.split("."):
        if place == {}:
            return True  # labels and the like take any name
        if not isinstance(place, dict) or part not in place:
            return False
        place = place[part]
    return True


def test_every_reason_on_the_pages_exists() -> None:
    named = set(re.findall(r"`(?:Stalled|Reconciling)`/`(\w+)`", PAGE))
    known = {*conditions.STALLED_REASONS, "Throttled", "AWSUnavailable", "TerminationHeld"}
    assert "AccessDenied" in named
    assert named <= known
