"""The operator's pods as the chart makes them: Pod Security "restricted", and flags that `run` knows."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import click
import pytest

from awsbatch_operator import cli, config
from awsbatch_operator.config import Settings
from deploy.charts import NAME, Object, Values, container_of, matrix, objects, of_kind, only, pod_of

pytestmark = pytest.mark.usefixtures("surroundings")

_VOLUMES: Final = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
)
_UNCONFINED: Final = ("RuntimeDefault", "Localhost")

RESTRICTED: Final[Mapping[str, Callable[[Object, Object], bool]]] = {
    "no host namespaces": lambda pod, _: not any(pod.get(f"host{name}") for name in ("Network", "PID", "IPC")),
    "no host ports": lambda _, one: not any(port.get("hostPort") for port in one.get("ports", [])),
    "no host process": lambda pod, one: not any("windowsOptions" in _security(each) for each in (pod, one)),
    "only volumes of the pod's own": lambda pod, _: all(set(v) - {"name"} <= _VOLUMES for v in pod.get("volumes", [])),
    "not privileged": lambda _, one: not _security(one).get("privileged"),
    "no more privileges later": lambda _, one: _security(one).get("allowPrivilegeEscalation") is False,
    "not as root": lambda pod, one: _either(pod, one, "runAsNonRoot") is True and _either(pod, one, "runAsUser") != 0,
    "seccomp": lambda pod, one: (_either(pod, one, "seccompProfile") or {}).get("type") in _UNCONFINED,
    "no capabilities": lambda _, one: _security(one).get("capabilities") == {"drop": ["ALL"]},
    "no sysctls": lambda pod, _: "sysctls" not in _security(pod),
    "no SELinux or AppArmor of its own": lambda pod, one: (
        not any({"seLinuxOptions", "appArmorProfile"} & set(_security(each)) for each in (pod, one))
    ),
    "/proc as it comes": lambda _, one: "procMount" not in _security(one),
    "probes of its own host": lambda _, one: (
        not any("host" in one[f"{k}Probe"]["httpGet"] for k in ("liveness", "readiness") if f"{k}Probe" in one)
    ),
}
"""The Pod Security Standard "restricted", control by control: of a pod's spec and one container."""


def _security(body: Object) -> Object:
    return dict(body.get("securityContext") or {})


def _either(pod: Object, container: Object, field: str) -> Any:
    return _security(container).get(field, _security(pod).get(field))


@pytest.mark.parametrize("control", RESTRICTED)
def test_pods_pass_pod_security_restricted(control: str) -> None:
    for _, all_objects in matrix():
        for pod, container in _pods(all_objects):
            assert RESTRICTED[control](pod, container), control


