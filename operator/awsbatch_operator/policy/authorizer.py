"""Decides whether a scope lets an object show a job, and whether it lets the object terminate the job now.

Only these functions make an Allow, and only from answers of AWS: an unknown job is denied.
A Deny reveals nothing about the job: it is the same for every job that is not admitted, and for a job that is missing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from awsbatch_operator.api.access_policy import NAMESPACE, Rules, Verb
from awsbatch_operator.api.job import NotFound
from awsbatch_operator.api.timestamps import SECOND, Millis
from awsbatch_operator.policy.resolution import Deny, Result, Scope

MAX_TAG_AGE: Final = 30 * SECOND
"""Tags that were requested longer ago don't authorize a termination."""

_QUEUE_ARN: Final = re.compile(r"arn:[a-z-]+:batch:[a-z0-9-]+:[0-9]{12}:job-queue/([A-Za-z0-9_-]{1,128})")
_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_CHILD: Final = re.compile(r"([^:#]+)[:#][0-9]+")
_SEAL: Final = object()
_LIST_NOT_ALLOWED: Final = "ListNotAllowed"


@dataclass(frozen=True, slots=True)
class JobAttributes:
    """Attributes of a job from the DescribeJobs that was requested at `observed_at`.

    `tags` None: they could not be read; {}: the job has none.
    """

    job_id: str
    queue: str | None
    tags: Mapping[str, str] | None = field(repr=False)
    observed_at: Millis


@dataclass(frozen=True, slots=True)
class Allow(Result):
    """The scope admits the job for `verb`. `valid_until`: the tags are too old afterwards; None: no time limit."""

    scope: Scope
    job_id: str
    verb: Verb
    valid_until: Millis | None
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("only authorize_view() and authorize_terminate() make an Allow")


@dataclass(frozen=True, slots=True)
class NeedsDescribe(Result):
    """These jobs must be described first: their attributes are missing or too old. Not an Allow."""

    job_ids: tuple[str, ...]


def authorize_view(
    scope: Scope, attributes: JobAttributes, parent: JobAttributes | NotFound | None
) -> Allow | Deny | NeedsDescribe:
    """Return whether the scope admits the job, so that the object may show it.

    Args:
        scope: What the namespace resolves to.
        attributes: The job.
        parent: The array or multi-node job that it is part of, described at the same target.
            None: not described yet. NOT_FOUND: Batch does not know it.
    """
    admitted = _admit(scope, attributes, parent)
    return Allow(scope, attributes.job_id, Verb.OBSERVE, None, _SEAL) if isinstance(admitted, int) else admitted


def authorize_terminate(
    scope: Scope, attributes: JobAttributes, parent: JobAttributes | NotFound | None, now: Millis
) -> Allow | Deny | NeedsDescribe:
    """Return whether the object may terminate the job now. `attributes`, `parent`: as for `authorize_view`."""
    observed_at = _admit(scope, attributes, parent)
    if not isinstance(observed_at, int):
        return observed_at
    if Verb.TERMINATE not in scope.verbs:
        return _termination_not_allowed(scope)
    if scope.rules is None or not scope.rules.tags:
        # A job stays in its queue for life, so nothing can have changed.
        return Allow(scope, attributes.job_id, Verb.TERMINATE, None, _SEAL)
    # An observation in the future means that the clock was set back: its age is unknown.
    if not observed_at <= now <= observed_at + MAX_TAG_AGE:
        return NeedsDescribe(tuple(filter(None, (attributes.job_id, parent_of(attributes.job_id)))))
    return Allow(scope, attributes.job_id, Verb.TERMINATE, observed_at + MAX_TAG_AGE, _SEAL)


def terminate_denied(scope: Scope) -> Deny | None:
    """Return why jobs that the scope admits may not be terminated, whatever is known of them; None: they may."""
    return None if Verb.TERMINATE in scope.verbs else _termination_not_allowed(scope)


def bulk_scope(resolved: Scope | Deny, queues: Iterable[str]) -> Scope | Deny:
    """Return the scope of a BatchTermination, or why it may not list and terminate the jobs of these queues.

    It needs a policy where none is required, too: without one, a selector would reach every job of the account.
    """
    if isinstance(resolved, Deny):
        # Of the region: there is no job that it could be about.
        return Deny(_LIST_NOT_ALLOWED, resolved.message) if resolved.reason == "JobNotAllowed" else resolved
    if resolved.policy is None:
        return Deny(
            "NoAccessPolicy",
            "No BatchAccessPolicy selects this namespace, and a BatchTermination needs one that allows List "
            "and Terminate. Ask the platform team for a policy",
        )
    if Verb.LIST not in resolved.verbs:
        return Deny(
            _LIST_NOT_ALLOWED,
            f"The BatchAccessPolicy {resolved.policy} does not allow this namespace to list jobs, which a "
            "BatchTermination needs. Ask the platform team to add List to its spec.allow",
        )
    if not any(may_admit_jobs_of(resolved, queue) for queue in queues):
        return Deny(
            _LIST_NOT_ALLOWED,
            f"The BatchAccessPolicy {resolved.policy} admits no job of these queues. Create another "
            "BatchTermination with other queues, or ask the platform team to admit them",
        )
    denied = terminate_denied(resolved)
    return resolved if denied is None else denied


