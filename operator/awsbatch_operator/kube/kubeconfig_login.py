"""Logins by a kubeconfig: context, cluster and proxy stay as they were at the start, the user is read anew."""

import base64
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import structlog

from awsbatch_operator.kube import proxy, tls
from awsbatch_operator.kube.cluster_config import FILE_LIFETIME, ClusterConfig, Faults, NoClusterError
from awsbatch_operator.kube.exec_plugin import Plugin, PluginCredentials, PluginError, cluster_info
from awsbatch_operator.kube.kubeconfig import Cluster, Entry, Kubeconfig, User

_HEADER_NAME: Final = "!#$&'*+^`|"
"""Characters of a header name besides letters, digits and those that `quote` never quotes."""

log = structlog.get_logger(__name__)

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Server:
    """`authority`: PEM; None: the certificate authorities of the system."""

    url: str
    authority: bytes | None
    proxy: str | None


@dataclass(frozen=True, slots=True)
class _Identity:
    """The credentials in a user's entry. `certificate`: client certificate with its key, PEM."""

    certificate: tuple[bytes, bytes] | None
    authorization: str | None
    impersonation: tuple[Header, ...]


class KubeconfigLogin:
    """Logs in by one context of kubeconfig files; `context` None: the current one. Raises NoClusterError."""

    def __init__(
        self, files: list[Path], context: str | None, environ: Mapping[str, str], now: Callable[[], datetime]
    ) -> None:
        self._files, self._now = files, now
        selected = Kubeconfig(files).select(context)
        self.namespace = selected.context.value.namespace or "default"
        self._cluster, user = selected.cluster, selected.user
        self._user_name = user.name if user else None
        faults = Faults()
        with faults.collected():
            self._server = _read_server(selected.cluster, environ)
            self._make_context()
        with faults.collected():
            identity = _read_user(user) if user else None
            if user and identity and identity.certificate:
                _identify(tls.make_context(None), user, *identity.certificate)
        faults.raise_found()

    def load(self) -> ClusterConfig:
        """Return the credentials of now. Blocks: runs the exec plugin. Raises NoClusterError."""
        context, url, proxy_url = self._make_context(), self._server.url, self._server.proxy
        if self._user_name is None:
            return ClusterConfig(url, self.namespace, context, proxy=proxy_url)
        # By name, from the same files: a token or certificate that was renewed there counts, another context does not.
        user = Kubeconfig(self._files).user(self._user_name)
        identity, printed = _read_user(user), self._run_plugin(user)
        authorization, certificate = identity.authorization, identity.certificate
        if printed.token:
            authorization = f"Bearer {_one_line(user, 'exec', printed.token)}"
        if printed.client_certificate_data and printed.client_key_data:
            certificate = printed.client_certificate_data.encode(), printed.client_key_data.encode()
        if context is not None and certificate is not None:
            _identify(context, user, *certificate)
        headers = ((("Authorization", authorization),) if authorization else ()) + identity.impersonation
        from_files = user.value.token_file or user.value.client_certificate or user.value.client_key
        expires_at = printed.expiration_timestamp or (self._now() + FILE_LIFETIME if from_files else None)
        return ClusterConfig(url, self.namespace, context, headers, proxy_url, expires_at)

    def _make_context(self) -> ssl.SSLContext | None:
        if not self._server.url.startswith("https://"):
            return None
        cluster = self._cluster.value
        insecure, name = bool(cluster.insecure_skip_tls_verify), cluster.tls_server_name or None
        try:
            return tls.make_context(self._server.authority, insecure=insecure, server_name=name)
        except tls.PemError as error:
            field = error.field + ("-data" if cluster.certificate_authority_data else "")
            raise NoClusterError(self._cluster.fault(field, str(error))) from error

    def _run_plugin(self, user: Entry[User]) -> PluginCredentials:
        value = user.value
        # As kubectl: with a token in the kubeconfig the plugin is not asked.
        if value.exec is None or value.token or value.token_file:
            return PluginCredentials()
        info = cluster_info(self._cluster, self._server.authority) if value.exec.provide_cluster_info else None
        try:
            return Plugin(user, value.exec, info).run(
                lambda what: log.warning("Kubernetes login takes long", waits_for=what)
            )
        except PluginError as error:
            raise NoClusterError(user.fault("exec", f"the plugin {value.exec.command!r} {error}")) from error


def _read_server(cluster: Entry[Cluster], environ: Mapping[str, str]) -> _Server:
    value, url = cluster.value, (cluster.value.server or "").rstrip("/")
    faults, authority, proxy_url = Faults(), None, None
    with faults.collected():
        data, file = value.certificate_authority_data, value.certificate_authority
        authority = _pem(cluster, "certificate-authority", data, file)
    if authority and value.insecure_skip_tls_verify:
        problem = "cannot be combined with certificate-authority: remove one of them"
        faults.append(cluster.fault("insecure-skip-tls-verify", problem))
    if not _is_url(url):
        faults.append(cluster.fault("server", "use the URL of the API server, such as https://k8s.example.com:6443"))
        raise NoClusterError(*faults)
    try:
        proxy_url = proxy.checked(value.proxy_url) if value.proxy_url else proxy.from_environment(url, environ)
    except proxy.ProxyError as error:
        faults.append(f"{error.source or cluster.field('proxy-url')}: {error}")
    faults.raise_found()
    return _Server(url, authority, proxy_url)


