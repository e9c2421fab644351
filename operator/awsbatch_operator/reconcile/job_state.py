"""The state of one Batch job as this process knows it: every answer of AWS, combined into one value.

All objects that name the same job share one JobState: its polls, its accepted request, its errors. Nothing in it comes
from the status of an object.
"""

from dataclasses import dataclass
from typing import Self

from awsbatch_operator.api.batchjob import Cause
from awsbatch_operator.api.codec import Value
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.job import Job
from awsbatch_operator.api.timestamps import Millis


@dataclass(frozen=True, slots=True)
class Request:
    """The TerminateJob calls that AWS Batch accepted from this process.

    `cause`, `reason`: of the last accepted call, as sent; `requested_at`: start of the first; `accepted_at`: the last
    acceptance; `requests`: how many; `request_id`: AWS's id of the last; `status_reason_before`: the statusReason of
    the job before them.
    """

    cause: Cause
    reason: str
    requested_at: Millis
    accepted_at: Millis
    requests: int
    request_id: str | None = None
    status_reason_before: str | None = None


class JobState(Value, frozen=True):
    """`job` was described at `observed_at`; `misses` complete answers since then lack it, the first at `missing_since`.

    `asked_at`: when the answer that showed it was requested, by AWS's clock. `first_started_at`: the earliest start of
    an attempt; `has_started`: an attempt, or for the parent of an array a child, has reached it once.

    `last_error` is why the latest poll failed, `terminate_error` why the latest TerminateJob did; both with how often
    in a row and when last. `call_in_flight` is True from the decision to send a TerminateJob to its answer.
    """

    job: Job | None = None
    observed_at: Millis | None = None
    polled_at: Millis | None = None
    asked_at: Millis | None = None
    first_started_at: Millis | None = None
    has_started: bool = False
    has_dependencies: bool = False
    misses: int = 0
    missing_since: Millis | None = None
    last_error: CallError | None = None
    failures: int = 0
    failed_at: Millis = 0
    request: Request | None = None
    terminate_error: CallError | None = None
    terminate_failures: int = 0
    terminate_failed_at: Millis = 0
    call_in_flight: bool = False

    def with_job(
        self,
        job: Job,
        now: Millis,
        *,
        asked_at: Millis | None = None,
        first_started_at: Millis | None = None,
        has_dependencies: bool = False,
    ) -> Self:
        return self.replace(
            job=job,
            observed_at=now,
            polled_at=now,
            asked_at=asked_at,
            first_started_at=first_started_at or self.first_started_at,
            has_started=self.has_started or first_started_at is not None or job.has_started,
            has_dependencies=has_dependencies,
            misses=0,
            missing_since=None,
            last_error=None,
            failures=0,
        )

    def with_not_found(self, now: Millis) -> Self:
        """A complete answer did not contain the job."""
        since = now if self.missing_since is None else self.missing_since
        return self.replace(polled_at=now, misses=self.misses + 1, missing_since=since, last_error=None, failures=0)

    def with_error(self, error: CallError, now: Millis) -> Self:
        """A poll failed: nothing new is known of the job."""
        return self.replace(last_error=error, failures=self.failures + 1, failed_at=now)

    def in_flight(self) -> Self:
        """A TerminateJob is about to be sent."""
        return self.replace(call_in_flight=True)

    def accepted(
        self,
        cause: Cause,
        reason: str,
        requested_at: Millis,
        now: Millis,
        *,
        request_id: str | None = None,
        status_reason_before: str | None = None,
    ) -> Self:
        """AWS Batch accepted a TerminateJob with this cause and reason, which was sent at `requested_at`."""
        first = self.request
        request = Request(
            cause,
            reason,
            first.requested_at if first else requested_at,
            now,
            first.requests + 1 if first else 1,
            request_id,
            first.status_reason_before if first else status_reason_before,
        )
        return self.replace(request=request, terminate_error=None, terminate_failures=0, call_in_flight=False)

    def terminate_refused(self, error: CallError, now: Millis) -> Self:
        return self.replace(
            terminate_error=error,
            terminate_failures=self.terminate_failures + 1,
            terminate_failed_at=now,
            call_in_flight=False,
        )

    def permit_expired(self) -> Self:
        """The call was not sent: nothing was accepted, nothing refused."""
        return self.replace(call_in_flight=False)

    def retry_terminate(self) -> Self:
        """Calls of this kind succeed again: the next TerminateJob need not wait; the error stays until its answer."""
        return self.replace(terminate_failed_at=0)

    def retry_refused(self) -> Self:
        """A person may have fixed what refused the latest calls: the next ones need not wait."""
        poll = self.last_error is not None and not self.last_error.error_class.transient
        terminate = self.terminate_error is not None and not self.terminate_error.error_class.transient
        return self.replace(
            failed_at=0 if poll else self.failed_at,
            terminate_failed_at=0 if terminate else self.terminate_failed_at,
        )
