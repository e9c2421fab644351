"""Reads the status of an object: pure functions."""

from __future__ import annotations

from kubectl_awsbatch.errors import FAILED, OK, STALLED, TERMINATED
from kubectl_awsbatch.output import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    Object = dict[str, Any]
    Key = tuple[str, str]

FINALIZER = "awsbatch.dev/terminate-on-delete"
"""The operator's finalizer, which an object with spec.onDelete has if the operator supports that field."""
_ENDS = {
    "JobSucceeded": (OK, "succeeded"),
    "JobFailed": (FAILED, "failed"),
    "JobTerminated": (TERMINATED, "terminated"),
    "JobCancelled": (TERMINATED, "terminated"),
    "JobVanished": (STALLED, "missing"),
}


class Outcome:
    """The result of a wait for one object; `code` is its exit code."""

    __slots__ = ("code", "message", "reason", "word")

    def __init__(self, code: int, word: str, reason: str = "", message: str = "") -> None:
        self.code, self.word, self.reason, self.message = code, word, reason, message


def key(body: Object) -> Key:
    """Namespace and name."""
    return body["metadata"].get("namespace", ""), body["metadata"]["name"]


def status(body: Object) -> Object:
    return body.get("status") or {}


def condition(body: Object, type_: str) -> Object:
    """The condition of that type; {} when there is none."""
    return next((one for one in status(body).get("conditions") or [] if one.get("type") == type_), {})


def holds(body: Object, type_: str) -> bool:
    return condition(body, type_).get("status") == "True"


def observed(body: Object) -> bool:
    """Whether the status answers what the spec states now."""
    return int(status(body).get("observedGeneration") or 0) >= int(body["metadata"].get("generation") or 1)


def outcome(body: Object) -> Outcome | None:
    """Return the result of the job, or that a person must act; None while the wait continues."""
    finished = condition(body, "Finished")
    if finished.get("status") == "True":
        reason = str(finished.get("reason", ""))
        code, word = _ENDS.get(reason, (STALLED, "ended"))
        return Outcome(code, word, reason, str(finished.get("message", "")))
    stalled = condition(body, "Stalled")
    if stalled.get("status") == "True" and observed(body):
        word = "missing" if stalled.get("reason") == "JobNotFound" else "stalled"
        return Outcome(STALLED, word, str(stalled.get("reason", "")), str(stalled.get("message", "")))
    return None


def attention(body: Object) -> str:
    """The reason of what holds the object up, else how its container ended if it failed."""
    for type_ in ("Stalled", "Reconciling"):
        if holds(body, type_):
            return str(condition(body, type_).get("reason", ""))
    if status(body).get("phase") == "Failed" and "exitCode" in status(body):
        return f"exit code {status(body)['exitCode']}"
    return ""


def termination(body: Object) -> str:
    """Return the state of the termination in one word; empty if none is requested."""
    reason = condition(body, "Terminated").get("reason")
    return str(reason) if reason else "Stated" if stated_reason(body) is not None else ""


def stated_reason(body: Object) -> str | None:
    """spec.terminate.reason; None when no termination is stated."""
    terminate = body["spec"].get("terminate")
    return str(terminate.get("reason", "")) if isinstance(terminate, dict) else None


def on_delete_reason(body: Object) -> str | None:
    """spec.onDelete.terminate.reason; None when a deletion of the object does not terminate the job."""
    if FINALIZER not in (body["metadata"].get("finalizers") or []):
        return None
    terminate = (body["spec"].get("onDelete") or {}).get("terminate")
    return str(terminate.get("reason", "")) if isinstance(terminate, dict) else None


def is_being_deleted(body: Object) -> bool:
    return bool(body["metadata"].get("deletionTimestamp"))


def accepted_reason(body: Object) -> str | None:
    """The reason of the termination that AWS accepted; None when there is none."""
    sent = status(body).get("termination") or {}
    return str(sent.get("reason", "")) if sent.get("acceptedAt") else None


def phase_text(body: Object) -> str:
    """The phase, and why the object is Stalled; cleaned."""
    phase = clean(status(body).get("phase") or "not observed yet")
    if holds(body, "Stalled"):
        stalled = condition(body, "Stalled")
        return f"phase {phase}, Stalled: {clean(stalled.get('reason'))}: {clean(stalled.get('message'))}"
    return f"phase {phase}"


def queue(body: Object) -> str:
    """Name of the job's queue, the last part of its ARN."""
    return str(status(body).get("jobQueue") or "").rpartition("/")[2]


def moment(text: object) -> datetime | None:
    """A time as the API writes it; None when it is absent or unreadable."""
    from datetime import datetime

    try:
        found = datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None
    return found if found and found.tzinfo else None


def seconds_between(start: object, end: object, now: datetime) -> float | None:
    """Return the time from `start` to `end`, or until now without an end. None without a start."""
    began = moment(start)
    return None if began is None else ((moment(end) or now) - began).total_seconds()


def now() -> datetime:
    """The time of this machine, in UTC."""
    from datetime import UTC, datetime

    return datetime.now(UTC)
