"""A Kubernetes API to work against: the embedded server, a real kube-apiserver with etcd, or one that exists."""

import json
import os
import signal
import socket
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from awsbatch_sandbox.kubeconfig import direct, server_of
from awsbatch_sandbox.processes import Child, wait_for

CHOICES: Final = ("auto", "embedded", "envtest")
ASSETS: Final = "KUBEBUILDER_ASSETS"
_CRDS: Final = (
    "batchjobs.awsbatch.dev.yaml",
    "batchaccesspolicies.awsbatch.dev.yaml",
    "batchterminations.awsbatch.dev.yaml",
)
_START_TIMEOUT: Final = 30.0


class ControlPlaneError(Exception):
    """A control plane is not available or can't do the requested operation; the message names the remedy."""


class ControlPlane(ABC):
    """`launch` and `ready` are two steps, so that a caller can start other things in between."""

    description: str
    can_go_away = True
    knows_batch_jobs = False
    """Whether the CRDs are installed from the start."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    @abstractmethod
    def launch(self) -> None: ...

    @abstractmethod
    def ready(self) -> None:
        """Wait until it answers. ProcessError when it does not in time."""

    @abstractmethod
    def stop(self) -> None:
        """Harmless when it never started."""

    @contextmanager
    def away(self, seconds: float) -> Iterator[None]:
        """Refuse connections from before the block begins until `seconds` later; then serve the same state."""
        self._vanish(seconds)
        back_at = time.monotonic() + seconds
        yield
        time.sleep(max(back_at - time.monotonic(), 0))
        self._return()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Accept connections without answers during the block; afterwards handle the requests that arrived."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    @abstractmethod
    def _vanish(self, seconds: float) -> None: ...

    @abstractmethod
    def _return(self) -> None: ...

    @abstractmethod
    def _signal(self, number: signal.Signals) -> None: ...


class Embedded(ControlPlane):
    """The small API server of this package, in memory."""

    description = "embedded API server (small, in memory; it is not Kubernetes)"
    knows_batch_jobs = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "kubeconfig")
        flags = (f"--kubeconfig={self.kubeconfig}", *(f"--crd={crd}" for crd in crd_files()))
        argv = (sys.executable, "-m", "awsbatch_sandbox.apiserver", *flags)
        self._child = Child("embedded API server", argv, log=directory / "apiserver.log")
        self._url, self._opener = "", direct

    def launch(self) -> None:
        self._child.start()

    def ready(self) -> None:
        # The kubeconfig is written before the URL is printed.
        self._child.ready(self._announced, timeout=_START_TIMEOUT)
        self._url, self._opener = server_of(self.kubeconfig)

    def stop(self) -> None:
        if self._child.running:
            self._child.stop()

    def _announced(self) -> bool:
        return any(line.startswith("https:") for line in self._child.output().splitlines())

    def order(self, action: str, **body: Any) -> None:
        """Send a control action of apiserver/controls.py, such as `fault` or `restore`. Raises urllib's HTTPError."""
        raw, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        order = urllib.request.Request(f"{self._url}/_sandbox/{action}", raw, headers)  # noqa: S310  our own server
        self._opener.open(order, timeout=10).close()

    def requests(self) -> list[dict[str, Any]]:
        """Its request log: `method`, `path`, `query`, `userAgent` and `status` of each kind of request, and `count`."""
        with self._opener.open(f"{self._url}/_sandbox/requests", timeout=10) as response:
            items: list[dict[str, Any]] = json.load(response)["items"]
        return items

    def _vanish(self, seconds: float) -> None:
        self.order("away", seconds=seconds)
        wait_for(lambda: not self._listens(), timeout=5, what="the API server goes away", every=0.005)

    def _return(self) -> None:
        self._child.ready(self._listens, timeout=_START_TIMEOUT)

    def _signal(self, number: signal.Signals) -> None:
        self._child.signal(number)

    def _listens(self) -> bool:
        address = urlsplit(self._url)
        return listens(address.hostname or "", address.port or 0)


class Existing(ControlPlane):
    """The cluster that KUBECONFIG names; it is neither started nor stopped."""

    description = "the cluster of KUBECONFIG"
    can_go_away = False

    def __init__(self) -> None:
        kubeconfig = os.environ.get("KUBECONFIG")
        if not kubeconfig:
            raise ControlPlaneError("KUBECONFIG is not set: let it name the kubeconfig of the cluster to use")
        super().__init__(Path(kubeconfig))

    def launch(self) -> None:
        """It runs."""

    def ready(self) -> None:
        """It was ready before."""

    def stop(self) -> None:
        """It keeps running."""

    def _vanish(self, seconds: float) -> None:
        raise ControlPlaneError(f"an existing cluster can't be stopped for {seconds:g} s: use embedded or envtest")

    def _return(self) -> None:
        """It was never stopped."""

    def _signal(self, number: signal.Signals) -> None:
        raise ControlPlaneError(f"an existing cluster gets no {number.name}: use embedded or envtest")


def choose(name: str, directory: Path) -> ControlPlane:
    """The control plane of that name, with its files in `directory`. ControlPlaneError when it is not available."""
    from awsbatch_sandbox.envtest import Envtest  # noqa: PLC0415  (cryptography takes 0.1 s; only Envtest needs it here)

    assets = os.environ.get(ASSETS)
    if name == "existing":
        return Existing()
    if name == "envtest" or (name == "auto" and assets):
        return Envtest(directory, assets)
    if name in CHOICES:
        return Embedded(directory)
    raise ControlPlaneError(f"--control-plane must be one of {', '.join((*CHOICES, 'existing'))}, got {name!r}")


def crd_file() -> Path:
    """The CRD of BatchJobs alone."""
    return crd_files()[0]


def crd_files() -> tuple[Path, ...]:
    """All CRDs, that of BatchJobs first: as the wheel carries them, else of the source tree of an editable install."""
    return tuple(_found(name) for name in _CRDS)


def _found(crd: str) -> Path:
    packaged = resources.files("awsbatch_sandbox") / crd
    beside = Path(__file__).resolve().parents[2] / "crds" / crd
    for candidate in (packaged, beside):
        if isinstance(candidate, Path) and candidate.is_file():
            return candidate
    raise ControlPlaneError(f"{crd} is neither in the package nor at {beside}: reinstall awsbatch-operator")


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