def _is_url(url: str) -> bool:
    try:
        parsed = urlsplit(url)
        return bool(parsed.scheme in ("https", "http") and parsed.hostname and parsed.port != 0)
    except ValueError:
        return False


def _read_user(user: Entry[User]) -> _Identity:
    """Read all but what an exec plugin prints. Raises NoClusterError with all faults."""
    value, faults = user.value, Faults()
    certificate = key = authorization = None
    impersonation: tuple[Header, ...] = ()
    with faults.collected():
        certificate = _pem(user, "client-certificate", value.client_certificate_data, value.client_certificate)
        key = _pem(user, "client-key", value.client_key_data, value.client_key)
        if (certificate is None) != (key is None):
            missing = "client-key" if key is None else "client-certificate"
            raise NoClusterError(user.fault(missing, "is missing: a certificate and its key belong together"))
    with faults.collected():
        authorization = _authorization(user)
    with faults.collected():
        impersonation = _impersonation(user)
    if value.auth_provider is not None:
        problem = "is not supported: use an exec plugin instead, such as kubelogin for OIDC"
        faults.append(user.fault("auth-provider", problem))
    if value.exec is not None:
        faults += Plugin(user, value.exec).faults()
    faults.raise_found()
    return _Identity((certificate, key) if certificate and key else None, authorization, impersonation)


def _pem(entry: Entry[Cluster] | Entry[User], field: str, data: str | None, file: str | None) -> bytes | None:
    """Data goes before a file, as for kubectl."""
    try:
        if data:
            return tls.decode(data)
        return entry.path(file).read_bytes() if file else None
    except ValueError as error:
        raise NoClusterError(entry.fault(f"{field}-data", str(error))) from error
    except OSError as error:
        raise NoClusterError(
            entry.fault(field, f"{entry.path(file or '')} cannot be read: {error.strerror}")
        ) from error


def _identify(context: ssl.SSLContext, user: Entry[User], certificate: bytes, key: bytes) -> None:
    try:
        tls.load_client_certificate(context, certificate, key)
    except tls.PemError as error:
        value = user.value
        data = value.client_key_data if error.field == "client-key" else value.client_certificate_data
        field = "exec" if not (value.client_certificate or value.client_certificate_data) else error.field
        problem = f"the plugin's {error.field} {error}" if field == "exec" else str(error)
        raise NoClusterError(user.fault(f"{field}-data" if data else field, problem)) from error


def _authorization(user: Entry[User]) -> str | None:
    value, token, named_by = user.value, user.value.token, "token"
    if value.token_file:
        # It goes before the token, as for kubectl: the token may be the file's content of long ago.
        named_by = "tokenFile"
        path = user.path(value.token_file)
        try:
            token = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "is not text"
            raise NoClusterError(user.fault(named_by, f"{path} cannot be read: {problem}")) from error
        if not token.strip():
            raise NoClusterError(user.fault(named_by, f"{path} is empty"))
    if token and value.username:
        raise NoClusterError(user.fault("username", f"cannot be combined with {named_by}: remove one of them"))
    if token:
        return f"Bearer {_one_line(user, named_by, token)}"
    if value.username:
        return "Basic " + base64.b64encode(f"{value.username}:{value.password or ''}".encode()).decode()
    return None


def _impersonation(user: Entry[User]) -> tuple[Header, ...]:
    value = user.value
    fields = {"as-uid": value.as_uid, "as-groups": value.as_groups, "as-user-extra": value.as_user_extra}
    if not value.impersonate:
        given = [field for field, content in fields.items() if content]
        if given:
            raise NoClusterError(user.fault(given[0], "needs as: the name of the user to impersonate"))
        return ()
    headers = [("Impersonate-User", _one_line(user, "as", value.impersonate))]
    if value.as_uid:
        headers.append(("Impersonate-Uid", _one_line(user, "as-uid", value.as_uid)))
    headers += [("Impersonate-Group", _one_line(user, "as-groups", group)) for group in value.as_groups or ()]
    for key, contents in (value.as_user_extra or {}).items():
        name = f"Impersonate-Extra-{quote(key, safe=_HEADER_NAME)}"
        headers += [(name, _one_line(user, "as-user-extra", content)) for content in contents]
    return tuple(headers)


def _one_line(user: Entry[User], field: str, text: str) -> str:
    text = text.strip()
    if not text.isprintable():
        raise NoClusterError(user.fault(field, "must be one line of text without control characters"))
    return text
