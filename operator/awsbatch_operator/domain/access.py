"""Which policy a namespace is under, and what it grants there; the first half of every decision about access.

The other half, whether one job is admitted, is in admission.py.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from awsbatch_operator.domain.job import Place
from awsbatch_operator.domain.labels import Labels
from awsbatch_operator.domain.policy import ALL_VERBS, Policy, Rules, Unreadable, Verb

MOST_NAMED: Final = 5
"""Policies that a message names; it says how many more there are."""


class Mode(StrEnum):
    """What holds where no policy selects the namespace: the operator's own credentials, or nothing."""

    OPTIONAL = "optional"
    REQUIRED = "required"


class Ruling:
    """Something that is either a yes or a no by its type. Truth would be a second, wrong way to ask."""

    __slots__ = ()

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is neither true nor false: match its type")


@dataclass(frozen=True, slots=True)
class NoPolicy(Ruling):
    """No policy selects the namespace."""


@dataclass(frozen=True, slots=True)
class Refusal(Ruling):
    """What is not granted: a reason of Stalled and its message. `hides`: nor may anything be shown of the job."""

    reason: str
    message: str
    hides: bool = True


class Mark(NamedTuple):
    """By what the job that a status shows was admitted: the policy, and a digest of all that admission rests on."""

    policy: str
    rules: str


@dataclass(frozen=True, slots=True)
class EveryJob:
    """The rules where no policy says any."""


EVERY_JOB: Final = EveryJob()


@dataclass(frozen=True, slots=True)
class Grant(Ruling):
    """What BatchJobs of the namespace may do in `place`, with the jobs that keep the rules. No `policy`: none selects.

    Grants that grant the same are equal: what was decided by one holds for as long as an equal one is in force.
    """

    namespace: str
    place: Place
    policy: str | None
    rules: Rules | EveryJob
    allow: frozenset[Verb]


Choice = Policy | NoPolicy | Refusal


def choose(policies: Iterable[Policy | Unreadable], labels: Labels) -> Choice:
    """The one policy for a namespace of these labels. Of a namespace whose labels are not known, don't ask."""
    selecting = [policy for policy in policies if policy.selector is None or policy.selector.selects(labels)]
    sure = [policy for policy in selecting if policy.selector is not None]
    if len(sure) > 1:
        return ambiguous([policy.name for policy in sure])
    if unread := sorted(policy.name for policy in selecting if isinstance(policy, Unreadable)):
        return _unreadable(unread)
    for policy in sure:
        if isinstance(policy, Policy):
            return policy
    return NoPolicy()


def grant(choice: Choice, mode: Mode, namespace: str, wanted: str | None, own: str) -> Grant | Refusal:
    """What a BatchJob in `namespace` is granted that names the region `wanted`. `own`: the operator's region."""
    region = wanted or own
    match choice:
        case Refusal():
            return choice
        case NoPolicy() if mode is Mode.OPTIONAL:
            return Grant(namespace, Place(region), None, EVERY_JOB, ALL_VERBS)
        case NoPolicy():
            return _NO_POLICY
        case Policy():
            regions = choice.regions or (own,)
            if region not in regions:
                return _region_not_granted(choice.name, region, regions)
            place = Place(region, choice.role, choice.name) if choice.role else Place(region)
            return Grant(namespace, place, choice.name, choice.rules, choice.allow)


_NO_POLICY: Final = Refusal(
    "NoAccessPolicy",
    "No BatchAccessPolicy selects this namespace, and one is required: ask the platform team for one",
)


def ambiguous(names: Iterable[str]) -> Refusal:
    return Refusal(
        "AmbiguousPolicy",
        f"The BatchAccessPolicies {_listed(names)} all select this namespace, and exactly one must: "
        "ask the platform team to narrow them",
    )


def _unreadable(names: Iterable[str]) -> Refusal:
    return Refusal(
        "PolicyUnreadable",
        f"This version of the operator can't read the BatchAccessPolicy {_listed(names)}, which selects this namespace "
        "or may do so: ask the platform team to mend it, or to upgrade the operator",
    )


def _region_not_granted(policy: str, region: str, regions: Iterable[str]) -> Refusal:
    return Refusal(
        "JobNotAllowed",
        f"The BatchAccessPolicy {policy} grants no job in {region}, only in {', '.join(sorted(regions))}: "
        "give one of those as spec.region of a new BatchJob, or ask the platform team",
    )


def account_changed(pinned: str, *, hides: bool) -> Refusal:
    return Refusal(
        "AccountChanged",
        f"The job was seen in the account {pinned}, and calls reach another one by now: nothing is done for it there. "
        "Ask the platform team, or name a job of that account by a new BatchJob",
        hides=hides,
    )


def mark(grant: Grant, job_id: str) -> Mark | None:
    """Of a job that a grant admits; None where every job is, for there is nothing to be held against it later.

    Of that job alone: who copies it to an object that names another has gained nothing.
    """
    if grant.policy is None:
        return None
    digest = hashlib.sha256(f"{_admits(grant)} {job_id}".encode("utf-8", "surrogatepass"))
    return Mark(grant.policy, digest.hexdigest()[:16])


@lru_cache(maxsize=4096)
def _admits(grant: Grant) -> str:
    # Field by field: what a later version adds to rules, and a policy does not state, must leave the digest as it is,
    # or each job that is shown would be withheld after an upgrade. What may be done with a job has no part in it.
    rules = () if isinstance(grant.rules, EveryJob) else (grant.rules.queues, grant.rules.tags)
    return repr((grant.namespace, tuple(grant.place), grant.policy, rules))


def _listed(names: Iterable[str]) -> str:
    known = sorted(names)
    more = len(known) - MOST_NAMED
    return ", ".join(known[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
