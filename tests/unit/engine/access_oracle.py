"""What policies let be shown and ended, worked out in a few lines of its own from what the platform team wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from awsbatch_operator.domain.policy import Policy, Unreadable, parse_policy

OWN = "eu-west-1"


@dataclass(frozen=True)
class Written:
    """A policy as its author thinks of it. `team` None: of all namespaces. `later`: of a version that we can't read."""

    team: str | None = "a"
    queue: str | None = "a-*"
    tag: str | None = None
    role: str | None = None
    regions: tuple[str, ...] = ()
    ends: bool = True
    later: bool = False

    def read(self, name: str) -> Policy | Unreadable:
        selector = {"matchLabels": {"team": self.team}} if self.team is not None else {}
        jobs: dict[str, Any] = {"queues": [self.queue]} if self.queue is not None else {}
        if self.tag is not None:
            jobs["tags"] = {"owner": self.tag}
        spec: dict[str, Any] = {"namespaceSelector": selector, "jobs": jobs}
        spec |= {"role": {"arn": self.role}} if self.role else {}
        spec |= {"regions": list(self.regions)} if self.regions else {}
        spec |= {"allow": ["Observe"]} if not self.ends else {}
        return parse_policy(name, {**spec, "until": "friday"} if self.later else spec)


@dataclass(frozen=True)
class Sighted:
    """What a look showed of a job, asked for at `at` (seconds)."""

    queue: str
    tags: Mapping[str, str]
    at: float


Sightings = Mapping[tuple[str | None, str], Sighted]
"""By role and id."""


@dataclass
class Oracle:
    required: bool
    written: Mapping[str, Written]
    teams: Mapping[str, str]
    seen: Sightings

    def admits(self, namespace: str, job_id: str, *, region: str = OWN, end: bool = False, now: float = 0) -> bool:
        """Whether the job may be shown; `end`: whether it may be ended by what was seen no longer than 30 s ago."""
        team = self.teams.get(namespace)
        if team is None:
            return not self.required and not self.written
        ours = [one for one in self.written.values() if one.team in (None, team)]
        if len(ours) != 1:
            return not ours and not self.required
        [policy] = ours
        if policy.later or region not in (policy.regions or (OWN,)) or (end and not policy.ends):
            return False
        job = self.seen.get((policy.role, job_id))
        if job is None or (policy.queue is not None and not fnmatchcase(job.queue, policy.queue)):
            return False
        if policy.tag is None:
            return True
        whole = self.seen.get((policy.role, job_id.split(":", maxsplit=1)[0]))
        if whole is None or whole.tags.get("owner") != policy.tag.replace("${namespace}", namespace):
            return False
        return not end or now - min(job.at, whole.at) <= 30.001
