"""Evaluates IAM policies as far as deploy/ needs it. An unknown condition operator raises."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """`context` holds condition keys, such as aws:RequestedRegion or aws:ResourceTag/managed-by.

    A tuple for a key of many values, such as aws:TagKeys.
    """

    action: str
    resource: str = "*"
    context: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    principal: tuple[str, str] | None = None
    """For the policy of a role, queue or bus: kind and name, such as ("Service", "pods.eks.amazonaws.com")."""


def allows(document: Document, request: Request) -> bool:
    """Return the decision: denied by default, and a Deny takes precedence."""
    return effects(document, request) == {"Allow"}


def effects(document: Document, request: Request) -> set[str]:
    """Effects of the statements that apply to the request."""
    return {one["Effect"] for one in listed(document["Statement"]) if _applies(one, request)}


def listed(value: Any) -> list[Any]:
    """IAM takes one value for a list of one."""
    return value if isinstance(value, list) else [value]


def _applies(statement: Mapping[str, Any], request: Request) -> bool:
    known = {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}
    assert set(statement) <= known, f"not read here: {set(statement) - known}"
    return (
        any(fnmatchcase(request.action.lower(), one.lower()) for one in listed(statement["Action"]))
        and any(_names(one, request.resource) for one in listed(statement.get("Resource", "*")))
        and _trusts(statement.get("Principal"), request)
        and all(_holds(operator, keys, request) for operator, keys in statement.get("Condition", {}).items())
    )


def _names(pattern: str, resource: str) -> bool:
    """A wildcard stays inside its part of an ARN: the account can't be taken for a piece of the region."""
    if pattern == "*":
        return True
    parts, asked = pattern.split(":", 5), resource.split(":", 5)
    return len(parts) == len(asked) and all(map(fnmatchcase, asked, parts))


def _trusts(principal: Mapping[str, Any] | str | None, request: Request) -> bool:
    if principal is None or request.principal is None:
        # A policy of a role has no principal, a trust policy always has one.
        return (principal is None) is (request.principal is None)
    if isinstance(principal, str):
        return principal == "*"
    kind, name = request.principal
    return not {name, "*"}.isdisjoint(listed(principal.get(kind, [])))


def _holds(operator: str, keys: Mapping[str, Any], request: Request) -> bool:
    if operator == "ForAllValues:StringEquals":
        # Of a key that is not there, all values are as they should be: it bounds, it does not demand.
        return all(set(_found(request, key)) <= _wanted(request, values) for key, values in keys.items())
    if operator == "StringEqualsIfExists":
        keys = {key: values for key, values in keys.items() if key in request.context}
        operator = "StringEquals"
    # Of ARNs here none has a wildcard, and of Booleans all are spelled the same.
    assert operator in ("StringEquals", "ArnEquals", "Bool"), f"not read here: {operator}"
    # Each key must be there: a condition on a tag that the job lacks does not hold.
    return all(request.context.get(key) in _wanted(request, values) for key, values in keys.items())


def _found(request: Request, key: str) -> tuple[str, ...]:
    found = request.context.get(key, ())
    return found if isinstance(found, tuple) else (found,)


def _wanted(request: Request, values: Any) -> set[str]:
    """Variables filled in. A value with one that the request lacks matches nothing, not even its own text."""
    wanted = set()
    for value in listed(values):
        named = re.findall(r"\$\{([^}]*)\}", value)
        if all(name in request.context for name in named):
            wanted.add(re.sub(r"\$\{([^}]*)\}", lambda match: str(request.context[match[1]]), value))
    return wanted
