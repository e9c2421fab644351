"""Alerts and dashboard against what the operator really shows, and against its own words for codes, phases, reasons."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, Final

import pytest
import yaml

from awsbatch_operator.aws.errors import _RULES
from awsbatch_operator.domain.conditions import REASONS_OF_STALLED
from awsbatch_operator.domain.errors import Fate
from awsbatch_operator.domain.ports import Whose
from awsbatch_operator.domain.record import Phase, Standing
from awsbatch_operator.engine.writes import _RESULTS
from awsbatch_operator.observability.metrics import Metrics
from deploy.places import DEPLOY, OPERATIONS
from deploy.promql import ExpressionError, Shown, selectors

MONITORING: Final = DEPLOY / "monitoring"
RULES: Final = yaml.safe_load((MONITORING / "alerts.yaml").read_text("utf-8"))
ALERTS: Final = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
DASHBOARD: Final = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SELECTED: Final = {("cluster", "$cluster"), ("namespace", "$namespace"), ("job", "$job")}
RUNBOOKS: Final = "https://github.com/awsbatch-operator/awsbatch-operator/blob/main/docs/operations.md"
PROMTOOL: Final = os.environ.get("PROMTOOL") or shutil.which("promtool")
LEFT_OUT: Final = {"awsbatch_operator_build"}
"""Metrics that neither shows: versions are the Deployment's to tell."""


