"""Determines what an object may show and do, by the policy in force and the polls of its job."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.job import NOT_FOUND, JobKey, NotFound, Target, account_of
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.controller.cache import TrackedJob, TrackedObject
from awsbatch_operator.controller.hidden_view import HiddenView
from awsbatch_operator.policy.authorizer import (
    Allow,
    JobAttributes,
    NeedsDescribe,
    authorize_terminate,
    authorize_view,
    job_not_allowed,
    terminate_denied,
)
from awsbatch_operator.policy.resolution import Deny, Mode, Scope, account_changed, admitted_by
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.outcome import UNRESTRICTED, Visible

_UNKNOWN = JobState()
_NOT_POLLED = HiddenView()


@dataclass(frozen=True, slots=True)
class VisibleState:
    """The state of a job that `reconcile` may see for one object.

    `access` goes into the record, `job` is the JobState to reconcile with. `authorization` says whether a termination
    may be sent now (None: nothing is known that could authorize one). `withhold`: the status shows details that no
    policy in force allows; they must be removed before reconciling. `hidden`: `job` is the object's
    hidden view, so the next poll is scheduled by `schedule_hidden_poll`.
    """

    access: Visible | Deny
    job: JobState
    authorization: Allow | Deny | NeedsDescribe | None = None
    withhold: bool = False
    hidden: bool = False


class JobVisibility:
    """Limits what is known of jobs to what each object may know.

    Where a policy is required, a job that is not admitted must look like a missing one: each of its objects has a
    hidden view, in which no answer contains the job, and an answer counts when that object alone would have polled.

    Args:
        jobs: All tracked jobs.
        account: The account that calls to a target reach, as far as it is known.
        mode: Whether a policy is required.
        jitter: `random.uniform`, or a fake.
    """

    def __init__(
        self,
        jobs: Mapping[JobKey, TrackedJob],
        account: Callable[[Target], str | None],
        mode: Mode,
        jitter: Callable[[float, float], float],
    ) -> None:
        self._jobs, self._account, self._mode, self._jitter = jobs, account, mode, jitter

    def visible_state(self, tracked: TrackedObject, job: TrackedJob, now: Millis) -> VisibleState:
        """Return what the object may show and do now. Raises TypeError if the object has no scope."""
        scope = tracked.scope
        if not isinstance(scope, Scope):
            raise TypeError("an object without a scope has no job")
        unrestricted = scope.rules is None
        view = None if unrestricted else self._view(scope, job)
        if tracked.record.status.account_id is not None:
            changed = self._account_changed(tracked, scope, job, visible=unrestricted or isinstance(view, Allow))
            if changed is not None:
                return _denied(changed, job)
        if unrestricted:
            attributes = JobAttributes(job.key.job_id, None, None, now)
            return VisibleState(UNRESTRICTED, job.state, authorize_terminate(scope, attributes, None, now))
        authorization = self._authorization(scope, job, now)
        admitted, shown = admitted_by(scope, job.key.job_id), tracked.record.status
        match view:
            case Allow():
                return VisibleState(Visible(admitted, terminate_denied(scope)), job.state, authorization)
            case None | NeedsDescribe() if shown.access == admitted:
                # Admitted by equal rules before: the poll that confirms it is in flight.
                return VisibleState(Visible(admitted), self._unconfirmed(job), authorization)
            case Deny() if self._mode is Mode.OPTIONAL or shown.job is not None:
                # The existence of the job need not be hidden here.
                return _denied(view, job)
        withhold = shown.job is not None
        if self._mode is Mode.OPTIONAL:
            return VisibleState(UNRESTRICTED, self._unconfirmed(job), authorization, withhold=withhold)
        hidden = tracked.hidden or _NOT_POLLED
        missing = Visible(missing_as=job_not_allowed(scope.policy))
        return VisibleState(missing, hidden.job_state, withhold=withhold, hidden=True)

    def schedule_hidden_poll(self, tracked: TrackedObject, next_poll_at: Millis, now: Millis) -> Millis:
        """Note when the next poll of a hidden object is due. Returns that time with jitter: poll exactly then."""
        tracked.hidden = (tracked.hidden or _NOT_POLLED).scheduled(next_poll_at, now, self._jitter)
        return tracked.hidden.counts_from

    def record_hidden_poll(self, tracked: TrackedObject, job: TrackedJob, error: CallError | None, now: Millis) -> None:
        """Fold the end of a poll into the hidden view. `error`: the poll brought no answer about the job."""
        scope = tracked.scope
        if self._mode is Mode.OPTIONAL or not isinstance(scope, Scope) or scope.rules is None:
            return
        if tracked.record.status.job is not None or isinstance(self._view(scope, job), Allow):
            tracked.hidden = None
        else:
            tracked.hidden = (tracked.hidden or _NOT_POLLED).polled(error, now)

    def _unconfirmed(self, job: TrackedJob) -> JobState:
        """Return the state to show of a job that is not admitted yet: missing, or the error of its polls."""
        if job.state.job is None:
            return job.state.replace(request=None)
        parent = self._jobs.get(job.parent) if job.parent is not None else None
        state = parent.state if parent is not None else _UNKNOWN
        return JobState(
            last_error=state.last_error,
            failures=state.failures,
            failed_at=state.failed_at,
            call_in_flight=job.state.call_in_flight,
        )

    def _view(self, scope: Scope, job: TrackedJob) -> Allow | Deny | NeedsDescribe | None:
        """Return whether the object may show the job; None: no poll has shown the job yet."""
        attributes = _attributes(job)
        return None if attributes is None else authorize_view(scope, attributes, self._parent(job))

    def _authorization(self, scope: Scope, job: TrackedJob, now: Millis) -> Allow | Deny | NeedsDescribe | None:
        attributes = _attributes(job)
        return None if attributes is None else authorize_terminate(scope, attributes, self._parent(job), now)

    def _parent(self, job: TrackedJob) -> JobAttributes | NotFound | None:
        parent = self._jobs.get(job.parent) if job.parent is not None else None
        if parent is None:
            return None
        return _attributes(parent) or (NOT_FOUND if parent.state.misses else None)

    def _account_changed(self, tracked: TrackedObject, scope: Scope, job: TrackedJob, *, visible: bool) -> Deny | None:
        """Compare the account with the one in which the job was first observed: both may have a job of this id."""
        status = tracked.record.status
        observed = None
        # Only of a job that the object may see: an account that somebody wrote into a status must not reveal a job.
        if job.state.job is not None and not job.state.misses and visible:
            observed = account_of(job.state.job.arn)
        account = observed or self._account(scope.target)
        if status.account_id is None or account in (None, status.account_id) or status.finished:
            return None
        # Under another policy, the account is that policy's, and it must not show the earlier details.
        return account_changed(status.account_id, hidden=status.access != admitted_by(scope, job.key.job_id))


def _denied(deny: Deny, job: TrackedJob) -> VisibleState:
    return VisibleState(deny, job.state if job.state.request is None else job.state.replace(request=None))


def _attributes(job: TrackedJob) -> JobAttributes | None:
    shown = job.state.job
    return None if shown is None else JobAttributes(job.key.job_id, shown.queue, job.tags, job.requested_at)
