"""A BatchAccessPolicy: which jobs its namespaces may see and terminate, and what makes a policy invalid.

The checks are as strict as those of the custom resource definition: a policy that passed those but not these was
written for another version, and acting on the part that is understood could terminate another team's job.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta, field

from awsbatch_operator.api import label_selector
from awsbatch_operator.api.batchjob import AccountId, Conditions
from awsbatch_operator.api.codec import Count, Object, StrictObject
from awsbatch_operator.api.events_queue import REMEDY, queue_region
from awsbatch_operator.api.label_selector import Selector

NAMESPACE: Final = "${namespace}"
"""The only variable in the value of a tag."""

_ROLE: Final = re.compile(r"arn:aws(-[a-z]+)*:iam::[0-9]{12}:role/([!-~]{1,510}/)?[A-Za-z0-9_+=,.@-]{1,64}")
_REGION: Final = re.compile(r"[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}")
_PARTITIONS: Final = {"cn-": "arn:aws-cn:", "us-gov-": "arn:aws-us-gov:", "eusc-": "arn:aws-eusc:"}
_QUEUE: Final = re.compile(
    r"[A-Za-z0-9_*-]{1,128}"
    r"|arn:[a-z*-]{1,32}:batch:[a-z0-9*-]{1,32}:[0-9*]{1,12}:job-queue/[A-Za-z0-9_*-]{1,128}"
)
_LONGEST_TAG_KEY, _LONGEST_TAG_VALUE = 128, 256

_LONGEST_FAULT: Final = 300
"""Characters of a fault: msgspec's messages quote the names of unknown fields and the words of enums."""


class Verb(StrEnum):
    """`LIST` lets a BatchTermination count and terminate all jobs that match its selector."""

    OBSERVE = "Observe"
    TERMINATE = "Terminate"
    LIST = "List"


DEFAULT_VERBS: Final = (Verb.OBSERVE, Verb.TERMINATE)
"""Allowed operations of a policy without `allow`, and of namespaces without a policy."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Conditions for a job: its queue matches one of the patterns, and it has each of these tags.

    An empty part is no condition, but at least one part is not empty: a policy can't admit every job by mistake.
    """

    queues: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.queues and not self.tags:
            raise ValueError("rules must state something: no rule at all would admit every job")


@dataclass(frozen=True, slots=True)
class Policy:
    """`role`: ARN of the role to assume, None for the operator's own credentials. No `regions`: the operator's own.

    `suspend`: the terminations of its namespaces are held. It is no part of what the policy grants, and neither is
    `events_queue`: the URL of the queue that gets the events of the role's account.
    """

    name: str
    selector: Selector
    rules: Rules
    role: str | None = None
    regions: tuple[str, ...] = ()
    allow: frozenset[Verb] = frozenset(DEFAULT_VERBS)
    suspend: bool = False
    events_queue: str | None = None


@dataclass(frozen=True, slots=True)
class InvalidPolicy:
    """A policy that is not understood. `selector` None: the namespaces that it selects are not known either.

    A later version must express every new way to select namespaces in namespaceSelector: this version reads only that.
    """

    name: str
    faults: tuple[str, ...]
    selector: Selector | None


class RoleSpec(StrictObject, frozen=True):
    """The schema of `spec.role`."""

    arn: Annotated[str, Meta(max_length=2048)]
    events_queue: Annotated[str, Meta(max_length=512)] | None = None


class JobsSpec(StrictObject, frozen=True):
    """The schema of `spec.jobs`."""

    queues: Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(min_length=1, max_length=64)] = ()
    tags: Annotated[dict[str, Annotated[str, Meta(max_length=1024)]], Meta(min_length=1, max_length=50)] = field(
        default_factory=dict
    )


class BatchAccessPolicySpec(StrictObject, frozen=True):
    """The schema of `.spec`, without the rules that a schema can't state: `parse_policy` checks those."""

    namespace_selector: Selector | None = None
    role: RoleSpec | None = None
    regions: Annotated[tuple[Annotated[str, Meta(max_length=32)], ...], Meta(min_length=1, max_length=64)] = ()
    jobs: JobsSpec | None = None
    allow: Annotated[tuple[Verb, ...], Meta(max_length=8)] = DEFAULT_VERBS
    suspend: bool = False


