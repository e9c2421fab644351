"""STS: the account of the operator's own credentials, and the roles that it assumes with them."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from awsbatch_operator.api.errors import ErrorClass
from awsbatch_operator.aws.client_cache import ClientCache
from awsbatch_operator.aws.errors import AWS_ERRORS, RoleNotAssumedError, classify_assume_error, classify_error
from awsbatch_operator.aws.hooks import RequestScope
from awsbatch_operator.aws.sessions import Session, unusable_answer
from awsbatch_operator.policy import role_session

LIFETIME: Final = 3600
"""Seconds for which a role is assumed: the most that AWS grants where the operator's own credentials are a role's."""

IDENTITY_INTERVAL: Final = 300.0
"""Seconds between two GetCallerIdentity that fail: where STS can't be reached, each delays a poll by two seconds."""


class Sts:
    """Requests to STS with the operator's own credentials. For worker threads."""

    def __init__(self, own: Session, clients: ClientCache) -> None:
        self._own, self._clients = own, clients

    def assume(self, session: role_session.Session, region: str) -> Mapping[str, Any]:
        """Returns AssumeRole's answer. Raises RoleNotAssumedError."""
        generation = self._own.generation
        try:
            return self._assume(session, region)
        except RoleNotAssumedError as error:
            if error.error.error_class is ErrorClass.CREDENTIALS and self._own.renew(generation):
                self._clients.discard(region, "sts")
                return self._assume(session, region)
            raise

    def account(self, region: str) -> str:
        """Returns the account of the operator's own credentials. Raises AWS_ERRORS."""
        with RequestScope(self._own).active():
            return str(self._clients.get("sts", region).get_caller_identity().get("Account") or "")

    def _assume(self, session: role_session.Session, region: str) -> Mapping[str, Any]:
        try:
            # First, so that an error here concerns our credentials, and one below the role.
            self._own.frozen()
            sts = self._clients.get("sts", region)
        except AWS_ERRORS as error:
            raise RoleNotAssumedError(classify_error(error)) from error
        try:
            with RequestScope(self._own).active():
                answer: Mapping[str, Any] = sts.assume_role(
                    RoleArn=session.role,
                    RoleSessionName=session.name,
                    ExternalId=session.external_id,
                    Tags=[{"Key": key, "Value": value} for key, value in session.tags],
                    DurationSeconds=LIFETIME,
                )
        except AWS_ERRORS as error:
            raise RoleNotAssumedError(classify_assume_error(error)) from error
        except ValueError as error:
            raise RoleNotAssumedError(unusable_answer(str(error))) from error
        return answer


class CallerIdentity:
    """The account of the operator's own credentials; it learns in worker threads.

    `account` is None while unknown; `last_account` is the last one that was known, for labels and budgets.
    """

    def __init__(
        self, own: Session, ask: Callable[[str], str], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._own, self._ask, self._monotonic = own, ask, monotonic
        self._failed_at = float("-inf")
        self._of_key: tuple[str, str] | None = None
        self.account: str | None = None
        self.last_account = ""

    def learn(self, region: str, shown: str | None = None, *, needed: bool = False) -> None:
        """Updates `account`. `shown`: by an answer to a request with these credentials.

        `needed`: may send GetCallerIdentity to STS, once for each access key.
        """
        try:
            account = self._find(region, shown, ask=needed)
        except AWS_ERRORS:
            account = None
            self._failed_at = self._monotonic() if needed else self._failed_at
        if account or needed:
            self.account = account
        self.last_account = account or self.last_account

    def _find(self, region: str, shown: str | None, *, ask: bool) -> str | None:
        credentials = self._own.frozen()
        account = shown or credentials.account_id
        if not account and self._of_key is not None and self._of_key[0] == credentials.access_key:
            return self._of_key[1]
        if not account and ask and self._monotonic() - self._failed_at >= IDENTITY_INTERVAL:
            account = self._ask(region)
        if account:
            self._of_key = str(credentials.access_key), account
        return account or None
