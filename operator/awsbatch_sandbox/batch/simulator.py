"""AWS Batch in memory, with the verbs by which tests control it."""

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from awsbatch_sandbox.batch.build import build
from awsbatch_sandbox.batch.clock import Clock
from awsbatch_sandbox.batch.credentials import Credentials
from awsbatch_sandbox.batch.events_frontend import OPERATIONS as EVENTS_OPERATIONS
from awsbatch_sandbox.batch.events_frontend import PERMISSIONS, EventsFrontend
from awsbatch_sandbox.batch.faults import Fault, Faults
from awsbatch_sandbox.batch.frontend import Frontend
from awsbatch_sandbox.batch.identity import SKEW_MINUTES as STS_SKEW_MINUTES
from awsbatch_sandbox.batch.job_events import publisher
from awsbatch_sandbox.batch.job_spec import FAILED, RUNNABLE, RUNNING, STATUSES, SUCCEEDED, job_spec_from
from awsbatch_sandbox.batch.jobs import ENDED_BY_ITSELF, Job
from awsbatch_sandbox.batch.lifecycle import Lifecycle, Outcome
from awsbatch_sandbox.batch.limits import Limits
from awsbatch_sandbox.batch.operations import Operations
from awsbatch_sandbox.batch.permissions import Denial, Permissions
from awsbatch_sandbox.batch.recorder import Recorder
from awsbatch_sandbox.batch.settings import Settings
from awsbatch_sandbox.batch.signature import Verifier
from awsbatch_sandbox.events.simulator import EventsSimulator

SKEW_MINUTES: Final = 5
"""Minutes that a client's clock may be off: fewer than for other services."""
TICK: Final = 0.02
"""Seconds by which an event may be late."""


