"""Address of the API server and credentials for it: the pod's service account, else the kubeconfig.

The `kubernetes` package reads both: it knows exec plugins, client certificates, tokens and proxies.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes.client import Configuration
from kubernetes.client.rest import should_bypass_proxies
from kubernetes.config import ConfigException
from kubernetes.config.incluster_config import InClusterConfigLoader
from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_KUBECONFIG: Final = "~/.kube/config"

_FILE_LIFETIME: Final = timedelta(minutes=10)
"""How long a token from a file is used before the file is read again: the kubelet renews the file in time."""

_NEVER_PROXIED: Final = "localhost,127.0.0.0/8,::1"
"""Loopback addresses, as in client-go: a proxy from the environment can't reach this host's loopback."""

# The loader validates nothing before use: a malformed kubeconfig raises any of these.
_UNUSABLE: Final = (ConfigException, OSError, yaml.YAMLError, AttributeError, TypeError, ValueError, KeyError)


class NoClusterError(Exception):
    """No usable credentials; the message names the places that were searched and the remedy."""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """One API server and its credentials. Files are paths; `proxy` is a URL; reload at `expires_at` (UTC)."""

    server: str
    namespace: str = "default"
    ca_path: str | None = None
    insecure: bool = False
    tls_server_name: str | None = None
    certificate_path: str | None = None
    private_key_path: str | None = None
    scheme: str | None = None
    token: str | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"{self.scheme} {self.token}"} if self.token else {}

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS settings; None for plain HTTP. Raises OSError (ssl.SSLError too) if a file is unusable."""
        if not self.server.startswith("https://"):
            return None
        context = ssl.create_default_context(cafile=self.ca_path)
        if self.certificate_path:
            context.load_cert_chain(self.certificate_path, self.private_key_path)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def inside_cluster(environ: Mapping[str, str] = os.environ, service_account: Path = SERVICE_ACCOUNT) -> bool:
    """Return whether this process runs in a pod with a service account."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST")) and (service_account / "token").is_file()


def load(
    environ: Mapping[str, str] = os.environ, service_account: Path = SERVICE_ACCOUNT, now: datetime | None = None
) -> ClusterConfig:
    """Load the current configuration. Blocks (files, exec plugins): not for the event loop. Raises NoClusterError."""
    now = now or datetime.now(UTC)
    try:
        return _in_cluster(environ, service_account, now)
    except (ConfigException, OSError) as no_pod:
        paths = environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
        try:
            return _from_kubeconfig(paths, now)
        except _UNUSABLE as no_file:
            raise NoClusterError(_remedy(environ, paths, no_pod, no_file)) from no_file


def _remedy(environ: Mapping[str, str], paths: str, no_pod: Exception, no_file: Exception) -> str:
    origin = "KUBECONFIG" if environ.get("KUBECONFIG") else "KUBECONFIG is not set, its default is"
    missing = not any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep) if path)
    found = "no such file" if missing else str(no_file).strip().removesuffix(".") or type(no_file).__name__
    return (
        f"no Kubernetes cluster: neither a pod's service account in it ({str(no_pod).strip().removesuffix('.')}) "
        f"nor a usable kubeconfig ({origin} {paths}: {found}). Set KUBECONFIG to a kubeconfig file that works with "
        "kubectl, or run in a pod whose service account token is mounted"
    )


def _in_cluster(environ: Mapping[str, str], service_account: Path, now: datetime) -> ClusterConfig:
    config = Configuration()
    token, authority = service_account / "token", service_account / "ca.crt"
    loader = InClusterConfigLoader(str(token), str(authority), try_refresh_token=False, environ=environ)  # type: ignore[no-untyped-call]
    loader.load_and_set(config)  # type: ignore[no-untyped-call]
    try:
        namespace = (service_account / "namespace").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        namespace = "default"
    return _cluster_config(config, namespace, now + _FILE_LIFETIME)


def _from_kubeconfig(paths: str, now: datetime) -> ClusterConfig:
    merged = KubeConfigMerger(paths)  # type: ignore[no-untyped-call]
    if merged.config is None:
        raise ConfigException("no such file")
    loader = KubeConfigLoader(merged.config, config_base_path=None, config_persister=merged.save_changes)  # type: ignore[no-untyped-call]
    context: Mapping[str, Any] = loader.current_context["context"]
    named = merged.config["users"].get_with_name(context["user"], safe=True) if context.get("user") else None
    user: Mapping[str, Any] = named["user"].value if named else {}
    config = Configuration()
    loader.load_and_set(config)  # type: ignore[no-untyped-call]
    if "exec" in user and not (config.api_key.get("BearerToken") or config.cert_file):
        # The loader only logs the cause; without this check every call would fail with 401.
        raise ConfigException(f"its exec plugin {user['exec'].get('command')!r} gave no credentials")
    expires_at = getattr(loader, "expiry", None) or (now + _FILE_LIFETIME if "tokenFile" in user else None)
    return _cluster_config(config, context.get("namespace") or "default", expires_at, getattr(loader, "proxy", None))


def _cluster_config(
    config: Configuration, namespace: str, expires_at: datetime | None, proxy: str | None = None
) -> ClusterConfig:
    # The loader puts both here: "Bearer …" for a token, "Basic …" for a name and password.
    scheme, _, token = (config.api_key.get("BearerToken") or "").partition(" ")
    return ClusterConfig(
        server=config.host,
        namespace=namespace,
        ca_path=config.ssl_ca_cert,
        insecure=not config.verify_ssl,
        tls_server_name=config.tls_server_name,
        certificate_path=config.cert_file,
        private_key_path=config.key_file,
        scheme=scheme.capitalize() or None,
        token=token.strip() or None,
        proxy=proxy or _environment_proxy(config),
        expires_at=expires_at,
    )


def _environment_proxy(config: Configuration) -> str | None:
    rules = f"{config.no_proxy or ''},{_NEVER_PROXIED}"
    return None if should_bypass_proxies(config.host, rules) else config.proxy
