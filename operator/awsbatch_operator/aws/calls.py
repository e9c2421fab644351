"""One lane's calls of one place: in their own threads and connections, measured and logged."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from awsbatch_operator.aws.clients import THREADS, BatchClient, Clients
from awsbatch_operator.aws.errors import AWS_ERRORS, NotAssumedError, fault_of, lacks_operation
from awsbatch_operator.aws.wire import LEAVES, Leaves
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Place
from awsbatch_operator.domain.ports import Telemetry, Whose

T = TypeVar("T")
Request = Callable[[BatchClient], T | Fault]

_NOT_ASSUMED: Final = "the role of the BatchAccessPolicy {policy} can't be assumed"
_ASK: Final = "ask the platform team: the policy's status says why; it is tried again every 5 minutes"

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Seat:
    """From where calls are made: the operator's own credentials, or (`assumed`) a session of a policy's role.

    `trouble`: why the session could not be assumed, the last time that it was tried. `busy`: calls under way.
    """

    clients: Clients
    assumed: bool = False
    trouble: Fault | None = None
    busy: int = 0


class Caller:
    """`lane` is `look` or `terminate`; `throttled` is told of each call that AWS throttles; `whose` labels figures."""

    def __init__(
        self,
        lane: str,
        place: Place,
        telemetry: Telemetry,
        *,
        whose: Callable[[], Whose],
        throttled: Callable[[], None],
    ) -> None:
        self._lane, self._place, self._telemetry = lane, place, telemetry
        self._whose, self._throttled = whose, throttled
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=lane)
        self._last: dict[str, Fault | None] = {}

    async def prepare(self, seat: Seat, then: Callable[[], None] = lambda: None) -> None:
        """Make the client, that the first call need not wait for it; which will also tell why it can't be."""

        def make() -> None:
            self._attempt(seat, lambda _client: None)
            then()

        await asyncio.get_running_loop().run_in_executor(self._threads, make)

    async def call(
        self, operation: str, seat: Seat, job_ids: Sequence[str], request: Request[T], leaves: Leaves | None = None
    ) -> T | Fault:
        """What `request` makes of a client, in a thread; or why AWS did not grant it, or why it was not sent."""
        started = time.perf_counter()
        seat.busy += 1
        try:
            answer: T | Fault = await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: self._request(seat, request, leaves)
            )
        finally:
            seat.busy -= 1
        fault = answer if isinstance(answer, Fault) else None
        if fault is None or fault.fate is not Fate.LAPSED:
            code = "OK" if fault is None else fault.code
            self._telemetry.aws_request(operation, code, time.perf_counter() - started, self._whose())
            self._note(operation, job_ids, fault)
        return answer

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _request(self, seat: Seat, request: Request[T], leaves: Leaves | None) -> T | Fault:
        # This thread is about nothing else until the call is over.
        token = LEAVES.set(leaves)
        try:
            generation = seat.clients.generation
            answer, sent = self._attempt(seat, request)
            if not sent or not isinstance(answer, Fault) or lacks_operation(answer):
                return answer
            # A session that was revoked, or whose role was made anew, is merely denied everything.
            denied = seat.assumed and answer.fate is Fate.DENIED
            if not (denied or answer.fate is Fate.CREDENTIALS):
                return answer
            again = seat.clients.renew(generation, unless_new=denied)
            return self._attempt(seat, request)[0] if again else answer
        finally:
            LEAVES.reset(token)

    def _attempt(self, seat: Seat, request: Request[T]) -> tuple[T | Fault, bool]:
        """The answer, and whether there were credentials for it."""
        try:
            answer = request(seat.clients.get(self._lane, self._place.region))
        except NotAssumedError as error:
            seat.trouble = error.fault
            return self._for_objects(error.fault), False
        except AWS_ERRORS as error:
            answer = fault_of(error)
        seat.trouble = None
        return answer, True

    def _for_objects(self, fault: Fault) -> Fault:
        """The same in words that tell nothing of roles and accounts. Of its own credentials the operator does tell."""
        if fault.fate is Fate.CREDENTIALS:
            return fault
        return Fault(fault.fate, _NOT_ASSUMED.format(policy=self._place.policy), fault.code, _ASK)

    def _note(self, operation: str, job_ids: Sequence[str], fault: Fault | None) -> None:
        """Log a fault when it begins and when it ends; while it lasts, only for those who debug."""
        if fault is not None and fault.fate is Fate.THROTTLED:
            self._throttled()
        before = self._last.get(operation)
        self._last[operation] = fault
        if fault is None and before is None:
            return
        # A hundred ids would drown the line: the first one stands for its call.
        log = _log.bind(operation=operation, **self._whose().told(), jobId=job_ids[0], jobs=len(job_ids))
        if fault is None:
            log.info("AWS grants the call again")
            return
        write = log.debug if fault == before else log.warning
        write("AWS did not grant the call", fate=fault.fate.value, code=fault.code, error=fault.message)
