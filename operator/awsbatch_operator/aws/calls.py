"""One lane's calls to AWS: in its own threads and connections, measured and logged."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from awsbatch_operator.aws.clients import THREADS, BatchClient, Clients
from awsbatch_operator.aws.errors import AWS_ERRORS, fault_of, lacks_operation
from awsbatch_operator.domain.errors import Fate, Fault
from awsbatch_operator.domain.ports import Telemetry

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Caller:
    """`lane` is `look` or `terminate`; `throttled` is told the region of each call that AWS throttles."""

    def __init__(self, lane: str, clients: Clients, telemetry: Telemetry, throttled: Callable[[str], None]) -> None:
        self._lane, self._clients, self._telemetry, self._throttled = lane, clients, telemetry, throttled
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=lane)
        self._last: dict[tuple[str, str], Fault | None] = {}

    async def prepare(self, region: str) -> None:
        """Make the region's client, that the first call need not wait for it; which will also tell why it can't be."""
        await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._attempt(region, lambda _client: None)
        )

    async def call(
        self, operation: str, region: str, job_ids: Sequence[str], request: Callable[[BatchClient], T | Fault]
    ) -> T | Fault:
        """What `request` makes of a client, in a thread; or why AWS did not grant it."""
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        answer: T | Fault = await loop.run_in_executor(self._threads, lambda: self._request(region, request))
        fault = answer if isinstance(answer, Fault) else None
        code = "OK" if fault is None else fault.code
        self._telemetry.aws_request(operation, code, time.perf_counter() - started)
        self._note(operation, region, job_ids, fault)
        return answer

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _request(self, region: str, request: Callable[[BatchClient], T | Fault]) -> T | Fault:
        generation = self._clients.generation
        answer = self._attempt(region, request)
        if not isinstance(answer, Fault) or answer.fate is not Fate.CREDENTIALS or lacks_operation(answer):
            return answer
        return self._attempt(region, request) if self._clients.renew(generation) else answer

    def _attempt(self, region: str, request: Callable[[BatchClient], T | Fault]) -> T | Fault:
        try:
            return request(self._clients.get(self._lane, region))
        except AWS_ERRORS as error:
            return fault_of(error)

    def _note(self, operation: str, region: str, job_ids: Sequence[str], fault: Fault | None) -> None:
        """Log a fault when it begins and when it ends; while it lasts, only for those who debug."""
        if fault is not None and fault.fate is Fate.THROTTLED:
            self._throttled(region)
        before = self._last.get((operation, region))
        self._last[operation, region] = fault
        if fault is None and before is None:
            return
        # A hundred ids would drown the line: the first one stands for its call.
        log = _log.bind(operation=operation, region=region, jobId=job_ids[0], jobs=len(job_ids))
        if fault is None:
            log.info("AWS grants the call again")
            return
        write = log.debug if fault == before else log.warning
        write("AWS did not grant the call", fate=fault.fate.value, code=fault.code, error=fault.message)
