"""Reads from the API server's records which requests of the operator it received."""

import json
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from awsbatch_sandbox.apiserver.routes import parse_path
from awsbatch_sandbox.kubeconfig import server_of
from deploy.rights import Call

Calls = Mapping[Call, frozenset[int]]
"""The HTTP codes that each kind of request was answered with."""

AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
_TESTS: Final = ("kubectl/", "awsbatch-sandbox")
"""User agents of observers. Whoever else asks is the operator, under whichever name."""
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get"}


class Record(ABC):
    @abstractmethod
    def clear(self) -> None: ...

    @abstractmethod
    def requests(self) -> Iterator[tuple[Call, int]]:
        """Since `clear`, with the HTTP codes that answered them. One that came several times may be recorded once."""

    def calls(self) -> Calls:
        found: dict[Call, frozenset[int]] = {}
        for call, code in self.requests():
            found[call] = found.get(call, frozenset()) | {code}
        return found


class RequestLog(Record):
    """The record of the embedded API server."""

    def __init__(self, kubeconfig: Path) -> None:
        server, self._opener = server_of(kubeconfig)
        self._url = f"{server}/_sandbox/requests"

    def clear(self) -> None:
        self._opener.open(urllib.request.Request(self._url, method="DELETE"), timeout=10).close()

    def requests(self) -> Iterator[tuple[Call, int]]:
        with self._opener.open(self._url, timeout=10) as answer:
            entries = json.load(answer)["items"]
        for entry in entries:
            if not entry["userAgent"].startswith(_TESTS):
                yield _asked(entry["method"], entry["path"], entry["query"]), entry["status"]


def _asked(method: str, path: str, query: str) -> Call:
    """A request as RBAC sees it."""
    target, verb = parse_path(path), _VERBS[method]
    if target is None or not target.plural:
        return Call(verb, "", "", "", "", path)
    if verb == "get" and not target.name:
        verb = "watch" if parse_qs(query).get("watch") in (["true"], ["1"]) else "list"
    resource = "/".join(filter(None, (target.plural, target.subresource)))
    return Call(verb, target.group, resource, target.namespace, target.name, "")


class AuditLog(Record):
    """The audit log of a kube-apiserver, for one user."""

    def __init__(self, path: Path, user: str) -> None:
        self._path, self._user, self._from = path, user, 0

    def clear(self) -> None:
        self._from = self._path.stat().st_size

    def requests(self) -> Iterator[tuple[Call, int]]:
        with self._path.open(encoding="utf-8") as lines:
            lines.seek(self._from)
            for line in lines:
                event = json.loads(line)
                if event["user"]["username"] == self._user:
                    yield _audited(event), event["responseStatus"]["code"]


def _audited(event: Mapping[str, Any]) -> Call:
    target = event.get("objectRef")
    if target is None:
        return Call(event["verb"], "", "", "", "", event["requestURI"].partition("?")[0])
    resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
    # The audit log names what a POST made; RBAC is asked before it has a name.
    name = "" if event["verb"] == "create" else target.get("name", "")
    return Call(event["verb"], target.get("apiGroup", ""), resource, target.get("namespace", ""), name, "")
