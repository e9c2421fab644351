"""Credentials that sign requests: the operator's own, and those of the roles that policies name.

A session is a few kilobytes and has no client: each request is signed with the session of its call.
"""

import datetime as dt
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import ParamValidationError

from awsbatch_operator.api.errors import CallError, ErrorClass
from awsbatch_operator.api.interfaces import TerminatePermit
from awsbatch_operator.api.job import Target
from awsbatch_operator.aws.errors import InvalidSettingsError, NoSigningScopeError, RoleNotAssumedError
from awsbatch_operator.policy import role_session

RENEW_INTERVAL: Final = 10.0
"""Seconds between two renewals of a session after AWS rejected its credentials."""

REFRESH_BEFORE_EXPIRY: Final = 600
"""Seconds before their expiry from which credentials of a role are replaced with the next request."""

FAILED_REFRESH_INTERVAL: Final = 30.0
"""Seconds between two attempts to replace credentials that are still valid."""

_SHARED_ANSWER: Final = 1.0
"""Seconds for which requests that waited for one attempt to assume a role share its error."""

_MIN_VALIDITY: Final = dt.timedelta(seconds=30)
"""Credentials with less than this until their expiry are not used."""

MAX_SESSIONS: Final = 1000
"""Sessions of roles that are kept; the least recently used go first."""

MAX_IDLE: Final = 3600.0
"""Seconds without a request after which a role's session is dropped: its credentials have expired."""

ERROR_VALIDITY: Final = 400.0
"""Seconds for which the error of a session counts. Refused calls are repeated every 5 minutes, plus or minus 10 %."""

_NEVER: Final = dt.datetime.fromtimestamp(0, dt.UTC)

_CREDENTIAL_VARIABLES: Final = (
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    *("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS"),
    *(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_ROLE_ARN",
        "AWS_PROFILE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
    ),
)

Now = Callable[[], dt.datetime]
AssumeRole = Callable[[role_session.Session, str], Mapping[str, Any]]
"""Calls AssumeRole with these parameters in the region's STS; returns its answer. Raises RoleNotAssumedError."""


