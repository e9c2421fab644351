"""What a row of the decision table is made of, and the conditions that many rows share."""

from dataclasses import dataclass

from awsbatch_operator.api.batchjob import Phase, Status
from awsbatch_operator.api.conditions import FINISHED
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.reconcile.job_state import JobState
from builders import NOW, ObjectBuilder

ACTIVE = "Succeeded=Unknown/JobActive"
OBSERVED = "Ready=True/Observed"
SENDING = (
    f"Ready=False/TerminationPending Reconciling=True/TerminationPending Terminated=Unknown/TerminationPending {ACTIVE}"
)
FOLLOWING = (
    "Ready=False/TerminationInProgress Reconciling=True/TerminationInProgress "
    f"Terminated=Unknown/TerminationInProgress {ACTIVE}"
)
WAITING = (
    "Ready=False/TerminationInProgress Reconciling=True/TerminationInProgress "
    f"Terminated=Unknown/WaitingOnDependencies {ACTIVE}"
)
STUCK = f"Ready=False/TerminationStuck Stalled=True/TerminationStuck Terminated=Unknown/TerminationInProgress {ACTIVE}"
BY_REQUEST = "Ready=True/Terminated Terminated=True/TerminatedByRequest Succeeded=False/JobTerminated"
NOT_OBSERVED = "Ready=Unknown/NotObservedYet"
AWAITING = f"{NOT_OBSERVED} Reconciling=True/AwaitingFirstObservation"
NOT_FOUND = "Ready=False/JobNotFound Stalled=True/JobNotFound"
VANISHED = "Ready=False/JobVanished Stalled=True/JobVanished"


@dataclass(frozen=True, slots=True)
class Row:
    """An object and what is known of its job; the status, the call and the next poll that result."""

    given: ObjectBuilder
    known: JobState
    phase: Phase | None
    says: str
    poll_in: Millis | None
    call: str | None = None
    at: Millis = NOW


def conditions_of(status: Status) -> str:
    """The conditions in the notation of the rows, except Finished, which has rows of its own."""
    return " ".join(f"{c.type}={c.status}/{c.reason}" for c in status.conditions if c.type != FINISHED)


def finished_of(status: Status) -> str:
    """The condition Finished, such as `False/JobActive`."""
    finished = status.condition(FINISHED)
    return f"{finished.status}/{finished.reason}" if finished is not None else ""
