"""Sessions of the SDK: with the operator's own credentials, and with those of a role that a policy names."""

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, cast

from botocore.config import Config
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    Credentials,
    ReadOnlyCredentials,
    RefreshableCredentials,
)
from botocore.exceptions import CredentialRetrievalError, InvalidEndpointConfigurationError, NoCredentialsError
from botocore.session import Session as BotoSession

from awsbatch_operator import __version__
from awsbatch_operator.aws.clients import OWN_THREADS, BatchClient, MakeClient, Renewals
from awsbatch_operator.aws.credentials import AssumedRole, Now, unreadable
from awsbatch_operator.aws.errors import AWS_ERRORS, NotAssumedError, fault_of, fault_of_assuming
from awsbatch_operator.aws.keyring import MakeCredentials, PickKey
from awsbatch_operator.aws.wire import guard
from awsbatch_operator.domain.assumed import Session
from awsbatch_operator.domain.errors import Fate

_SHARED: Final = Config(tcp_keepalive=True, user_agent_extra=f"awsbatch-operator/{__version__}")
CONFIG: Final = _SHARED.merge(
    Config(
        connect_timeout=3,
        read_timeout=10,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=OWN_THREADS,
    )
)
STS_CONFIG: Final = _SHARED.merge(
    Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 1})
)
"""One attempt: the call that waits for it is tried again by itself."""

LIFETIME: Final = 3600
"""Seconds for which a role is assumed: the most that AWS grants where the operator's own credentials are a role's."""


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

    def __call__(self, key: PickKey | None = None) -> MakeClient:
        """With the operator's own credentials, fetched anew; or each request with those that `key` gives for it."""
        session = self._own.fresh() if key is None else self._assumed(key)
        return lambda region: self._client(session, region)

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

    def _assumed(self, key: PickKey) -> BotoSession:
        made = new_session()
        given = _Given(_Picking(key, self._credentials))
        made.register_component("credential_provider", CredentialResolver([given]))
        return made

    def _credentials(self, session: Session, region: str) -> RefreshableCredentials:
        role = AssumedRole(lambda: self._assume(session, region), self._now, self._monotonic)
        return role.credentials(_Picking.method)

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
        self._lock, self._renewals = lock, Renewals(monotonic)
        self._session: BotoSession | None = None
        self._clients: dict[str, Any] = {}

    @property
    def generation(self) -> int:
        return self._renewals.count

    def fresh(self) -> BotoSession:
        """A new session; STS is asked with its credentials from now on."""
        with self._lock:
            self._renewals.count += 1
            return self._replace()

    def renew(self, generation: int) -> bool:
        """As Clients.renew: of what STS is asked with."""
        with self._lock:
            return self._renewals.once(generation, self._forget)

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
            raise NotAssumedError(unreadable(str(error))) from error
        return answer

    def _forget(self) -> None:
        self._session, self._clients = None, {}

    def _replace(self) -> BotoSession:
        self._session, self._clients = new_session(), {}
        return self._session


class _Picking:
    """What botocore takes for credentials: those that `key` gives whenever a request is signed.

    Of what botocore's own classes have this is all that it asks of them for AWS Batch, whose endpoints go by no account
    and whose requests bear no token. Should it ask for more, it gets an AttributeError and no credentials.
    """

    method: Final = "assumed-by-policy"

    def __init__(self, key: PickKey, make: MakeCredentials) -> None:
        self._key, self._make = key, make

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return self._key().frozen(self._make)

    def get_deferred_property(self, _name: str) -> Callable[[], None]:
        return lambda: None


class _Given(CredentialProvider):
    """Gives credentials that are none yet: they are asked for with the first call, and not while a client is made."""

    METHOD = _Picking.method

    def __init__(self, credentials: _Picking) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> Credentials:
        return cast("Credentials", self._credentials)


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
