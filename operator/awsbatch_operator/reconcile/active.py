"""Rows of the decision table: AWS Batch shows an active job."""

from dataclasses import dataclass
from typing import Final

from awsbatch_operator.api import conditions
from awsbatch_operator.api.batchjob import Deadline, Intent, Phase, Termination
from awsbatch_operator.api.job import Job
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.reconcile.deadline import applies, awaits_answer, next_limit, poll_at
from awsbatch_operator.reconcile.job_state import JobState
from awsbatch_operator.reconcile.not_allowed import observed_only
from awsbatch_operator.reconcile.outcome import Outcome, Record, effective_termination, of_request, resend_at, retry_at
from awsbatch_operator.reconcile.poll_intervals import (
    DELAYED_AFTER,
    STUCK_AFTER,
    TERMINATING_LONGEST,
    PollIntervals,
    terminating,
)

_PHASES: Final = dict.fromkeys(("SUBMITTED", "PENDING", "RUNNABLE", "STARTING"), Phase.PENDING)


def active(record: Record, state: JobState, job: Job, now: Millis, intervals: PollIntervals) -> Outcome:
    flagged, running = job.flagged, job.running
    termination, denied = effective_termination(record, state), record.terminate_denied
    regular = intervals.running if running else intervals.pending
    phase = Phase.RUNNING if running else _PHASES.get(job.status, Phase.UNKNOWN)
    if flagged or termination is not None:
        phase = Phase.TERMINATING
    if termination is None and (denied is not None or record.wanted is None):
        wait = min(TERMINATING_LONGEST, intervals.running) if flagged else regular
        next_poll_at = (state.polled_at or now) + wait
        outcome = Outcome(phase, job, conditions.observed(job), next_poll_at, wait, succeeded=conditions.ACTIVE)
        if record.spec.deadline is not None and not flagged:
            outcome = _with_deadline(record, record.spec.deadline, state, outcome, now)
        disabled = record.spec.on_delete is not None and intervals.on_delete_timeout is None
        if disabled and outcome.stalled is None and not flagged:
            outcome = outcome.replace(stalled=conditions.on_delete_disabled(record.job_name))
        stated = record.wanted is not None or record.spec.deadline is not None
        return observed_only(outcome, denied) if denied is not None and stated else outcome
    row = _Terminating(
        record,
        state,
        job,
        termination,
        now,
        flagged=flagged,
        regular=regular,
        retry=retry_at(record, state, now) if state.terminate_error is not None else None,
        resend=resend_at(record, state, termination, intervals) if termination is not None else 0,
    )
    return row.outcome(phase, allowed=denied is None)


def _with_deadline(record: Record, deadline: Deadline, state: JobState, outcome: Outcome, now: Millis) -> Outcome:
    """Add what spec.deadline demands of an active job of which no limit is past: status, poll, Stalled."""
    job = outcome.job
    if job is None:
        return outcome
    if not applies(deadline, state, job):
        stalled = conditions.deadline_not_applicable(record.job_name, array=job.is_array)
        return outcome.replace(stalled=stalled)
    following = next_limit(record, state, job)
    at = poll_at(following, state) if following is not None else None
    if at is None and not awaits_answer(record, state):
        return outcome.replace(deadline=following)
    if at is not None and now < at:
        return outcome.replace(deadline=following, requeue_at=at)
    # The limit seems to be past, or a first answer is needed, which is reconciled also if it shows nothing that is new.
    polled_at = min(state.polled_at or 0, now)
    return outcome.replace(deadline=following, steady_interval=None, next_poll_at=max(now, polled_at + SECOND))


@dataclass(frozen=True, slots=True)
class _Terminating:
    """A active job of which a termination is stated or was accepted.

    `regular`: the interval of its polls without a termination. `retry`: until when a failed call delays the next;
    `resend`: when the next is due after an accepted one.
    """

    record: Record
    state: JobState
    job: Job
    termination: Termination | None
    now: Millis
    flagged: bool
    regular: Millis
    retry: Millis | None
    resend: Millis

    def outcome(self, phase: Phase, *, allowed: bool) -> Outcome:
        # Nothing was accepted for this job yet, from anybody.
        pending = self.termination is None and not self.flagged
        waiting = self.flagged and self.job.waits_on_dependencies
        since = (self.termination.requested_at or self.termination.accepted_at) if self.termination else None
        age = 0 if since is None or waiting else self.now - since
        delayed = age >= DELAYED_AFTER
        terminate = self._due()
        held = self.record.held if allowed and (pending or terminate is not None) else None
        ready = conditions.READY_PENDING if pending else conditions.READY_IN_PROGRESS
        following = conditions.DELAYED if delayed else conditions.FOLLOWING
        reconciling = conditions.SENDING if pending else following
        terminated = conditions.PENDING if pending else conditions.WAITING if waiting else conditions.IN_PROGRESS
        if held is not None:
            ready, reconciling = conditions.held(held, conditions.FALSE), conditions.held(held, conditions.TRUE)
            terminated = conditions.held(held, conditions.UNKNOWN) if pending else terminated
        return Outcome(
            phase=phase,
            job=self.job,
            termination=self.termination,
            ready=ready,
            reconciling=reconciling,
            stalled=conditions.stuck(self.record.job_name) if age >= STUCK_AFTER else None,
            terminated=terminated if pending else of_request(self.record, self.termination, terminated),
            succeeded=conditions.ACTIVE,
            terminate=terminate if allowed and held is None else None,
            deadline=next_limit(self.record, self.state, self.job) if pending and self.record.spec.deadline else None,
            next_poll_at=self._next_poll_at(),
            delayed=delayed,
        )

    def _due(self) -> Intent | None:
        """The termination to send now: always the one that the spec states now."""
        if self.state.call_in_flight or self.flagged or self.retry is not None:
            return None
        # An observation that lies in the future means that the clock was set back, not that the silence is long.
        observed_at = min(self.state.observed_at or 0, self.now)
        return None if observed_at < self.resend else self.record.wanted

    def _next_poll_at(self) -> Millis:
        polled_at = self.state.polled_at or self.now
        if self.termination is not None and self.termination.accepted_at is not None:
            accepted_at = self.termination.accepted_at
            since = min(max(polled_at, accepted_at), self.now)
            # An acceptance that lies in the future means that the clock was set back: the request is old then, too.
            next_poll_at = since + terminating(abs(since - accepted_at))
            if self.flagged or self.record.wanted is None:
                return next_poll_at
            # A resend needs an observation that is no older than its due time: poll when it falls due.
            due = max(self.resend, self.retry or 0)
            return min(next_poll_at, due) if polled_at < due else next_poll_at
        if self.flagged:
            return polled_at + terminating(max(polled_at - self.record.changed_at, 0))
        wanted = self.record.wanted
        # Twice in the time that its answer counts, so that the request need not wait for a poll when its turn comes.
        often = self.regular if wanted is None or wanted.max_age is None else min(self.regular, wanted.max_age // 2)
        regular = polled_at + often
        return regular if self.retry is None else min(regular, self.retry)
