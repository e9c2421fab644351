"""Answers on the wire, the refusals of Batch among them."""

import uuid
from dataclasses import dataclass
from typing import Any

from awsbatch_sandbox.batch.wire import encode

JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer.

    `accepted`: ids of jobs of which Batch accepted the termination; `effective`: ids of jobs that the call changed.
    """

    status: int
    body: bytes
    error_type: str | None = None
    content_type: str | None = JSON_TYPE
    accepted: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()


def ok(body: Any, *, accepted: tuple[str, ...] = (), effective: tuple[str, ...] = ()) -> Reply:
    return Reply(200, encode(body), accepted=accepted, effective=effective)


def error(status: int, error_type: str, message: str | None) -> Reply:
    return Reply(status, encode({"message": message}), error_type)


class RefusedError(Exception):
    """Batch refuses the call with `reply`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.error_type)
        self.reply = reply


def client_exception(text: str) -> RefusedError:
    """400 in the frame that real answers have (pegasus-isi/pegasus#2086)."""
    framed = f"Error executing request, Exception : {text}, RequestId: {uuid.uuid4()}"
    return RefusedError(error(400, "ClientException", framed))
