"""Holds terminations: the only place that knows why one is not sent now although its object states it."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from awsbatch_operator.api import conditions
from awsbatch_operator.api.batchjob import Cause, HoldCause
from awsbatch_operator.api.names import CRD_NAME, SUSPEND_ANNOTATION
from awsbatch_operator.controller.cache import Cache, TrackedObject
from awsbatch_operator.controller.crd_check import CrdCheck
from awsbatch_operator.controller.policy_cache import PolicyCache
from awsbatch_operator.controller.unattended_limit import WINDOW, UnattendedLimit
from awsbatch_operator.reconcile.outcome import Crd

LONGEST_TEXT: Final = 300
"""Characters of the annotation that a message quotes: an annotation may have 256 KiB."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Hold:
    """`message` is one sentence for the object's status: what holds the termination, and who removes that."""

    cause: HoldCause
    message: str


class Holds:
    """Asked by the reconciler, and by each permit with the last byte of its request, from any thread.

    `on_change` decides all stated terminations again. It is called when the annotation of the Lease changes; the
    policies have subscribers of their own, and the controller asks `stale` regularly.
    """

    def __init__(
        self,
        cache: Cache,
        policies: PolicyCache,
        on_change: Callable[[], None],
        *,
        crd: CrdCheck,
        limit: UnattendedLimit,
    ) -> None:
        self._cache, self._policies, self._on_change = cache, policies, on_change
        self.crd, self.limit = crd, limit
        self._clock = asyncio.get_running_loop().time
        self._lease = ""
        self._annotation: str | None = None
        self._suspension: Hold | None = None
        self._lease_known_until = math.inf
        self._suspended_policies: frozenset[str] = frozenset()
        policies.subscribe(self._on_policies)

    def of(self, tracked: TrackedObject, cause: Cause | None) -> Hold | None:
        """Return why the termination of the object is held now; None: it may be sent. `cause`: None: not known yet."""
        if cause is Cause.ON_DELETE and self._is_crd_in_doubt(tracked):
            return Hold(HoldCause.CRD_UNREADABLE, _crd_unread(self.crd.error))
        cache, policies = self._cache, self._policies
        stale = cache.in_doubt_since is not None or cache.unconfirmed or policies.stale_since is not None
        suspended = self._suspension is not None or self._suspended_policies
        if not (stale or suspended) and self._lease_known_until >= self._clock():
            # The rule; it is asked for each permit.
            return None
        hold = self.of_namespace(tracked.ref.namespace)
        if hold is None and (doubt := cache.doubt_reason(tracked.ref.uid)) is not None:
            return Hold(HoldCause.STALE_OBJECTS, doubt)
        return hold

    def of_namespace(self, namespace: str) -> Hold | None:
        """Return why all terminations of the namespace are held now. For any thread."""
        if self._suspension is not None:
            return self._suspension
        policy = self._policies.suspended_by(namespace)
        if policy is not None:
            return Hold(HoldCause.SUSPENDED_POLICY, _suspended_by_policy(policy))
        if self._lease_is_stale():
            return Hold(HoldCause.STALE_LEASE, _unread(self._lease))
        if (reason := self._policies.stale_reason()) is not None:
            return Hold(HoldCause.STALE_POLICIES, reason)
        return None

    def of_unattended(self, tracked: TrackedObject, cause: Cause) -> Hold | None:
        """Return why this termination by a deadline or a deletion is held. It takes a place within the limit."""
        if cause is Cause.ON_DELETE and self._is_crd_in_doubt(tracked):
            return Hold(HoldCause.CRD_UNREADABLE, _crd_unread(self.crd.error))
        if tracked.key is None:
            return None
        if self.limit.admits(tracked.ref.uid, tracked.key.target, tracked.ref.namespace):
            return None
        return Hold(HoldCause.UNATTENDED_LIMIT, _over_limit(self.limit))

    def _is_crd_in_doubt(self, tracked: TrackedObject) -> bool:
        """Return whether the object may be deleted only because its CRD is. For any thread."""
        deletion = tracked.deletion
        return deletion is None or self.crd.state(deletion) is not Crd.SERVED

    def stale(self) -> frozenset[HoldCause]:
        """Return what the operator does not know well enough now. It changes with time alone."""
        causes = {
            HoldCause.STALE_LEASE: self._lease_is_stale(),
            HoldCause.STALE_POLICIES: self._policies.stale,
            HoldCause.STALE_OBJECTS: self._cache.in_doubt_since is not None,
        }
        return frozenset(cause for cause, holds in causes.items() if holds)

    # -- what suspends ------------------------------------------------------------------------------------------------

    def on_lease(self, lease: str, annotations: Mapping[str, str], *, known_for: float = math.inf) -> None:
        """Handle an answer about the Lease.

        Args:
            lease: Its namespace and name, for messages.
            annotations: All that it has. The value of the one that suspends may be empty: its presence counts.
            known_for: Seconds for which the answer counts. inf: something else stops an operator that can't read it.
        """
        was_stale, annotation = self._lease_is_stale(), annotations.get(SUSPEND_ANNOTATION)
        self._lease, self._lease_known_until = lease, self._clock() + known_for
        if annotation != self._annotation:
            self._annotation = annotation
            if annotation is None:
                self._suspension = None
                log.info("terminations resumed: no annotation of the Lease suspends them any more", lease=lease)
            else:
                # One assignment: a permit that is asked meanwhile must not find a moment without it.
                self._suspension = Hold(HoldCause.SUSPENDED_OPERATOR, _suspended_by_lease(lease, annotation))
                log.warning("terminations suspended by an annotation", lease=lease, text=annotation[:LONGEST_TEXT])
        elif not was_stale:
            return
        self._on_change()

    def _on_policies(self, _namespaces: Iterable[str] | None) -> None:
        now, before = self._policies.suspended(), self._suspended_policies
        self._suspended_policies = now
        for policy in sorted(now - before):
            log.warning("terminations suspended by a policy", policy=policy)
        for policy in sorted(before - now):
            log.info("terminations resumed: the policy does not suspend them any more", policy=policy)

    def _lease_is_stale(self) -> bool:
        return self._clock() > self._lease_known_until

    # -- metrics ------------------------------------------------------------------------------------------------------

    def count_by_cause(self) -> Mapping[HoldCause, int]:
        """Count the objects that show TerminationHeld."""
        counts = dict.fromkeys(HoldCause, 0)
        for tracked in self._cache.terminating.values():
            if _shows_held(tracked) and (hold := self.of(tracked, None)) is not None:
                counts[hold.cause] += 1
        counts[HoldCause.UNATTENDED_LIMIT] = self.limit.waiting()
        counts[HoldCause.CRD_UNREADABLE] = self.crd.waiting() if self.crd.error is not None else 0
        return counts

    def suspended_by(self) -> frozenset[str]:
        """Return the policies that suspend terminations, and "" if the Lease does."""
        return self._policies.suspended() | frozenset([""] if self._suspension is not None else [])


