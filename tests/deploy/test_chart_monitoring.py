"""ServiceMonitor, PrometheusRule, dashboard, and the notes after an installation."""

import json
import re
import shlex
from typing import Any, Final

import jsonschema
import pytest
import yaml
from helm_chart import CHART

from contract.schema import SCHEMA
from deploy.charts import MONITORING, ROLE, Values, objects, of_kind, only, render

KNOWN: Final[Values] = {"aws": {"region": "eu-west-1", "roleArn": ROLE}, "clusterName": "prod"}
NARROW: Final[Values] = {"userRoles": {"aggregate": "view"}}


def test_monitoring_is_off_by_default() -> None:
    assert not of_kind(objects(), "ServiceMonitor", "PrometheusRule", "ConfigMap")


def test_the_servicemonitor_scrapes_every_pod_and_keeps_the_operator_s_namespace() -> None:
    monitor = only(objects({"serviceMonitor": {"enabled": True, "labels": {"release": "kps"}}}), "ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "kps"
    # Alerts and dashboard read the objects' namespace as exported_namespace.
    assert monitor["spec"]["endpoints"] == [
        {"port": "http", "path": "/metrics", "interval": "30s", "honorLabels": False}
    ]
    service = only(objects(), "Service")["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)


def test_the_prometheusrule_is_the_file_of_alerts() -> None:
    rule = only(objects(MONITORING), "PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    groups = yaml.load((CHART / "files/alerts.yaml").read_text("utf-8"), yaml.CSafeLoader)["groups"]
    assert rule["spec"] == {"groups": groups}
    assert "{{ $labels" in json.dumps(groups), "Helm must not render Prometheus's templates"


def test_alert_labels_are_added_to_every_alert() -> None:
    values = {"prometheusRule": {"enabled": True, "labels": {"release": "kps"}, "alertLabels": {"team": "batch"}}}
    rule = only(objects(values), "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "kps"
    alerts = [one for group in rule["spec"]["groups"] for one in group["rules"] if "alert" in one]
    assert alerts
    for alert in alerts:
        assert alert["labels"]["team"] == "batch"
        assert alert["labels"]["severity"]


def test_the_dashboard_is_the_file_with_the_sidecar_s_label() -> None:
    config = only(objects(MONITORING), "ConfigMap")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = config["data"].values()
    assert text.strip() == (CHART / "files/dashboard.json").read_text("utf-8").strip()
    assert json.loads(text)["panels"]


def notes(values: Values | None = None) -> str:
    return render(values)["NOTES.txt"]


def test_the_patch_in_the_notes_is_valid() -> None:
    (line,) = re.findall(r"^  (kubectl patch .*)$", notes({"watchNamespaces": ["team-a"]}), re.MULTILINE)
    words = shlex.split(line)
    assert words[:6] == ["kubectl", "patch", "batchjob", "train-42", "-n", "team-a"]
    patch = json.loads(words[words.index("-p") + 1])
    (body,) = re.findall(r"<<'EOF'\n(.*?)\n  EOF", notes(), re.DOTALL)
    created: dict[str, Any] = yaml.load(body, yaml.CSafeLoader)
    assert (created["metadata"]["name"], set(patch)) == (words[3], {"spec"})
    jsonschema.validate({**created, "spec": created["spec"] | patch["spec"]}, SCHEMA)


@pytest.mark.parametrize(
    ("values", "warnings"),
    [
        ({}, ["no AWS role", "anyone who can edit"]),
        ({"aws": {"region": "eu-west-1"}, **NARROW}, ["no AWS role"]),
        ({"extraEnv": [{"name": "AWS_PROFILE", "value": "batch"}], **NARROW}, ["no region"]),
        ({"extraEnvFrom": [{"secretRef": {"name": "aws"}}], **NARROW}, []),
        ({"serviceAccount": {"create": False}, "extraArgs": ["--region=eu-west-1"], **NARROW}, []),
        ({"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": ROLE}}, **NARROW}, []),
        ({"aws": {"roleArn": ROLE}, **NARROW}, []),
        ({**KNOWN, "userRoles": {"create": False}}, []),
        ({**KNOWN, "accessPolicy": {"mode": "disabled"}}, ["the operator does not read BatchAccessPolicies"]),
        ({**KNOWN, **NARROW, "rbac": {"create": False}}, ["rbac.create is false"]),
        ({**KNOWN, **NARROW, "onDelete": {"enabled": True}}, ["onDelete is enabled"]),
        (KNOWN, ["anyone who can edit"]),
        ({**KNOWN, "accessPolicy": {"mode": "required"}}, []),
    ],
)
def test_the_notes_warn_of_missing_and_dangerous_settings(values: Values, warnings: list[str]) -> None:
    found = re.findall(r"^WARNING: (.*)$", notes(values), re.MULTILINE)
    assert len(found) == len(warnings)
    for line, start in zip(found, warnings, strict=True):
        assert line.startswith(start)
    assert all(len(line) <= 120 for line in notes(values).splitlines() if not line.startswith("  kubectl"))
