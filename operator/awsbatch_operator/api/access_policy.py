"""A BatchAccessPolicy: which jobs its namespaces may see and terminate, and what makes a policy invalid.

The checks are as strict as those of the custom resource definition: a policy that passed those but not these was
written for another version, and acting on the part that is understood could terminate another team's job.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from awsbatch_operator.api.batchjob import AccountId, Conditions
from awsbatch_operator.api.codec import Count, Object
from awsbatch_operator.api.label_selector import Selector, parse_selector
from awsbatch_operator.api.untyped import Faults, entries, fields, items, text

NAMESPACE: Final = "${namespace}"
"""The only variable in the value of a tag."""

_ROLE: Final = re.compile(r"arn:aws(-[a-z]+)*:iam::[0-9]{12}:role/([!-~]{1,510}/)?[A-Za-z0-9_+=,.@-]{1,64}")
_REGION: Final = re.compile(r"[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}")
_PARTITIONS: Final = {"cn-": "arn:aws-cn:", "us-gov-": "arn:aws-us-gov:", "eusc-": "arn:aws-eusc:"}
_QUEUE: Final = re.compile(
    r"[A-Za-z0-9_*-]{1,128}"
    r"|arn:[a-z*-]{1,32}:batch:[a-z0-9*-]{1,32}:[0-9*]{1,12}:job-queue/[A-Za-z0-9_*-]{1,128}"
)
_MOST_TAGS, _LONGEST_TAG_KEY, _LONGEST_TAG_VALUE = 50, 128, 256
_LONGEST_REGION, _LONGEST_ROLE = 32, 2048


class Verb(StrEnum):
    OBSERVE = "Observe"
    TERMINATE = "Terminate"


ALL_VERBS: Final = frozenset(Verb)


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
    """`role`: ARN of the role to assume, None for the operator's own credentials. No `regions`: the operator's own."""

    name: str
    selector: Selector
    rules: Rules
    role: str | None = None
    regions: tuple[str, ...] = ()
    allow: frozenset[Verb] = ALL_VERBS


@dataclass(frozen=True, slots=True)
class InvalidPolicy:
    """A policy that is not understood. `selector` None: the namespaces that it selects are not known either.

    A later version must express every new way to select namespaces in namespaceSelector: this version reads only that.
    """

    name: str
    faults: tuple[str, ...]
    selector: Selector | None


class BatchAccessPolicyStatus(Object, frozen=True):
    """`.status`. `namespaces`, `jobs`: how many the policy selects."""

    observed_generation: Count | None = None
    namespaces: Count | None = None
    jobs: Count | None = None
    account_id: AccountId | None = None
    conditions: Conditions = ()


def parse_policy(name: str, spec: object) -> Policy | InvalidPolicy:
    """Decode the policy of that name from its raw `.spec`; never raises."""
    faults: Faults = []
    found = fields(spec, "spec", {"namespaceSelector", "role", "regions", "jobs", "allow"}, faults)
    selecting: Faults = []
    selector = parse_selector(found.get("namespaceSelector"), "spec.namespaceSelector", selecting)
    role = _role(found.get("role"), faults)
    regions = _regions(found, role, faults)
    queues, tags = _jobs(found.get("jobs"), faults)
    allow = _allow(found.get("allow"), faults)
    if faults or selecting:
        return InvalidPolicy(name, (*selecting, *faults), None if selecting else selector)
    return Policy(name, selector, Rules(queues, tags), role, regions, allow)


def _role(raw: object, faults: Faults) -> str | None:
    if raw is None:
        return None
    arn = text(fields(raw, "spec.role", {"arn"}, faults).get("arn"), "spec.role.arn", faults)
    if not _ROLE.fullmatch(arn) or len(arn) > _LONGEST_ROLE:
        faults.append("spec.role.arn is not the ARN of an IAM role")
    return arn


def _regions(found: Mapping[str, Any], role: str | None, faults: Faults) -> tuple[str, ...]:
    regions = _distinct(found, "regions", "spec.regions", faults)
    if not all(_REGION.fullmatch(region) and len(region) <= _LONGEST_REGION for region in regions):
        faults.append("spec.regions has an entry that is not the name of a region")
    if role is not None:
        reached = (
            region.startswith(prefix) == role.startswith(arn)
            for region in regions
            for prefix, arn in _PARTITIONS.items()
        )
        if not all(reached):
            faults.append("spec.regions has a region of another partition than the role's")
    return regions


def _jobs(raw: object, faults: Faults) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    found = fields(raw, "spec.jobs", {"queues", "tags"}, faults)
    queues = _distinct(found, "queues", "spec.jobs.queues", faults)
    if not all(map(_QUEUE.fullmatch, queues)):
        faults.append("spec.jobs.queues has an entry that is neither the name nor the ARN of a queue")
    tags = entries(found.get("tags"), "spec.jobs.tags", faults)
    if found.get("tags") == {}:
        faults.append("spec.jobs.tags is empty")
    if len(tags) > _MOST_TAGS:
        faults.append("spec.jobs.tags has more tags than a job can have")
    for key, value in tags.items():
        _check_tag(key, value, faults)
    if not queues and not tags:
        faults.append("spec.jobs states no rule")
    return queues, tuple(sorted(tags.items()))


def _check_tag(key: str, value: str, faults: Faults) -> None:
    if not 1 <= len(key) <= _LONGEST_TAG_KEY or key.lower().startswith("aws:"):
        faults.append("spec.jobs.tags has a key that no job can have")
    # With the shortest name that a namespace can have.
    if len(value.replace(NAMESPACE, "n")) > _LONGEST_TAG_VALUE:
        faults.append("spec.jobs.tags has a value that is too long for a tag")
    if "${" in value.replace(NAMESPACE, ""):
        faults.append(f"spec.jobs.tags has a variable other than {NAMESPACE}")


def _allow(raw: object, faults: Faults) -> frozenset[Verb]:
    if raw is None:
        return ALL_VERBS
    words = _distinct({"allow": raw}, "allow", "spec.allow", faults)
    if not ALL_VERBS.issuperset(words):
        faults.append(f"spec.allow has an entry that is none of {', '.join(Verb)}")
    if Verb.OBSERVE not in words:
        # A job that may not be observed is not terminated.
        faults.append(f"spec.allow must contain {Verb.OBSERVE}")
    return frozenset(verb for verb in Verb if verb in words)


def _distinct(found: Mapping[str, Any], field: str, path: str, faults: Faults) -> tuple[str, ...]:
    """Return a list of different strings that is not empty; `()` if it is missing."""
    raw = found.get(field)
    listed: Sequence[object] = items(raw, path, faults)
    words = tuple(text(one, path, faults) for one in listed)
    if raw == []:
        faults.append(f"{path} is empty")
    if len(set(words)) < len(words):
        faults.append(f"{path} has a duplicate entry")
    return words
