"""Documents that say a little less, or allow a little more, than the one that is given."""

import copy
from collections.abc import Iterator
from typing import Any

from deploy.iam_decision import Document, listed


def mutants(document: Document) -> Iterator[tuple[str, Document]]:
    """Each with what was done to it: a statement or a condition taken away, an action, a resource or a value added."""
    for number, statement in enumerate(document["Statement"]):
        sid = statement["Sid"]
        others = [one for one in document["Statement"] if one["Sid"] != sid]
        yield f"{sid}: taken away", {**document, "Statement": others}

        def altered(number: int = number, **changes: Any) -> Document:
            fresh: dict[str, Any] = copy.deepcopy(dict(document))
            fresh["Statement"][number] |= changes
            return fresh

        service = listed(statement["Action"])[0].split(":")[0]
        if listed(statement["Action"]) != [f"{service}:*"]:
            yield f"{sid}: any action of {service}", altered(Action=f"{service}:*")
        if statement.get("Resource", "*") != "*":
            yield f"{sid}: any resource", altered(Resource="*")
        principal = statement.get("Principal", {})
        for kind in principal if isinstance(principal, dict) else ():
            yield f"{sid}: any principal of its kind", altered(Principal={kind: "*"})
        for operator, keys in statement.get("Condition", {}).items():
            for key in keys:
                fewer = {name: values for name, values in keys.items() if name != key}
                yield f"{sid}: without {key}", altered(Condition={**statement["Condition"], operator: fewer})
