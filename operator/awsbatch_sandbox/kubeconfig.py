"""The kubeconfig of a control plane on this machine."""

import base64
import os
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

direct: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens http:// URLs of this machine, whatever proxy the environment names."""


def kubeconfig(server: str, ca: bytes, user: Mapping[str, str]) -> dict[str, Any]:
    """One context, `sandbox`; `ca` is PEM. `user`: its credentials; over TLS kubectl prompts for a name without any."""
    cluster = {"server": server, "certificate-authority-data": encoded(ca)}
    context = {"cluster": "sandbox", "user": "sandbox", "namespace": "default"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sandbox", "cluster": cluster}],
        "users": [{"name": "sandbox", "user": dict(user)}],
        "contexts": [{"name": "sandbox", "context": context}],
        "current-context": "sandbox",
    }


def encoded(pem: bytes) -> str:
    """PEM as the `...-data` fields have it."""
    return base64.b64encode(pem).decode()


def opener(ca: bytes) -> urllib.request.OpenerDirector:
    """Opens https:// URLs of this machine whose certificates that authority (PEM) signed."""
    context = ssl.create_default_context(cadata=ca.decode())
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))


def server_of(file: Path) -> tuple[str, urllib.request.OpenerDirector]:
    """The URL of the server in a kubeconfig that `kubeconfig` made, and an opener for it."""
    cluster = yaml.safe_load(file.read_text("utf-8"))["clusters"][0]["cluster"]
    return cluster["server"], opener(base64.b64decode(cluster["certificate-authority-data"]))


def write_private(path: Path, content: bytes) -> None:
    """Create a file that only this user may read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
