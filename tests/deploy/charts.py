"""The chart as Helm itself renders it, over a matrix of values."""

import functools
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import helm_python as helm
import yaml
from helm_chart import CHART

Object = dict[str, Any]
Values = dict[str, Any]

NAME: Final = "awsbatch-operator"
"""Name of the release, its namespace and its ServiceAccount."""
ROLE: Final = "arn:aws:iam::111122223333:role/batch/awsbatch-operator"
DIGEST: Final = "sha256:" + "0a" * 32
MONITORING: Final[Values] = {
    name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "grafanaDashboard")
}
CUSTOM: Final = ("ServiceMonitor", "PrometheusRule")
"""Kinds that Kubernetes itself does not know."""
ADMISSION: Final = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
CLUSTER_SCOPED: Final = ("ClusterRole", "ClusterRoleBinding", *ADMISSION)
_PLACEMENT: Final = {
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "batch", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "topologySpreadConstraints": [],
    "podLabels": {"team": "batch"},
    "podAnnotations": {"note": "1"},
}
_SETTINGS: Final = {
    "pollInterval": {"running": "45s", "pending": "2m", "withEvents": "10m"},
    "listPolls": False,
    "eventsQueues": ["https://sqs.eu-west-1.amazonaws.com/111122223333/awsbatch-operator-events"],
    "allowRegions": ["eu-west-9", "xx-test-1"],
    "missingGrace": "5m",
    "resendAfter": "1500ms",
    "describeRate": 7.5,
    "terminateRate": 1,
    "metricsRoleLabel": False,
    "logFormat": "console",
    "logLevel": "debug",
    "accessPolicy": {"mode": "required"},
    "clusterName": "prod_eu.1",
    "lease": {"name": "batch-lease"},
    "aws": {"region": "us-gov-west-1"},
}
_EXTRA: Final = {
    "extraArgs": ["--poll-pending=7m"],
    "extraEnv": [{"name": "AWS_ENDPOINT_URL_BATCH", "value": "https://batch.example"}],
    "extraEnvFrom": [{"secretRef": {"name": "aws"}}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": True}],
    "imagePullSecrets": [{"name": "registry"}],
}
_PEERS: Final = {
    "enabled": True,
    "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
    "apiServerPorts": [8443],
    "extraEgress": [{"to": [{"ipBlock": {"cidr": "169.254.169.254/32"}}], "ports": [{"protocol": "TCP", "port": 80}]}],
}
COMMON: Final = {
    "commonLabels": {"cost-center": "4711", "app.kubernetes.io/instance": "x"},
    "commonAnnotations": {"example.com/owner": "platform", "note": "of all"},
}
FACTORS: Final[Mapping[str, Sequence[Values]]] = {
    "scope": ({}, {"watchNamespaces": ["team-a", NAME]}),
    "monitoring": ({}, {one: {"enabled": True, "labels": {"release": "kps"}} for one in MONITORING}),
    "policy": ({}, {"networkPolicy": {"enabled": True}}, {"networkPolicy": _PEERS}),
    "replicas": ({}, {"replicas": 1}, {"replicas": 5, "podDisruptionBudget": {"enabled": False}}),
    "image": ({}, {"image": {"tag": "1.2.3"}}, {"image": {"tag": "1.2.3", "digest": DIGEST}}),
    "extra": ({}, _EXTRA),
    "account": (
        {},
        {
            "aws": {"roleArn": ROLE},
            "serviceAccount": {"annotations": {"eks.amazonaws.com/sts-regional-endpoints": "true"}},
        },
        {"serviceAccount": {"create": False, "name": "batch"}},
    ),
    "rights": ({}, {"userRoles": {"aggregate": "view"}}, {"userRoles": {"create": False}, "rbac": {"create": False}}),
    "deletion": (
        {},
        {"onDelete": {"enabled": True, "timeout": "2h"}, "unattendedLimit": 50},
        {"rbac": {"finalizers": False}},
    ),
    "names": ({}, {"fullnameOverride": "batch"}, {"nameOverride": "n" * 60}),
    "placement": ({}, _PLACEMENT),
    "settings": ({}, _SETTINGS),
    "common": ({}, COMMON),
}


def merged(*all_values: Mapping[str, Any]) -> Values:
    """Later ones win; what is a mapping in both is merged."""
    result: Values = {}
    for values in all_values:
        for name, value in values.items():
            before = result.get(name)
            result[name] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def _pairs(row: Sequence[int]) -> frozenset[tuple[int, int, int, int]]:
    return frozenset((i, row[i], j, row[j]) for i, j in itertools.combinations(range(len(row)), 2))


def _pairwise(sizes: Sequence[int]) -> Iterator[Sequence[int]]:
    """Rows in which each value of each factor meets each value of each other factor, the defaults first."""
    random_ = random.Random(0)
    missing = {
        (i, a, j, b)
        for i, j in itertools.combinations(range(len(sizes)), 2)
        for a in range(sizes[i])
        for b in range(sizes[j])
    }
    row: Sequence[int] = [0] * len(sizes)
    while True:
        yield row
        missing -= _pairs(row)
        if not missing:
            return
        rows = [[random_.randrange(size) for size in sizes] for _ in range(40)]
        for each, (i, a, j, b) in zip(rows, itertools.cycle(sorted(missing)), strict=False):
            each[i], each[j] = a, b
        row = max(rows, key=lambda each: len(missing & _pairs(each)))


@functools.cache
def matrix() -> Sequence[tuple[Values, Sequence[Object]]]:
    """Values and what is rendered from them: all pairs of FACTORS."""
    rows = _pairwise([len(levels) for levels in FACTORS.values()])
    chosen = (merged(*(levels[n] for levels, n in zip(FACTORS.values(), row, strict=True))) for row in rows)
    return [(values, objects(values)) for values in chosen]


@functools.cache
def loaded() -> helm.Chart:
    return helm.Chart.load(CHART)


def render(values: Mapping[str, Any] | None = None, name: str = NAME, namespace: str = NAME) -> dict[str, str]:
    """Text by name of the template, without folders. Raises helm.HelmValuesError and HelmRenderError."""
    rendered = loaded().render(dict(values or {}), name=name, namespace=namespace)
    return {path.rpartition("/")[2]: text for path, text in rendered.items()}


def objects(values: Mapping[str, Any] | None = None, name: str = NAME, namespace: str = NAME) -> Sequence[Object]:
    texts = [text for path, text in render(values, name, namespace).items() if path.endswith(".yaml")]
    return [body for text in texts for body in yaml.load_all(text, yaml.CSafeLoader) if body]


def of_kind(all_objects: Iterable[Object], *kinds: str) -> Sequence[Object]:
    return [body for body in all_objects if body["kind"] in kinds]


def only(all_objects: Iterable[Object], kind: str) -> Object:
    (body,) = of_kind(all_objects, kind)
    return body


def pod_of(all_objects: Iterable[Object]) -> Object:
    """The Deployment's pod template."""
    template: Object = only(all_objects, "Deployment")["spec"]["template"]
    return template


def container_of(all_objects: Iterable[Object]) -> Object:
    (container,) = pod_of(all_objects)["spec"]["containers"]
    return dict(container)
