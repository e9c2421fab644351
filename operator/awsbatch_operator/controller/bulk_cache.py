"""The cache's entry of a BatchTermination, the permission to terminate one of its jobs, and what was requested."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from awsbatch_operator.api.batchjob import ObjectRef
from awsbatch_operator.api.batchtermination import BulkSpec, BulkStatus
from awsbatch_operator.api.errors import CallError
from awsbatch_operator.api.job import JobKey, Target
from awsbatch_operator.api.timestamps import Millis
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.policy.authorizer import MAX_TAG_AGE, Allow
from awsbatch_operator.policy.resolution import Scope
from awsbatch_operator.reconcile.bulk_status import Progress
from awsbatch_operator.reconcile.sweep import LiveJob
from awsbatch_operator.workqueue.backoff import backoff

RESEND_AFTER: Final = 60.0
LONGEST_RESEND: Final = 900.0
"""Seconds after which a termination is requested again of which AWS Batch shows no sign, doubled with each request."""


@dataclass(slots=True, eq=False)
class TrackedTermination:
    """One BatchTermination. `status`: the wanted one; `shown`: the raw one that the API server has.

    `scope`: that of the last sweep; None: there was none. `is_counted`: a sweep was completed since the spec or the
    scope has changed, and found at most spec.maxJobs. `empty_sweeps`: full sweeps in a row, while approved, that found
    nothing to terminate; `restarts`: sweeps in a row that were not completed. `is_inherited`: `status` is that of an
    earlier process, and nothing that was seen since contradicts it.

    `requested`: jobs whose termination AWS Batch accepted, those of earlier processes too; `accepted`: sizes of those
    of this process, by id. `refused`: why AWS refused a termination at the last try, and until when it is not tried
    again (loop time). `changed`: set when a sweep may have another result than the last one. `written_at`: loop time of
    the last write, or until when the next one waits.
    """

    ref: ObjectRef
    spec: BulkSpec
    generation: int
    created_at: Millis
    resource_version: str
    shown: Mapping[str, object]
    status: BulkStatus
    progress: Progress
    requested: int = 0
    scope: Scope | None = None
    is_counted: bool = False
    empty_sweeps: int = 0
    restarts: int = 0
    is_inherited: bool = False
    accepted: dict[str, int] = field(default_factory=dict)
    refused: dict[str, tuple[CallError, float]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    written_at: float = float("-inf")
    write_failures: int = 0


@dataclass(slots=True, eq=False)
class BulkPermit:
    """Permission to terminate one job for a BatchTermination. Asked with the last byte, from any thread.

    `may_send` returns whether the object still exists with this spec, approved, and nothing holds its terminations.
    """

    job: LiveJob
    allow: Allow
    tracked: TrackedTermination
    policies: PolicyCache
    may_send: Callable[[TrackedTermination, BulkSpec], bool]
    now: Callable[[], Millis]
    spec: BulkSpec = field(init=False)
    target: Target = field(init=False)
    namespace: str = field(init=False)
    job_id: str = field(init=False)
    key: JobKey = field(init=False)

    def __post_init__(self) -> None:
        scope, self.spec = self.allow.scope, self.tracked.spec
        self.target, self.namespace, self.job_id = scope.target, scope.namespace, self.allow.job_id
        self.key = JobKey(self.target, self.job_id)

    @property
    def lapses(self) -> bool:
        """Whether tags decide, of the selector or of the policy."""
        return bool(self.spec.tags) or self.allow.valid_until is not None

    def valid(self) -> bool:
        now = self.now()
        # Tags can change at any time: those that the selector names lapse as those that a policy names.
        matches = not self.spec.tags or self.job.observed_at <= now <= self.job.observed_at + MAX_TAG_AGE
        return matches and self.may_send(self.tracked, self.spec) and self.policies.is_valid(self.allow, now)


class RecentRequests:
    """Jobs whose termination is under way or was accepted: it is not requested again for a while, by no object.

    A list of AWS Batch shows which terminations it accepted, though perhaps not at once; that of an older endpoint
    shows none. `clock`: loop time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests: dict[JobKey, tuple[int, float]] = {}
        self._under_way: set[JobKey] = set()

    @contextmanager
    def under_way(self, jobs: set[JobKey]) -> Iterator[None]:
        """During the block, the call that requests their termination is under way; `add` those that it accepts."""
        self._under_way |= jobs
        try:
            yield
        finally:
            self._under_way -= jobs

    def add(self, job: JobKey) -> None:
        requests = self._requests.get(job, (0, 0.0))[0] + 1
        self._requests[job] = requests, self._clock() + backoff(requests, RESEND_AFTER, LONGEST_RESEND)

    def __contains__(self, job: JobKey) -> bool:
        return job in self._under_way or (job in self._requests and self._clock() < self._requests[job][1])

    def prune(self) -> None:
        """Drop what is long ago."""
        since = self._clock() - 2 * LONGEST_RESEND
        self._requests = {job: one for job, one in self._requests.items() if one[1] >= since}
