"""boto3 clients of AWS Batch: one for each lane and region, made on demand, made anew when credentials failed."""

import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, InvalidEndpointConfigurationError
from botocore.model import OperationModel

from awsbatch_operator import __version__
from awsbatch_operator.aws.errors import NotActingError, fault_of
from awsbatch_operator.domain.errors import Fate

THREADS: Final = 16
"""Calls at once of one lane; threads and connections exist only once they are needed."""

RENEW_EVERY: Final = 10.0
"""Seconds between two renewals of session and clients: making them costs a tenth of a second of CPU."""


class SettingsError(ValueError):
    """The AWS settings of this process cannot be understood; says which variable to mend."""


class BatchClient(Protocol):
    """What is used of boto3's client."""

    def describe_jobs(self, *, jobs: Sequence[str]) -> Mapping[str, Any]: ...
    def terminate_job(self, *, jobId: str, reason: str) -> Mapping[str, Any]: ...  # noqa: N803 (the SDK's own spelling)
    def terminate_jobs(self, *, jobs: Sequence[str], reason: str) -> Mapping[str, Any]: ...
    def close(self) -> None: ...


MakeClient = Callable[[str], BatchClient]
"""From a region to a client of its own connections."""


CONFIG: Final = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
    tcp_keepalive=True,
    max_pool_connections=THREADS,
    user_agent_extra=f"awsbatch-operator/{__version__}",
)


def _always() -> bool:
    return True


def connect(config: Config = CONFIG, acting: Callable[[], bool] = _always) -> MakeClient:
    """A new boto3 session with the standard chain of credentials. `acting` is asked before each request is sent."""

    # Here and no earlier: a call may have waited for its budget, for a thread, or between two of botocore's attempts.
    def may_send(request: Any, **_: Any) -> None:
        if not acting():
            raise NotActingError
        # A connection has to be made, maybe, and the process may freeze at any line: asked again with the last byte.
        if isinstance(request.body, bytes):
            request.body = _LateBody(request.body, acting)

    # At DEBUG botocore logs signed requests, session token included. Who set it quieter than this is heard.
    log = logging.getLogger("botocore")
    log.setLevel(max(log.level, logging.INFO))
    session = boto3.session.Session()

    def make(region: str) -> BatchClient:
        try:
            client = session.client("batch", region_name=region, config=config)
        except ValueError as error:
            # botocore says "Invalid endpoint" by a bare ValueError.
            message = f"{error}; check AWS_ENDPOINT_URL_BATCH, AWS_ENDPOINT_URL and the region"
            raise InvalidEndpointConfigurationError(msg=message) from error
        client.meta.events.register("before-send.batch", may_send)
        client.meta.events.register("before-parse.batch", read_body)
        client.meta.events.register_first("needs-retry.batch", end_at_throttle)
        return cast("BatchClient", client)

    return make


class _LateBody(io.BytesIO):
    """A body that is read when connection and headers are through. Without it the request is none: nobody acts on it.

    What is left between the question and the system call is some ten microseconds.
    """

    def __init__(self, body: bytes, acting: Callable[[], bool]) -> None:
        super().__init__(body)
        self._acting = acting

    def read(self, size: int | None = -1, /) -> bytes:
        if not self._acting():
            raise NotActingError
        return super().read(size)


def read_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Take an answer's JSON as it is, instead of botocore's walk through every shape of the model.

    That walk costs five times the parsing, most of it for environments and volumes that nobody may see, and it raises
    AttributeError for a body of another shape, which could not be told from a fault of this program.
    """
    granted = response_dict["status_code"] < 300
    try:
        answer = json.loads(response_dict["body"] or b"{}")
    except RecursionError:
        response_dict["body"] = b""
        return
    except ValueError:
        # botocore reads a refusal as UTF-8, come what may: a proxy's page in Latin-1 would end the operator.
        response_dict["body"] = b"" if granted else response_dict["body"].decode(errors="replace").encode()
        return
    if not isinstance(answer, dict) or not isinstance(answer.get("__type", ""), str):
        response_dict["body"] = b""
    elif granted:
        customized_response_dict.update(answer)
        response_dict["body"] = b""


def end_at_throttle(response: tuple[Any, Any] | None, operation: OperationModel, **_: Any) -> None:
    """Let a throttle be the answer of its call: botocore would send it twice more within seconds, on a spent budget.

    Raised in front of botocore's own handler, which goes on to hide a single 5xx or broken connection: an answer given
    to it here would not keep it from its turn, in which throttles use up the retries that are meant for those.
    """
    if response is None or response[0].status_code < 300:
        return
    error = ClientError(response[1], operation.name)
    if fault_of(error).fate is Fate.THROTTLED:
        raise error


class Clients:
    """Clients by lane and region. For worker threads: making a client blocks, and may ask for credentials."""

    def __init__(
        self, connect: Callable[[], MakeClient] = connect, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._connect, self._monotonic = connect, monotonic
        # boto3 clients may be shared by threads; making sessions and clients may not.
        self._lock = threading.Lock()
        self._make: MakeClient | None = None
        self._clients: dict[tuple[str, str], BatchClient] = {}
        self._renewed_at = float("-inf")
        self.generation = 0
        """Counts renewals."""

    def get(self, lane: str, region: str) -> BatchClient:
        """Raises what boto3 raises when it cannot make a client."""
        known = self._clients.get((lane, region))
        if known is not None:
            return known
        with self._lock:
            if self._make is None:
                self._make = self._connect()
            if (lane, region) not in self._clients:
                self._clients[lane, region] = self._make(region)
            return self._clients[lane, region]

    def renew(self, generation: int) -> bool:
        """Forget session and clients after a fault of credentials; False when that was done a moment ago.

        `generation` is the one that failed: when it is past already, there is nothing to do but to try again.
        """
        with self._lock:
            if generation != self.generation:
                return True
            now = self._monotonic()
            if now - self._renewed_at < RENEW_EVERY:
                return False
            self._renewed_at = now
            self.generation += 1
            self._make = None
            # A new dict, as `get` reads without the lock. The old clients are not closed: calls may be under way.
            self._clients = {}
            return True

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients = {}


def default_region() -> str | None:
    """The region of AWS_REGION, AWS_DEFAULT_REGION or the profile; None when none says. Raises SettingsError."""
    named = os.environ.get("AWS_REGION")
    if named:
        # boto3 itself knows only AWS_DEFAULT_REGION; EKS and every other SDK say AWS_REGION.
        return named
    try:
        return boto3.session.Session().region_name or None
    except BotoCoreError as error:
        raise SettingsError(f"{error}; check AWS_PROFILE, AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE") from error