class BatchSimulator:
    """Jobs of any number of accounts and regions. Times are epoch milliseconds, durations seconds.

    `frontend` receives the wire calls, `events_frontend` those of SQS and EventBridge, which `events` controls;
    `credentials` identify their senders, `identity` serves GetCallerIdentity.
    `now` gives epoch seconds; `advance` moves the jobs' time ahead of it. The verbs raise ValueError for a wrong
    argument and LookupError for a job that does not exist. For parameters account and region, None means any.
    """

    def __init__(self, *, now: Callable[[], float] = time.time, shuffle_seed: int = 0, **settings: Any) -> None:
        self._clock = Clock(now)
        self.events = EventsSimulator(self.aws_time, self._home)
        self._lifecycle = Lifecycle(Settings(**settings), publisher(self.events.bus))
        self._faults = Faults()
        self._limits = Limits()
        self._permissions = Permissions()
        self._recorder = Recorder()
        self.credentials = Credentials(lambda: self._lifecycle.settings)
        verifier = Verifier("batch", self.credentials, clock=self.aws_time, minutes=SKEW_MINUTES, serves=self._serves)
        self.identity = Verifier("sts", self.credentials, clock=self.aws_time, minutes=STS_SKEW_MINUTES, serves=bool)
        self._operations = Operations(self._lifecycle, self._permissions, random.Random(shuffle_seed))
        self.events_frontend = EventsFrontend(
            self.events,
            self._recorder,
            self.credentials,
            clock=self._clock,
            aws_time=self.aws_time,
            serves=self._serves,
        )
        self.frontend = Frontend(
            clock=self._clock,
            verifier=verifier,
            operations=self._operations,
            faults=self._faults,
            limits=self._limits,
            recorder=self._recorder,
        )

    def aws_time(self) -> float:
        """Epoch seconds on the clock by which signatures and credentials are dated; `advance` does not move it."""
        return self._clock.wall() + self._lifecycle.settings.clock_ahead

    def _home(self) -> tuple[str, str]:
        return self._lifecycle.settings.account, self._lifecycle.settings.region

    async def publish_in_time(self) -> None:
        """While a rule exists, let jobs change when they are due, not at the next call; until it is cancelled."""
        while True:
            await self.events.wanted.wait()
            self._settle()
            await asyncio.sleep(TICK)

    def _serves(self, region: str) -> bool:
        regions = self._lifecycle.settings.regions
        return region in regions if regions else True

    def seed(self, **job: Any) -> str:
        """A job in any state and shape (the fields of JobSpec); its id."""
        now = self._settle()
        settings = self._lifecycle.settings
        one = build(job_spec_from(job, region=settings.region, account=settings.account), now)
        self._lifecycle.add(one, now)
        return one.job_id

    def seed_many(self, n: int, **job: Any) -> list[str]:
        """`n` jobs alike but for their ids and names (name-0, name-1, ...)."""
        now = self._settle()
        settings = self._lifecycle.settings
        shape = job_spec_from(job, region=settings.region, account=settings.account)
        job_ids = [str(uuid.uuid4()) for _ in range(n)]
        for index, job_id in enumerate(job_ids):
            self._lifecycle.add(build(replace(shape, job_id=job_id, name=f"{shape.name}-{index}"), now), now)
        return job_ids

    def job(self, job_id: str, *, account: str | None = None, region: str | None = None) -> dict[str, Any]:
        """The simulator's state of the job, independent of DescribeJobs."""
        self._settle()
        return _state(self._lifecycle.jobs.named(job_id, account, region))

    def jobs(self, account: str | None = None, region: str | None = None) -> list[dict[str, Any]]:
        self._settle()
        return _of_place((_state(one) for one in self._lifecycle.jobs), account, region)

    def accounts(self) -> list[str]:
        """Those that have a credential or a job."""
        return sorted(self.credentials.accounts() | {job.seed.account for job in self._lifecycle.jobs})

    def move(
        self,
        job_id: str,
        status: str,
        *,
        account: str | None = None,
        region: str | None = None,
        exit_code: int | None = None,
        reason: str | None = None,
        container_reason: str | None = None,
        is_terminated: bool | None = None,
        is_cancelled: bool | None = None,
    ) -> None:
        """Put a job into a state; back to RUNNABLE ends its attempt. An array's children move for their parent."""
        if status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, got {status!r}")
        now = self._settle()
        job = self._lifecycle.jobs.named(job_id, account, region)
        job.is_terminated = job.is_terminated if is_terminated is None else is_terminated
        job.is_cancelled = job.is_cancelled if is_cancelled is None else is_cancelled
        for one in (job.live_children() or job.children) if job.is_array else [job]:
            self._move_one(one, status, now, Outcome(exit_code, reason, container_reason))

    def _move_one(self, job: Job, status: str, now: int, outcome: Outcome) -> None:
        if job.status != RUNNING and (status == SUCCEEDED or outcome.exit_code is not None):
            self._lifecycle.enter(job, RUNNING, now)
        code, reason = outcome.exit_code, outcome.reason
        if job.status == RUNNING and status in (SUCCEEDED, FAILED, RUNNABLE):
            code = (0 if status == SUCCEEDED else 1) if code is None else code
        if reason is None and status in (SUCCEEDED, FAILED):
            reason = job.end_reason if status == FAILED and job.end_reason else ENDED_BY_ITSELF
        self._lifecycle.enter(job, status, now, Outcome(code, reason, outcome.container_reason))

    def forget(self, job_id: str, *, account: str | None = None, region: str | None = None) -> None:
        """Batch does not know the job any more, as after its retention; children and nodes go with it."""
        self._settle()
        self._lifecycle.forget(self._lifecycle.jobs.named(job_id, account, region))

    def hide(
        self, job_id: str, polls: int = 1, *, lists: int = 0, account: str | None = None, region: str | None = None
    ) -> None:
        """Omit the job from the next `polls` DescribeJobs for it and the next `lists` pages on which it would be."""
        self._settle()
        job = self._lifecycle.jobs.named(job_id, account, region)
        job.hidden_polls, job.hidden_lists = polls, lists

    def expire_tokens(self) -> None:
        """Refuse every nextToken that ListJobs has returned so far."""
        self._operations.lists.tokens.expire()

    def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)
        self._settle()

    def fault(self, operation: str = "*", **fault: Any) -> None:
        """Inject a fault: the fields of Fault."""
        self._check_operation(operation)
        faults = self.events_frontend.faults if operation in EVENTS_OPERATIONS else self._faults
        faults.add(Fault(operation=operation, **fault))

    def clear_faults(self) -> None:
        self._faults.clear()
        self.events_frontend.faults.clear()

    def limit(
        self,
        rate: float | None,
        burst: float | None = None,
        *,
        account: str | None = None,
        region: str | None = None,
    ) -> None:
        """Throttle each account and region to `rate` calls/s with TooManyRequestsException; None lifts it."""
        self._limits.set(rate, burst, account, region)

    def deny(self, operation: str = "*", **denial: Any) -> None:
        """Have IAM refuse calls: the fields of Denial."""
        self._check_operation(operation)
        if operation in PERMISSIONS:
            raise ValueError(f"{operation} needs the permission {PERMISSIONS[operation]}: deny that")
        permissions = self.events_frontend.permissions if operation in EVENTS_OPERATIONS else self._permissions
        permissions.add(Denial(operation=operation, **denial))

    def _check_operation(self, operation: str) -> None:
        """* is every operation of Batch; those of SQS and EventBridge are named one by one."""
        known = [*self._operations.names, *EVENTS_OPERATIONS]
        if operation != "*" and operation not in known:
            raise ValueError(f"operation must be * or one of {', '.join(known)}, got {operation!r}")

    def clear_denials(self, *, but_by_tag: bool = False) -> None:
        """Lift all denials, or all but those with `job_tag`, which stand for the policies of roles."""
        self._permissions.clear(but_by_tag=but_by_tag)
        self.events_frontend.permissions.clear()

    def calls(
        self, operation: str | None = None, since: int = 0, *, account: str | None = None, region: str | None = None
    ) -> list[dict[str, Any]]:
        """The calls of that operation, or of all, that came after the one with `n` = `since`."""
        later = (call for call in self._recorder.calls if call["n"] > since)
        return _of_place((call for call in later if operation in (None, call["operation"])), account, region)

    def counts(self) -> dict[str, int]:
        """Number of calls by operation."""
        return self._recorder.counts()

    def clear_calls(self) -> None:
        self._recorder.clear()

    def terminate_requests(self, account: str | None = None, region: str | None = None) -> list[dict[str, Any]]:
        """One entry for each job of each accepted TerminateJob or TerminateJobs."""
        return _of_place(self._recorder.requests, account, region)

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change some settings; all of them as they are now."""
        now = self._settle()
        try:
            self._lifecycle.settings = replace(self._lifecycle.settings, **changes)
        except TypeError as wrong:
            known = ", ".join(self._lifecycle.settings.as_dict())
            raise ValueError(f"{wrong}; the settings are {known}") from wrong
        if "retention" in changes:
            self._lifecycle.arm_all_retentions()
            self._lifecycle.timers.settle(now)
        return self._lifecycle.settings.as_dict()

    def _settle(self) -> int:
        now = self._clock.now_ms()
        self._lifecycle.timers.settle(now)
        return now


def _of_place(entries: Iterable[dict[str, Any]], account: str | None, region: str | None) -> list[dict[str, Any]]:
    return [one for one in entries if account in (None, one["account"]) and region in (None, one["region"])]


def _state(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "name": job.seed.name,
        "kind": job.seed.kind,
        "account": job.seed.account,
        "region": job.seed.region,
        "status": job.status,
        "status_reason": job.status_reason,
        "is_terminated": job.is_terminated,
        "is_cancelled": job.is_cancelled,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "stopped_at": job.stopped_at,
        "exit_code": job.exit_code,
        "attempts": len(job.attempts),
        "tags": job.tags,
        "parent": None if job.parent is None else job.parent.job_id,
        "children": [child.job_id for child in job.children],
    }
