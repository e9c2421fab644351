"""docs/operations.md quotes the operator and its chart: what it says stands in the code, and values in the chart."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from awsbatch_operator.domain import conditions
from awsbatch_operator.kube import names

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/operations.md").read_text("utf-8")
VALUES: Final = yaml.safe_load((ROOT / "deploy/helm/awsbatch-operator/values.yaml").read_text("utf-8"))


def _code() -> str:
    """All of the operator, with a text that is written on several lines as one, and fields of texts as …."""
    texts = [path.read_text("utf-8") for path in (ROOT / "operator/awsbatch_operator").rglob("*.py")]
    joined = re.sub(r'"\s*\n\s*f?"', "", "\n".join(texts))
    return re.sub(r"\{[^{}]*\}", "…", joined)


# The policy speaks too.
CODE: Final = _code() + (ROOT / "deploy/admission/terminate-verb.yaml").read_text("utf-8")
TROUBLESHOOTING: Final = PAGE.split("\n## Troubleshooting\n")[1].split("\n## ")[0]
RUNBOOKS: Final = PAGE.split("\n## Runbooks\n")[1]
FIRST: Final = [row.split("|")[1] for row in TROUBLESHOOTING.splitlines() if row.startswith("| ")]
SAID: Final[list[str]] = [said for cell in FIRST for said in re.findall(r"`([^`]+)`", cell) if said.count(" ") > 1]
LOGGED: Final[list[str]] = re.findall(r"^- (?:Running[^`]*)?`((?:the|status) [^`]+)`", RUNBOOKS, re.MULTILINE)


@pytest.mark.parametrize("said", [*SAID, *LOGGED])
def test_what_the_operator_is_said_to_say_stands_in_the_code(said: str) -> None:
    pieces = re.split(f"{names.KIND}|{names.POLICY_KIND}|…", said)
    assert [piece for piece in pieces if piece.strip(" s") not in CODE] == []


def test_the_tables_quote_at_all() -> None:
    assert len(SAID) > 8
    assert len(LOGGED) > 3


def test_every_value_of_the_chart_that_is_named_is_one() -> None:
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
    named = {span.split("=")[0].removeprefix("--set ") for span in spans}
    paths = {name for name in named if re.fullmatch(r"\w+(\.\w+)*", name) and name.split(".")[0] in VALUES}
    assert {"aws.region", "rbac.create", "lookRunning"} <= paths
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


def test_every_reason_of_stalled_and_reconciling_that_is_named_is_one() -> None:
    named = set(re.findall(r"`(?:Stalled|Reconciling)`/`(\w+)`", PAGE))
    known = {*conditions.REASONS_OF_STALLED, "Throttled", "AWSUnavailable"}
    assert "AccessDenied" in named
    assert named <= known
