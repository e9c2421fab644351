"""Computes the status of each BatchAccessPolicy."""

from collections.abc import Iterable, Mapping
from typing import Final

from awsbatch_operator.api import conditions as say
from awsbatch_operator.api.access_policy import InvalidPolicy, Policy
from awsbatch_operator.api.conditions import REASON_OF_ERROR, ConditionValue
from awsbatch_operator.api.errors import ErrorClass
from awsbatch_operator.api.interfaces import BatchProvider, PolicyStatus
from awsbatch_operator.api.job import Target, account_of
from awsbatch_operator.controller.cache import Cache
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.policy.resolution import Choice, Deny

MAX_FAULTS: Final = 5
"""Faults of a policy that its status lists."""

_IN_FORCE: Final = ConditionValue(say.TRUE, "InForce", "The policy applies")
_SUSPENDS: Final = ConditionValue(
    say.TRUE, "InForce", "The policy applies, and spec.suspend holds the terminations of its namespaces"
)


def policy_statuses(
    policies: PolicyCache, cache: Cache, provider: BatchProvider, *, all_jobs: bool
) -> Mapping[str, PolicyStatus]:
    """Return the status of each policy by name.

    `all_jobs`: whether all BatchJobs are watched. If so, those in the namespaces that a policy selects are counted,
    admitted or not.
    """
    selected = policies.selected_namespaces()
    return {
        name: PolicyStatus(
            ready=_ready(policy, selected.get(name, {}), policies.region, provider),
            namespaces=len(selected.get(name, ())),
            jobs=_count_jobs(selected.get(name, ()), cache) if all_jobs else None,
            account_id=_account(policy, policies.region, provider),
        )
        for name, policy in policies.policies().items()
    }


def _count_jobs(namespaces: Iterable[str], cache: Cache) -> int:
    return sum(len(cache.namespaces.get(namespace, ())) for namespace in namespaces)


def _ready(
    policy: Policy | InvalidPolicy, selected: Mapping[str, Choice], own_region: str, provider: BatchProvider
) -> ConditionValue:
    if isinstance(policy, InvalidPolicy):
        more = len(policy.faults) - MAX_FAULTS
        faults = "; ".join(policy.faults[:MAX_FAULTS]) + (f"; and {more} more" if more > 0 else "")
        return ConditionValue(
            say.FALSE, "PolicyUnreadable", f"This version of the operator cannot read the policy: {faults}"
        )
    for namespace in sorted(selected):
        choice = selected[namespace]
        if isinstance(choice, Deny):
            return ConditionValue(say.FALSE, choice.reason, f"Namespace {namespace}: {choice.message}")
    for target in _targets(policy, own_region):
        error = provider.assume_error(target)
        # The author of a policy can't fix the operator's own credentials: the BatchJobs report those.
        if error is not None and error.error_class is not ErrorClass.CREDENTIALS:
            # No user needs to act on an error that passes by itself.
            status, reason = (
                say.UNKNOWN if error.error_class.transient else say.FALSE,
                REASON_OF_ERROR[error.error_class],
            )
            return ConditionValue(status, reason, f"The operator cannot assume the role: {error.message}")
    return _SUSPENDS if policy.suspend else _IN_FORCE


def _targets(policy: Policy, own_region: str) -> Iterable[Target]:
    if policy.role is not None:
        yield from (Target(region, policy.role, policy.name) for region in policy.regions or (own_region,))


def _account(policy: Policy | InvalidPolicy, own_region: str, provider: BatchProvider) -> str | None:
    if isinstance(policy, InvalidPolicy):
        return None
    return account_of(policy.role) or provider.account(Target(own_region))
