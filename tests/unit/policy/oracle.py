"""States what policies allow in a table, independent of the code under test.

The first row that fits a case applies. Only what the row names makes a difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from awsbatch_operator.api.access_policy import InvalidPolicy, Policy, parse_policy
from awsbatch_operator.policy.resolution import Mode

OWN_REGION: Final = "eu-west-1"
VIEW: Final = "view"
TERMINATE: Final = "terminate"
DESCRIBE_PARENT: Final = "describe the parent"
DESCRIBE_AGAIN: Final = "describe again"
TAGS_EXPIRE: Final = 30.001
"""Seconds; one millisecond is rounded away."""


class Case(NamedTuple):
    """`selecting`: the policies that select the namespace. `tags`: of the job, or of its parent if it is a child."""

    mode: str
    selecting: str
    region: str
    queue: str
    tags: str
    verbs: str
    wanted: str


def row(result: str, **fits: str) -> tuple[dict[str, str], str]:
    return fits, result


TABLE: Final = [
    row("AmbiguousPolicy", selecting="two"),
    row("AmbiguousPolicy", selecting="one and an unreadable one"),
    row("PolicyUnreadable", selecting="an unreadable one"),
    row("NoAccessPolicy", selecting="none", mode="required"),
    row(VIEW, selecting="none", wanted=VIEW),
    row(TERMINATE, selecting="none"),
    row("JobNotAllowed", region="foreign"),
    row("JobNotAllowed", queue="foreign"),
    row("JobNotAllowed", queue="unknown"),
    row("JobNotAllowed", tags="foreign"),
    row("JobNotAllowed", tags="the parent's, foreign"),
    row("JobNotAllowed", tags="none"),
    row("JobNotAllowed", tags="unknown"),
    row(DESCRIBE_PARENT, tags="the parent's, not described"),
    row(VIEW, wanted=VIEW),
    row("TerminationNotAllowed", verbs="Observe"),
    row(DESCRIBE_AGAIN, tags="old"),
    row(TERMINATE),
]
"""A result is VIEW, TERMINATE, which job must be described first, or the reason of a Deny."""


def row_of(case: Case) -> int:
    return next(n for n, (fits, _) in enumerate(TABLE) if all(getattr(case, name) == fits[name] for name in fits))


def expected(case: Case) -> str:
    return TABLE[row_of(case)][1]


@dataclass(frozen=True)
class PolicyText:
    """A policy as its author thinks of it. `team` None: for all namespaces. `later`: written for a later version."""

    team: str | None = "a"
    queue: str | None = "a-*"
    tag: str | None = None
    role: str | None = None
    regions: tuple[str, ...] = ()
    terminate: bool = True
    later: bool = False

    def parsed(self, name: str) -> Policy | InvalidPolicy:
        selector = {"matchLabels": {"team": self.team}} if self.team is not None else {}
        jobs: dict[str, Any] = {"queues": [self.queue]} if self.queue is not None else {}
        if self.tag is not None:
            jobs["tags"] = {"owner": self.tag}
        spec: dict[str, Any] = {"namespaceSelector": selector, "jobs": jobs}
        spec |= {"role": {"arn": self.role}} if self.role else {}
        spec |= {"regions": list(self.regions)} if self.regions else {}
        spec |= {"allow": ["Observe"]} if not self.terminate else {}
        return parse_policy(name, {**spec, "until": "friday"} if self.later else spec)


@dataclass(frozen=True)
class Described:
    """What a DescribeJobs that was requested at `at` (seconds) showed of a job."""

    queue: str
    tags: Mapping[str, str]
    at: float


DescribedJobs = Mapping[tuple[str | None, str], Described]
"""Jobs by role and id."""


@dataclass
class Oracle:
    """`teams`: the label of each namespace that is known."""

    mode: Mode
    policies: Mapping[str, PolicyText]
    teams: Mapping[str, str]
    described: DescribedJobs

    def allows(
        self, namespace: str, job_id: str, *, region: str = OWN_REGION, wanted: str = VIEW, now: float = 0
    ) -> bool:
        """Whether the job may be shown, or terminated on what was described at most 30 s ago."""
        if namespace not in self.teams and self.policies:
            return False
        return expected(self.case(namespace, job_id, region=region, wanted=wanted, now=now)) == wanted

    def case(self, namespace: str, job_id: str, *, region: str, wanted: str, now: float) -> Case:
        team = self.teams.get(namespace)
        ours = [one for one in self.policies.values() if one.team in (None, team)]
        if len(ours) != 1 or ours[0].later:
            later = sum(one.later for one in ours)
            selecting = ("none", "an unreadable one" if later else "one", "two")[min(len(ours), 2)]
            return Case(self.mode, selecting, "", "", "", "", wanted)
        [policy] = ours
        job = self.described.get((policy.role, job_id))
        return Case(
            self.mode,
            "one",
            "allowed" if region in (policy.regions or (OWN_REGION,)) else "foreign",
            self._queue(policy, job),
            self._tags(policy, namespace, job_id, now),
            "Observe, Terminate" if policy.terminate else "Observe",
            wanted,
        )

    def _queue(self, policy: PolicyText, job: Described | None) -> str:
        if job is None:
            return "unknown"
        return "allowed" if policy.queue is None or fnmatchcase(job.queue, policy.queue) else "foreign"

    def _tags(self, policy: PolicyText, namespace: str, job_id: str, now: float) -> str:
        if policy.tag is None:
            return "allowed"
        job = self.described.get((policy.role, job_id))
        parent = self.described.get((policy.role, job_id.split(":", maxsplit=1)[0]))
        if job is None:
            return "unknown"
        if parent is None:
            return "the parent's, not described"
        if parent.tags.get("owner") != policy.tag.replace("${namespace}", namespace):
            return "foreign"
        return "allowed" if now - min(job.at, parent.at) <= TAGS_EXPIRE else "old"