def targets() -> Iterator[tuple[str, str, str]]:
    """Title of the panel, expression, legend."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m"), target["legendFormat"]


def expressions() -> dict[str, str]:
    asked = {f"{title}: {legend}": expr for title, expr, legend in targets()}
    return {name: rule["expr"] for name, rule in ALERTS.items()} | asked


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    """Every metric with every label."""
    metrics = Metrics()
    metrics.ask(lambda: {Standing("team", "eu-west-1", Phase.TERMINATING, "TerminationStuck"): 1}, {"look": lambda: 0})
    metrics.aws_request("DescribeJobs", "OK", 0.1, Whose("", "eu-west-1", ""))
    metrics.looked(0, Whose("", "eu-west-1", ""))
    metrics.queue_depth("terminate", 0)
    return metrics


@pytest.fixture(scope="module")
def shown(metrics: Metrics) -> Shown:
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    return Shown({sample.name: frozenset(sample.labels) for sample in samples})


@pytest.mark.parametrize("name", expressions())
def test_each_expression_reads_series_and_labels_that_are_there(name: str, shown: Shown) -> None:
    shown.labels(expressions()[name])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("awsbatch_operator_job", "shows no awsbatch_operator_job"),
        ('awsbatch_operator_jobs{state="Running"}', "no label state"),
        ("sum by (phase) (awsbatch_operator_stalled)", "no label phase"),
        ("awsbatch_operator_leader / on (region) awsbatch_operator_jobs", "no label region"),
        ("awsbatch_operator_leader / awsbatch_operator_jobs", "never equals"),
        ("histogram_quantile(0.5, awsbatch_operator_jobs)", "no label le"),
    ],
)
def test_what_reads_something_else_is_found_out(wrong: str, why: str, shown: Shown) -> None:
    with pytest.raises(ExpressionError, match=why):
        shown.labels(wrong)


def test_the_alerts_are_those_of_the_contract() -> None:
    assert set(ALERTS) == {
        *("TerminationStuck", "LooksStale", "AWSThrottled", "AccessDenied", "AccessPolicyRefuses"),
        *("NoLeader", "StatusWritesFailing"),
    }


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_whose_and_how_grave_it_is_and_where_its_runbook_stands(name: str, shown: Shown) -> None:
    rule = ALERTS[name]
    assert rule["labels"].keys() == {"severity", "service"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["labels"]["service"] == "awsbatch-operator"
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert "awsbatch-operator" in rule["annotations"]["summary"]
    assert "$value" in rule["annotations"]["description"], "which number?"
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert used <= shown.labels(rule["expr"])
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOKS}#{name.lower()}"
    assert re.fullmatch(r"\d+m", rule["for"])


def test_each_alert_has_its_runbook_and_no_runbook_is_about_anything_else() -> None:
    text = OPERATIONS.read_text("utf-8")
    runbooks = re.split(r"^## ", text, flags=re.MULTILINE)
    (runbook,) = [part for part in runbooks if part.startswith("Runbooks\n")]
    assert set(re.findall(r"^### (.+)$", runbook, flags=re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_the_readme_says_how_grave_an_alert_is_and_how_long_it_waits(name: str) -> None:
    text, rule = (MONITORING / "README.md").read_text("utf-8"), ALERTS[name]
    (severity, when) = re.findall(rf"^\| \[{name}\]\(\S+\) \| (\w+) \| ([^|]+) \|", text, re.MULTILINE)[0]
    assert severity == rule["labels"]["severity"]
    assert re.search(rf"for {rule['for'].removesuffix('m')} (minutes|more)$", when)


def test_the_queries_of_the_runbooks_read_what_is_there(shown: Shown) -> None:
    text = OPERATIONS.read_text("utf-8")
    blocks = re.findall(r"```promql\n(.+?)```", text, flags=re.DOTALL)
    queries = [line for block in blocks for line in block.splitlines()]
    queries += re.findall(r"`([^`\n]*awsbatch_operator_[^`\n]*)`", text)
    assert len(queries) > len(ALERTS)
    for query in queries:
        shown.labels(query)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_tells_releases_and_clusters_apart(name: str, shown: Shown) -> None:
    labels = shown.labels(ALERTS[name]["expr"])
    assert {"cluster", "namespace", "job"} <= labels
    assert not {"pod", "instance"} & labels, "two replicas would ring twice, and anew at each restart"


def test_every_metric_is_shown_or_left_out_on_purpose(metrics: Metrics) -> None:
    read = {selector.name for expr in expressions().values() for selector in selectors(expr)}
    ours = {
        family.name: {sample.name for sample in family.samples}
        for family in metrics.registry.collect()
        if family.name.startswith("awsbatch_operator_")
    }
    assert {name for name, series in ours.items() if not series & read} == LEFT_OUT


def matched(label: str) -> set[str]:
    """Values that the expressions of both files compare this label with."""
    return {
        matcher.value
        for expr in expressions().values()
        for selector in selectors(expr)
        for matcher in selector.matchers.matchers
        if matcher.name == label
    }


def test_throttled_is_what_the_operator_takes_for_throttling() -> None:
    (codes,) = (rule.codes for rule in _RULES if rule.fate is Fate.THROTTLED)
    assert matched("code") == {"|".join(sorted({"429", *codes})), "OK"}


def test_reasons_and_results_are_the_operators_own() -> None:
    assert {reason for value in matched("reason") for reason in value.split("|")} <= REASONS_OF_STALLED
    assert {result for value in matched("result") for result in value.split("|")} <= set(_RESULTS.values())


# -- the dashboard ----------------------------------------------------------------------------------------------------


def nodes(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(part)


def test_the_data_source_is_the_readers_choice() -> None:
    chosen = {json.dumps(node["datasource"]) for node in nodes(DASHBOARD) if "datasource" in node}
    assert chosen == {'{"type": "prometheus", "uid": "${datasource}"}'}
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == [
        *("datasource", "cluster", "namespace", "job")
    ]
    assert DASHBOARD["uid"] == "awsbatch-operator"
    assert "id" not in DASHBOARD, "it is the Grafana's that imports it"


@pytest.mark.parametrize(("title", "expr", "legend"), [*targets()])
def test_a_panel_shows_the_chosen_releases_and_names_only_what_the_query_keeps(
    title: str, expr: str, legend: str, shown: Shown
) -> None:
    for selector in selectors(expr):
        assert {(matcher.name, matcher.value) for matcher in selector.matchers.matchers} >= SELECTED, title
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) == shown.labels(expr), title


def test_each_panel_is_explained_and_has_a_place_of_its_own() -> None:
    for panel in PANELS:
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    for one, other in combinations((panel["gridPos"] for panel in everything), 2):
        apart = (
            *(one["x"] + one["w"] <= other["x"], other["x"] + other["w"] <= one["x"]),
            *(one["y"] + one["h"] <= other["y"], other["y"] + other["h"] <= one["y"]),
        )
        assert any(apart), (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in everything)


# -- promtool ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool: apt-get install prometheus, or set PROMTOOL to its path")
def test_promtool_is_content() -> None:
    for command in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")):
        told = subprocess.run([str(PROMTOOL), *command], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr


def test_each_alert_is_tested_ringing_and_silent() -> None:
    tests = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == set(ALERTS)
