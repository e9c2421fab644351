"""What a row of the decision table is made of, and the words that many rows share."""

from dataclasses import dataclass

from awsbatch_operator.domain.job import Millis
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.record import Phase, Status
from builders import NOW, ObjectBuilder

ACTIVE = "Succeeded=Unknown/JobActive"
OBSERVED = "Ready=True/Observed"
SENDING = (
    f"Ready=False/Terminating Reconciling=True/TerminationInProgress Terminated=Unknown/TerminationRequested {ACTIVE}"
)
FOLLOWING = (
    f"Ready=False/Terminating Reconciling=True/TerminationInProgress Terminated=Unknown/TerminationInProgress {ACTIVE}"
)
WAITING = (
    f"Ready=False/Terminating Reconciling=True/TerminationInProgress Terminated=Unknown/WaitingOnDependencies {ACTIVE}"
)
STUCK = f"Ready=False/TerminationStuck Stalled=True/TerminationStuck Terminated=Unknown/TerminationInProgress {ACTIVE}"
BY_REQUEST = "Ready=True/Terminated Terminated=True/TerminatedByRequest Succeeded=False/JobTerminated"
NOT_OBSERVED = "Ready=Unknown/NotObservedYet"
AWAITING = f"{NOT_OBSERVED} Reconciling=True/AwaitingFirstObservation"
NOT_FOUND = "Ready=False/JobNotFound Stalled=True/JobNotFound"
VANISHED = "Ready=False/JobVanished Stalled=True/JobVanished"


@dataclass(frozen=True, slots=True)
class Row:
    """Given an object and what is known of its job: what its status says, what is sent, and in how long one looks."""

    given: ObjectBuilder
    known: Observation
    phase: Phase | None
    says: str
    look_in: Millis | None
    call: str | None = None
    at: Millis = NOW


def told(status: Status) -> str:
    """The conditions as the rows write them."""
    return " ".join(f"{c.type}={c.status}/{c.reason}" for c in status.conditions)
