"""Splits the RBAC rules of a service account into single permissions, and finds the permission that a call needs."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

Body = Mapping[str, Any]
ANY: Final = ""

BASIC_USER: Final = frozenset({("authorization.k8s.io", "selfsubjectaccessreviews", "create")})
DISCOVERY: Final = frozenset({"/api", "/api/*", "/apis", "/apis/*"})
"""The permissions of system:basic-user and system:discovery, which every user has, that the operator uses."""


class Call(NamedTuple):
    """One kind of request. `url` is that of a request to no resource, else empty; `namespace` empty: of all."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    url: str


class ResourceAttributes(NamedTuple):
    """The least that a rule can grant. `namespace` ANY: in each, and across them; `name` ANY: whatever its name."""

    group: str
    resource: str
    verb: str
    namespace: str
    name: str

    def covers(self, call: Call) -> bool:
        return (
            (self.group, self.resource, self.verb) == (call.group, call.resource, call.verb)
            and self.namespace in (ANY, call.namespace)
            and self.name in (ANY, call.name)
        )


def rights_of(account: str, namespace: str, objects: Iterable[Body]) -> set[ResourceAttributes]:
    """All that the bindings among the objects give to the service account. KeyError when a role is not among them."""
    objects = list(objects)
    roles = {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in objects}
    found = set[ResourceAttributes]()
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding") or not _binds(binding, account, namespace):
            continue
        where = binding["metadata"].get("namespace", ANY)
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        for rule in roles[kind, where if kind == "Role" else "", name]["rules"]:
            found.update(of_rule(rule, where))
    return found


def _binds(binding: Body, account: str, namespace: str) -> bool:
    wanted = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    return wanted in binding["subjects"]


def of_rule(rule: Body, namespace: str) -> Iterator[ResourceAttributes]:
    assert "nonResourceURLs" not in rule, "the operator asks for nothing of that kind that not everybody may"
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames", [ANY]):
                    yield ResourceAttributes(group, resource, verb, namespace, name)


def everybody_may(call: Call) -> bool:
    """Whether Kubernetes' default roles grant the call to whoever is logged in."""
    if call.url:
        return call.verb == "get" and any(fnmatchcase(call.url, pattern) for pattern in DISCOVERY)
    return (call.group, call.resource, call.verb) in BASIC_USER


def ungranted(calls: Iterable[Call], rights: Iterable[ResourceAttributes]) -> set[Call]:
    rights = list(rights)
    return {call for call in calls if not everybody_may(call) and not any(right.covers(call) for right in rights)}


def spare(rights: Iterable[ResourceAttributes], calls: Iterable[Call]) -> set[ResourceAttributes]:
    """Rights without any of which all calls would be granted just the same."""
    rights, calls = set(rights), list(calls)
    return {right for right in rights if not ungranted(calls, rights - {right})}
