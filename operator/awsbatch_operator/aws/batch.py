"""AWS Batch as the engine sees it: looks by DescribeJobs, terminations by TerminateJob and TerminateJobs."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from awsbatch_operator.aws.clients import BatchClient
from awsbatch_operator.aws.halving import ask_by_halves
from awsbatch_operator.aws.identity import Identify, Identity, by_what_is_shown
from awsbatch_operator.aws.limits import Budget
from awsbatch_operator.aws.payload import looks_of
from awsbatch_operator.aws.places import Connect, Places
from awsbatch_operator.aws.sessions import Connector
from awsbatch_operator.aws.terminations import Terminations
from awsbatch_operator.aws.wire import Holds
from awsbatch_operator.domain.admission import MayEnd
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Absent, Place, account_of
from awsbatch_operator.domain.ports import LOOKS_PER_CALL, Look, Sight, Telemetry

MOST_MALFORMED: Final = 1000
"""Ids remembered as malformed."""


def _always(_leave: MayEnd) -> bool:
    return True


class AwsBatch:
    """The port `domain.ports.Batch`.

    Rates are calls a second of one account and region; `batch_size` ids go into a DescribeJobs. `cluster` is a name for
    STS; `holds` is asked, from any thread, whether a termination may still be sent. `connect` and `identify` tell how
    AWS is reached, and who the operator is to it: by boto3, unless told otherwise.
    """

    def __init__(
        self,
        *,
        telemetry: Telemetry,
        describe_rate: float = 5.0,
        terminate_rate: float = 10.0,
        batch_size: int = LOOKS_PER_CALL,
        cluster: str = "kubernetes",
        holds: Holds = _always,
        clock: Callable[[], float] = time.time,
        connect: Connect | None = None,
        identify: Identify = by_what_is_shown,
    ) -> None:
        if connect is None:
            connect = own = Connector()
            identify = own.account
        self._telemetry, self._clock, self._batch_size = telemetry, clock, batch_size
        self._identity = Identity(identify)
        budget = partial(Budget, describe_rate, terminate_rate)
        self._places = Places(connect, self._identity, telemetry, cluster=cluster, budget=budget)
        self._terminations = Terminations(self._places, telemetry, holds)
        self._malformed: dict[tuple[Place, str], None] = {}

    async def prepare(self, region: str) -> None:
        """Make what first calls of the region would have to wait for. Asks AWS for nothing but credentials."""
        self._places.home = Place(region)
        reach = self._places.at(self._places.home)
        await asyncio.gather(
            reach.looks.prepare(then=partial(self._identity.learn, region)),
            reach.terminations.prepare(),
        )

    async def look_budget(self, place: Place) -> None:
        await self._places.budget(place).look()

    async def describe(self, place: Place, job_ids: Sequence[str]) -> Mapping[str, Look]:
        distinct = list(dict.fromkeys(job_ids))
        well_formed = [job_id for job_id in distinct if (place, job_id) not in self._malformed]
        size = self._batch_size
        calls = [well_formed[start : start + size] for start in range(0, len(well_formed), size)]
        # Ids that spoiled a call before go alone, lest they spoil each round's call again.
        calls += [[job_id] for job_id in distinct if (place, job_id) in self._malformed]
        return await ask_by_halves(calls, partial(self._describe, place), partial(self.look_budget, place))

    async def terminate(self, leave: MayEnd, reason: str) -> Fault | None:
        return await self._terminations.ask(leave, reason)

    def account(self, place: Place) -> str | None:
        return self._places.account(place)

    def trouble(self, place: Place) -> Fault | None:
        return self._places.trouble(place)

    def stop(self) -> None:
        self._terminations.lane.stop()

    async def close(self, within: float = 5.0) -> None:
        """Send the terminations that wait, for at most so many seconds. No call may follow."""
        await self._terminations.lane.close(within)
        self._places.close()

    async def _describe(self, place: Place, ids: Sequence[str]) -> Mapping[str, Look] | Fault:
        self._telemetry.describe_batch(len(ids))
        account = account_of(place.role)

        # The answer is read in the thread as well: what it holds beyond a Job never reaches the event loop.
        def request(client: BatchClient) -> Mapping[str, Look] | Fault:
            looks = looks_of(client.describe_jobs(jobs=ids), ids, place.region, account)
            if place.role is None and not isinstance(looks, Fault):
                self._learn(place.region, looks)
            return looks

        answer = await self._places.at(place).looks.call("DescribeJobs", ids, request)
        if not isinstance(answer, Fault):
            self._telemetry.looked(self._clock(), self._places.whose(place))
        if len(ids) == 1:
            self._remember((place, ids[0]), malformed=isinstance(answer, Fault) and answer.fate is Fate.REJECTED)
        return answer

    def _learn(self, region: str, looks: Mapping[str, Look]) -> None:
        """Whose account answered. That a job is gone tells nothing unless it is known where it was looked for."""
        shown = next((look.job.arn for look in looks.values() if isinstance(look, Sight) and look.job.arn), None)
        absent = any(isinstance(look, Absent) for look in looks.values())
        self._identity.learn(region, account_of(shown), needed=absent)

    def _remember(self, job: tuple[Place, str], *, malformed: bool) -> None:
        if not malformed:
            self._malformed.pop(job, None)
            return
        self._malformed[job] = None
        if len(self._malformed) > MOST_MALFORMED:
            del self._malformed[next(iter(self._malformed))]
