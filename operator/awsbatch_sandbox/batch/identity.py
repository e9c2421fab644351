"""GetCallerIdentity, which needs neither permission nor role: the only STS action that the Batch endpoint serves."""

import uuid
from typing import Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from aiohttp import web

from awsbatch_sandbox.batch.credentials import Caller
from awsbatch_sandbox.batch.signature import Problem, SignatureError, SignedRequest, Verifier

VERSION: Final = "2011-06-15"
NAMESPACE: Final = f"https://sts.amazonaws.com/doc/{VERSION}/"
SKEW_MINUTES: Final = 15
CODES: Final = {
    Problem.MISSING: "MissingAuthenticationToken",
    Problem.INCOMPLETE: "IncompleteSignature",
    Problem.UNKNOWN: "InvalidClientTokenId",
    Problem.EXPIRED: "ExpiredToken",
    Problem.INVALID: "SignatureDoesNotMatch",
}
"""STS's error codes for invalid signatures."""


def status_of(problem: Problem) -> int:
    return 400 if problem is Problem.INCOMPLETE else 403


def answer(verifier: Verifier, request: SignedRequest) -> web.Response:
    action = parse_qs(request.body.decode("utf-8", "replace")).get("Action", [""])[0]
    try:
        caller = Caller.of(*verifier.verify(request))
    except SignatureError as wrong:
        return _response(status_of(wrong.problem), error(403, CODES[wrong.problem], wrong.message))
    if action != "GetCallerIdentity":
        message = f"Could not find operation {action}: this STS assumes no roles, use the simulated STS"
        return _response(400, error(400, "InvalidAction", message))
    return _response(200, identity(caller.account, caller.arn))


def identity(account: str, arn: str) -> bytes:
    """GetCallerIdentity's answer."""
    name = arn.rpartition("/")[2]
    user_id = f"AROASANDBOX:{name}" if ":assumed-role/" in arn else "AIDASANDBOX"
    facts = {"Arn": arn, "UserId": user_id, "Account": account}
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in facts.items())
    metadata = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
    result = f"<GetCallerIdentityResult>{inner}</GetCallerIdentityResult>{metadata}"
    return f'<GetCallerIdentityResponse xmlns="{NAMESPACE}">{result}</GetCallerIdentityResponse>'.encode()


def error(status: int, code: str, message: str) -> bytes:
    kind = "Sender" if status < 500 else "Receiver"
    inner = f"<Type>{kind}</Type><Code>{code}</Code><Message>{escape(message)}</Message>"
    request_id = f"<RequestId>{uuid.uuid4()}</RequestId>"
    return f'<ErrorResponse xmlns="{NAMESPACE}"><Error>{inner}</Error>{request_id}</ErrorResponse>'.encode()


def _response(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="text/xml")
