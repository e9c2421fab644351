"""Conditions of the trust policy of a role: tests set them. A role without conditions trusts every caller."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from awsbatch_sandbox.sts.query import RefusedError

HOUR: Final = 3600
ANY: Final = "*"
_ROLE_ARN: Final = re.compile(r"arn:[a-z-]+:iam::(\d{12}):role/(?:.+/)?[\w+=,.@-]{1,64}", re.ASCII)
REFUSALS: Final[Mapping[str, tuple[int, str]]] = {
    "AccessDenied": (403, ""),
    "RegionDisabledException": (403, "STS is not activated in this region for account"),
    "PackedPolicyTooLarge": (400, "Packed size of session tags consumes 104% of allotted space."),
    "Throttling": (400, "Rate exceeded"),
    "InternalFailure": (500, "The request processing has failed because of an unknown error."),
    "ServiceUnavailable": (503, "The request has failed due to a temporary failure of the server."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """`refuses`: an error code, one of REFUSALS, that answers every call. `external_id`: the required value.

    `session_tags`: whether it grants sts:TagSession. `latency` seconds pass before the answer. `max_duration` is the
    role's MaxSessionDuration; `lifetime` seconds, where given, is the validity of credentials, whatever the request
    states.
    """

    refuses: str | None = None
    external_id: str | None = None
    session_tags: bool = True
    latency: float = 0.0
    max_duration: int = HOUR
    lifetime: int | None = None

    def __post_init__(self) -> None:
        if self.refuses is not None and self.refuses not in REFUSALS:
            raise ValueError(f"refuses must be one of {', '.join(REFUSALS)}, got {self.refuses!r}")

    def check(self, caller: str, role: str, external_id: str | None, tags: Mapping[str, str]) -> None:
        """RefusedError unless the role trusts that caller, an ARN. AWS does not state which condition failed."""
        if self.refuses not in (None, "AccessDenied"):
            status, message = REFUSALS[self.refuses]
            raise RefusedError(status, self.refuses, message)
        if self.refuses or self.external_id not in (None, external_id):
            raise _denied("AssumeRole", caller, role)
        if tags and not self.session_tags:
            raise _denied("TagSession", caller, role)


class Trusts:
    """Trust policies by role. `*` applies to each role without an entry."""

    def __init__(self) -> None:
        self._trusts: dict[str, Trust] = {}

    def set(self, role: str, trust: Trust) -> None:
        self._trusts[role] = trust

    def clear(self) -> None:
        self._trusts.clear()

    def roles(self) -> list[str]:
        return [role for role in self._trusts if role != ANY]

    def of(self, role: str) -> Trust:
        return self._trusts.get(role) or self._trusts.get(ANY) or Trust()


def account_of(role: str) -> str:
    found = _ROLE_ARN.fullmatch(role)
    if found is None:
        raise RefusedError(400, "ValidationError", f"{role} is invalid")
    return found[1]


def _denied(action: str, caller: str, role: str) -> RefusedError:
    message = f"User: {caller} is not authorized to perform: sts:{action} on resource: {role}"
    return RefusedError(403, "AccessDenied", message)