def _pods(all_objects: Iterable[Object]) -> Iterator[tuple[Object, Object]]:
    """The pods' specs, of the Deployment and of the hook of an uninstallation, each with its container."""
    for body in of_kind(all_objects, "Deployment", "Job"):
        pod = body["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        yield pod, container


def test_the_container_has_a_read_only_filesystem_and_no_root_user() -> None:
    for pod, container in (each for _, all_objects in matrix() for each in _pods(all_objects)):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (65532, 65532)
        assert "initContainers" not in pod


def test_the_platform_may_choose_the_uid() -> None:
    pod = pod_of(objects({"podSecurityContext": {"runAsUser": None, "runAsGroup": None}}))["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_the_token_is_mounted_in_these_pods_alone() -> None:
    for values, all_objects in matrix():
        account, pod = values.get("serviceAccount", {}).get("name", values.get("fullnameOverride")), pod_of(all_objects)
        made = of_kind(all_objects, "ServiceAccount")
        assert pod["spec"]["automountServiceAccountToken"] is True
        assert pod["spec"]["enableServiceLinks"] is False
        assert all(body["automountServiceAccountToken"] is False for body in made)
        assert pod["spec"]["serviceAccountName"] in (account, *(body["metadata"]["name"] for body in made))


def test_the_role_for_irsa_is_an_annotation_of_the_account_beside_others() -> None:
    values: Values = {
        "aws": {"roleArn": "arn:aws:iam::111122223333:role/x"},
        "serviceAccount": {"annotations": {"a": "b"}},
    }
    account = only(objects(values), "ServiceAccount")
    expected = {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/x", "a": "b"}
    assert account["metadata"]["annotations"] == expected
    plain = only(objects(), "ServiceAccount")
    assert "annotations" not in plain["metadata"], "Pod Identity needs none"


def settings_of(all_objects: Any) -> Settings:
    """What `awsbatch-operator run` makes of the container's arguments. Raises config.SettingsError."""
    command, *flags = container_of(all_objects)["args"]
    assert command == "run"
    context = click.Context(cli.run, allow_extra_args=True, ignore_unknown_options=True)
    cli.run.parse_args(context, list(flags))
    return config.load(context.params, context.args)


def test_run_accepts_every_flag() -> None:
    for values, all_objects in matrix():
        settings = settings_of(all_objects)
        assert settings.namespace == tuple(values.get("watchNamespaces", ()))
        assert settings.leader_elect is True, "with one replica too: during a roll-out there are two"
        assert settings.lease_namespace is None
        assert settings.http_address == ("", 8080), "IPv4 and IPv6"


def test_release_finalizers_accepts_the_flags_of_the_hook() -> None:
    for values, all_objects in matrix():
        for job in of_kind(all_objects, "Job"):
            command, *flags = job["spec"]["template"]["spec"]["containers"][0]["args"]
            assert command == cli.release_finalizers.name
            given = cli.release_finalizers.make_context(command, list(flags)).params
            assert given["namespace"] == tuple(values.get("watchNamespaces", ()))
            assert given["scale_down"] == only(all_objects, "Deployment")["metadata"]["name"]


def test_a_value_sets_the_setting_of_its_name_and_none_keeps_the_default() -> None:
    intervals = {"running": "45s", "pending": "2m", "withEvents": "10m"}
    times = {"pollInterval": intervals, "missingGrace": "1h", "resendAfter": "1500ms"}
    rates = {"describeRate": 0.25, "terminateRate": 1000, "logFormat": "console", "logLevel": "debug"}
    names = {"aws": {"region": "us-gov-west-1"}, "lease": {"name": "other"}, "clusterName": "prod"}
    names["allowRegions"] = ["eu-west-9", "xx-test-1"]
    given = settings_of(objects(times | rates | names | {"accessPolicy": {"mode": "required"}}))
    assert (given.poll_running, given.poll_pending, given.poll_with_events) == (45_000, 120_000, 600_000)
    assert (given.missing_grace, given.resend_after) == (
        3_600_000,
        1500,
    )
    assert (given.describe_rate, given.terminate_rate, given.log_format, given.log_level) == (
        0.25,
        1000,
        "console",
        "debug",
    )
    assert (given.region, given.lease_name) == ("us-gov-west-1", "other")
    assert given.allow_region == ("eu-west-9", "xx-test-1")
    assert (given.access_policy, given.cluster_name) == ("required", "prod")
    assert settings_of(objects({"metricsRoleLabel": False})).metrics_role_label is False
    given = settings_of(objects({"onDelete": {"enabled": True, "timeout": "2h"}, "unattendedLimit": 50}))
    assert (given.on_delete, given.on_delete_timeout, given.unattended_limit) == ("enabled", 7_200_000, 50)
    queues = [f"https://sqs.{region}.amazonaws.com/111122223333/events" for region in ("eu-west-1", "us-east-1")]
    given = settings_of(objects({"eventsQueues": queues, "listPolls": False}))
    assert (given.events_queue, given.list_polls) == (tuple(queues), False)
    assert settings_of(objects()) == config.load({"leader_elect": True, "http_address": ":8080"})


def test_a_value_that_an_older_release_lacks_keeps_the_operators_default() -> None:
    assert settings_of(objects({"listPolls": None, "metricsRoleLabel": None})) == settings_of(objects())


def test_additional_flags_take_precedence_over_those_of_the_chart() -> None:
    given = settings_of(
        objects({"pollInterval": {"running": "45s"}, "extraArgs": ["--poll-running=10s", "--namespace=team-a"]})
    )
    assert (given.poll_running, given.namespace) == (10_000, ("team-a",))


def test_pods_are_spread_by_zone_and_host_and_never_kept_waiting_for_it() -> None:
    spread = pod_of(objects())["spec"]["topologySpreadConstraints"]
    keys = {(one["topologyKey"], one["whenUnsatisfiable"], one["maxSkew"]) for one in spread}
    assert keys == {
        (f"{key}", "ScheduleAnyway", 1) for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    }
    own = {
        "maxSkew": 2,
        "topologyKey": "rack",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"a": "b"}},
    }
    assert pod_of(objects({"topologySpreadConstraints": [own]}))["spec"]["topologySpreadConstraints"] == [own]


def test_labels_of_pods_can_be_added_but_not_those_that_select_them() -> None:
    labels = pod_of(objects({"podLabels": {"team": "batch", "app.kubernetes.io/instance": "x"}}))["metadata"]["labels"]
    assert (labels["team"], labels["app.kubernetes.io/instance"]) == ("batch", NAME)


def test_the_probes_allow_a_minute_for_a_slow_start_and_for_a_hung_controller() -> None:
    container = container_of(objects())
    startup, live = container["startupProbe"], container["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 60
    # /livez fails 30 s after the engine stood still (process.py); so long do three answers take at most.
    assert live["periodSeconds"] * live["failureThreshold"] <= 30
    assert all(
        container[f"{name}Probe"]["timeoutSeconds"] <= container[f"{name}Probe"]["periodSeconds"]
        for name in ("startup", "liveness", "readiness")
    )


def test_memory_is_limited_well_above_the_measured_peak_and_cpu_is_not() -> None:
    resources = container_of(objects())["resources"]
    assert resources == {"requests": {"cpu": "50m", "memory": "160Mi"}, "limits": {"memory": "512Mi"}}