def allow_is_valid(allow: Allow, resolved_now: Scope | Deny | None, now: Millis) -> bool:
    """Return whether the Allow of a termination is still valid. Call it before the last byte, from any thread.

    Args:
        allow: An Allow to view a job is never valid here.
        resolved_now: What the namespace and region of the Allow resolve to at this moment (None: not known).
        now: Epoch milliseconds.
    """
    if allow.verb is not Verb.TERMINATE or resolved_now != allow.scope:
        return False
    return allow.valid_until is None or allow.valid_until - MAX_TAG_AGE <= now <= allow.valid_until


def may_admit_jobs_of(scope: Scope, queue: str) -> bool:
    """Return whether the scope may admit a job of the queue of this name; its ARN is not known yet."""
    patterns = scope.rules.queues if scope.rules is not None else ()
    # The name is the last part of an ARN.
    return not patterns or any(fnmatchcase(queue, pattern.rpartition("/")[2]) for pattern in patterns)


def parent_of(job_id: str) -> str | None:
    """Return the id of the array or multi-node job that a child or node belongs to; None: the id is of neither."""
    child = _CHILD.fullmatch(job_id)
    return child[1] if child else None


def deciding_parent(scope: Scope, job_id: str) -> str | None:
    """Return the parent job that provides the deciding tags: DescribeJobs shows none of a child or node."""
    return parent_of(job_id) if scope.rules is not None and scope.rules.tags else None


def job_not_allowed(policy: str | None) -> Deny:
    """Return the Deny of every job that the policy does not admit, and of every job that does not exist."""
    return Deny(
        "JobNotAllowed",
        f"The BatchAccessPolicy {policy} admits no job with this id: the job does not exist in this region, "
        "or does not match the policy. Check spec.jobId (the id that SubmitJob returned, not a job name or "
        "the id of a service job) and spec.region, or ask the platform team",
    )


def _termination_not_allowed(scope: Scope) -> Deny:
    return Deny(
        "TerminationNotAllowed",
        f"The BatchAccessPolicy {scope.policy} allows this namespace to observe jobs but not to terminate "
        "them. Ask the platform team to add Terminate to its spec.allow",
        hidden=False,
    )


def _admit(
    scope: Scope, attributes: JobAttributes, parent: JobAttributes | NotFound | None
) -> Millis | Deny | NeedsDescribe:
    """Return when the oldest of the facts that admit the job was observed."""
    if scope.rules is None:
        return attributes.observed_at
    if scope.rules.queues and not _queue_matches(scope.rules.queues, attributes.queue):
        return job_not_allowed(scope.policy)
    if not scope.rules.tags:
        return attributes.observed_at
    return _admit_by_tags(scope, scope.rules, attributes, parent)


def _admit_by_tags(
    scope: Scope, rules: Rules, attributes: JobAttributes, parent: JobAttributes | NotFound | None
) -> Millis | Deny | NeedsDescribe:
    denied = job_not_allowed(scope.policy)
    if attributes.tags is None:
        return denied
    wanted = {key: value.replace(NAMESPACE, scope.namespace) for key, value in rules.tags}
    parent_id = parent_of(attributes.job_id)
    if parent_id is None:
        return attributes.observed_at if _has(attributes.tags, wanted) else denied
    if parent is None:
        return NeedsDescribe((parent_id,))
    if isinstance(parent, NotFound) or parent.job_id != parent_id or parent.tags is None:
        return denied
    # A child that carries such a tag itself, with another value, does not match.
    if not _has(parent.tags, wanted) or not _has({**wanted, **attributes.tags}, wanted):
        return denied
    return min(attributes.observed_at, parent.observed_at)


def _has(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(tags.get(key) == value for key, value in wanted.items())


@lru_cache(maxsize=1024)
def _queue_matches(patterns: tuple[str, ...], queue: str | None) -> bool:
    """Return whether a pattern matches the queue. A pattern with a colon is one for ARNs, any other is one for names.

    Every ARN contains the words arn, aws and batch, and a region: a pattern such as *batch* would match them all.
    """
    arn = _QUEUE_ARN.fullmatch(queue or "")
    name = arn[1] if arn else queue if _QUEUE_NAME.fullmatch(queue or "") else None
    return any(
        fnmatchcase(subject, pattern)
        for pattern in patterns
        if (subject := (arn[0] if arn else None) if ":" in pattern else name) is not None
    )
