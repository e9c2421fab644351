"""The book of rules: which policies there are, which labels namespaces have, and what is granted by them right now."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from awsbatch_operator.domain.access import Choice, Grant, Mode, NoPolicy, Refusal, choose, grant
from awsbatch_operator.domain.admission import MayEnd
from awsbatch_operator.domain.job import Millis
from awsbatch_operator.domain.labels import Labels
from awsbatch_operator.domain.policy import Policy, Unreadable

BLIND_AFTER: Final = 10.0
"""Seconds without news of policies or namespaces after which nothing is ended by what was known before."""

_MOST_GRANTS: Final = 10_000
"""Pairs of namespace and region that are kept: the region is whatever somebody wrote into a spec."""


@dataclass(frozen=True, slots=True)
class _Page:
    """What is known at one moment. What follows from it is worked out when it is asked for, and kept."""

    policies: Mapping[str, Policy | Unreadable] | None = None
    labels: Mapping[str, Labels] | None = None
    choices: dict[str, Choice] = field(default_factory=dict)
    grants: dict[tuple[str, str], Grant | Refusal] = field(default_factory=dict)
    reach: dict[str, dict[str, Choice]] = field(default_factory=dict)


class Book:
    """Told by the watch (`domain.ports.Rulebook`), asked by the engine, and by the threads that call AWS.

    `region` is the operator's own, `clock` that of the loop, in seconds. A page is replaced as a whole: a thread that
    holds one sees policies and labels of one moment, and what it works out is not kept for another.
    """

    def __init__(self, mode: Mode, region: str, clock: Callable[[], float]) -> None:
        self.mode, self.region, self._clock = mode, region, clock
        self._page = _Page()
        self._blind_since: float | None = None
        self.complete = asyncio.Event()
        """Set once policies and namespaces have been listed."""
        self._changed: Callable[[Iterable[str] | None], None] = lambda _: None

    def on_change(self, changed: Callable[[Iterable[str] | None], None]) -> None:
        """Whom to tell of namespaces for which something may have changed; None: all of them."""
        self._changed = changed

    # -- what the watch tells -----------------------------------------------------------------------------------------

    def policies_are(self, policies: Mapping[str, Policy | Unreadable]) -> None:
        if policies != self._page.policies:
            self._turn(_Page(dict(policies), self._page.labels))

    def policy_is(self, name: str, policy: Policy | Unreadable | None) -> None:
        others = {one: known for one, known in (self._page.policies or {}).items() if one != name}
        self._turn(_Page(others if policy is None else {**others, name: policy}, self._page.labels))

    def namespaces_are(self, labels: Mapping[str, Labels]) -> None:
        known = self._page.labels
        if known is None:
            self._turn(_Page(self._page.policies, dict(labels)))
        elif labels != known:
            changed = [name for name in {*known, *labels} if known.get(name) != labels.get(name)]
            self._turn(_Page(self._page.policies, dict(labels)), changed)

    def namespace_is(self, name: str, labels: Labels | None) -> None:
        others = {one: known for one, known in (self._page.labels or {}).items() if one != name}
        self._turn(_Page(self._page.policies, others if labels is None else {**others, name: labels}), (name,))

    def blind(self, since: float | None) -> None:
        was_blind, self._blind_since = self.sees_nothing, since
        if was_blind and not self.sees_nothing:
            self._changed(None)

    def _turn(self, page: _Page, namespaces: Iterable[str] | None = None) -> None:
        self._page = page
        if page.policies is not None and page.labels is not None:
            self.complete.set()
        self._changed(namespaces)

    # -- what is asked ------------------------------------------------------------------------------------------------

    @property
    def sees_nothing(self) -> bool:
        """Whether what is known may be out of date, and that would make a difference."""
        since = self._blind_since
        at_stake = self.mode is Mode.REQUIRED or bool(self._page.policies)
        return at_stake and since is not None and self._clock() - since > BLIND_AFTER

    def in_force(self, namespace: str, region: str | None) -> Grant | Refusal | None:
        """What a BatchJob of the namespace that names the region is granted; None: nobody knows yet."""
        return self._granted(self._page, namespace, region or self.region)

    def holds(self, leave: MayEnd, now: Millis) -> bool:
        """Whether the job may still be ended: to be asked with the last byte, by any thread."""
        granted = leave.grant
        return leave.holds(self.in_force(granted.namespace, granted.place.region), now) and not self.sees_nothing

    def policies(self) -> Mapping[str, Policy | Unreadable]:
        return self._page.policies or {}

    def reach(self) -> Mapping[str, Mapping[str, Choice]]:
        """By policy the namespaces that it selects, each with what was chosen there."""
        page = self._page
        if page.reach or not page.policies:
            return page.reach
        for namespace, labels in (page.labels or {}).items():
            for name, policy in page.policies.items():
                if policy.selector is not None and policy.selector.selects(labels):
                    page.reach.setdefault(name, {})[namespace] = self._chosen(page, namespace, labels)
        return page.reach

    def _granted(self, page: _Page, namespace: str, region: str) -> Grant | Refusal | None:
        if page.policies is None or page.labels is None:
            return None
        known = page.grants.get((namespace, region))
        if known is not None:
            return known
        labels = page.labels.get(namespace)
        if labels is None and page.policies:
            # The watch of namespaces has not told of it yet, or tells that it is gone.
            return None
        choice = NoPolicy() if labels is None else self._chosen(page, namespace, labels)
        granted = grant(choice, self.mode, namespace, region, self.region)
        if labels is not None or self.mode is Mode.OPTIONAL:
            if len(page.grants) >= _MOST_GRANTS:
                page.grants.clear()
            page.grants[namespace, region] = granted
        return granted

    def _chosen(self, page: _Page, namespace: str, labels: Labels) -> Choice:
        known = page.choices.get(namespace)
        if known is None:
            known = page.choices[namespace] = choose((page.policies or {}).values(), labels)
        return known
