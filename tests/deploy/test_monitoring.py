"""Alerts and dashboard use metrics, labels, codes, phases and reasons that the operator has."""

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

from awsbatch_operator.api.batchjob import HoldCause, ObjectMetricKey, Phase
from awsbatch_operator.api.batchtermination import BulkMetricKey, BulkPhase
from awsbatch_operator.api.conditions import STALLED_REASONS
from awsbatch_operator.api.errors import ErrorClass
from awsbatch_operator.api.interfaces import CallLabels
from awsbatch_operator.aws.errors import _RULES
from awsbatch_operator.controller.status_writer import RESULTS
from awsbatch_operator.observability.metrics import Metrics
from deploy.places import DEPLOY, OPERATIONS, TROUBLESHOOTING
from deploy.promql import ExpressionError, Shown, selectors

MONITORING: Final = DEPLOY / "monitoring"
RULES: Final = yaml.load((MONITORING / "alerts.yaml").read_text("utf-8"), yaml.CSafeLoader)
ALERTS: Final = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
DASHBOARD: Final = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SELECTED: Final = {("cluster", "$cluster"), ("namespace", "$namespace"), ("job", "$job")}
RUNBOOKS: Final = "https://github.com/awsbatch-operator/awsbatch-operator/blob/main/docs/operations.md"
PROMTOOL: Final = os.environ.get("PROMTOOL") or shutil.which("promtool")
WITHOUT_VALUE: Final = ("AWSBatchOperatorTerminationsSuspended", "AWSBatchOperatorEventsQueueDead")
"""Alerts whose value is always 1 or 0."""
LEFT_OUT: Final = {"awsbatch_operator_build"}
"""Metrics that neither uses: the Deployment has the version."""