def _shows_held(tracked: TrackedObject) -> bool:
    reconciling = tracked.record.status.condition(conditions.RECONCILING)
    return reconciling is not None and reconciling.reason == conditions.Reason.TERMINATION_HELD


def _suspended_by_lease(lease: str, text: str) -> str:
    namespace, _, name = lease.partition("/")
    quoted = f' ("{text[:LONGEST_TEXT]}")' if text else ""
    return (
        f"the annotation {SUSPEND_ANNOTATION} of the Lease {lease} suspends all terminations{quoted}. The "
        "operator sends the termination when the platform team removes the annotation: kubectl annotate "
        f"lease {name} -n {namespace} {SUSPEND_ANNOTATION}-"
    )


def _suspended_by_policy(policy: str) -> str:
    return (
        f"spec.suspend of the BatchAccessPolicy {policy} suspends the terminations of this namespace. The operator "
        f"sends the termination when the platform team removes the field: kubectl patch bap {policy} --type=merge -p "
        """'{"spec":{"suspend":null}}'"""
    )


def _crd_unread(error: str | None) -> str:
    return (
        f"the operator cannot read whether the CRD {CRD_NAME} is being deleted, which deletes this object "
        f"too ({error or 'no response yet'}). The operator sends the termination when it can get that "
        "customresourcedefinition"
    )


def _over_limit(limit: UnattendedLimit) -> str:
    return (
        f"deadlines and deletions may terminate at most {limit.limit} jobs of an account and region in "
        f"{WINDOW / 60:g} minutes, and {limit.namespace_limit} of a namespace (--unattended-limit). The "
        "operator sends the termination when the limit permits"
    )


def _unread(lease: str) -> str:
    return (
        f"the operator cannot read the Lease {lease}, so it does not know whether terminations are "
        "suspended. The operator sends the termination when it can read the Lease again"
    )
