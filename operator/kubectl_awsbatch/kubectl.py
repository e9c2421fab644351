"""Runs the caller's kubectl, and turns what it complains about into errors with a remedy."""

from __future__ import annotations

import re
import subprocess

from kubectl_awsbatch.errors import NO_PERMISSION, STALLED, UNAVAILABLE, USAGE, CommandError
from kubectl_awsbatch.output import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from kubectl_awsbatch.proxy import Proxy

    Object = dict[str, Any]

JOBS = "batchjobs.awsbatch.dev"
TERMINATIONS = "batchterminations.awsbatch.dev"
API_VERSION = "awsbatch.dev/v1alpha1"
UNANSWERED_AFTER = 60.0
"""Seconds after which an operator that has not answered may be down. A slow AWS Batch delays it by up to 31 s."""
CHECK_OPERATOR = (
    "check that the operator runs and watches this namespace. A running one renews its Lease every few seconds: "
    "`kubectl get leases -A --field-selector metadata.name=awsbatch-operator "
    "-o custom-columns=HOLDER:.spec.holderIdentity,RENEWED:.spec.renewTime`"
)
_LONGEST_CALL = 60.0
"""Seconds after which a kubectl that should have answered is stopped."""
_REQUEST = "--request-timeout=30s"

_UNREACHABLE = (
    r"nable to connect|was refused|no such host|timeout|timed out|deadline exceeded|TLS handshake|reset by peer|\bEOF\b"
    r"|\((ServiceUnavailable|InternalError|Timeout|ServerTimeout|TooManyRequests)\)|etcdserver|x509|is unreachable"
    r"|no route to host|currently unable to handle|unexpected error when reading"
)
"""A connection that fails, or an API server that cannot answer at this time."""
_NO_CONTEXT = (
    r"context was not found|cannot locate context|context \S+ does not exist|error loading config file"
    r"|^stat \S+: no such file"
)
_KINDS = (
    ("unreachable", rf"failed to download openapi: .*({_UNREACHABLE})"),
    ("not installed", r"doesn't have a resource type|no matches for kind|could not find the requested resource"),
    ("conflict", r"\(Conflict\)"),
    ("exists", r"\(AlreadyExists\)"),
    ("not found", r"\(NotFound\)"),
    ("forbidden", r"\(Forbidden\)|is forbidden:"),
    ("not logged in", r"\(Unauthorized\)|must be logged in|getting credentials|asked for the client to provide cred"),
    ("too old", r"unknown (shorthand )?flag|unknown command"),
    ("no such context", _NO_CONTEXT),
    ("no kubeconfig", r"current-context must exist|no configuration has been provided|localhost:8080"),
    ("bad selector", r"label selector"),
    ("invalid", r"is invalid:?|\(BadRequest\)|error validating|unable to parse|unable to find"),
    ("unreachable", _UNREACHABLE),
)
_REMEDIES = {
    "no kubectl": "Install kubectl, or add its directory to PATH: https://kubernetes.io/docs/tasks/tools/",
    "not installed": "Check that this is the right cluster, or ask the platform team to install the custom resource "
    "definitions (kubectl apply -k crds).",
    "forbidden": "Ask the platform team for permission: the ClusterRole awsbatch-operator-view to read, also "
    "awsbatch-operator-edit for stop and adopt, and also awsbatch-operator-bulk-terminate for stop "
    "--queue.",
    "not logged in": "Log in to the cluster again; `kubectl get namespaces` must work first.",
    "too old": "This plugin needs kubectl 1.24 or newer; see `kubectl version --client`.",
    "no such context": "See `kubectl config get-contexts`, and check --context, --kubeconfig and KUBECONFIG.",
    "no kubeconfig": "Set KUBECONFIG, or use --kubeconfig and --context.",
    "bad selector": "Write -l as run=42 or run=42,team!=a.",
    "unreachable": "Check the network, the VPN and the context (`kubectl config get-contexts`): `kubectl version` "
    "must work first.",
}
_EXIT_CODES = {
    "not found": STALLED,
    "forbidden": NO_PERMISSION,
    "not logged in": NO_PERMISSION,
    "no such context": USAGE,
    "no kubeconfig": USAGE,
    "bad selector": USAGE,
    "no kubectl": UNAVAILABLE,
    "not installed": UNAVAILABLE,
    "too old": UNAVAILABLE,
    "unreachable": UNAVAILABLE,
}


