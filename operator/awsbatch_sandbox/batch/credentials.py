"""Valid credentials: the key pairs of the settings, and the temporary credentials that STS issued."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from awsbatch_sandbox.batch.job_spec import AccountRegion
from awsbatch_sandbox.batch.settings import Settings

USER: Final = "sandbox"
"""Name of the IAM user that owns the long-term key pairs of each account."""

TEMPORARY: Final = "ASIA"
"""Prefix of the access keys of temporary credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A key pair. The fields from `token` on are for temporary ones only.

    `role` is an ARN, `expires_at` epoch seconds, `tags` are session tags; `transitive` names those that also apply to a
    role that this session assumes.
    """

    access_key: str
    secret: str
    account: str
    token: str | None = None
    role: str | None = None
    role_session: str | None = None
    expires_at: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller, by the credential of the signature, and the region of its scope. `role`: ARN of an assumed role."""

    account: str
    region: str
    access_key: str = "sandbox"
    role: str | None = None
    role_session: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, credential: Credential, region: str) -> "Caller":
        shared = credential.access_key, credential.role, credential.role_session, credential.tags
        return cls(credential.account, region, *shared)

    @property
    def account_region(self) -> AccountRegion:
        return AccountRegion(self.account, self.region)

    @property
    def arn(self) -> str:
        if self.role is None:
            return f"arn:aws:iam::{self.account}:user/{USER}"
        return f"arn:aws:sts::{self.account}:assumed-role/{self.role.rpartition('/')[2]}/{self.role_session}"


class Credentials:
    """Every credential that AWS knows."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._issued: dict[str, Credential] = {}

    def issue(self, credential: Credential) -> None:
        self._issued[credential.access_key] = credential

    def expire(self, role: str | None, at: float) -> int:
        """End the sessions of that role, or all, at that time; gives their number."""
        ended = [one for one in self._issued.values() if role in (None, one.role)]
        for one in ended:
            self._issued[one.access_key] = replace(one, expires_at=at)
        return len(ended)

    def find(self, access_key: str) -> Credential | None:
        if access_key in self._issued or access_key.startswith(TEMPORARY):
            return self._issued.get(access_key)
        settings = self._settings()
        listed = access_key == USER or access_key in settings.accounts or access_key in settings.secrets
        if not (listed or settings.unlisted_keys):
            return None
        account = settings.accounts.get(access_key, settings.account)
        return Credential(access_key=access_key, secret=settings.secrets.get(access_key, USER), account=account)

    def roles(self) -> set[str]:
        """ARNs of the roles that were assumed."""
        return {one.role for one in self._issued.values() if one.role is not None}

    def accounts(self) -> set[str]:
        settings = self._settings()
        return {settings.account, *settings.accounts.values(), *(one.account for one in self._issued.values())}
