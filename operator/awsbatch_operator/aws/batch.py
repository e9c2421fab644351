"""AWS Batch as the engine sees it: looks by DescribeJobs, terminations by TerminateJob and TerminateJobs."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import structlog

from awsbatch_operator.aws.calls import Caller
from awsbatch_operator.aws.clients import BatchClient, Clients, MakeClient, connect
from awsbatch_operator.aws.errors import fault_of_code, lacks_operation
from awsbatch_operator.aws.halving import ask_by_halves
from awsbatch_operator.aws.lanes import Lane
from awsbatch_operator.aws.limits import Budget
from awsbatch_operator.aws.payload import looks_of
from awsbatch_operator.domain.admission import MayEnd
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Place
from awsbatch_operator.domain.ports import LOOKS_PER_CALL, Look, Telemetry

TERMINATIONS_PER_CALL: Final = 50
"""TerminateJobs takes at most so many ids."""

MOST_MALFORMED: Final = 1000
"""Ids remembered as malformed."""

_STOPPING: Final = Fault(Fate.UNAVAILABLE, "the operator is stopping", "Stopping")
_NO_ANSWER: Final = Fault(
    Fate.UNAVAILABLE, "TerminateJobs answered without its lists: an empty or cut body", "EmptyAnswer"
)
_NOT_MENTIONED: Final = Fault(Fate.UNAVAILABLE, "TerminateJobs did not mention the job", "NotMentioned")
_NO_BULK: Final = fault_of_code("UnknownOperation", 0, "the installed boto3 lacks TerminateJobs")

_log = structlog.get_logger(__name__)


class _Group(NamedTuple):
    """Terminations that may share a call."""

    region: str
    reason: str


class AwsBatch:
    """The port `domain.ports.Batch`. Rates are calls a second and region; `batch_size` ids go into a DescribeJobs."""

    def __init__(
        self,
        *,
        telemetry: Telemetry,
        describe_rate: float = 5.0,
        terminate_rate: float = 10.0,
        batch_size: int = LOOKS_PER_CALL,
        clock: Callable[[], float] = time.time,
        connect: Callable[[], MakeClient] = connect,
    ) -> None:
        self._telemetry, self._clock, self._batch_size = telemetry, clock, batch_size
        self._clients = Clients(connect)
        self._budgets = defaultdict[Hashable, Budget](lambda: Budget(describe_rate, terminate_rate))
        self._looks = Caller("look", self._clients, telemetry, lambda region: self._budget(region).look_throttled())
        self._terminations = Caller("terminate", self._clients, telemetry, self._slow_down)
        self._malformed: dict[tuple[str, str], None] = {}
        self._without_bulk: set[str] = set()
        self._lane = Lane[_Group, str, Fault | None](
            self._terminate,
            admit=lambda group: self._budget(group.region).termination(),
            place=lambda group: group.region,
            closed=_STOPPING,
            most=TERMINATIONS_PER_CALL,
            depth=partial(telemetry.queue_depth, "terminate"),
        )

    async def prepare(self, region: str) -> None:
        """Make what first calls of the region would have to wait for. Asks AWS nothing."""
        await asyncio.gather(self._looks.prepare(region), self._terminations.prepare(region))

    async def look_budget(self, place: Place) -> None:
        await self._budget(place.region).look()

    async def describe(self, place: Place, job_ids: Sequence[str]) -> Mapping[str, Look]:
        region = place.region
        distinct = list(dict.fromkeys(job_ids))
        well_formed = [job_id for job_id in distinct if (region, job_id) not in self._malformed]
        size = self._batch_size
        calls = [well_formed[start : start + size] for start in range(0, len(well_formed), size)]
        # Ids that spoiled a call before go alone, lest they spoil each round's call again.
        calls += [[job_id] for job_id in distinct if (region, job_id) in self._malformed]
        return await ask_by_halves(calls, partial(self._describe, region), partial(self.look_budget, place))

    async def terminate(self, leave: MayEnd, reason: str) -> Fault | None:
        return await self._lane.ask(_Group(leave.grant.place.region, reason), leave.job_id)

    def account(self, place: Place) -> str | None:
        return place.role.split(":")[4] if place.role else None

    def trouble(self, place: Place) -> Fault | None:
        return None

    def stop(self) -> None:
        self._lane.stop()

    async def close(self, within: float = 5.0) -> None:
        """Send the terminations that wait, for at most so many seconds. No call may follow."""
        await self._lane.close(within)
        self._looks.close()
        self._terminations.close()
        self._clients.close()

    def _budget(self, region: str) -> Budget:
        """That of the account and region which grant the calls."""
        return self._budgets[region]

    def _slow_down(self, region: str) -> None:
        self._budget(region).termination_throttled()

    async def _describe(self, region: str, ids: Sequence[str]) -> Mapping[str, Look] | Fault:
        self._telemetry.describe_batch(len(ids))
        # The answer is read in the thread as well: what it holds beyond a Job never reaches the event loop.
        answer = await self._looks.call(
            "DescribeJobs", region, ids, lambda client: looks_of(client.describe_jobs(jobs=ids), ids)
        )
        if not isinstance(answer, Fault):
            self._telemetry.looked(region, self._clock())
        if len(ids) == 1:
            self._remember((region, ids[0]), malformed=isinstance(answer, Fault) and answer.fate is Fate.REJECTED)
        return answer

    def _remember(self, job: tuple[str, str], *, malformed: bool) -> None:
        if not malformed:
            self._malformed.pop(job, None)
            return
        self._malformed[job] = None
        if len(self._malformed) > MOST_MALFORMED:
            del self._malformed[next(iter(self._malformed))]

    async def _terminate(self, group: _Group, ids: Sequence[str]) -> Mapping[str, Fault | None]:
        budget = self._budget(group.region).termination
        answers = await ask_by_halves([ids], partial(self._terminate_some, group), budget)
        for job_id, fault in answers.items():
            if fault is None:
                _log.info("termination accepted", region=group.region, jobId=job_id, reason=group.reason)
        return answers

    async def _terminate_some(self, group: _Group, ids: Sequence[str]) -> Mapping[str, Fault | None] | Fault:
        if len(ids) == 1:
            return {ids[0]: await self._terminate_one(group, ids[0])}
        if group.region not in self._without_bulk:
            answer = await self._terminate_bulk(group, ids)
            if not (isinstance(answer, Fault) and lacks_operation(answer)):
                return answer
            _log.info("TerminateJobs is not available, using TerminateJob", region=group.region, jobId=ids[0])
            await self._budget(group.region).termination()
        return await self._terminate_each(group, ids)

    async def _terminate_one(self, group: _Group, job_id: str) -> Fault | None:
        self._telemetry.terminate_batch(1)

        def request(client: BatchClient) -> Fault | None:
            # Its answer is `{}`: that it came with a 200 is all that it says.
            client.terminate_job(jobId=job_id, reason=group.reason)
            return None

        return await self._terminations.call("TerminateJob", group.region, [job_id], request)

    async def _terminate_bulk(self, group: _Group, ids: Sequence[str]) -> Mapping[str, Fault | None] | Fault:
        self._telemetry.terminate_batch(len(ids))

        def request(client: BatchClient) -> Mapping[str, Fault | None] | Fault:
            if not hasattr(client, "terminate_jobs"):
                return _NO_BULK
            return _fates_of(client.terminate_jobs(jobs=ids, reason=group.reason), ids)

        answer = await self._terminations.call("TerminateJobs", group.region, ids, request)
        if not isinstance(answer, Fault) and any(fault and fault.fate is Fate.THROTTLED for fault in answer.values()):
            self._slow_down(group.region)
        return answer

    async def _terminate_each(self, group: _Group, ids: Sequence[str]) -> Mapping[str, Fault | None]:
        """One TerminateJob each, the first alone, the others side by side. The first one's budget is there already."""

        async def one(job_id: str) -> Fault | None:
            await self._budget(group.region).termination()
            return await self._terminate_one(group, job_id)

        first = await self._terminate_one(group, ids[0])
        if first is not None and lacks_operation(first):
            # Not an old AWS Batch but something else altogether: nothing is learned by asking for each job.
            return dict.fromkeys(ids, first)
        self._without_bulk.add(group.region)
        others = await asyncio.gather(*(one(job_id) for job_id in ids[1:]))
        return dict(zip(ids, (first, *others), strict=True))


def _fates_of(answer: Mapping[str, Any], ids: Sequence[str]) -> Mapping[str, Fault | None] | Fault:
    """TerminateJobs' answer. It is a 200 even when some jobs failed: `errors` tells which."""
    successful, errors = (answer.get(key) for key in ("successful", "errors"))
    if not isinstance(successful, list) and not isinstance(errors, list):
        return _NO_ANSWER
    accepted = successful if isinstance(successful, list) else []
    fates = {job_id: None if job_id in accepted else _NOT_MENTIONED for job_id in ids}
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict) and error.get("job") in ids:
            fates[error["job"]] = fault_of_code(str(error.get("code") or ""), 0, str(error.get("message") or ""))
    return fates
