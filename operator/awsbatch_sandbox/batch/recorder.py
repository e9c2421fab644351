"""Records the wire calls for tests."""

from collections import Counter
from typing import Any, Final

from awsbatch_sandbox.batch.credentials import Caller

_SHARED: Final = ("reason", "at", "account", "access_key", "region", "role", "role_session")


class Recorder:
    """Calls in the order of their arrival, and the termination requests that Batch accepted among them."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self._n = 0

    def arrived(
        self, operation: str, caller: Caller, job_ids: list[str], reason: str | None, at: float
    ) -> dict[str, Any]:
        """A new call; the fields from `http_status` on are known once it had its effect (status 0: reset).

        `fault` is the kind of the injected fault that applied to it. `acted_at` is when it has its effect, and
        `answered_at` when its answer leaves, epoch seconds. `role`, an ARN, and `role_session` are None unless the
        caller has assumed one. A call with an invalid signature has no account. `queue`, `job_status` and `token` are
        those of the body, for ListJobs.
        """
        self._n += 1
        call: dict[str, Any] = {
            "n": self._n,
            "at": at,
            "operation": operation,
            "region": caller.region,
            "account": caller.account,
            "access_key": caller.access_key,
            "role": caller.role,
            "role_session": caller.role_session,
            "job_ids": job_ids,
            "reason": reason,
            "queue": None,
            "job_status": None,
            "token": None,
            "http_status": None,
            "error": None,
            "accepted": [],
            "effective": [],
            "fault": None,
            "acted_at": None,
            "answered_at": None,
        }
        self.calls.append(call)
        return call

    def accepted(self, call: dict[str, Any], job_ids: tuple[str, ...], statuses: dict[str, str | None]) -> None:
        call["accepted"] = list(job_ids)
        shared = {key: call[key] for key in _SHARED}
        self.requests.extend({"job_id": one, "job_status_at_call": statuses.get(one)} | shared for one in job_ids)

    def counts(self) -> dict[str, int]:
        return dict(Counter(call["operation"] for call in self.calls))

    def clear(self) -> None:
        self.calls.clear()
        self.requests.clear()
