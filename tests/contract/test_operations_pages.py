"""The pages for operators quote messages, chart values and reasons of conditions: they exist."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from awsbatch_operator.api import conditions, names
from awsbatch_operator.api.batchjob import Phase
from awsbatch_operator.api.batchtermination import BulkPhase
from awsbatch_operator.api.conditions import Reason
from awsbatch_operator.api.events import EventReason

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
SECTIONS: Final = {
    part.partition("\n")[0]: re.sub(r"```.*?```", "", part, flags=re.DOTALL)
    for part in PAGES["troubleshooting"].split("\n## ")
}
REMEDIES: Final = SECTIONS["My job was not terminated"] + SECTIONS["Other symptoms"]
SPANS: Final = re.findall(r"`([^`\n]+)`", "".join(SECTIONS.values()))
NOT_MESSAGES: Final = {"failed calling webhook"}
"""Kubernetes says this."""
SAID: Final = [
    span for span in SPANS if span.count(" ") > 1 and not span.startswith("kubectl ") and span not in NOT_MESSAGES
]
LOGGED: Final = re.findall(
    r"`([^`]+)` in the log| logs .*\| grep (?:-\w )?'?([A-Za-z][\w ]*)", RUNBOOKS + PAGES["troubleshooting"]
)
QUOTED: Final = sorted({*SAID, *(one or other for one, other in LOGGED)})
NO_REMEDY: Final = {
    *(Reason.OBSERVED, Reason.NOT_OBSERVED_YET, Reason.TERMINATED, Reason.TERMINATED_BY_REQUEST),
    *(Reason.JOB_SUCCEEDED, Reason.JOB_FAILED, Reason.JOB_TERMINATED, Reason.JOB_CANCELLED, Reason.JOB_ACTIVE),
}
"""Reasons that leave nothing to do."""
CRDS: Final = [
    yaml.load(path.read_text("utf-8"), yaml.CSafeLoader) for path in (ROOT / "crds").glob("*.awsbatch.dev.yaml")
]
COLUMNS: Final = {
    column["name"].upper()
    for crd in CRDS
    for version in crd["spec"]["versions"]
    for column in version["additionalPrinterColumns"]
}
NOT_COLUMNS: Final = {"RUNNABLE", "PENDING", "MISCONFIGURATION", "CAPACITY", "HTTP", "SIGTERM"}


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
    assert "AWSUnavailable" in named
    assert named <= set(Reason)


def test_troubleshooting_names_existing_reasons_phases_and_kinds() -> None:
    kinds = {crd["spec"]["names"]["kind"] for crd in CRDS}
    types = {conditions.READY, conditions.RECONCILING, conditions.STALLED}
    named = {span for span in SPANS if re.fullmatch(r"[A-Z]\w+", span)}
    assert "TerminationGivenUp" in named
    assert named <= {*Reason, *EventReason, *Phase, *BulkPhase, *kinds, *types}


def test_every_reason_that_leaves_something_to_do_has_a_remedy() -> None:
    assert not NO_REMEDY & conditions.STALLED_REASONS
    assert set(Reason) - NO_REMEDY - set(re.findall(r"`(\w+)`", REMEDIES)) == set()


def test_troubleshooting_names_existing_columns() -> None:
    words = set(re.findall(r"\b[A-Z]{4,}\b", re.sub(r"`[^`]*`", "", "".join(SECTIONS.values()))))
    assert {"PHASE", "TERMINATION"} <= words
    assert words - NOT_COLUMNS <= COLUMNS
