"""TerminateJob and TerminateJobs: who may share a call, and what is sent only while the leave for it holds."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import structlog

from awsbatch_operator.aws.clients import BatchClient
from awsbatch_operator.aws.errors import LapsedError, fault_of, fault_of_code, lacks_operation
from awsbatch_operator.aws.halving import ask_by_halves
from awsbatch_operator.aws.lanes import Lane
from awsbatch_operator.aws.places import Places
from awsbatch_operator.aws.wire import Holds, Leaves
from awsbatch_operator.domain.admission import MayEnd
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Place
from awsbatch_operator.domain.ports import Telemetry

TERMINATIONS_PER_CALL: Final = 50
"""TerminateJobs takes at most so many ids."""

_STOPPING: Final = Fault(Fate.UNAVAILABLE, "the operator is stopping", "Stopping")
_NO_ANSWER: Final = Fault(
    Fate.UNAVAILABLE, "TerminateJobs answered without its lists: an empty or cut body", "EmptyAnswer"
)
_NOT_MENTIONED: Final = Fault(Fate.UNAVAILABLE, "TerminateJobs did not mention the job", "NotMentioned")
_NO_BULK: Final = fault_of_code("UnknownOperation", 0, "the installed boto3 lacks TerminateJobs")
LAPSED: Final = fault_of(LapsedError())

_log = structlog.get_logger(__name__)

Fates = Mapping[MayEnd, Fault | None]


class _Group(NamedTuple):
    """Terminations that may share a call. `namespace` is empty where IAM can't tell namespaces apart.

    Elsewhere a call that rested on leaves of two namespaces would not be signed at all (wire.namespace_of_call).
    """

    place: Place
    reason: str
    namespace: str


class Terminations:
    """`holds` says whether a leave still does. Nothing that rests on one which does not is sent."""

    def __init__(self, places: Places, telemetry: Telemetry, holds: Holds) -> None:
        self._places, self._telemetry, self._holds = places, telemetry, holds
        self._without_bulk: set[str] = set()
        self.lane = Lane[_Group, MayEnd, Fault | None](
            self._terminate,
            admit=lambda group: places.budget(group.place).termination(),
            place=lambda group: group.place,
            closed=_STOPPING,
            most=TERMINATIONS_PER_CALL,
            depth=partial(telemetry.queue_depth, "terminate"),
        )

    async def ask(self, leave: MayEnd, reason: str) -> Fault | None:
        place = leave.grant.place
        return await self.lane.ask(_Group(place, reason, leave.grant.namespace if place.role else ""), leave)

    async def _terminate(self, group: _Group, leaves: Sequence[MayEnd]) -> Fates:
        answers = await self._by_halves(group, leaves)
        told = self._places.whose(group.place).told()
        for leave, fault in answers.items():
            if fault is None:
                _log.info("termination accepted", **told, jobId=leave.job_id, reason=group.reason)
        return answers

    async def _by_halves(self, group: _Group, leaves: Sequence[MayEnd]) -> Fates:
        budget = self._places.budget(group.place).termination
        return await ask_by_halves([leaves], partial(self._terminate_some, group), budget)

    async def _terminate_some(self, group: _Group, leaves: Sequence[MayEnd]) -> Fates | Fault:
        """By one call, if all leaves hold. When one lapses on the way, nothing was sent: the others go again."""
        call = Leaves(leaves, self._holds)
        answer = await self._send(group, leaves, call) if call.hold() else LAPSED
        if not (isinstance(answer, Fault) and answer.fate is Fate.LAPSED):
            return answer
        left = [leave for leave in leaves if leave not in call.lapsed]
        lapsed: Fates = dict.fromkeys(call.lapsed, LAPSED)
        return {**lapsed, **await self._by_halves(group, left)} if left else lapsed

    async def _send(self, group: _Group, leaves: Sequence[MayEnd], call: Leaves) -> Fates | Fault:
        # Two namespaces may ask for one job, each by its own leave: it is sent once, if both hold.
        ids = list(dict.fromkeys(leave.job_id for leave in leaves))
        if len(ids) == 1:
            fault = await self._terminate_one(group, ids[0], call)
            return fault if fault and fault.fate is Fate.LAPSED else dict.fromkeys(leaves, fault)
        if group.place.region not in self._without_bulk:
            answer = await self._terminate_bulk(group, ids, call)
            if not isinstance(answer, Fault):
                return {leave: answer[leave.job_id] for leave in leaves}
            if not lacks_operation(answer):
                return answer
            told = self._places.whose(group.place).told()
            _log.info("TerminateJobs is not available, using TerminateJob", **told, jobId=ids[0])
            await self._places.budget(group.place).termination()
        return await self._terminate_each(group, leaves)

    async def _terminate_one(self, group: _Group, job_id: str, call: Leaves) -> Fault | None:
        self._telemetry.terminate_batch(1)

        def request(client: BatchClient) -> Fault | None:
            # Its answer is `{}`: that it came with a 200 is all that it says.
            client.terminate_job(jobId=job_id, reason=group.reason)
            return None

        return await self._places.at(group.place).terminations.call("TerminateJob", [job_id], request, call)

    async def _terminate_bulk(
        self, group: _Group, ids: Sequence[str], call: Leaves
    ) -> Mapping[str, Fault | None] | Fault:
        self._telemetry.terminate_batch(len(ids))

        def request(client: BatchClient) -> Mapping[str, Fault | None] | Fault:
            if not hasattr(client, "terminate_jobs"):
                return _NO_BULK
            return _fates_of(client.terminate_jobs(jobs=ids, reason=group.reason), ids)

        answer = await self._places.at(group.place).terminations.call("TerminateJobs", ids, request, call)
        if not isinstance(answer, Fault) and any(fault and fault.fate is Fate.THROTTLED for fault in answer.values()):
            self._places.budget(group.place).termination_throttled()
        return answer

    async def _terminate_each(self, group: _Group, leaves: Sequence[MayEnd]) -> Fates:
        """One TerminateJob each, the first alone, the others side by side. The first one's budget is there already."""

        async def one(leave: MayEnd) -> Fault | None:
            return await self._terminate_one(group, leave.job_id, Leaves([leave], self._holds))

        async def later(leave: MayEnd) -> Fault | None:
            await self._places.budget(group.place).termination()
            return await one(leave)

        first = await one(leaves[0])
        if first is not None and lacks_operation(first):
            # Not an old AWS Batch but something else altogether: nothing is learned by asking for each job.
            return dict.fromkeys(leaves, first)
        self._without_bulk.add(group.place.region)
        others = await asyncio.gather(*(later(leave) for leave in leaves[1:]))
        return dict(zip(leaves, (first, *others), strict=True))


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
