"""The control verbs of STS for a program in another process."""

from typing import Any, cast

from awsbatch_sandbox.batch.remote import JSON, Remote


class RemoteSts(Remote):
    """Drives a served StsSimulator; the verbs are its own, with the same errors."""

    def trust(self, role: str, **terms: Any) -> None:
        self._do("trust", {"role": role, **terms})

    def clear_trust(self) -> None:
        self._do("clear_trust", {})

    def roles(self) -> list[str]:
        return cast("list[str]", self._do("roles", {}))

    def calls(self, action: str | None = None, since: int = 0) -> list[JSON]:
        return cast("list[JSON]", self._do("calls", {"action": action, "since": since}))

    def clear_calls(self) -> None:
        self._do("clear_calls", {})

    def expire(self, role: str | None = None) -> int:
        return cast("int", self._do("expire", {"role": role}))