def targets() -> Iterator[tuple[str, str, str]]:
    """Title of the panel, expression, legend."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m"), target["legendFormat"]


def expressions() -> dict[str, str]:
    requested = {f"{title}: {legend}": expr for title, expr, legend in targets()}
    return {name: rule["expr"] for name, rule in ALERTS.items()} | requested


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    """Every metric with every label."""
    metrics = Metrics()
    metrics.observe(
        lambda: {ObjectMetricKey("team", "eu-west-1", Phase.TERMINATING, "TerminationStuck"): 1},
        {"describe": lambda: 0},
    )
    metrics.observe_terminations(lambda: {BulkMetricKey("team", BulkPhase.REFUSED, "TooManyJobs"): 1})
    location = ("111122223333", "eu-west-1")
    metrics.observe_polls(lambda: {location: True}, lambda: {location: 1000})
    metrics.observe_holds(lambda: {HoldCause.SUSPENDED_OPERATOR: 1}, lambda: frozenset({""}))
    metrics.aws_request("DescribeJobs", "OK", 0.1, CallLabels("", "eu-west-1", ""))
    metrics.polled(0, CallLabels("", "eu-west-1", ""))
    metrics.queue_depth("terminate", 0)
    return metrics


@pytest.fixture(scope="module")
def shown(metrics: Metrics) -> Shown:
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    return Shown({sample.name: frozenset(sample.labels) for sample in samples})


@pytest.mark.parametrize("name", expressions())
def test_each_expression_uses_existing_series_and_labels(name: str, shown: Shown) -> None:
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
def test_a_wrong_expression_is_detected(wrong: str, why: str, shown: Shown) -> None:
    with pytest.raises(ExpressionError, match=why):
        shown.labels(wrong)


def test_a_misspelt_region_fires_no_alert() -> None:
    """It is in no reason that an alert selects, and it is no target whose polls could be stale."""
    assert not any("InvalidRegion" in rule["expr"] or "reason!" in rule["expr"] for rule in ALERTS.values())
    metrics = Metrics()
    metrics.observe(lambda: {ObjectMetricKey("team", "eu-wset-1", Phase.UNKNOWN, "InvalidRegion"): 1}, {})
    samples = {sample.name: sample for family in metrics.registry.collect() for sample in family.samples}
    assert samples["awsbatch_operator_stalled"].value == 1
    assert "awsbatch_operator_live_jobs" not in samples


def test_the_alerts_are_those_of_the_contract() -> None:
    assert set(ALERTS) == {
        *("AWSBatchOperatorTerminationStuck", "AWSBatchOperatorPollsStale", "AWSBatchOperatorThrottled"),
        *("AWSBatchOperatorAccessDenied", "AWSBatchOperatorAccessPolicyMisconfigured"),
        *("AWSBatchOperatorNoLeader", "AWSBatchOperatorStatusWritesFailing"),
        *("AWSBatchOperatorTerminationsSuspended", "AWSBatchOperatorUnattendedLimit", "AWSBatchOperatorJobsOrphaned"),
        *("AWSBatchOperatorBulkTerminationRefused", "AWSBatchOperatorBulkTerminationSlow"),
        *("AWSBatchOperatorEventsQueueDead", "AWSBatchOperatorEventsLate"),
    }


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_severity_service_and_the_url_of_its_runbook(name: str, shown: Shown) -> None:
    rule = ALERTS[name]
    assert rule["labels"].keys() == {"severity", "service"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["labels"]["service"] == "awsbatch-operator"
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert "awsbatch-operator" in rule["annotations"]["summary"]
    if name not in WITHOUT_VALUE:
        assert "$value" in rule["annotations"]["description"], "the description must contain the value"
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert used <= shown.labels(rule["expr"])
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOKS}#{name.lower()}"
    assert re.fullmatch(r"\d+m", rule["for"])


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    text = OPERATIONS.read_text("utf-8")
    runbooks = re.split(r"^## ", text, flags=re.MULTILINE)
    (runbook,) = [part for part in runbooks if part.startswith("Runbooks\n")]
    assert set(re.findall(r"^### (.+)$", runbook, flags=re.MULTILINE)) == set(ALERTS)
    for section in runbook.split("\n### ")[1:]:
        headings = re.findall(r"^\*\*(\w+)\.\*\*", section, flags=re.MULTILINE)
        assert headings == ["Impact", "Diagnosis", "Resolution", "Escalation"], section.partition("\n")[0]


@pytest.mark.parametrize("name", ALERTS)
def test_the_readme_has_the_severity_and_the_duration_of_an_alert(name: str) -> None:
    text, rule = (MONITORING / "README.md").read_text("utf-8"), ALERTS[name]
    (severity, when) = re.findall(rf"^\| \[{name}\]\(\S+\) \| (\w+) \| ([^|]+) \|", text, re.MULTILINE)[0]
    assert severity == rule["labels"]["severity"]
    assert re.search(rf"for {rule['for'].removesuffix('m')} (minutes|more)$", when)


def test_the_queries_of_the_pages_use_existing_series(shown: Shown) -> None:
    text = OPERATIONS.read_text("utf-8") + TROUBLESHOOTING.read_text("utf-8")
    blocks = re.findall(r"```promql\n(.+?)```", text, flags=re.DOTALL)
    queries = [line for block in blocks for line in block.splitlines()]
    queries += re.findall(r"`([^`\n]*awsbatch_operator_[^`\n]*)`", text)
    assert len(queries) > len(ALERTS)
    for query in queries:
        shown.labels(query)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_distinguishes_releases_and_clusters(name: str, shown: Shown) -> None:
    labels = shown.labels(ALERTS[name]["expr"])
    assert {"cluster", "namespace", "job"} <= labels
    assert not {"pod", "instance"} & labels, "two replicas would fire twice, and again after each restart"


def test_every_metric_is_used_or_listed_as_unused(metrics: Metrics) -> None:
    read = {selector.name for expr in expressions().values() for selector in selectors(expr)}
    ours = {
        family.name: {sample.name for sample in family.samples}
        for family in metrics.registry.collect()
        if family.name.startswith("awsbatch_operator_")
    }
    assert {name for name, series in ours.items() if not series & read} == LEFT_OUT


def matched(label: str) -> set[str]:
    """Values of this label in the expressions of both files."""
    return {
        matcher.value
        for expr in expressions().values()
        for selector in selectors(expr)
        for matcher in selector.matchers.matchers
        if matcher.name == label
    }


def test_the_throttling_codes_are_those_of_the_operator() -> None:
    (codes,) = (rule.codes for rule in _RULES if rule.error_class is ErrorClass.THROTTLED)
    assert matched("code") == {"|".join(sorted({"429", *codes})), "OK"}


def test_reasons_and_results_are_the_operators_own() -> None:
    assert {reason for value in matched("reason") for reason in value.split("|")} <= STALLED_REASONS
    assert matched("cause") <= set(HoldCause)
    assert {result for value in matched("result") for result in value.split("|")} <= set(RESULTS.values())


# -- the dashboard ----------------------------------------------------------------------------------------------------


def nodes(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(part)


def test_the_data_source_can_be_chosen() -> None:
    chosen = {json.dumps(node["datasource"]) for node in nodes(DASHBOARD) if "datasource" in node}
    assert chosen == {'{"type": "prometheus", "uid": "${datasource}"}'}
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == [
        *("datasource", "cluster", "namespace", "job")
    ]
    assert DASHBOARD["uid"] == "awsbatch-operator"
    assert "id" not in DASHBOARD, "it is the Grafana's that imports it"


@pytest.mark.parametrize(("title", "expr", "legend"), [*targets()])
def test_a_panel_selects_the_release_and_its_legend_uses_existing_labels(
    title: str, expr: str, legend: str, shown: Shown
) -> None:
    for selector in selectors(expr):
        assert {(matcher.name, matcher.value) for matcher in selector.matchers.matchers} >= SELECTED, title
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) == shown.labels(expr), title


def test_each_panel_has_a_description_and_overlaps_no_other() -> None:
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
def test_promtool_accepts_the_alerts_and_their_tests() -> None:
    for command in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")):
        reported = subprocess.run(
            [str(PROMTOOL), *command], cwd=MONITORING, capture_output=True, text=True, check=False
        )
        assert reported.returncode == 0, reported.stdout + reported.stderr


def test_each_alert_is_tested_firing_and_not_firing() -> None:
    tests = yaml.load((MONITORING / "alerts_test.yaml").read_text("utf-8"), yaml.CSafeLoader)["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == set(ALERTS)