class KubectlError(CommandError):
    """kubectl failed. `kind` is a key of the tables of this module."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message, _REMEDIES.get(kind, ""), _EXIT_CODES.get(kind, 1))
        self.kind = kind


def error_of(stderr: str) -> KubectlError:
    """The error that kubectl reports. Lines that client-go logs are left out, unless there is nothing else."""
    lines = [clean(line) for line in stderr.splitlines() if line.strip()]
    messages = [line for line in lines if not re.match(r"[EWI]\d{4} ", line)] or lines[-1:]
    text = " ".join(dict.fromkeys(messages)).removeprefix("error: ") or "kubectl failed without a message"
    kind = next((kind for kind, pattern in _KINDS if re.search(pattern, text)), "other")
    if kind == "forbidden" and "ValidatingAdmissionPolicy" in text:
        kind = "denied"  # the policy's own message has the remedy
    if kind == "no kubeconfig" and "current-context" in text:
        text = f"no cluster is selected: the kubeconfig is missing or has no current context{_kubeconfig()}"
    if found := re.search(r'label selector (".*?"), field selector "": (.*?)( Error from|$)', text):
        text = f"{found[1]} is not a label selector: {found[2]}"  # for two kinds kubectl says so twice
    return KubectlError(kind, re.sub(r"^Error from server \(\w+\): ", "", text))


def _kubeconfig() -> str:
    import os

    named = os.environ.get("KUBECONFIG")
    return f" (KUBECONFIG is {named})" if named else ""


class ClusterContext:
    """Context of the commands. `server` is empty if kubectl does not show it."""

    __slots__ = ("everywhere", "name", "namespace", "server")

    def __init__(self, name: str, namespace: str, server: str, *, everywhere: bool = False) -> None:
        self.name, self.namespace, self.server, self.everywhere = name, namespace, server, everywhere

    def __str__(self) -> str:
        server = f", server {clean(self.server)}" if self.server else ""
        namespace = "all namespaces" if self.everywhere else f"namespace {clean(self.namespace)}"
        return f"context {clean(self.name)}, {namespace}{server}"


class Kubectl:
    """The caller's kubectl, with the flags that the caller gave for it."""

    def __init__(self, flags: Sequence[str] = (), namespace: str | None = None, *, everywhere: bool = False) -> None:
        self._flags, self._namespace, self.everywhere = list(flags), namespace, everywhere
        self._context: ClusterContext | None = None
        self.proxy: Proxy | None = None
        """Patches are sent through it as far as it answers."""

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                ["kubectl", *arguments, *self._flags],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            message = f"cannot run kubectl: {error.strerror}"
            if isinstance(error, FileNotFoundError):
                message = "kubectl is not on PATH"
            raise KubectlError("no kubectl", message) from None

    def run(self, *arguments: str, stdin: str = "") -> str:
        """Return what kubectl prints. Raises KubectlError when it fails, or does not answer within a minute."""
        with self.start(*arguments) as process:
            import json  # noqa: F401  for _parsed: kubectl works meanwhile

            try:
                out, err = process.communicate(stdin.encode(), _LONGEST_CALL)
            except subprocess.TimeoutExpired:
                process.kill()
                raise KubectlError("unreachable", f"kubectl {arguments[0]} did not answer in a minute") from None
            finally:
                if process.poll() is None:
                    process.terminate()
        if process.returncode:
            raise error_of(err.decode(errors="replace"))
        return out.decode(errors="replace")

    def cluster_context(self) -> ClusterContext:
        """The context, namespace and server that kubectl itself would use; from now on this object keeps to them."""
        if self._context is None:
            self._context = self._find_context()
            if self._context.name != _IN_CLUSTER:
                kept = [flag for flag in self._flags if not flag.startswith("--context=")]
                self._flags = [*kept, f"--context={self._context.name}"]
            self._namespace = self._context.namespace
        return self._context

    def _find_context(self) -> ClusterContext:
        try:
            view = _parsed(self.run("config", "view", "--minify", "-o", "json"))
        except KubectlError as error:
            namespace = _pod_namespace() if error.kind == "no kubeconfig" else ""
            if not namespace:
                raise
            return ClusterContext(_IN_CLUSTER, self._namespace or namespace, "")
        context = view["contexts"][0]
        servers = [one["cluster"].get("server", "") for one in view.get("clusters") or []]
        namespace = self._namespace or context["context"].get("namespace") or "default"
        return ClusterContext(context["name"], namespace, servers[0] if servers else "", everywhere=self.everywhere)

    def scope(self, namespace: str | None = None) -> list[str]:
        """The flags that choose the namespace."""
        if namespace is None and self.everywhere:
            return ["--all-namespaces"]
        chosen = namespace or self._namespace
        return [f"--namespace={chosen}"] if chosen else []

    def get(
        self,
        kinds: str,
        names: Sequence[str] = (),
        *,
        selector: str = "",
        fields: str = "",
        namespace: str | None = None,
    ) -> list[Object]:
        """The objects that exist, of one kind or several (separated by commas)."""
        arguments = ["get", kinds, *names, "-o", "json", _REQUEST, *self.scope(namespace)]
        if names:
            arguments.append("--ignore-not-found")
        arguments += [f"--selector={selector}"] if selector else []
        arguments += [f"--field-selector={fields}"] if fields else []
        text = self.run(*arguments)
        if not text.strip():
            return []
        answer = _parsed(text)
        return list(answer["items"]) if "items" in answer else [answer]

    def get_everywhere(self, kind: str, fields: str) -> list[Object]:
        """The objects of all namespaces; none if the caller may not list them."""
        try:
            return self._all().get(kind, fields=fields)
        except KubectlError:
            return []

    def _all(self) -> Kubectl:
        return Kubectl(self._flags, everywhere=True)

    def patch(self, kind: str, known: Object, change: Object, *, dry_run: bool = False) -> Object:
        """Merge-patch the object, unless another writer changed it since `known` was read: error "conflict"."""
        metadata = known["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        guarded = {"metadata": {one: metadata[one] for one in ("uid", "resourceVersion")}, **change}
        if self.proxy and (changed := self.proxy.patch(kind, namespace, name, guarded, dry_run=dry_run)):
            return changed
        import json

        arguments = ["patch", kind, name, "--type=merge", "-o", "json", _REQUEST]
        arguments += [f"--patch={json.dumps(guarded)}", *self.scope(namespace)]
        return _parsed(self.run(*arguments, *_dry(dry_run)))

    def create(self, body: Object, *, dry_run: bool = False) -> Object:
        import json

        arguments = ("create", "-f", "-", "-o", "json", _REQUEST, *self.scope(), *_dry(dry_run))
        return _parsed(self.run(*arguments, stdin=json.dumps(body)))

    def delete(self, kind: str, name: str) -> None:
        self.run("delete", kind, name, "--ignore-not-found", "--wait=false", _REQUEST, *self.scope())

    def command(self, *arguments: str) -> str:
        """The command line that a person can paste to do the same."""
        import shlex

        scope = () if self.everywhere else self.scope()
        return shlex.join(["kubectl", *(clean(one) for one in (*arguments, *scope, *self._flags))])


_IN_CLUSTER = "of the pod"


def _pod_namespace() -> str:
    """The namespace that kubectl uses inside a pod without a kubeconfig; empty outside of pods."""
    import os

    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        return ""
    if named := os.environ.get("POD_NAMESPACE"):
        return named
    try:
        with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _dry(dry_run: bool) -> tuple[str, ...]:
    return ("--dry-run=server",) if dry_run else ()


def _parsed(text: str) -> Object:
    import json

    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise KubectlError("other", f"kubectl printed no JSON object but {clean(text[:80])!r}")
    return answer
