"""Sessions of the SDK: with the operator's own credentials, and with those of a role that a policy names."""

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, cast

from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError, InvalidEndpointConfigurationError, NoCredentialsError
from botocore.session import Session as BotoSession

from awsbatch_operator import __version__
from awsbatch_operator.aws.clients import RENEW_EVERY, THREADS, BatchClient, MakeClient
from awsbatch_operator.aws.errors import AWS_ERRORS, NotAssumedError, fault_of, fault_of_assuming
from awsbatch_operator.aws.wire import guard
from awsbatch_operator.domain.assumed import Session
from awsbatch_operator.domain.errors import Fate, Fault

_SHARED: Final = Config(tcp_keepalive=True, user_agent_extra=f"awsbatch-operator/{__version__}")
CONFIG: Final = _SHARED.merge(
    Config(
        connect_timeout=3,
        read_timeout=10,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=THREADS,
    )
)
STS_CONFIG: Final = _SHARED.merge(
    Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 1})
)
"""One attempt: the call that waits for it is tried again by itself."""

LIFETIME: Final = 3600
"""Seconds for which a role is assumed: the most that AWS grants where the operator's own credentials are a role's."""

REFRESH_AHEAD: Final = 600
"""Seconds before their end from which credentials of a role are to be had anew, with the next call."""

FAILED_FOR: Final = 30.0
"""Seconds for which a refresh that failed is not tried again while the credentials live."""

_TOGETHER: Final = 1.0
"""Seconds within which calls that waited for the same attempt are answered by it."""

_ENOUGH: Final = dt.timedelta(seconds=30)
"""What credentials must have left to be used."""

_NEVER: Final = dt.datetime.fromtimestamp(0, dt.UTC)

Now = Callable[[], dt.datetime]


def _always() -> bool:
    return True


