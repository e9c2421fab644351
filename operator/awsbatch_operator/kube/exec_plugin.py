"""Exec plugins: commands that print credentials (https://kubernetes.io/docs/reference/access-authn-authz/authentication/)."""

import atexit
import base64
import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from awsbatch_operator.kube.kubeconfig import Cluster, Entry, Exec, User

PLUGIN_SECONDS: Final = 30.0
"""Longest run time of a plugin; kubectl would wait forever."""

_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_TEXT_SHOWN: Final = 300
_running: Final[set[int]] = set()


class PluginError(Exception):
    """A plugin gave no credentials; the message does not name the plugin."""


class PluginCredentials(msgspec.Struct, frozen=True, rename="camel"):
    """The output of a plugin: a token, or a certificate with its key (PEM), or both."""

    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    status: PluginCredentials


@dataclass(frozen=True, slots=True)
class Plugin:
    """The exec plugin of a user. `cluster_info`: the cluster, for the plugin."""

    entry: Entry[User]
    exec: Exec
    cluster_info: Mapping[str, Any] | None = None

    def faults(self) -> list[str]:
        """Return the answers that need no run of the plugin."""
        if self.exec.api_version not in _VERSIONS:
            return [self.entry.fault("exec.apiVersion", f"must be {' or '.join(_VERSIONS)}")]
        if not self.exec.command:
            return [self.entry.fault("exec.command", "is missing")]
        if self.exec.interactive_mode == "Always":
            return [self.entry.fault("exec.interactiveMode", "the operator has no terminal: Always is not supported")]
        return []

    def run(self, on_wait: Callable[[str], None], seconds: float = PLUGIN_SECONDS) -> PluginCredentials:
        """Run the command. Raises PluginError, after `seconds` too.

        Calls `on_wait` with a description when a tenth of `seconds` is over.
        """
        try:
            process = subprocess.Popen(  # noqa: S603 - as kubectl, the command of the user's kubeconfig
                [self._command(), *(self.exec.args or ())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(),
                process_group=0,  # with its children: one that survives would keep the pipes open
            )
        except OSError as error:
            hint = f". {self.exec.install_hint.strip()}" if self.exec.install_hint else ""
            raise PluginError(f"cannot be started: {error.strerror}{hint}") from error
        _running.add(process.pid)
        try:
            output, errors = self._wait(process, on_wait, seconds)
        finally:
            _running.discard(process.pid)
        if process.returncode:
            text = " ".join(errors.decode(errors="replace").split())[-_TEXT_SHOWN:]
            raise PluginError(f"failed with exit code {process.returncode}: {text or 'it wrote nothing to stderr'}")
        return self._parse(output)

    def _command(self) -> str:
        # As kubectl: a bare name is searched for in PATH, a path starts at the directory of the kubeconfig.
        return str(self.entry.path(self.exec.command)) if os.sep in self.exec.command else self.exec.command

    def _environment(self) -> dict[str, str]:
        spec: dict[str, Any] = {"interactive": False}
        if self.cluster_info is not None:
            spec["cluster"] = self.cluster_info
        info = {"apiVersion": self.exec.api_version, "kind": "ExecCredential", "spec": spec}
        variables = {variable.name: variable.value for variable in self.exec.env or ()}
        return {**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(info)}

    def _wait(
        self, process: subprocess.Popen[bytes], on_wait: Callable[[str], None], seconds: float
    ) -> tuple[bytes, bytes]:
        try:
            try:
                return process.communicate(timeout=seconds / 10)
            except subprocess.TimeoutExpired:
                on_wait(f"the exec plugin {self.exec.command!r} to finish, up to {seconds:g} s")
                return process.communicate(timeout=seconds * 9 / 10)
        except subprocess.TimeoutExpired as error:
            _kill(process.pid)
            process.wait()
            raise PluginError(f"did not finish within {seconds:g} s") from error
        finally:
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def _parse(self, output: bytes) -> PluginCredentials:
        try:
            found = msgspec.json.decode(output, type=_ExecCredential)
        except msgspec.DecodeError as error:
            raise PluginError(f"printed no ExecCredential: {error}") from error
        if (found.kind, found.api_version) != ("ExecCredential", self.exec.api_version):
            raise PluginError(f"printed {found.kind} of {found.api_version} instead of {self.exec.api_version}")
        status = found.status
        if bool(status.client_certificate_data) != bool(status.client_key_data):
            raise PluginError("must print clientCertificateData and clientKeyData together")
        if not status.token and not status.client_certificate_data:
            raise PluginError("printed no credentials: neither a token nor a client certificate")
        return status


def cluster_info(cluster: Entry[Cluster], authority: bytes | None) -> dict[str, Any]:
    """The cluster, for a plugin with `provideClusterInfo`. `authority`: PEM."""
    value = cluster.value
    info = {
        "server": value.server,
        "tls-server-name": value.tls_server_name,
        "insecure-skip-tls-verify": value.insecure_skip_tls_verify,
        "certificate-authority-data": base64.b64encode(authority).decode() if authority else None,
        "proxy-url": value.proxy_url,
    }
    for extension in value.extensions or ():
        match extension:
            case {"name": "client.authentication.k8s.io/exec", "extension": config}:
                info["config"] = config
    return {name: content for name, content in info.items() if content}


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@atexit.register
def kill_plugins() -> None:
    """Kill the plugins that run."""
    for group in tuple(_running):
        _kill(group)
