"""AWS Signature Version 4, verified. botocore's own signer computes the expected signature."""

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from awsbatch_sandbox.batch.credentials import Credential, Credentials

ALGORITHM: Final = "AWS4-HMAC-SHA256"
TERMINATOR: Final = "aws4_request"
_PARAMETERS: Final = ("Credential", "Signature", "SignedHeaders")
_TOKEN: Final = "x-amz-security-token"  # noqa: S105  the name of a header
_CONTENT_HASH: Final = "x-amz-content-sha256"
_INVALID_TOKEN: Final = "The security token included in the request is invalid."  # noqa: S105  AWS's words
_EXPIRED_TOKEN: Final = "The security token included in the request is expired"  # noqa: S105  AWS's words
_NO_MATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


class Problem(Enum):
    """Error codes for invalid signatures, as services behind API Frontend use them."""

    MISSING = "MissingAuthenticationTokenException"
    INCOMPLETE = "IncompleteSignatureException"
    UNKNOWN = "UnrecognizedClientException"
    EXPIRED = "ExpiredTokenException"
    INVALID = "InvalidSignatureException"


class SignatureError(Exception):
    """The signature is invalid; the message is AWS's."""

    access_key, region = "", ""
    """The values that the request contained."""

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(message)
        self.problem, self.message = problem, message


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as received: `target` is path and query, still quoted; names of `headers` are lower-case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Scope(NamedTuple):
    """The parts of `Credential=` in an Authorization header."""

    access_key: str
    date: str
    region: str
    service: str
    terminator: str


class Verifier:
    """Checks the signatures of one service. `clock`: AWS's time, epoch seconds; a client's may be `minutes` off.

    `serves`: whether the service has that region. One endpoint serves all regions here: the scope of the signature
    names the region.
    """

    def __init__(
        self,
        service: str,
        credentials: Credentials,
        *,
        clock: Callable[[], float],
        minutes: int,
        serves: Callable[[str], bool],
    ) -> None:
        self._service, self._credentials, self._clock = service, credentials, clock
        self._minutes, self._serves = minutes, serves

    def verify(self, request: SignedRequest) -> tuple[Credential, str]:
        """The credential that signed, and the region; SignatureError otherwise."""
        parameters = _parameters(request)
        scope = scope_of(parameters["Credential"])
        try:
            return self._verified(request, parameters, scope), scope.region
        except SignatureError as wrong:
            wrong.access_key, wrong.region = scope.access_key, scope.region
            raise

    def _verified(self, request: SignedRequest, parameters: Mapping[str, str], scope: Scope) -> Credential:
        now = self._clock()
        self._check_scope(scope, request.headers["x-amz-date"])
        signed = parameters["SignedHeaders"].split(";")
        _check_signed(request.headers, signed)
        credential = self._credential(scope, request.headers.get(_TOKEN), now)
        self._check_time(request.headers["x-amz-date"], now)
        ours = Calculation(request, signed, scope, credential.secret)
        if not (ours.covers_body and ours.signature == parameters["Signature"]):
            raise SignatureError(Problem.INVALID, f"{_NO_MATCH}\n\n{ours.as_aws_shows_it()}")
        return credential

    def _check_scope(self, scope: Scope, date: str) -> None:
        wrong = ""
        if not self._serves(scope.region):
            wrong += f"Credential should be scoped to a valid region, not '{scope.region}'. "
        if scope.service != self._service:
            wrong += f"Credential should be scoped to correct service: '{self._service}'. "
        if scope.terminator != TERMINATOR:
            wrong += f"Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{scope.terminator}'. "
        if scope.date != date[:8]:
            wrong += "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            wrong += f"'{scope.date}' != '{date[:8]}', from '{date}'."
        if wrong:
            raise SignatureError(Problem.INVALID, wrong.rstrip())

    def _credential(self, scope: Scope, token: str | None, now: float) -> Credential:
        credential = self._credentials.find(scope.access_key)
        if credential is None or credential.token != token:
            raise SignatureError(Problem.UNKNOWN, _INVALID_TOKEN)
        if credential.expires_at is not None and credential.expires_at <= now:
            raise SignatureError(Problem.EXPIRED, _EXPIRED_TOKEN)
        return credential

    def _check_time(self, stamp: str, now: float) -> None:
        try:
            signed_at = dt.datetime.strptime(stamp, SIGV4_TIMESTAMP).replace(tzinfo=dt.UTC)
        except ValueError:
            message = f"Date must be in ISO-8601 'basic format'. Got '{stamp}'."
            raise SignatureError(Problem.INCOMPLETE, message) from None
        here = dt.datetime.fromtimestamp(now, dt.UTC)
        most = dt.timedelta(minutes=self._minutes)
        if signed_at < here - most:
            message = f"Signature expired: {stamp} is now earlier than {_stamp(here - most)} "
            raise SignatureError(Problem.INVALID, f"{message}({_stamp(here)} - {self._minutes} min.)")
        if signed_at > here + most:
            message = f"Signature not yet current: {stamp} is still later than {_stamp(here + most)} "
            raise SignatureError(Problem.INVALID, f"{message}({_stamp(here)} + {self._minutes} min.)")


