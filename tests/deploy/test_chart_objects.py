"""What the chart renders, over the whole matrix of values."""

import itertools
import re
from typing import Any, Final

import pytest

from awsbatch_operator import __version__
from deploy import kubernetes_schemas
from deploy.charts import (
    ADMISSION,
    CLUSTER_SCOPED,
    CUSTOM,
    DIGEST,
    FACTORS,
    NAME,
    container_of,
    matrix,
    merged,
    objects,
    of_kind,
    only,
    pod_of,
    render,
)

VERSIONS: Final = ("1.31", "1.34", "1.37")
"""The oldest that the chart takes, and on to the newest whose schemas are at hand."""


def test_in_the_matrix_each_value_meets_each_other() -> None:
    assert matrix()[0][0] == {}, "the defaults come first"
    for one, other in itertools.combinations(FACTORS.values(), 2):
        for a, b in itertools.product(one, other):
            assert any(merged(values, a, b) == values for values, _ in matrix()), (a, b)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field_of_every_object(version: str) -> None:
    for _, all_objects in matrix():
        for body in all_objects:
            if body["kind"] not in CUSTOM:
                kubernetes_schemas.validate(body, version)


def test_the_same_values_give_the_same_text_and_no_object_comes_twice() -> None:
    for values, all_objects in matrix():
        assert render(values) == render(values)
        names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in all_objects]
        assert len(set(names)) == len(names)


def test_objects_are_in_the_release_s_namespace_and_roles_where_batchjobs_are_watched() -> None:
    for values, all_objects in matrix():
        watched = values.get("watchNamespaces", [])
        for body in all_objects:
            namespace, kind = body["metadata"].get("namespace"), body["kind"]
            if kind in CLUSTER_SCOPED:
                assert namespace is None
            else:
                assert namespace == NAME or (kind in ("Role", "RoleBinding") and namespace in watched), body


def test_every_object_has_valid_labels_and_names() -> None:
    for _, all_objects in matrix():
        for body in all_objects:
            labels = body["metadata"]["labels"]
            assert labels["app.kubernetes.io/instance"] == NAME
            assert labels["app.kubernetes.io/managed-by"] == "Helm"
            name, longest = body["metadata"]["name"], 253 if body["kind"] in ADMISSION else 63
            assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name), name
            assert len(name) <= longest
            assert all(re.fullmatch(r"([A-Za-z0-9][-\w.]{0,61})?[A-Za-z0-9]", label) for label in labels.values())


def test_common_labels_and_annotations_are_on_every_object_and_on_the_pods() -> None:
    for values, all_objects in matrix():
        if "commonLabels" not in values:
            continue
        for body in [*all_objects, pod_of(all_objects)]:
            labels, annotations = body["metadata"]["labels"], body["metadata"]["annotations"]
            assert (labels["cost-center"], labels["app.kubernetes.io/instance"]) == ("4711", NAME)
            assert annotations["example.com/owner"] == "platform"
        pods = values.get("podAnnotations", {}).get("note", "of all")
        assert pod_of(all_objects)["metadata"]["annotations"]["note"] == pods


def test_selectors_match_the_pods_of_the_deployment_and_never_change() -> None:
    for values, all_objects in matrix():
        pod, deployment = pod_of(all_objects), only(all_objects, "Deployment")
        service = only(all_objects, "Service")
        budgets, policies = (of_kind(all_objects, kind) for kind in ("PodDisruptionBudget", "NetworkPolicy"))
        selectors = [
            deployment["spec"]["selector"]["matchLabels"],
            service["spec"]["selector"],
            *(body["spec"]["selector"]["matchLabels"] for body in budgets),
            *(body["spec"]["podSelector"]["matchLabels"] for body in policies),
            *(one["labelSelector"]["matchLabels"] for one in pod["spec"].get("topologySpreadConstraints", [])),
        ]
        for selector in selectors:
            assert selector.items() <= pod["metadata"]["labels"].items(), values
            # A version in it would make each upgrade fail: a Deployment's selector can't be changed.
            assert set(selector) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
        for body in of_kind(all_objects, "ServiceMonitor"):
            assert body["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_ports_are_found_by_their_name() -> None:
    for _, all_objects in matrix():
        container = container_of(all_objects)
        (port,) = container["ports"]
        assert (port["name"], port["containerPort"]) == ("http", 8080)
        assert "--http-address=:8080" in container["args"]
        paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert paths == {
            kind: {"path": f"/{name}", "port": "http"}
            for kind, name in zip(paths, ("livez", "livez", "readyz"), strict=True)
        }
        (service,) = only(all_objects, "Service")["spec"]["ports"]
        assert (service["name"], service["targetPort"]) == ("http", "http")
        for body in of_kind(all_objects, "ServiceMonitor"):
            (endpoint,) = body["spec"]["endpoints"]
            assert (endpoint["port"], endpoint["path"]) == (service["name"], "/metrics")
        for body in of_kind(all_objects, "NetworkPolicy"):
            assert body["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": "http"}]


def test_one_replica_acts_at_any_time_and_each_may_finish_its_calls() -> None:
    for values, all_objects in matrix():
        deployment = only(all_objects, "Deployment")["spec"]
        assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert pod_of(all_objects)["spec"]["terminationGracePeriodSeconds"] > 10
        budgets = of_kind(all_objects, "PodDisruptionBudget")
        assert len(budgets) == (deployment["replicas"] > 1 and "podDisruptionBudget" not in values)
        for budget in budgets:
            assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ({}, f"ghcr.io/awsbatch-operator/awsbatch-operator:{__version__}"),
        ({"tag": "1.2.3"}, "ghcr.io/awsbatch-operator/awsbatch-operator:1.2.3"),
        ({"tag": "1.2.3", "digest": DIGEST}, f"ghcr.io/awsbatch-operator/awsbatch-operator@{DIGEST}"),
        ({"repository": "mirror.example:5000/ops/awsbatch"}, f"mirror.example:5000/ops/awsbatch:{__version__}"),
    ],
)
def test_a_digest_wins_over_a_tag_and_a_tag_over_the_chart_s_version(image: dict[str, Any], shown: str) -> None:
    assert container_of(objects({"image": image}))["image"] == shown


def test_a_release_of_another_name_carries_it() -> None:
    names = {one["kind"]: one["metadata"]["name"] for one in objects(name="blue", namespace="ops")}
    assert names["Deployment"] == names["ServiceAccount"] == names["Service"] == "blue-awsbatch-operator"


def test_the_network_policy_lets_out_what_the_operator_needs_and_not_to_imds() -> None:
    policy = only(objects({"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == [
        {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
        {"ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}]},
        {
            "to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}, {"ipBlock": {"cidr": "fd00:ec2::23/128"}}],
            "ports": [{"protocol": "TCP", "port": 80}],
        },
    ]
