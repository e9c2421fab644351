"""What this process knows of one Batch job: every answer of AWS, folded into one value.

All objects that name the same job share one Observation: its looks, its request, its faults.
"""

from dataclasses import dataclass, replace
from typing import Self

from awsbatch_operator.domain.errors import Fault
from awsbatch_operator.domain.job import Job, Millis


@dataclass(frozen=True, slots=True)
class Request:
    """The TerminateJob calls that Batch accepted: the reason, the first call's start, the last acceptance, how many."""

    reason: str
    requested_at: Millis
    accepted_at: Millis
    requests: int


@dataclass(frozen=True, slots=True)
class Observation:
    """`job` was seen at `seen_at`; `absences` full answers since then lacked it, the first at `absent_since`.

    `fault` is why the latest look failed, `refusal` why the latest TerminateJob did; both with how often in a row
    and when last. `calling` holds while a TerminateJob is under way.
    """

    job: Job | None = None
    seen_at: Millis | None = None
    looked_at: Millis | None = None
    absences: int = 0
    absent_since: Millis | None = None
    fault: Fault | None = None
    faults: int = 0
    failed_at: Millis = 0
    request: Request | None = None
    refusal: Fault | None = None
    refusals: int = 0
    refused_at: Millis = 0
    calling: bool = False

    def saw(self, job: Job, now: Millis) -> Self:
        # By name, not by dataclasses.replace: this is what every look of every job comes to.
        return type(self)(
            job=job,
            seen_at=now,
            looked_at=now,
            failed_at=self.failed_at,
            request=self.request,
            refusal=self.refusal,
            refusals=self.refusals,
            refused_at=self.refused_at,
            calling=self.calling,
        )

    def missed(self, now: Millis) -> Self:
        """A full answer lacked the job."""
        since = now if self.absent_since is None else self.absent_since
        return replace(self, looked_at=now, absences=self.absences + 1, absent_since=since, fault=None, faults=0)

    def failed(self, fault: Fault, now: Millis) -> Self:
        """A look brought no answer about the job."""
        return replace(self, fault=fault, faults=self.faults + 1, failed_at=now)

    def called(self) -> Self:
        return replace(self, calling=True)

    def accepted(self, reason: str, requested_at: Millis, now: Millis) -> Self:
        first = self.request
        request = Request(
            first.reason if first else reason,
            first.requested_at if first else requested_at,
            now,
            first.requests + 1 if first else 1,
        )
        return replace(self, request=request, refusal=None, refusals=0, calling=False)

    def refused(self, fault: Fault, now: Millis) -> Self:
        return replace(self, refusal=fault, refusals=self.refusals + 1, refused_at=now, calling=False)

    def lapsed(self) -> Self:
        """The call was not sent: nothing was asked, nothing refused."""
        return replace(self, calling=False)

    def recalled(self, request: Request) -> Self:
        """Told by a status that an earlier process wrote: the newest acceptance counts, none without a reason does."""
        if not request.reason:
            return self
        if self.request is not None and self.request.accepted_at >= request.accepted_at:
            return self
        return replace(self, request=request)
