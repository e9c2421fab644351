"""The terminations: each is sent as decided, and what Batch answers becomes part of what is known of the job."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from awsbatch_operator.domain.admission import MayEnd
from awsbatch_operator.domain.cadence import call_backoff
from awsbatch_operator.domain.denied import accepted_of
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import JobKey, Millis
from awsbatch_operator.domain.observation import Request
from awsbatch_operator.domain.record import Status, Termination
from awsbatch_operator.domain.verdict import Allowed
from awsbatch_operator.engine.outside import Ports
from awsbatch_operator.engine.store import TrackedJob, TrackedObject


class Terminations:
    """Calls under way, and refusals that pass. One call of a job at a time: none is decided while `seen.calling`.

    `decide` is told of each job of which an answer, or the end of a refusal, makes more known; `look` of each that must
    be looked at anew, since a leave to end it has lapsed; `show` of an object whose status now tells of its request.
    """

    def __init__(
        self,
        jobs: Mapping[JobKey, TrackedJob],
        ports: Ports,
        *,
        decide: Callable[[TrackedJob], None],
        show: Callable[[TrackedObject], None],
        look: Callable[[TrackedJob], None],
        leading: Callable[[], bool],
        acting: Callable[[], bool],
    ) -> None:
        self._jobs, self._ports = jobs, ports
        self._decide, self._show, self._look = decide, show, look
        self._leading, self._acting = leading, acting
        self._calls: set[asyncio.Task[None]] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._stopped = False

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Calls are tasks of this group: an error in one of them ends the whole."""
        self._tasks = tasks

    def send(self, job: TrackedJob, asker: TrackedObject, leave: MayEnd, reason: str) -> None:
        """Ask Batch to end the job, with exactly this reason, for as long as the leave of the asker to do so holds."""
        assert self._tasks is not None
        job.seen = job.seen.called()
        call = self._tasks.create_task(self._call(job.key, asker, leave, reason))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    def stop(self) -> None:
        """No new calls, and no refusal is tried again; calls under way go on."""
        self._stopped = True
        self._ports.batch.stop()

    async def drained(self) -> None:
        while self._calls:
            await asyncio.wait(self._calls)

    def measure(self, before: Status, after: Status) -> None:
        """Count the time that a termination took, once the status tells of its end."""
        ended = after.termination
        if ended is None or ended.completed_at is None or ended.accepted_at is None:
            return
        if before.termination is None or before.termination.completed_at is None:
            self._ports.telemetry.termination_completed(max(ended.completed_at - ended.accepted_at, 0) / 1000)

    async def _call(self, key: JobKey, asker: TrackedObject, leave: MayEnd, reason: str) -> None:
        # The one place at which it is asked whether this call may go out. It may still wait for its turn behind the
        # port, where each of its requests is asked for the Lease once more.
        if not self._acting():
            return
        requested_at = self._ports.now()
        fault = await self._ports.batch.terminate(leave, reason)
        if fault is None and self._leading():
            self._record(key, asker, Termination(reason, requested_at, self._ports.now(), requests=1))
        job = self._jobs.get(key)
        if job is None:
            return
        if fault is None:
            self._accepted(job, reason, requested_at)
        elif fault.fate is Fate.LAPSED:
            self._lapsed(job)
        elif self._tries_again():
            self._refused(job, fault)

    def _record(self, key: JobKey, asker: TrackedObject, sent: Termination) -> None:
        """For an object that lost the right to know of its job under way: that its request was accepted, it is told."""
        record = asker.record
        knows = asker.key == key and isinstance(record.access, Allowed) and record.access.absence is None
        if not knows and accepted_of(record.status) is None:
            asker.record = replace(record, status=replace(record.status, termination=sent))
            self._show(asker)

    def _accepted(self, job: TrackedJob, reason: str, requested_at: Millis) -> None:
        now = self._ports.now()
        job.seen = job.seen.accepted(reason, requested_at, now)
        job.lapses = 0
        for tracked in job.objects.values():
            if tracked.record.asked:
                self._ports.telemetry.termination_accepted((now - tracked.record.changed_at) / 1000)
        if self._leading():
            self._decide(job)

    def _lapsed(self, job: TrackedJob) -> None:
        job.seen = job.seen.lapsed()
        wait = call_backoff(Fate.LAPSED, job.lapses) if job.lapses else 0
        job.lapses += 1
        # Until then no edit and no other look sends it again: each would be one more that lapses and looks.
        job.held_until = self._ports.now() + wait
        asyncio.get_running_loop().call_later(wait / 1000, self._look_again, job.key)

    def _look_again(self, key: JobKey) -> None:
        job = self._jobs.get(key)
        if job is not None and self._tries_again():
            self._look(job)

    def _refused(self, job: TrackedJob, fault: Fault) -> None:
        job.seen = job.seen.refused(fault, self._ports.now())
        if fault.fate.passes:
            # By a timer, not with the look that falls due then: looks give way while AWS throttles.
            wait = call_backoff(fault.fate, job.seen.refusals) / 1000 * self._ports.jitter(1.0, 1.1)
            asyncio.get_running_loop().call_later(wait, self._reconsider, job.key)
        self._decide(job)

    def _reconsider(self, key: JobKey) -> None:
        job = self._jobs.get(key)
        if job is not None and self._tries_again():
            self._decide(job)

    def _tries_again(self) -> bool:
        return self._leading() and not self._stopped


def recall(job: TrackedJob, told: Termination | None) -> None:
    """A request that the status tells of, sent by an earlier process."""
    if told is not None and told.accepted_at is not None:
        requested_at = told.requested_at if told.requested_at is not None else told.accepted_at
        job.seen = job.seen.recalled(Request(told.reason, requested_at, told.accepted_at, told.requests))
