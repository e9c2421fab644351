"""Credentials that hang, of Kubernetes and of AWS: the start says so, and SIGTERM ends the process."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import OperatorProcess, operator_environment
from awsbatch_sandbox.processes import wait_for
from awsbatch_sandbox.world import World
from integration.scenario import SOON, phase

PROMISED = 10.0
"""Seconds between SIGTERM and the end of the process."""

# Credentials of the sandbox's kubeconfig that are good for two seconds, until the file "hang" exists.
PLUGIN = """#!/bin/sh
cd "$(dirname "$0")"
if [ -e hang ]; then touch hangs; sleep 600; fi
expiry=$(date --utc --date='2 seconds' +%Y-%m-%dT%H:%M:%SZ)
sed "s/EXPIRY/$expiry/" credential.json
"""


class Surroundings:
    """The environment of an operator whose exec plugin, or credential_process, hangs on demand."""

    def __init__(self, world: World, folder: Path) -> None:
        self.folder = folder
        kubeconfig = yaml.safe_load(world.control_plane.kubeconfig.read_text("utf-8"))
        (plugin := folder / "plugin").write_text(PLUGIN)
        plugin.chmod(0o700)
        (folder / "credential.json").write_text(json.dumps(_credential(kubeconfig["users"][0]["user"])))
        kubeconfig["users"][0]["user"] = {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": "./plugin",
                "interactiveMode": "Never",
            }
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig))
        self.environment = operator_environment(path, world.cache, world.batch.url)

    def hang(self) -> None:
        (self.folder / "hang").touch()

    def wait_until_it_hangs(self) -> None:
        wait_for((self.folder / "hangs").exists, timeout=SOON, what="the credentials hang")


def _credential(user: dict[str, str]) -> dict[str, Any]:
    status = {"token": "t", "expirationTimestamp": "EXPIRY"}
    if "client-key-data" in user:
        fields = {"client-certificate-data": "clientCertificateData", "client-key-data": "clientKeyData"}
        status |= {fields[name]: base64.b64decode(user[name]).decode() for name in fields}
        del status["token"]
    return {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}


@pytest.fixture
def surroundings(world: World, tmp_path: Path) -> Surroundings:
    return Surroundings(world, tmp_path)


def end(process: OperatorProcess) -> float:
    """Send SIGTERM; return the seconds until the process ended, with exit code 0."""
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    wait_for(lambda: not process.running, timeout=2 * PROMISED, what="the end of the operator")
    assert process.exit_code == 0, process.last_words()
    return time.monotonic() - began


@pytest.fixture
def started(surroundings: Surroundings, tmp_path: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(surroundings.environment, tmp_path, ["--poll-running=500ms"])
    process.launch()
    yield process
    if process.running:
        process.kill9()


def test_a_plugin_that_hangs_at_the_start_is_named_and_sigterm_ends_it(
    surroundings: Surroundings, tmp_path: Path
) -> None:
    surroundings.hang()
    process = OperatorProcess(surroundings.environment, tmp_path)
    process.launch()
    wait_for(lambda: "./plugin" in process.output(), timeout=SOON, what="what the start waits for")
    waits = [line["waits_for"] for line in process.logs() if line["message"] == "Kubernetes login takes long"]
    assert waits == ["the exec plugin './plugin' to finish, up to 30 s"]
    assert end(process) < 2


def test_sigterm_ends_an_operator_whose_plugin_hangs(
    world: World, cluster: Cluster, surroundings: Surroundings, started: OperatorProcess
) -> None:
    cluster.create("job", world.batch.seed())
    started.wait_ready()
    cluster.wait_for("job", phase("Running"), timeout=SOON)
    surroundings.hang()
    time.sleep(2.0)  # until the last credentials have expired, so that the next request asks for others
    # Its status can't be written: the shutdown waits for that write.
    cluster.terminate("job", "the operator ends")
    surroundings.wait_until_it_hangs()
    assert end(started) < PROMISED


def test_sigterm_ends_an_operator_whose_credential_process_hangs(
    world: World, cluster: Cluster, surroundings: Surroundings, tmp_path: Path
) -> None:
    aws = {name: value for name, value in surroundings.environment.items() if not name.startswith("AWS_ACCESS")}
    config = tmp_path / "aws"
    config.write_text(f"[default]\ncredential_process = sh -c 'touch {tmp_path}/hangs; sleep 600'\n")
    del aws["AWS_SECRET_ACCESS_KEY"]
    process = OperatorProcess(aws | {"AWS_CONFIG_FILE": str(config)}, tmp_path)
    process.launch()
    cluster.create("job", world.batch.seed(), terminate={"reason": "it waits for credentials"})
    surroundings.wait_until_it_hangs()
    wait_for(lambda: process.get("/livez")[0] == 200, timeout=SOON, what="the start")
    assert end(process) < PROMISED


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-fp", "true"], check=False).returncode != 0,
    reason="this user may not make a PID namespace",
)
def test_sigterm_ends_process_1_before_it_handles_signals_itself(surroundings: Surroundings, tmp_path: Path) -> None:
    surroundings.hang()
    program = ["unshare", "--fork", "--pid", "--kill-child", sys.executable, "-m", "awsbatch_operator"]
    process = OperatorProcess(surroundings.environment, tmp_path, program=program)
    process.launch()
    # In the midst of its start: it waits for the plugin.
    surroundings.wait_until_it_hangs()
    (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(first), signal.SIGTERM)
    wait_for(lambda: not process.running, timeout=5, what="the end of process 1")
    assert process.exit_code == 0, process.last_words()
