"""values.yaml, its schema, the README and the templates have the same values, and invalid ones are rejected."""

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import helm_python as helm
import pytest
import yaml
from helm_chart import CHART, leaves, readme, table

from awsbatch_operator import config
from awsbatch_operator.policy.resolution import Mode
from deploy.charts import DIGEST, MONITORING, ROLE, Values, loaded, merged, render
from deploy.places import ROOT

pytestmark = pytest.mark.usefixtures("surroundings")

SCHEMA: Final[dict[str, Any]] = json.loads((CHART / "values.schema.json").read_text("utf-8"))
TEXT: Final = (CHART / "values.yaml").read_text("utf-8")
VALUES: Final[Values] = yaml.load(TEXT, yaml.CSafeLoader)
NAMES: Final = [path for path, _ in leaves(SCHEMA)]
ON: Final[Values] = {"networkPolicy": {"enabled": True}, "onDelete": {"enabled": True}, **MONITORING}
_LABELS: Final = {"team": "batch"}

OTHER: Final[dict[str, Any]] = {
    "nameOverride": "other",
    "fullnameOverride": "other",
    "commonLabels": _LABELS,
    "commonAnnotations": _LABELS,
    "image.repository": "mirror.example:5000/batch",
    "image.tag": "1.2.3-rc.1",
    "image.digest": DIGEST,
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "registry"}],
    "replicas": 3,
    "watchNamespaces": ["team-a"],
    "accessPolicy.mode": "required",
    "clusterName": "Prod-EU_1.example",
    "aws.region": "eu-isoe-west-1",
    "aws.roleArn": ROLE.replace("arn:aws:", "arn:aws-us-gov:"),
    "allowRegions": ["eu-west-9"],
    "pollInterval.running": "9999s",
    "pollInterval.pending": "999m",
    "pollInterval.withEvents": "10m",
    "listPolls": False,
    "eventsQueues": ["https://sqs.eu-west-1.amazonaws.com/111122223333/awsbatch-operator-events"],
    "missingGrace": "24h",
    "resendAfter": "100ms",
    "describeRate": 0.1,
    "terminateRate": 1000,
    "unattendedLimit": 100,
    "onDelete.enabled": False,
    "onDelete.timeout": "30m",
    "onDelete.uninstallHook": False,
    "metricsRoleLabel": False,
    "logFormat": "console",
    "logLevel": "error",
    "lease.name": "other.lease",
    "serviceAccount.create": False,
    "serviceAccount.name": "other",
    "serviceAccount.annotations": _LABELS,
    "rbac.create": False,
    "rbac.finalizers": False,
    "userRoles.create": False,
    "userRoles.aggregate": "view",
    "userRoles.bulkTerminate": False,
    "resources": {"requests": {"memory": "1Gi"}},
    "terminationGracePeriodSeconds": 10,
    "podDisruptionBudget.enabled": False,
    "topologySpreadConstraints": [],
    "nodeSelector": _LABELS,
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "podLabels": _LABELS,
    "podAnnotations": _LABELS,
    "podSecurityContext": {"fsGroup": 1},
    "securityContext": {"runAsUser": 1},
    "extraArgs": ["--poll-running=45s"],
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraEnvFrom": [{"configMapRef": {"name": "env"}, "prefix": "AWS_"}],
    "extraVolumes": [{"name": "ca", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    "service.annotations": _LABELS,
    "networkPolicy.enabled": False,
    "networkPolicy.from": [{"podSelector": {}}],
    "networkPolicy.apiServerPorts": [8443],
    "networkPolicy.extraEgress": [{"to": [{"podSelector": {}}]}],
    "serviceMonitor.enabled": False,
    "serviceMonitor.labels": _LABELS,
    "serviceMonitor.interval": "1m",
    "prometheusRule.enabled": False,
    "prometheusRule.labels": _LABELS,
    "prometheusRule.alertLabels": _LABELS,
    "grafanaDashboard.enabled": False,
    "grafanaDashboard.labels": _LABELS,
    "grafanaDashboard.annotations": _LABELS,
}
"""For each value another valid one."""


def nested(path: str, value: Any) -> Values:
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def paths(values: Values, schema: dict[str, Any], prefix: str = "") -> list[str]:
    """Paths of values.yaml, as deep as the schema describes them."""
    found = []
    for name, value in values.items():
        node = schema["properties"][name]
        found += paths(value, node, f"{prefix}{name}.") if "description" not in node else [f"{prefix}{name}"]
    return found


def test_values_schema_and_examples_name_the_same_values_in_one_order() -> None:
    assert paths(VALUES, SCHEMA) == NAMES == list(OTHER)


def test_the_readme_s_table_contains_every_value() -> None:
    assert re.findall(r"^\| `([\w.]+)` \|", table(), re.MULTILINE) == NAMES
    assert readme() == (CHART / "README.md").read_text("utf-8"), "run: python tools/helm_chart.py readme"


def test_the_comment_of_a_value_is_its_description() -> None:
    comments = re.findall(r"^ *# (.*)\n *\w+:", TEXT, re.MULTILINE)
    assert comments == [node["description"] for path, node in leaves(SCHEMA)]


# The mode `required` is rejected without a name.
BEFORE: Final = merged(ON, {"clusterName": "one"})
before: Final = cache(lambda: render(BEFORE))


@pytest.mark.parametrize("path", NAMES)
def test_every_value_changes_the_manifests(path: str) -> None:
    assert before() != render(merged(BEFORE, nested(path, OTHER[path])))


def test_the_defaults_are_valid() -> None:
    loaded().validate_schema(VALUES)


def test_no_object_accepts_unknown_names() -> None:
    def loose(node: dict[str, Any]) -> list[str]:
        parts = node.get("properties", {})
        return [name for name, part in parts.items() if "properties" in part and loose(part)] + (
            [] if node["additionalProperties"] is False else ["?"]
        )

    assert loose(SCHEMA) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("pollRunning", "30s", "additional properties 'pollRunning' not allowed"),
        ("aws.reigon", "eu-west-1", "at '/aws': additional properties 'reigon' not allowed"),
        ("image.digest", "0a" * 32, "at '/image/digest'"),
        ("image.repository", "ghcr.io/a:1.0", "at '/image/repository'"),
        ("image.pullPolicy", "always", "one of 'Always', 'IfNotPresent', 'Never'"),
        ("imagePullSecrets", ["registry"], "at '/imagePullSecrets/0': got string, want object"),
        ("replicas", "2", "at '/replicas': got string, want integer"),
        ("replicas", -1, "at '/replicas'"),
        ("watchNamespaces", "team-a", "at '/watchNamespaces': got string, want array"),
        ("watchNamespaces", ["Team_A"], "at '/watchNamespaces/0'"),
        ("watchNamespaces", ["a", "a"], "at '/watchNamespaces'"),
        ("accessPolicy.mode", "Required", "one of 'disabled', 'optional', 'required'"),
        ("accessPolicy.modus", "required", "additional properties 'modus' not allowed"),
        ("clusterName", "a/b", "at '/clusterName'"),
        ("clusterName", "n" * 64, "at '/clusterName'"),
        ("aws.region", "eu-west-1a", "at '/aws/region'"),
        ("aws.roleArn", "awsbatch-operator", "at '/aws/roleArn'"),
        ("allowRegions", ["eu_west_1"], "at '/allowRegions/0'"),
        ("pollInterval.running", "30", "at '/pollInterval/running'"),
        ("pollInterval.running", 30, "at '/pollInterval/running': got number, want string"),
        ("pollInterval.withEvents", "5", "at '/pollInterval/withEvents'"),
        ("listPolls", "no", "at '/listPolls': got string, want boolean"),
        (
            "eventsQueues",
            "https://sqs.eu-west-1.amazonaws.com/111122223333/awsbatch-operator-events",
            "at '/eventsQueues': got string, want array",
        ),
        ("eventsQueues", ["awsbatch-operator-events"], "at '/eventsQueues/0'"),
        (
            "eventsQueues",
            ["https://sqs.eu-west-1.amazonaws.com/111122223333/awsbatch-operator-events.fifo"],
            "at '/eventsQueues/0'",
        ),
        ("describeRate", 0, "at '/describeRate'"),
        ("terminateRate", 1001, "at '/terminateRate'"),
        ("unattendedLimit", 0, "at '/unattendedLimit'"),
        ("onDelete.enabled", "enabled", "at '/onDelete/enabled': got string, want boolean"),
        ("onDelete.timeout", "1d", "at '/onDelete/timeout'"),
        ("logLevel", "INFO", "at '/logLevel'"),
        ("lease.name", "Lease", "at '/lease/name'"),
        ("userRoles.aggregate", "edit", "one of 'none', 'view', 'all'"),
        ("resources.request", {}, "additional properties 'request' not allowed"),
        ("terminationGracePeriodSeconds", 5, "at '/terminationGracePeriodSeconds'"),
        ("podLabels", {"build": 7}, "at '/podLabels/build': got number, want string"),
        ("commonLabels", {"team": None}, "at '/commonLabels/team': got null, want string"),
        ("extraArgs", ["poll-running=45s"], "at '/extraArgs/0'"),
        ("extraEnv", [{"value": "x"}], "missing property 'name'"),
        ("networkPolicy.apiServerPorts", [70_000], "at '/networkPolicy/apiServerPorts/0'"),
        ("networkPolicy.from", [{"ports": []}], "additional properties 'ports' not allowed"),
        ("serviceMonitor.interval", "often", "at '/serviceMonitor/interval'"),
    ],
)
def test_an_invalid_value_is_rejected_with_its_path(path: str, value: Any, message: str) -> None:
    with pytest.raises(helm.HelmValuesError, match=re.escape(message)):
        render(nested(path, value))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accessPolicy": {"mode": "required"}}, r"needs clusterName: set a name .*, such as --set clusterName=\S+\."),
        ({"replicaCount": 3}, "replicaCount is not a value of this chart: set replicas"),
    ],
)
def test_a_missing_or_foreign_value_is_reported_in_a_sentence_that_names_what_to_set(
    values: Values, message: str
) -> None:
    with pytest.raises(helm.HelmRenderError, match=message):
        render(values)


