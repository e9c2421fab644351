"""Rows of the decision table: the deletion of an object that the operator's finalizer holds."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from awsbatch_operator.api import conditions
from awsbatch_operator.api.batchjob import Cause, Intent, Phase, Status
from awsbatch_operator.api.conditions import Reason
from awsbatch_operator.api.timestamps import MINUTE, SECOND, Millis
from awsbatch_operator.policy.resolution import Deny
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Crd, Record

RELEASE_AFTER: Final = 60 * SECOND
"""Time after which an accepted request releases the object even if AWS Batch does not show the request."""

_WITHOUT_EFFECT: Final = "AWS Batch accepted the request a minute ago, but does not show it"

_HOPELESS: Final = frozenset({Reason.JOB_NOT_ALLOWED, Reason.ACCOUNT_CHANGED, Reason.INVALID_REGION})
"""Why a job is not admitted so that waiting for a policy does not help."""


class Held(Enum):
    HELD = auto()


@dataclass(frozen=True, slots=True)
class Release:
    """The finalizer is removed. `given_up`: why the job may be left alive although its end is stated."""

    given_up: str | None = None


def wants(record: Record, *, enabled: bool) -> Intent | None:
    """Return the termination that spec.onDelete demands of the object that is being deleted."""
    deletion, reason = record.deletion, record.spec.on_delete
    if deletion is None or reason is None or not enabled or deletion.crd not in (Crd.SERVED, Crd.UNREADABLE):
        return None
    return Intent(Cause.ON_DELETE, reason, reason, deletion.at)


def release(record: Record, state: JobState, status: Status, now: Millis, timeout: Millis | None) -> Release | Held:
    """Return whether to remove the finalizer of the object that is being deleted.

    Args:
        record: the object; its `deletion` must be set.
        state: the state of its job.
        status: the status that this reconcile decided.
        now: epoch milliseconds.
        timeout: milliseconds for which the object is held; None: spec.onDelete is disabled.
    """
    deletion = record.deletion
    if deletion is None or deletion.crd is Crd.DELETED or record.spec.on_delete is None or timeout is None:
        return Release()
    alive = state.job is not None and not state.misses and not state.job.finished
    flagged = alive and state.job is not None and state.job.flagged
    if status.finished or status.phase is Phase.MISSING or flagged:
        return Release()
    accepted_at = _accepted(record, state)
    # An acceptance that lies in the future means that the clock was set back.
    if accepted_at is not None and abs(now - accepted_at) >= RELEASE_AFTER:
        return Release(_WITHOUT_EFFECT if alive else None)
    hopeless = _hopeless(record, status, alive=alive)
    if hopeless is not None:
        return Release(hopeless)
    if deletion.waited >= timeout and not state.call_in_flight and accepted_at is None:
        limit = f"--on-delete-timeout ({timeout / MINUTE:.3g} min)"
        return Release(f"the job could not be terminated within {limit}: {_obstacle(status)}")
    return Held.HELD


def decide_at(record: Record, state: JobState, now: Millis, timeout: Millis) -> Millis:
    """Return when to decide again about an object that is held, if nothing happens until then."""
    accepted = _accepted(record, state)
    if accepted is not None:
        return max(accepted + RELEASE_AFTER, now + SECOND)
    waited = record.deletion.waited if record.deletion is not None else 0
    # Time in which something holds all terminations does not count: what is left need not shrink.
    return now + max(timeout - waited, SECOND)


def _hopeless(record: Record, status: Status, *, alive: bool) -> str | None:
    if isinstance(record.access, Deny):
        return record.access.message if record.access.reason in _HOPELESS else None
    if record.missing_as is not None and status.phase is Phase.DENIED:
        return record.missing_as.message
    denied = record.terminate_denied
    return denied.message if denied is not None and alive else None


def _obstacle(status: Status) -> str:
    # Ready does not name an error that may pass by itself.
    trying, ready = status.condition(conditions.RECONCILING), status.condition(conditions.READY)
    shown = trying if trying is not None and trying.reason in conditions.ERROR_REASONS else ready
    return shown.message if shown is not None else conditions.NOT_OBSERVED.message


def _accepted(record: Record, state: JobState) -> Millis | None:
    """Return when AWS Batch accepted a request of this process in words that the object states now.

    What only a status records does not release the object: without a sign of that request, it is sent again.
    """
    sent = state.request
    return None if sent is None or sent.reason != record.spec.reason(sent.cause) else sent.accepted_at