class BatchAccessPolicyStatus(Object, frozen=True):
    """`.status`. `namespaces`, `jobs`: how many the policy selects."""

    observed_generation: Count | None = None
    namespaces: Count | None = None
    jobs: Count | None = None
    account_id: AccountId | None = None
    conditions: Conditions = ()


def parse_policy(name: str, spec: object) -> Policy | InvalidPolicy:
    """Decode the policy of that name from its raw `.spec`; never raises."""
    stated, faults = _decode(spec)
    selector, jobs, role = stated.namespace_selector, stated.jobs, stated.role
    if selector is not None and (selecting := [*label_selector.faults(selector, "spec.namespaceSelector")]):
        selector, faults = None, selecting + faults
    faults += _faults(stated)
    if faults or selector is None or jobs is None:
        return InvalidPolicy(name, tuple(faults), selector)
    return Policy(
        name,
        selector,
        Rules(jobs.queues, tuple(sorted(jobs.tags.items()))),
        None if role is None else role.arn,
        stated.regions,
        frozenset(stated.allow),
        suspend=stated.suspend,
        events_queue=None if role is None else role.events_queue,
    )


def _decode(spec: object) -> tuple[BatchAccessPolicySpec, list[str]]:
    """Return the fields that can be decoded, and a fault for each that can't or is missing."""
    if not isinstance(spec, dict):
        return BatchAccessPolicySpec(), ["spec is missing or not an object"]
    decoded, faults = {}, []
    for name, value in sorted(spec.items()):
        try:
            msgspec.convert({name: value}, BatchAccessPolicySpec)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            # The latter: half a surrogate pair, which JSON may have and UTF-8 can't.
            faults.append(_decode_fault(name, error))
        else:
            decoded[name] = value
    faults += [f"spec.{name} is missing" for name in ("namespaceSelector", "jobs") if spec.get(name) is None]
    return msgspec.convert(decoded, BatchAccessPolicySpec), faults


def _decode_fault(name: str, error: Exception) -> str:
    problem, _, place = str(error).partition(" - at `$")
    return f"spec{place.rstrip('`') or f'.{name}'}: {problem}"[:_LONGEST_FAULT]


def _faults(spec: BatchAccessPolicySpec) -> Iterator[str]:
    """Yield each rule that a decoded spec breaks, without those of the selector."""
    jobs = spec.jobs or JobsSpec()
    lists = {"spec.regions": spec.regions, "spec.jobs.queues": jobs.queues, "spec.allow": spec.allow}
    yield from (f"{path} has a duplicate entry" for path, listed in lists.items() if len(set(listed)) < len(listed))
    if not all(map(_REGION.fullmatch, spec.regions)):
        yield "spec.regions contains an entry that is not the name of a region"
    if spec.role is not None:
        yield from _role_faults(spec.role.arn, spec.regions)
        if spec.role.events_queue is not None and queue_region(spec.role.events_queue) is None:
            yield f"spec.role.eventsQueue: {REMEDY}"
    if not all(map(_QUEUE.fullmatch, jobs.queues)):
        yield "spec.jobs.queues contains an entry that is neither the name nor the ARN of a queue"
    for key, value in jobs.tags.items():
        yield from _tag_faults(key, value)
    if spec.jobs == JobsSpec():
        yield "spec.jobs states no rule"
    if Verb.OBSERVE not in spec.allow:
        # A job that may not be observed is not terminated.
        yield f"spec.allow must contain {Verb.OBSERVE}"


def _role_faults(arn: str, regions: tuple[str, ...]) -> Iterator[str]:
    if not _ROLE.fullmatch(arn):
        yield "spec.role.arn is not the ARN of an IAM role"
    reached = (
        region.startswith(prefix) == arn.startswith(partition)
        for region in regions
        for prefix, partition in _PARTITIONS.items()
    )
    if not all(reached):
        yield "spec.regions contains a region outside the role's partition"


def _tag_faults(key: str, value: str) -> Iterator[str]:
    if not 1 <= len(key) <= _LONGEST_TAG_KEY or key.lower().startswith("aws:"):
        yield "spec.jobs.tags contains a key that no job can have"
    # With the shortest name that a namespace can have.
    if len(value.replace(NAMESPACE, "n")) > _LONGEST_TAG_VALUE:
        yield "spec.jobs.tags contains a value that is too long for a tag"
    if "${" in value.replace(NAMESPACE, ""):
        yield f"spec.jobs.tags contains a variable other than {NAMESPACE}"
