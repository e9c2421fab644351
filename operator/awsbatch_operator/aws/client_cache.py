"""boto3 clients by kind of call and region, and the threads that run calls with them."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import structlog

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import CallLabels, Telemetry
from awsbatch_operator.api.job import Target
from awsbatch_operator.aws.errors import AWS_ERRORS, RoleNotAssumedError, classify_error, lacks_operation
from awsbatch_operator.aws.hooks import RequestScope
from awsbatch_operator.aws.sdk_session import MAX_THREADS, ClientKind, MakeClient
from awsbatch_operator.workqueue.log_once import LogOnce

T = TypeVar("T")

MAX_CLIENTS: Final = 100
"""Clients that are kept: about those of 50 regions, the most recently used."""

_NOT_ASSUMED: Final = "the operator cannot assume the role of the BatchAccessPolicy {policy}"
_ASK: Final = "ask the platform team: the status of the policy shows the cause; the operator retries every 5 minutes"

_log = structlog.get_logger(__name__)


class ClientCache:
    """Clients that all sessions share: each request is signed by its own scope. For worker threads."""

    def __init__(self, make: MakeClient) -> None:
        self._make = make
        # boto3 clients may be shared by threads; making them may not.
        self._making, self._lock = threading.Lock(), threading.Lock()
        self._clients: OrderedDict[tuple[ClientKind, str], Any] = OrderedDict()

    def get(self, kind: ClientKind, region: str) -> Any:
        """Raises AWS_ERRORS if the SDK can't make the client."""
        return self._known(kind, region) or self._made(kind, region)

    def discard(self, region: str, *kinds: ClientKind) -> None:
        """Closes these clients of a region. Requests in flight finish: closing drops idle connections only."""
        with self._lock:
            dropped = [self._clients.pop((kind, region)) for kind in kinds if (kind, region) in self._clients]
        _close(dropped)

    def close(self) -> None:
        with self._lock:
            dropped, self._clients = list(self._clients.values()), OrderedDict()
        _close(dropped)

    def _known(self, kind: ClientKind, region: str) -> Any:
        with self._lock:
            if (kind, region) in self._clients:
                self._clients.move_to_end((kind, region))
            return self._clients.get((kind, region))

    def _made(self, kind: ClientKind, region: str) -> Any:
        with self._making:
            made = self._known(kind, region)
            if made is None:
                made = self._make(kind, region)
                with self._lock:
                    self._clients[kind, region] = made
                    surplus = max(len(self._clients) - MAX_CLIENTS, 0)
                    dropped = [self._clients.popitem(last=False)[1] for _ in range(surplus)]
                _close(dropped)
        return made


def _close(clients: Iterable[Any]) -> None:
    for client in clients:
        client.close()


class CallRunner:
    """Runs the calls of one kind in a bounded number of threads, measures them, and logs errors once.

    `labels` of the metrics of a target; `throttled` is called in the event loop for each call that AWS throttled.
    """

    def __init__(
        self,
        kind: ClientKind,
        clients: ClientCache,
        own: object,
        telemetry: Telemetry,
        *,
        labels: Callable[[Target], CallLabels],
        throttled: Callable[[Target], None] = lambda _: None,
        threads: int = MAX_THREADS,
    ) -> None:
        self._kind, self._clients, self._own, self._telemetry = kind, clients, own, telemetry
        self._labels, self._throttled = labels, throttled
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=kind)
        self._problems: dict[tuple[Target, str], LogOnce] = {}

    async def run(
        self,
        operation: str,
        target: Target,
        scope: RequestScope,
        log_fields: Mapping[str, object],
        request: Callable[[Any], T | CallError],
    ) -> T | CallError:
        """Calls `request` with a client in a thread; returns its result, or the error of AWS.

        `log_fields` tell in the log what the call was about.
        """
        started = time.perf_counter()
        answer: T | CallError = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._with_renewal(target, scope, request)
        )
        error = answer if isinstance(answer, CallError) else None
        if error is None or error.error_class is not ErrorClass.NOT_SENT:
            code = "OK" if error is None else error.code
            self._telemetry.aws_request(operation, code, time.perf_counter() - started, self._labels(target))
            self._log_change(operation, target, log_fields, error)
        if error is not None and error.error_class is ErrorClass.THROTTLED:
            self._throttled(target)
        return answer

    async def prepare(self, region: str, then: Callable[[], None]) -> None:
        """Makes the client, so that the first call need not wait for it; that call reports what went wrong here."""

        def make() -> None:
            try:
                self._clients.get(self._kind, region)
            except AWS_ERRORS as error:
                _log.debug("cannot create AWS client", region=region, error=classify_error(error).message)
            then()

        await asyncio.get_running_loop().run_in_executor(self._threads, make)

    def forget(self, target: Target) -> None:
        self._problems = {key: problem for key, problem in self._problems.items() if key[0] != target}

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _with_renewal(
        self, target: Target, scope: RequestScope, request: Callable[[Any], T | CallError]
    ) -> T | CallError:
        session = scope.session
        generation = session.generation
        answer = self._attempt(target, scope, request)
        if not isinstance(answer, CallError) or session.error is not None or lacks_operation(answer):
            return answer
        # A session that was revoked, or whose role was created again, is denied everything.
        denied = session is not self._own and answer.error_class is ErrorClass.DENIED
        if not (denied or answer.error_class is ErrorClass.CREDENTIALS) or not session.renew(generation, denied=denied):
            return answer
        if session is self._own or answer.code == "SSLError":
            # A CA bundle or an endpoint in a file may have been corrected.
            self._clients.discard(target.region, self._kind, "sts")
        return self._attempt(target, scope, request)

    def _attempt(self, target: Target, scope: RequestScope, request: Callable[[Any], T | CallError]) -> T | CallError:
        error = None
        try:
            client = self._clients.get(self._kind, target.region)
            with scope.active():
                return request(client)
        except RoleNotAssumedError as raised:
            error = raised.error
            if error.error_class is ErrorClass.CREDENTIALS:
                # The operator's own: no policy's secret.
                return error
            return CallError(error.error_class, _NOT_ASSUMED.format(policy=target.policy), error.code, _ASK)
        except AWS_ERRORS as raised:
            return classify_error(raised)
        finally:
            scope.session.error = error

    def _log_change(
        self, operation: str, target: Target, log_fields: Mapping[str, object], error: CallError | None
    ) -> None:
        problem = f"{error.error_class.value} {error.code} {error.message}" if error else ""
        change = self._problems.setdefault((target, operation), LogOnce()).report(problem)
        if change is None and error is None:
            return
        log = _log.bind(operation=operation, **self._labels(target).log_fields(), **log_fields)
        if error is None:
            log.info("AWS requests succeed again")
            return
        write = log.debug if change is None else log.warning
        write("AWS request failed", errorClass=error.error_class.value, code=error.code, error=error.message)