class Session:
    """Credentials that are loaded with the first request, and again after AWS rejected them. For any thread.

    `load` may block and raises AWS_ERRORS. `error`: why there were no credentials for the last request.
    """

    def __init__(self, load: Callable[[], Credentials], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._load, self._monotonic = load, monotonic
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._loaded_at = self._renewed_at = float("-inf")
        self.error: CallError | None = None
        self.generation = 0
        """Counts renewals."""

    def frozen(self) -> ReadOnlyCredentials:
        """Returns the credentials to sign one request with. Raises AWS_ERRORS."""
        with self._lock:
            if self._credentials is None:
                self._credentials, self._loaded_at = self._load(), self._monotonic()
            credentials = self._credentials
        return credentials.get_frozen_credentials()

    def renew(self, failed: int, *, denied: bool = False) -> bool:
        """Returns whether there are newer credentials to try than those of generation `failed`.

        `denied`: the request was denied, not its credentials; those that were loaded a moment ago are not renewed.
        """
        with self._lock:
            if failed != self.generation:
                return True
            now = self._monotonic()
            if now - (max(self._renewed_at, self._loaded_at) if denied else self._renewed_at) < RENEW_INTERVAL:
                return False
            self.generation += 1
            self._renewed_at, self._credentials = now, None
            return True


class OwnSession(Session):
    """The operator's own credentials, by botocore's chain."""

    def frozen(self) -> ReadOnlyCredentials:
        try:
            return super().frozen()
        except (ValueError, OSError, ParamValidationError) as error:
            # botocore raises these for a token file that can't be read, or for a number or a host that it can't use.
            names = [name for name in _CREDENTIAL_VARIABLES if os.environ.get(name)]
            raise InvalidSettingsError(message=f"{error}; check {', '.join(names) or 'AWS_CONFIG_FILE'}") from error


class RoleSession(Session):
    """One session of a role. Credentials that are still valid are used while STS is not available."""

    def __init__(
        self,
        parameters: role_session.Session,
        region: str,
        assume: AssumeRole,
        now: Now,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(self._new, monotonic)
        self.parameters, self._region, self._assume, self._now = parameters, region, assume, now
        self.used_at = monotonic()

    def _new(self) -> Credentials:
        refresh = _Refresh(lambda: self._assume(self.parameters, self._region), self._now, self._monotonic)
        return RefreshableCredentials(
            *("", "", "", _NEVER, refresh, "assumed-by-policy", self._now),
            advisory_timeout=REFRESH_BEFORE_EXPIRY,
            mandatory_timeout=REFRESH_BEFORE_EXPIRY,
        )


class _Refresh:
    """Called by botocore, one thread at a time, when the credentials of a session expire soon."""

    def __init__(self, assume: Callable[[], Mapping[str, Any]], now: Now, monotonic: Callable[[], float]) -> None:
        self._assume, self._now, self._monotonic = assume, now, monotonic
        self._metadata: dict[str, str] | None = None
        self._expires = _NEVER
        self._failed: tuple[CallError, float] | None = None

    def __call__(self) -> dict[str, str]:
        valid = self._metadata if self._expires - self._now() > _MIN_VALIDITY else None
        error = self._recent_error(FAILED_REFRESH_INTERVAL if valid else _SHARED_ANSWER) or self._fetch()
        if error is not None:
            if valid is None or error.error_class is ErrorClass.DENIED:
                raise RoleNotAssumedError(error)
            return valid
        assert self._metadata is not None
        return self._metadata

    def _recent_error(self, seconds: float) -> CallError | None:
        if self._failed is None or self._monotonic() - self._failed[1] >= seconds:
            return None
        return self._failed[0]

    def _fetch(self) -> CallError | None:
        try:
            self._metadata, self._expires = _read(self._assume(), self._now())
        except RoleNotAssumedError as error:
            self._failed = error.error, self._monotonic()
            return error.error
        self._failed = None
        return None


def _read(answer: Mapping[str, Any], now: dt.datetime) -> tuple[dict[str, str], dt.datetime]:
    given = answer.get("Credentials") or {}
    expires = given.get("Expiration")
    keys = {"access_key": "AccessKeyId", "secret_key": "SecretAccessKey", "token": "SessionToken"}
    read = {name: str(given.get(key) or "") for name, key in keys.items()}
    if not all(read.values()) or not isinstance(expires, dt.datetime):
        raise RoleNotAssumedError(unusable_answer("it contains no credentials"))
    if expires <= now:
        raise RoleNotAssumedError(unusable_answer("its credentials have expired; check the clock of this machine"))
    return read | {"expiry_time": expires.isoformat()}, expires


def unusable_answer(why: str) -> CallError:
    return CallError(ErrorClass.UNAVAILABLE, f"the AssumeRole response is not usable: {why}", "UnreadableAnswer")


class SessionCache:
    """Sessions by target and namespace: one for all DescribeJobs of a target, one for each namespace that terminates.

    A caller may keep using a session that was dropped meanwhile. For any thread.
    """

    def __init__(
        self, own: Session, cluster: str, assume: AssumeRole, now: Now, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.own = own
        self._cluster, self._assume, self._now, self._monotonic = cluster, assume, now, monotonic
        self._lock = threading.Lock()
        self._sessions: OrderedDict[tuple[Target, str | None], RoleSession] = OrderedDict()

    def for_describe(self, target: Target) -> Session:
        return self._session(target, None) if target.role else self.own

    def for_terminate(self, target: Target, permits: Sequence[TerminatePermit]) -> Session:
        """Returns the session of the namespace of all permits: IAM may compare its name with the tags of the job.

        Raises NoSigningScopeError unless all permits are for the target and, under a role, for one namespace.
        """
        if {permit.target for permit in permits} != {target}:
            raise NoSigningScopeError
        if not target.role:
            return self.own
        namespaces = {permit.namespace for permit in permits}
        if len(namespaces) != 1:
            raise NoSigningScopeError
        return self._session(target, namespaces.pop())

    def assume_error(self, target: Target) -> CallError | None:
        """Returns why the role could not be assumed, for DescribeJobs first; None for sessions that are not in use."""
        with self._lock:
            since = self._monotonic() - ERROR_VALIDITY
            used = {name: one for (where, name), one in self._sessions.items() if where == target}
        found = {name: one.error for name, one in used.items() if one.error and one.used_at >= since}
        return found.get(None) or next(iter(found.values()), None)

    def forget(self, target: Target) -> None:
        with self._lock:
            for key in [key for key in self._sessions if key[0] == target]:
                del self._sessions[key]

    def _session(self, target: Target, namespace: str | None) -> RoleSession:
        key = target, namespace
        with self._lock:
            if key not in self._sessions:
                parameters = self._parameters(target, namespace)
                self._sessions[key] = RoleSession(parameters, target.region, self._assume, self._now, self._monotonic)
            session = self._sessions[key]
            self._sessions.move_to_end(key)
            session.used_at = self._monotonic()
            self._drop_unused(session.used_at)
        return session

    def _drop_unused(self, now: float) -> None:
        while len(self._sessions) > MAX_SESSIONS or now - next(iter(self._sessions.values())).used_at > MAX_IDLE:
            self._sessions.popitem(last=False)

    def _parameters(self, target: Target, namespace: str | None) -> role_session.Session:
        assert target.role is not None
        assert target.policy is not None
        if namespace is None:
            return role_session.for_describe(target.role, self._cluster, target.policy)
        return role_session.for_terminate(target.role, self._cluster, target.policy, namespace)
