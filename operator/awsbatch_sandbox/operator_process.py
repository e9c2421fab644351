"""The operator as its own process, as a Deployment would run it."""

import json
import os
import signal
import sys
import urllib.error
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from awsbatch_sandbox.cluster import kubectl_environment
from awsbatch_sandbox.kubeconfig import direct
from awsbatch_sandbox.processes import Child, ProcessError, free_port

REGION: Final = "eu-west-1"
_START_TIMEOUT: Final = 20.0
_FOREIGN: Final = ("AWS_", "AWSBATCH_OPERATOR_")


class OperatorProcess:
    """`flags` are those of `awsbatch-operator run`; a start after an end is a new process with the same ones.

    `program` starts the command line; the default is the one beside this Python, without packages that the image does
    not have.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        directory: Path,
        flags: Sequence[str] = (),
        program: Sequence[str | Path] = (sys.executable, "-m", "awsbatch_sandbox.like_the_image"),
    ) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        # Its world is its own: the Lease of an operator that a test killed must not keep the next one from starting.
        argv = [*program, "run", f"--http-address={self.address}", "--no-leader-elect", *flags]
        self._child = Child("operator", argv, log=directory / "operator.log", environment=environment)

    def start(self) -> None:
        """Returns once it is ready: its watch is synchronised and Batch answers."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        self._child.start()

    def wait_ready(self) -> None:
        self._child.ready(lambda: self.get("/readyz")[0] == 200, timeout=_START_TIMEOUT)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        return self._child.stop()

    def signal(self, number: signal.Signals) -> None:
        self._child.signal(number)

    def kill9(self) -> None:
        self._child.kill()

    @property
    def running(self) -> bool:
        return self._child.running

    @property
    def exit_code(self) -> int | None:
        """The exit code: None while it runs; minus the number of the signal that ended it."""
        return self._child.exit_code

    @property
    def pid(self) -> int:
        return self._child.pid

    def get(self, path: str) -> tuple[int, str]:
        """HTTP status and text of its own endpoints; status 0 when the connection is refused."""
        try:
            with direct.open(f"http://{self.address}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:  # or Python 3.14 complains, sooner or later
                return refusal.code, refusal.read().decode()
        except OSError:
            return 0, ""

    def metrics(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Samples by name: labels and value."""
        status, text = self.get("/metrics")
        if status != 200:
            raise ProcessError(f"/metrics answered {status}: {text}")
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def output(self) -> str:
        """The output of all its runs."""
        return self._child.output()

    def last_words(self) -> str:
        return self._child.last_words()

    def logs(self) -> list[dict[str, Any]]:
        """The complete lines of its log; ValueError when one is no JSON."""
        return [json.loads(line) for line in self.output().splitlines(keepends=True) if line.endswith("\n")]


def sandbox_aws(batch_url: str) -> dict[str, str]:
    """The variables that point every AWS client to the simulated Batch, and to no other AWS."""
    return {
        "AWS_ENDPOINT_URL_BATCH": batch_url,
        "AWS_ENDPOINT_URL_SQS": batch_url,
        "AWS_ENDPOINT_URL_EVENTBRIDGE": batch_url,
        # It answers GetCallerIdentity. To assume roles, use the simulated STS instead.
        "AWS_ENDPOINT_URL_STS": batch_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
    }


def operator_environment(kubeconfig: Path, cache: Path, batch_url: str) -> dict[str, str]:
    """This process's environment without variables that point to a real AWS account or configure the operator."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    nowhere = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return inherited | kubectl_environment(kubeconfig, cache) | nowhere | sandbox_aws(batch_url)
