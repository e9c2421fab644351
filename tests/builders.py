"""Fluent builders of what the domain is asked about: `a_job().running().flagged().job`, `an_object().record`.

What is known of a job needs no builder: `seen(a_job().running())` is an Observation, and its own methods go on
from there (`.missed(at)`, `.refused(fault, at)`). Times are epoch milliseconds; everything starts at NOW.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

from awsbatch_operator.domain.access import EVERY_JOB, Grant
from awsbatch_operator.domain.admission import Admitted, Facts, MayEnd, admit, termination
from awsbatch_operator.domain.cadence import MINUTE, Cadence
from awsbatch_operator.domain.decide import decide
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Array, Job, Millis, Place
from awsbatch_operator.domain.observation import Observation
from awsbatch_operator.domain.policy import ALL_VERBS
from awsbatch_operator.domain.record import Spec, Status, Termination
from awsbatch_operator.domain.verdict import Record

NOW: Millis = 1_790_000_000_000
REGION = "eu-west-1"
JOB_ID = "61e743ed-35e4-48da-b2de-5c8333821c84"
WHY = "INC-4711: runaway cost"
CADENCE = Cadence()

THROTTLED = Fault(Fate.THROTTLED, "Too Many Requests", "TooManyRequestsException")
UNAVAILABLE = Fault(Fate.UNAVAILABLE, "Service Unavailable", "503")
DENIED = Fault(Fate.DENIED, "not authorized to perform the action", "AccessDeniedException")
CREDENTIALS = Fault(Fate.CREDENTIALS, "The security token is expired", "ExpiredTokenException")
REJECTED = Fault(Fate.REJECTED, "the request is not valid", "ClientException")


@dataclass(frozen=True, slots=True)
class JobBuilder:
    job: Job

    def in_status(self, status: str) -> Self:
        return self._with(status=status)

    def running(self) -> Self:
        return self._with(status="RUNNING", started_at=NOW - 30 * MINUTE)

    def pending(self) -> Self:
        return self._with(status="PENDING")

    def flagged(self) -> Self:
        return self._with(is_terminated=True)

    def cancelled(self) -> Self:
        return self._with(is_cancelled=True)

    def array(self, **children: int) -> Self:
        return self._with(array=Array(size=sum(children.values()), status_summary=tuple(children.items())))

    def ended(self, status: str, reason: str | None = None, at: Millis | None = NOW) -> Self:
        return self._with(status=status, status_reason=reason, stopped_at=at)

    def _with(self, **changes: Any) -> Self:
        return replace(self, job=replace(self.job, **changes))


@dataclass(frozen=True, slots=True)
class ObjectBuilder:
    record: Record

    def terminating(self, reason: str | None = WHY) -> Self:
        return self._with(spec=replace(self.record.spec, terminate=reason))

    def generation(self, generation: int, changed_at: Millis = NOW) -> Self:
        return self._with(generation=generation, changed_at=changed_at)

    def created_at(self, at: Millis) -> Self:
        return self._with(created_at=at)

    def settled(self, known: Observation, now: Millis = NOW) -> Self:
        """With the status that this knowledge makes."""
        return self._with(status=decide(self.record, known, now, CADENCE).status)

    def sent(self, reason: str = WHY, *, at: Millis, requests: int = 1) -> Self:
        """With a status that tells of an accepted request."""
        return self.scribbled(termination=Termination(reason, at, at, requests=requests))

    def scribbled(self, **changes: Any) -> Self:
        return self._with(status=replace(self.record.status, **changes))

    def _with(self, **changes: Any) -> Self:
        return replace(self, record=replace(self.record, **changes))


def a_job() -> JobBuilder:
    return JobBuilder(Job("SUBMITTED", name="train-42", created_at=NOW - 60 * MINUTE))


def an_object() -> ObjectBuilder:
    record = Record(Spec(JOB_ID), REGION, generation=1, created_at=NOW - 10 * MINUTE, changed_at=NOW, status=Status())
    return ObjectBuilder(record)


def seen(job: JobBuilder | None = None, at: Millis = NOW) -> Observation:
    """Knowledge of a job that was just seen; without one: nothing is known yet."""
    return Observation() if job is None else Observation().saw(job.job, at)


def absent(*at: Millis, last: Observation | None = None) -> Observation:
    """Knowledge after full answers that lacked the job, one at each of these times."""
    known = last or Observation()
    for moment in at:
        known = known.missed(moment)
    return known


PLACE = Place(REGION)


def leave_to_end(job_id: str, place: Place = PLACE, namespace: str = "team") -> MayEnd:
    """As where no policy says any rules."""
    admission = admit(Grant(namespace, place, place.policy, EVERY_JOB, ALL_VERBS), Facts(job_id, None, None, NOW))
    assert isinstance(admission, Admitted)
    leave = termination(admission, NOW)
    assert isinstance(leave, MayEnd)
    return leave
