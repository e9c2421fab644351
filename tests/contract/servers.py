"""The servers of the sandbox as processes, each for the tests of one module."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from awsbatch_sandbox.controlplane import Embedded
from awsbatch_sandbox.processes import Child


@contextmanager
def simulated_batch(directory: Path, *flags: str) -> Iterator[str]:
    """Yield the URL of AWS Batch; at the end the process must end well."""
    announced = directory / "url"
    command = [sys.executable, "-m", "awsbatch_sandbox.batch", f"--announce={announced}", *flags]
    batch = Child("Batch simulator", command, log=directory / "batch.log")
    batch.start()
    batch.ready(announced.exists, timeout=20)
    yield announced.read_text("utf-8").strip()
    assert "AWS Batch sandbox at " in batch.output()
    assert batch.stop() == 0


@contextmanager
def embedded_api_server(directory: Path) -> Iterator[Path]:
    """Yield the kubeconfig of an API server that serves all kinds."""
    server = Embedded(directory)
    server.launch()
    server.ready()
    yield server.kubeconfig
    server.stop()
