"""Exec plugins as processes: what they get, what they print, and how one that hangs is ended."""

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from awsbatch_operator.kube.exec_plugin import Plugin, PluginCredentials, PluginError, cluster_info, kill_plugins
from awsbatch_operator.kube.kubeconfig import Cluster, Entry, Exec, User, Variable

V1 = "client.authentication.k8s.io/v1"
FILE = Path("/etc/operator/kubeconfig")


def printed(status: object, api_version: str = V1, kind: str = "ExecCredential") -> str:
    return json.dumps({"apiVersion": api_version, "kind": kind, "status": status})


def plugin(script: str, file: Path = FILE, info: dict[str, Any] | None = None, **fields: Any) -> Plugin:
    """One that runs a script of the shell."""
    command = Exec(**{"api_version": V1, "command": "sh", "args": ["-c", script], **fields})
    return Plugin(Entry("users", "u", file, User(exec=command)), command, info)


def fail(what: str) -> None:
    raise AssertionError(what)


def test_it_gets_the_cluster_and_its_variables_and_no_terminal() -> None:
    cluster = Cluster(
        server="https://k",
        proxy_url="http://p",
        extensions=[{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}, {"name": "x"}],
    )
    info = cluster_info(Entry("clusters", "k", FILE, cluster), b"PEM")
    # It returns what it got as its token: base64 keeps the answer JSON.
    echo = 'cat; T=$(printf %s "$KUBERNETES_EXEC_INFO" | base64 -w0); '
    script = echo + f'printf \'{printed({"token": "%s"}, "%s")}\' "$V" "$T"'
    token = plugin(script, info=info, env=[Variable("V", V1)]).run(fail).token
    assert json.loads(base64.b64decode(token or "")) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://k",
                "proxy-url": "http://p",
                "certificate-authority-data": "UEVN",
                "config": {"audience": "a"},
            },
        },
    }


def test_a_command_with_a_path_starts_at_the_directory_of_the_kubeconfig(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "plugin"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\necho '{printed({'token': 't'})}'\n")
    script.chmod(0o700)
    found = plugin("", tmp_path / "kubeconfig", command="bin/plugin", args=None).run(fail)
    assert found == PluginCredentials(token="t")


def test_a_certificate_may_stand_for_a_token() -> None:
    status = {"clientCertificateData": "C", "clientKeyData": "K"}
    found = plugin(f"echo '{printed(status)}'").run(fail)
    assert found == PluginCredentials(client_certificate_data="C", client_key_data="K")


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo 'not logged in' >&2; exit 3", "failed with exit code 3: not logged in"),
        ("exit 1", "failed with exit code 1: it wrote nothing to stderr"),
        ("echo hello", "printed no ExecCredential: "),
        ("echo '{}'", "printed no ExecCredential: Object missing required field `apiVersion`"),
        (f"echo '{printed({'token': 1})}'", "Expected `str | null`, got `int` - at `$.status.token`"),
        (f"echo '{printed({'token': 't'}, V1 + 'beta1')}'", f"printed ExecCredential of {V1}beta1 instead of {V1}"),
        (f"echo '{printed({})}'", "printed no credentials: neither a token nor a client certificate"),
        (
            f"echo '{printed({'clientCertificateData': 'C'})}'",
            "must print clientCertificateData and clientKeyData together",
        ),
    ],
)
def test_a_plugin_that_gives_nothing_is_an_error(script: str, problem: str) -> None:
    with pytest.raises(PluginError) as raised:
        plugin(script).run(fail)
    assert problem in str(raised.value)


def test_a_command_that_is_not_installed_is_an_error_with_its_hint() -> None:
    with pytest.raises(PluginError, match=r"^cannot be started: No such file or directory\. Install it\.$"):
        plugin("", command="no-such-plugin", install_hint="Install it.\n").run(fail)


def test_a_plugin_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    waits: list[str] = []
    pids = tmp_path / "pids"
    with pytest.raises(PluginError, match=r"^did not finish within 0\.3 s$"):
        plugin(f"echo $$ > {pids}; sleep 600 & echo $! >> {pids}; wait").run(waits.append, seconds=0.3)
    assert waits == ["the exec plugin 'sh' to finish, up to 0.3 s"]
    assert_gone(pids)


def test_all_are_killed_at_the_end_of_the_process(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    # Called in place of the wait's explanation: while the plugin runs.
    with pytest.raises(PluginError, match="exit code -9"):
        plugin(f"echo $$ > {pids}; sleep 600").run(lambda _: kill_plugins(), seconds=2)
    assert_gone(pids)


def assert_gone(pids: Path) -> None:
    deadline = time.monotonic() + 5
    for pid in map(int, pids.read_text().split()):
        while _runs(pid) and time.monotonic() < deadline:
            os.sched_yield()
        assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
