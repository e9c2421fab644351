"""Logins to the cluster: by a kubeconfig, or by the pod's service account.

The order is that of controller-runtime: --kubeconfig, KUBECONFIG, the pod, ~/.kube/config. What is found at the start
stays: later logins renew the credentials, and never lead to another server.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import structlog

from awsbatch_operator.kube import proxy, tls
from awsbatch_operator.kube.cluster_config import FILE_LIFETIME, ClusterConfig, NoClusterError
from awsbatch_operator.kube.exec_plugin import PLUGIN_SECONDS
from awsbatch_operator.kube.kubeconfig_login import KubeconfigLogin
from awsbatch_operator.workqueue.log_once import Change, LogOnce

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_KUBECONFIG: Final = "~/.kube/config"
LOGIN_SECONDS: Final = PLUGIN_SECONDS + 5
"""Longest wait for a login: an exec plugin exits earlier, but a file system may hang forever."""

__all__ = ["ClusterConfig", "Login", "NoClusterError", "Renewal", "inside_cluster"]

log = structlog.get_logger(__name__)


def inside_cluster(environ: Mapping[str, str] = os.environ, service_account: Path = SERVICE_ACCOUNT) -> bool:
    """Return whether this process runs in a pod with a service account."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST")) and (service_account / "token").is_file()


class _Source(Protocol):
    namespace: str

    def load(self) -> ClusterConfig: ...


class Login:
    """Logs in to one cluster, that which is found when the object is made. Raises NoClusterError with all faults.

    A call returns the current credentials. It blocks (files, exec plugins): not for an event loop. For any thread.
    """

    def __init__(
        self,
        kubeconfig: str | None = None,
        context: str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        service_account: Path = SERVICE_ACCOUNT,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._problem = clock, LogOnce()
        self._pending_since: float | None = None
        files = _files(kubeconfig, environ)
        self._source: _Source
        if not (files or context) and inside_cluster(environ, service_account):
            self._source = _Pod(environ, service_account, now)
        else:
            files = files or _default_files(environ, service_account)
            self._source = KubeconfigLogin(files, context, environ, now)
        self.namespace = self._source.namespace

    def pending_for(self) -> float:
        """Return for how many seconds a login has been trying without success; 0.0: none is."""
        since = self._pending_since
        return 0.0 if since is None else self._clock() - since

    def __call__(self) -> ClusterConfig:
        if self._pending_since is None:
            self._pending_since = self._clock()
        try:
            config = self._source.load()
        except NoClusterError as error:
            _report(self._problem, str(error))
            raise
        self._pending_since = None
        _report(self._problem, "")
        return config


class Renewal:
    """Runs logins in a thread, one at a time however many callers wait. A caller waits for at most `seconds`."""

    def __init__(self, load: Callable[[], ClusterConfig], seconds: float = LOGIN_SECONDS) -> None:
        self._load, self._seconds = load, seconds
        self._login: asyncio.Future[ClusterConfig] | None = None
        self._problem = LogOnce()

    async def __call__(self) -> ClusterConfig:
        login = self._login
        if login is None or login.done():
            # A login that hangs is not started again: each would take a thread.
            login = self._login = asyncio.ensure_future(asyncio.to_thread(self._load))
            login.add_done_callback(_retrieve)
        await asyncio.wait({login}, timeout=self._seconds)
        problem = "" if login.done() else f"the login to Kubernetes did not finish within {self._seconds:g} s"
        _report(self._problem, problem)
        if problem:
            raise NoClusterError(problem)
        return login.result()


def _report(reported: LogOnce, problem: str) -> None:
    match reported.report(problem):
        case Change.BEGAN | Change.CHANGED:
            log.warning("Kubernetes login failed", error=problem)
        case Change.ENDED:
            log.info("Kubernetes logins succeed again")


def _retrieve(login: asyncio.Future[ClusterConfig]) -> None:
    """All callers may have given up before: asyncio would complain that nobody saw the error."""
    if not login.cancelled():
        login.exception()  # noqa: LOG004 - of a future


# -- where it is ------------------------------------------------------------------------------------------------------


def _files(kubeconfig: str | None, environ: Mapping[str, str]) -> list[Path]:
    """Return the files that are named explicitly."""
    if kubeconfig:
        return [_existing([kubeconfig], "--kubeconfig")[0]]
    named = [path for path in environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    return _existing(named, "KUBECONFIG") if named else []


def _existing(names: list[str], named_by: str) -> list[Path]:
    files = [Path(name).expanduser().absolute() for name in names]
    if not any(file.exists() for file in files):
        raise NoClusterError(f"{named_by} = {os.pathsep.join(names)}: no such file")
    return files


def _default_files(environ: Mapping[str, str], service_account: Path) -> list[Path]:
    file = Path(DEFAULT_KUBECONFIG).expanduser()
    if file.exists():
        return [file]
    no_pod = f"{service_account / 'token'} does not exist"
    if not environ.get("KUBERNETES_SERVICE_HOST"):
        no_pod = "KUBERNETES_SERVICE_HOST is not set"
    raise NoClusterError(
        f"no Kubernetes cluster: KUBECONFIG is not set, {file} does not exist, and this is not a pod with a "
        f"service account ({no_pod}). Set KUBECONFIG or --kubeconfig to a file that works with kubectl"
    )


class _Pod:
    """The service account of the pod, and the address of the API server in the variables that the kubelet sets."""

    def __init__(self, environ: Mapping[str, str], folder: Path, now: Callable[[], datetime]) -> None:
        self._environ, self._folder, self._now = environ, folder, now
        namespace = folder / "namespace"
        self.namespace = namespace.read_text(encoding="utf-8").strip() if namespace.is_file() else "default"
        self.load()

    def load(self) -> ClusterConfig:
        server, authority = _server(self._environ), self._folder / "ca.crt"
        try:
            token = (self._folder / "token").read_text(encoding="utf-8").strip()
            context = tls.make_context(authority.read_bytes())
            proxy_url = proxy.from_environment(server, self._environ)
        except (OSError, UnicodeDecodeError) as error:
            raise NoClusterError(f"{self._folder}: {error}") from error
        except tls.PemError as error:
            raise NoClusterError(f"{authority}: {error}") from error
        except proxy.ProxyError as error:
            raise NoClusterError(f"{error.source}: {error}") from error
        if not token:
            raise NoClusterError(f"{self._folder / 'token'} is empty")
        headers = (("Authorization", f"Bearer {token}"),)
        return ClusterConfig(server, self.namespace, context, headers, proxy_url, self._now() + FILE_LIFETIME)


def _server(environ: Mapping[str, str]) -> str:
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT")
    if not port:
        raise NoClusterError("KUBERNETES_SERVICE_HOST is set, but KUBERNETES_SERVICE_PORT is not")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
