"""One `kubectl proxy` for the patches of many objects: to start a kubectl for each takes a fifth of a second of CPU."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import tempfile

from kubectl_awsbatch.kubectl import API_VERSION, error_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from kubectl_awsbatch.kubectl import Kubectl

    Object = dict[str, Any]

_START = 10.0
_REQUEST = 30.0
"""Seconds until a proxy that has not started, or an unanswered request, is given up."""


class Proxy:
    """Serves the caller's credentials on a socket that only the caller can open, for the API of this plugin only."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="awsbatch-")
        self._path = os.path.join(self._directory.name, "socket")
        flags = f"--unix-socket={self._path}", f"--accept-paths=^/apis/{API_VERSION}/"
        self._process = kubectl.start("proxy", *flags)

    def __enter__(self) -> Self:
        assert self._process.stdout
        if select.select([self._process.stdout], [], [], _START)[0]:
            self._process.stdout.readline()
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._directory.cleanup()

    def patch(self, kind: str, namespace: str, name: str, change: Object, *, dry_run: bool) -> Object | None:
        """The object, merge-patched; None if another way must be tried. Raises KubectlError if the API refuses it."""
        query = "?fieldManager=kubectl-patch" + ("&dryRun=All" if dry_run else "")
        path = f"/apis/{API_VERSION}/namespaces/{namespace}/{kind.partition('.')[0]}/{name}{query}"
        connection = _Connection(self._path)
        try:
            headers = {"Content-Type": "application/merge-patch+json"}
            connection.request("PATCH", path, json.dumps(change).encode(), headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if response.status < 300 and isinstance(answer, dict):
            return answer
        if response.status in (408, 429) or response.status >= 500 or not isinstance(answer, dict):
            return None  # kubectl knows when to try again
        raise error_of(f"Error from server ({answer.get('reason')}): {answer.get('message')}")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_REQUEST)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_REQUEST)
        self.sock.connect(self._path)
