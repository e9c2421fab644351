"""What the engine asks of the world. The rooms `aws`, `kube` and `observability` answer; in tests, plain fakes do."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from awsbatch_operator.domain.admission import MayEnd
from awsbatch_operator.domain.conditions import Claim
from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.events import Event
from awsbatch_operator.domain.job import Absent, Job, Place
from awsbatch_operator.domain.labels import Labels
from awsbatch_operator.domain.policy import Policy, Unreadable
from awsbatch_operator.domain.record import ObjectRef, Snapshot, Status


@dataclass(frozen=True, slots=True)
class Sight:
    """A job as one look showed it. `tags` decide about access and are shown to nobody; None: none that can be read."""

    job: Job
    tags: Mapping[str, str] | None = field(default=None, repr=False)


Look = Sight | Absent | Fault

LOOKS_PER_CALL = 100
"""DescribeJobs takes at most so many ids."""


class Batch(Protocol):
    """AWS Batch. Nothing here raises for what AWS answers: an answer is a value."""

    async def look_budget(self, place: Place) -> None:
        """Wait until one more DescribeJobs fits the rate of the place's account and region."""

    async def describe(self, place: Place, job_ids: Sequence[str]) -> Mapping[str, Look]:
        """One answer for each of the at most 100 distinct ids, by one call unless a malformed id spoils it."""
        ...

    async def terminate(self, leave: MayEnd, reason: str) -> Fault | None:
        """Ask Batch to end the job with exactly this reason. None: Batch accepted. Shares calls with others.

        Of a leave that no longer holds when its turn comes nothing is sent, and the answer's fate is LAPSED.
        """
        ...

    def account(self, place: Place) -> str | None:
        """The account that calls of the place reach, as far as it is known."""
        ...

    def trouble(self, place: Place) -> Fault | None:
        """Why the place's role could not be assumed the last time, in AWS's words; None: it could, or was not tried."""
        ...

    def stop(self) -> None:
        """Send no more terminations: those that wait for their turn are answered at once. Calls under way go on."""


@dataclass(frozen=True, slots=True)
class Written:
    """The write was taken; `shown` is the raw `.status` as the API server now holds it."""

    resource_version: str
    shown: dict[str, object]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody wrote first: read, decide anew, write again."""


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such object any more."""


@dataclass(frozen=True, slots=True)
class NotWritten:
    """`again` says whether trying once more may help: an API server that is away, or one that refuses the content.

    `forbidden`: a right is missing or a policy denies, for this object; others may be written all the same.
    """

    message: str
    again: bool
    forbidden: bool = False


class Objects(Protocol):
    """The Kubernetes API, as far as BatchJob objects go."""

    def change(self, wanted: Status, shown: Status | Mapping[str, object]) -> Mapping[str, object]:
        """The merge patch that turns the shown `.status` (raw, or as a Status shows) into the wanted; {}: none."""
        ...

    async def write_status(
        self, ref: ObjectRef, change: Mapping[str, object], resource_version: str
    ) -> Written | Conflict | Gone | NotWritten:
        """Apply what `change` gave, provided that the object still has this version."""
        ...

    async def read(self, ref: ObjectRef) -> Snapshot | Gone | NotWritten:
        """The object as it is now; Gone too when another object has taken its name."""
        ...

    def refs(self) -> AsyncIterator[ObjectRef]:
        """Every BatchJob that is watched, by a paged list of metadata. Raises ListError."""
        ...

    async def post_event(self, ref: ObjectRef, event: Event) -> None:
        """Tell people. A lost Event is logged, never retried for long: the status says the same."""


class Rulebook(Protocol):
    """Who is told of policies and of namespaces' labels."""

    def policies_are(self, policies: Mapping[str, Policy | Unreadable]) -> None:
        """All there are, by name: what is not named is gone."""

    def policy_is(self, name: str, policy: Policy | Unreadable | None) -> None:
        """One of them; None: it is gone."""

    def namespaces_are(self, labels: Mapping[str, Labels]) -> None:
        """The labels of all there are, by name: what is not named is gone."""

    def namespace_is(self, name: str, labels: Labels | None) -> None:
        """One of them; None: it is gone."""

    def blind(self, since: float | None) -> None:
        """Since when (loop time) not both can be heard; None: both can."""


@dataclass(frozen=True, slots=True)
class PolicyStanding:
    """What a BatchAccessPolicy's status shall say. `ready`: its condition Ready.

    `jobs`: objects that it governs; None where this operator does not watch all of them.
    """

    ready: Claim
    namespaces: int
    jobs: int | None
    account_id: str | None


class ListError(Exception):
    """The list of objects could not be read to its end; nothing may be concluded from what it lacks."""


class Whose(NamedTuple):
    """Labels of figures about calls: account (empty while unknown), region, and the role's name (empty: none)."""

    account: str
    region: str
    role: str

    def told(self) -> dict[str, str]:
        """For a line of the log: what is known of it."""
        return {name: value for name, value in self._asdict().items() if value}


class Telemetry(Protocol):
    """Where figures go. `lane` is one that a room of AWS keeps; `code` AWS's error code or OK."""

    def aws_request(self, operation: str, code: str, seconds: float, whose: Whose) -> None: ...
    def describe_batch(self, size: int) -> None: ...
    def terminate_batch(self, size: int) -> None: ...
    def looked(self, at: float, whose: Whose) -> None: ...
    def forgotten(self, whose: Whose) -> None:
        """Nobody calls there any more: all figures of it go."""

    def unused(self, whose: Whose) -> None:
        """Nobody looks there any more: when that was done last is no figure of interest."""

    def termination_accepted(self, seconds: float) -> None: ...
    def termination_completed(self, seconds: float) -> None: ...
    def status_write(self, result: str) -> None: ...
    def leading(self, *, yes: bool) -> None: ...
    def queue_depth(self, lane: str, depth: int) -> None: ...
