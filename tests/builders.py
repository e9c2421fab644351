"""Fluent builders of the input of `reconcile`: `a_job().running().flagged().job`, `an_object().record`.

What is known of a job needs no builder: `seen(a_job().running())` is a JobState, and its own methods go on from there
(`.with_not_found(at)`, `.terminate_refused(error, at)`). Times are epoch milliseconds; everything starts at NOW.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from awsbatch_operator.api.batchjob import Cause, Deadline, Spec, Status, Termination
from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.job import Array, Job, Target
from awsbatch_operator.api.timestamps import MINUTE, Millis
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import Record
from awsbatch_operator.reconcile.poll_intervals import PollIntervals
from awsbatch_operator.reconcile.reconcile import reconcile

NOW: Millis = 1_790_000_000_000
REGION = "eu-west-1"
JOB_ID = "61e743ed-35e4-48da-b2de-5c8333821c84"
WHY = "INC-4711: runaway cost"
LIMIT = "over its 8 h budget"
TERMINATE = Cause.TERMINATE
INTERVALS = PollIntervals()

THROTTLED = CallError(ErrorClass.THROTTLED, "Too Many Requests", "TooManyRequestsException")
UNAVAILABLE = CallError(ErrorClass.UNAVAILABLE, "Service Unavailable", "503")
DENIED = CallError(ErrorClass.DENIED, "not authorized to perform the action", "AccessDeniedException")
CREDENTIALS = CallError(ErrorClass.CREDENTIALS, "The security token is expired", "ExpiredTokenException")
REJECTED = CallError(ErrorClass.REJECTED, "the request is not valid", "ClientException")


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

    def because(self, reason: str) -> Self:
        return self._with(status_reason=reason)

    def array(self, **children: int) -> Self:
        return self._with(array=Array(size=sum(children.values()), status_summary=children))

    def ended(self, status: str, reason: str | None = None, at: Millis | None = NOW) -> Self:
        return self._with(status=status, status_reason=reason, stopped_at=at)

    def _with(self, **changes: Any) -> Self:
        return replace(self, job=self.job.replace(**changes))


@dataclass(frozen=True, slots=True)
class ObjectBuilder:
    record: Record

    def terminating(self, reason: str | None = WHY) -> Self:
        return self._with(spec=replace(self.record.spec, terminate=reason))

    def due(self, running: Millis | None = None, waiting: Millis | None = None, reason: str = LIMIT) -> Self:
        """With a deadline of these milliseconds."""
        return self._with(spec=replace(self.record.spec, deadline=Deadline(reason, running, waiting)))

    def generation(self, generation: int, changed_at: Millis = NOW) -> Self:
        return self._with(generation=generation, changed_at=changed_at)

    def created_at(self, at: Millis) -> Self:
        return self._with(created_at=at)

    def settled(self, known: JobState, now: Millis = NOW) -> Self:
        """With the status that results from this knowledge."""
        return self._with(status=reconcile(self.record, known, now, INTERVALS).status)

    def known_since(self, at: Millis) -> Self:
        return self._with(known_since=at)

    def withdrawn(self, at: Millis = NOW) -> Self:
        return self._with(spec=replace(self.record.spec, terminate=None), withdrawn_at=at)

    def held(self, cause: str) -> Self:
        return self._with(held=cause)

    def released(self) -> Self:
        return self._with(held=None)

    def sent(self, reason: str = WHY, *, at: Millis, requests: int = 1) -> Self:
        """With a status that records an accepted request."""
        return self.with_status(termination=Termination(reason, at, at, requests=requests))

    def with_status(self, **changes: Any) -> Self:
        return self._with(status=self.record.status.replace(**changes))

    def _with(self, **changes: Any) -> Self:
        return replace(self, record=self.record.replace(**changes))


def a_job() -> JobBuilder:
    return JobBuilder(Job("SUBMITTED", name="train-42", created_at=NOW - 60 * MINUTE))


def an_object() -> ObjectBuilder:
    record = Record(
        Spec(JOB_ID),
        REGION,
        generation=1,
        created_at=NOW - 10 * MINUTE,
        changed_at=NOW,
        known_since=NOW,
        status=Status(),
    )
    return ObjectBuilder(record)


def seen(job: JobBuilder | None = None, at: Millis = NOW, *, has_dependencies: bool = False) -> JobState:
    """The state of a job that was just described; without one: nothing is known yet. AWS's clock shows `at`, too."""
    if job is None:
        return JobState()
    start = job.job.started_at
    return JobState().with_job(job.job, at, asked_at=at, first_started_at=start, has_dependencies=has_dependencies)


def absent(*at: Millis, last: JobState | None = None) -> JobState:
    """The state after full answers that lacked the job, one at each of these times."""
    known = last or JobState()
    for moment in at:
        known = known.with_not_found(moment)
    return known


TARGET = Target(REGION)


@dataclass(frozen=True, slots=True, eq=False)
class Permit:
    """A TerminatePermit of a test. `is_valid` is asked whenever the code under test asks."""

    job_id: str
    target: Target = TARGET
    namespace: str = "team"
    is_valid: Callable[[], bool] = lambda: True

    def valid(self) -> bool:
        return self.is_valid()
