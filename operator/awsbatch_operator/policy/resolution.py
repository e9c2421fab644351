"""Resolves which BatchAccessPolicy applies to a namespace, and the scope that it gives there.

The authorizer then decides whether one job is inside that scope.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NoReturn

from awsbatch_operator.api.access_policy import DEFAULT_VERBS, InvalidPolicy, Policy, Rules, Verb
from awsbatch_operator.api.batchjob import AdmittedBy
from awsbatch_operator.api.job import Target
from awsbatch_operator.api.label_selector import Labels

MAX_NAMES: Final = 5
"""Policies that a message names; it adds how many more there are."""


class Mode(StrEnum):
    """Access of a namespace without a policy: every job with the operator's own credentials, or none."""

    OPTIONAL = "optional"
    REQUIRED = "required"


class Result:
    """A result whose type is the answer. It has no truth value, so that no caller mistakes a Deny for an Allow."""

    __slots__ = ()

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is neither true nor false: match its type")


@dataclass(frozen=True, slots=True)
class Deny(Result):
    """A reason of the Stalled condition and its message. `hidden`: nothing of the job may be shown either."""

    reason: str
    message: str
    hidden: bool = True


@dataclass(frozen=True, slots=True)
class Scope(Result):
    """The jobs that BatchJobs of a namespace may name: those at `target` that match `rules`, for these verbs.

    `policy` None: no policy selects the namespace. `rules` None: unrestricted, every job matches.
    Equal scopes are interchangeable: a decision stays valid as long as the namespace resolves to an equal scope.
    """

    namespace: str
    target: Target
    policy: str | None
    rules: Rules | None
    verbs: frozenset[Verb]


Choice = Policy | Deny | None
"""The policy of a namespace; None: no policy selects it."""


def select_policy(policies: Iterable[Policy | InvalidPolicy], labels: Labels) -> Choice:
    """Return the one policy that selects a namespace with these labels. The labels must be known."""
    selecting = [policy for policy in policies if policy.selector is None or policy.selector.selects(labels)]
    certain = [policy for policy in selecting if policy.selector is not None]
    if len(certain) > 1:
        return ambiguous(policy.name for policy in certain)
    if invalid := sorted(policy.name for policy in selecting if isinstance(policy, InvalidPolicy)):
        return _unreadable(invalid)
    return next((policy for policy in certain if isinstance(policy, Policy)), None)


def resolve_scope(choice: Choice, mode: Mode, namespace: str, region: str | None, own_region: str) -> Scope | Deny:
    """Return the scope of a BatchJob in `namespace` that names `region` (None: it names none, `own_region` applies)."""
    wanted = region or own_region
    match choice:
        case Deny():
            return choice
        case None if mode is Mode.OPTIONAL:
            return Scope(namespace, Target(wanted), None, None, frozenset(DEFAULT_VERBS))
        case None:
            return _NO_POLICY
        case Policy():
            regions = choice.regions or (own_region,)
            if wanted not in regions:
                return _region_not_allowed(choice.name, wanted, regions)
            target = Target(wanted, choice.role, choice.name) if choice.role else Target(wanted)
            return Scope(namespace, target, choice.name, choice.rules, choice.allow)


_NO_POLICY: Final = Deny(
    "NoAccessPolicy",
    "No BatchAccessPolicy selects this namespace, and the operator requires one. Ask the platform team for a policy",
)


def ambiguous(names: Iterable[str]) -> Deny:
    return Deny(
        "AmbiguousPolicy",
        f"The BatchAccessPolicies {_listed(names)} all select this namespace, but exactly one must. Ask the "
        "platform team to change their namespaceSelectors",
    )


def _unreadable(names: Iterable[str]) -> Deny:
    return Deny(
        "PolicyUnreadable",
        f"This version of the operator cannot read the BatchAccessPolicy {_listed(names)}, which selects or "
        "may select this namespace. Ask the platform team to correct it, or to upgrade the operator",
    )


def _region_not_allowed(policy: str, region: str, regions: Iterable[str]) -> Deny:
    return Deny(
        "JobNotAllowed",
        f"The BatchAccessPolicy {policy} allows no job in {region}, only in {', '.join(sorted(regions))}. "
        "Create another object with one of these regions, or ask the platform team to add the region",
    )


def invalid_region(region: str) -> Deny:
    return Deny(
        "InvalidRegion",
        f"The operator does not know the AWS region {region}, so it sends no request there. Create another "
        "object with an existing region, or ask the platform team to start the operator with "
        f"--allow-region {region}",
        hidden=False,
    )


def account_changed(pinned: str, *, hidden: bool) -> Deny:
    return Deny(
        "AccountChanged",
        f"The job belongs to the account {pinned}, but the policy or the operator's credentials now belong "
        "to another account, so the operator sends no request for it. Ask the platform team, or create "
        "another BatchJob for a job of that account",
        hidden=hidden,
    )


def admitted_by(scope: Scope, job_id: str) -> AdmittedBy | None:
    """Return `.status.access` for a job that the scope admits; None where no policy applies.

    The digest covers the job id, so that copying it to an object that names another job gains nothing.
    """
    if scope.policy is None:
        return None
    digest = hashlib.sha256(f"{_admitting(scope)} {job_id}".encode("utf-8", "surrogatepass"))
    return AdmittedBy(scope.policy, digest.hexdigest()[:16])


@lru_cache(maxsize=4096)
def _admitting(scope: Scope) -> str:
    # Field by field: a rule that a later version adds, and a policy does not use, must not change the digest, or an
    # upgrade would hide every job that is shown. The verbs are not part of admission.
    rules = () if scope.rules is None else (scope.rules.queues, scope.rules.tags)
    return repr((scope.namespace, tuple(scope.target), scope.policy, rules))


def _listed(names: Iterable[str]) -> str:
    known = sorted(names)
    more = len(known) - MAX_NAMES
    return ", ".join(known[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
