"""The state machine: how jobs move, by themselves, by a control verb or by TerminateJob and CancelJob."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from awsbatch_sandbox.batch.clock import Timers
from awsbatch_sandbox.batch.job_spec import (
    FAILED,
    FINISHED,
    ON_COMPUTE,
    PENDING,
    RUNNABLE,
    RUNNING,
    STARTING,
    SUBMITTED,
    SUCCEEDED,
    AccountRegion,
)
from awsbatch_sandbox.batch.job_store import JobStore
from awsbatch_sandbox.batch.jobs import (
    CHILD_FAILED,
    ENDED_BY_ITSELF,
    Job,
    array_status,
    close_attempt,
    open_attempt,
)
from awsbatch_sandbox.batch.settings import Settings

DEPENDENCY_FAILED = "Dependent Job failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run, or the reason of the state of a job."""

    exit_code: int | None = None
    reason: str | None = None
    container_reason: str | None = None


NOTHING = Outcome()


def _flag(job: Job, *, cancelled: bool) -> None:
    """A request was accepted; the nodes of a multi-node job show what their job shows."""
    for one in (job, *job.live_children()) if job.is_multinode else (job,):
        one.is_cancelled = one.is_cancelled or cancelled
        one.is_terminated = one.is_terminated or not cancelled
        one.touch()


