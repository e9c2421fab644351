"""One lane's calls of one place: in their own threads and connections, measured and logged."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

import structlog

from awsbatch_operator.aws.clients import BatchClient, Clients
from awsbatch_operator.aws.errors import AWS_ERRORS, NotAssumedError, UnsignedError, fault_of, lacks_operation
from awsbatch_operator.aws.keyring import Key, PickKey
from awsbatch_operator.aws.wire import LEAVES, Leaves
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.job import Place
from awsbatch_operator.domain.ports import Telemetry, Whose

T = TypeVar("T")
Request = Callable[[BatchClient], T | Fault]

_NOT_ASSUMED: Final = "the role of the BatchAccessPolicy {policy} can't be assumed"
_ASK: Final = "ask the platform team: the policy's status says why; it is tried again every 5 minutes"

_log = structlog.get_logger(__name__)


class Seat(NamedTuple):
    """From where calls are made: with the operator's own credentials, or by the key to a session of a policy's role."""

    clients: Clients
    key: PickKey | None = None


class Caller:
    """`lane` is `look` or `terminate`; `throttled` is told of each call that AWS throttles; `whose` labels figures.

    `busy`: calls under way.
    """

    def __init__(
        self,
        lane: str,
        place: Place,
        seat: Seat,
        telemetry: Telemetry,
        *,
        whose: Callable[[], Whose],
        throttled: Callable[[], None],
        threads: ThreadPoolExecutor,
    ) -> None:
        self._lane, self._place, self._seat, self._telemetry = lane, place, seat, telemetry
        self._whose, self._throttled = whose, throttled
        self._threads = threads
        self._last: dict[str, Fault | None] = {}
        self.busy = 0

    async def prepare(self, then: Callable[[], None] = lambda: None) -> None:
        """Make the client, that the first call need not wait for it; which will also tell why it can't be."""

        def make() -> None:
            self._attempt(None, lambda _client: None)
            then()

        await asyncio.get_running_loop().run_in_executor(self._threads, make)

    async def call(
        self, operation: str, job_ids: Sequence[str], request: Request[T], leaves: Leaves | None = None
    ) -> T | Fault:
        """What `request` makes of a client, in a thread; or why AWS did not grant it, or why it was not sent."""
        started = time.perf_counter()
        self.busy += 1
        try:
            answer: T | Fault = await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: self._request(request, leaves)
            )
        finally:
            self.busy -= 1
        fault = answer if isinstance(answer, Fault) else None
        if fault is None or fault.fate is not Fate.LAPSED:
            code = "OK" if fault is None else fault.code
            self._telemetry.aws_request(operation, code, time.perf_counter() - started, self._whose())
            self._note(operation, job_ids, fault)
        return answer

    def close(self) -> None:
        """The operator's own clients are other places' as well: they stay."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._seat.key is not None:
            self._seat.clients.close()

    def _request(self, request: Request[T], leaves: Leaves | None) -> T | Fault:
        # This thread is about nothing else until the call is over.
        token = LEAVES.set(leaves)
        try:
            return self._renewing(self._seat.key() if self._seat.key else None, request)
        except UnsignedError as error:
            return fault_of(error)
        finally:
            LEAVES.reset(token)

    def _renewing(self, key: Key | None, request: Request[T]) -> T | Fault:
        generation = key.generation if key else self._seat.clients.generation
        answer, sent = self._attempt(key, request)
        if not sent or not isinstance(answer, Fault) or lacks_operation(answer):
            return answer
        # A session that was revoked, or whose role was made anew, is merely denied everything.
        denied = key is not None and answer.fate is Fate.DENIED
        if not (denied or answer.fate is Fate.CREDENTIALS):
            return answer
        again = key.renew(generation, unless_new=denied) if key else self._seat.clients.renew(generation)
        return self._attempt(key, request)[0] if again else answer

    def _attempt(self, key: Key | None, request: Request[T]) -> tuple[T | Fault, bool]:
        """The answer, and whether there were credentials for it."""
        trouble = None
        try:
            return request(self._seat.clients.get(self._lane, self._place.region)), True
        except NotAssumedError as error:
            trouble = error.fault
            return self._for_objects(trouble), False
        except AWS_ERRORS as error:
            return fault_of(error), True
        finally:
            if key is not None:
                key.trouble = trouble

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
