"""boto3 clients: their configuration, and the credentials that they sign with."""

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials
from botocore.exceptions import (
    BotoCoreError,
    CredentialRetrievalError,
    InvalidEndpointConfigurationError,
    NoCredentialsError,
)
from botocore.session import Session as BotoSession

from awsbatch_operator import __version__
from awsbatch_operator.aws.errors import RoleNotAssumedError
from awsbatch_operator.aws.hooks import ScopeCredentials, install_hooks, keep_body_raw

MAX_THREADS: Final = 16
"""Threads, and so connections, of each kind of call in the whole process."""

_SHARED: Final = Config(tcp_keepalive=True, user_agent_extra=f"awsbatch-operator/{__version__}")
CONFIG: Final = _SHARED.merge(
    Config(
        connect_timeout=3,
        read_timeout=10,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=MAX_THREADS,
    )
)
STS_CONFIG: Final = _SHARED.merge(
    Config(
        connect_timeout=2,
        read_timeout=3,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=2 * MAX_THREADS,
    )
)
"""One attempt: the request that needs the credentials is retried anyway."""

SQS_CONFIG: Final = CONFIG.merge(Config(read_timeout=30))
"""A long poll takes up to 20 seconds."""

_CALLED: Final = frozenset({"batch", "sqs", "events", "sts", "sso", "portal.sso", "oidc", "signin"})
"""The services of the operator and what botocore calls for credentials, by the names of its endpoint data."""

_ENDPOINT_VARIABLES: Final = {
    "batch": "AWS_ENDPOINT_URL_BATCH",
    "events": "AWS_ENDPOINT_URL_EVENTBRIDGE",
    "sqs": "AWS_ENDPOINT_URL_SQS",
    "sts": "AWS_ENDPOINT_URL_STS",
}

ClientKind = Literal["describe", "terminate", "sqs", "events", "sts"]
_SERVICES: Final[Mapping[ClientKind, tuple[str, Config]]] = {
    "events": ("events", CONFIG),
    "sqs": ("sqs", SQS_CONFIG),
    "sts": ("sts", STS_CONFIG),
}
"""Service and configuration of the clients that do not call AWS Batch."""

MakeClient = Callable[[ClientKind, str], Any]
"""Makes a boto3 client with its own connections for a kind and a region. Raises AWS_ERRORS. One thread at a time."""


class SettingsError(ValueError):
    """The AWS settings of this process can't be understood; names the variables to check."""


class ClientFactory:
    """Makes clients that sign with the session of the current request scope. A MakeClient.

    `is_leader` is asked with the last byte of each request to AWS Batch; None: there is no election.
    """

    def __init__(self, is_leader: Callable[[], bool] | None, config: Config = CONFIG) -> None:
        self._is_leader, self._config = is_leader, config
        quiet_sdk_logs()

    def __call__(self, kind: ClientKind, region: str) -> Any:
        session = new_session()
        session.register_component("credential_provider", CredentialResolver([_ScopeProvider()]))
        service, config = _SERVICES.get(kind, ("batch", self._config))
        try:
            client = session.create_client(service, region_name=region, config=config)
            if service == "batch":
                install_hooks(client, self._is_leader)
            elif service != "sts":
                # Whatever an answer contains must not raise: botocore's parsing does.
                client.meta.events.register(f"before-parse.{service}", keep_body_raw)
            _ = urlsplit(client.meta.endpoint_url).port
        except ValueError as error:
            # botocore and urllib raise a plain ValueError for an endpoint or a port that is none.
            message = f"{error}; check {_ENDPOINT_VARIABLES[service]}, AWS_ENDPOINT_URL and the region"
            raise InvalidEndpointConfigurationError(msg=message) from error
        return client


class _ScopeProvider(CredentialProvider):
    METHOD = ScopeCredentials.method

    def load(self) -> Credentials:
        return cast("Credentials", ScopeCredentials())


def own_credentials() -> Credentials:
    """Returns the operator's own credentials, found by botocore's chain. May block."""
    found = new_session().get_credentials()
    if found is None:
        raise NoCredentialsError
    return found


@cache
def _models() -> Any:
    """AWS's models, read once for all sessions: a tenth of a second of CPU otherwise."""
    loader = BotoSession().get_component("data_loader")
    for partition in loader.load_data("endpoints")["partitions"]:
        # The loader keeps what it has read, and the endpoints of 300 services are 7 MiB.
        partition["services"] = {name: partition["services"][name] for name in _CALLED & partition["services"].keys()}
    return loader


def new_session() -> BotoSession:
    made = BotoSession()
    made.register_component("data_loader", _models())
    return made


def default_region() -> tuple[str, str]:
    """Returns the region and what names it: AWS_REGION, AWS_DEFAULT_REGION or the profile. Raises SettingsError."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        # boto3 itself knows only AWS_DEFAULT_REGION; EKS and every other SDK use AWS_REGION.
        if region := os.environ.get(name):
            return region, name
    try:
        session = new_session()
        region = session.get_config_variable("region")
    except BotoCoreError as error:
        raise SettingsError(f"{error}; check AWS_PROFILE, AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE") from error
    return region or "", f"region of the AWS profile {session.profile or 'default'}"


def quiet_sdk_logs() -> None:
    """Stops the SDK from logging requests, and errors that the operator logs itself."""
    # At DEBUG botocore logs signed requests, session token included. A quieter level stays.
    log = logging.getLogger("botocore")
    log.setLevel(max(log.level, logging.INFO))
    logging.getLogger("botocore.credentials").addFilter(_is_not_logged_elsewhere)


def _is_not_logged_elsewhere(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], (RoleNotAssumedError, CredentialRetrievalError)))