class Lifecycle:
    """All jobs, and every rule by which they change. Times are epoch milliseconds."""

    def __init__(self, settings: Settings, changed: Callable[[Job, str, int], None] | None = None) -> None:
        """`changed` gets each job after its status or statusReason was set, its former status, and when it was."""
        self.settings = settings
        self._changed = changed
        self.jobs = JobStore()
        self.timers = Timers()
        self._dependents: dict[tuple[AccountRegion, str], list[Job]] = {}

    def add(self, job: Job, now: int) -> None:
        if self.jobs.find(job.account_region, job.job_id) is not None:
            raise ValueError(f"job_id {job.job_id} exists already: forget it first or choose another")
        for one in (job, *job.children):
            self.jobs.add(one)
            for dependency in job.seed.depends_on:
                self._dependents.setdefault((one.account_region, dependency), []).append(one)
            self._arm(one, now)

    def forget(self, job: Job) -> None:
        for one in (job, *job.children):
            self.jobs.remove(one)

    def held(self, job: Job) -> bool:
        """Waits for a dependency that is still alive; one that Batch does not know counts as ended."""
        return any(one is not None and not one.finished for one in self._dependencies(job))

    def _dependencies(self, job: Job) -> Iterator[Job | None]:
        """Jobs of the same account and region: ids do not reach further."""
        return (self.jobs.find(job.account_region, dependency) for dependency in job.seed.depends_on)

    def terminate(self, job: Job, reason: str, now: int) -> bool:
        """TerminateJob; True if it changed anything. A repeated call keeps the first reason and its grace."""
        if job.finished or job.seed.ignores_terminate:
            return False
        if job.ignore_terminates > 0:
            job.ignore_terminates -= 1
            return False
        changed = [self._terminate_one(one, reason, now) for one in self._reached(job)]
        return any(changed)

    def cancel(self, job: Job, reason: str, now: int) -> bool:
        """CancelJob: like TerminateJob, but STARTING and RUNNING jobs do not change."""
        reached = [one for one in self._reached(job) if not (one.finished or one.flagged or one.status in ON_COMPUTE)]
        for one in reached:
            _flag(one, cancelled=True)
            self._end_early(one, reason, now)
        return bool(reached)

    def _reached(self, job: Job) -> Iterator[Job]:
        """The jobs to terminate: the children of an array parent too; the main node for a multi-node job."""
        if job.parent is not None and job.parent.is_multinode and job.index == job.seed.main_node:
            job = job.parent
        yield job
        if job.is_array:
            yield from job.live_children()

    def _terminate_one(self, job: Job, reason: str, now: int) -> bool:
        if job.flagged:
            return False
        on_compute = job.status in ON_COMPUTE
        _flag(job, cancelled=not on_compute and self.settings.early_flag == "isCancelled")
        if not on_compute:
            self._end_early(job, reason, now)
            return True
        job.end_reason = reason
        if not job.seed.stuck:
            grace = self.settings.grace if job.seed.grace is None else job.seed.grace
            job.kill_at = now + int(grace * 1000)
            self.timers.at(job.kill_at, partial(self._kill, job))
        return True

    def _end_early(self, job: Job, reason: str, now: int) -> None:
        """A job that is not on compute yet ends at once, unless its dependencies or children hold it."""
        job.end_reason = reason
        if not (job.is_array or job.seed.stuck or (job.status == PENDING and self.held(job))):
            self.enter(job, FAILED, now, Outcome(reason=reason))

    def _kill(self, job: Job, due: int) -> None:
        if job.finished or job.kill_at != due:
            return
        code = job.seed.exit_code_on_term
        if code is None and job.status == RUNNING:
            code = self.settings.exit_code_on_term
        self.enter(job, FAILED, due, Outcome(exit_code=code, reason=job.end_reason))

    def enter(self, job: Job, status: str, at: int, outcome: Outcome = NOTHING) -> None:
        """The one place where a status changes."""
        was = job.status
        job.status = status
        self.jobs.moved(job, was)
        job.epoch += 1
        job.status_reason = outcome.reason
        if was in ON_COMPUTE and status not in ON_COMPUTE:
            self._stop(job, was, at, outcome)
        elif status in ON_COMPUTE:
            open_attempt(job, was, at)
        job.stopped_at = at if status in FINISHED else None
        job.touch()
        if self._changed is not None:
            self._changed(job, was, at)
        if job.is_multinode:
            for node in job.live_children():
                self.enter(node, status, at, outcome)
        if job.parent is not None and job.parent.is_array:
            self._child_moved(job.parent, was, status, at)
        self._arm(job, at)
        if job.finished:
            self._release(job, at)

    @staticmethod
    def _stop(job: Job, was: str, at: int, outcome: Outcome) -> None:
        job.exit_code = outcome.exit_code
        job.container_reason = outcome.container_reason
        if was == RUNNING or outcome.exit_code is not None or outcome.container_reason is not None:
            close_attempt(job, at)

    def _child_moved(self, parent: Job, was: str, status: str, at: int) -> None:
        parent.summary[was] -= 1
        parent.summary[status] += 1
        parent.summary_at = at
        now_is = array_status(parent)
        if now_is != parent.status:
            reason = (parent.end_reason or CHILD_FAILED) if now_is == FAILED else None
            self.enter(parent, now_is, at, Outcome(reason=reason))

    def _release(self, ended: Job, at: int) -> None:
        for job in self._dependents.pop((ended.account_region, ended.job_id), ()):
            if job.status == PENDING and not job.is_array and not self.held(job):
                self._dependencies_ended(job, at)

    def _dependencies_ended(self, job: Job, at: int) -> None:
        if job.flagged:
            if not job.seed.stuck:
                self.enter(job, FAILED, at, Outcome(reason=job.end_reason))
        elif any(one is not None and one.status == FAILED for one in self._dependencies(job)):
            self.enter(job, FAILED, at, Outcome(reason=DEPENDENCY_FAILED))
        else:
            self.enter(job, RUNNABLE, at)

    def _arm(self, job: Job, at: int) -> None:
        """Set the timer of the next natural transition, if there is one."""
        if job.finished:
            if job.parent is None:
                self.arm_retention(job)
        elif job.is_array or (job.parent is not None and job.parent.is_multinode):
            return
        elif job.status == RUNNING:
            run_for = job.seed.run_for
            if run_for is None and job.seed.natural:
                run_for = self.settings.run_for
            if run_for is not None:
                self._step_after(job, run_for, at)
        elif job.seed.natural:
            self._step_after(job, self._wait_in(job.status), at)

    def _wait_in(self, status: str) -> float:
        waits = {
            SUBMITTED: self.settings.submitted_for,
            RUNNABLE: self.settings.runnable_for,
            STARTING: self.settings.starting_for,
        }
        return waits.get(status, 0.0)

    def _step_after(self, job: Job, seconds: float, at: int) -> None:
        self.timers.at(at + int(seconds * 1000), partial(self._step, job, job.epoch))

    def _step(self, job: Job, epoch: int, due: int) -> None:
        """The next natural state, if the job has not moved since the timer was set."""
        if job.epoch != epoch or job.finished:
            return
        if job.status == RUNNING:
            code = job.seed.last_exit_code
            self.enter(job, FAILED if code else SUCCEEDED, due, Outcome(exit_code=code, reason=ENDED_BY_ITSELF))
        elif job.status == SUBMITTED:
            self.enter(job, PENDING if self.held(job) else RUNNABLE, due)
        elif job.status == PENDING:
            if not self.held(job):
                self.enter(job, RUNNABLE, due)
        else:
            self.enter(job, STARTING if job.status == RUNNABLE else RUNNING, due)

    def arm_retention(self, job: Job) -> None:
        if job.stopped_at is not None:
            self.timers.at(job.stopped_at + int(self.settings.retention * 1000), partial(self._expire, job))

    def arm_all_retentions(self) -> None:
        """After the retention was changed: timers that are set may be too late."""
        for job in self.jobs:
            if job.finished and job.parent is None:
                self.arm_retention(job)

    def _expire(self, job: Job, due: int) -> None:
        """Forget, unless the job moved on or the retention has grown since the timer was set."""
        if job.stopped_at is None or job not in self.jobs:
            return
        if job.stopped_at + int(self.settings.retention * 1000) > due:
            self.arm_retention(job)
        else:
            self.forget(job)
