"""A Kubernetes Event that the operator reports for an object."""

from dataclasses import dataclass
from enum import StrEnum

from awsbatch_operator.api.conditions import Reason


class EventReason(StrEnum):
    """Reasons of Events. For every reason of Stalled there is an Event of the same name, too.

    An Event and a condition, or its reason, with the same name mean the same: `Terminated` is the end by the request.
    """

    TERMINATION_ACCEPTED = "TerminationAccepted"
    TERMINATED = "Terminated"
    TERMINATION_SKIPPED = "TerminationSkipped"
    TERMINATION_DELAYED = "TerminationDelayed"
    TERMINATION_WITHDRAWN = "TerminationWithdrawn"
    TERMINATION_CHANGE_IGNORED = "TerminationChangeIgnored"
    TERMINATION_HELD = "TerminationHeld"
    TERMINATION_GIVEN_UP = "TerminationGivenUp"
    DEADLINE_SOON = "DeadlineSoon"
    JOB_BLOCKED = "JobBlocked"
    JOB_SUCCEEDED = "JobSucceeded"
    JOB_FAILED = "JobFailed"
    JOB_TERMINATED = "JobTerminated"
    JOB_CANCELLED = "JobCancelled"


@dataclass(frozen=True, slots=True)
class Event:
    """`note` has at most 1024 bytes once posted; `warning` if the user should act."""

    reason: EventReason | Reason
    note: str
    warning: bool = False