class Calculation:
    """The signature that a request should have."""

    def __init__(self, request: SignedRequest, signed: list[str], scope: Scope, secret: str) -> None:
        headers = {name: request.headers[name] for name in signed}
        rebuilt = AWSRequest(request.method, f"http://{headers['host']}{request.target}", headers, request.body)
        rebuilt.context["timestamp"] = request.headers["x-amz-date"]
        signer = _Signer(ReadOnlyCredentials(scope.access_key, secret, None), scope.service, scope.region)
        self.canonical = signer.canonical_request(rebuilt)
        self.string_to_sign = signer.string_to_sign(rebuilt, self.canonical)
        self.signature = signer.signature(self.string_to_sign, rebuilt)
        stated = headers.get(_CONTENT_HASH)
        self.covers_body = stated is None or stated == hashlib.sha256(request.body).hexdigest()
        """False if a header has the hash of another body: the signature covers the header then."""

    def as_aws_shows_it(self) -> str:
        """The second part of the message. It quotes the signed headers, including the session token."""
        return (
            f"The Canonical String for this request should have been\n'{self.canonical}'\n\n"
            f"The String-to-Sign should have been\n'{self.string_to_sign}'\n"
        )


class _Signer(SigV4Auth):
    """Signs the headers that the client lists as signed, instead of those that botocore would choose."""

    def headers_to_sign(self, request: AWSRequest) -> Any:
        return request.headers


def sign(
    request: SignedRequest, *, at: float, region: str, service: str = "batch", access_key: str, secret: str
) -> dict[str, str]:
    """The headers of the request, of which host must be one, with those that sign it at that time, epoch seconds."""
    date = _stamp(dt.datetime.fromtimestamp(at, dt.UTC))
    headers = {**request.headers, "x-amz-date": date}
    scope = Scope(access_key, date[:8], region, service, TERMINATOR)
    whole = SignedRequest(request.method, request.target, headers, request.body)
    signature = Calculation(whole, list(headers), scope, secret).signature
    signed = ";".join(sorted(headers))
    parameters = f"Credential={'/'.join(scope)}, SignedHeaders={signed}, Signature={signature}"
    return headers | {"authorization": f"{ALGORITHM} {parameters}"}


def scope_of(credential: str) -> Scope:
    parts = credential.split("/")
    if len(parts) != len(Scope._fields):
        message = "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term"
        raise SignatureError(Problem.INCOMPLETE, f"{message}, got '{credential}'")
    return Scope(*parts)


def _parameters(request: SignedRequest) -> dict[str, str]:
    authorization = request.headers.get("authorization", "").strip()
    if not authorization:
        raise SignatureError(Problem.MISSING, "Missing Authentication Token")
    algorithm, _, rest = authorization.partition(" ")
    pairs = (part.strip().partition("=") for part in rest.split(","))
    found = {name: value for name, _, value in pairs if value} if algorithm == ALGORITHM else {}
    wrong = [f"Authorization header requires '{name}' parameter." for name in _PARAMETERS if name not in found]
    if "x-amz-date" not in request.headers:
        wrong.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if wrong:
        raise SignatureError(Problem.INCOMPLETE, f"{' '.join(wrong)} Authorization={authorization}")
    return found


def _check_signed(headers: Mapping[str, str], signed: list[str]) -> None:
    """Host and all of Amazon's own headers must be signed, and what is signed must be there."""
    for name in ("host", *(name for name in headers if name.startswith("x-amz-"))):
        if name not in signed:
            message = f"'{name.title()}' must be a 'SignedHeader' in the AWS Authorization."
            raise SignatureError(Problem.INVALID, message)
    if missing := [name for name in signed if name not in headers]:
        raise SignatureError(Problem.INVALID, f"{_NO_MATCH} Signed headers that did not come: {', '.join(missing)}")


def _stamp(moment: dt.datetime) -> str:
    return moment.strftime(SIGV4_TIMESTAMP)