@pytest.mark.parametrize("time", ["100ms", "9999999ms", "1s", "9999s", "1m", "999m", "1h", "24h"])
def test_the_operator_accepts_each_time_that_the_schema_accepts(time: str) -> None:
    render({"pollInterval": {"running": time}})
    assert config.load({"poll_running": time}).poll_running >= 100


@pytest.mark.parametrize("time", ["99ms", "0s", "25h", "1d", "1.5s", "s", "30 s"])
def test_the_schema_rejects_each_time_that_the_operator_rejects(time: str) -> None:
    with pytest.raises(config.SettingsError):
        config.load({"poll_running": time})
    with pytest.raises(helm.HelmValuesError):
        render({"pollInterval": {"running": time}})


def test_modes_and_the_default_one_are_those_of_the_operator() -> None:
    mode = SCHEMA["properties"]["accessPolicy"]["properties"]["mode"]
    assert mode["enum"] == ["disabled", *Mode]
    assert [config.load({"access_policy": one}).access_policy for one in mode["enum"]] == mode["enum"]
    assert VALUES["accessPolicy"]["mode"] == config.load({}).access_policy


@pytest.mark.parametrize("name", ["a", "n" * 63, "_-.", "eu.prod_1"])
def test_the_operator_accepts_each_cluster_name_that_the_schema_accepts(name: str) -> None:
    render({"clusterName": name, "accessPolicy": {"mode": "required"}})
    assert config.load({"cluster_name": name}).cluster_name == name


