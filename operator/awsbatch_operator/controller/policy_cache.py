"""Caches the access policies and the labels of namespaces, and resolves what they allow at this moment."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, TypeVar

from awsbatch_operator.api.access_policy import InvalidPolicy, Policy
from awsbatch_operator.api.label_selector import Labels
from awsbatch_operator.api.timestamps import Millis, meta_time
from awsbatch_operator.policy.authorizer import Allow, allow_is_valid
from awsbatch_operator.policy.resolution import Choice, Deny, Mode, Scope, resolve_scope, select_policy

STALE_AFTER: Final = 10.0
"""Seconds without a working watch of policies and namespaces after which no termination is sent."""

T = TypeVar("T")

_MAX_SCOPES: Final = 10_000
"""Pairs of namespace and region that are kept: a spec may name any region."""


@dataclass(frozen=True)
class _Snapshot:
    """Policies and labels of one moment (None: not listed yet), and the scopes resolved from them so far."""

    mode: Mode
    own_region: str
    policies: Mapping[str, Policy | InvalidPolicy] | None = None
    labels: Mapping[str, Labels] | None = None
    choices: dict[str, Choice] = field(default_factory=dict, init=False)
    scopes: dict[tuple[str, str], Scope | Deny] = field(default_factory=dict, init=False)

    def resolve(self, namespace: str, region: str) -> Scope | Deny | None:
        if self.policies is None or self.labels is None:
            return None
        labels = self.labels.get(namespace)
        if labels is None and self.policies:
            # The watch of namespaces has not shown it yet, or has shown that it was deleted.
            return None
        choice = None if labels is None else self.choose(namespace, labels)
        scope = resolve_scope(choice, self.mode, namespace, region, self.own_region)
        if labels is not None or self.mode is Mode.OPTIONAL:
            if len(self.scopes) >= _MAX_SCOPES:
                self.scopes.clear()
            self.scopes[namespace, region] = scope
        return scope

    def choose(self, namespace: str, labels: Labels) -> Choice:
        if namespace not in self.choices:
            self.choices[namespace] = select_policy((self.policies or {}).values(), labels)
        return self.choices[namespace]

    @cached_property
    def selected(self) -> Mapping[str, Mapping[str, Choice]]:
        found: dict[str, dict[str, Choice]] = {}
        for namespace, labels in (self.labels or {}).items():
            for name, policy in (self.policies or {}).items():
                if policy.selector is not None and policy.selector.selects(labels):
                    found.setdefault(name, {})[namespace] = self.choose(namespace, labels)
        return found

    @cached_property
    def suspended(self) -> frozenset[str]:
        policies = (policy for policy in (self.policies or {}).values() if isinstance(policy, Policy))
        return frozenset(policy.name for policy in policies if policy.suspend)

    def suspended_by(self, namespace: str) -> str | None:
        if not self.suspended or self.labels is None or namespace not in self.labels:
            return None
        choice = self.choose(namespace, self.labels[namespace])
        return choice.name if isinstance(choice, Policy) and choice.suspend else None

    @cached_property
    def regions(self) -> frozenset[str]:
        policies = (policy for policy in (self.policies or {}).values() if isinstance(policy, Policy))
        return frozenset(region for policy in policies for region in policy.regions)


class PolicyCache:
    """Filled by the policy informer (a PolicyEventHandler), read by the controller and by the threads that call AWS.

    A snapshot is replaced as a whole: a thread that reads one sees policies and labels of one moment.

    Args:
        mode: What applies where no policy selects a namespace.
        region: The operator's own.
        clock: Loop time in seconds.
        now: Wall clock in epoch milliseconds, for messages.
    """

    def __init__(self, mode: Mode, region: str, clock: Callable[[], float], now: Callable[[], Millis]) -> None:
        self.mode, self.region, self._clock, self._now = mode, region, clock, now
        self._snapshot = _Snapshot(mode, region)
        self.stale_since: float | None = None
        self._stale_message = ""
        self._subscribers: list[Callable[[Iterable[str] | None], None]] = []
        self.complete = asyncio.Event()
        """Set once policies and namespaces have been listed."""

    def subscribe(self, callback: Callable[[Iterable[str] | None], None]) -> None:
        """Call back with the namespaces for which something may have changed; None: all of them."""
        self._subscribers.append(callback)

    # -- events of the policy informer --------------------------------------------------------------------------------

    def on_policies(self, policies: Mapping[str, Policy | InvalidPolicy]) -> None:
        if policies != self._snapshot.policies:
            self._update(replace(self._snapshot, policies=dict(policies)), None)

    def on_policy(self, name: str, policy: Policy | InvalidPolicy | None) -> None:
        policies = _with(self._snapshot.policies or {}, name, policy)
        self._update(replace(self._snapshot, policies=policies), None)

    def on_namespaces(self, labels: Mapping[str, Labels]) -> None:
        known = self._snapshot.labels
        if labels != known:
            changed = [name for name in {*(known or {}), *labels} if (known or {}).get(name) != labels.get(name)]
            self._update(replace(self._snapshot, labels=dict(labels)), None if known is None else changed)

    def on_namespace(self, name: str, labels: Labels | None) -> None:
        self._update(replace(self._snapshot, labels=_with(self._snapshot.labels or {}, name, labels)), (name,))

    def on_stale_since(self, since: float | None, watch: str) -> None:
        was_stale, self.stale_since = self.stale, since
        if since is not None:
            failed_at = meta_time(self._now() - round(1000 * (self._clock() - since)))
            self._stale_message = (
                f"The watch of {watch} has failed since {failed_at}, so the operator does not know whether a policy "
                "still allows the termination. The operator sends the termination when the watch works again"
            )
        if was_stale and not self.stale:
            self._notify(None)

    def _update(self, snapshot: _Snapshot, namespaces: Iterable[str] | None) -> None:
        self._snapshot = snapshot
        if snapshot.policies is not None and snapshot.labels is not None:
            self.complete.set()
        self._notify(namespaces)

    def _notify(self, namespaces: Iterable[str] | None) -> None:
        for callback in self._subscribers:
            callback(namespaces)

    # -- queries ------------------------------------------------------------------------------------------------------

    @property
    def stale(self) -> bool:
        """Whether the cache may be out of date in a way that matters. No termination may be sent meanwhile."""
        since = self.stale_since
        matters = self.mode is Mode.REQUIRED or bool(self._snapshot.policies)
        return matters and since is not None and self._clock() - since > STALE_AFTER

    def stale_reason(self) -> str | None:
        """Return the message of TerminationHeld while the cache is stale: which watch failed, and since when."""
        return self._stale_message if self.stale else None

    def resolve(self, namespace: str, region: str | None) -> Scope | Deny | None:
        """Return the scope of a BatchJob of the namespace that names the region; None: it is not known yet."""
        snapshot, region = self._snapshot, region or self.region
        known = snapshot.scopes.get((namespace, region))
        return snapshot.resolve(namespace, region) if known is None else known

    def is_valid(self, allow: Allow, now: Millis) -> bool:
        """Return whether the policy still allows the termination. Call it before the last byte, from any thread."""
        return allow_is_valid(allow, self.resolve(allow.scope.namespace, allow.scope.target.region), now)

    def suspended_by(self, namespace: str) -> str | None:
        """Return the policy of the namespace if it suspends terminations. Any thread may ask."""
        return self._snapshot.suspended_by(namespace)

    def suspended(self) -> frozenset[str]:
        """Return the policies that suspend terminations."""
        return self._snapshot.suspended

    def regions(self) -> frozenset[str]:
        """Return all regions that policies name."""
        return self._snapshot.regions

    def policies(self) -> Mapping[str, Policy | InvalidPolicy]:
        return self._snapshot.policies or {}

    def selected_namespaces(self) -> Mapping[str, Mapping[str, Choice]]:
        """Return by policy the namespaces that it selects, each with the policy that applies there or a Deny."""
        return self._snapshot.selected


def _with(known: Mapping[str, T], name: str, value: T | None) -> dict[str, T]:
    others = {one: other for one, other in known.items() if one != name}
    return others if value is None else {**others, name: value}