def _utc() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Connector:
    """Makes clients with the operator's own credentials, or with those of a session that it assumes by them.

    `acting` is asked before each request to Batch is sent. For worker threads; one at a time makes sessions or clients.
    """

    def __init__(
        self,
        config: Config = CONFIG,
        acting: Callable[[], bool] = _always,
        now: Now = _utc,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._acting, self._now, self._monotonic = config, acting, now, monotonic
        self._lock = threading.Lock()
        self._own = _Own(self._lock, monotonic)
        self._known: tuple[str, str] | None = None
        quieten()

    def __call__(self, session: Session | None = None) -> MakeClient:
        """With credentials that are fetched anew: the operator's own, or those of the session."""
        if session is None:
            own = self._own.fresh()
            return lambda region: self._client(own, region)
        return lambda region: self._client(self._assumed(session, region), region)

    def account(self, region: str, shown: str | None, ask: bool) -> str | None:
        """That of the operator's own credentials, or None. Raises AWS_ERRORS.

        `shown`: by an answer to a call with them. Else STS is asked, if `ask`: once for each access key.
        """
        credentials = self._own.credentials()
        key = str(credentials.access_key)
        account = shown or credentials.account_id
        if not account and self._known is not None and self._known[0] == key:
            return self._known[1]
        if not account and ask:
            account = str(self._own.sts(region).get_caller_identity().get("Account") or "")
        if account:
            self._known = key, account
        return account or None

    def _assumed(self, session: Session, region: str) -> BotoSession:
        made = new_session()
        role = AssumedRole(lambda: self._assume(session, region), self._now, self._monotonic)
        made.register_component("credential_provider", CredentialResolver([_Given(role, self._now)]))
        return made

    def _client(self, session: BotoSession, region: str) -> BatchClient:
        try:
            with self._lock:
                client = session.create_client("batch", region_name=region, config=self._config)
        except ValueError as error:
            # botocore says "Invalid endpoint" by a bare ValueError.
            message = f"{error}; check AWS_ENDPOINT_URL_BATCH, AWS_ENDPOINT_URL and the region"
            raise InvalidEndpointConfigurationError(msg=message) from error
        guard(client, self._acting)
        return cast("BatchClient", client)

    def _assume(self, session: Session, region: str) -> Mapping[str, Any]:
        generation = self._own.generation
        try:
            return self._own.assume(session, region)
        except NotAssumedError as error:
            if error.fault.fate is Fate.CREDENTIALS and self._own.renew(generation):
                return self._own.assume(session, region)
            raise


class _Own:
    """The operator's own credentials, by botocore's chain as it is, and what STS is asked with them."""

    def __init__(self, lock: threading.Lock, monotonic: Callable[[], float]) -> None:
        # That of all clients: to resolve the chain may block, but whoever waits for that needs these credentials too.
        self._lock, self._monotonic = lock, monotonic
        self._session: BotoSession | None = None
        self._clients: dict[str, Any] = {}
        self._renewed_at = float("-inf")
        self.generation = 0

    def fresh(self) -> BotoSession:
        """A new session; STS is asked with its credentials from now on."""
        with self._lock:
            return self._replace()

    def renew(self, generation: int) -> bool:
        """As Clients.renew: of what STS is asked with."""
        with self._lock:
            if generation != self.generation:
                return True
            now = self._monotonic()
            if now - self._renewed_at < RENEW_EVERY:
                return False
            self._renewed_at = now
            self._replace()
            return True

    def credentials(self) -> ReadOnlyCredentials:
        with self._lock:
            found = (self._session or self._replace()).get_credentials()
        if found is None:
            raise NoCredentialsError
        return found.get_frozen_credentials()

    def sts(self, region: str) -> Any:
        with self._lock:
            if region not in self._clients:
                session = self._session or self._replace()
                self._clients[region] = session.create_client("sts", region_name=region, config=STS_CONFIG)
            return self._clients[region]

    def assume(self, session: Session, region: str) -> Mapping[str, Any]:
        """AssumeRole's answer. Raises NotAssumedError."""
        try:
            # First, so that what fails here is known to be ours, and what fails below the role's.
            self.credentials()
            sts = self.sts(region)
        except AWS_ERRORS as error:
            raise NotAssumedError(fault_of(error)) from error
        try:
            answer: Mapping[str, Any] = sts.assume_role(
                RoleArn=session.role,
                RoleSessionName=session.name,
                ExternalId=session.external_id,
                Tags=[{"Key": key, "Value": value} for key, value in session.tags],
                DurationSeconds=LIFETIME,
            )
        except AWS_ERRORS as error:
            raise NotAssumedError(fault_of_assuming(error)) from error
        except ValueError as error:
            raise NotAssumedError(_unreadable(str(error))) from error
        return answer

    def _replace(self) -> BotoSession:
        self._session, self._clients = new_session(), {}
        self.generation += 1
        return self._session


class AssumedRole:
    """Where the credentials of one session come from: what botocore's RefreshableCredentials call to have new ones.

    While those that are known live, a refresh that fails for a reason which may pass changes nothing.
    """

    def __init__(self, assume: Callable[[], Mapping[str, Any]], now: Now, monotonic: Callable[[], float]) -> None:
        self._assume, self._now, self._monotonic = assume, now, monotonic
        self._given: dict[str, str] | None = None
        self._ends = _NEVER
        self._failed: tuple[Fault, float] | None = None

    def __call__(self) -> dict[str, str]:
        """Raises NotAssumedError. botocore lets one thread in at a time."""
        living = self._given if self._ends - self._now() > _ENOUGH else None
        fault = self._still_failing(FAILED_FOR if living else _TOGETHER) or self._fetch()
        if fault is not None:
            if living is None or fault.fate is Fate.DENIED:
                raise NotAssumedError(fault)
            return living
        assert self._given is not None
        return self._given

    def _still_failing(self, seconds: float) -> Fault | None:
        if self._failed is None or self._monotonic() - self._failed[1] >= seconds:
            return None
        return self._failed[0]

    def _fetch(self) -> Fault | None:
        try:
            given, ends = _read(self._assume(), self._now())
        except NotAssumedError as error:
            self._failed = error.fault, self._monotonic()
            return error.fault
        self._given, self._ends, self._failed = given, ends, None
        return None


class _Given(CredentialProvider):
    """Gives credentials that are none yet: they are asked for with the first call, and not while a client is made."""

    METHOD = "assumed-by-policy"

    def __init__(self, role: AssumedRole, now: Now) -> None:
        super().__init__()
        self._role, self._now = role, now

    def load(self) -> RefreshableCredentials:
        return RefreshableCredentials(
            *("", "", "", _NEVER, self._role, self.METHOD, self._now),
            advisory_timeout=REFRESH_AHEAD,
            mandatory_timeout=REFRESH_AHEAD,
        )


def _read(answer: Mapping[str, Any], now: dt.datetime) -> tuple[dict[str, str], dt.datetime]:
    given = answer.get("Credentials") or {}
    ends = given.get("Expiration")
    keys = {"access_key": "AccessKeyId", "secret_key": "SecretAccessKey", "token": "SessionToken"}
    read = {ours: str(given.get(theirs) or "") for ours, theirs in keys.items()}
    if not all(read.values()) or not isinstance(ends, dt.datetime):
        raise NotAssumedError(_unreadable("no credentials in it"))
    if ends <= now:
        raise NotAssumedError(_unreadable("its credentials have ended already; check this machine's clock"))
    return read | {"expiry_time": ends.isoformat()}, ends


def _unreadable(why: str) -> Fault:
    return Fault(Fate.UNAVAILABLE, f"AssumeRole gave an answer that can't be used: {why}", "UnreadableAnswer")


@cache
def _models() -> Any:
    """What is read of AWS's models, once for all sessions: ten megabytes and a tenth of a second of CPU otherwise."""
    return BotoSession().get_component("data_loader")


def new_session() -> BotoSession:
    made = BotoSession()
    made.register_component("data_loader", _models())
    return made


def quieten() -> None:
    """Have the SDK log nothing that it sends, and nothing that is told elsewhere."""
    # At DEBUG botocore logs signed requests, session token included. Who set it quieter than this is heard.
    log = logging.getLogger("botocore")
    log.setLevel(max(log.level, logging.INFO))
    logging.getLogger("botocore.credentials").addFilter(_is_told_elsewhere)


def _is_told_elsewhere(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], (NotAssumedError, CredentialRetrievalError)))
