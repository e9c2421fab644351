"""What every request to AWS Batch passes on its way out, and every answer on its way in."""

import io
import json
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final

from botocore.exceptions import ClientError
from botocore.model import OperationModel

from awsbatch_operator.aws.errors import LapsedError, NotActingError, UnsignedError, fault_of
from awsbatch_operator.domain.admission import MayEnd
from awsbatch_operator.domain.errors import Fate
from awsbatch_operator.domain.job import Place

Holds = Callable[[MayEnd], bool]
"""Whether a leave holds at this moment. Asked from any thread."""


class Leaves:
    """Those that one call rests on. A leave that was once seen to hold no more is `lapsed` for the whole call."""

    def __init__(self, leaves: Iterable[MayEnd], holds: Holds) -> None:
        self._leaves, self._holds = tuple(leaves), holds
        self.lapsed: set[MayEnd] = set()

    def hold(self) -> bool:
        """Whether all of them do."""
        self.lapsed.update(leave for leave in self._leaves if not self._holds(leave))
        return not self.lapsed

    def namespace(self, place: Place) -> str:
        """The one that all of them are for. Raises UnsignedError if there are more, or if one is for another place."""
        named = {(leave.grant.place, leave.grant.namespace) for leave in self._leaves}
        if len(named) != 1 or (found := named.pop())[0] != place:
            raise UnsignedError
        return found[1]


LEAVES: Final[ContextVar[Leaves | None]] = ContextVar("LEAVES", default=None)
"""Those of the call that this thread is about; None for a look, which needs none."""


def namespace_of_call(place: Place) -> str:
    """Whose leaves this thread's call rests on: what it signs with and what it is asked for by are one and the same.

    Raises UnsignedError where no call is under way that rests on any.
    """
    leaves = LEAVES.get()
    if leaves is None:
        raise UnsignedError
    return leaves.namespace(place)


def guard(client: Any, acting: Callable[[], bool]) -> None:
    """Have the client ask whether it may send, and read answers as they are. `acting`: whether this replica may act."""

    # Here and no earlier: a call may have waited for its budget, for a thread, for credentials, or between two of
    # botocore's attempts.
    def may_send(request: Any, **_: Any) -> None:
        leaves = LEAVES.get()

        def ask() -> None:
            if not acting():
                raise NotActingError
            if leaves is not None and not leaves.hold():
                raise LapsedError

        ask()
        # A connection has to be made, maybe, and the process may freeze at any line: asked again with the last byte.
        if isinstance(request.body, bytes):
            request.body = _LateBody(request.body, ask)

    client.meta.events.register("before-send.batch", may_send)
    client.meta.events.register("before-parse.batch", read_body)
    client.meta.events.register_first("needs-retry.batch", end_at_throttle)


class _LateBody(io.BytesIO):
    """A body that is read when connection and headers are through. Without it the request is none: nobody acts on it.

    What is left between the question and the system call is some ten microseconds.
    """

    def __init__(self, body: bytes, ask: Callable[[], None]) -> None:
        super().__init__(body)
        self._ask = ask

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        if block:
            # Not at the end: by then all has been sent, and nobody may say that it was not.
            self._ask()
        return block


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
