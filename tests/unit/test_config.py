import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from pydantic import ValidationError

from awsbatch_operator import __version__, cli
from awsbatch_operator.config import PREFIX, Address, Settings, SettingsError, flag, load
from awsbatch_operator.reconcile.poll_intervals import PollIntervals


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A region and a kubeconfig, and nothing else that settings are read from."""
    with monkeypatch.context() as patch:
        for name in [*os.environ]:
            if (
                name.startswith((PREFIX, "AWS_"))
                or name == "KUBERNETES_SERVICE_HOST"
                or name.upper().endswith("_PROXY")
            ):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_REGION", "ap-south-1")
        # No test connects, and OpenSSL takes 0.03 s to load the authorities of the system.
        patch.setenv("SSL_CERT_FILE", os.devnull)
        patch.chdir(tmp_path)
        context = {"cluster": "k"}
        kubeconfig = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": context}, {"name": "other", "context": context}],
            "clusters": [{"name": "k", "cluster": {"server": "https://k.example"}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        patch.setenv("KUBECONFIG", "kubeconfig")
        yield


def faults_of(flags: dict[str, Any], unknown: tuple[str, ...] = ()) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        load(flags, unknown)
    return raised.value.faults


def awsbatch_operator(*arguments: str, **environ: str) -> Result:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return CliRunner().invoke(cli.main, arguments, env=environ)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load({})
    assert settings.model_dump() == {
        "namespace": (),
        "region": "ap-south-1",
        "kubeconfig": None,
        "context": None,
        "allow_region": (),
        "access_policy": "optional",
        "cluster_name": "kubernetes",
        "http_address": ("0.0.0.0", 8080),
        "leader_elect": False,
        "lease_name": "awsbatch-operator",
        "lease_namespace": None,
        "poll_running": 30_000,
        "poll_pending": 60_000,
        "missing_grace": 120_000,
        "resend_after": 60_000,
        "describe_rate": 5,
        "terminate_rate": 40,
        "on_delete": "disabled",
        "on_delete_timeout": 3_600_000,
        "unattended_limit": 500,
        "events_queue": (),
        "poll_with_events": 300_000,
        "list_polls": True,
        "metrics_role_label": True,
        "log_format": "json",
        "log_level": "info",
    }
    assert settings.poll_intervals() == PollIntervals()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load({}).region = "eu-west-1"


QUEUE = "https://sqs.eu-west-1.amazonaws.com/111122223333/awsbatch-events"
GOOD = {
    "namespace": ("team-a", ("team-a",)),
    "region": ("us-gov-west-1", "us-gov-west-1"),
    "kubeconfig": ("kubeconfig", "kubeconfig"),
    "context": ("other", "other"),
    "allow_region": ("eu-west-9", ("eu-west-9",)),
    "access_policy": ("disabled", "disabled"),
    "cluster_name": ("Prod-1.eu_west", "Prod-1.eu_west"),
    "http_address": ("[::1]:9", Address("::1", 9)),
    "leader_elect": ("true", True),
    "lease_name": ("other.name", "other.name"),
    "lease_namespace": ("kube-system", "kube-system"),
    "poll_running": ("500ms", 500),
    "poll_pending": ("30s", 30_000),
    "missing_grace": ("2m", 120_000),
    "resend_after": ("1h", 3_600_000),
    "describe_rate": ("0.5", 0.5),
    "terminate_rate": ("100", 100.0),
    "on_delete": ("enabled", "enabled"),
    "on_delete_timeout": ("30m", 1_800_000),
    "unattended_limit": ("50", 50),
    "events_queue": (QUEUE, (QUEUE,)),
    "poll_with_events": ("10m", 600_000),
    "list_polls": ("false", False),
    "metrics_role_label": ("false", False),
    "log_format": ("console", "console"),
    "log_level": ("debug", "debug"),
}


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_a_flag_and_a_variable_and_the_flag_wins(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, value = GOOD[field]
    monkeypatch.setenv(PREFIX + field.upper(), text)
    assert getattr(load({}), field) == value
    monkeypatch.setenv(PREFIX + field.upper(), "!")
    given = (text,) if isinstance(value, tuple) and field != "http_address" else text
    assert getattr(load({field: given}), field) == value


def test_the_durations_reach_the_poll_intervals_by_name() -> None:
    intervals = load({field: text for field, (text, _) in GOOD.items()}).poll_intervals()
    assert intervals == PollIntervals(
        running=500,
        pending=30_000,
        missing_grace=120_000,
        resend_after=3_600_000,
        on_delete_timeout=1_800_000,
        with_events=600_000,
    )


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWSBATCH_OPERATOR_REGION", "")
    monkeypatch.setenv("AWSBATCH_OPERATOR_POLL_RUNNING", "")
    assert (load({}).region, load({}).poll_running) == ("ap-south-1", 30_000)


@pytest.mark.parametrize(("field", "one", "other"), [("namespace", "b", "a"), ("allow_region", "eu-x-1", "ab-c-2")])
def test_a_list_is_repeated_or_separated_by_commas(
    field: str, one: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert getattr(load({field: (one, other, one)}), field) == (one, other)
    monkeypatch.setenv(PREFIX + field.upper(), f"{one}, {other},,{one}")
    assert getattr(load({}), field) == (one, other)


BAD = {
    "namespace": (("Team-A",), "'Team-A': not the name of a namespace"),
    "region": ("eu-west-1a", "use the name of an AWS region"),
    "allow_region": (("eu-west-1", "eu_west_1"), "'eu_west_1': not the name of an AWS region"),
    "access_policy": ("off", "use 'disabled', 'optional' or 'required'"),
    "cluster_name": ("prod/eu", "use 1 to 63 letters"),
    "http_address": ("80", "use HOST:PORT"),
    "leader_elect": ("maybe", "use true or false"),
    "lease_name": ("-", "use lower-case letters"),
    "lease_namespace": ("a.b", "use the name of a namespace"),
    "poll_running": ("30", "use a duration from 100ms to 24h"),
    "poll_pending": ("99ms", "use a duration from 100ms to 24h"),
    "missing_grace": ("25h", "use a duration from 100ms to 24h"),
    "resend_after": ("-1s", "use a duration from 100ms to 24h"),
    "describe_rate": ("0", "use a number above 0"),
    "terminate_rate": ("nan", "use a number, such as 2.5"),
    "on_delete": ("yes", "use 'disabled' or 'enabled'"),
    "unattended_limit": ("2000000", "use 100000 or less"),
    "events_queue": (("arn:aws:sqs:eu-west-1:111122223333:events",), "use the URL of a standard SQS queue"),
    "poll_with_events": ("5", "use a duration from 100ms to 24h"),
    "list_polls": ("2", "use true or false"),
    "metrics_role_label": ("some", "use true or false"),
    "log_format": ("xml", "use 'json' or 'console'"),
    "log_level": ("loud", "use 'debug'"),
}


@pytest.mark.parametrize("field", BAD)
def test_a_fault_names_flag_variable_value_and_what_is_right(field: str) -> None:
    value, remedy = BAD[field]
    (fault,) = faults_of({field: value})
    shown = ",".join(value) if isinstance(value, tuple) else value
    assert fault.startswith(f"{flag(field)} / AWSBATCH_OPERATOR_{field.upper()} = {shown!r}: ")
    assert remedy in fault


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ({"kubeconfig": "absent"}, "--kubeconfig = absent: no such file"),
        ({"context": "absent"}, "--context: contexts[absent] does not exist in "),
    ],
)
def test_the_cluster_is_checked_with_the_settings(
    flags: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field, value in flags.items():
        monkeypatch.setenv(PREFIX + field.upper(), value)
    for given in (flags, {}):
        assert [found[: len(fault)] for found in faults_of(given)] == [fault]


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"AWS_REGION": "eu-west-1a"}, "AWS_REGION = 'eu-west-1a': use the name of an AWS region"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "Ireland"}, "AWS_DEFAULT_REGION = 'Ireland': use the name"),
        ({"AWS_REGION": "", "AWS_CONFIG_FILE": "aws"}, "region of the AWS profile default = 'x y': use the name"),
        (
            {"AWS_REGION": ""},
            "no AWS region for objects without spec.region: set this flag, AWS_REGION, or the region of a profile",
        ),
        (
            {"AWS_REGION": "", "AWS_PROFILE": "absent"},
            "The config profile (absent) could not be found; check AWS_PROFILE",
        ),
    ],
)
def test_the_region_of_the_aws_settings_is_checked_as_the_flag_is(
    variables: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("aws").write_text("[default]\nregion = x y\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (found,) = faults_of({})
    assert found.startswith(f"--region / AWSBATCH_OPERATOR_REGION: {fault}")
    assert load({"region": "eu-west-1"}).region == "eu-west-1"


@pytest.mark.parametrize("address", ["", "host", ":", "h:65536", "h:x", "::1:80", "a b:1", "h:1:2"])
def test_an_address_is_host_and_port(address: str) -> None:
    assert len(faults_of({"http_address": address})) == 1


@pytest.mark.parametrize(
    ("text", "address"), [(":8080", ("", 8080)), ("localhost:1", ("localhost", 1)), ("[::]:0", ("::", 0))]
)
def test_an_address_may_leave_out_the_host(text: str, address: tuple[str, int]) -> None:
    assert load({"http_address": text}).http_address == address


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize(
    "proxy",
    [
        *("http://[::1", "http://proxy:99999", "http://proxy:0", "http://me:secret@proxy:x", "http://", "http://a b:1"),
        *("socks5://proxy:1", "HTTP://proxy:1", " http://proxy:1", "http://%zz:1"),
    ],
)
def test_a_proxy_that_the_sdk_could_never_reach_is_a_fault_that_keeps_its_password_secret(
    name: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, proxy)
    proxy_fault, region_fault = faults_of({"region": "nowhere"})
    assert proxy_fault == f"{name}: not the URL of a proxy; use http://HOST:PORT"
    assert region_fault.startswith("--region")


@pytest.mark.parametrize(
    "proxy",
    [
        *(
            "",
            "proxy",
            "proxy.example:3128",
            "//proxy:3128",
            "http://proxy",
            "https://proxy:443/",
            "http://10.0.0.1:8080",
        ),
        *("http://me:p@ss@proxy_1:3128", "http://[fd00::1]:3128"),
    ],
)
def test_a_proxy_may_be_given_as_the_sdk_reads_it(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    load({})


def test_a_proxy_that_no_call_uses_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1")
    load({})


def test_all_faults_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWSBATCH_OPERATOR_REGOIN", "eu-west-1")
    bad = {field: value for field, (value, _) in BAD.items()}
    faults = faults_of({**bad, "kubeconfig": "absent"}, ("--poll-runing",))
    assert len(faults) == len(BAD) + 3
    assert "--kubeconfig = absent: no such file" in faults
    assert "--poll-runing: unknown setting; did you mean --poll-running?" in faults
    assert "AWSBATCH_OPERATOR_REGOIN: unknown setting; did you mean AWSBATCH_OPERATOR_REGION?" in faults


@pytest.mark.parametrize(
    "name",
    [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP",
        "PORT",
        "PORT_8080_TCP",
        "PORT_8080_TCP_ADDR",
        "METRICS_SERVICE_HOST",
        "METRICS_PORT_8080_TCP_PROTO",
    ],
)
def test_the_variables_of_a_kubernetes_service_are_no_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + name, "x")
    load({})


def test_invalid_flags_and_variables_exit_2_with_all_faults_on_stderr() -> None:
    result = awsbatch_operator(
        "run", "--poll-runing", "5s", "--poll-pending", "5", "--region", "x", AWSBATCH_OPERATOR_LOG_FORMAT="xml"
    )
    assert result.exit_code == 2
    assert result.stdout == ""
    heading, *faults = result.stderr.splitlines()
    assert heading == "awsbatch-operator: invalid settings:"
    assert [fault.split()[0] for fault in faults] == ["--poll-runing:", "--region", "--poll-pending", "--log-format"]


def test_a_stray_argument_is_a_fault() -> None:
    result = awsbatch_operator("run", "now")
    assert (result.exit_code, "now: unknown setting" in result.stderr) == (2, True)


def test_a_flag_without_its_value_is_a_fault() -> None:
    assert awsbatch_operator("run", "--region").exit_code == 2


def test_the_help_names_every_flag_with_its_default() -> None:
    text = " ".join(awsbatch_operator("run", "--help").output.split())
    defaults = {
        "namespace": "all",
        "region": "AWS_REGION or the region of the AWS profile",
        "kubeconfig": "KUBECONFIG, else the pod's service account, else ~/.kube/config",
        "context": "its current context",
        "allow_region": "none",
        "access_policy": "optional",
        "cluster_name": "kubernetes",
        "http_address": "0.0.0.0:8080",
        "leader_elect": "on inside a cluster",
        "lease_name": "awsbatch- operator",
        "lease_namespace": "that of the pod",
        "poll_running": "30s",
        "poll_pending": "60s",
        "missing_grace": "2m",
        "resend_after": "60s",
        "describe_rate": "5",
        "terminate_rate": "40",
        "on_delete": "disabled",
        "on_delete_timeout": "1h",
        "unattended_limit": "500",
        "events_queue": "none",
        "poll_with_events": "5m",
        "list_polls": "on",
        "metrics_role_label": "on",
        "log_format": "json",
        "log_level": "info",
    }
    assert set(defaults) == set(Settings.model_fields)
    for field, default in defaults.items():
        assert re.search(rf"{flag(field)} .*?\[default: {re.escape(default)}\]", text), field


def test_version_prints_the_operator_and_its_main_dependencies() -> None:
    result = awsbatch_operator("version")
    words = [line.split()[0] for line in result.output.splitlines()]
    assert words == ["awsbatch-operator", "kopf", "boto3", "python"]
    assert __version__ in result.output
