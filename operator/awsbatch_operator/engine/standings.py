"""Where each access policy stands, for its own status."""

from collections.abc import Iterable, Mapping
from typing import Final

from awsbatch_operator.domain import conditions as say
from awsbatch_operator.domain.access import Choice, Refusal
from awsbatch_operator.domain.conditions import Claim
from awsbatch_operator.domain.errors import Fate
from awsbatch_operator.domain.job import Place, account_of
from awsbatch_operator.domain.policy import Policy, Unreadable
from awsbatch_operator.domain.ports import Batch, PolicyStanding
from awsbatch_operator.engine.book import Book
from awsbatch_operator.engine.store import Store

MOST_FAULTS: Final = 5
"""Faults of a policy that its status lists."""

_IN_FORCE: Final = Claim(say.TRUE, "InForce", "The policy is in force")


def standings(book: Book, store: Store, batch: Batch, *, all_jobs: bool) -> Mapping[str, PolicyStanding]:
    """By name. Jobs are BatchJob objects in the namespaces that a policy selects, admitted or not, if all are known."""
    reach = book.reach()
    return {
        name: PolicyStanding(
            ready=_ready(policy, reach.get(name, {}), book.region, batch),
            namespaces=len(reach.get(name, ())),
            jobs=_jobs(reach.get(name, ()), store) if all_jobs else None,
            account_id=_account(policy, book.region, batch),
        )
        for name, policy in book.policies().items()
    }


def _jobs(namespaces: Iterable[str], store: Store) -> int:
    return sum(len(store.namespaces.get(namespace, ())) for namespace in namespaces)


def _ready(policy: Policy | Unreadable, reach: Mapping[str, Choice], own: str, batch: Batch) -> Claim:
    if isinstance(policy, Unreadable):
        more = len(policy.faults) - MOST_FAULTS
        faults = "; ".join(policy.faults[:MOST_FAULTS]) + (f"; and {more} more" if more > 0 else "")
        return Claim(say.FALSE, "PolicyUnreadable", f"This version of the operator can't read the policy: {faults}")
    for namespace in sorted(reach):
        choice = reach[namespace]
        if isinstance(choice, Refusal):
            return Claim(say.FALSE, choice.reason, f"Namespace {namespace}: {choice.message}")
    for place in _places(policy, own):
        trouble = batch.trouble(place)
        # That of the operator's own credentials is no matter of a policy's writer: the objects tell of it.
        if trouble is not None and trouble.fate is not Fate.CREDENTIALS:
            # Nobody need act on what time mends.
            status = say.UNKNOWN if trouble.fate.passes else say.FALSE
            return Claim(status, trouble.fate.value, f"The role can't be assumed: {trouble.message}")
    return _IN_FORCE


def _places(policy: Policy, own: str) -> Iterable[Place]:
    if policy.role is not None:
        yield from (Place(region, policy.role, policy.name) for region in policy.regions or (own,))


def _account(policy: Policy | Unreadable, own: str, batch: Batch) -> str | None:
    if isinstance(policy, Unreadable):
        return None
    return account_of(policy.role) or batch.account(Place(own))