@pytest.mark.parametrize("name", ["n" * 64, "a/b", "a b", "é"])
def test_the_schema_rejects_each_cluster_name_that_the_operator_rejects(name: str) -> None:
    with pytest.raises(config.SettingsError):
        config.load({"cluster_name": name})
    with pytest.raises(helm.HelmValuesError):
        render({"clusterName": name})


QUEUE: Final = "https://sqs.eu-west-1.amazonaws.com/111122223333/events"


@pytest.mark.parametrize(
    "host",
    ["sqs.us-gov-west-1.api.aws", "sqs-fips.us-east-1.amazonaws.com", "vpce-0a-b.sqs.cn-north-1.vpce.amazonaws.com.cn"],
)
def test_the_operator_accepts_each_queue_that_the_schema_accepts(host: str) -> None:
    url = QUEUE.replace("sqs.eu-west-1.amazonaws.com", host)
    render({"eventsQueues": [url]})
    assert config.load({"events_queue": (url,)}).events_queue == (url,)


@pytest.mark.parametrize(
    "url", ["events", f"{QUEUE}.fifo", QUEUE.replace("s:", ":"), QUEUE.replace(".eu-west-1", ""), f"{QUEUE}/a"]
)
def test_the_schema_rejects_each_queue_that_the_operator_rejects(url: str) -> None:
    with pytest.raises(config.SettingsError):
        config.load({"events_queue": (url,)})
    with pytest.raises(helm.HelmValuesError):
        render({"eventsQueues": [url]})


def test_helm_s_linter_finds_nothing() -> None:
    check = [sys.executable, str(ROOT / "tools/helm_chart.py"), "lint"]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_the_linter_finds_a_broken_template(tmp_path: Path) -> None:
    broken = Path(shutil.copytree(CHART, tmp_path / CHART.name))
    (broken / "templates/service.yaml").write_text("a: {{ .Values.nothing.at.all }}\n")
    assert helm.lint(broken, {}, strict=True)["errors"]
